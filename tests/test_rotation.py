"""Rotation: an answer that was lost locks nobody out, one of two at once wins, and a leak is followed to its end."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock, reason_of

from faregate import (
    Closed,
    Conflict,
    Denied,
    Gate,
    InvalidInput,
    Issued,
    NotFound,
    Org,
    Owner,
    Principal,
    StoreUnavailable,
)
from faregate.credentials.opaque import digest
from faregate.credentials.presented import RequestValues
from faregate.errors import WouldWait
from faregate.lifecycles.rotation import Rotation

WRITE = "gate:tokens:write"


def states(gate: Gate, *secrets: str) -> list[str]:
    """What becomes of each secret."""
    return [reason_of(lambda secret=secret: gate.verify(secret)) for secret in secrets]


def rows(gate: Gate, table: str) -> int:
    """How many rows a table has."""
    with gate._store.reading() as reading:
        return int(
            reading._connection.exec_driver_sql(
                f"SELECT count(*) FROM faregate_{table}"
            ).scalar_one()
        )


def test_a_lost_answer_locks_nobody_out(gate: Gate, clock: Clock) -> None:
    """While nobody presented the new secret, the old one rotates again: the unseen one dies, the grace's end stays."""
    first = gate.tokens.create(name="a").secret
    principal = gate.verify(first)
    lost = gate.tokens.rotate("self", by=principal).secret
    clock.now += 30
    second = gate.tokens.rotate("self", by=gate.verify(first), grace=3600).secret
    third = gate.tokens.rotate(principal.id, by=principal).secret
    assert rows(gate, "secrets") == 2
    assert rows(gate, "unseen") == 1
    assert states(gate, first, lost, second, third) == [
        "ok",
        "unknown_credential",
        "unknown_credential",
        "ok",
    ]
    assert rows(gate, "unseen") == 0
    with pytest.raises(Conflict, match="only the current"):
        gate.tokens.rotate("self", by=principal)
    assert states(gate, first, third) == ["ok", "ok"]
    clock.now += 29.999
    assert states(gate, first, third) == ["ok", "ok"]
    clock.now += 0.001
    assert states(gate, first, third) == ["unknown_credential", "ok"]


def test_a_family_is_rotated_while_it_is_exchanged(tmp_path: Path) -> None:
    """However fast a thief exchanges, who manages the family closes it at the first try."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    for number in range(10):
        made = gate.tokens.create(name="s", type="REFRESH", expires_in=3600)
        going, ends = threading.Event(), list[str]()

        def exchange(secret: str, going: threading.Event, ends: list[str]) -> None:
            try:
                while True:
                    secret = str(gate.tokens.exchange(secret).refresh_token)
                    going.set()
            except Denied as denied:
                ends.append(denied.reason)

        thief = threading.Thread(target=exchange, args=(made.secret, going, ends))
        thief.start()
        going.wait()
        new = gate.tokens.rotate(made.token.id, leaked=number % 2 == 0).secret
        thief.join()
        assert ends == ["unknown_credential"]
        assert gate.tokens.exchange(new).refresh_token
    gate.close()


def test_of_two_rotations_of_a_family_one_wins(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that began before the other had ended has lost, though the record is the same."""
    made = gate.tokens.create(name="s", type="REFRESH")
    replace, other = Rotation._replace, list[Issued]()

    def late(self: Rotation, *given: Any, **named: Any) -> Any:
        monkeypatch.setattr(Rotation, "_replace", replace)
        other.append(gate.tokens.rotate(made.token.id))
        return replace(self, *given, **named)

    monkeypatch.setattr(Rotation, "_replace", late)
    with pytest.raises(Conflict, match="Another rotation"):
        gate.tokens.rotate(made.token.id)
    assert gate.tokens.exchange(other[0].secret).refresh_token


