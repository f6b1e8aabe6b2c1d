"""Introspection (RFC 7662) and revocation (RFC 7009) over HTTP, in each framework: the table, and the RFCs' words."""

from __future__ import annotations

import base64
import itertools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from asgi_client import AsWsgi
from conftest import START, Clock, reason_of
from flask import Flask
from identity_provider import AUDIENCE, ISSUER, issuer, token
from starlette.applications import Starlette
from starlette.routing import Mount
from test_http import Api, problem
from werkzeug.test import Client, TestResponse

from faregate import (
    AllowedScopes,
    Denied,
    Gate,
    Introspected,
    InvalidInput,
    NotFound,
    Org,
    Owner,
    UnsupportedTokenType,
)
from faregate.credentials.opaque import mint
from faregate.management import payloads
from faregate_flask import Faregate
from faregate_starlette import management

TABLE = tomllib.loads((Path(__file__).parent.parent / "cases" / "introspection.toml").read_text())
READ = ["gate:tokens:read", "docs:*"]
ACME = Org("acme")


class Cells(msgspec.Struct, forbid_unknown_fields=True):
    """One credential, and what each caller is told of it; ``without`` are callers that are dead by then."""

    name: str
    steps: list[str]
    expect: str
    without: list[str] = []
    ask: dict[str, str] = {}


CREDENTIALS = msgspec.convert(TABLE["credential"], list[Cells])


class World:
    """The callers of the table, and the credential that its steps make."""

    def __init__(self, framework: str) -> None:
        self.clock = Clock()
        self.api = Api("sqlite://", self.clock, framework, [issuer(org_claim="tenant", leeway=5)])
        self.gate = gate = self.api.gate
        self.there = True
        gate._transactions._owner_rights._hook = self.rights
        gate._transactions._owner_rights.limits = True

        def caller(owner: str | None, org: str = "acme", *more: str) -> str:
            scopes = [*READ, "gate:shares:write", "gate:tokens:write", *more]
            return gate.tokens.create(
                name="x", scopes=scopes, owner=Owner(owner), org=Org(org)
            ).secret

        self.callers = {
            "owner": caller("u1"), "colleague": caller("u2"), "maker": caller(None), "admin": caller("boss", "acme", "gate:admin"),
            "foreign": caller("u1", "globex", "gate:admin"), "root": self.api.admin,
        }  # fmt: skip
        self.record = self.secret = self.share_secret = self.first = self.access = ""

    def rights(self, owner: Owner) -> AllowedScopes | None:
        """Everybody may everything, until u1 is gone."""
        return AllowedScopes(general_scopes=("*",)) if self.there or owner.id != "u1" else None

    def step(self, step: str) -> None:  # noqa: C901, PLR0912  one case for each word
        """Make or change the credential."""
        gate, tokens, shares = self.gate, self.gate.tokens, self.gate.shares
        match step.split():
            case ["token", *how]:
                given: dict[str, Any] = (
                    {"allowed_cidr_blocks": how} if how and how[0] != "later" else {}
                )
                given |= {"not_before": START + 10} if how == ["later"] else {}
                made = tokens.create(
                    name="asked",
                    scopes=["docs:read"],
                    owner=Owner("u1", name="Ann"),
                    org=ACME,
                    expires_in=100,
                    **given,
                )
                self.record, self.secret = made.token.id, made.secret
            case ["refresh"]:
                made = tokens.create(
                    name="asked", type="REFRESH", scopes=["docs:read"], owner=Owner("u1"), org=ACME
                )
                self.record, self.secret, self.first = made.token.id, made.secret, made.secret
            case ["exchange"]:
                answer = tokens.exchange(self.secret)
                self.secret, self.access = str(answer.refresh_token), answer.access_token
            case ["the", "first"]:
                self.secret = self.first
            case ["access"]:
                self.secret = self.access
            case ["end"]:
                gate.revoke(self.secret)
            case ["orphan"]:
                made = tokens.create(
                    name="asked",
                    scopes=["docs:read"],
                    expires_in=100,
                    by=gate.verify(self.callers["maker"]),
                )
                self.record, self.secret = made.token.id, made.secret
            case ["deactivate" | "activate" | "delete" as call]:
                getattr(tokens, call)(self.record)
            case ["rotate", grace, *old]:
                secret = tokens.rotate(self.record, grace=float(grace)).secret
                self.secret = self.secret if old else secret
            case ["share", *how]:
                params = {"maxRedemptions": int(how[0])} if how and how[0] != "long" else {}
                by, span = gate.verify(self.callers["owner"]), 9000 if how == ["long"] else 60
                share = shares.create(
                    "x", scopes=["docs:read"], expires_in=span, params=params, by=by
                )
                self.record, self.secret = share.share.id, share.secret
            case ["redeem"]:
                self.secret = shares.redeem(self.record, secret=self.secret).token
            case ["revoke"]:
                shares.revoke(self.record)
            case ["gone"]:
                self.there = False
                gate.owner_changed(Owner("u1"))
            case ["at", seconds]:
                self.clock.now = START + float(seconds)
            case ["jwt"]:
                self.secret = token(START, sub="u1", tenant="acme", exp=int(START) + 100)
            case ["revoke", "jwt"]:
                gate.jwts.revoke(ISSUER, "t1")
            case ["revoke", "subject"]:
                gate.jwts.revoke_subject(ISSUER, "u1", before=START)
            case ["text", kind]:
                self.secret = self.text(kind)

    def text(self, kind: str) -> str:
        """A credential that is none."""
        other = Gate("sqlite://", clock=self.clock)
        share = other.shares.create("x", scopes=["a"], expires_in=60)
        return {
            "unknown": mint("fg", "tok"), "brand": mint("other", "tok"), "rft": mint("fg", "rft"), "junk": "junk", "long": "a" * 8193,
            "checksum": self.secret[:-1] + ("1" if self.secret.endswith("0") else "0"), "jwt": jwt.encode({"sub": "x"}, "s" * 32),
            "spoilt": token(sub="u1", tenant="acme")[:-4] + "AAAA", "elsewhere": token(sub="u1", tenant="acme", aud="https://x.example"),
            "redeemed": other.shares.redeem(share.share.id, secret=share.secret).token,
        }[kind]  # fmt: skip


