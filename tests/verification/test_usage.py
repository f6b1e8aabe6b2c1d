"""Uses written behind: in batches, by a thread that ends with its gate, and never at a request's cost."""

from __future__ import annotations

import gc
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from faregate import Denied, Gate, Owner, StoreUnavailable
from faregate.stores.schema import tokens
from faregate.stores.store import Store
from faregate.stores.token_rows import TokenRows
from faregate.verification import usage
from faregate.verification.usage import Usage


def writers() -> set[threading.Thread]:
    """The threads that write uses; those of other tests may still be among them, or end meanwhile."""
    return {thread for thread in threading.enumerate() if thread.name == "faregate-usage"}


def wait_until(met: object) -> bool:
    """Whether a condition comes true within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if met():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def test_uses_are_written_after_a_while(tmp_path: Path) -> None:
    """By a thread, without being asked."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    gate._verifier._usage = often = Usage(gate._store, every=0.05)
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)
    assert wait_until(lambda: gate.tokens.get(issued.token.id).last_used_at is not None)
    often.close()
    gate.close()


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_the_end_of_a_process_is_quiet(tmp_path: Path, kind: str) -> None:
    """What is written at exit is written without a word."""
    store = "sqlite://" if kind == "memory" else f"sqlite:///{tmp_path / 'gate.db'}"
    script = "import sys; from faregate import Gate; g = Gate(sys.argv[1]); g.verify(g.tokens.create(name='a').secret)"
    ended = subprocess.run(
        [sys.executable, "-c", script, store], capture_output=True, text=True, check=True
    )
    assert ended.stdout + ended.stderr == ""


