"""Uses written behind: in batches, by a thread that ends with its gate, and never at a request's cost."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from faregate import Gate, StoreUnavailable
from faregate.stores.sql import Store
from faregate.usage import Usage


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
    gate._verifier._usage = usage = Usage(gate._store, every=0.05)
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)
    assert wait_until(lambda: gate.tokens.get(issued.token.id).last_used_at is not None)
    usage.close()
    gate.close()


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_the_end_of_a_process_is_quiet(tmp_path: Path, kind: str) -> None:
    """What is written at exit is written without a word."""
    store = "sqlite://" if kind == "memory" else f"sqlite:///{tmp_path / 'gate.db'}"
    script = "import sys; from faregate import Gate; g = Gate(sys.argv[1]); g.verify(g.tokens.create(name='a').secret)"
    ended = subprocess.run([sys.executable, "-c", script, store], capture_output=True, text=True, check=True)
    assert ended.stdout + ended.stderr == ""


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

    def refuse(_: Store) -> None:
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
    gate.verify(issued.secret)
    assert len(writers() - before) == 1
    gate.close()


def test_many_uses_are_written_in_short_transactions() -> None:
    """Twelve hundred tokens, three transactions."""
    gate = Gate("sqlite://")
    for number in range(1200):
        gate._usage._notes[f"id{number}"] = 1.0
    gate._usage.flush()
    assert not gate._usage._notes