def told(answer: TestResponse) -> str:
    """What introspection has told, in the words of the table."""
    assert answer.status_code == 200, answer.text
    members = answer.get_json()
    if len(members) == 1:
        return "bare" if members["active"] else "none"  # the former is never told
    return "live" if members["active"] else f"dead={members['reason']}"


def form(api: Api, path: str, secret: str | None = None, **fields: Any) -> TestResponse:
    """The answer to a form."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return api.client.post(f"/auth{path}", data=fields, headers=headers)


@pytest.mark.parametrize("framework", ["flask", "starlette"])
@pytest.mark.parametrize("cells", CREDENTIALS, ids=lambda cells: cells.name)
def test_each_caller_is_told_as_the_table_says(cells: Cells, framework: str) -> None:
    """And nothing is noted of it: no use, no sight of a new secret."""
    world = World(framework)
    for step in cells.steps:
        world.step(step)
    expected = dict(zip(TABLE["callers"], cells.expect.split(), strict=True))
    found = expected | {
        caller: told(
            form(world.api, "/introspect", world.callers[caller], token=world.secret, **cells.ask)
        )
        for caller in expected
        if caller not in cells.without
    }
    assert found == expected
    with world.gate._store.reading() as reading:
        assert (
            not world.record
            or (reading.tokens.get(world.record) or {"last_used_at": None})["last_used_at"] is None
        )
        unseen = reading._connection.exec_driver_sql(
            "SELECT count(*) FROM faregate_unseen"
        ).scalar()
    assert unseen == ("rotate 50" in cells.steps or "rotate 50 old" in cells.steps)


@pytest.mark.parametrize("framework", ["flask", "starlette"])
def test_members_of_a_jwt(framework: str, clock: Clock) -> None:
    """What it says itself, in the words of RFC 7662 section 2.2; there is no record beside them."""
    made = Api("sqlite://", clock, framework, [issuer()])
    for audience in (AUDIENCE, [AUDIENCE, "https://x.example"]):
        text = token(aud=audience, nbf=int(START) - 5, scope="docs:read docs:* docs:write")
        members = form(made, "/introspect", made.admin, token=text).get_json()
        assert members == {
            "active": True, "kind": "jwt", "scope": "docs:read docs:write", "token_type": "Bearer", "sub": "alice", "iat": 1_000_000,
            "nbf": 999_995, "exp": 1_000_600, "iss": ISSUER, "aud": audience, "jti": "t1",
        }  # fmt: skip
    made.gate.close()


@pytest.fixture(params=["flask", "starlette"])
def api(request: pytest.FixtureRequest, store: str, clock: Clock) -> Iterator[Api]:
    """The API over a store in memory and over one on a file, in each framework."""
    made = Api(store, clock, request.param)
    yield made
    made.gate.close()


def test_members_of_a_token(api: Api) -> None:
    """RFC 7662 section 2.2: registered members, a scope that is one string, instants in seconds; the record's beside them."""
    made = api.create(
        scopes=["docs:read", "a:*"], owner={"id": "u1", "name": "Ann"}, expiresIn=60.5, notBefore=START - 9.5, allowedCidrBlocks=["192.0.2.0/24"],
        description="x",
    )  # fmt: skip
    asked = {
        "token": made["token"],
        "address": "192.0.2.1",
        "token_type_hint": "refresh_token",
        "other": "ignored",
    }
    answer = form(api, "/introspect", api.admin, **asked)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    members = answer.get_json()
    record = {name: value for name, value in made.items() if name not in ("token", "scope")}
    assert members == {
        **record, "active": True, "kind": "token", "scope": "docs:read a:*", "token_type": "Bearer", "sub": "u1", "username": "Ann",
        "iat": 1_000_000, "nbf": 999_991, "exp": 1_000_060,
    }  # fmt: skip
    assert members["expiresAt"] == "1970-01-12T13:47:40.500000Z"


