"""Real processes on one real file: nothing that was acknowledged is missed, lost or inherited through a fork."""

from __future__ import annotations

import gc
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

import pytest
from conftest import reason_of

from faregate import AllowedScopes, Gate, Owner
from faregate.values import forks

pytestmark = pytest.mark.processes

VERIFIER = """
import sys, time
from faregate import Denied, Gate

gate = Gate(sys.argv[1])
secrets = sys.argv[2].split(",")
print("ready", flush=True)
while True:  # until killed
    for index, secret in enumerate(secrets):
        begun = time.monotonic()
        try:
            gate.verify(secret)
        except Denied as denied:
            print(index, begun, denied.reason)
        else:
            print(index, begun, "ok")
"""

WRITER = """
import sys
from faregate import Gate

gate = Gate(sys.argv[1])
while True:  # until killed
    issued = gate.tokens.create(name="written")
    gate.tokens.deactivate(issued.token.id)
    print(issued.token.id, issued.secret, flush=True)
"""


@contextmanager
def running(script: str, *arguments: str, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script in a process of its own, its output in a file, and kill it at the end."""
    with output.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=file)
    try:
        deadline = time.monotonic() + 30
        while not output.read_bytes() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def test_no_verification_passes_on_an_old_state(tmp_path: Path) -> None:
    """One process changes 200 tokens, another verifies without pause: once acknowledged, a change counts.

    Both read the same monotonic clock. A verification that begins after the acknowledgement of a
    deactivation must be refused, and after that of the activation it must pass.
    """
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)
    issued = [gate.tokens.create(name=f"t{index}") for index in range(200)]
    states: list[list[tuple[float, float, str]]] = [
        [] for _ in issued
    ]  # from, acknowledged at, state
    output = tmp_path / "verifier"
    with running(VERIFIER, store, ",".join(one.secret for one in issued), output=output) as process:
        for change, state in (
            (gate.tokens.deactivate, "deactivated"),
            (gate.tokens.activate, "ok"),
        ):
            for index, one in enumerate(issued):
                begun = time.monotonic()
                change(one.token.id)
                states[index].append((begun, time.monotonic(), state))
        time.sleep(0.3)
        process.send_signal(signal.SIGSTOP)
    seen = [line.split() for line in output.read_text().split("\n")[1:-1]]
    stale = judged = 0
    for index_text, begun_text, found in (line for line in seen if len(line) == 3):
        begun, history = float(begun_text), states[int(index_text)]
        certain = [
            state
            for number, (_, acknowledged, state) in enumerate(history)
            if acknowledged < begun
            and (number + 1 == len(history) or begun < history[number + 1][0] - 0.2)
        ]
        if certain:
            judged += 1
            stale += found != certain[-1]
    gate.close()
    assert judged > 2000
    assert stale == 0


def test_each_change_is_seen_by_the_next_request_of_another_process(tmp_path: Path) -> None:
    """Turn by turn, 200 times: changed here, asked there."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)
    asker = """
import sys
from faregate import Denied, Gate
gate = Gate(sys.argv[1])
for line in sys.stdin:
    try:
        gate.verify(line.strip()); print("ok", flush=True)
    except Denied as denied:
        print(denied.reason, flush=True)
"""
    command = [sys.executable, "-c", asker, store]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(secret: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(secret + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        for _ in range(50):
            issued = gate.tokens.create(name="a")
            assert ask(issued.secret) == "ok"
            gate.tokens.deactivate(issued.token.id)
            assert ask(issued.secret) == "deactivated"
            gate.tokens.activate(issued.token.id)
            rotated = gate.tokens.rotate(issued.token.id)
            assert ask(issued.secret) == "unknown_credential"
            assert ask(rotated.secret) == "ok"
        process.stdin.close()
    gate.close()


def test_killed_writers_lose_nothing_that_they_acknowledged(tmp_path: Path) -> None:
    """Ten times kill -9: what was printed is there, deactivated, and the file is whole."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    reader = Gate(store)
    acknowledged = 0
    for number in range(10):
        output = tmp_path / f"writer{number}"
        with running(WRITER, store, output=output):
            time.sleep(0.05 + number * 0.01)
        for line in output.read_text().split("\n")[:-1]:
            token_id, secret = line.split()
            assert reader.tokens.get(token_id).deactivated
            assert reason_of(lambda secret=secret: reader.verify(secret)) == "deactivated"
            acknowledged += 1
    assert acknowledged >= 10
    live = reader.tokens.create(name="live").secret
    reader.verify(live)
    reader.close()
    with sqlite3.connect(tmp_path / "gate.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        newest, value = connection.execute(
            "SELECT (SELECT max(sequence) FROM faregate_feed), (SELECT value FROM faregate_sequence)"
        ).fetchone()
        assert newest == value
    connection.close()


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


def test_a_gate_survives_a_fork(tmp_path: Path) -> None:
    """Made and used before the fork, it reads and writes on both sides, and each sees the other's changes."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    one, two = gate.tokens.create(name="one"), gate.tokens.create(name="two")
    gate.verify(one.secret)
    gate.verify(two.secret)

    def work() -> bool:
        first = reason_of(lambda: gate.verify(one.secret)) == "ok"
        gate.tokens.deactivate(one.token.id)
        return first and reason_of(lambda: gate.verify(one.secret)) == "deactivated"

    assert in_child(work)
    assert reason_of(lambda: gate.verify(one.secret)) == "deactivated"
    gate.tokens.deactivate(two.token.id)
    assert in_child(lambda: reason_of(lambda: gate.verify(two.secret)) == "deactivated")
    gate.close()


def test_forks_among_busy_threads_hang_nowhere(tmp_path: Path) -> None:
    """While threads verify, ask about owners and write, thirty forks each get a gate that works; no write is lost."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(url, owner_rights=lambda _: AllowedScopes(), owner_rights_ttl=1e-6)
    secret = gate.tokens.create(name="used", owner=Owner("u1")).secret
    stop, made = threading.Event(), []

    def verify() -> None:
        while not stop.is_set():
            gate.verify(secret)

    def write() -> None:
        while not stop.is_set():
            made.append(gate.tokens.create(name="written").token.id)
            time.sleep(
                0.002
            )  # SQLite's lock is not fair: who writes without pause starves the others

    threads = [threading.Thread(target=work) for work in (verify, verify, write)]
    for thread in threads:
        thread.start()
    try:
        results = [
            in_child(lambda: gate.verify(secret).id != gate.tokens.create(name="child").token.id)
            for _ in range(30)
        ]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert results == [True] * 30
    assert gate.tokens.list(name="child").total == 30
    assert gate.tokens.list(name="written").total == len(made)
    gate.close()


def open_databases(folder: Path) -> list[str]:
    """The databases in a folder to which this process holds open files, their pages aside."""
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [link for link in links if link.startswith(str(folder)) and "-page" not in link]


def test_a_dropped_gate_leaves_nothing_open(tmp_path: Path) -> None:
    """Not even until the garbage is collected: a fork may come first."""
    gc.disable()
    try:
        Gate(f"sqlite:///{tmp_path / 'gate.db'}").tokens.create(name="bootstrap")
        assert open_databases(tmp_path) == []
    finally:
        gc.enable()


def test_a_gate_that_is_being_made_is_closed_before_a_fork(tmp_path: Path) -> None:
    """A thread makes gates while the process forks: no child begins with an open connection."""
    stop = threading.Event()

    def construct() -> None:
        while not stop.is_set():
            Gate(f"sqlite:///{tmp_path / 'gate.db'}").close()

    thread = threading.Thread(target=construct)
    thread.start()
    try:
        clean = [in_child(lambda: open_databases(tmp_path) == []) for _ in range(40)]
    finally:
        stop.set()
        thread.join()
    assert clean == [True] * 40


def test_a_failure_before_a_fork_is_no_dead_lock(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be closed is said; the others are closed, and the next fork works."""

    class Stubborn:
        held = 0

        def hold(self) -> None:
            self.held += 1

        def before_fork(self) -> None:
            raise KeyboardInterrupt

        def after_fork(self, *, child: bool) -> None:
            del child
            self.held -= 1

        def renew(self, *, child: bool) -> None:
            del child

    stubborn = Stubborn()
    forks.register(stubborn)
    gate = Gate("sqlite://")
    for _ in range(2):
        assert in_child(lambda: gate.tokens.list().total == 0)
    assert "could not be closed before a fork" in caplog.text
    assert stubborn.held == 0
    forks._quick.pop(stubborn)


def test_a_failure_after_a_fork_is_no_dead_lock(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be let go is said; the locks of all others are free, on either side."""

    class Broken:
        def hold(self) -> None: ...

        def before_fork(self) -> None: ...

        def after_fork(self, *, child: bool) -> None:
            raise RuntimeError(child)

        def renew(self, *, child: bool) -> None: ...

    broken = Broken()
    gate = Gate("sqlite://")
    forks.register(broken)

    def is_free() -> bool:
        found: list[bool] = []
        thread = threading.Thread(
            target=lambda: found.append(gate._store.lock.acquire(blocking=False))
        )
        thread.start()
        thread.join()
        return found == [True]

    assert in_child(is_free)
    assert is_free()
    assert "could not be released after a fork" in caplog.text
    forks._quick.pop(broken)


def test_no_connection_is_open_after_construction(tmp_path: Path) -> None:
    """The constructor opens, checks and closes, so that a server may fork after it."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    assert open_databases(tmp_path) == []
    gate.close()


@pytest.mark.parametrize("count", [2, 6])
def test_processes_that_open_a_new_file_at_once_share_it(tmp_path: Path, count: int) -> None:
    """Each makes the tables if they are not there; nobody fails, nothing is made twice."""
    script = "import sys; from faregate import Gate; Gate(sys.argv[1]).tokens.create(name='a')"
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    processes = [subprocess.Popen([sys.executable, "-c", script, store]) for _ in range(count)]
    assert [process.wait() for process in processes] == [0] * count
    gate = Gate(store)
    assert gate.tokens.list().total == count
    gate.close()


def test_use_is_written_when_a_process_ends(tmp_path: Path) -> None:
    """The last uses of a process are not lost with it."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)
    issued = gate.tokens.create(name="a")
    script = "import sys; from faregate import Gate; Gate(sys.argv[1]).verify(sys.argv[2])"
    subprocess.run([sys.executable, "-c", script, store, issued.secret], check=True)
    assert gate.tokens.get(issued.token.id).last_used_at is not None
    gate.close()
