"""The lifecycle of tokens, in memory and on a file: each rule, whoever calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import START, Clock, reason_of

from faregate import (
    AllowedScopes,
    Conflict,
    Denied,
    Gate,
    InvalidInput,
    NotFound,
    Org,
    Owner,
    PreconditionFailed,
    Principal,
)

WRITE = "gate:tokens:write"
READ = "gate:tokens:read"


def principal_with(gate: Gate, *scopes: str, **details: Any) -> Principal:
    """A principal of a new token with these scopes."""
    return gate.verify(
        gate.tokens.create(name="actor", scopes=scopes, **details).secret, address="10.0.0.1"
    )


def feed(gate: Gate) -> list[tuple[Any, ...]]:
    """The rows of the change feed: actor, action, subject."""
    with gate._store.reading() as reading:
        rows = reading._connection.exec_driver_sql(
            "SELECT actor, action, subject FROM faregate_feed ORDER BY sequence"
        )
        return [tuple(row) for row in rows.fetchall()]


def test_a_token_is_made_with_what_was_given(gate: Gate) -> None:
    """Every member comes back as it was given, and get shows the same."""
    issued = gate.tokens.create(
        name="ci",
        description="two\nlines",
        scopes=["docs:read"],
        allowed_cidr_blocks=["10.0.0.1", "10.0.0.1/32"],
        expires_in=timedelta(days=90),
        not_before=datetime(1970, 1, 13, tzinfo=UTC),
        type="PROXY",
        owner=Owner(id="u1", name="Ada", acct="a", domain="d", idp_id="i"),
        org=Org(id="o1", name="Org"),
        by="installer",
    )
    token = issued.token
    assert token.name == "ci"
    assert token.description == "two\nlines"
    assert token.allowed_scopes == AllowedScopes(general_scopes=("docs:read",))
    assert token.scope == ("docs:read",)
    assert token.allowed_cidr_blocks == ("10.0.0.1/32",)
    assert token.created_at == token.updated_at == datetime.fromtimestamp(START, UTC)
    assert token.expires_at == token.created_at + timedelta(days=90)
    assert token.not_before == datetime(1970, 1, 13, tzinfo=UTC)
    assert token.type == "PROXY"
    assert token.owner == Owner(id="u1", name="Ada", acct="a", domain="d", idp_id="i")
    assert token.org == Org(id="o1", name="Org")
    assert (token.made_by, token.version, token.require_rotation) == ("installer", 1, None)
    assert (token.rotated_at, token.last_used_at, token.deactivated) == (None, None, False)
    assert gate.tokens.get(token.id) == token
    assert feed(gate) == [("installer", "token.create", token.id)]


def test_identifiers_sort_in_the_order_of_creation(gate: Gate) -> None:
    """Identifiers are UUIDv7."""
    ids = [gate.tokens.create(name="t").token.id for _ in range(20)]
    assert ids == sorted(ids)
    assert all(identifier[14] == "7" for identifier in ids)


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "a" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": "a\u2066b"}, "name"),
        ({"name": "a\u0000"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": None}, "name"),
        ({"name": 5}, "name"),
        ({"description": "a" * 2001}, "description"),
        ({"description": "a\u202e"}, "description"),
        ({"scopes": "docs:read"}, "scopes"),
        ({"scopes": None}, "scopes"),
        ({"scopes": ["a", 1]}, r"scopes\[1\]"),
        ({"scopes": ["a"], "allowed_scopes": AllowedScopes()}, "scopes, allowedScopes"),
        ({"allowed_scopes": None}, "allowedScopes"),
        ({"allowed_scopes": {"general_scopes": ["a"]}}, "general_scopes"),
        ({"allowed_cidr_blocks": "10.0.0.0/8"}, "allowedCidrBlocks"),
        ({"allowed_cidr_blocks": None}, "allowedCidrBlocks"),
        ({"allowed_cidr_blocks": ["10.0.0.1/8"]}, r"allowedCidrBlocks\[0\].*10.0.0.0/8"),
        ({"expires_at": START}, "past"),
        ({"expires_at": START - 1}, "past"),
        ({"expires_at": 1_900_000_000_000}, "milliseconds"),
        ({"expires_at": datetime(2030, 1, 1)}, "offset"),  # noqa: DTZ001  what is refused
        ({"expires_at": "2030-01-01T00:00:00"}, "offset"),
        ({"expires_at": "2030-01-01"}, "expiresAt"),
        ({"expires_at": "tomorrow"}, "expiresAt"),
        ({"expires_at": True}, "expiresAt"),
        ({"expires_at": float("nan")}, "expiresAt"),
        ({"expires_at": float("inf")}, "expiresAt"),
        ({"expires_at": -1}, "1970"),
        ({"expires_in": 0}, "expiresIn"),
        ({"expires_in": timedelta(0)}, "expiresIn"),
        ({"expires_in": -5}, "expiresIn"),
        ({"expires_in": 1e300}, "expiresIn"),
        ({"expires_in": "90d"}, "expiresIn"),
        ({"expires_in": 5, "expires_at": None}, "expiresAt, expiresIn"),
        ({"not_before": START + 10, "expires_at": START + 10}, "after notBefore"),
        ({"not_before": "x"}, "notBefore"),
        ({"type": "JWT"}, "type"),
        ({"type": "api"}, "type"),
        ({"type": None}, "type"),
        ({"owner": "u1"}, "owner"),
        ({"owner": Owner(id="")}, r"owner\.id"),
        ({"owner": Owner(id="u1", idp_id="\n")}, r"owner\.idpId"),
        ({"org": Org(id=5)}, r"org\.id"),  # type: ignore[arg-type]
        ({"by": ""}, "by"),
        ({"by": 5}, "by"),
    ],
)
def test_bad_input_names_the_member_and_leaves_no_trace(
    gate: Gate, members: dict[str, Any], word: str
) -> None:
    """Nothing is written, in the tokens or in the feed."""
    with pytest.raises(InvalidInput, match=word):
        gate.tokens.create(**{"name": "t", **members})
    assert gate.tokens.list().total == 0
    assert feed(gate) == []


def test_an_unknown_member_is_a_mistake(gate: Gate) -> None:
    """A misspelt limit is not kept in silence."""
    with pytest.raises(TypeError, match="allowed_cidrs"):
        gate.tokens.create(name="t", allowed_cidrs=["10.0.0.0/8"])  # type: ignore[call-arg]


def test_instants_are_taken_in_every_form(gate: Gate) -> None:
    """Aware datetimes, RFC 3339 texts and epoch seconds mean the same."""
    at = datetime(2030, 1, 31, 12, tzinfo=UTC)
    forms: list[Any] = [
        at,
        at.astimezone(timezone(timedelta(hours=5))),
        "2030-01-31T12:00:00Z",
        "2030-01-31T13:00:00+01:00",
        at.timestamp(),
    ]
    for form in forms:
        assert gate.tokens.create(name="t", expires_at=form).token.expires_at == at


def test_update_changes_what_is_given_and_nothing_else(gate: Gate, clock: Clock) -> None:
    """Lists are replaced whole; the version moves; an update that changes nothing leaves no entry."""
    token = gate.tokens.create(
        name="a", scopes=["x"], allowed_cidr_blocks=["10.0.0.0/8"], description="d"
    ).token
    clock.now += 5
    changed = gate.tokens.update(token.id, name="b", scopes=["y", "z"], description=None)
    assert (changed.name, changed.scope, changed.description) == ("b", ("y", "z"), None)
    assert changed.allowed_cidr_blocks == token.allowed_cidr_blocks
    assert changed.version == 2
    assert changed.updated_at - token.updated_at == timedelta(seconds=5)
    entries = len(feed(gate))
    assert gate.tokens.update(token.id, name="b", scopes=["y", "z"]) == changed
    assert len(feed(gate)) == entries
    assert gate.tokens.get(token.id) == changed


@pytest.mark.parametrize(
    "null",
    ["name", "scopes", "allowed_scopes", "allowed_cidr_blocks", "owner", "org", "expires_in"],
)
def test_null_is_taken_only_where_something_can_be_missing(gate: Gate, null: str) -> None:
    """Expiry, start and description can be null; a list, a name or an owner cannot."""
    token = gate.tokens.create(name="a", scopes=["x"]).token
    with pytest.raises(InvalidInput):
        gate.tokens.update(token.id, **{null: None})  # type: ignore[arg-type]
    assert gate.tokens.get(token.id) == token


def test_expiry_of_an_expired_token_stays(gate: Gate, clock: Clock) -> None:
    """It is a conflict; other members may still change, and the same expiry passes."""
    token = gate.tokens.create(name="a", expires_in=10).token
    clock.now += 10
    for expiry in (None, clock.now + 100):
        with pytest.raises(Conflict, match="expired"):
            gate.tokens.update(token.id, expires_at=expiry)
    assert gate.tokens.update(token.id, name="b", expires_at=token.expires_at).name == "b"


def test_expiry_of_a_live_token_moves_both_ways(gate: Gate, clock: Clock) -> None:
    """Not into the past, and not before its start."""
    issued = gate.tokens.create(name="a", expires_in=10)
    gate.tokens.update(issued.token.id, expires_in=100)
    clock.now += 50
    gate.verify(issued.secret)
    gate.tokens.update(issued.token.id, expires_in=1)
    clock.now += 1
    assert reason_of(lambda: gate.verify(issued.secret)) == "expired"
    other = gate.tokens.create(name="b").token
    with pytest.raises(InvalidInput, match="past"):
        gate.tokens.update(other.id, expires_at=clock.now)
    with pytest.raises(InvalidInput, match="after notBefore"):
        gate.tokens.update(other.id, expires_in=5, not_before=clock.now + 5)


def test_update_honours_the_version(gate: Gate) -> None:
    """A version that is no longer the record's is refused, and names the present one."""
    token = gate.tokens.create(name="a").token
    gate.tokens.update(token.id, name="b", if_version=[1])
    with pytest.raises(PreconditionFailed, match="version 2"):
        gate.tokens.update(token.id, name="c", if_version=[1])
    with pytest.raises(PreconditionFailed):
        gate.tokens.update(token.id, name="c", if_version=[])
    assert gate.tokens.update(token.id, name="c", if_version=[1, 2]).name == "c"


