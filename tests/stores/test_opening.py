"""What is judged when a store is opened: its names, whether it is what it was, and whose its files are."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import run, run_here
from sqlalchemy import create_engine

from faregate import Gate, InvalidInput, StoreUnavailable
from faregate.stores.migrations import upgrade
from faregate.stores.schema import metadata

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store's file, with its page and key."""
    return a_store(tmp_path / "gate.db")


@pytest.fixture
def open_path() -> Iterator[Path]:
    """One in a folder that every user may enter; another run of the tests takes that from those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield a_store(Path(folder) / "gate.db")


def a_store(found: Path) -> Path:
    """A store's file, with its page and key."""
    gate = Gate(f"sqlite:///{found}")
    share = gate.shares.create("x", scopes=["a"], expires_in=60)
    gate.shares.redeem(share.share.id, secret=share.secret)
    gate.close()
    return found


@pytest.mark.parametrize("suffix", ["", "-page", "-wal", "-shm"])
def test_a_file_with_two_names_is_refused(path: Path, suffix: str) -> None:
    """By the gate, the doctor and the migration, until the other name is gone."""
    other = path.with_name("other")
    holder = sqlite3.connect(path)
    holder.execute("SELECT 1 FROM faregate_tokens").fetchall()  # which makes the log and its index
    other.hardlink_to(f"{path}{suffix}")
    for call in (Gate, upgrade):
        with pytest.raises(InvalidInput, match="2 names"):
            call(f"sqlite:///{path}")
    told = run("doctor", store=f"sqlite:///{path}")
    assert (told.returncode, "2 names" in told.stdout) == (1, True)
    other.unlink()
    Gate(f"sqlite:///{path}").close()
    holder.close()


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
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        script,
        "sh",
        str(path.parent),
        str(other),
        sys.executable,
        code,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "permission denied" in done.stderr:
        pytest.skip("nothing may be mounted here")
    assert (done.returncode, "is mounted alone" in done.stderr) == (0, True), done.stderr


@pytest.mark.parametrize("harm", ["gone", "emptied", "without tables"])
def test_a_store_that_is_not_what_it_was_is_refused(path: Path, harm: str) -> None:
    """Nothing is made anew until what is left beside it was removed, as the error says."""
    if harm == "without tables":
        with sqlite3.connect(path) as connection:
            names = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall()
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


@pytest.mark.parametrize("state", ["empty", "in WAL mode", "with a page"])
def test_a_creation_that_was_cut_off_is_taken_up(tmp_path: Path, state: str) -> None:
    """With a file without tables, and maybe a page that announces nothing."""
    path = tmp_path / "gate.db"
    path.write_bytes(b"")
    held = sqlite3.connect(path)
    if state != "empty":
        held.execute("PRAGMA journal_mode = WAL").fetchall()
    if state == "with a page":
        Path(f"{path}-page").write_bytes(bytes(8))
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


@pytest.mark.parametrize("table", ["faregate_sequence", "faregate_schema"])
def test_a_row_that_was_deleted_is_named(path: Path, table: str) -> None:
    """By the gate and the doctor, and by the migration, which would begin with the first version."""
    with sqlite3.connect(path) as connection:
        connection.execute(f"DELETE FROM {table}")
    connection.close()
    for call in (Gate, upgrade):
        with pytest.raises(
            InvalidInput, match=f"{path} lacks the row of {table}: restore a backup"
        ):
            call(f"sqlite:///{path}")
    told = run_here("doctor", store=f"sqlite:///{path}")
    assert (told.returncode, f"lacks the row of {table}" in told.stdout) == (1, True)


def test_tables_that_an_application_made_are_taken_up(tmp_path: Path) -> None:
    """They have no rows yet; beside a key or page they are what is left of a store."""
    path = tmp_path / "gate.db"
    for trace in ("", ".key"):
        path.unlink(missing_ok=True)
        engine = create_engine(f"sqlite:///{path}")
        metadata.create_all(engine)
        engine.dispose()
        if not trace:
            Gate(f"sqlite:///{path}").close()
            Path(f"{path}-page").unlink()
            continue
        Path(f"{path}{trace}").write_text("k" * 43)
        with pytest.raises(InvalidInput, match=r"holds nothing of faregate.*begin anew"):
            Gate(f"sqlite:///{path}")


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-page", ".key"])
@pytest.mark.parametrize("emptied", [True, False])
def test_each_companion_says_that_there_was_a_store(
    path: Path, suffix: str, *, emptied: bool
) -> None:
    """It is named, and is all that has to be removed to begin anew."""
    for other in ("-page", ".key"):
        if other != suffix:
            Path(f"{path}{other}").unlink()
    Path(f"{path}{suffix}").touch()
    path.unlink()
    if emptied:
        path.touch()
    with pytest.raises(
        InvalidInput, match=rf"{path} is {'empty' if emptied else 'gone'}.*remove {path}{suffix}"
    ) as told:
        Gate(f"sqlite:///{path}")
    assert ("move it away for the first start" in str(told.value)) == (suffix == ".key")
    Path(f"{path}{suffix}").unlink()
    Gate(f"sqlite:///{path}").close()


def test_a_damaged_file_is_named(path: Path) -> None:
    """It is no other's, and no waiting helps."""
    data = bytearray(path.read_bytes())
    data[100:4096] = b"x" * 3996  # the page that lists the tables
    path.write_bytes(data)
    with pytest.raises(StoreUnavailable, match=f"{path} is damaged .*restore a backup"):
        Gate(f"sqlite:///{path}")
    assert run_here("token", "list", store=f"sqlite:///{path}").returncode == 3
    assert run_here("doctor", store=f"sqlite:///{path}").returncode == 3