def test_members_that_there_are_none_of_are_left_out(api: Api) -> None:
    """No expiry, no name: no member; and of nobody's token the subject is itself."""
    made = api.create()
    members = form(api, "/introspect", api.admin, token=made["token"]).get_json()
    assert {"exp", "nbf", "username", "iss", "jti", "reason"}.isdisjoint(members)
    assert (members["sub"], members["scope"], members["expiresAt"]) == (
        f"token:{made['id']}",
        "",
        None,
    )


def test_a_rotated_secret_ends_with_its_grace(api: Api) -> None:
    """Its ``exp`` is its own, not the token's."""
    made = api.create(expiresIn=600)
    new = api.call("POST", f"/tokens/{made['id']}/rotate", {"grace": 30}).get_json()["token"]
    ends = [
        form(api, "/introspect", api.admin, token=one).get_json()["exp"]
        for one in (made["token"], new)
    ]
    assert ends == [1_000_030, 1_000_600]


def test_members_of_a_share(api: Api) -> None:
    """Its holder is nobody; a redeemed token has an issuer, an id and an end of its own."""
    made = api.call(
        "POST", "/shares", {"objectId": "a", "scopes": ["docs:read"], "expiresIn": 6000}
    ).get_json()
    members = form(api, "/introspect", api.admin, token=made["secret"], on="a").get_json()
    record = {name: value for name, value in made.items() if name != "secret"}
    assert members == {
        **record, "active": True, "kind": "share", "scope": "docs:read", "token_type": "Bearer", "sub": f"share:{made['id']}",
        "iat": 1_000_000, "exp": 1_006_000,
    }  # fmt: skip
    redeemed = api.client.post(
        f"/auth/shares/{made['id']}/redeem", json={"secret": made["secret"]}
    ).get_json()["token"]
    members = form(api, "/introspect", api.admin, token=redeemed, on="a").get_json()
    claims = jwt.decode(redeemed, options={"verify_signature": False})
    assert members == {
        **record, "active": True, "kind": "share", "scope": "docs:read", "token_type": "Bearer", "sub": f"share:{made['id']}", "redemptions": 1,
        "iat": 1_000_000, "exp": 1_000_900, "iss": "urn:faregate:fg", "aud": "urn:faregate:fg", "jti": claims["jti"],
    }  # fmt: skip


