"""What is judged when a store is opened: its names, whether it is what it was, and whose its files are."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from command import run

from faregate import Gate, InvalidInput
from faregate.stores.migrations import upgrade

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store's file, with its page and key."""
    found = tmp_path / "gate.db"
    gate = Gate(f"sqlite:///{found}")
    share = gate.shares.create("x", scopes=["a"], expires_in=60)
    gate.shares.redeem(share.share.id, secret=share.secret)
    gate.close()
    return found


@pytest.mark.parametrize("suffix", ["", "-page"])
def test_a_file_with_two_names_is_refused(path: Path, suffix: str) -> None:
    """By the gate, the doctor and the migration, until the other name is gone."""
    other = path.with_name("other")
    other.hardlink_to(f"{path}{suffix}")
    for call in (Gate, upgrade):
        with pytest.raises(InvalidInput, match="2 names"):
            call(f"sqlite:///{path}")
    told = run("doctor", store=f"sqlite:///{path}")
    assert (told.returncode, "2 names" in told.stdout) == (1, True)
    other.unlink()
    Gate(f"sqlite:///{path}").close()


@ROOT
def test_a_file_that_is_mounted_alone_is_refused(path: Path) -> None:
    """A directory that is mounted is not."""
    other = path.parent / "else where"
    other.mkdir()
    code = "import sys; from faregate import Gate; Gate('sqlite:///' + sys.argv[1]).close()"
    script = """
    set -e; touch "$2/gate.db"; mount --bind "$1/gate.db" "$2/gate.db"
    if "$3" -c "$4" "$2/gate.db"; then exit 9; fi
    umount "$2/gate.db"; rm "$2/gate.db"; mount --bind "$1" "$2"; "$3" -c "$4" "$2/gate.db"
    """
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(path.parent), str(other), sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "permission denied" in done.stderr:
        pytest.skip("nothing may be mounted here")
    assert (done.returncode, "is mounted alone" in done.stderr) == (0, True), done.stderr


@pytest.mark.parametrize("harm", ["gone", "emptied", "without tables"])
def test_a_store_that_is_not_what_it_was_is_refused(path: Path, harm: str) -> None:
    """Nothing is made anew until what is left beside it was removed, as the error says."""
    if harm == "without tables":
        with sqlite3.connect(path) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in names:
                connection.execute(f"DROP TABLE {name}")
        connection.close()
    elif harm == "gone":
        path.unlink()
    else:
        path.write_bytes(b"")
    page = Path(f"{path}-page").read_bytes()
    for call in (Gate, upgrade):
        with pytest.raises(InvalidInput, match=r"restore a backup.*begin anew.*-page, .*\.key"):
            call(f"sqlite:///{path}")
    told = run("token", "create", "--name", "a", store=f"sqlite:///{path}")
    assert (told.returncode, "begin anew" in told.stderr) == (2, True)
    assert (path.exists(), Path(f"{path}-page").read_bytes()) == (harm != "gone", page)
    for suffix in ("-page", ".key"):
        Path(f"{path}{suffix}").unlink()
    Gate(f"sqlite:///{path}").close()


def test_a_log_beside_an_emptied_file_is_kept(path: Path) -> None:
    """SQLite would remove it, and what it holds."""
    for suffix in ("-page", ".key"):
        Path(f"{path}{suffix}").unlink()
    log = Path(f"{path}-wal")
    log.write_bytes(b"log")
    path.write_bytes(b"")
    with pytest.raises(InvalidInput, match="is empty"):
        Gate(f"sqlite:///{path}")
    assert run("db", "status", store=f"sqlite:///{path}").returncode == 2
    assert log.read_bytes() == b"log"


@pytest.mark.parametrize("state", [None, b""])
def test_a_creation_that_was_cut_off_is_taken_up(tmp_path: Path, state: bytes | None) -> None:
    """With an empty file, or one in WAL mode without tables."""
    path = tmp_path / "gate.db"
    path.write_bytes(b"")
    held = sqlite3.connect(path)
    if state is None:
        held.execute("PRAGMA journal_mode = WAL").fetchall()
    Gate(f"sqlite:///{path}").close()
    held.close()


