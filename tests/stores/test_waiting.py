"""Waiting for a database that another process holds: nobody waits longer than that takes, and nobody in vain."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import reason_of

from faregate import Conflict, Gate, NotFound, StoreUnavailable
from faregate.credentials.opaque import mint
from faregate.stores import record_cache
from faregate.values import forks

pytestmark = pytest.mark.processes

Make = Callable[..., Gate]

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "EXCLUSIVE":  # readers are locked out where there is no write-ahead log
    connection.execute("PRAGMA journal_mode = DELETE").fetchall()
connection.execute(f"BEGIN {sys.argv[2]}")
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def held(path: Path, how: str) -> Iterator[Callable[[], None]]:
    """Have another process hold the database; what is yielded makes it let go."""
    command = [sys.executable, "-c", HOLDER, str(path), how]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"

        def release() -> None:
            process.communicate("\n")

        try:
            yield release
        finally:
            process.kill()


def in_child(work: Callable[[], bool]) -> bool:
    """Fork, do the work in the child, and tell whether it came out right within 40 seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(40)
        try:
            os._exit(0 if work() else 1)
        except BaseException:  # noqa: BLE001  nothing of the test run may go on in the child
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


class Waiting:
    """A call in a thread of its own, which waits for the database."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.outcome: Any = None
        self._call = call
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        time.sleep(0.3)
        assert self.thread.is_alive()

    def _run(self) -> None:
        try:
            self.outcome = self._call()
        except StoreUnavailable as error:
            self.outcome = error

    def result(self) -> Any:
        """What came of it."""
        self.thread.join(30)
        return self.outcome


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a database."""
    return tmp_path / "gate.db"


def test_a_fork_waits_for_nobody_who_waits(path: Path, make_gate: Make) -> None:
    """It passes while a thread waits for another process; requests pass, too, and the thread has its answer in the end."""
    gate = make_gate(f"sqlite:///{path}")
    secret = gate.tokens.create(name="a").secret
    with held(path, "IMMEDIATE") as release:
        waiting = Waiting(lambda: gate.tokens.create(name="b").token.name)
        assert in_child(lambda: reason_of(lambda: gate.verify(secret)) == "ok")
        assert waiting.thread.is_alive()
        assert reason_of(lambda: gate.verify(secret)) == "ok"
        release()
        assert waiting.result() == "b"


def test_a_list_waits_without_hindering_a_fork(path: Path, make_gate: Make) -> None:
    """Where there is no write-ahead log, whoever writes keeps readers out."""
    gate = make_gate(f"sqlite:///{path}")
    gate.tokens.create(name="a")
    gate.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    connection.close()
    gate.tokens.list()
    with held(path, "EXCLUSIVE") as release:
        waiting = Waiting(lambda: [one.name for one in gate.tokens.list().items])
        assert in_child(lambda: True)
        assert waiting.thread.is_alive()
        release()
        assert waiting.result() == ["a"]


@pytest.mark.parametrize("state", ["new", "without its page"])
def test_a_gate_that_is_being_made_hinders_no_fork(path: Path, make_gate: Make, state: str) -> None:
    """Nor a request of another gate. When the database is free again, the new one works."""
    other = make_gate("sqlite://")
    secret = other.tokens.create(name="a").secret
    if state == "new":
        path.touch(0o600)
    else:
        make_gate(f"sqlite:///{path}").close()
    if state == "without its page":
        Path(f"{path}-page").unlink()
    with held(path, "IMMEDIATE") as release:
        waiting = Waiting(lambda: make_gate(f"sqlite:///{path}").tokens.create(name="b").token.name)
        assert in_child(lambda: reason_of(lambda: other.verify(secret)) == "ok")
        assert waiting.thread.is_alive()
        release()
        assert waiting.result() == "b"


def test_a_fork_that_waits_for_a_change_hinders_no_reader(path: Path, make_gate: Make) -> None:
    """Requests are judged and lists are read until the change is done, of its own gate and of others."""
    gate, other = make_gate(f"sqlite:///{path}"), make_gate("sqlite://")
    secrets = [(one, one.tokens.create(name="a").secret) for one in (gate, other) for _ in range(2)]
    begun, go = threading.Event(), threading.Event()

    def change() -> None:
        with gate._store.changing():
            begun.set()
            go.wait(30)

    changing = threading.Thread(target=change)
    changing.start()
    begun.wait()
    forked = threading.Thread(target=lambda: in_child(lambda: True))
    forked.start()
    time.sleep(0.3)
    assert forked.is_alive()
    for one, secret in secrets:
        one.verify(secret)
    assert len(gate.tokens.list().items) == 2
    assert not go.is_set()
    go.set()
    changing.join(30)
    forked.join(30)
    assert not forked.is_alive()


