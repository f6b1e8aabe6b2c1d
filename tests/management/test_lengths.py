"""Every text at its greatest length: what is taken once is shown, found, sent back and compared everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import identity_provider as provider
import pytest
from command_line import run_here
from conftest import START, Clock, reason_of
from test_http import Api, problem

from faregate import Gate, InvalidInput, Issuer, Org, Owner, Policy

# What takes one byte, several, most of them, and most characters wherever it is quoted.
LETTERS = ["a", "ö", "\U0001f600", "%", '"', "/"]
ID, NAME = 512, 200


@pytest.fixture(params=["flask", "starlette"])
def api(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Api]:
    """The API in each framework."""
    made = Api("sqlite://", clock, request.param)
    yield made
    made.gate.close()


def jwt_of(**claims: Any) -> str:
    """A sound token, in UTF-8 without escapes, so that it is as short as it can be."""
    payload = json.dumps(provider.claims_of(START, **claims), ensure_ascii=False).encode()
    return provider.compact(
        json.dumps(provider.header_of("secret")).encode(), payload, key="secret"
    )


def owner_of(letter: str, length: int = ID) -> dict[str, str]:
    """An owner whose members are as long as they may be."""
    texts = dict.fromkeys(("id", "acct", "domain", "idpId"), letter * length)
    return {**texts, "name": letter * NAME}


def cycle(api: Api, made: dict[str, Any]) -> None:
    """Read a token by every way, and send it back by every way: nothing changes, and it is found."""
    path = f"/tokens/{made['id']}"
    shown = api.call("GET", path).get_json()
    assert shown == {name: value for name, value in made.items() if name != "token"}
    for method in ("PUT", "PATCH"):
        answer = api.call(method, path, shown)
        assert (answer.status_code, answer.get_json()) == (200, shown), answer.text
    found = {"owner": shown["owner"]["id"], "name": shown["name"]}
    for sort in ("name", "owner.name", "org.name"):
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in found.items())
        assert shown in api.call("GET", f"/tokens?{query}&sort={sort}").get_json()["items"]
    assert api.gate.tokens.list(owner=found["owner"], name=found["name"]).total == 1
    assert (
        api.call("POST", "/introspect", data={"token": made["token"]}).get_json()["owner"]
        == shown["owner"]
    )
    assert api.gate.explain(made["token"]).steps[2].passed


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("length", [400, ID])
def test_a_token_of_long_texts(api: Api, letter: str, length: int) -> None:
    """The owner, the organization, what is granted, and what people write about it."""
    key = letter * length
    realm = {
        "permissions": [{"permissionId": key, "resources": [key]}],
        "roles": [{"name": key, "resource": key}],
    }
    made = api.create(
        name=letter * NAME, description=letter * 2000, owner=owner_of(letter, length), org={"id": key, "name": letter * NAME},
        allowedScopes={"generalScopes": ["s" * length], "organizationScopes": realm, "servicesScopes": [{"serviceDefinitionId": key, **realm}]},
    )  # fmt: skip
    cycle(api, made)
    principal = api.gate.verify(made["token"])
    assert principal.owner == Owner(key, letter * NAME, key, key, key)

    closed = api.call(
        "POST", f"/tokens/{made['id']}/deactivate", {"reason": letter * 500}
    ).get_json()
    assert closed["deactivatedReason"] == letter * 500
    assert api.call("PUT", f"/tokens/{made['id']}", closed).get_json() == closed
    opened = api.gate.tokens.activate(made["id"], by=key)
    assert opened.deactivated_updated_by == key
    shown = api.call("GET", f"/tokens/{made['id']}").get_json()
    assert api.call("PATCH", f"/tokens/{made['id']}", shown).get_json() == shown
    assert [entry.actor for entry in api.gate.audit(subject=made["id"]).items][-1] == key

    api.gate.owner_changed(Owner(key))
    assert api.gate.audit(subject=key).items[0].subject == key
    found = api.call("GET", f"/audit?subject={quote(key, safe='')}").get_json()["items"]
    assert [entry["action"] for entry in found] == ["owner.change"]


@pytest.mark.parametrize("letter", LETTERS)
def test_whoever_has_a_long_name_manages(api: Api, letter: str) -> None:
    """A session, and a token of the same owner: each makes, finds and closes what is theirs."""
    owner = Owner(letter * ID, letter * NAME, letter * ID, letter * ID, letter * ID)
    org = Org(letter * ID, letter * NAME)
    session = api.gate.session(owner, org=org, scopes=["gate:tokens:*", "gate:shares:*", "a"])
    made = api.gate.tokens.create(
        name="t", scopes=["gate:tokens:*", "gate:shares:*", "a"], by=session
    )
    assert (made.token.owner, made.token.org) == (owner, org)
    token = api.gate.verify(made.secret)
    assert api.gate.tokens.list(owner=str(owner.id), by=token).total == 1
    shown = api.call("GET", "/tokens/self", secret=made.secret).get_json()
    assert api.call("PUT", "/tokens/self", shown, secret=made.secret).get_json() == shown

    objects = [letter * (ID // len(letter.encode())), f"{letter * 100}2"]
    share = api.gate.shares.create(
        objects[0], objects[1:], scopes=["a"], expires_in=60, by=session
    ).share
    path = f"/shares/{share.id}"
    shown = api.call("GET", path, secret=made.secret).get_json()
    assert shown["objectIds"] == objects
    assert api.call("PATCH", path, shown, secret=made.secret).get_json() == shown
    for text in objects:
        found = api.call(
            "GET", f"/shares?objectId={quote(text, safe='')}", secret=made.secret
        ).get_json()
        assert [one["id"] for one in found["items"]] == [share.id]


@pytest.mark.parametrize("letter", LETTERS)
def test_the_command_line_takes_long_texts(tmp_path: Path, letter: str) -> None:
    """What one command writes another finds."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    Gate(url).close()
    key = letter * ID
    made = run_here(
        "token",
        "create",
        "--name",
        letter * NAME,
        "--owner",
        key,
        "--org",
        key,
        "--by",
        key,
        "--json",
        store=url,
    )
    assert made.returncode == 0, made.stderr
    listed = run_here("token", "list", "--owner", key, "--name", letter * NAME, "--json", store=url)
    assert (listed.returncode, listed.stdout.count('"createdAt"')) == (0, 1), listed.stderr
    entries = run_here("audit", "--json", store=url)
    assert entries.returncode == 0