@pytest.mark.processes
@pytest.mark.parametrize("fork", ["os.fork", "ctypes.CDLL(None).fork"])
@pytest.mark.slow
def test_uses_are_written_after_a_fork(tmp_path: Path, fork: str) -> None:
    """A forked child starts its own thread for uses, even if its first request has an unknown credential."""
    script = f"""
import ctypes, os, sys, threading, time
from faregate import Denied, Gate
from faregate.stores import database
database.LOOK_EVERY = 0.2
gate = Gate(sys.argv[1])
secret = gate.tokens.create(name="a").secret
gate.verify(secret)
if {fork}() == 0:
    time.sleep(0.3)
    database.LOOK_EVERY = 60
    try:
        gate.verify("nobody's")
    except Denied:
        gate.verify(secret)
    running = [thread.name for thread in threading.enumerate() if thread is gate._usage._thread]
    os.write(1, str(running).encode())
    os._exit(0)
os.wait()
"""
    command = [sys.executable, "-W", "ignore", "-c", script, f"sqlite:///{tmp_path / 'gate.db'}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "['faregate-usage']", ended.stderr


def test_a_closed_gate_starts_no_thread_for_nobodys_credential(gate: Gate) -> None:
    """Nothing is at hand any more that could be noted."""
    secret = gate.tokens.create(name="a").secret
    gate.verify(secret)
    gate.close()
    with suppress(Denied):
        gate.verify("nobody's")
    assert gate._usage._thread is None
    gate.verify(secret)
    assert gate._usage._thread is not None


def test_the_thread_ends_with_its_gate(tmp_path: Path) -> None:
    """A gate that nobody holds any more leaves no thread, and what it noted is written."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    before = writers()
    gate = Gate(url)
    gate._verifier._usage = Usage(gate._store, every=0.05)
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)
    assert len(writers() - before) == 1
    del gate
    gc.collect()
    assert wait_until(lambda: writers() <= before)
    again = Gate(url)
    assert again.tokens.get(issued.token.id).last_used_at is not None
    again.close()


def test_a_gate_that_verifies_nothing_starts_no_thread() -> None:
    """Nothing runs that is not needed."""
    before = writers()
    gate = Gate("sqlite://")
    gate.tokens.create(name="a")
    assert writers() <= before


def test_a_failure_to_write_is_kept_for_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No request notices; the note waits, unless a newer one came."""
    gate = Gate("sqlite://")
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)

    def refuse(_: Store, **__: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(Store, "changing", refuse)
        gate._usage.flush()
        gate.verify(issued.secret)
    assert "trying again" in caplog.text
    assert gate.tokens.get(issued.token.id).last_used_at is None
    gate._usage.flush()
    assert gate.tokens.get(issued.token.id).last_used_at is not None


def test_without_a_thread_requests_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may start no more threads verifies all the same, and writes when it can."""
    gate = Gate("sqlite://")
    issued = gate.tokens.create(name="a")

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", refuse)
        gate.verify(issued.secret)
    before = writers()
    gate._records.look_at = 0.0  # as it is a second later
    gate.verify(issued.secret)
    assert len(writers() - before) == 1
    gate.close()


def many(gate: Gate, count: int) -> list[str]:
    """The ids of so many tokens, copied from one."""
    issued = gate.tokens.create(name="a")
    with gate._store.changing() as change:
        names = ", ".join(column.name for column in tokens.columns)
        rest = ", ".join(
            "printf('%s-%05d', id, :n)" if name == "id" else name for name in names.split(", ")
        )
        statement = text(
            f"INSERT INTO faregate_tokens ({names}) SELECT {rest} FROM faregate_tokens WHERE id = :id"
        )
        change._connection.execute(
            statement, [{"n": n, "id": issued.token.id} for n in range(count)]
        )
    return [f"{issued.token.id}-{n:05}" for n in range(count)]


def written(gate: Gate) -> dict[str, float]:
    """When the tokens were used last, those that were."""
    with gate._store.reading() as reading:
        found = reading._connection.execute(text("SELECT id, last_used_at FROM faregate_tokens"))
        return {token_id: at for token_id, at in found if at is not None}


def test_many_uses_are_written_in_short_transactions(tmp_path: Path) -> None:
    """Twelve hundred tokens, three transactions of one statement each, by id; the lock is free in between."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    ids = many(gate, 1200)
    gate._usage.notes.update(dict.fromkeys(reversed(ids), 5.0))
    seen: list[tuple[str, Any, bool]] = []

    def watch(
        connection: Any,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        seen.append((statement.split(maxsplit=1)[0], parameters, executemany))

    engine = gate._store._open()
    event.listen(engine, "before_cursor_execute", watch)
    commits: list[Any] = []
    event.listen(engine, "commit", commits.append)
    gate.flush()
    updates = [
        (parameters, executemany) for word, parameters, executemany in seen if word == "UPDATE"
    ]
    assert len(commits) == 3
    assert [(len(parameters), executemany) for parameters, executemany in updates] == [
        (500, True),
        (500, True),
        (200, True),
    ]
    assert written(gate) == dict.fromkeys(ids, 5.0)
    assert not gate._usage.notes
    gate.close()


def test_a_use_moves_forward_only_and_moves_nothing_else() -> None:
    """An earlier one, of a slower process, changes nothing; no column but one is written; a deleted token is no error."""
    gate = Gate("sqlite://")
    first, second = many(gate, 2)
    gate._usage.notes.update({first: 5.0, second: 5.0})
    gate.flush()
    gate.tokens.deactivate(first)
    before = gate.tokens.get(first)
    gate._usage.notes.update({first: 4.0, second: 6.0, "gone": 7.0})
    gate.flush()
    assert written(gate) == {first: 5.0, second: 6.0}
    assert gate.tokens.get(first) == before
    assert not gate._usage.notes


@pytest.mark.parametrize(
    "failure", [MemoryError, KeyboardInterrupt, SystemExit, TypeError, StoreUnavailable]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_batch_that_fails_by_anything_stays_noted(
    monkeypatch: pytest.MonkeyPatch, failure: type[BaseException], when: str
) -> None:
    """The batches before it are written, it and those after it wait, and what was noted meanwhile counts."""
    gate = Gate("sqlite://")
    ids = many(gate, 1200)
    gate._usage.notes.update(dict.fromkeys(ids, 5.0))
    note_uses = TokenRows.note_uses
    calls = []

    def fail(rows: TokenRows, uses: Any) -> None:
        calls.append(uses)
        if len(calls) == 2:
            gate._usage.notes[ids[500]] = 6.0  # used again, meanwhile
            if when == "after":
                note_uses(rows, uses)
            raise failure
        note_uses(rows, uses)

    with monkeypatch.context() as broken:
        broken.setattr(TokenRows, "note_uses", fail)
        with suppress(BaseException):
            gate.flush()
    assert written(gate) == dict.fromkeys(ids[:500], 5.0)
    assert gate._usage.notes == {ids[500]: 6.0, **dict.fromkeys(ids[501:], 5.0)}
    gate.flush()
    assert written(gate) == {**dict.fromkeys(ids, 5.0), ids[500]: 6.0}


def test_what_is_used_again_while_it_is_written_is_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A newer note outlives the batch that wrote the older one."""
    gate = Gate("sqlite://")
    (only,) = many(gate, 1)
    gate._usage.notes[only] = 5.0
    note_uses = TokenRows.note_uses

    def used_again(rows: TokenRows, uses: Any) -> None:
        note_uses(rows, uses)
        gate._usage.notes[only] = 6.0

    with monkeypatch.context() as slow:
        slow.setattr(TokenRows, "note_uses", used_again)
        gate.flush()
    assert gate._usage.notes == {only: 6.0}
    gate.flush()
    assert written(gate) == {only: 6.0}


def test_others_write_between_the_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another thread, and another process, need not wait for the last batch."""
    gate, other = (Gate(f"sqlite:///{tmp_path / 'gate.db'}") for _ in range(2))
    gate._usage.notes.update(dict.fromkeys(many(gate, 10_000), 5.0))
    left: list[int] = []
    begun = threading.Event()
    note_uses = TokenRows.note_uses

    def telling(rows: TokenRows, uses: Any) -> None:
        begun.set()
        note_uses(rows, uses)

    def write(by: Gate) -> None:
        begun.wait(10)
        by.owner_changed(Owner("ann"))
        left.append(len(gate._usage.notes))

    monkeypatch.setattr(TokenRows, "note_uses", telling)
    threads = [threading.Thread(target=write, args=(by,)) for by in (gate, other)]
    for thread in threads:
        thread.start()
    gate._usage.write_behind()
    for thread in threads:
        thread.join()
    assert all(left), left
    gate.close()
    other.close()


END = """
import sys
from faregate import Gate
gate = Gate(sys.argv[1])
for number in range(1200):
    gate._usage.notes[f"id{number}"] = 1.0
gate.verify(sys.argv[2])
"""


@pytest.mark.processes
@pytest.mark.slow
def test_a_process_ends_though_the_database_is_locked(tmp_path: Path) -> None:
    """It gives the uses up after one short wait, and says so."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(url)
    issued = gate.tokens.create(name="a")
    holder = sqlite3.connect(tmp_path / "gate.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", END, url, issued.secret], capture_output=True, text=True, check=True
    )
    assert time.monotonic() - began < 13  # the wait of any other writer is 15 seconds
    assert ended.stderr.count("trying again later") == 1
    holder.close()
    gate.close()


@pytest.mark.processes
@pytest.mark.slow
def test_a_process_ends_though_the_database_is_gone(tmp_path: Path) -> None:
    """Nothing is made anew where it was."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(url)
    issued = gate.tokens.create(name="a")
    script = END + "import pathlib; pathlib.Path(sys.argv[1].removeprefix('sqlite:///')).unlink()"
    ended = subprocess.run(
        [sys.executable, "-c", script, url, issued.secret],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr.count("trying again later") == 1
    assert not (tmp_path / "gate.db").exists()


def test_writing_ends_in_time_for_who_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a store is slow the rest waits for the next time, or is given up."""
    gate = Gate("sqlite://")
    ids = many(gate, 1200)
    gate._usage.notes.update(dict.fromkeys(ids, 5.0))
    with monkeypatch.context() as slow:
        slow.setattr(usage, "_AT_MOST", 0.0)
        gate.flush()
    assert "of 700 tokens wait" in caplog.text or "of 1200 tokens wait" in caplog.text
    gate.flush()
    assert len(written(gate)) == 1200


UNCLOSED = """
import atexit, gc, sqlite3, sys


class Watched(sqlite3.Connection):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        opened.add(id(self))

    def close(self):
        opened.discard(id(self))
        super().close()

    def __del__(self):
        if id(self) in opened:
            print("dropped, and not closed")
            opened.discard(id(self))


opened, connect = set(), sqlite3.connect
sqlite3.connect = lambda *arguments, factory=sqlite3.Connection, **options: connect(
    *arguments, factory=type("Watched", (Watched, factory), {}), **options
)
atexit.register(lambda: print(f"{len(opened)} not closed"))

from faregate import Gate

gate = Gate(sys.argv[1])
issued = gate.tokens.create(name="a")
gate.verify(issued.secret)
gate.tokens.list()
"""


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["memory", "file"])
@pytest.mark.parametrize(
    "end",
    ["", "gate.close()", "gate.close(); gate.verify(issued.secret)", "del gate; gc.collect()"],
)
def test_no_connection_is_left_unclosed(tmp_path: Path, kind: str, end: str) -> None:
    """Closed, dropped, or open at exit with uses to write: each connection is closed, as Python 3.13 wants it."""
    store = "sqlite://" if kind == "memory" else f"sqlite:///{tmp_path / 'gate.db'}"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", UNCLOSED + end, store]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout + ended.stderr == "0 not closed\n"