def test_tables_that_lack_something_are_refused(path: Path) -> None:
    """Named, whether dropped or another application's."""
    other = path.with_name("other.db")
    for file, statement, words in (
        (path, "DROP TABLE faregate_unseen", "lacks faregate_unseen"),
        (other, "CREATE TABLE faregate_tokens (id TEXT)", "faregate_tokens.version"),
    ):
        with sqlite3.connect(file) as connection:
            connection.execute(statement)
        connection.close()
        with pytest.raises(InvalidInput, match=words):
            Gate(f"sqlite:///{file}")


def test_what_can_be_no_database_is_named(tmp_path: Path) -> None:
    """A directory, a pipe, a place below a file."""
    pipe, text = tmp_path / "pipe", tmp_path / "text"
    os.mkfifo(pipe)
    text.write_text("words")
    for path, words in (
        (tmp_path, "is a directory"),
        (pipe, "no file"),
        (text / "gate.db", "cannot create"),
        (text, "no SQLite"),
    ):
        with pytest.raises(InvalidInput, match=f"{path}.*{words}|{words}.*{path}"):
            Gate(f"sqlite:///{path}")


@ROOT
@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_what_root_makes_belongs_to_the_service(path: Path, mode: int) -> None:
    """Owner, group and mode of the database."""
    for suffix in ("-page", ".key"):
        Path(f"{path}{suffix}").unlink()
    path.chmod(mode)
    os.chown(path, 4711, 4712)
    gate = Gate(f"sqlite:///{path}")
    share = gate.shares.create("y", scopes=["a"], expires_in=60)
    gate.shares.redeem(share.share.id, secret=share.secret)
    for suffix in ("-page", ".key", "-wal", "-shm"):
        found = Path(f"{path}{suffix}").stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4711, 4712, mode), suffix
    gate.close()


TRY = """
import os, sys
from faregate import Gate
Gate("sqlite://").tokens.create(name="all that is needed is loaded")
if len(sys.argv) > 2:
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
try:
    Gate(f"sqlite:///{sys.argv[1]}").tokens.create(name="a", description="x" * 2000)
except Exception as error:
    print(type(error).__name__, error)
"""


@ROOT
def test_a_file_system_that_takes_nothing_is_named(path: Path) -> None:
    """One that is mounted read-only, or is full: with the file, and what to do."""
    place = path.parent / "place"
    place.mkdir()
    script = """
    set -e; mount -t tmpfs -o size=512k tmpfs "$1"; "$2" -c "$3" "$1/gate.db"
    dd if=/dev/zero of="$1/fill" bs=4k 2>/dev/null || true; "$2" -c "$3" "$1/gate.db"
    umount "$1"; mount -t tmpfs tmpfs "$1"; "$2" -c "$3" "$1/gate.db"
    mount -o remount,ro "$1"; "$2" -c "$3" "$1/gate.db"; "$2" -c "$3" "$1/new.db"
    """
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(place), sys.executable, TRY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "permission denied" in done.stderr:
        pytest.skip("nothing may be mounted here")
    full, fixed, new = done.stdout.splitlines()
    for told, words in ((full, "disk is full"), (fixed, "mounted read-only"), (new, "Read-only file system")):
        assert words in told
        assert str(place) in told


@ROOT
def test_a_file_of_another_user_is_named(path: Path) -> None:
    """With the user who may not, and what to do."""
    for place in (path.parent, *path.parent.parents[:3]):
        place.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", TRY, path, "4711"], capture_output=True, text=True, check=True)
    assert "StoreUnavailable" in done.stdout
    assert "by user 4711: give it to that user" in done.stdout


def test_a_file_that_another_process_holds_alone_is_named(path: Path) -> None:
    """It is no damage, and passes."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    holder.execute("BEGIN EXCLUSIVE")
    done = subprocess.run([sys.executable, "-c", TRY, path], capture_output=True, text=True, check=True)
    assert "holds the database alone" in done.stdout
    holder.close()
    Gate(f"sqlite:///{path}").close()
