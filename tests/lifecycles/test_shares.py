"""The lifecycle of shares, in memory and on a file: each rule, whoever calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from conftest import START, Clock, reason_of

from faregate import (
    Conflict,
    Denied,
    Gate,
    InvalidInput,
    NotFound,
    Org,
    Owner,
    Principal,
    ShareParams,
)
from faregate.model import IssuedShare

HOUR = timedelta(hours=1)
SECRET = "0123456789abcdef" * 4


def share(gate: Gate, **details: Any) -> IssuedShare:
    """A share of one object for an hour."""
    return gate.shares.create(
        **{"object_id": "doc-1", "scopes": ["docs:read"], "expires_in": HOUR, **details}
    )


def actor(gate: Gate, *scopes: str, **details: Any) -> Principal:
    """A principal of a new token that may write and read shares, and what else is named."""
    every = ("gate:shares:write", "gate:shares:read", *scopes)
    return gate.verify(
        gate.tokens.create(name="actor", scopes=every, **details).secret, address="10.0.0.1"
    )


def feed(gate: Gate) -> list[tuple[Any, ...]]:
    """The rows of the change feed about shares: actor, action, subject, organization."""
    with gate._store.reading() as reading:
        ask = reading._connection.exec_driver_sql
        rows = ask(
            "SELECT actor, action, subject, org_id FROM faregate_feed WHERE action LIKE 'share.%' ORDER BY sequence"
        )
        return [tuple(row) for row in rows.fetchall()]


def test_the_first_use_runs_as_written(gate: Gate) -> None:
    """Made, verified, redeemed, revoked."""
    made = gate.shares.create(
        object_id="doc-1", object_ids=["doc-2"], scopes=["docs:read"], expires_in=HOUR
    )
    gate.verify(made.secret).require("docs:read", on="doc-2")
    access = gate.shares.redeem(made.share.id, secret=made.secret)
    assert access.expires_at == datetime.fromtimestamp(START + 900, UTC)
    assert access.object_ids == ("doc-1", "doc-2")
    assert gate.verify(access.token).allowed_objects("docs:read") == frozenset({"doc-1", "doc-2"})
    gate.shares.revoke(made.share.id)
    assert (
        reason_of(lambda: gate.verify(made.secret))
        == reason_of(lambda: gate.verify(access.token))
        == "revoked"
    )


def test_a_share_is_made_with_what_was_given(gate: Gate) -> None:
    """Every member comes back as it was given, duplicates removed, and get shows the same."""
    made = share(
        gate, object_ids=["b", "doc-1", "a", "b"], scopes=["docs:read", "docs:*", "docs:read"],
        params={"allowedCidrBlocks": ["10.0.0.1"], "maxRedemptions": 3, "attributes": {"note": "ö", "n": [1, None]}}, by="app",
    ).share  # fmt: skip
    assert (made.object_id, made.object_ids) == ("doc-1", ("doc-1", "b", "a"))
    assert made.params == ShareParams(
        scopes=("docs:read", "docs:*"), allowed_cidr_blocks=("10.0.0.1/32",), max_redemptions=3,
        attributes={"note": "ö", "n": [1, None]},
    )  # fmt: skip
    assert made.created_at == made.updated_at == datetime.fromtimestamp(START, UTC)
    assert made.expires_at == made.created_at + HOUR
    assert (made.revoked_at, made.redemptions, made.state, made.org, made.made_by) == (
        None,
        0,
        "live",
        Org(),
        "app",
    )
    assert gate.shares.get(made.id) == made
    assert feed(gate) == [("app", "share.create", made.id, None)]


def test_a_share_is_nobodys(gate: Gate) -> None:
    """The principal of a share has neither owner nor organization; its maker is a separate member."""
    ada = Owner(id="u1", name="Ada")
    maker = actor(gate, "docs:read", owner=ada, org=Org(id="o1"))
    made = share(gate, by=maker)
    for text in (made.secret, gate.shares.redeem(made.share.id, secret=made.secret).token):
        principal = gate.verify(text)
        assert (principal.kind, principal.id, principal.owner, principal.org) == (
            "share",
            made.share.id,
            None,
            None,
        )
        assert principal.shared_by == ada
        assert principal.identity == principal.display_name == f"share:{made.share.id}"
    assert (made.share.org.id, made.share.made_by) == ("o1", maker.id)
    assert maker.shared_by is None


@pytest.mark.parametrize(
    ("details", "word"),
    [
        ({"expires_in": timedelta(0)}, "expiresIn"),
        ({"expires_at": START, "expires_in": None}, "expiresAt, expiresIn"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["*"]}, r"scopes\[0\]"),
        ({"scopes": ["a", "gate:tokens:read"]}, r"scopes\[1\]"),
        ({"scopes": ["gate:*"]}, r"scopes\[0\]"),
        ({"scopes": ["a*"]}, r"scopes\[0\]"),
        ({"scopes": "docs:read"}, "scopes"),
        ({"scopes": [1]}, r"scopes\[0\]"),
        ({"scopes": [f"s{n}" for n in range(1001)]}, "scopes"),
        ({"scopes": ["s"] * 1001}, "scopes: at most 1000"),
        ({"object_ids": ["s"] * 1001}, "objectIds: at most 1000"),
        ({"params": {"scopes": ["a"]}}, "scopes, params.scopes"),
        ({"params": {"allowedCIDRBlocks": []}}, "params.allowedCIDRBlocks"),
        ({"params": {"allowedCidrBlocks": ["10.0.0.1/8"]}}, r"params.allowedCidrBlocks\[0\]"),
        ({"params": {"allowedCidrBlocks": "10.0.0.0/8"}}, "params.allowedCidrBlocks"),
        ({"params": {"maxRedemptions": 0}}, "params.maxRedemptions"),
        ({"params": {"maxRedemptions": True}}, "params.maxRedemptions"),
        ({"params": {"maxRedemptions": 1.0}}, "params.maxRedemptions"),
        ({"params": {"maxRedemptions": "1"}}, "params.maxRedemptions"),
        ({"params": {"maxRedemptions": 2**40}}, "params.maxRedemptions"),
        ({"params": {"attributes": []}}, "params.attributes"),
        ({"params": {"attributes": {"a": float("nan")}}}, "params.attributes"),
        ({"params": {"attributes": {"a": object()}}}, "params.attributes"),
        ({"params": {"attributes": {"a": "\ud800"}}}, "params.attributes"),
        ({"params": {"attributes": {"a": "x" * 65_536}}}, "params.attributes"),
        ({"params": {"attributes": json.loads('{"a":' * 33 + "1" + "}" * 33)}}, "nested"),
        ({"params": {"attributes": json.loads('{"a":' + "[" * 900 + "]" * 900 + "}")}}, "nested"),
        ({"params": {"attributes": {1: 2}}}, "names of members"),
        ({"params": []}, "params"),
        ({"object_id": ""}, "objectId"),
        ({"object_id": "x" * 513}, "objectId"),
        ({"object_id": "ö" * 257}, "objectId"),
        ({"object_id": 7}, "objectId"),
        ({"object_ids": "ab"}, "objectIds"),
        ({"object_ids": ["a", None]}, r"objectIds\[1\]"),
        ({"object_ids": [str(n) for n in range(1000)]}, "objectIds"),
        ({"expires_in": timedelta(days=99_999)}, "expiresIn"),
        ({"by": "\n"}, "by"),
    ],
)
def test_bad_members_are_named_and_leave_nothing(
    gate: Gate, details: dict[str, Any], word: str
) -> None:
    """Bad input is an InvalidInput that names the member."""
    with pytest.raises(InvalidInput, match=word):
        share(gate, **details)
    assert gate.shares.list().total == 0
    assert feed(gate) == []


def test_an_end_is_required(gate: Gate) -> None:
    """Neither none at all nor null will do, and not the past."""
    for details in ({}, {"expires_at": None}, {"expires_at": START}, {"expires_at": START - 1}):
        with pytest.raises(InvalidInput, match="expiresAt"):
            gate.shares.create("x", scopes=["a"], **details)
    with pytest.raises(InvalidInput, match="scopes: required"):
        gate.shares.create("x", expires_in=1)
    with pytest.raises(TypeError, match="no field name"):
        share(gate, name="x")


def test_scopes_may_stand_in_params(gate: Gate) -> None:
    """There they mean the same."""
    made = gate.shares.create("x", expires_in=60, params={"scopes": ["docs:read"]})
    gate.verify(made.secret).require("docs:read", on="x")


def test_a_share_is_never_wider_than_its_maker(gate: Gate) -> None:
    """Trap 10, for shares: scopes, networks, time, and what is left out is the maker's own."""
    maker = actor(
        gate,
        "docs:read",
        allowed_cidr_blocks=["10.0.0.0/8"],
        expires_in=7200,
        not_before=START - 5,
        org=Org(id="o1"),
    )
    for details, missing in (
        ({"scopes": ["docs:write"]}, "docs:write"),
        ({"scopes": ["docs:*"]}, "docs:*"),
        ({"expires_in": 7201}, "expiry"),
        ({"params": {"allowedCidrBlocks": []}}, "networks"),
        ({"params": {"allowedCidrBlocks": ["11.0.0.0/8"]}}, "networks"),
    ):
        with pytest.raises(Denied, match=missing) as raised:
            share(gate, by=maker, **details)
        assert raised.value.reason == "insufficient_scope"
    assert gate.shares.list().total == 0
    made = share(gate, by=maker, expires_in=7200).share
    assert made.params.allowed_cidr_blocks == ("10.0.0.0/8",)
    assert (
        share(gate, by=maker, params={"allowedCidrBlocks": ["10.1.0.0/16"]}).share.state == "live"
    )


