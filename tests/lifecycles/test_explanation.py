"""Explaining a decision: the steps as data, and in words. That it comes to what a request gets, ``test_cases`` says."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import START, Clock

from faregate import (
    AllowedScopes,
    Explanation,
    Gate,
    InvalidInput,
    Owner,
    Permission,
    PermissionGrant,
    RealmScopes,
    Role,
    Step,
    any_of,
)


def step(found: Explanation, number: int) -> Step:
    """One of the seven."""
    return found.steps[number - 1]


def needs(found: Explanation) -> list[Any]:
    """What the last step saw of each need."""
    seen: list[Any] = step(found, 7).seen["needs"]
    return seen


def test_seven_steps_as_data(gate: Gate, clock: Clock) -> None:
    """Each with its number, its name, what it looked at, and words for people."""
    issued = gate.tokens.create(
        name="ci", scopes=["docs:*"], allowed_cidr_blocks=["10.0.0.0/8"], expires_in=60
    )
    found = gate.explain(issued.secret, address="10.0.0.1", needs="docs:read")
    assert (found.allowed, found.reason, found.status) == (True, None, None)
    assert [(one.number, one.name) for one in found.steps] == [
        (1, "presented"), (2, "well-formed"), (3, "known"), (4, "alive"), (5, "in time"), (6, "from an allowed network"), (7, "enough"),
    ]  # fmt: skip
    assert all(one.passed and one.reason is None and one.words for one in found.steps)
    assert step(found, 2).seen == {"characters": len(issued.secret), "kind": "token"}
    assert step(found, 3).seen == {
        "kind": "token",
        "id": issued.token.id,
        "name": "ci",
        "supersededAt": None,
    }
    assert step(found, 5).seen == {
        "now": "1970-01-12T13:46:40Z",
        "notBefore": None,
        "expiresAt": "1970-01-12T13:47:40Z",
    }
    assert step(found, 6).seen == {
        "address": "10.0.0.1",
        "hops": [],
        "allowedCidrBlocks": ["10.0.0.0/8"],
        "matched": "10.0.0.0/8",
    }
    assert needs(found) == [{"need": "docs:read", "met": True, "grant": "docs:*", "objects": None}]
    assert gate.tokens.get(issued.token.id).last_used_at is None
    assert issued.secret not in repr(found)


def test_the_first_failure_decides_and_the_others_are_told(gate: Gate, clock: Clock) -> None:
    """Not each attempt shows one more thing that is wrong."""
    issued = gate.tokens.create(
        name="ci", scopes=["a"], allowed_cidr_blocks=["10.0.0.0/8"], expires_in=60
    )
    gate.tokens.deactivate(issued.token.id, reason="lost", by="ann")
    clock.now += 60
    found = gate.explain(issued.secret, address="192.0.2.1", needs=["a", "b"])
    assert (found.allowed, found.reason, found.status) == (False, "deactivated", 401)
    assert [one.reason for one in found.steps] == [
        None, None, None, "deactivated", "expired", "address_not_allowed", "insufficient_scope",
    ]  # fmt: skip
    assert step(found, 4).seen == {
        "deactivated": True,
        "by": "ann",
        "on": "1970-01-12T13:46:40Z",
        "reason": "lost",
    }
    assert "deactivated by ann at 1970-01-12T13:46:40Z: lost" in step(found, 4).words
    assert step(found, 6).words == "192.0.2.1; allowed: 10.0.0.0/8"
    assert [one["met"] for one in needs(found)] == [True, False]


def test_what_is_not_known_is_not_judged(gate: Gate) -> None:
    """The steps behind it were not looked at."""
    for credential, reason, last in (
        (None, "missing_credential", 1),
        ("x y", "malformed_credential", 2),
        ("a" * 8193, "malformed_credential", 2),
        ("nothing", "unknown_credential", 2),
        ("a.b.c", "unknown_credential", 2),
    ):
        found = gate.explain(credential)
        assert found.reason == reason
        assert step(found, last).passed is False
        assert all(one.passed is None and not one.seen for one in found.steps[last:])
    assert "8,193 characters; at most 8,192" in step(gate.explain("a" * 8193), 2).words
    secret = gate.tokens.create(name="a").secret
    gate.tokens.delete(gate.verify(secret).id)
    assert [one.passed for one in gate.explain(secret).steps] == [
        True,
        True,
        False,
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
def test_which_address_from_which_hop(make_gate: Any, header: str) -> None:
    """Hops are listed from the peer to the client; a hop that is not an address is shown as it came."""
    gate: Gate = make_gate(
        "sqlite://", trusted_proxies=["192.0.2.0/24", "unix"], forwarded_header=header
    )
    secret = gate.tokens.create(name="a", allowed_cidr_blocks=["10.0.0.0/8"]).secret

    def line(*hops: str) -> str:
        return ", ".join(f"for={hop}" for hop in hops) if header == "forwarded" else ", ".join(hops)

    found = gate.explain(
        secret, peer="192.0.2.1:99", forwarded=[line("6.6.6.6", "10.0.0.5"), line("192.0.2.7")]
    )
    assert step(found, 6).seen["hops"] == [
        {"source": "peer", "text": "192.0.2.1:99", "address": "192.0.2.1", "trusted": True},
        {"source": header, "text": "192.0.2.7", "address": "192.0.2.7", "trusted": True},
        {"source": header, "text": "10.0.0.5", "address": "10.0.0.5", "trusted": False},
    ]
    assert (
        step(found, 6).words
        == f"10.0.0.5, named by {header} behind 192.0.2.1:99, 192.0.2.7; allowed by 10.0.0.0/8"
    )
    found = gate.explain(secret, peer="", forwarded=[line("unknown")])
    assert (found.reason, step(found, 6).seen["hops"][-1]["address"]) == ("address_unknown", None)
    assert "the client's address is unknown" in step(found, 6).words
    found = gate.explain(secret, peer="10.0.0.9", forwarded=[line("6.6.6.6")])
    assert (found.allowed, len(step(found, 6).seen["hops"])) == (True, 1)
    assert "10.0.0.9, the peer" in step(found, 6).words


@pytest.mark.parametrize(
    ("peer", "forwarded", "words"),
    [
        ("192.0.2.1:99", [], "no client is named in x-forwarded-for behind 192.0.2.1:99"),
        ("192.0.2.1", [" "], "no client is named in x-forwarded-for behind 192.0.2.1"),
        (
            "",
            ["10.0.0.1, ,192.0.2.7"],
            "no client is named in x-forwarded-for behind unix, 192.0.2.7",
        ),
        (
            "localhost",
            ["x"],
            "x-forwarded-for names 'x', which is not an address, behind localhost",
        ),
        ("nobody", ["10.0.0.1"], "the peer, 'nobody', has no address and is not a trusted proxy"),
    ],
)
def test_trap_26_why_an_address_is_unknown(
    make_gate: Any, peer: str, forwarded: list[str], words: str
) -> None:
    """The explanation tells apart a proxy without a client, a malformed address, and a peer without an address."""
    gate: Gate = make_gate("sqlite://", trusted_proxies=["192.0.2.0/24", "unix"])
    secret = gate.tokens.create(name="a", allowed_cidr_blocks=["192.0.2.0/24"]).secret
    found = gate.explain(secret, peer=peer, forwarded=forwarded)
    assert found.reason == "address_unknown"
    assert step(found, 6).seen["hops"][-1]["address"] is None
    assert (
        step(found, 6).words == f"the client's address is unknown: {words}; allowed: 192.0.2.0/24"
    )


def test_which_grant_and_which_is_missing(gate: Gate) -> None:
    """Of scopes, permissions and roles, on objects, and of root."""
    allowed = AllowedScopes(
        general_scopes=("docs:*",),
        organization_scopes=RealmScopes(
            permissions=(PermissionGrant("edit", ("plan",)),), all_roles=True
        ),
    )
    secret = gate.tokens.create(name="a", allowed_scopes=allowed).secret
    found = gate.explain(
        secret,
        needs=["docs:read", Permission("edit"), Role("boss"), any_of("x", Role("b", service="s"))],
        on="plan",
    )
    assert [(one["met"], one["grant"]) for one in needs(found)] == [
        (True, "docs:*"), (True, "organization/permission:edit@plan"), (True, "organization/role:*@*"), (False, None),
    ]  # fmt: skip
    assert needs(found)[3]["need"] == "x or s/role:b"
    assert step(found, 7).seen["on"] == "plan"
    found = gate.explain(secret, needs=[Permission("edit")], on="budget")
    assert (found.reason, needs(found)[0]["grant"], needs(found)[0]["objects"]) == (
        "insufficient_scope",
        None,
        ["plan"],
    )
    assert "missing; granted only on plan" in step(found, 7).words
    root = gate.tokens.create(name="root", scopes=["*"]).secret
    assert needs(gate.explain(root, needs=Role("any", service="s")))[0]["grant"] == "root"
    assert "any valid credential" in step(gate.explain(root), 7).words


def test_shares_and_what_was_redeemed(gate: Gate, clock: Clock) -> None:
    """Their objects, their redemption, their end."""
    share = gate.shares.create("plan", ["budget"], scopes=["docs:read"], expires_in=3600)
    found = gate.explain(share.secret, needs="docs:read", on="other")
    assert (found.reason, found.status) == ("object_not_shared", 403)
    assert needs(found)[0]["objects"] == ["budget", "plan"]
    assert gate.explain(share.secret, needs="docs:read", on="plan").allowed
    token = gate.shares.redeem(share.share.id, secret=share.secret).token
    found = gate.explain(token, needs="docs:read", on="plan")
    assert found.allowed
    assert (step(found, 2).seen["kind"], step(found, 3).seen["id"]) == ("redeemed", share.share.id)
    gate.shares.revoke(share.share.id)
    found = gate.explain(token)
    assert (found.reason, step(found, 4).seen) == ("revoked", {"revokedAt": "1970-01-12T13:46:40Z"})
    limited = gate.shares.create("plan", scopes=["a"], expires_in=60, params={"maxRedemptions": 1})
    found = gate.explain(limited.secret)
    assert (found.reason, step(found, 5).passed) == ("redemption_required", False)
    clock.now = START + 60
    assert gate.explain(limited.secret).reason == "expired"


def test_a_secret_that_was_rotated(gate: Gate, clock: Clock) -> None:
    """Until when it lives; then it is unknown."""
    issued = gate.tokens.create(name="a")
    gate.tokens.rotate(issued.token.id, grace=60)
    found = gate.explain(issued.secret)
    assert found.allowed
    assert step(found, 3).seen["supersededAt"] == "1970-01-12T13:47:40Z"
    assert "was rotated and lives until 1970-01-12T13:47:40Z" in step(found, 3).words
    clock.now += 60
    found = gate.explain(issued.secret)
    assert (found.reason, step(found, 3).passed) == ("unknown_credential", False)


def test_the_rights_of_the_owner(make_gate: Any, store: str) -> None:
    """Which right, and that there is none; an owner who is gone; a hook that fails is no answer."""
    rights: dict[str, Any] = {"ann": AllowedScopes(general_scopes=("a",))}
    gate: Gate = make_gate(
        store, owner_rights=lambda owner: rights.get(owner.id), owner_rights_ttl=0
    )
    secret = gate.tokens.create(name="a", scopes=["*"], owner=Owner("ann")).secret
    found = gate.explain(secret, needs=["a", "b"])
    assert [(one["met"], one["grant"], one["ownersRight"]) for one in needs(found)] == [
        (True, "*", "a"),
        (False, "*", None),
    ]
    assert "b: granted by *, but the owner has no right to it now" in step(found, 7).words
    rights.clear()
    found = gate.explain(secret)
    assert (found.reason, step(found, 4).words) == ("deactivated", "its owner 'ann' is gone")
    broken: Gate = make_gate(store, owner_rights=lambda _: 1 / 0)
    secret = (
        broken.tokens.create(name="a", owner=Owner("ann")).secret
        if store == "sqlite://"
        else secret
    )
    with pytest.raises(Exception, match="store_unavailable"):
        broken.explain(secret)


@pytest.mark.parametrize(
    "arguments",
    [
        {"credential": 5}, {"credential": "x", "address": 5}, {"credential": "x", "address": "10.0.0.1", "peer": "10.0.0.1"},
        {"credential": "x", "address": "10.0.0.1", "forwarded": ["10.0.0.1"]}, {"credential": "x", "needs": 5}, {"credential": "x", "needs": ["a b"]},
    ],
)  # fmt: skip
def test_bad_questions_are_told(gate: Gate, arguments: Any) -> None:
    """Not answered as if they were something else."""
    with pytest.raises((InvalidInput, TypeError)):
        gate.explain(**arguments)