def test_what_can_be_no_database_is_named(tmp_path: Path) -> None:
    """A directory, a pipe, a place below a file."""
    pipe, text = tmp_path / "pipe", tmp_path / "text"
    os.mkfifo(pipe)
    text.write_text("words")
    for path, words in (
        (tmp_path, "is a directory"),
        (pipe, "not a regular file"),
        (text / "gate.db", "cannot create"),
        (text, "not a SQLite database"),
    ):
        with pytest.raises(InvalidInput, match=f"{path}.*{words}|{words}.*{path}"):
            Gate(f"sqlite:///{path}")


@ROOT
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_what_root_makes_belongs_to_the_service(path: Path, mode: int) -> None:
    """Owner, group and mode of the database, but a key is never for everybody to read."""
    for suffix in ("-page", ".key"):
        Path(f"{path}{suffix}").unlink()
    path.chmod(mode)
    os.chown(path, 4711, 4712)
    gate = Gate(f"sqlite:///{path}")
    share = gate.shares.create("y", scopes=["a"], expires_in=60)
    gate.shares.redeem(share.share.id, secret=share.secret)
    for suffix in ("-page", ".key", "-wal", "-shm"):
        found = Path(f"{path}{suffix}").stat()
        wanted = mode & 0o660 if suffix == ".key" else mode
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4711, 4712, wanted), (
            suffix
        )
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
    for told, words in (
        (full, "disk is full"),
        (fixed, "mounted read-only"),
        (new, "Read-only file system"),
    ):
        assert words in told
        assert str(place) in told


@ROOT
def test_a_file_of_another_user_is_named(open_path: Path) -> None:
    """With the user who may not, and what to do."""
    done = subprocess.run(
        [sys.executable, "-c", TRY, open_path, "4711"], capture_output=True, text=True, check=True
    )
    assert "StoreUnavailable" in done.stdout
    assert "by user 4711: give it to that user" in done.stdout


def test_a_file_that_another_process_holds_alone_is_named(path: Path) -> None:
    """It is no damage, and passes."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    holder.execute("BEGIN EXCLUSIVE")
    done = subprocess.run(
        [sys.executable, "-c", TRY, path], capture_output=True, text=True, check=True
    )
    assert "holds the database alone" in done.stdout
    holder.close()
    Gate(f"sqlite:///{path}").close()


SERVE = """
import os, sys
from faregate import Gate
warm = Gate("sqlite://")
share = warm.shares.create("x", scopes=["a"], expires_in=60)
warm.verify(warm.shares.redeem(share.share.id, secret=share.secret).token)
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(4711)
gate = Gate(f"sqlite:///{sys.argv[1]}")
token = gate.tokens.create(name="a", scopes=["a"])
share = gate.shares.create("x", scopes=["a"], expires_in=60)
gate.verify(gate.shares.redeem(share.share.id, secret=share.secret).token)
gate.verify(token.secret)
gate.close()
print("served")
"""


@ROOT
def test_the_service_goes_on_with_what_root_made(open_path: Path) -> None:
    """The key that root's redemption makes, and the page of root's gate: the service signs, verifies and changes."""
    give_away(open_path)
    gate = Gate(f"sqlite:///{open_path}")
    share = gate.shares.create("y", scopes=["a"], expires_in=60)
    gate.shares.redeem(share.share.id, secret=share.secret)
    served(open_path, "4712")
    gate.close()


@ROOT
def test_a_service_outside_the_group_gives_it_nothing(open_path: Path) -> None:
    """What it makes has its own group, whom the database was never given to."""
    give_away(open_path)
    open_path.chmod(0o640)
    served(open_path, "4713")
    for suffix in ("-page", ".key"):
        found = Path(f"{open_path}{suffix}").stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4711, 4713, 0o600), (
            suffix
        )


def give_away(path: Path) -> None:
    """Make the database, with nothing beside it, that of user 4711."""
    for suffix in ("-page", ".key"):
        Path(f"{path}{suffix}").unlink()
    os.chown(path.parent, 4711, 4712)
    os.chown(path, 4711, 4712)


def served(path: Path, group: str) -> None:
    """Run the service as user 4711."""
    done = subprocess.run(
        [sys.executable, "-c", SERVE, path, group], capture_output=True, text=True, check=False
    )
    assert done.stdout == "served\n", done.stderr


MAKE = """
import sys
from faregate import Gate
Gate("sqlite://").tokens.create(name="all that is needed is loaded")
print("begun", flush=True)
gate = Gate(f"sqlite:///{sys.argv[1]}")
gate.tokens.create(name="a")
print("made", flush=True)
sys.stdin.read()
"""


def test_a_creation_that_is_killed_is_taken_up(tmp_path: Path) -> None:
    """At any instant, and what was acknowledged is there."""
    for number in range(int(os.environ.get("SOAK", "0")) * 46 + 4):
        path = tmp_path / f"{number}.db"
        with subprocess.Popen(
            [sys.executable, "-c", MAKE, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(number * 0.013 % 0.06)
            process.kill()
            made = process.stdout.read()
        gate = Gate(f"sqlite:///{path}")
        assert len(gate.tokens.list().items) >= (made == "made\n"), number
        gate.close()