def test_scope_is_what_the_owner_may_too() -> None:
    """What the owner may not do now is not told as granted."""
    world = World("flask")
    world.step("token")
    world.gate.tokens.update(world.record, scopes=["docs:*", "a", "b:c"])
    world.gate._transactions._owner_rights._hook = lambda _: AllowedScopes(
        general_scopes=("docs:read", "b:*")
    )
    members = form(world.api, "/introspect", world.api.admin, token=world.secret).get_json()
    assert sorted(members["scope"].split()) == ["b:c", "docs:read"]


def test_a_share_of_what_its_makers_owner_may_no_more_is_not_active() -> None:
    """A share is inactive once the owner of its maker lost its scopes, even if no scope is asked for."""
    world = World("flask")
    world.step("share")
    for scopes, told_of in (
        (("docs:*",), "live"),
        (("docs:write",), "dead=insufficient_scope"),
        ((), "dead=insufficient_scope"),
    ):
        world.gate._transactions._owner_rights._hook = lambda _, scopes=scopes: AllowedScopes(
            general_scopes=scopes
        )
        assert (
            told(form(world.api, "/introspect", world.api.admin, token=world.secret, on="x"))
            == told_of
        )


@pytest.mark.parametrize("rights", ["docs:read", "other", None])
def test_it_is_what_a_guard_says(rights: str | None, clock: Clock) -> None:
    """For every kind, network, need and object, asked by the same organization; another is told of nothing active."""
    now: list[str | None] = ["*"]

    def hook(owner: Owner) -> AllowedScopes | None:
        allowed = now[0] if owner.id == "u1" else "*"
        return None if allowed is None else AllowedScopes(general_scopes=(allowed,))

    jwts = issuer(org_claim="tenant", resources=lambda claims: claims.get("objects"))
    gate = Gate("sqlite://", clock=clock, issuers=[jwts], owner_rights=hook, owner_rights_ttl=0)
    callers = [
        gate.verify(gate.tokens.create(name="x", scopes=READ, org=Org(org)).secret, address=None)
        for org in ("acme", "globex")
    ]
    secrets = {
        "jwt": token(START, tenant="acme"),
        "limited": token(START, tenant="acme", objects=["x"]),
    }
    for bound in ([], ["10.0.0.0/8"]):
        limits: dict[str, Any] = {"owner": Owner("u1"), "org": ACME, "allowed_cidr_blocks": bound}
        maker = gate.tokens.create(name="m", scopes=["docs:*", "gate:shares:write"], **limits)
        dead = gate.tokens.create(name="d", scopes=["docs:*"], **limits)
        gate.tokens.deactivate(dead.token.id)
        session = gate.tokens.create(name="s", type="REFRESH", scopes=["docs:read"], **limits)
        by = gate.verify(maker.secret, address="10.0.0.1")
        share = gate.shares.create("x", scopes=["docs:read"], expires_in=60, by=by)
        redeemed = gate.shares.redeem(share.share.id, secret=share.secret, address="10.0.0.1").token
        access = gate.tokens.exchange(session.secret, address="10.0.0.1").access_token
        made = {
            "token": maker.secret,
            "dead": dead.secret,
            "share": share.secret,
            "redeemed": redeemed,
            "access": access,
        }
        secrets |= {f"{name} {bound}": secret for name, secret in made.items()}
    now[0] = rights

    seen = set()
    asked = itertools.product(
        secrets.items(),
        (None, "10.0.0.1", "192.0.2.1"),
        ((), ("docs:read",), ("docs:read", "docs:write")),
        (None, "x", "y"),
    )
    for (name, secret), address, needs, on in asked:

        def guard(
            secret: str = secret,
            address: str | None = address,
            needs: Any = needs,
            on: str | None = on,
        ) -> None:
            principal = gate.verify(secret, address=address)
            limited = principal.kind == "share" or secret == secrets["limited"]
            for need in needs or (["docs:read"] if limited else []):
                principal.require(need, on=on)

        opens = reason_of(guard) == "ok"
        for caller, active in zip(callers[: 1 + opens], (opens, False), strict=False):
            found = gate.introspect(secret, needs=needs, on=on, address=address, by=caller)
            assert found.active is active, (name, address, needs, on)
        seen.add(opens)
    assert seen == {True, False}