def test_stores_are_held_before_what_requests_need() -> None:
    """So whoever waits for a transaction to end keeps no request of another gate waiting."""
    gates = [Gate("sqlite://") for _ in range(3)]
    order = [*forks._slow, *forks._quick]
    stores = [order.index(gate._store) for gate in gates]
    others = [order.index(thing) for gate in gates for thing in (gate._records, gate._usage)]
    assert max(stores) < min(others)
    assert stores == sorted(stores)


def test_threads_that_are_locked_out_are_told_together(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one thread waits for the lock, the others share its result instead of waiting in turn."""
    gate = make_gate(f"sqlite:///{path}")
    gate.close()
    asked: list[int] = []
    repeated = record_cache._repeated

    def counted(database: Any, step: Any, *, wait: bool) -> Any:
        asked.append(1)
        return repeated(database, step, wait=wait)

    monkeypatch.setattr(record_cache, "_repeated", counted)
    barrier = threading.Barrier(40)
    told: list[str] = []

    def ask() -> None:
        secret = mint("fg", "tok")
        barrier.wait()
        told.append(reason_of(lambda: gate.verify(secret)))

    with held(path, "EXCLUSIVE"):
        threads = [threading.Thread(target=ask) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert told == ["store_unavailable"] * 40
    assert len(asked) < 10


def test_who_waits_for_a_look_up_that_succeeds_is_not_refused(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes."""
    gate = make_gate(f"sqlite:///{path}")
    secrets = [gate.tokens.create(name="a").secret for _ in range(20)]
    repeated = record_cache._repeated

    def slow(database: Any, step: Any, *, wait: bool) -> Any:
        time.sleep(0.02)
        return repeated(database, step, wait=wait)

    monkeypatch.setattr(record_cache, "_repeated", slow)
    told: list[str] = []

    def use(secret: str) -> None:
        told.append(reason_of(lambda: gate.verify(secret)))

    threads = [threading.Thread(target=use, args=(secret,)) for secret in secrets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == ["ok"] * 20


def test_writers_that_wait_give_up_together(path: Path, make_gate: Make) -> None:
    """Each at the end of its own time, and not when those before it have given up."""
    gate = make_gate(f"sqlite:///{path}")
    told: list[type[BaseException]] = []

    def write() -> None:
        try:
            with gate._store.changing(0.5):
                pass
        except StoreUnavailable as error:
            told.append(type(error))

    with held(path, "IMMEDIATE"):
        began = time.monotonic()
        threads = [threading.Thread(target=write) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
    assert told == [StoreUnavailable] * 40
    assert took < 10  # one after the other they would take 20 seconds


def test_a_new_secret_is_presented_without_waiting(path: Path, make_gate: Make) -> None:
    """Though its presentation cannot be written: it is remembered, so that the old secret rotates nothing any more."""
    gate = make_gate(f"sqlite:///{path}")
    old = gate.tokens.create(name="a")
    before = gate.verify(old.secret)
    new = gate.tokens.rotate("self", by=before)
    with held(path, "IMMEDIATE") as release:
        began = time.monotonic()
        assert [reason_of(lambda: gate.verify(new.secret)) for _ in range(20)] == ["ok"] * 20
        assert (
            time.monotonic() - began < 10
        )  # waiting for the lock each time would take five minutes
        release()
    with pytest.raises(NotFound):
        gate.tokens.delete("nothing")
    assert gate._store.presented  # what was rolled back has noted nothing
    with pytest.raises(Conflict):
        gate.tokens.rotate("self", by=before)
    gate.tokens.create(name="b")
    assert not gate._store.presented
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM faregate_unseen").fetchone() == (0,)
    connection.close()


def test_a_new_secret_is_presented_without_waiting_for_readers(path: Path, make_gate: Make) -> None:
    """Who deleted the page has the next writer wait for them: one that has the time."""
    gate = make_gate(f"sqlite:///{path}")
    old = gate.tokens.create(name="a")
    new = gate.tokens.rotate("self", by=gate.verify(old.secret))
    Path(f"{path}-page").unlink()
    for _ in range(3):
        gate.verify(new.secret)
    assert gate._store.presented
    gate.flush()  # the last use
    assert not gate._store.presented
