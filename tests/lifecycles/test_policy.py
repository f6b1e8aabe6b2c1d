"""The policy of a gate: bounds for whatever is made or changed, whoever does it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import START, Clock

from faregate import AllowedScopes, Conflict, Denied, Gate, InvalidInput, Org, Owner, Policy

Make = Callable[..., Gate]
DAY = 86_400.0


def at(seconds: float) -> datetime:
    """An instant after the start."""
    return datetime.fromtimestamp(START + seconds, UTC)


@pytest.mark.parametrize(
    ("policy", "given", "ends"),
    [
        (Policy(), {}, None),
        (Policy(), {"expires_in": 5}, 5),
        (Policy(default_lifetime=timedelta(days=1)), {}, DAY),
        (Policy(default_lifetime=DAY), {"expires_in": 5 * DAY}, 5 * DAY),
        (Policy(default_lifetime=DAY), {"expires_at": None}, None),
        (Policy(max_lifetime=timedelta(days=2)), {}, 2 * DAY),
        (Policy(max_lifetime=2 * DAY), {"expires_in": 2 * DAY}, 2 * DAY),
        (Policy(max_lifetime=2 * DAY, default_lifetime=DAY), {}, DAY),
        (
            Policy(max_lifetime=2 * DAY, default_lifetime=DAY),
            {"expires_at": START + 1.5 * DAY},
            1.5 * DAY,
        ),
        (Policy(require_expiry=True), {"expires_in": 5}, 5),
        (Policy(require_expiry=True, default_lifetime=DAY), {}, DAY),
    ],
)
def test_an_expiry_is_given_or_filled_in(
    make_gate: Make, store: str, policy: Policy, given: dict[str, Any], ends: float | None
) -> None:
    """A missing expiry gets the default, or else the longest allowed lifetime. A given expiry is kept if it is allowed."""
    token = make_gate(store, policy=policy).tokens.create(name="a", **given).token
    assert token.expires_at == (None if ends is None else at(ends))


@pytest.mark.parametrize(
    ("policy", "given"),
    [
        (Policy(max_lifetime=DAY), {"expires_in": DAY + 0.001}),
        (Policy(max_lifetime=DAY), {"expires_at": START + DAY + 1}),
        (Policy(max_lifetime=DAY), {"expires_at": None}),
        (Policy(require_expiry=True), {}),
        (Policy(require_expiry=True), {"expires_at": None}),
        (Policy(require_expiry=True, default_lifetime=DAY), {"expires_at": None}),
    ],
)
def test_an_expiry_beyond_the_policy_is_refused(
    make_gate: Make, store: str, policy: Policy, given: dict[str, Any]
) -> None:
    """By everybody, root included; nothing is made."""
    gate = make_gate(store, policy=policy)
    with pytest.raises(InvalidInput, match=r"^expiresAt: .*policy"):
        gate.tokens.create(name="a", **given)
    assert gate.tokens.list().total == 0


def test_the_earliest_end_counts(make_gate: Make, store: str, clock: Clock) -> None:
    """A maker that ends before the default lifetime makes nothing that outlives it."""
    gate = make_gate(store, policy=Policy(default_lifetime=DAY))
    maker = gate.verify(
        gate.tokens.create(name="a", scopes=["gate:tokens:write"], expires_in=100).secret
    )
    assert gate.tokens.create(name="b", by=maker).token.expires_at == at(100)
    clock.now += 50
    longer = gate.verify(gate.tokens.create(name="a", scopes=["gate:tokens:write"]).secret)
    clock.now += 50
    assert gate.tokens.create(name="b", by=longer).token.expires_at == at(50 + DAY)


def test_the_longest_lifetime_counts_from_the_creation(
    make_gate: Make, store: str, clock: Clock
) -> None:
    """An extension does not start it anew; what stays as it is, is not asked about."""
    gate = make_gate(store, policy=Policy(max_lifetime=DAY))
    token = gate.tokens.create(name="a", expires_in=DAY / 2).token
    clock.now += DAY / 4
    assert gate.tokens.update(token.id, expires_in=DAY * 3 / 4).expires_at == at(DAY)
    later: list[dict[str, Any]] = [
        {"expires_in": DAY},
        {"expires_at": START + DAY + 1},
        {"expires_at": None},
    ]
    for members in later:
        with pytest.raises(InvalidInput, match=r"^expiresAt: .*policy"):
            gate.tokens.update(token.id, **members)
    assert gate.tokens.get(token.id).version == 2
    gate.tokens.rotate(token.id)
    assert gate.tokens.get(token.id).expires_at == at(DAY)


def test_what_was_there_before_the_policy_stays(make_gate: Make, store: str, tmp_path: Any) -> None:
    """Until its expiry or its scopes are changed."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    token = make_gate(url).tokens.create(name="a", scopes=["x"]).token
    gate = make_gate(url, policy=Policy(max_lifetime=DAY, allowed_scopes=["docs:*"]))
    assert gate.tokens.update(token.id, name="b", expires_at=None, scopes=["x"]).name == "b"
    with pytest.raises(InvalidInput):
        gate.tokens.update(token.id, scopes=["x", "y"])
    assert gate.tokens.update(token.id, scopes=["docs:read"]).scope == ("docs:read",)