@pytest.mark.parametrize("letter", LETTERS)
def test_a_jwt_of_a_long_subject(letter: str, clock: Clock) -> None:
    """Names of the greatest length work throughout: records of the JWT are made, shown, listed, changed and revoked by them."""
    subject, name, organization, token_id = letter * ID, "https://id.example", "acme", "t2"
    if letter.isascii():  # else the token would be longer than any that is read
        name, organization, token_id = f"https://{letter * (ID - 8)}", letter * ID, letter * ID
    settings: dict[str, Any] = {
        "issuer": name,
        "keys": provider.SECRET,
        "algorithms": ["HS256"],
        "manages": True,
        "org_claim": "org",
    }
    issuer = Issuer(**{"audience": provider.AUDIENCE, **settings})
    api = Api("sqlite://", clock, issuers=[issuer], policy=Policy(max_lifetime=3600))
    claims = {
        "iss": name,
        "sub": subject,
        "org": organization,
        "scope": "gate:tokens:write gate:tokens:read a",
    }
    text = jwt_of(**claims)
    principal = api.gate.verify(text)
    assert (principal.id, principal.owner) == (subject, Owner(subject, idp_id=name))

    made = api.gate.tokens.create(name="t", scopes=["a"], by=principal)
    assert made.token.org.id == organization
    path = f"/tokens/{made.token.id}"
    shown = api.call("GET", path).get_json()
    assert shown["owner"] | {"id": subject, "idpId": name} == shown["owner"]
    assert api.call("PUT", path, shown).get_json() == shown
    closed = api.gate.tokens.deactivate(made.token.id, by=principal)
    assert (
        api.gate.tokens.activate(made.token.id, by=str(closed.deactivated_updated_by)).id
        == made.token.id
    )
    assert api.gate.tokens.list(owner=subject, by=principal).total == 1
    api.gate.owner_changed(Owner(subject, idp_id=name))
    session = api.gate.session(
        Owner(subject, idp_id=name), org=Org(organization), scopes=["gate:tokens:read"]
    )
    assert api.gate.tokens.list(owner=subject, by=session).total == 1
    api.gate.jwts.revoke_subject(name, subject, by=subject)
    assert reason_of(lambda: api.gate.verify(text)) == "revoked"
    other = jwt_of(**claims, jti=token_id, iat=int(START) + 1)
    clock.now += 1
    api.gate.verify(other)
    api.gate.jwts.revoke(name, token_id)
    assert reason_of(lambda: api.gate.verify(other)) == "revoked"
    api.gate.close()