@pytest.mark.parametrize(
    "arguments",
    [
        {"unchanged": 5},
        {"unchanged": "name"},
        {"unchanged": {"colour": "red"}},
        {"unchanged": {5: 1}},
        {"unchanged": {"createdAt": "\ud800"}},
        {"if_version": 1},
        {"allowed_scopes": "\ud800"},
        {"allowed_scopes": {"\ud800": []}},
    ],
)
def test_update_refuses_values_of_other_types(gate: Gate, arguments: Any) -> None:
    """The caller's mistake is InvalidInput, and nothing changes."""
    token = gate.tokens.create(name="a").token
    with pytest.raises(InvalidInput):
        gate.tokens.update(token.id, name="b", **arguments)
    assert gate.tokens.get(token.id) == token


@pytest.mark.parametrize("value", ["true", 1, []])
def test_list_refuses_a_filter_that_is_no_boolean(gate: Gate, value: Any) -> None:
    """It is not taken for a failure of the store."""
    with pytest.raises(InvalidInput, match="deactivated"):
        gate.tokens.list(deactivated=value)


def test_rotation_keeps_everything_but_the_secret(gate: Gate, clock: Clock) -> None:
    """The id and all members stay; the old secret dies at once."""
    issued = gate.tokens.create(name="a", scopes=["x"], expires_in=100)
    gate.verify(issued.secret)
    clock.now += 1
    rotated = gate.tokens.rotate(issued.token.id)
    assert rotated.token.rotated_at == datetime.fromtimestamp(clock.now, UTC)
    assert (rotated.token.id, rotated.token.scope, rotated.token.expires_at) == (
        issued.token.id,
        issued.token.scope,
        issued.token.expires_at,
    )
    assert rotated.secret != issued.secret
    assert reason_of(lambda: gate.verify(issued.secret)) == "unknown_credential"
    assert gate.verify(rotated.secret).id == issued.token.id


