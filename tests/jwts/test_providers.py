"""Identity providers: tokens with the claims that they document, opened with the settings that the README names."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import identity_provider as provider
import msgspec
import pytest
from conftest import START, reason_of

from faregate import Gate, InvalidInput, Issuer, Policy, StoreUnavailable
from faregate.jwts.issuer import ClaimSelector

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TABLE = re.findall(r"^\| ([^|`]+?) \| `([^`]+)` \|$", README, re.MULTILINE)
KEYS = {"RS256": "rsa", "ES256": "ec"}
NAMES = {
    "ROBOTS": {
        "112010400000000710080": ["docs:read"],
        "system:serviceaccount:my-namespace:my-service-account": ["docs:read"],
    },
    "JOBS": {
        "repo:octo-org/octo-repo:environment:prod": ["docs:write"],
        "project_path:my-group/my-project:ref_type:branch:ref:main": ["docs:write"],
    },
    "PEOPLE": {"user@example.com": ["docs:read"]},
}


class Provider(msgspec.Struct, forbid_unknown_fields=True):
    """What one writes into its tokens, and what such a token opens."""

    name: str
    says: str
    iss: str
    claims: str
    needs: list[str]
    header: dict[str, str] = {}
    alg: str = "RS256"
    audience: str = "https://api.example"
    org: str | None = None
    shut: list[str] = []

    def token(self, change: str = "{}") -> str:
        """A token of theirs, with some claims changed."""
        made = {"iss": self.iss, "iat": int(START), "exp": int(START) + 300} | json.loads(
            self.claims
        )
        made |= json.loads(change)
        claims = {name: value for name, value in made.items() if value is not None}
        key = KEYS[self.alg]
        header = {"alg": self.alg, "kid": key, **self.header}
        return provider.compact(json.dumps(header).encode(), json.dumps(claims).encode(), key)

    def issuer(self) -> Issuer:
        """The provider as the README says how to trust it."""
        settings = eval(f"dict({dict(TABLE)[self.name]})", dict(NAMES))  # noqa: S307  this project's own README
        return Issuer(
            self.iss, self.audience, [self.alg], keys=provider.jwks(KEYS[self.alg]), **settings
        )


PROVIDERS = msgspec.convert(
    tomllib.loads((ROOT / "tests" / "cases" / "providers.toml").read_text())["provider"],
    list[Provider],
)


@pytest.mark.parametrize("theirs", PROVIDERS, ids=lambda theirs: f"{theirs.name}: {theirs.says}")
def test_their_tokens_open_with_the_settings_of_the_readme(
    theirs: Provider, make_gate: Callable[..., Gate]
) -> None:
    """What is granted and for whom; and no other token of theirs opens."""
    gate = make_gate("sqlite://", issuers=[theirs.issuer()])
    for _ in ("at first sight", "from the cache"):
        principal = gate.verify(theirs.token())
        assert all(principal.allows(need) for need in theirs.needs)
        assert not principal.allows("docs:else")
        assert (principal.org.id if principal.org else None) == theirs.org
        assert principal.owner is not None
        assert principal.owner.idp_id == theirs.iss
    for change in theirs.shut:
        assert (
            reason_of(lambda change=change: gate.verify(theirs.token(change)))
            == "unknown_credential"
        ), change


def test_the_readme_and_the_table_name_the_same_providers() -> None:
    """None is named that was not tried."""
    named = [name for name, settings in TABLE if "claim" in settings]
    assert list(dict.fromkeys(theirs.name for theirs in PROVIDERS)) == named


def test_many_groups_make_a_long_token(make_gate: Callable[..., Gate]) -> None:
    """Two hundred of them are more than 8,192 characters, which a gate takes that is told so."""
    entra = PROVIDERS[0]
    groups = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(200)]
    text = entra.token(json.dumps({"groups": groups}))
    assert 8192 < len(text) < 16_384
    assert (
        reason_of(lambda: make_gate("sqlite://", issuers=[entra.issuer()]).verify(text))
        == "malformed_credential"
    )
    assert (
        make_gate("sqlite://", issuers=[entra.issuer()], max_length=16_384)
        .verify(text)
        .allows("Docs.Read")
    )


READ: list[tuple[ClaimSelector, dict[str, Any], list[str]]] = [
    ("scp", {"scp": "a b"}, ["a", "b"]),
    ("scp", {"scp": ["a", "b c"]}, ["a"]),
    (["scp", "roles"], {"scp": "a", "roles": ["b", "a"]}, ["a", "b"]),
    (["scp", "roles"], {"roles": ["b"]}, ["b"]),
    ("x.y", {"x": {"y": "a"}}, ["a"]),
    ("x.y", {"x.y": "a", "x": {"y": "b"}}, ["a"]),
    ("x.y.z", {"x.y": {"z": "a"}, "x": {"y": {"z": "b"}}}, ["a"]),
    ("x.y.z", {"x": {"y": {"z": "b"}}}, ["b"]),
    ("https://a.example/roles", {"https://a.example/roles": ["a"]}, ["a"]),
    ("x.y", {"x": ["y"]}, []),
    ("x.y", {"x": "y"}, []),
    ("x", {"x": None}, []),
    ("x", {}, []),
    (lambda claims: [f"role:{one['name']}" for one in claims["roles"]], {"roles": [{"name": "a"}]}, ["role:a"]),
    (lambda _: {"a", "b"}, {}, ["a", "b"]),
    (lambda _: "a b", {}, ["a", "b"]),
    (lambda _: [], {}, []),
    (lambda _: "", {}, []),
    (lambda _: ["*", "gate:admin", "a"], {}, ["a"]),
]  # fmt: skip


@pytest.mark.parametrize(("told", "claims", "scopes"), READ, ids=range(len(READ)))
def test_scopes_are_where_they_are_said_to_be(
    told: ClaimSelector, claims: dict[str, Any], scopes: list[str], make_gate: Callable[..., Gate]
) -> None:
    """In a claim or in several, in their members, or where a function finds them: literal in any case."""
    gate = make_gate("sqlite://", issuers=[provider.issuer(scopes_claim=told)])
    principal = gate.verify(provider.token(**claims))
    assert sorted(principal.compiled.granted.scopes) == scopes


@pytest.mark.parametrize("wrong", [5, {"a": 1}, ["a", 1], [["a"]]])
def test_scopes_of_another_shape_are_refused(wrong: object, make_gate: Callable[..., Gate]) -> None:
    """In a claim that is the token's fault, of a function the application's."""
    gate = make_gate("sqlite://", issuers=[provider.issuer(scopes_claim=["scope", "roles"])])
    assert reason_of(lambda: gate.verify(provider.token(roles=wrong))) == "unknown_credential"
    gate = make_gate("sqlite://", issuers=[provider.issuer(scopes_claim=lambda _: wrong)])
    assert reason_of(lambda: gate.verify(provider.token())) == "store_unavailable"


def test_all_claims_with_scopes_are_counted_together(make_gate: Callable[..., Gate]) -> None:
    """A thousand at most."""
    gate = make_gate(
        "sqlite://", issuers=[provider.issuer(scopes_claim=["a", "b"])], max_length=65_536
    )
    half = " ".join(["x"] * 500)
    assert gate.verify(provider.token(a=half, b=half)).allows("x")
    assert (
        reason_of(lambda: gate.verify(provider.token(a=half, b=f"{half} x")))
        == "unknown_credential"
    )


@pytest.mark.parametrize(
    ("told", "claims", "org"),
    [
        ("tid", {"tid": "acme"}, "acme"),
        (["tid", "o.id"], {"o": {"id": "acme"}}, "acme"),
        (["tid", "o.id"], {"tid": "first", "o": {"id": "acme"}}, "first"),
        (lambda claims: claims["sub"] + "-org", {}, "alice-org"),
        ("tid", {}, None), (["tid", "o.id"], {}, None), ("tid", {"tid": ""}, None), ("tid", {"tid": 5}, None),
        (lambda _: None, {}, None),
    ],
    ids=range(9),
)  # fmt: skip
def test_the_organization_is_where_it_is_said_to_be(
    told: ClaimSelector, claims: dict[str, Any], org: str | None, make_gate: Callable[..., Gate]
) -> None:
    """Without one, a token is refused once it is named."""
    gate = make_gate("sqlite://", issuers=[provider.issuer(org_claim=told)])
    text = provider.token(**claims)
    if org is None:
        assert reason_of(lambda: gate.verify(text)) == "unknown_credential"
        return
    found = gate.verify(text).org
    assert found is not None
    assert found.id == org


def test_whom_a_function_does_not_know_gets_in_nowhere(make_gate: Callable[..., Gate]) -> None:
    """Not even where any valid credential will do: of some providers anybody has a token for any audience."""
    known: dict[str, list[str]] = {"alice": ["docs:read"], "bob": []}
    gate = make_gate(
        "sqlite://", issuers=[provider.issuer(scopes_claim=lambda claims: known.get(claims["sub"]))]
    )
    assert gate.verify(provider.token()).allows("docs:read")
    assert not gate.verify(provider.token(sub="bob")).allows("docs:read")
    assert reason_of(lambda: gate.verify(provider.token(sub="mallory"))) == "unknown_credential"


def test_a_function_that_fails_says_nothing_of_the_token(make_gate: Callable[..., Gate]) -> None:
    """It is the application's matter, and the caller may try again."""
    for settings in (
        {"scopes_claim": lambda claims: claims["x"]},
        {"org_claim": lambda claims: claims["x"]},
        {"org_claim": lambda _: 5},
        {"resources": lambda claims: claims["x"]},
    ):
        gate = make_gate("sqlite://", issuers=[provider.issuer(**settings)])
        with pytest.raises(StoreUnavailable) as failed:
            gate.verify(provider.token())
        assert failed.value.cause.startswith(f"the function {next(iter(settings))} failed: ")
        assert "function" not in failed.value.detail