def test_scope_is_what_was_asked_for(api: Api) -> None:
    """``scope`` is the requested scope, or else every scope that holds on the requested object, or on any."""
    asked = api.create(scopes=["docs:*", "a"])
    for scope, told in (
        ("docs:read", "docs:read"),
        ("docs:read a", "docs:read a"),
        ("", "docs:* a"),
    ):
        members = form(api, "/introspect", api.admin, token=asked["token"], scope=scope).get_json()
        assert (members["active"], members["scope"]) == (True, told)
    gate = Gate(
        "sqlite://",
        clock=api.gate._transactions._clock,
        issuers=[issuer(resources=lambda _: ["x"])],
    )
    text = token(scope="docs:read")
    for on, scopes in ((None, ()), ("x", ("docs:read",)), ("y", ())):
        found = gate.introspect(text, on=on)
        assert (found.active, found.scope) == (bool(scopes), scopes)
    assert gate.introspect(
        token(scope="")
    ).active  # who opens nothing at all is somebody nevertheless
    for on, active in ((None, False), ("x", True), ("y", False)):
        assert gate.introspect(text, needs="docs:read", on=on).active is active


def test_what_cannot_be_asked_for(api: Api) -> None:
    """A wildcard is no need."""
    made = api.create(scopes=["*"])
    problem(
        form(api, "/introspect", api.admin, token=made["token"], scope="docs:*"),
        400,
        "invalid_input",
    )


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        ("a" + ":a" * 31, ""),
        ("a" + ":a" * 32, "invalid_input"),
        (" ".join(f"s{number}" for number in range(1000)), ""),
        (" ".join(f"s{number}" for number in range(1001)), "invalid_request"),
        ("a" + ":a" * 500_000, "invalid_input"),  # which would be looked up for an hour
    ],
    ids=range(5),
)
def test_no_more_is_looked_up_than_can_be_granted(api: Api, scope: str, code: str) -> None:
    """A need has the segments of a scope, each of which is a look-up, and there are as many needs as a token has scopes."""
    made = api.create(scopes=["*"])
    answer = form(api, "/introspect", api.admin, token=made["token"], scope=scope)
    if code:
        problem(answer, 400, code)
    else:
        assert answer.get_json()["active"] is True


@pytest.mark.parametrize("user", ["", "resource-server", "ö", "a%3Ab"])
def test_a_resource_server_may_send_its_token_as_a_password(api: Api, user: str) -> None:
    """RFC 6749 section 2.3.1, as client libraries do it; for introspection alone."""
    made, server = (
        api.create(scopes=["docs:read"]),
        api.create(scopes=["gate:tokens:read"])["token"],
    )

    def sent(text: str, path: str = "/introspect") -> TestResponse:
        headers = {"Authorization": text}
        return api.client.post(
            f"/auth{path}", data={"token": made["token"], "scope": "docs:read"}, headers=headers
        )

    def basic(text: str, scheme: str = "Basic") -> str:
        return f"{scheme} {base64.b64encode(text.encode()).decode()}"

    assert sent(basic(f"{user}:{server}")).get_json()["active"] is True
    assert sent(basic(f"{user}:{server}", "bASIC")).get_json()["active"] is True
    assert sent(basic(f"{user}:{server.replace('_', '%5F')}")).get_json()["active"] is True
    for wrong, code in (
        (basic(f"{server}:"), "malformed_credential"), (basic(f"{user}:{mint('fg', 'tok')}"), "unknown_credential"), (basic(server), "missing_credential"),
        ("Basic ???", "missing_credential"), ("Basic", "missing_credential"), ("Basic /w==", "missing_credential"), (f"Basic {server}", "missing_credential"),
        (basic(f"{user}:{made['token']}"), "insufficient_scope"), (basic(f"{user}:{server} x"), "malformed_credential"),
    ):  # fmt: skip
        answer = sent(wrong)
        problem(answer, answer.status_code, code)
    assert (
        api.client.get(
            "/auth/tokens", headers={"Authorization": basic(f":{api.admin}")}
        ).status_code
        == 401
    )