def test_what_a_share_may_not(gate: Gate) -> None:
    """A share's credential makes no management call, in any form, and is no 'self'."""
    made = share(gate, scopes=["docs:*"])
    principal = gate.verify(made.secret)
    calls: list[Callable[[], object]] = [
        lambda: gate.shares.get(made.share.id, by=principal),
        lambda: gate.shares.list(by=principal),
        lambda: gate.shares.update(made.share.id, expires_in=9, by=principal),
        lambda: gate.shares.revoke(made.share.id, by=principal),
        lambda: gate.shares.redeem(made.share.id, by=principal),
        lambda: share(gate, by=principal),
        lambda: gate.tokens.create(name="x", by=principal),
        lambda: gate.tokens.list(by=principal),
        lambda: gate.tokens.get(made.share.id, by=principal),
        lambda: gate.tokens.delete(made.share.id, by=principal),
    ]
    assert [reason_of(call) for call in calls] == ["insufficient_scope"] * len(calls)
    for own in (gate.tokens.get, gate.tokens.rotate, gate.tokens.deactivate, gate.tokens.delete):
        with pytest.raises(NotFound):
            own("self", by=principal)


def test_reach(gate: Gate) -> None:
    """An owner reaches his own, an ownerless maker what it made, an admin its organization, root all; else 404."""
    org = Org(id="o1")
    ada = actor(gate, "docs:read", owner=Owner(id="u1"), org=org)
    again = actor(gate, "docs:read", owner=Owner(id="u1"), org=org)
    bob = actor(gate, "docs:read", owner=Owner(id="u2"), org=org)
    elsewhere = actor(gate, "docs:read", owner=Owner(id="u1"), org=Org(id="o2"))
    admin = actor(gate, "docs:read", "gate:admin", owner=Owner(id="u3"), org=org)
    other_admin = actor(gate, "docs:read", "gate:admin", org=Org(id="o2"))
    nobody = actor(gate, "docs:read")
    made = share(gate, by=ada).share
    own = share(gate, by=nobody).share
    for one, reached in (
        (ada, 1),
        (again, 1),
        (bob, 0),
        (elsewhere, 0),
        (admin, 1),
        (other_admin, 0),
        (nobody, 1),
        (None, 2),
    ):
        assert gate.shares.list(by=one).total == reached
    for stranger in (bob, elsewhere, other_admin, nobody):
        for call in (gate.shares.get, gate.shares.revoke, gate.shares.redeem, gate.shares.update):
            with pytest.raises(NotFound):
                call(made.id, by=stranger)
    assert gate.shares.get(own.id, by=nobody) == own
    assert gate.shares.revoke(made.id, by=admin).state == "revoked"
    weak = gate.verify(
        gate.tokens.create(name="weak", scopes=["docs:read"], owner=Owner(id="u1"), org=org).secret
    )
    assert reason_of(lambda: gate.shares.get(made.id, by=weak)) == "insufficient_scope"