def test_a_grace_ends_with_the_token_as_it_was(gate: Gate, clock: Clock) -> None:
    """What is longer than the token had to live is cut, and an extension does not stretch it."""
    issued = gate.tokens.create(name="a", expires_in=10)
    gate.tokens.rotate(issued.token.id, grace=60)
    gate.tokens.update(issued.token.id, expires_in=1000)
    clock.now += 9.999
    assert states(gate, issued.secret) == ["ok"]
    clock.now += 0.001
    assert states(gate, issued.secret) == ["unknown_credential"]


def test_the_first_presentation_counts_even_if_it_is_refused(gate: Gate) -> None:
    """Who presents the new secret has it, from wherever: the old one rotates nothing any more."""
    issued = gate.tokens.create(name="a", allowed_cidr_blocks=["10.0.0.0/8"])
    principal = gate.verify(issued.secret, address="10.0.0.1")
    rotated = gate.tokens.rotate("self", by=principal)
    assert (
        reason_of(lambda: gate.verify(rotated.secret, address="192.0.2.1")) == "address_not_allowed"
    )
    with pytest.raises(Conflict):
        gate.tokens.rotate("self", by=principal)
    gate.verify(rotated.secret, address="10.0.0.1")


def test_a_presentation_counts_in_every_process(
    make_gate: Callable[..., Gate], tmp_path: Path
) -> None:
    """The other gate on the file has seen it; this one knows."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    here, there = make_gate(url), make_gate(url)
    principal = here.verify(here.tokens.create(name="a").secret)
    new = here.tokens.rotate("self", by=principal).secret
    there.verify(new)
    with pytest.raises(Conflict):
        here.tokens.rotate("self", by=principal)


def test_a_store_that_cannot_write_closes_nothing(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first presentation is noted some time later; the credential opens now, and does not wait each time."""
    now, tried = [1000.0], []
    monkeypatch.setattr("faregate.verification.usage.monotonic", lambda: now[0])
    principal = gate.verify(gate.tokens.create(name="a").secret)
    new = gate.tokens.rotate("self", by=principal).secret

    def fail(_: float) -> Any:
        tried.append(now[0])
        raise StoreUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(gate._store, "changing", fail)
        for _ in range(3):
            assert gate.verify(new).id == principal.id
    assert tried == [1000.0]
    assert gate.verify(new).id == principal.id
    assert rows(gate, "unseen") == 1
    now[0] += 1
    assert gate.verify(new).id == principal.id
    assert rows(gate, "unseen") == 0


def test_an_event_loop_leaves_the_noting_to_a_thread(gate: Gate) -> None:
    """It is a write, for which somebody may have to wait."""
    principal = gate.verify(gate.tokens.create(name="a").secret)
    line = f"Bearer {gate.tokens.rotate('self', by=principal).secret}"
    with pytest.raises(WouldWait):
        gate.requests.identify(RequestValues([line], None), wait=False)
    assert rows(gate, "unseen") == 1
    assert gate.requests.peek(line.encode(), None) is None
    assert gate.requests.identify(RequestValues([line], None))[0].id == principal.id
    gate.verify(line.removeprefix("Bearer "))
    assert gate.requests.identify(RequestValues([line], None), wait=False)[0].id == principal.id