def test_a_caller_that_may_not_ask_learns_nothing(api: Api) -> None:
    """RFC 7662 section 2.1: the caller is authorized, by ``gate:tokens:read``; itself is nothing to it."""
    made = api.create(scopes=["docs:read"])
    problem(form(api, "/introspect", made["token"], token=made["token"]), 403, "insufficient_scope")
    problem(form(api, "/introspect", None, token=made["token"]), 401, "missing_credential")
    problem(
        form(api, "/introspect", mint("fg", "tok"), token=made["token"]), 401, "unknown_credential"
    )


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "application/x-www-form-urlencoded", 400, "invalid_request"),
        (b"", "", 400, "invalid_request"),
        (b"", "application/json", 415, "not_form"),
        (b"token=", "application/x-www-form-urlencoded", 400, "invalid_request"),
        (b"other=x", "application/x-www-form-urlencoded", 400, "invalid_request"),
        (b"token=a&token=a", "application/x-www-form-urlencoded", 400, "invalid_request"),
        (b"token=a&other=b&other=c", "application/x-www-form-urlencoded", 400, "invalid_request"),
        (b"token=a&token=", "application/x-www-form-urlencoded", 400, "invalid_request"),
        (b"token=\xff", "application/x-www-form-urlencoded", 400, "invalid_request"),
        (
            b"&".join(b"x%d=1" % n for n in range(200)),
            "application/x-www-form-urlencoded",
            400,
            "invalid_request",
        ),
        (b'{"token": "a"}', "application/json", 415, "not_form"),
        (b"token=a", "", 415, "not_form"),
        (b"token=a", "text/plain", 415, "not_form"),
        (b"token=%ff", "application/x-www-form-urlencoded", 200, ""),
        (b"token=a&other=", "APPLICATION/X-WWW-FORM-URLENCODED; charset=UTF-8", 200, ""),
    ],
)
def test_forms(api: Api, body: bytes, content_type: str, status: int, code: str) -> None:
    """RFC 6749 section 3.2: nothing twice, what is empty is left out, what is unknown ignored; errors in each one's form."""
    headers = {
        "Authorization": f"Bearer {api.admin}",
        **({"Content-Type": content_type} if content_type else {}),
    }
    before = api.everything()
    answer = api.client.post("/auth/introspect", data=body, headers=headers)
    assert answer.status_code == status
    if code:
        problem(answer, status, code)
    else:
        assert answer.get_json() == {"active": False}
    answer = api.client.post("/auth/revoke", data=body, headers=headers)
    assert answer.status_code == (400 if code else 200)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    if code:
        told_error = answer.get_json()
        assert (list(told_error), told_error["error"]) == (
            ["error", "error_description"],
            "invalid_request",
        )
        assert set(told_error["error_description"]).isdisjoint('"\\')
    assert api.everything() == before


def test_bodies_have_a_length(api: Api) -> None:
    """16 KiB to revoke, 1 MiB to introspect."""
    assert form(api, "/revoke", token="a" * 16_000).status_code == 200
    answer = form(api, "/revoke", token="a" * 17_000)
    assert (answer.status_code, answer.get_json()["error"]) == (413, "invalid_request")
    assert form(api, "/introspect", api.admin, token="a" * 1_000_000).get_json() == {
        "active": False
    }
    problem(form(api, "/introspect", api.admin, token="a" * 1_100_000), 413, "body_too_large")