def test_the_makers_record_counts_as_it_is_now(gate: Gate) -> None:
    """What the maker has lost since its request began it cannot share, and a dead one shares nothing."""
    maker = actor(gate, "docs:read", "docs:write")
    gate.tokens.update(maker.id, scopes=["gate:shares:write", "docs:read"])
    assert reason_of(lambda: share(gate, scopes=["docs:write"], by=maker)) == "insufficient_scope"
    gate.tokens.deactivate(maker.id)
    assert reason_of(lambda: share(gate, by=maker)) == "deactivated"


def test_a_share_stands_alone(gate: Gate) -> None:
    """What happens to its maker later does not touch it."""
    maker = actor(gate, "docs:read")
    made = share(gate, by=maker)
    gate.tokens.delete(maker.id)
    gate.verify(made.secret).require("docs:read", on="doc-1")


def test_listing(gate: Gate, clock: Clock) -> None:
    """The newest first, by object, in pages."""
    made = []
    for number in range(5):
        clock.now += 1
        made.append(share(gate, object_id=f"o{number % 2}", object_ids=["all"]).share)
    assert [one.id for one in gate.shares.list().items] == [one.id for one in reversed(made)]
    page = gate.shares.list("o0", limit=2)
    assert (page.total, page.limit, page.offset) == (3, 2, 0)
    assert [one.id for one in page.items] == [made[4].id, made[2].id]
    assert [one.id for one in gate.shares.list("o0", limit=2, offset=2).items] == [made[0].id]
    assert gate.shares.list("all").total == 5
    assert gate.shares.list("al").total == gate.shares.list("%").total == 0
    wrong: dict[str, Any]
    for wrong in (
        {"limit": 0},
        {"limit": 1001},
        {"offset": -1},
        {"object_id": ""},
        {"object_id": 5},
    ):
        with pytest.raises(InvalidInput):
            gate.shares.list(**wrong)