def test_one_character_more_is_refused_everywhere(api: Api, clock: Clock) -> None:
    """A name one character too long is refused on writing and on reading, with the same error."""
    long = "a" * (ID + 1)
    made = api.create()
    for member, value in (
        ("owner", {"id": long}), ("owner", {"idpId": long}), ("owner", {"acct": long}), ("owner", {"domain": long}), ("org", {"id": long}),
        ("owner", {"name": "a" * (NAME + 1)}), ("org", {"name": "a" * (NAME + 1)}), ("name", "a" * (NAME + 1)),
    ):  # fmt: skip
        assert member in problem(
            api.call("POST", "/tokens", {"name": "t", member: value}), 400, "invalid_input"
        )
        assert member in problem(
            api.call("PATCH", f"/tokens/{made['id']}", {member: value}), 400, "invalid_input"
        )
    for path in (f"/tokens?owner={long}", f"/audit?subject={long}", f"/shares?objectId={long}"):
        problem(api.call("GET", path), 400, "invalid_input")
    for call in (
        lambda: api.gate.session(Owner(long)),
        lambda: api.gate.owner_changed(Owner(long)),
        lambda: api.gate.jwts.revoke_subject("https://id.example", long),
        lambda: Issuer(long, "api", ["HS256"], keys=provider.SECRET),
    ):
        with pytest.raises(InvalidInput, match="512"):
            call()
    gate = Gate("sqlite://", clock=clock, issuers=[provider.issuer(org_claim="org")])
    assert (
        reason_of(lambda: gate.verify(provider.token(START, sub=long, org="a")))
        == "unknown_credential"
    )
    assert (
        reason_of(lambda: gate.verify(provider.token(START, sub="a", org=long)))
        == "unknown_credential"
    )
    gate.close()


@pytest.mark.slow
def test_the_heaviest_record_can_be_put_back(api: Api) -> None:
    """As JSON of ASCII, which writes other letters longest."""
    services = [{"serviceDefinitionId": f"{n:03}" + "€" * 100} for n in range(120)]
    permissions = [{"permissionId": f"{n:03}" + "€" * 110} for n in range(170)]
    blocks = [
        f"2001:db8:1111:2222:3333:4444:{n:x}:aaaa/128" for n in range(0x1000, 0x1000 + 10_000)
    ]
    allowed = {"servicesScopes": services, "organizationScopes": {"permissions": permissions}}
    made = api.call(
        "POST", "/tokens", {"name": "t", "allowedScopes": allowed, "allowedCidrBlocks": blocks}
    )
    assert made.status_code == 201, made.text
    place = f"/tokens/{made.get_json()['id']}"
    shown = api.call("GET", place).get_json()
    body = json.dumps(shown)
    assert len(body) > 800_000
    headers = {"Content-Type": "application/json"}
    answer = api.call("PUT", place, data=body, headers=headers)
    assert (answer.status_code, answer.get_json()["allowedScopes"]) == (
        200,
        shown["allowedScopes"],
    ), answer.text