def test_a_token_revokes_itself(api: Api) -> None:
    """RFC 7009 section 2: with its secret alone, from wherever; it is deactivated by itself, and an entry says so."""
    made = api.create(owner={"id": "u1"}, allowedCidrBlocks=["192.0.2.0/24"])
    assert reason_of(lambda: api.gate.verify(made["token"], address="192.0.2.1")) == "ok"
    answer = form(
        api, "/revoke", "no credential of ours", token=made["token"], token_type_hint="nonsense"
    )
    assert (answer.status_code, answer.get_json()) == (200, {})
    assert reason_of(lambda: api.gate.verify(made["token"], address="192.0.2.1")) == "deactivated"
    token = api.gate.tokens.get(made["id"])
    assert (token.deactivated, token.deactivated_updated_by) == (True, "u1")
    entry = api.gate.audit().items[-1]
    assert (entry.actor, entry.action, entry.subject) == ("u1", "token.deactivate", made["id"])
    api.gate.tokens.activate(made["id"], by="u1")


@pytest.mark.parametrize(
    "state",
    [
        "deactivated",
        "rotated away",
        "deleted",
        "unknown",
        "another brand",
        "rft",
        "junk",
        "share of another brand",
    ],
)
def test_what_has_no_word_to_say_is_no_error(api: Api, state: str) -> None:
    """RFC 7009 section 2.2: 200, and nothing was done."""
    made = api.create(owner={"id": "u1"})
    text = {"unknown": mint("fg", "tok"), "another brand": mint("x", "tok"), "rft": mint("fg", "rft"), "junk": "junk",
            "share of another brand": mint("x", "shr")}.get(state, made["token"])  # fmt: skip
    match state:
        case "deactivated":
            api.gate.tokens.deactivate(made["id"], by="u1")
        case "rotated away":
            api.gate.tokens.rotate(made["id"])
        case "deleted":
            api.gate.tokens.delete(made["id"])
    before = api.everything()
    assert form(api, "/revoke", token=text).status_code == 200
    assert api.everything() == before


def test_an_old_secret_revokes_in_its_grace_and_not_after(api: Api, clock: Clock) -> None:
    """As long as it opens anything."""
    made = api.create()
    api.gate.tokens.rotate(made["id"], grace=10)
    clock.now += 10
    assert form(api, "/revoke", token=made["token"]).status_code == 200
    assert not api.gate.tokens.get(made["id"]).deactivated
    clock.now -= 0.1
    assert form(api, "/revoke", token=made["token"]).status_code == 200
    assert api.gate.tokens.get(made["id"]).deactivated


def test_a_token_before_its_time_can_be_revoked(api: Api, clock: Clock) -> None:
    """Who finds that it leaked need not wait."""
    made = api.create(notBefore=clock.now + 10)
    assert form(api, "/revoke", token=made["token"]).status_code == 200
    assert api.gate.tokens.get(made["id"]).deactivated


def test_a_dead_token_has_no_word_about_itself(api: Api) -> None:
    """Who closed it may open it again: it does not take over, though it were an admin."""
    gate = api.gate
    maker = gate.tokens.create(name="x", scopes=["gate:*"], org=ACME)
    made = gate.tokens.create(name="x", scopes=["gate:admin"], by=gate.verify(maker.secret))
    gate.tokens.update(maker.token.id, scopes=["gate:tokens:write"])
    gate.tokens.deactivate(made.token.id, by=gate.verify(maker.secret))
    assert form(api, "/revoke", token=made.secret).status_code == 200
    assert gate.tokens.activate(made.token.id, by=gate.verify(maker.secret)).deactivated is False


def test_a_redeemed_token_was_issued_when_it_was_redeemed(api: Api, clock: Clock) -> None:
    """Not when its share was made."""
    share = api.gate.shares.create("x", scopes=["a"], expires_in=60)
    clock.now += 10
    token = api.gate.shares.redeem(share.share.id, secret=share.secret).token
    assert form(api, "/introspect", api.admin, token=token).get_json()["iat"] == START + 10
    assert form(api, "/introspect", api.admin, token=share.secret).get_json()["iat"] == START