def test_what_is_named_and_not_there_is_told(make_gate: Callable[..., Gate]) -> None:
    """By ``explain``: else nobody knows why nothing opens."""
    gate = make_gate("sqlite://", issuers=[provider.issuer(scopes_claim=["scp", "realm.roles"])])
    step = gate.explain(provider.token(scp="a"), needs="b").steps[2]
    assert step.passed
    assert "it has no realm.roles, where its scopes would be" in step.words
    assert step.seen["absent"] == ["realm.roles"]
    for scopes in ("*", "gate:admin", ""):
        assert (
            "none of its scopes counts"
            in gate.explain(provider.token(scp="", realm={"roles": scopes})).steps[2].words
        )
    gate = make_gate("sqlite://", issuers=[provider.issuer(scopes_claim=lambda _: [])])
    assert "none of its scopes counts" in gate.explain(provider.token()).steps[2].words
    gate = make_gate("sqlite://", issuers=[provider.issuer(scopes_claim=lambda _: None)])
    assert "scopes_claim names no scopes" in gate.explain(provider.token()).steps[2].words
    gate = make_gate("sqlite://", issuers=[provider.issuer(org_claim=["tid", "o.id"])])
    words = "it has no tid and no o.id, where its organization would be"
    assert gate.explain(provider.token(o={"id": None})).steps[2].words == words
    assert gate.explain(provider.token(o={"id": 5})).steps[2].words.startswith("its o.id: ")
    gate = make_gate("sqlite://", issuers=[provider.issuer(org_claim=lambda _: None)])
    assert "org_claim names no organization" in gate.explain(provider.token()).steps[2].words
    gate = make_gate("sqlite://", issuers=[provider.issuer(audience_claim="azp")])
    assert "it has no azp" in gate.explain(provider.token()).steps[2].words