def test_grace_is_bounded(gate: Gate) -> None:
    """0 to 7 days; a week is taken, a second more is not."""
    issued = gate.tokens.create(name="a")
    for grace in (timedelta(days=7, seconds=1), -1, "5", float("nan")):
        with pytest.raises(InvalidInput, match="grace"):
            gate.tokens.rotate(issued.token.id, grace=grace)  # type: ignore[arg-type]
    gate.verify(issued.secret)
    gate.tokens.rotate(issued.token.id, grace=timedelta(days=7))
    gate.verify(issued.secret)


def test_at_most_two_secrets_live(gate: Gate) -> None:
    """A second rotation ends the grace of the first."""
    secrets = [gate.tokens.create(name="a").secret]
    token_id = gate.verify(secrets[0]).id
    secrets += [gate.tokens.rotate(token_id, grace=60).secret for _ in range(3)]
    assert [reason_of(lambda secret=secret: gate.verify(secret)) for secret in secrets] == [
        "unknown_credential"
    ] * 2 + ["ok"] * 2
    secrets.append(gate.tokens.rotate(token_id).secret)
    assert [reason_of(lambda secret=secret: gate.verify(secret)) for secret in secrets] == [
        "unknown_credential"
    ] * 4 + ["ok"]


def test_a_token_rotates_itself_with_a_minute_of_grace(gate: Gate, clock: Clock) -> None:
    """Without any scope; the old secret opens for 60 s, and rotates nothing once the new one was presented."""
    issued = gate.tokens.create(name="a")
    principal = gate.verify(issued.secret)
    rotated = gate.tokens.rotate("self", by=principal)
    old = gate.verify(issued.secret)
    gate.verify(rotated.secret)
    with pytest.raises(Conflict):
        gate.tokens.rotate("self", by=old)
    with pytest.raises(Conflict):
        gate.tokens.rotate(issued.token.id, by=old)
    assert gate.verify(rotated.secret).id == issued.token.id
    clock.now += 60
    assert reason_of(lambda: gate.verify(issued.secret)) == "unknown_credential"
    assert reason_of(lambda: gate.tokens.rotate("self", by=old)) == "unknown_credential"


@pytest.mark.parametrize("state", ["expired", "deactivated"])
def test_a_dead_token_is_not_rotated(gate: Gate, clock: Clock, state: str) -> None:
    """It is a conflict, and no secret is made."""
    issued = gate.tokens.create(name="a", expires_in=10)
    if state == "expired":
        clock.now += 10
    else:
        gate.tokens.deactivate(issued.token.id)
    with pytest.raises(Conflict):
        gate.tokens.rotate(issued.token.id)
    assert reason_of(lambda: gate.verify(issued.secret)) == state