def test_an_expired_share_is_extended(gate: Gate, clock: Clock) -> None:
    """And opens again at once, with what it was redeemed for too; get tells the state all the while."""
    made = share(gate, expires_in=60)
    access = gate.shares.redeem(made.share.id, secret=made.secret)
    assert access.expires_at == made.share.expires_at
    clock.now += 60
    assert gate.shares.get(made.share.id).state == "expired"
    assert (
        reason_of(lambda: gate.verify(made.secret))
        == reason_of(lambda: gate.verify(access.token))
        == "expired"
    )
    assert reason_of(lambda: gate.shares.redeem(made.share.id, secret=made.secret)) == "expired"
    extended = gate.shares.update(made.share.id, expires_in=60)
    assert (extended.state, extended.expires_at) == (
        "live",
        datetime.fromtimestamp(clock.now + 60, UTC),
    )
    assert gate.verify(made.secret).id == gate.verify(access.token).id == made.share.id
    with pytest.raises(InvalidInput, match="past"):
        gate.shares.update(made.share.id, expires_at=clock.now)
    with pytest.raises(InvalidInput, match="required for a share"):
        gate.shares.update(made.share.id, expires_at=None)  # type: ignore[arg-type]


def test_revocation_is_final(gate: Gate, clock: Clock) -> None:
    """Repeating it changes nothing; nothing revives it, and get tells."""
    made = share(gate)
    revoked = gate.shares.revoke(made.share.id, by="ada")
    assert (revoked.state, revoked.revoked_at) == ("revoked", datetime.fromtimestamp(START, UTC))
    clock.now += 10
    assert gate.shares.revoke(made.share.id) == revoked == gate.shares.get(made.share.id)
    for change in ({"expires_in": 99}, {"params": {"maxRedemptions": 5}}):
        with pytest.raises(Conflict, match="final"):
            gate.shares.update(made.share.id, **change)
    assert gate.shares.update(made.share.id, expires_at=made.share.expires_at) == revoked
    assert reason_of(lambda: gate.shares.redeem(made.share.id)) == "revoked"
    assert [row[:2] for row in feed(gate)] == [("root", "share.create"), ("ada", "share.revoke")]


