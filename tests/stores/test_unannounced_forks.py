"""Forks in C, as uWSGI's, of which none of Python's hooks hears: a child notices by itself that it is one."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import reason_of
from unhooked_fork import forked, in_child

from faregate import AllowedScopes, Gate, Owner, StoreUnavailable
from faregate.client.token_file import TokenFile
from faregate.values import forks

pytestmark = pytest.mark.processes


def holds(met: Callable[[], bool]) -> bool:
    """Whether a condition comes true within twenty seconds."""
    deadline = time.monotonic() + 20
    while not met():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_child_works(tmp_path: Path, kind: str) -> None:
    """A gate that was used before answers in the child, and sees what either side of a file changes."""
    gate = Gate("sqlite://" if kind == "memory" else f"sqlite:///{tmp_path / 'gate.db'}")
    one, two = gate.tokens.create(name="one"), gate.tokens.create(name="two")
    gate.verify(one.secret)

    def work() -> bool:
        before = reason_of(lambda: gate.verify(one.secret))
        gate.tokens.deactivate(one.token.id)
        return (before, reason_of(lambda: gate.verify(one.secret))) == ("ok", "deactivated")

    assert in_child(work)
    assert reason_of(lambda: gate.verify(one.secret)) == (
        "ok" if kind == "memory" else "deactivated"
    )
    gate.tokens.deactivate(two.token.id)
    assert in_child(lambda: reason_of(lambda: gate.verify(two.secret)) == "deactivated")
    gate.close()


def test_a_child_uses_no_connection_of_its_parent(tmp_path: Path) -> None:
    """Beside one that was inherited it would hold no lock that others see, who would remove the log under its hands."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    one, two = gate.tokens.create(name="one"), gate.tokens.create(name="two")
    gate.verify(one.secret)
    assert gate.tokens.list().total == 2  # so that all connections are open
    opened, tell_opened = os.pipe()
    closed, tell_closed = os.pipe()

    def work() -> bool:
        gate.verify(two.secret)
        gate.tokens.create(name="three")
        os.write(tell_opened, b".")
        os.read(closed, 1)
        gate.tokens.create(name="four")
        return reason_of(lambda: gate.verify(two.secret)) == "ok"

    child = forked(work)
    os.read(opened, 1)
    gate.close()  # the last one to close removes the log
    os.write(tell_closed, b".")
    assert os.waitpid(child, 0)[1] == 0
    assert gate.tokens.list().total == 4
    gate.close()


def test_locks_that_are_held_stay_the_parents(tmp_path: Path) -> None:
    """A thread of the parent is in the middle of a change, and holds every lock there is, when the process forks."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    issued, other = gate.tokens.create(name="a"), gate.tokens.create(name="b")
    gate.verify(issued.secret)
    inside, go = threading.Event(), threading.Event()
    things = [*forks._slow, *forks._quick]

    def change() -> None:
        with gate._store.changing():
            for thing in things:
                thing.hold()
            inside.set()
            go.wait(60)
            for thing in things:
                thing.after_fork(child=False)

    thread = threading.Thread(target=change)
    thread.start()
    assert inside.wait(30)
    right = in_child(lambda: reason_of(lambda: gate.verify(other.secret)) == "ok")
    go.set()
    thread.join()
    assert right
    gate.tokens.deactivate(issued.token.id)
    assert reason_of(lambda: gate.verify(issued.secret)) == "deactivated"
    gate.close()


def test_a_child_writes_last_uses(tmp_path: Path) -> None:
    """By a thread of its own, though there was one before; the parent's goes on."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    one, two = gate.tokens.create(name="one"), gate.tokens.create(name="two")
    gate.verify(one.secret)
    before = gate._usage._thread

    def work() -> bool:
        gate._usage._every = (
            0.05  # seconds; in the child alone, as its parent's thread must sleep while it forks
        )
        gate.verify(two.secret)  # which no cache knows
        return holds(lambda: gate.tokens.get(two.token.id).last_used_at is not None)

    assert in_child(work)
    assert before is not None
    assert gate._usage._thread is before
    assert before.is_alive()
    gate.close()
    assert gate.tokens.get(one.token.id).last_used_at is not None
    gate.close()