def test_an_unseen_secret_is_seen_once(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first request there is no more writing, nor without a grace."""
    token_id = gate.tokens.create(name="a").token.id
    written: list[bytes] = []
    note = gate._usage.note_presentation

    def watched(seen: bytes) -> None:
        written.append(seen)
        note(seen)

    monkeypatch.setattr(gate._usage, "note_presentation", watched)
    graceful = gate.tokens.rotate(token_id, grace=60).secret
    for _ in range(3):
        gate.verify(graceful)
    plain = gate.tokens.rotate(token_id).secret
    gate.verify(plain)
    assert written == [digest(graceful)]


def test_an_admins_rotation_forgets_the_one_before(gate: Gate) -> None:
    """At most two secrets live, whoever rotates in between."""
    first = gate.tokens.create(name="a", owner=Owner("u1"))
    admin = gate.verify(gate.tokens.create(name="root", scopes=["*"]).secret)
    lost = gate.tokens.rotate("self", by=gate.verify(first.secret)).secret
    second = gate.tokens.rotate(first.token.id, grace=60, by=admin).secret
    assert states(gate, first.secret, lost, second) == ["unknown_credential", "ok", "ok"]
    assert rows(gate, "secrets") == 3  # the admin's own is one


def test_deleting_leaves_no_secret(gate: Gate) -> None:
    """Neither a live one nor the note that it is unseen."""
    maker = gate.tokens.create(name="maker", scopes=[WRITE])
    token = gate.tokens.create(name="a", by=gate.verify(maker.secret)).token
    gate.tokens.rotate(token.id, grace=60)
    gate.tokens.delete(token.id)
    gate.tokens.delete(maker.token.id)
    assert [rows(gate, table) for table in ("tokens", "secrets", "unseen", "descent")] == [
        0,
        0,
        0,
        0,
    ]


RACE = """
import sys
from faregate import Closed, Conflict, Denied, Gate
gate = Gate(sys.argv[1])
for line in sys.stdin:
    by = gate.verify(line.strip())
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        gate.tokens.rotate("self", grace=0, by=by)
        print("won", flush=True)
    except (Conflict, Denied) as error:
        print(getattr(error, "reason", "conflict"), flush=True)
"""


def test_two_processes_at_once_have_one_winner(tmp_path: Path) -> None:
    """Sixty times; the other one hears of a conflict, or that its secret died."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(url)
    command = [sys.executable, "-c", RACE, url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for _ in range(60):
            secret = gate.tokens.create(name="a").secret
            by = gate.verify(secret)
            print(secret, file=other.stdin, flush=True)
            assert other.stdout.readline() == "ready\n"
            print("go", file=other.stdin, flush=True)
            here = outcome(partial(gate.tokens.rotate, "self", grace=0, by=by))
            there = other.stdout.readline().strip()
            assert sorted([here, there])[1:] == ["won"], (here, there)
            assert {here, there} <= {"won", "conflict", "unknown_credential"}
        other.stdin.close()
    gate.close()


def test_threads_at_once_have_one_winner(gate: Gate) -> None:
    """Sixty times, with a grace and without: one new secret, and it is the one that opens."""
    for number in range(60):
        issued = gate.tokens.create(name="a")
        by = gate.verify(issued.secret)
        barrier = threading.Barrier(2)
        secrets: list[str] = []
        others: list[str] = []

        def rotate(
            by: Principal = by,
            barrier: threading.Barrier = barrier,
            grace: float = 60.0 * (number % 2),
        ) -> None:
            barrier.wait()
            found = outcome(
                lambda: secrets.append(gate.tokens.rotate("self", grace=grace, by=by).secret)  # noqa: B023
            )
            others.append(found)  # noqa: B023

        threads = [threading.Thread(target=rotate) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(others)[1:] == ["won"], others
        assert states(gate, *secrets) == ["ok"]


def test_whoever_was_identified_before_a_rotation_has_lost(gate: Gate) -> None:
    """Also where a thread of a pool serves both, one after the other: the first answer is the one that opens."""
    issued = gate.tokens.create(name="a")
    one, other = gate.verify(issued.secret), gate.verify(issued.secret)
    won = gate.tokens.rotate("self", by=one).secret
    with pytest.raises(Conflict, match="Another rotation came first"):
        gate.tokens.rotate("self", by=other)
    again = gate.tokens.rotate("self", by=one).secret  # as if its answer had been lost
    with pytest.raises(Conflict, match="Another rotation came first"):
        gate.tokens.rotate("self", by=other)
    assert states(gate, issued.secret, won, again) == ["ok", "unknown_credential", "ok"]


def outcome(call: Callable[[], object]) -> str:
    """``won``, ``conflict``, or the reason of a denial."""
    try:
        call()
    except Conflict:
        return "conflict"
    except Denied as denied:
        return denied.reason
    return "won"


class Family:
    """A token that made tokens and shares, that made others."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        scopes = ["gate:tokens:*", "gate:shares:*", "docs:read"]
        self.root = gate.tokens.create(name="maker", scopes=scopes, owner=Owner("u1"))
        self.child = gate.tokens.create(
            name="child", scopes=scopes, by=gate.verify(self.root.secret)
        )
        self.grandchild = gate.tokens.create(
            name="grandchild", scopes=scopes, by=gate.verify(self.child.secret)
        )
        self.share = gate.shares.create(
            "x", scopes=["docs:read"], expires_in=60, by=gate.verify(self.grandchild.secret)
        )
        self.redeemed = gate.shares.redeem(self.share.share.id, secret=self.share.secret)
        self.other = gate.tokens.create(name="other", scopes=scopes, owner=Owner("u1"))
        self.others_share = gate.shares.create(
            "x", scopes=["docs:read"], expires_in=60, by=gate.verify(self.other.secret)
        )

    def states(self) -> list[str]:
        """What becomes of the child, the grandchild, its share, and what was redeemed from that."""
        return states(
            self.gate,
            self.child.secret,
            self.grandchild.secret,
            self.share.secret,
            self.redeemed.token,
        )


GONE = ["deactivated", "deactivated", "revoked", "revoked"]


def test_a_leak_closes_whatever_came_from_it(gate: Gate) -> None:
    """Every token and share that it made, and those made; what others made stays open."""
    family = Family(gate)
    assert family.states() == ["ok"] * 4
    closed = gate.tokens.deactivate(
        family.root.token.id, leaked=True, reason="found in a log", by="security"
    )
    assert closed.deactivated
    assert family.states() == GONE
    assert states(gate, family.root.secret, family.other.secret, family.others_share.secret) == [
        "deactivated",
        "ok",
        "ok",
    ]
    child = gate.tokens.get(family.child.token.id)
    assert (child.deactivated_updated_by, child.deactivated_reason, child.version) == (
        "security",
        "found in a log",
        2,
    )
    with gate._store.reading() as reading:
        entries = reading._connection.exec_driver_sql(
            "SELECT actor, action, subject, details FROM faregate_feed WHERE details LIKE '%leaked%' ORDER BY sequence"
        ).fetchall()
    assert {entry[2] for entry in entries} == {
        family.child.token.id,
        family.grandchild.token.id,
        family.share.share.id,
    }
    assert all(entry[0] == "security" and family.root.token.id in entry[3] for entry in entries)


def test_a_leaked_secret_dies_at_once(gate: Gate) -> None:
    """Whatever grace was asked for, and whatever grace there was; the token itself goes on with a new one."""
    family = Family(gate)
    before = gate.verify(family.root.secret)
    graceful = gate.tokens.rotate("self", by=before).secret
    rotated = gate.tokens.rotate("self", grace=3600, leaked=True, by=before)
    assert states(gate, family.root.secret, graceful, rotated.secret) == [
        "unknown_credential",
        "unknown_credential",
        "ok",
    ]
    assert family.states() == GONE


def test_a_leak_takes_along_what_was_exchanged(gate: Gate) -> None:
    """Of the families in the line no access credential is left, so that an activation brings back none."""
    maker = gate.tokens.create(name="m", scopes=[WRITE])
    family = gate.tokens.create(name="s", type="REFRESH", by=gate.verify(maker.secret))
    other = gate.tokens.create(name="o", type="REFRESH")
    answer, apart = gate.tokens.exchange(family.secret), gate.tokens.exchange(other.secret)
    gate.tokens.deactivate(maker.token.id, leaked=True)
    assert states(gate, answer.access_token, apart.access_token) == ["unknown_credential", "ok"]
    renewed = gate.tokens.rotate(family.token.id, leaked=True)
    gate.tokens.activate(family.token.id)
    assert (
        reason_of(lambda: gate.tokens.exchange(str(answer.refresh_token))) == "unknown_credential"
    )
    again = gate.tokens.exchange(renewed.secret)
    assert states(gate, answer.access_token, again.access_token) == ["unknown_credential", "ok"]


def test_a_leak_is_followed_through_what_was_deleted(gate: Gate) -> None:
    """Who deletes the link in between hides nothing."""
    family = Family(gate)
    gate.tokens.delete(family.child.token.id, by=gate.verify(family.child.secret))
    gate.tokens.delete(family.grandchild.token.id, by=gate.verify(family.grandchild.secret))
    assert states(gate, family.share.secret) == ["ok"]
    gate.tokens.deactivate(family.root.token.id, leaked=True)
    assert family.states() == ["unknown_credential", "unknown_credential", "revoked", "revoked"]


def test_a_leak_that_is_told_late_counts(gate: Gate) -> None:
    """Of a token that is deactivated already, whatever it made is closed all the same, once."""
    family = Family(gate)
    gate.tokens.deactivate(family.root.token.id)
    assert family.states() == ["ok"] * 4
    gate.tokens.deactivate(family.root.token.id, leaked=True)
    assert family.states() == GONE
    entries = rows(gate, "feed")
    gate.tokens.deactivate(family.root.token.id, leaked=True)
    assert rows(gate, "feed") == entries


def test_what_a_leak_closed_an_admin_opens(gate: Gate) -> None:
    """A leak that the owner tells can be undone by the owner; one that an admin tells, by an admin alone."""
    family = Family(gate)
    owner = gate.verify(family.other.secret)
    gate.tokens.deactivate(family.root.token.id, leaked=True, by=owner)
    renewed = gate.tokens.rotate(family.child.token.id, leaked=True, by=owner)
    gate.tokens.activate(family.child.token.id, by=owner)
    assert states(gate, family.child.secret, renewed.secret) == ["unknown_credential", "ok"]
    gate.tokens.deactivate(family.root.token.id, leaked=True)
    for call in (gate.tokens.activate, partial(gate.tokens.rotate, leaked=True)):
        for one in (family.child, family.grandchild):
            assert (
                reason_of(lambda call=call, one=one: call(one.token.id, by=owner))
                == "insufficient_scope"
            )
    gate.tokens.rotate(family.grandchild.token.id, leaked=True)
    gate.tokens.activate(family.grandchild.token.id)
    assert family.states()[1] == "unknown_credential"


def test_what_leaked_opens_nothing_before_its_secret_is_replaced(gate: Gate) -> None:
    """Neither the token nor what came from it is activated, nor rotated as if nothing were; the leak's rotation comes first."""
    family = Family(gate)
    gate.tokens.deactivate(family.root.token.id, leaked=True)
    for one in (family.root, family.child, family.grandchild):
        assert gate.tokens.get(one.token.id).leaked
        for call in (gate.tokens.activate, gate.tokens.rotate):
            with pytest.raises(Conflict, match="leaked"):
                call(one.token.id)
        assert gate.tokens.activate_many([one.token.id]).failures
        renewed = gate.tokens.rotate(one.token.id, leaked=True)
        assert (renewed.token.deactivated, renewed.token.leaked) == (True, False)
        gate.tokens.activate(one.token.id)
        assert states(gate, one.secret, renewed.secret) == ["unknown_credential", "ok"]


def test_a_leak_ends_every_grace(gate: Gate) -> None:
    """Of the token, and of what came from it: nothing is left in it after a rotation and an activation."""
    family = Family(gate)
    for one in (family.root, family.child):
        gate.tokens.rotate(one.token.id, grace=3600)
    gate.tokens.deactivate(family.root.token.id, leaked=True)
    assert states(gate, family.root.secret, family.child.secret) == ["unknown_credential"] * 2
    for one in (family.root, family.child):
        gate.tokens.rotate(one.token.id, leaked=True)
        gate.tokens.activate(one.token.id)
    assert states(gate, family.root.secret, family.child.secret) == ["unknown_credential"] * 2


@pytest.mark.parametrize("kind", ["API", "REFRESH"])
def test_a_leak_is_followed_through_rotations(gate: Gate, kind: str) -> None:
    """What the leaked token rotated is closed, whoever made it and rotated it since, and so is what that made."""
    family = Family(gate)
    scopes = ["gate:tokens:*", "docs:read"]
    victim = gate.tokens.create(name="v", type=kind, scopes=scopes, owner=Owner("u1"))
    stolen = gate.tokens.rotate(victim.token.id, by=gate.verify(family.root.secret))
    secret = (
        gate.tokens.exchange(stolen.secret).access_token if kind == "REFRESH" else stolen.secret
    )
    made = gate.tokens.create(name="made by the thief", by=gate.verify(secret))
    gate.tokens.rotate(victim.token.id, grace=60 if kind == "API" else None)
    closed = gate.tokens.deactivate(family.root.token.id, leaked=True).closed
    assert closed is not None
    assert {victim.token.id, made.token.id} <= set(closed.tokens)
    assert states(gate, secret, made.secret)[1] == "deactivated"
    assert states(gate, secret)[0] != "ok"
    fresh = gate.tokens.rotate(victim.token.id, leaked=True)
    gate.tokens.activate(victim.token.id)
    assert states(gate, secret)[0] == "unknown_credential"
    gate.tokens.deactivate(family.root.token.id, leaked=True)
    if kind == "API":
        assert states(gate, fresh.secret) == ["ok"]


def test_a_rotation_is_followed_through_what_was_deleted(gate: Gate) -> None:
    """Whoever deletes what the thief rotated, or the token that leaked in between, hides nothing."""
    family = Family(gate)
    scopes = ["gate:tokens:*", "docs:read"]
    victim = gate.tokens.create(name="v", scopes=scopes, owner=Owner("u1"))
    stolen = gate.tokens.rotate(victim.token.id, by=gate.verify(family.child.secret))
    made = gate.tokens.create(name="m", by=gate.verify(stolen.secret))
    gate.tokens.delete(victim.token.id)
    gate.tokens.delete(family.child.token.id)
    assert gate.purge().makers == 0
    gate.tokens.deactivate(family.root.token.id, leaked=True)
    assert states(gate, made.secret) == ["deactivated"]
    gate.tokens.delete(made.token.id)
    gate.shares.revoke(family.share.share.id)
    gate.tokens.delete(family.grandchild.token.id)
    assert gate.purge().makers >= 1


def test_the_answer_to_a_leak_names_what_was_closed(gate: Gate) -> None:
    """Tokens and shares by their ids; what was closed before is not named again, and no other answer has that member."""
    family = Family(gate)
    gate.tokens.deactivate(family.grandchild.token.id)
    closed = gate.tokens.rotate(family.root.token.id, leaked=True).token.closed
    assert closed == Closed((family.child.token.id,), (family.share.share.id,))
    assert gate.tokens.get(family.grandchild.token.id).leaked
    assert gate.tokens.deactivate(family.root.token.id, leaked=True).closed == Closed()
    assert gate.tokens.deactivate(family.root.token.id).closed is None
    assert gate.tokens.get(family.root.token.id).closed is None


def test_a_leak_of_many_is_closed_in_one_go() -> None:
    """A thousand children, and one entry of the feed for each."""
    gate = Gate("sqlite://")
    maker = gate.tokens.create(name="maker", scopes=[WRITE])
    by = gate.verify(maker.secret)
    made = [gate.tokens.create(name=str(number), by=by) for number in range(1001)]
    before = rows(gate, "feed")
    gate.tokens.deactivate("self", leaked=True, by=by)
    assert rows(gate, "feed") == before + 1002
    assert set(states(gate, *(one.secret for one in made))) == {"deactivated"}


def test_leaked_is_true_or_false(gate: Gate) -> None:
    """Anything else is a mistake, and changes nothing."""
    token = gate.tokens.create(name="a").token
    for wrong in (1, "yes", None):
        with pytest.raises(InvalidInput, match="leaked"):
            gate.tokens.rotate(token.id, leaked=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="leaked"):
            gate.tokens.deactivate(token.id, leaked=wrong)  # type: ignore[arg-type]
    assert gate.tokens.get(token.id) == token


def test_who_does_not_reach_tells_of_no_leak(gate: Gate) -> None:
    """Another organization's admin finds nothing to close."""
    family = Family(gate)
    admin = gate.tokens.create(name="x", scopes=["gate:*"], owner=Owner("boss"), org=Org("other"))
    for call in (gate.tokens.deactivate, gate.tokens.rotate):
        with pytest.raises(NotFound):
            call(family.root.token.id, leaked=True, by=gate.verify(admin.secret))
    assert family.states() == ["ok"] * 4


def test_a_thief_who_tells_of_a_leak_hides_nothing(gate: Gate) -> None:
    """Whoever comes from a token keeps where its secret came from, with a rotation that calls it leaked, too."""
    scopes = ["gate:tokens:*", "docs:read"]
    leaked, one, other = (
        gate.tokens.create(name=name, scopes=scopes, owner=Owner("u1")) for name in "mab"
    )
    stolen = gate.tokens.rotate(one.token.id, by=gate.verify(leaked.secret))
    own = gate.tokens.rotate("self", leaked=True, by=gate.verify(stolen.secret))
    second = gate.tokens.rotate(other.token.id, by=gate.verify(own.secret))
    third = gate.tokens.rotate(one.token.id, leaked=True, by=gate.verify(second.secret))
    assert states(gate, second.secret, third.secret) == ["deactivated", "ok"]
    gate.tokens.deactivate(leaked.token.id, leaked=True)
    assert states(gate, third.secret) == ["deactivated"]

    gate.tokens.rotate(one.token.id, leaked=True)
    gate.tokens.activate(one.token.id)
    gate.tokens.rotate(leaked.token.id, leaked=True)
    assert not gate.tokens.get(one.token.id).deactivated


def test_a_leak_is_followed_from_what_is_gone(gate: Gate) -> None:
    """Whoever deletes the token that leaked hides nothing from root; others find nothing, and nothing is closed."""
    family = Family(gate)
    gate.tokens.delete("self", by=gate.verify(family.root.secret))
    admin = gate.verify(gate.tokens.create(name="x", scopes=["gate:*"], owner=Owner("boss")).secret)
    for call in (partial(gate.tokens.deactivate, by=admin), gate.tokens.rotate):
        with pytest.raises(NotFound):
            call(family.root.token.id, leaked=True)
    assert family.states() == ["ok"] * 4
    with pytest.raises(
        NotFound, match=f"closed: token {family.child.token.id}, .*share {family.share.share.id}"
    ):
        gate.tokens.deactivate(family.root.token.id, leaked=True, reason="late")
    assert family.states() == GONE
    gate.tokens.create(name="a", by="cli")
    for unknown in ("cli", "self", "", family.root.token.id):
        with pytest.raises(NotFound):
            gate.tokens.deactivate(unknown, leaked=True)
    assert states(gate, family.other.secret) == ["ok"]


def test_a_family_that_leaked_is_revoked_by_no_retry(gate: Gate) -> None:
    """Its credentials are all replaced before it opens again, so a client that repeats its exchange ends nothing."""
    family = gate.tokens.create(name="f", type="REFRESH", scopes=["a"])
    gate.tokens.exchange(family.secret)
    gate.tokens.deactivate(family.token.id, leaked=True)
    assert reason_of(lambda: gate.tokens.exchange(family.secret)) == "deactivated"
    gate.revoke(family.secret)
    renewed = gate.tokens.rotate(family.token.id, leaked=True)
    gate.tokens.activate(family.token.id)
    assert gate.tokens.exchange(renewed.secret).refresh_token