def test_params_are_merged(gate: Gate) -> None:
    """RFC 7396: what is named changes, null takes away, the rest stays."""
    made = share(
        gate,
        params={
            "allowedCidrBlocks": ["10.0.0.0/8"],
            "maxRedemptions": 2,
            "attributes": {"a": {"b": 1, "c": 2}, "d": 3},
        },
    )

    def params(**patch: Any) -> ShareParams:
        return gate.shares.update(made.share.id, params=patch).params

    assert params(attributes={"a": {"b": None, "e": {"f": None, "g": 1}}, "d": [None]}).attributes == {
        "a": {"c": 2, "e": {"g": 1}}, "d": [None],
    }  # fmt: skip
    after = params(maxRedemptions=None)
    assert (after.max_redemptions, after.allowed_cidr_blocks, after.scopes) == (
        None,
        ("10.0.0.0/8",),
        ("docs:read",),
    )
    assert params(allowedCidrBlocks=None).allowed_cidr_blocks == ()
    assert params(scopes=["docs:write"]).scopes == ("docs:write",)
    assert params(attributes=None).attributes is None
    assert params(attributes={"a": None, "b": {"c": None}}).attributes == {
        "b": {}
    }  # there were none to take them from
    nulls = {"b": {"c": None}, "a": None}
    put_back = share(gate, params={"attributes": nulls})
    assert (
        gate.shares.update(put_back.share.id, params={"attributes": {"a": None, "b": {"c": None}}})
        == put_back.share
    )
    refused: dict[str, Any]
    for refused in (
        {"scopes": None},
        {"scopes": []},
        {"scopes": ["*"]},
        {"other": 1},
        {"maxRedemptions": 0},
        {"attributes": 5},
    ):
        with pytest.raises(InvalidInput):
            params(**refused)
    before = gate.shares.get(made.share.id)
    assert gate.shares.update(made.share.id, params={}) == before
    with pytest.raises(TypeError, match="object_ids"):
        gate.shares.update(made.share.id, object_ids=["x"])  # type: ignore[call-arg]


def test_an_update_is_covered_by_what_was_or_by_the_actor(gate: Gate) -> None:
    """Who reaches may narrow; widening takes an actor who covers the share after."""
    org = Org(id="o1")
    wide = actor(gate, "docs:*", owner=Owner(id="u1"), org=org)
    narrow = actor(
        gate, owner=Owner(id="u1"), org=org, expires_in=1800, allowed_cidr_blocks=["10.0.0.0/8"]
    )
    made = share(gate, scopes=["docs:read", "docs:write"], by=wide).share
    assert gate.shares.update(
        made.id, params={"scopes": ["docs:read"]}, by=narrow
    ).params.scopes == ("docs:read",)
    assert gate.shares.update(made.id, expires_in=60, by=narrow).state == "live"
    for change in ({"expires_in": 120}, {"params": {"scopes": ["docs:read", "docs:write"]}}):
        assert (
            reason_of(lambda change=change: gate.shares.update(made.id, by=narrow, **change))
            == "insufficient_scope"
        )
        assert gate.shares.update(made.id, by=wide, **change).state == "live"


def test_more_redemptions_are_more_than_before(gate: Gate) -> None:
    """Taking the limit away makes a bearer of a secret that only redeemed: for who covers the share alone."""
    org = Org(id="o1")
    made = share(gate, by=actor(gate, "docs:read", org=org), params={"maxRedemptions": 2}).share
    admin = actor(gate, "gate:admin", org=org)
    for most in (3, None):
        change = {"params": {"maxRedemptions": most}}
        assert (
            reason_of(lambda change=change: gate.shares.update(made.id, by=admin, **change))
            == "insufficient_scope"
        )
    assert (
        gate.shares.update(made.id, params={"maxRedemptions": 1}, by=admin).params.max_redemptions
        == 1
    )
    wide = actor(gate, "gate:admin", "docs:read", org=org)
    assert (
        gate.shares.update(made.id, params={"maxRedemptions": None}, by=wide).params.max_redemptions
        is None
    )


