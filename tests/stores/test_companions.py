"""What lies beside the file: a page or companions that were taken away or replaced, and tables of another version."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import reason_of

from faregate import Gate, NotFound, StoreUnavailable
from faregate.credentials.opaque import OpaqueKind, mint
from faregate.stores import database
from faregate.stores.schema import VERSION
from faregate.stores.sqlite import page
from faregate.stores.sqlite.companions import Companions

Make = Callable[..., Gate]
Ask = Callable[..., str]

ASKER = """
import logging, sys
from faregate import Denied, Gate
logging.basicConfig(format="%(message)s")
gate = Gate(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    call, argument = line.split()
    try:
        if call == "verify":
            gate.verify(argument)
        else:
            gate.tokens.deactivate(argument)
        print("ok", flush=True)
    except Denied as denied:
        print(denied.reason, flush=True)
"""
HARMS: dict[str, tuple[str, ...]] = {"index": ("-shm",), "log": ("-wal",), "both": ("-shm", "-wal")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a database."""
    return tmp_path / "gate.db"


@contextmanager
def another_process(path: Path) -> Iterator[tuple[Ask, subprocess.Popen[str]]]:
    """A process with a gate of its own, and what asks it; what it logged is in a file beside the database."""
    command = [sys.executable, "-c", ASKER, f"sqlite:///{path}"]
    with (
        path.with_name("log").open("a") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        lines, answers = process.stdin, process.stdout
        assert answers.readline() == "ready\n"

        def ask(call: str, argument: str) -> str:
            lines.write(f"{call} {argument}\n")
            lines.flush()
            return answers.readline().strip()

        yield ask, process
        process.kill()


def edit(path: Path, statement: str, *values: object) -> None:
    """Change the database behind the package's back."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def beside(path: Path, suffix: str) -> Path:
    """The path of a companion."""
    return path.with_name(path.name + suffix)


def replaced_by_a_copy(file: Path) -> None:
    """Put a copy of a file into its place."""
    copy = file.with_name("copy")
    shutil.copy(file, copy)
    copy.replace(file)


def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long writers waited for readers to look, from now on; they wait no more."""
    waited: list[float] = []
    monkeypatch.setattr("faregate.stores.store.time.sleep", waited.append)
    return waited


# Two changes before which nobody may have written: the feed is empty where JWTs alone are used.
@pytest.mark.parametrize("feed", ["empty", "filled"])
@pytest.mark.parametrize("harm", ["removed", "replaced"])
def test_the_first_change_after_the_page_was_harmed_waits_for_readers(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch, feed: str, harm: str
) -> None:
    """By a process that has only read until then, too; once, and not again by another one."""
    writer, other = make_gate(f"sqlite:///{path}"), make_gate(f"sqlite:///{path}")
    if feed == "filled":
        issued = make_gate(f"sqlite:///{path}").tokens.create(name="a")
        other.verify(issued.secret)
        writer.verify(issued.secret)
    if harm == "removed":
        beside(path, "-page").unlink()
    else:
        replaced_by_a_copy(beside(path, "-page"))
    waited = sleeps(monkeypatch)
    writer.jwts.revoke_subject("https://issuer.example", "alice")
    assert [one >= database.LOOK_EVERY for one in waited] == [True]
    other.jwts.revoke_subject("https://issuer.example", "bob")
    make_gate(f"sqlite:///{path}").tokens.create(name="b")
    assert len(waited) == 1


@pytest.mark.processes
def test_a_reader_of_a_page_that_was_replaced_misses_no_change(path: Path) -> None:
    """Another process maps the old page; one that has only read makes the change."""
    gate = Gate(f"sqlite:///{path}")
    issued = gate.tokens.create(name="a")
    gate.close()
    changing = Gate(f"sqlite:///{path}")
    changing.verify(issued.secret)
    with another_process(path) as (ask, _):
        assert ask("verify", issued.secret) == "ok"
        replaced_by_a_copy(beside(path, "-page"))
        assert ask("verify", issued.secret) == "ok"
        changing.tokens.deactivate(issued.token.id)
        assert ask("verify", issued.secret) == "deactivated"
    changing.close()


@pytest.mark.parametrize("harm", ["removed", "replaced"])
def test_a_page_that_is_harmed_during_a_change_hides_it_from_nobody(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """A reader finds another page after the change was announced on the old one, and before it was committed."""
    reader, writer = make_gate(f"sqlite:///{path}"), make_gate(f"sqlite:///{path}")
    issued = writer.tokens.create(name="a")
    reader.verify(issued.secret)
    advance = page.FilePage.advance

    def meanwhile(announcing: page.FilePage, sequence: int) -> None:
        if harm == "removed":
            beside(path, "-page").unlink()
        else:
            replaced_by_a_copy(beside(path, "-page"))
        advance(announcing, sequence)
        reader.verify(issued.secret)

    with monkeypatch.context() as harmed:
        harmed.setattr(page.FilePage, "advance", meanwhile)
        writer.tokens.deactivate(issued.token.id)
    assert reason_of(lambda: reader.verify(issued.secret)) == "deactivated"


LOCKER = """
import fcntl, sys
file = open(sys.argv[1], "rb")
fcntl.lockf(file, fcntl.LOCK_SH, 510, 0x40000002)  # as SQLite locks a file that is read
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.processes
@pytest.mark.parametrize("harm", HARMS)
def test_a_removed_log_is_saved_though_nobody_closes_the_file_alone(
    path: Path, make_gate: Make, harm: str
) -> None:
    """A removed write-ahead log is saved, although on closing each process has another beside it."""
    gate = make_gate(f"sqlite:///{path}")
    issued = gate.tokens.create(name="a")
    gate.close()
    gate.verify(issued.secret)
    with another_process(path) as (ask, _):
        assert ask("deactivate", issued.token.id) == "ok"
        command = [sys.executable, "-c", LOCKER, str(path)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as locker:
            assert locker.stdout is not None
            assert locker.stdout.readline() == "ready\n"
            for suffix in HARMS[harm]:
                beside(path, suffix).unlink()
            time.sleep(database.LOOK_EVERY * 1.1)
            assert reason_of(lambda: gate.verify(issued.secret)) == "store_unavailable"
            assert ask("verify", issued.secret) == "store_unavailable"
            locker.communicate()
        assert reason_of(lambda: gate.verify(issued.secret)) == "deactivated"
        assert ask("verify", issued.secret) == "deactivated"


def test_companions_that_are_removed_while_they_are_opened_are_missed(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that did not learn which it has does not take the next ones for its own."""
    gate, other = make_gate(f"sqlite:///{path}"), make_gate(f"sqlite:///{path}")
    issued = gate.tokens.create(name="a")
    find, asked = Companions._current, 0

    def late(companions: Companions) -> object:
        nonlocal asked
        asked += 1
        if asked == 2:  # the first was before it was opened
            for suffix in ("-shm", "-wal"):
                beside(path, suffix).unlink()
        return find(companions)

    with monkeypatch.context() as harmed:
        harmed.setattr(Companions, "_current", late)
        assert reason_of(lambda: other.verify(issued.secret)) == "store_unavailable"
    with pytest.raises(StoreUnavailable):
        gate.tokens.deactivate(issued.token.id)
    assert reason_of(lambda: other.verify(issued.secret)) == "ok"
    gate.tokens.deactivate(issued.token.id)
    assert reason_of(lambda: other.verify(issued.secret)) == "deactivated"


def test_nobody_waits_for_readers_who_need_not(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new store, a restart and a restored backup beside its page cost no waiting; a page that is unknown costs one."""
    waited = sleeps(monkeypatch)
    gate = make_gate(f"sqlite:///{path}")
    gate.tokens.create(name="a")
    gate.close()
    shutil.copy(path, path.with_suffix(".backup"))
    make_gate(f"sqlite:///{path}").tokens.create(name="b")
    assert waited == []
    edit(path, "UPDATE faregate_sequence SET page = NULL")
    for _ in range(3):
        make_gate(f"sqlite:///{path}").tokens.create(name="c")
    assert len(waited) == 1


def test_a_refused_change_keeps_the_new_page(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was waited for is not waited for again because the call that came first found nothing."""
    gate = make_gate(f"sqlite:///{path}")
    gate.tokens.create(name="a")
    beside(path, "-page").unlink()
    waited = sleeps(monkeypatch)
    for _ in range(2):
        with pytest.raises(NotFound):
            gate.tokens.deactivate("nobody")
    assert len(waited) == 1


@pytest.mark.processes
def test_a_page_that_was_cut_off_ends_no_idle_process(path: Path) -> None:
    """It is noticed by the look that comes first; the next change makes it whole."""
    gate = Gate(f"sqlite:///{path}")
    issued, other = gate.tokens.create(name="a"), gate.tokens.create(name="b")
    with another_process(path) as (ask, process):
        assert ask("verify", issued.secret) == "ok"
        time.sleep(database.LOOK_EVERY * 1.1)
        os.truncate(beside(path, "-page"), 0)
        assert ask("verify", issued.secret) == "ok"
        assert ask("deactivate", other.token.id) == "ok"
        assert ask("deactivate", issued.token.id) == "ok"
        assert ask("verify", issued.secret) == "deactivated"
        assert process.poll() is None
    assert beside(path, "-page").stat().st_size == 8
    gate.close()


@pytest.mark.processes
@pytest.mark.parametrize("harm", HARMS)
def test_companions_that_are_removed_shut_the_gate(path: Path, harm: str) -> None:
    """Each process is shut when it looks, says why once, and opens when all have closed: then nothing is lost."""
    gate = Gate(f"sqlite:///{path}")
    issued, other = gate.tokens.create(name="a"), gate.tokens.create(name="b")
    with another_process(path) as (ask_one, _), another_process(path) as (ask_two, _):
        for ask in (ask_one, ask_two):
            assert ask("verify", issued.secret) == "ok"
        assert ask_two("deactivate", issued.token.id) == "ok"
        for suffix in HARMS[harm]:
            beside(path, suffix).unlink()
        gate.close()
        # A writer looks each time; who is new does not open what others have open without them.
        assert ask_one("deactivate", other.token.id) == "store_unavailable"
        assert reason_of(lambda: gate.verify(other.secret)) == "store_unavailable"
        time.sleep(database.LOOK_EVERY * 1.1)
        assert ask_one("verify", other.secret) == "store_unavailable"
        assert ask_two("verify", other.secret) == "store_unavailable"
        assert ask_one("verify", issued.secret) == "deactivated"
        assert ask_two("verify", other.secret) == "ok"
        assert ask_two("deactivate", other.token.id) == "ok"
        assert ask_one("verify", other.secret) == "deactivated"
    assert reason_of(lambda: gate.verify(issued.secret)) == "deactivated"
    gate.close()
    said = path.with_name("log").read_text()
    assert said.count("was removed or replaced") == 2
    assert "stop all processes" in said


@pytest.mark.parametrize("suffix", ["-shm", "-wal"])
def test_companions_that_are_replaced_shut_the_gate(path: Path, suffix: str) -> None:
    """After a copy replaced a companion file, the gate is unavailable until no process has the file open."""
    gate = Gate(f"sqlite:///{path}")
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)
    replaced_by_a_copy(beside(path, suffix))
    with pytest.raises(StoreUnavailable) as refused:
        gate.tokens.deactivate(issued.token.id)
    assert "removed or replaced" in refused.value.cause
    time.sleep(database.LOOK_EVERY * 1.1)
    assert reason_of(lambda: gate.verify(issued.secret)) == "store_unavailable"
    assert reason_of(lambda: gate.verify(issued.secret)) == "ok"
    gate.tokens.deactivate(issued.token.id)
    assert reason_of(lambda: gate.verify(issued.secret)) == "deactivated"
    gate.close()


def test_closing_and_opening_is_no_alarm(
    path: Path, make_gate: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The last to close removes the companions itself; others open them anew, in turns and beside each other."""
    gates = [make_gate(f"sqlite:///{path}") for _ in range(3)]
    secrets = []
    for turn in range(12):
        one, other = gates[turn % 3], gates[(turn + 1) % 3]
        secrets.append(one.tokens.create(name="a").secret)
        assert {
            reason_of(lambda secret=secret, gate=other: gate.verify(secret)) for secret in secrets
        } == {"ok"}
        if turn % 2:
            for gate in gates:
                gate.close()
            assert not beside(path, "-wal").exists()
        else:
            one.close()
    assert caplog.records == []


@pytest.mark.processes
def test_a_fork_is_no_alarm(path: Path, make_gate: Make) -> None:
    """What is closed before it is opened again after it, on both sides."""
    gate = make_gate(f"sqlite:///{path}")
    issued = gate.tokens.create(name="a")
    for _ in range(5):
        gate.verify(issued.secret)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            found = reason_of(lambda: (gate.verify(issued.secret), gate.tokens.create(name="b")))
            os._exit(found != "ok")
        assert reason_of(lambda: gate.verify(issued.secret)) == "ok"
        gate.tokens.create(name="c")
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("version", ["0006", "9999"])
def test_tables_of_another_version_shut_a_running_process(
    path: Path,
    make_gate: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    version: str,
) -> None:
    """It writes nothing from then on, reads nothing from its next look on, and says why once."""
    monkeypatch.setattr(database, "LOOK_EVERY", 0.0)
    gate = make_gate(f"sqlite:///{path}")
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)
    edit(path, "UPDATE faregate_schema SET version_num = ?", version)
    for call in (
        lambda: gate.tokens.deactivate(issued.token.id),
        lambda: gate.tokens.get(issued.token.id),
        lambda: gate.verify(issued.secret),
        lambda: gate.verify(mint("fg", "tok")),
    ):
        with pytest.raises(StoreUnavailable) as refused:
            call()
        assert version in refused.value.cause
    assert [
        record.getMessage().count("have version " + version) for record in caplog.records
    ].count(1) == 1
    edit(path, "UPDATE faregate_schema SET version_num = ?", VERSION)
    gate.verify(issued.secret)
    assert not gate.tokens.get(issued.token.id).deactivated


@pytest.mark.parametrize("kind", ["tok", "rft", "act"])
def test_a_credential_of_another_kind_than_its_record_is_unknown(
    path: Path, make_gate: Make, kind: OpaqueKind
) -> None:
    """Whoever may have written it there: an older faregate beside newer tables, say."""
    gate = make_gate(f"sqlite:///{path}")
    api = gate.tokens.create(name="a", scopes=["a"]).token
    refresh = gate.tokens.create(name="r", type="REFRESH", scopes=["a"]).token
    secret = mint("fg", kind)
    digest = sha256(secret.encode()).digest()
    if kind == "tok":
        edit(path, "DELETE FROM faregate_secrets WHERE token_id = ?", refresh.id)
        edit(
            path,
            "INSERT INTO faregate_secrets (digest, token_id) VALUES (?, ?)",
            digest,
            refresh.id,
        )
    elif kind == "rft":
        issued = gate.tokens.create(name="s", type="REFRESH", scopes=["a"])
        edit(path, "UPDATE faregate_tokens SET type = 'API' WHERE id = ?", issued.token.id)
        secret = issued.secret
    else:
        columns = "digest, token_id, allowed_scopes, allowed_cidr_blocks, networks, created_at, expires_at"
        taken = "allowed_scopes, allowed_cidr_blocks, networks, created_at, created_at + 60"
        statement = f"INSERT INTO faregate_access ({columns}) SELECT ?, id, {taken} FROM faregate_tokens WHERE id = ?"
        edit(path, statement, digest, api.id)
    assert reason_of(lambda: gate.verify(secret)) == "unknown_credential"
    assert reason_of(lambda: gate.tokens.exchange(secret)) == "unknown_credential"
    assert gate.introspect(secret, by=None).active is False
    before = gate.audit().items[-1].sequence
    gate.revoke(secret)
    assert gate.audit().items[-1].sequence == before