def test_simultaneous_rotations_have_one_winner(gate: Gate) -> None:
    """Of four threads one gets the new secret, and that secret is accepted; twenty times."""
    for _ in range(20):
        issued = gate.tokens.create(name="a")
        principal = gate.verify(issued.secret)
        barrier, won, lost = threading.Barrier(4), [], []

        def rotate(principal: Principal = principal, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                won.append(gate.tokens.rotate("self", grace=0, by=principal).secret)  # noqa: B023
            except (Conflict, Denied) as error:
                lost.append(getattr(error, "status", 0))  # noqa: B023

        threads = [threading.Thread(target=rotate) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert set(lost) <= {401, 409}
        assert gate.verify(won[0]).id == issued.token.id


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_comes_while_another_rotates_has_lost(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """If another rotation ends around the read of the current secret, this one raises Conflict; the other's secret is valid."""
    issued = gate.tokens.create(name="a")
    original, won = gate.tokens._rotation._current, []

    def interleaved(token_id: str, by: Any) -> bytes | None:
        monkeypatch.undo()
        found = original(token_id, by)
        won.append(gate.tokens.rotate(token_id).secret)
        return found if when == "after" else original(token_id, by)

    monkeypatch.setattr(gate.tokens._rotation, "_current", interleaved)
    with pytest.raises(Conflict, match="Another rotation"):
        gate.tokens.rotate(issued.token.id)
    assert gate.verify(won[0]).id == issued.token.id
    gate.verify(gate.tokens.rotate(issued.token.id).secret)


def test_tokens_that_rotate_themselves_do_not_disturb_each_other(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``self`` is another token for each: one that ends in between is no collision."""
    one, two = principal_with(gate), principal_with(gate)
    original = gate.tokens._rotation._current

    def interleaved(token_id: str, by: Any) -> bytes | None:
        monkeypatch.undo()
        gate.tokens.rotate("self", by=two)
        return original(token_id, by)

    monkeypatch.setattr(gate.tokens._rotation, "_current", interleaved)
    assert gate.verify(gate.tokens.rotate("self", by=one).secret).id == one.id


def test_who_may_not_rotate_disturbs_no_rotation(gate: Gate) -> None:
    """A caller of another organization finds nothing, and the token's own rotations go on."""
    issued = gate.tokens.create(name="a", org=Org(id="acme"))
    foreign = principal_with(gate, WRITE, org=Org(id="globex"), owner=Owner(id="x"))
    for _ in range(5):
        with pytest.raises(NotFound):
            gate.tokens.rotate(issued.token.id, by=foreign)
        gate.verify(gate.tokens.rotate(issued.token.id).secret)


def test_an_owner_renames_himself_and_no_more(gate: Gate) -> None:
    """Account, domain, provider and organization are the admin's to say, in an update too."""
    writer = principal_with(gate, WRITE, owner=Owner(id="u1", name="Ann"), org=Org(id="o1"))
    assert (
        gate.tokens.update("self", owner=Owner(id="u1", name="Anne"), by=writer).owner.name
        == "Anne"
    )
    for party in (
        {"owner": Owner(acct="ceo")},
        {"owner": Owner(domain="evil")},
        {"owner": Owner(idp_id="x")},
        {"org": Org(name="x")},
    ):
        assert (
            reason_of(lambda party=party: gate.tokens.update("self", by=writer, **party))
            == "insufficient_scope"
        )


def test_deactivation_is_recorded_and_repeated_in_silence(gate: Gate, clock: Clock) -> None:
    """Who and when and why; the second time changes nothing and leaves no entry."""
    token = gate.tokens.create(name="a").token
    clock.now += 1
    closed = gate.tokens.deactivate(token.id, by="u1", reason="lost")
    assert (closed.deactivated, closed.deactivated_updated_by, closed.deactivated_reason) == (
        True,
        "u1",
        "lost",
    )
    assert closed.deactivated_updated_on == datetime.fromtimestamp(clock.now, UTC)
    clock.now += 1
    entries = len(feed(gate))
    assert gate.tokens.deactivate(token.id, by="u1", reason="again") == closed
    assert len(feed(gate)) == entries
    opened = gate.tokens.activate(token.id, by="u1")
    assert (opened.deactivated, opened.deactivated_updated_by, opened.deactivated_reason) == (
        False,
        "u1",
        None,
    )
    assert gate.tokens.activate(token.id) == opened
    assert feed(gate)[-1] == ("u1", "token.activate", token.id)


def test_only_who_deactivated_or_an_admin_activates(gate: Gate) -> None:
    """An owner undoes their own deactivation, but not one by an admin, root or the application under any name."""
    u1 = Owner(id="u1")
    owner = principal_with(gate, WRITE, owner=u1)
    admin = principal_with(gate, WRITE, "gate:admin", owner=Owner(id="boss"))
    token = gate.tokens.create(name="a", owner=u1).token

    gate.tokens.deactivate(token.id, by=owner)
    assert not gate.tokens.activate(token.id, by=owner).deactivated
    for closer in (admin, "security", "u1", None):
        gate.tokens.deactivate(token.id, by=closer)
        assert reason_of(lambda: gate.tokens.activate(token.id, by=owner)) == "insufficient_scope"
        assert gate.tokens.get(token.id).deactivated
        gate.tokens.activate(token.id, by=admin)


def test_an_admins_deactivation_takes_over(gate: Gate) -> None:
    """After it the owner cannot activate any more; his repeating does not take it back."""
    u1 = Owner(id="u1")
    owner = principal_with(gate, WRITE, owner=u1)
    admin = principal_with(gate, WRITE, "gate:admin", owner=Owner(id="boss"))
    token = gate.tokens.create(name="a", owner=u1).token
    gate.tokens.deactivate(token.id, by=owner)
    assert gate.tokens.deactivate(token.id, by=admin).deactivated_updated_by == "boss"
    assert gate.tokens.deactivate(token.id, by=owner).deactivated_updated_by == "boss"
    assert reason_of(lambda: gate.tokens.activate(token.id, by=owner)) == "insufficient_scope"


def test_who_bears_a_name_is_not_who_gave_it(gate: Gate) -> None:
    """Same ids at other providers, owners called root or cli, an admin who is the owner: each as its rank says."""

    def owner_and_token(owner: Owner) -> tuple[Principal, str]:
        return principal_with(gate, WRITE, owner=owner), gate.tokens.create(
            name="a", owner=owner
        ).token.id

    owner, token_id = owner_and_token(Owner(id="u1", idp_id="github"))
    admin = principal_with(gate, WRITE, "gate:admin", owner=Owner(id="u1", idp_id="google"))
    gate.tokens.deactivate(token_id, by=owner)
    gate.tokens.deactivate(token_id, by=admin)
    assert reason_of(lambda: gate.tokens.activate(token_id, by=owner)) == "insufficient_scope"

    owner, token_id = owner_and_token(Owner(id="root"))
    gate.tokens.deactivate(token_id, by=owner)
    gate.tokens.deactivate(token_id)
    assert reason_of(lambda: gate.tokens.activate(token_id, by=owner)) == "insufficient_scope"

    boss = Owner(id="boss")
    owner, token_id = owner_and_token(boss)
    gate.tokens.deactivate(token_id, by=principal_with(gate, WRITE, "gate:admin", owner=boss))
    assert not gate.tokens.activate(token_id, by=owner).deactivated


def test_an_owner_called_root_is_not_root(gate: Gate) -> None:
    """Names that people choose give no rights."""
    named = Owner(id="root")
    owner = principal_with(gate, WRITE, owner=named)
    token = gate.tokens.create(name="a", owner=named).token
    gate.tokens.deactivate(token.id)
    assert reason_of(lambda: gate.tokens.activate(token.id, by=owner)) == "insufficient_scope"
    assert not owner.compiled.root


def test_an_admin_of_the_same_name_elsewhere_counts_as_admin(gate: Gate) -> None:
    """An admin whose id is that of the owner, at another provider, deactivates: the owner cannot activate."""
    owner = principal_with(gate, WRITE, owner=Owner(id="u1", idp_id="a"))
    admin = principal_with(gate, WRITE, "gate:admin", owner=Owner(id="u1", idp_id="b"))
    token = gate.tokens.create(name="a", owner=Owner(id="u1", idp_id="a")).token
    gate.tokens.deactivate(token.id, by=admin)
    assert reason_of(lambda: gate.tokens.activate(token.id, by=owner)) == "insufficient_scope"


def test_deletion_is_final(gate: Gate) -> None:
    """The id is not found, the credential unknown, whatever is called."""
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)
    gate.tokens.delete(issued.token.id)
    calls: list[Callable[[str], object]] = [
        gate.tokens.get,
        gate.tokens.delete,
        gate.tokens.rotate,
        gate.tokens.deactivate,
        gate.tokens.activate,
        gate.tokens.update,
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call(issued.token.id)
    assert reason_of(lambda: gate.verify(issued.secret)) == "unknown_credential"
    assert gate.tokens.list().total == 0


def test_self_needs_a_principal(gate: Gate) -> None:
    """Root has no token of its own."""
    with pytest.raises(NotFound):
        gate.tokens.get("self")


def test_a_child_has_the_limits_of_its_maker(gate: Gate) -> None:
    """What is left out is the maker's own: owner, organization, networks, expiry, start."""
    limits = {
        "allowed_cidr_blocks": ["10.0.0.0/8"],
        "expires_in": 100.0,
        "owner": Owner(id="u1"),
        "org": Org(id="o1"),
    }
    maker = principal_with(gate, WRITE, "docs:*", **limits)
    child = gate.tokens.create(name="child", scopes=["docs:read"], by=maker).token
    made = gate.tokens.get(maker.id)
    assert (child.owner, child.org, child.made_by) == (made.owner, made.org, maker.id)
    assert (child.allowed_cidr_blocks, child.expires_at) == (
        made.allowed_cidr_blocks,
        made.expires_at,
    )
    narrower = gate.tokens.create(
        name="c", scopes=[], allowed_cidr_blocks=["10.1.0.0/16"], expires_in=50, by=maker
    ).token
    assert narrower.allowed_cidr_blocks == ("10.1.0.0/16",)


@pytest.mark.parametrize(
    "wider",
    [
        {"scopes": ["docs"]},
        {"scopes": ["*"]},
        {"scopes": ["gate:admin"]},
        {"allowed_scopes": {"organizationScopes": {"allRoles": True}}},
        {"allowed_cidr_blocks": []},
        {"allowed_cidr_blocks": ["0.0.0.0/0"]},
        {"allowed_cidr_blocks": ["10.0.0.0/8", "11.0.0.0/32"]},
        {"expires_at": None},
        {"expires_in": 101},
        {"owner": Owner(id="u2")},
        {"owner": Owner()},
        {"org": Org(id="o2")},
        {"org": Org()},
    ],
)
def test_a_child_is_never_wider_than_its_maker(gate: Gate, wider: dict[str, Any]) -> None:
    """By creation or by update, on no dimension; what was missing is named."""
    limits = {
        "allowed_cidr_blocks": ["10.0.0.0/8"],
        "expires_in": 100.0,
        "owner": Owner(id="u1"),
        "org": Org(id="o1"),
    }
    maker = principal_with(gate, WRITE, "docs:*", **limits)
    with pytest.raises(Denied) as created:
        gate.tokens.create(
            **{"name": "c", "scopes": [], **wider, "by": maker}
            if "allowed_scopes" not in wider
            else {"name": "c", **wider, "by": maker}
        )
    assert (created.value.reason, created.value.status) == ("insufficient_scope", 403)
    assert (
        created.value.detail != "The credential does not grant the scope that this request needs."
    )
    child = gate.tokens.create(name="c", by=maker).token
    # In an update a party without an id is the party that is stored.
    expected = "ok" if wider in ({"owner": Owner()}, {"org": Org()}) else "insufficient_scope"
    assert reason_of(lambda: gate.tokens.update(child.id, **wider, by=maker)) == expected
    assert gate.tokens.get(child.id) == child
    assert gate.tokens.list().total == 2


def test_an_admin_makes_no_root(gate: Gate) -> None:
    """The star of an owner cannot be handed to nobody, by creation or by update of the owner."""
    admin = principal_with(gate, "*", owner=Owner(id="boss"))
    assert (
        reason_of(lambda: gate.tokens.create(name="r", scopes=["*"], owner=Owner(), by=admin))
        == "insufficient_scope"
    )
    star = gate.tokens.create(name="s", scopes=["*"], by=admin).token
    assert gate.tokens.update(star.id, owner=Owner(), by=admin) == star
    other = gate.tokens.create(name="o", scopes=["x"], owner=Owner(id="u2"), by=admin).token
    assert other.owner.id == "u2"


def test_a_party_keeps_what_an_update_leaves_out(gate: Gate) -> None:
    """Renaming an organization or an owner makes nobody root or ownerless; another id replaces the whole."""
    star = gate.tokens.create(name="s", scopes=["*"], org=Org(id="acme", name="Acme")).token
    assert gate.tokens.update(star.id, org=Org(name="Acme Inc")).org == Org(
        id="acme", name="Acme Inc"
    )
    theirs = gate.tokens.create(name="t", owner=Owner(id="u1", name="Ann", acct="a")).token
    assert gate.tokens.update(theirs.id, owner=Owner(name="Anne")).owner == Owner(
        id="u1", name="Anne", acct="a"
    )
    assert gate.tokens.update(theirs.id, owner=Owner(id="u1", domain="d")).owner.acct == "a"
    assert gate.tokens.update(theirs.id, owner=Owner(id="u2")).owner == Owner(id="u2")


def test_a_maker_invents_no_owner_of_its_children(gate: Gate) -> None:
    """Account, domain and provider are the maker's own, unless an admin names another."""
    maker = principal_with(gate, WRITE, owner=Owner(id="u1", acct="a"))
    for owner in (
        Owner(id="u1", acct="ceo"),
        Owner(id="u1", domain="evil"),
        Owner(id="u1", idp_id="x"),
        Owner(name="x"),
    ):
        assert (
            reason_of(lambda owner=owner: gate.tokens.create(name="c", owner=owner, by=maker))
            == "insufficient_scope"
        )
    assert gate.tokens.create(name="c", owner=Owner(id="u1"), by=maker).token.owner == Owner(
        id="u1", acct="a"
    )


def test_an_update_that_narrows_needs_no_cover(gate: Gate) -> None:
    """Who reaches a wider token may narrow it, and may not widen it back."""
    u1 = Owner(id="u1")
    narrow = principal_with(gate, WRITE, "a", owner=u1)
    wide = gate.tokens.create(name="w", scopes=["a", "b", "c"], owner=u1).token
    assert gate.tokens.update(wide.id, scopes=["b", "c"], by=narrow).scope == ("b", "c")
    assert gate.tokens.update(wide.id, scopes=["b"], name="n", by=narrow).scope == ("b",)
    assert (
        reason_of(lambda: gate.tokens.update(wide.id, scopes=["b", "c"], by=narrow))
        == "insufficient_scope"
    )
    assert gate.tokens.update(wide.id, scopes=["a"], by=narrow).scope == ("a",)


def test_rotation_hands_over_only_what_is_covered(gate: Gate) -> None:
    """The answer holds the secret: a wider token of the same owner is not rotated."""
    u1 = Owner(id="u1")
    narrow = principal_with(gate, WRITE, "a", owner=u1)
    wide = gate.tokens.create(name="w", scopes=["a", "b"], owner=u1)
    assert reason_of(lambda: gate.tokens.rotate(wide.token.id, by=narrow)) == "insufficient_scope"
    gate.verify(wide.secret)
    equal = gate.tokens.create(name="e", scopes=["a"], owner=u1)
    gate.verify(gate.tokens.rotate(equal.token.id, by=narrow).secret)


ACTORS: dict[str, dict[str, Any]] = {
    "root": {"scopes": ["*"]},
    "admin": {"scopes": ["gate:*"], "owner": Owner(id="boss"), "org": Org(id="o1")},
    "admin elsewhere": {"scopes": ["gate:*"], "owner": Owner(id="boss"), "org": Org(id="o2")},
    "admin of none": {"scopes": ["gate:*"], "owner": Owner(id="boss")},
    "owner": {
        "scopes": ["gate:tokens:*"],
        "owner": Owner(id="u1", idp_id="i"),
        "org": Org(id="o1"),
    },
    "owner elsewhere": {
        "scopes": ["gate:tokens:*"],
        "owner": Owner(id="u1", idp_id="i"),
        "org": Org(id="o2"),
    },
    "other provider": {"scopes": ["gate:tokens:*"], "owner": Owner(id="u1"), "org": Org(id="o1")},
    "other owner": {
        "scopes": ["gate:tokens:*"],
        "owner": Owner(id="u2", idp_id="i"),
        "org": Org(id="o1"),
    },
    "nobody": {"scopes": ["gate:tokens:*"], "org": Org(id="o1")},
    "without scopes": {
        "scopes": ["gate:admin"],
        "owner": Owner(id="u1", idp_id="i"),
        "org": Org(id="o1"),
    },
}
REACHES = {
    "root": {"theirs", "nobody's", "elsewhere"},
    "admin": {"theirs", "nobody's"},
    "admin elsewhere": {"elsewhere"},
    "admin of none": set[str](),
    "owner": {"theirs"},
    "owner elsewhere": {"elsewhere"},
    "other provider": set[str](),
    "other owner": set[str](),
    "nobody": set[str](),
}


@pytest.mark.parametrize("actor", ACTORS)
def test_reach(gate: Gate, actor: str) -> None:
    """Who sees and changes which token; what is not reached does not exist, in calls and in lists."""
    records = {
        "theirs": gate.tokens.create(
            name="t", owner=Owner(id="u1", idp_id="i"), org=Org(id="o1")
        ).token.id,
        "nobody's": gate.tokens.create(name="n", org=Org(id="o1")).token.id,
        "elsewhere": gate.tokens.create(
            name="e", owner=Owner(id="u1", idp_id="i"), org=Org(id="o2")
        ).token.id,
    }
    by = gate.verify(gate.tokens.create(name="actor", **ACTORS[actor]).secret)
    if actor == "without scopes":
        assert reason_of(lambda: gate.tokens.list(by=by)) == "insufficient_scope"
        assert reason_of(lambda: gate.tokens.get(records["theirs"], by=by)) == "insufficient_scope"
        assert gate.tokens.get("self", by=by).id == by.id
        return
    listed = {token.id for token in gate.tokens.list(by=by).items}
    assert listed == {records[name] for name in REACHES[actor]} | {by.id}
    for name, token_id in records.items():
        if name in REACHES[actor]:
            assert gate.tokens.get(token_id, by=by).id == token_id
            gate.tokens.deactivate(token_id, by=by)
            gate.tokens.activate(token_id, by=by)
            gate.tokens.update(token_id, description="seen", by=by)
            gate.tokens.delete(token_id, by=by)
        else:
            for call in (
                gate.tokens.get,
                gate.tokens.deactivate,
                gate.tokens.activate,
                gate.tokens.rotate,
                gate.tokens.delete,
            ):
                with pytest.raises(NotFound):
                    call(token_id, by=by)
            with pytest.raises(NotFound):
                gate.tokens.update(token_id, name="x", by=by)
    left = {token.id for token in gate.tokens.list().items}
    assert left == {records[name] for name in records if name not in REACHES[actor]} | {by.id}


def test_nobodys_token_reaches_itself_and_what_it_made(gate: Gate) -> None:
    """A null owner equals nothing: two ownerless tokens do not reach each other."""
    one, two = (principal_with(gate, "gate:tokens:*", "a", org=Org(id="o1")) for _ in range(2))
    child = gate.tokens.create(name="c", scopes=["a"], by=one).token
    assert {token.id for token in gate.tokens.list(by=one).items} == {one.id, child.id}
    assert {token.id for token in gate.tokens.list(by=two).items} == {two.id}
    with pytest.raises(NotFound):
        gate.tokens.get(child.id, by=two)


@pytest.mark.parametrize("call", ["get", "rotate", "deactivate", "delete"])
def test_self_needs_no_scope(gate: Gate, call: str) -> None:
    """Reading, rotating, deactivating and deleting oneself; by ``self`` or by the own id."""
    for name in ("self", "id"):
        principal = principal_with(gate)
        wanted = "self" if name == "self" else principal.id
        assert (
            reason_of(lambda wanted=wanted, by=principal: getattr(gate.tokens, call)(wanted, by=by))
            == "ok"
        )


@pytest.mark.parametrize("call", ["update", "activate"])
def test_self_needs_the_scope_to_change_itself(gate: Gate, call: str) -> None:
    """Updating oneself, and activating, need gate:tokens:write."""
    principal = principal_with(gate)
    assert (
        reason_of(lambda: getattr(gate.tokens, call)("self", by=principal)) == "insufficient_scope"
    )
    writer = principal_with(gate, WRITE)
    getattr(gate.tokens, call)("self", by=writer)


def test_a_call_is_judged_on_the_makers_record_of_this_moment(gate: Gate, clock: Clock) -> None:
    """A principal from before its token was narrowed, moved, closed or rotated has today's rights."""
    stale = principal_with(gate, WRITE, "a", "b", expires_in=100.0)
    gate.tokens.update(stale.id, scopes=[WRITE, "a"])
    assert (
        reason_of(lambda: gate.tokens.create(name="c", scopes=["b"], by=stale))
        == "insufficient_scope"
    )
    gate.tokens.update(stale.id, allowed_cidr_blocks=["192.0.2.0/24"])
    assert reason_of(lambda: gate.tokens.create(name="c", by=stale)) == "address_not_allowed"
    gate.tokens.update(stale.id, allowed_cidr_blocks=[])
    gate.tokens.deactivate(stale.id)
    assert reason_of(lambda: gate.tokens.create(name="c", by=stale)) == "deactivated"
    gate.tokens.activate(stale.id)
    clock.now += 100
    assert reason_of(lambda: gate.tokens.create(name="c", by=stale)) == "expired"
    clock.now -= 100
    gate.tokens.rotate(stale.id)
    assert reason_of(lambda: gate.tokens.create(name="c", by=stale)) == "unknown_credential"
    other = principal_with(gate, WRITE)
    gate.tokens.delete(other.id)
    assert reason_of(lambda: gate.tokens.list(by=other)) == "unknown_credential"
    assert gate.tokens.list().total == 1


@pytest.mark.parametrize("kind", ["REFRESH", b"REFRESH"])
def test_a_record_of_another_kind_is_not_the_callers(gate: Gate, kind: str | bytes) -> None:
    """A caller whose record was changed to another type by hand is unknown, also as a blob."""
    actor = principal_with(gate, READ)
    other = gate.tokens.create(name="b", scopes=[READ], expires_in=60)
    with gate._store.changing() as change:
        change._connection.exec_driver_sql("UPDATE faregate_tokens SET type = ?", (kind,))
    assert reason_of(lambda: gate.tokens.list(by=actor)) == "unknown_credential"
    assert reason_of(lambda: gate.verify(other.secret)) == "unknown_credential"


def test_list_filters_sorts_and_pages(gate: Gate, clock: Clock) -> None:
    """Every filter narrows, every sortable field sorts both ways, pages do not overlap."""
    for number in range(5):
        clock.now += 1
        gate.tokens.create(
            name=f"t{number}",
            type="PROXY" if number % 2 else "API",
            owner=Owner(id=f"u{number % 2}", name=f"n{9 - number}"),
            org=Org(id="o", name=f"o{number}"),
            expires_in=100.0 + number,
        )
    closed = gate.tokens.list(name="t3").items[0]
    gate.tokens.deactivate(closed.id)

    def names(**query: Any) -> list[str]:
        return [token.name for token in gate.tokens.list(**query).items]

    assert names() == ["t4", "t3", "t2", "t1", "t0"]
    assert names(sort="createdAt") == names()[::-1]
    assert names(sort="-owner.name") == ["t0", "t1", "t2", "t3", "t4"]
    assert names(sort="org.name") == ["t0", "t1", "t2", "t3", "t4"]
    assert names(sort="-updatedAt")[0] in {"t3", "t4"}
    assert names(owner="u1", sort="name") == ["t1", "t3"]
    assert names(type="PROXY", deactivated=False) == ["t1"]
    assert names(deactivated=True) == ["t3"]
    first = gate.tokens.list(name="t0").items[0].expires_at
    assert first is not None
    assert names(expires_before=first + timedelta(seconds=2)) == ["t0"]
    page = gate.tokens.list(limit=2, offset=2, sort="name")
    assert ([token.name for token in page.items], page.total, page.limit, page.offset) == (
        ["t2", "t3"],
        5,
        2,
        2,
    )
    for bad in (
        {"limit": 0},
        {"limit": 1001},
        {"offset": -1},
        {"sort": "id"},
        {"sort": "token"},
        {"sort": "owner.id"},
        {"sort": "--name"},
    ):
        with pytest.raises(InvalidInput):
            gate.tokens.list(**bad)


def test_last_use_is_written_behind(gate: Gate, clock: Clock) -> None:
    """Noted on the request, written later, forward only, and neither version nor feed move."""
    issued = gate.tokens.create(name="a")
    before = (gate.tokens.get(issued.token.id), len(feed(gate)))
    gate.verify(issued.secret)
    assert gate.tokens.get(issued.token.id).last_used_at is None
    gate._usage.flush()
    used = gate.tokens.get(issued.token.id)
    assert used.last_used_at == datetime.fromtimestamp(clock.now, UTC)
    assert (used.version, used.updated_at, len(feed(gate))) == (
        before[0].version,
        before[0].updated_at,
        before[1],
    )
    clock.now -= 100
    gate.verify(issued.secret)
    gate._usage.flush()
    assert gate.tokens.get(issued.token.id).last_used_at == used.last_used_at


def test_last_use_revives_nothing(gate: Gate) -> None:
    """A use that is written after a deactivation or a deletion changes neither."""
    issued, gone = gate.tokens.create(name="a"), gate.tokens.create(name="b")
    gate.verify(issued.secret)
    gate.verify(gone.secret)
    gate.tokens.deactivate(issued.token.id)
    gate.tokens.delete(gone.token.id)
    gate._usage.flush()
    assert reason_of(lambda: gate.verify(issued.secret)) == "deactivated"
    assert reason_of(lambda: gate.verify(gone.secret)) == "unknown_credential"
    assert gate.tokens.list().total == 1


def test_a_refused_use_is_no_use(gate: Gate) -> None:
    """Who was turned away did not use the token."""
    issued = gate.tokens.create(name="a", allowed_cidr_blocks=["10.0.0.0/8"])
    assert (
        reason_of(lambda: gate.verify(issued.secret, address="192.0.2.1")) == "address_not_allowed"
    )
    gate._usage.flush()
    assert gate.tokens.get(issued.token.id).last_used_at is None