def test_redeeming_by_id_takes_reach_and_cover(gate: Gate) -> None:
    """Callers that reach the share redeem it by id; others need its secret. A wrong id and a wrong secret get the same denial."""
    org = Org(id="o1")
    ada = actor(gate, "docs:read", owner=Owner(id="u1"), org=org)
    weak = actor(gate, owner=Owner(id="u1"), org=org)
    made = share(gate, by=ada)
    token = gate.shares.redeem(made.share.id, by=ada, address="10.0.0.1").token
    assert gate.verify(token).allows("docs:read", on="doc-1")
    assert reason_of(lambda: gate.shares.redeem(made.share.id, by=weak)) == "insufficient_scope"
    other = share(gate)
    wrong = [
        (made.share.id, other.secret), ("01a20702-e997-7227-a1c7-3807fb622d6c", made.secret), ("", made.secret), (made.share.id, ""),
        (made.share.id, made.secret[:-1]), (made.share.id, token), ("self", made.secret), (made.share.id, "ö"), (made.share.id, "\ud800"),
    ]  # fmt: skip
    for share_id, secret in wrong:
        with pytest.raises(Denied) as raised:
            gate.shares.redeem(share_id, secret=secret)
        assert (raised.value.reason, raised.value.record_id) == ("unknown_credential", None)
    assert gate.shares.get(made.share.id).redemptions == 1
    assert [row[:2] for row in feed(gate) if row[2] == made.share.id] == [
        ("u1", "share.create"),
        ("u1", "share.redeem"),
    ]


def test_networks_are_judged_before_a_redemption_is_counted(gate: Gate) -> None:
    """And nothing is counted that was refused."""
    made = share(gate, params={"allowedCidrBlocks": ["10.0.0.0/8"], "maxRedemptions": 1})
    redeem = gate.shares.redeem
    assert reason_of(lambda: redeem(made.share.id, secret=made.secret)) == "address_unknown"
    assert (
        reason_of(lambda: redeem(made.share.id, secret=made.secret, address="11.0.0.1"))
        == "address_not_allowed"
    )
    assert gate.shares.get(made.share.id).redemptions == 0
    token = redeem(made.share.id, secret=made.secret, address="10.0.0.1").token
    assert (
        reason_of(lambda: redeem(made.share.id, secret=made.secret, address="10.0.0.1"))
        == "redemptions_exhausted"
    )
    assert gate.shares.get(made.share.id).redemptions == 1
    assert reason_of(lambda: gate.verify(token, address="11.0.0.1")) == "address_not_allowed"


def test_what_is_redeemed_carries_no_rights(gate: Gate) -> None:
    """A JWT of the gate's own type, with the share's id and nothing of what it opens."""
    made = share(gate)
    token = gate.shares.redeem(made.share.id, secret=made.secret).token
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "faregate-share+jwt"}
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims.pop("jti")
    assert claims == {
        "iss": "urn:faregate:fg", "aud": "urn:faregate:fg", "sub": made.share.id, "iat": START, "exp": START + 900,
    }  # fmt: skip
    assert token != gate.shares.redeem(made.share.id, secret=made.secret).token


CLAIMS = {
    "iss": "urn:faregate:fg",
    "aud": "urn:faregate:fg",
    "jti": "j",
    "iat": START,
    "exp": START + 900,
}