def test_shares_and_jwts_are_not_revoked_by_their_holder(api: Api) -> None:
    """RFC 7009 section 2.2.1: 400 ``unsupported_token_type``."""
    share = api.gate.shares.create("a", scopes=["x"], expires_in=60)
    redeemed = api.gate.shares.redeem(share.share.id, secret=share.secret).token
    for text in (share.secret, redeemed, jwt.encode({"sub": "x"}, "s" * 32), mint("fg", "shr")):
        answer = form(api, "/revoke", token=text)
        assert (answer.status_code, answer.get_json()["error"]) == (400, "unsupported_token_type")
        with pytest.raises(UnsupportedTokenType):
            api.gate.revoke(text)
    assert api.gate.shares.get(share.share.id).state == "live"


def test_a_store_that_cannot_answer_tells_no_lie(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After (RFC 7009 section 2.2.1), neither "inactive" nor "revoked"."""
    made = api.create()

    def broken(*_: Any) -> Any:
        raise OSError("gone")

    monkeypatch.setattr(api.gate._store, "_open", broken)
    answer = form(api, "/revoke", token=made["token"])
    assert (answer.status_code, answer.get_json()["error"]) == (503, "temporarily_unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert form(api, "/introspect", api.admin, token=made["token"]).status_code == 503


def test_in_python(make_gate: Any, store: str, clock: Clock) -> None:
    """Root is told everything; a principal what it may know; a wrong type is an error."""
    gate = make_gate(store)
    made = gate.tokens.create(name="x", scopes=["a"], owner=Owner("u1"), org=ACME, expires_in=60)
    answer = gate.introspect(made.secret)
    assert (answer.active, answer.kind, answer.scope, answer.record.id) == (
        True,
        "token",
        ("a",),
        made.token.id,
    )
    assert answer.expires_at.timestamp() == START + 60
    session = gate.session(Owner("u1"), org=ACME, scopes=["gate:tokens:read"])
    assert gate.introspect(made.secret, by=session).record.id == made.token.id
    stranger = gate.session(Owner("u1"), org=Org("globex"), scopes=["gate:tokens:read"])
    assert gate.introspect(made.secret, by=stranger).record is None
    clock.now += 60
    assert gate.introspect(made.secret, by=session).reason == "expired"
    assert gate.introspect(made.secret, by=stranger) == Introspected(active=False)
    assert payloads.show(gate.introspect(made.secret, by=stranger)) == b'{"active":false}'
    for scopes in (["a"], ["gate:tokens:write", "gate:admin"], ["gate:shares:read"]):
        weak = gate.session(Owner("u1"), org=ACME, scopes=scopes)
        with pytest.raises(Denied, match="insufficient_scope"):
            gate.introspect(made.secret, by=weak)
    for nonsense in (None, 5, b"x"):
        with pytest.raises(InvalidInput):
            gate.introspect(nonsense)
        with pytest.raises(InvalidInput):
            gate.revoke(nonsense)
    gate.revoke("\ud800")
    assert gate.introspect("\ud800").active is False
    with pytest.raises(NotFound):
        gate.tokens.get("self", by=session)


def test_a_session_sends_forms_from_its_own_pages(clock: Clock) -> None:
    """Behind the application's own login an ``Origin`` is asked for, and a form is a form."""
    gate = Gate("sqlite://", clock=clock, origins=["https://app.example.com"])
    made = gate.tokens.create(name="x", owner=Owner("u1"))
    principal = gate.session(Owner("u1"), scopes=["gate:tokens:read"])
    app = Starlette(routes=[Mount("/auth", management(gate, principal=lambda _: principal))])
    flask = Flask(__name__)
    flask.config.update(
        FAREGATE_STORE="sqlite://",
        FAREGATE_CLOCK=clock,
        FAREGATE_ORIGINS=["https://app.example.com"],
    )
    faregate = Faregate(flask)
    flask.register_blueprint(faregate.management(principal=lambda _: principal), url_prefix="/auth")
    for client in (Client(AsWsgi(app), TestResponse), Client(flask, TestResponse)):
        for origin, status in (
            ("https://app.example.com", 200),
            ("https://evil.example", 403),
            (None, 403),
        ):
            headers = {"Origin": origin} if origin else {}
            answer = client.post("/auth/introspect", data={"token": made.secret}, headers=headers)
            assert answer.status_code == status