def test_a_child_misses_its_thread_on_hits_alone(tmp_path: Path) -> None:
    """Soon, without a look on each of them: with the first that looks at the files."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)
    before = gate._usage._thread

    def work() -> bool:
        return holds(
            lambda: gate.verify(issued.secret) is not None and gate._usage._thread is not before
        )

    assert before is not None
    assert in_child(work)
    gate.close()


def test_a_child_lets_go_of_a_clients_file(tmp_path: Path) -> None:
    """A lock that was the parent's is not held by the child, which gets a lock of its own."""
    file = TokenFile(tmp_path / "credential")

    def work() -> bool:
        os.read(asked, 1)
        with file.locked():
            return True

    asked, told = os.pipe()
    with file.locked():
        child = forked(work)
    os.write(told, b".")
    assert os.waitpid(child, 0)[1] == 0


def test_a_hook_after_a_fork_alone_is_no_failure(tmp_path: Path) -> None:
    """As uWSGI runs it with ``py-call-osafterfork``: the child is as good as any."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)

    def work() -> bool:
        forks._after(child=True)
        return reason_of(lambda: gate.verify(issued.secret)) == "ok"

    assert in_child(work)
    gate.close()


@pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="CPython itself ends a process that runs these hooks alone"
)
def test_no_hook_after_a_fork_complains(tmp_path: Path) -> None:
    """As a server runs all of them that forks in C, and none before."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    issued = gate.tokens.create(name="a")

    def work() -> bool:
        complaints: list[object] = []
        sys.unraisablehook = complaints.append
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return reason_of(lambda: gate.verify(issued.secret)) == "ok" and not complaints

    assert in_child(work)
    gate.close()


def test_a_child_asks_for_an_owners_rights(tmp_path: Path) -> None:
    """Though a thread of the parent was about to keep an answer, and the record is at hand without a look."""
    rights = AllowedScopes(general_scopes=("docs:read",))
    gate = Gate(
        f"sqlite:///{tmp_path / 'gate.db'}", owner_rights=lambda _: rights, owner_rights_ttl=0
    )
    issued = gate.tokens.create(name="a", owner=Owner("alice"), scopes=["docs:read"])
    gate.verify(issued.secret)
    gate._records.look_at = time.monotonic() + 60
    with gate._records._owner_rights.lock:
        child = forked(lambda: reason_of(lambda: gate.verify(issued.secret)) == "ok")
        assert os.waitpid(child, 0)[1] == 0
    gate.close()


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_profiler_of_locks_changes_none(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It replaces the kind of lock in the middle of a change, and the change is as alone as before."""
    gate = Gate("sqlite://" if kind == "memory" else f"sqlite:///{tmp_path / 'gate.db'}")
    found: list[str] = []

    def other() -> None:
        try:
            with gate._store.changing(waits=0.1):
                found.append("changed")
        except StoreUnavailable as error:
            found.append(repr(error.__cause__))

    thread = threading.Thread(target=other)
    with gate._store.changing():
        monkeypatch.setattr(threading, "Lock", partial(threading.Lock))
        thread.start()
        thread.join()
    assert found == ["None"]  # it waited for the lock, and not for SQLite
    gate.close()


LOG = """
import os, signal, sys
from unhooked_fork import LIBC
from faregate import Gate

gate = Gate(sys.argv[1])
gate.tokens.create(name="one")
ended, tell_ended = os.pipe()
if LIBC.fork() == 0:
    os.close(tell_ended)
    os.read(ended, 1)  # until the parent is no more
    if sys.argv[2] == "looks":
        assert gate.tokens.list().total == 3
    sys.exit()
gate.close()  # the log that the child has open is removed, and there is another one
gate.tokens.create(name="two")
gate.tokens.create(name="three")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["looks", "ends"])
def test_a_child_removes_no_log(how: str, tmp_path: Path) -> None:
    """What was acknowledged is in the log alone when a process is killed; a child closes what it had open before."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    command = [sys.executable, "-c", LOG, url, how]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # Its output is open in the child, too: both have come to their ends.
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    gate = Gate(url)
    assert gate.tokens.list().total == 3
    gate.close()
