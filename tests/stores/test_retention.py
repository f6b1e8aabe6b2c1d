"""What a purge removes, what stays, and what other processes make of it."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock, reason_of

from faregate import Gate, InvalidInput, Org, Owner, Purged
from faregate.lifecycles.purge import _BATCH

HOUR = 3600.0


def sequences(gate: Gate) -> list[int]:
    """Those that are left."""
    return [one.sequence for one in gate.audit(0, limit=1000).items]


def count(gate: Gate, table: str) -> int:
    """How many rows a table has."""
    with gate._store.reading() as reading:
        return int(
            reading._connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
        )


def test_old_entries_go_and_no_gap_is_left(gate: Gate, clock: Clock) -> None:
    """Those before the span, oldest first; the purge is an entry itself, with what it did."""
    for number in range(6):
        gate.tokens.create(name=f"t{number}")
        clock.now += HOUR
    assert gate.purge(timedelta(hours=2.5), by="keeper") == Purged(entries=4)
    assert sequences(gate) == [5, 6, 7]
    entry = gate.audit().items[-1]
    assert (entry.actor, entry.action, entry.subject, entry.org_id) == (
        "keeper",
        "store.purge",
        "store",
        None,
    )
    assert entry.details == {"entries": 4, "secrets": 0, "makers": 0, "revocations": 0, "access": 0}
    assert gate.purge(timedelta(hours=2.5)) == Purged()
    assert sequences(gate) == [5, 6, 7]
    assert gate.tokens.list().total == 6


def test_an_entry_at_the_very_instant_stays(gate: Gate, clock: Clock) -> None:
    """What is exactly as old as what is kept is kept."""
    gate.tokens.create(name="a")
    clock.now += HOUR
    gate.tokens.create(name="b")
    clock.now += HOUR
    gate.tokens.create(name="c")
    assert gate.purge(HOUR).entries == 1
    assert sequences(gate) == [2, 3, 4]


def test_the_newest_entry_always_stays(gate: Gate, clock: Clock) -> None:
    """Else a process could not tell an empty feed from one that was purged."""
    assert gate.purge(0) == Purged()
    assert sequences(gate) == []
    gate.tokens.create(name="a")
    clock.now += 1000 * 86_400
    assert gate.purge(0) == Purged()
    assert sequences(gate) == [1]
    gate.tokens.create(name="b")
    clock.now += 1000 * 86_400
    assert gate.purge().entries == 1
    assert sequences(gate) == [2, 3]


def test_a_clock_that_jumped_leaves_no_gap(gate: Gate, clock: Clock) -> None:
    """An old instant behind a young one stays: what is kept begins with the first that is young."""
    for hours in (10, 0, 1, 9, 12):
        clock.now = 1_000_000 + hours * HOUR
        gate.tokens.create(name="a")
    assert gate.purge(5 * HOUR) == Purged()
    clock.now += 4 * HOUR
    assert gate.purge(5 * HOUR).entries == 4
    assert sequences(gate) == [5, 6]


def test_a_year_is_kept_by_default(gate: Gate, clock: Clock) -> None:
    """Longer than the longest that anybody would ask about lightly."""
    gate.tokens.create(name="a")
    clock.now += 364 * 86_400
    gate.tokens.create(name="b")
    assert gate.purge() == Purged()
    clock.now += 2 * 86_400
    assert gate.purge().entries == 1


def test_secrets_past_their_grace_go(gate: Gate, clock: Clock) -> None:
    """And no other: neither those in their grace, nor current ones."""
    tokens = [gate.tokens.create(name=f"t{number}") for number in range(3)]
    spans = (10.0, 100.0, 0.0)
    fresh = [
        gate.tokens.rotate(one.token.id, grace=span)
        for one, span in zip(tokens, spans, strict=True)
    ]
    assert count(gate, "faregate_secrets") == 5
    clock.now += 10
    assert gate.purge().secrets == 1
    assert count(gate, "faregate_secrets") == 4
    assert [reason_of(lambda one=one: gate.verify(one.secret)) for one in tokens] == [
        "unknown_credential",
        "ok",
        "unknown_credential",
    ]
    assert [gate.verify(one.secret).id for one in fresh] == [one.token.id for one in tokens]


def test_dead_access_credentials_go(gate: Gate, clock: Clock) -> None:
    """Purge deletes access credentials from the microsecond of their end on. Until the purge they are refused as expired; live ones stay."""
    family = gate.tokens.create(name="s", type="REFRESH", expires_in=7200)
    first = gate.tokens.exchange(family.secret)
    clock.now += 900
    second = gate.tokens.exchange(str(first.refresh_token))
    clock.now += 900 - 0.000_001
    assert gate.purge().access == 0
    clock.now += 0.000_001
    assert reason_of(lambda: gate.verify(first.access_token)) == "expired"
    assert gate.purge().access == 1
    assert reason_of(lambda: gate.verify(second.access_token)) == "ok"
    assert not gate.introspect(first.access_token).active
    assert gate.tokens.exchange(str(second.refresh_token)).refresh_token


def test_traces_of_deleted_makers_go_with_the_last_that_they_made(gate: Gate, clock: Clock) -> None:
    """As long as something is left, a leak can be followed through what is gone."""

    def child(secret: str) -> Any:
        return gate.tokens.create(name="x", by=gate.verify(secret))

    top = gate.tokens.create(name="x", scopes=["gate:*"], owner=Owner("u"), org=Org("o"))
    middle = gate.tokens.create(name="x", scopes=["gate:*"], by=gate.verify(top.secret))
    low = gate.tokens.create(name="x", scopes=["gate:*"], by=gate.verify(middle.secret))
    leaf = child(low.secret)
    for one in (middle, low):
        gate.tokens.delete(one.token.id)
    assert (gate.purge().makers, count(gate, "faregate_descent")) == (0, 2)
    gate.tokens.deactivate(top.token.id, leaked=True)
    assert reason_of(lambda: gate.verify(leaf.secret)) == "deactivated"
    gate.tokens.delete(leaf.token.id)
    assert gate.purge().makers == 2
    assert count(gate, "faregate_descent") == 0


def test_a_trace_stays_for_a_share_that_is_left(gate: Gate) -> None:
    """Until that is closed by the leak, it can be found."""
    top = gate.tokens.create(name="x", scopes=["gate:*", "a"], owner=Owner("u"))
    middle = gate.tokens.create(name="x", scopes=["gate:*", "a"], by=gate.verify(top.secret))
    share = gate.shares.create("o", scopes=["a"], expires_in=60, by=gate.verify(middle.secret))
    gate.tokens.delete(middle.token.id)
    assert gate.purge().makers == 0
    gate.tokens.deactivate(top.token.id, leaked=True)
    assert reason_of(lambda: gate.verify(share.secret)) == "revoked"


def test_more_than_fits_into_one_transaction(gate: Gate, clock: Clock) -> None:
    """All of it goes, some at a time, so that nobody waits long for the write lock."""
    issued = gate.tokens.create(name="a")
    with gate._store.changing() as change:
        change._connection.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO faregate_feed (sequence, at, actor, action, subject, org_id, details) SELECT i, 5.0, 'x', 'token.update', 'y', NULL, '{}' FROM n",
            (2 * _BATCH + 10,),
        )
        change._connection.exec_driver_sql(
            "UPDATE faregate_sequence SET value = ?", (2 * _BATCH + 10,)
        )
    gate.verify(issued.secret)
    clock.now += 366 * 86_400
    assert gate.purge().entries == 2 * _BATCH + 9
    assert sequences(gate)[0] == 2 * _BATCH + 10


@pytest.mark.parametrize("keep", [-1, "1d", None, float("nan"), True])
def test_a_span_that_is_none_is_refused(gate: Gate, keep: Any) -> None:
    """And nothing is removed; nor may a principal purge."""
    issued = gate.tokens.create(name="a", scopes=["*"])
    with pytest.raises(InvalidInput, match="keep"):
        gate.purge(keep)
    with pytest.raises(InvalidInput, match="by"):
        gate.purge(0, by=gate.verify(issued.secret))  # type: ignore[arg-type]
    assert sequences(gate) == [1]


BEHIND = """
import sys
from faregate import Denied, Gate