@pytest.mark.parametrize(
    ("claims", "options"),
    [
        ({}, {"key": "another secret of thirty-two bytes and more" * 2}),
        ({}, {"algorithm": "HS384"}),
        ({}, {"algorithm": "HS512"}),
        ({}, {"algorithm": "none", "key": ""}),
        ({}, {"headers": {"typ": "JWT"}}),
        ({}, {"headers": {"typ": "at+jwt"}}),
        ({}, {"headers": {"typ": "faregate-share+jwt", "kid": "1"}}),
        ({}, {"headers": {"typ": "faregate-share+jwt", "crit": ["exp"]}}),
        ({}, {"sort_headers": False}),
        ({"iss": "urn:faregate:gf"}, {}),
        ({"aud": "urn:faregate:gf"}, {}),
        ({"aud": None}, {}),
        ({"exp": None}, {}),
        ({"jti": None}, {}),
        ({"iat": None}, {}),
        ({"sub": None}, {}),
        ({"sub": "another"}, {}),
        ({"sub": 5}, {}),
        ({"exp": "soon"}, {}),
        ({"exp": float("inf")}, {}),
        ({"exp": float("nan")}, {}),
        ({"exp": True}, {}),
    ],
)
def test_what_this_gate_did_not_sign_is_unknown(
    make_gate: Callable[..., Gate], store: str, claims: dict[str, Any], options: dict[str, Any]
) -> None:
    """Another secret, algorithm, type, issuer, audience or share, and claims that are no claims."""
    gate = make_gate(store, secret=SECRET)
    made = share(gate)
    payload = {**CLAIMS, "sub": made.share.id, **claims}
    how = {
        "key": SECRET,
        "algorithm": "HS256",
        "headers": {"typ": "faregate-share+jwt"},
        "sort_headers": True,
        **options,
    }
    text = jwt.encode(
        CLAIMS | {"sub": made.share.id},
        SECRET,
        headers={"typ": "faregate-share+jwt"},
        sort_headers=True,
    )
    assert gate.verify(text).id == made.share.id
    forged = jwt.encode(
        {name: value for name, value in payload.items() if value is not None}, **how
    )
    if forged != text:
        assert reason_of(lambda: gate.verify(forged)) == "unknown_credential"
    else:
        assert options == {"sort_headers": False}


def test_each_spelling_of_a_token_but_one_is_unknown(gate: Gate) -> None:
    """A signature has spare bits, and lenient decoders skip characters: such texts would fill the cache."""
    made = share(gate)
    token = gate.shares.redeem(made.share.id, secret=made.secret).token
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = [token[:-1] + last[last.index(token[-1]) + spare] for spare in (1, 2, 3)]
    spellings += [
        f"{token}=",
        f"{token[:-5]}~{token[-5:]}",
        f"{token[:-5]}.{token[-5:]}",
        f"{token}.",
        token.replace(".", "=.", 1),
    ]
    for text in spellings:
        assert reason_of(lambda text=text: gate.verify(text)) in (
            "unknown_credential",
            "malformed_credential",
        )
    assert gate.verify(token).kind == "share"


def test_secrets_are_shown_once(gate: Gate) -> None:
    """Not by a representation, a list, or what is stored."""
    made = share(gate)
    access = gate.shares.redeem(made.share.id, secret=made.secret)
    shown = [
        repr(made),
        str(made),
        repr(access),
        repr(gate.shares.list()),
        repr(gate.verify(made.secret)),
        str(made.__rich_repr__()),
    ]
    shown += [str(access.__rich_repr__()), repr([made, access])]
    with gate._store.reading() as reading:
        for table in ("faregate_shares", "faregate_feed", "faregate_share_objects"):
            shown.append(
                repr(reading._connection.exec_driver_sql(f"SELECT * FROM {table}").fetchall())
            )
    for text in shown:
        assert made.secret.split("_")[2][:20] not in text
        assert access.token.split(".")[2] not in text


def test_a_row_that_was_broken_by_hand_opens_nothing(gate: Gate) -> None:
    """And is shown as well as it can be; no error but the package's own."""
    for column, value in (
        ("expires_at", "soon"), ("not_before", "later"), ("object_ids", "{"), ("scopes", "[1]"), ("allowed_cidr_blocks", "x"),
        ("max_redemptions", "many"), ("revoked_at", "x"), ("object_ids", b"\xff"), ("attributes", "["),
        ("object_ids", b'["\xff"]'), ("scopes", b'["\xff"]'), ("allowed_cidr_blocks", b'["\xff"]'), ("attributes", b'{"a":"\xff"}'),
    ):  # fmt: skip
        made = share(gate)
        with gate._store.changing() as change:
            change._connection.exec_driver_sql(
                f"UPDATE faregate_shares SET {column} = ? WHERE id = ?", (value, made.share.id)
            )
        if column != "attributes":
            assert (
                reason_of(
                    lambda made=made: gate.verify(made.secret).require("docs:read", on="doc-1")
                )
                != "ok"
            ), column
        assert gate.shares.get(made.share.id).id == made.share.id