def test_the_audience_is_in_the_claim_that_is_named(make_gate: Callable[..., Gate]) -> None:
    """Which has to be there; an ``aud`` that is there as well counts as much (RFC 7519 section 4.1.3)."""
    gate = make_gate("sqlite://", issuers=[provider.issuer(audience_claim="azp", audience="app")])
    assert gate.verify(provider.token(azp="app", aud=None)).id == "alice"
    assert gate.verify(provider.token(azp=["other", "app"], aud=["x", "app"])).id == "alice"
    for wrong in (
        {"azp": "other", "aud": "app"},
        {"aud": "app"},
        {"azp": 5},
        {"azp": "app"},
        {"azp": "app", "aud": 5},
    ):
        assert (
            reason_of(lambda wrong=wrong: gate.verify(provider.token(**wrong)))
            == "unknown_credential"
        )
    assert (
        "its azp is 'other', and not app"
        in gate.explain(provider.token(azp="other")).steps[2].words
    )
    both = provider.issuer(audience_claim="azp", audience="app", required_claims=["aud"])
    gate = make_gate("sqlite://", issuers=[both])
    assert (
        reason_of(lambda: gate.verify(provider.token(azp="app", aud=None))) == "unknown_credential"
    )


@pytest.mark.parametrize(("algorithm", "key"), [("Ed25519", "ed"), ("Ed448", "goldilocks")])
def test_names_of_rfc_9864(algorithm: str, key: str, make_gate: Callable[..., Gate]) -> None:
    """A curve's own name and EdDSA are two, of which a key serves one."""
    header = json.dumps({"alg": algorithm, "kid": key, "typ": "at+jwt"}).encode()
    text = provider.compact(header, json.dumps(provider.claims_of()).encode(), key, "EdDSA")
    for keys in (
        provider.jwks(provider.jwk(key, alg=algorithm)),
        provider.jwks(provider.jwk(key, alg=None)),
    ):
        gate = make_gate("sqlite://", issuers=[provider.issuer(algorithms=[algorithm], keys=keys)])
        assert gate.verify(text).id == "alice"
        other = provider.compact(
            header.replace(algorithm.encode(), b"EdDSA"),
            json.dumps(provider.claims_of()).encode(),
            key,
            "EdDSA",
        )
        assert reason_of(partial(gate.verify, other)) == "unknown_credential"
    with pytest.raises(InvalidInput, match="no key can be used"):
        provider.issuer(algorithms=[algorithm], keys=provider.jwks(provider.jwk(key)))


async def later(_: Any) -> list[str]:
    """Answer when it is awaited, which nobody does."""
    return ["docs:read"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"audience_claim": ""},
        {"audience_claim": None},
        {"audience_claim": "iss", "audience": provider.ISSUER},
        {"audience_claim": "sub", "audience": "alice"},
        {"scopes_claim": []},
        {"scopes_claim": [""]},
        {"scopes_claim": 5},
        {"org_claim": []},
        {"org_claim": {"tid", "org_id"}},
        {"scopes_claim": later},
        {"org_claim": later},
        {"resources": later},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    """By their names."""
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        provider.issuer(**wrong)


def test_management_by_a_function_is_bounded(make_gate: Callable[..., Gate]) -> None:
    """A function hands out ``gate:`` scopes only where the issuer manages."""
    for manages in (True, False):
        issuer = provider.issuer(scopes_claim=lambda _: ["gate:tokens:read"], manages=manages)
        gate = make_gate("sqlite://", issuers=[issuer], policy=Policy(max_lifetime=60))
        assert gate.verify(provider.token()).allows("gate:tokens:read") is manages