gate = Gate(sys.argv[1])
for line in sys.stdin:
    try:
        found = gate.verify(line.strip())
        print("ok", len(gate._records._records.by_digest), gate._records.applied, flush=True)
    except Denied as denied:
        print(denied.reason, len(gate._records._records.by_digest), gate._records.applied, flush=True)
"""


@pytest.mark.processes
def test_a_process_behind_the_oldest_entry_drops_its_cache(tmp_path: Path) -> None:
    """What it did not read is gone, so nothing that it holds can be trusted: the closed token stays closed."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)
    good, bad = gate.tokens.create(name="good"), gate.tokens.create(name="bad")
    with subprocess.Popen(
        [sys.executable, "-c", BEHIND, store],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(secret: str) -> list[str]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(secret + "\n")
            process.stdin.flush()
            return process.stdout.readline().split()

        assert ask(good.secret) == ["ok", "1", "2"]
        assert ask(bad.secret) == ["ok", "2", "2"]
        gate.tokens.deactivate(bad.token.id)
        gate.tokens.update(good.token.id, description="d")
        assert (
            gate.purge(0).entries == 3
        )  # all but the newest: what it applied last is no longer there
        assert ask(bad.secret)[0] == "deactivated"
        assert ask(good.secret)[0] == "ok"
        assert int(ask(good.secret)[2]) == gate.audit().items[-1].sequence == 5
        process.stdin.close()
        assert process.wait(10) == 0
    gate.close()


@pytest.mark.processes
@pytest.mark.slow
def test_a_purge_while_others_write(tmp_path: Path) -> None:
    """Nothing that is acknowledged meanwhile is lost, and the feed has no gap."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)
    script = "import sys\nfrom faregate import Gate\ngate = Gate(sys.argv[1])\nfor n in range(150):\n    gate.tokens.create(name=f't{n}')\n"
    with subprocess.Popen([sys.executable, "-c", script, store]) as process:
        while process.poll() is None:
            gate.purge(0)
        assert process.returncode == 0
    assert gate.tokens.list(limit=1).total == 150
    left = sequences(gate)
    assert left == list(range(left[0], left[-1] + 1))
    gate.close()