def test_allowed_scopes_bound_tokens_and_shares(make_gate: Make, store: str) -> None:
    """On creation and in every update, permissions and roles included."""
    gate = make_gate(store, policy=Policy(allowed_scopes=["docs:*", "gate:*"]))
    token = gate.tokens.create(name="a", scopes=["docs:read", "gate:tokens:read"]).token
    permission: Any = {"organizationScopes": {"permissions": [{"permissionId": "p"}]}}
    for scopes in (
        {"scopes": ["docs"]},
        {"scopes": ["*"]},
        {"scopes": ["docs:a", "x"]},
        {"allowed_scopes": permission},
    ):
        for call in (
            lambda more: gate.tokens.create(name="b", **more),
            lambda more: gate.tokens.update(token.id, **more),
        ):
            with pytest.raises(InvalidInput, match=r"^scopes: the policy"):
                call(scopes)
    with pytest.raises(InvalidInput, match=r"does not allow x$"):
        gate.shares.create("o", scopes=["docs:read", "x"], expires_in=60)
    share = gate.shares.create("o", scopes=["docs:read"], expires_in=60).share
    with pytest.raises(InvalidInput, match=r"does not allow x$"):
        gate.shares.update(share.id, params={"scopes": ["x"]})
    assert gate.shares.update(share.id, params={"scopes": ["docs:write"]}).params.scopes == (
        "docs:write",
    )
    assert (gate.tokens.list().total, gate.shares.list().total) == (1, 1)
    wide = Policy(allowed_scopes=AllowedScopes(general_scopes=("*",)))
    with pytest.raises(InvalidInput):
        make_gate("sqlite://", policy=wide).tokens.create(name="a", allowed_scopes=permission)


def test_shares_live_no_longer_than_tokens(make_gate: Make, store: str, clock: Clock) -> None:
    """From their creation on; an extension counts from there, too."""
    gate = make_gate(store, policy=Policy(max_lifetime=DAY))
    with pytest.raises(InvalidInput, match=r"^expiresAt: .*1 day"):
        gate.shares.create("o", scopes=["a"], expires_in=DAY + 1)
    share = gate.shares.create("o", scopes=["a"], expires_in=60).share
    clock.now += 3600
    assert gate.shares.update(share.id, expires_at=START + DAY).state == "live"
    with pytest.raises(InvalidInput, match=r"^expiresAt: .*policy"):
        gate.shares.update(share.id, expires_in=DAY)
    assert gate.shares.list().total == 1


def test_an_owner_has_so_many_tokens(make_gate: Make, store: str, clock: Clock) -> None:
    """The maximum counts deactivated tokens, but neither expired nor deleted ones, nor those of another organization or provider."""
    gate = make_gate(store, policy=Policy(max_tokens_per_owner=2))
    u1 = Owner("u1")
    first = gate.tokens.create(name="1", owner=u1, scopes=["gate:tokens:*"], expires_in=100)
    second = gate.tokens.create(name="2", owner=u1).token
    gate.tokens.deactivate(second.id)
    by = gate.verify(first.secret)
    with pytest.raises(Conflict, match="has 2 tokens"):
        gate.tokens.create(name="3", owner=u1)
    with pytest.raises(Conflict, match="has 2 tokens"):
        gate.tokens.create(name="3", by=by)
    for owner, org in (
        (Owner("u2"), Org()),
        (Owner("u1", idp_id="x"), Org()),
        (u1, Org("o1")),
        (Owner(), Org()),
        (Owner(), Org()),
        (Owner(), Org()),
    ):
        gate.tokens.create(name="other", owner=owner, org=org)
    stranger = gate.tokens.create(name="x", owner=Owner("u3")).token
    with pytest.raises(Conflict, match="has 2 tokens"):
        gate.tokens.update(stranger.id, owner=u1)
    gate.tokens.update(second.id, owner=Owner("u1", name="Ann"))
    gate.tokens.delete(second.id)
    assert gate.tokens.update(stranger.id, owner=u1).owner.id == "u1"
    with pytest.raises(Conflict):
        gate.tokens.create(name="3", owner=u1)
    clock.now += 100
    gate.tokens.create(name="3", owner=u1)


def test_who_is_wider_is_told_so_before_the_policy(make_gate: Make, store: str) -> None:
    """A caller who may not at all learns nothing of the bounds."""
    gate = make_gate(store, policy=Policy(allowed_scopes=["docs:*", "gate:*"]))
    by = gate.verify(gate.tokens.create(name="a", scopes=["gate:tokens:write"]).secret)
    with pytest.raises(Denied, match="wider"):
        gate.tokens.create(name="b", scopes=["x"], by=by)


@pytest.mark.parametrize(
    ("bounds", "word"),
    [
        ({"max_lifetime": 0}, "max_lifetime"), ({"max_lifetime": -1}, "max_lifetime"), ({"max_lifetime": "1d"}, "max_lifetime"),
        ({"default_lifetime": 0}, "default_lifetime"), ({"default_lifetime": True}, "default_lifetime"),
        ({"max_lifetime": 5, "default_lifetime": 6}, "longer"), ({"require_expiry": 1}, "require_expiry"),
        ({"max_tokens_per_owner": 0}, "max_tokens_per_owner"), ({"max_tokens_per_owner": 1.5}, "max_tokens_per_owner"),
        ({"max_tokens_per_owner": True}, "max_tokens_per_owner"), ({"allowed_scopes": ["a b"]}, "generalScopes"),
        ({"allowed_scopes": "docs:*"}, "allowedScopes"), ({"allowed_scopes": [5]}, "allowedScopes"),
    ],
)  # fmt: skip
def test_bounds_that_cannot_be_are_refused(bounds: dict[str, Any], word: str) -> None:
    """When the policy is made."""
    with pytest.raises(InvalidInput, match=word):
        Policy(**bounds)


def test_a_policy_is_one() -> None:
    """Anything else is a mistake."""
    with pytest.raises(InvalidInput, match="policy"):
        Gate("sqlite://", policy={"max_lifetime": 5})  # type: ignore[arg-type]
