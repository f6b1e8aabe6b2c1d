"""The doctor: each thing that can be wrong is found, with ``--json`` and without."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import run, run_flask, run_here

from faregate import Gate, InvalidInput
from faregate.diagnosis import Finding, examine
from faregate.stores.migrations import upgrade

CHECKS = {"files", "file system", "store", "tables", "page", "clock", "proxies", "secret"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store's file, with a token in it."""
    found = tmp_path / "gate.db"
    gate = Gate(f"sqlite:///{found}")
    gate.tokens.create(name="a")
    gate.close()
    return found


def doctor(path: Path, **settings: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code, and what was found of each check that is not well, with and without ``--json``."""
    asked = run_here("doctor", "--json", store=f"sqlite:///{path}", **settings)
    told = json.loads(asked.stdout)
    shown = run_here("doctor", store=f"sqlite:///{path}", **settings)
    assert shown.returncode == asked.returncode
    assert {one["check"] for one in told} <= CHECKS
    for one in told:
        verdict = one["verdict"].upper() if one["verdict"] in ("fault", "down") else one["verdict"]
        words = re.sub(r"[\d,]+ s", "N s", one["words"])  # a second may have passed
        assert re.search(
            rf"^{verdict} +{one['check']} +{re.escape(words)}$",
            re.sub(r"[\d,]+ s", "N s", shown.stdout),
            re.MULTILINE,
        )
    assert ("Nothing is wrong." in shown.stderr) == (shown.returncode == 0)
    return asked.returncode, {
        one["check"]: (one["verdict"], one["words"]) for one in told if one["verdict"] != "ok"
    }


def change(path: Path, statement: str, *values: Any) -> None:
    """Change the database by hand."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


@pytest.mark.processes
def test_nothing_is_wrong(path: Path) -> None:
    """Every check says so, and looking changed nothing."""
    before = {
        file.name: (file.stat().st_mode, file.stat().st_ino) for file in path.parent.iterdir()
    }
    assert doctor(path) == (0, {})
    assert {
        one["check"]
        for one in json.loads(run("doctor", "--json", store=f"sqlite:///{path}").stdout)
    } == CHECKS
    assert {
        file.name: (file.stat().st_mode, file.stat().st_ino) for file in path.parent.iterdir()
    } == before


@pytest.mark.parametrize(
    ("suffix", "mode", "word"),
    [
        ("", 0o644, "read"),
        ("", 0o604, "read"),
        ("", 0o602, "change"),
        ("-page", 0o666, "change"),
        (".key", 0o644, "read"),
        ("-shm", 0o604, "read"),
    ],
)
def test_files_for_everybody(path: Path, suffix: str, mode: int, word: str) -> None:
    """The database and whatever lies beside it."""
    file = Path(f"{path}{suffix}")
    if suffix == ".key":
        file.write_text("k" * 43)
    open_elsewhere = sqlite3.connect(path)  # which keeps what lies beside it
    open_elsewhere.execute("SELECT count(*) FROM faregate_tokens").fetchall()
    file.touch()
    file.chmod(mode)
    code, found = doctor(path)
    open_elsewhere.close()
    assert code == 1
    verdict, words = found.pop("files")
    assert (verdict, found) == ("fault", {})
    assert f"{file} is for everybody to {word} ({mode:04o})" in words
    assert f"chmod 600 {file}" in words


def test_a_group_may_be_meant(path: Path) -> None:
    """A note, and no fault."""
    path.chmod(0o640)
    code, found = doctor(path)
    assert (code, found["files"][0]) == (0, "note") or found["files"][0] == "note"
    assert "its group" in found["files"][1]


def test_a_folder_for_everybody(path: Path) -> None:
    """Where everybody may put another store in its place; unless only owners may, as in /tmp."""
    path.parent.chmod(0o777)
    code, found = doctor(path)
    assert (code, found["files"][0]) == (1, "fault")
    assert "replace the store" in found["files"][1]
    path.parent.chmod(0o1777)
    assert doctor(path) == (0, {})


def test_a_folder_further_up_for_everybody(path: Path) -> None:
    """Who may replace that may replace the store."""
    deep = path.parent / "a" / "b"
    deep.mkdir(parents=True)
    moved = path.rename(deep / "gate.db")
    Path(f"{path}-page").rename(f"{moved}-page")
    (path.parent / "a").chmod(0o777)
    code, found = doctor(moved)
    assert (code, f"{path.parent / 'a'} is for everybody to change" in found["files"][1]) == (
        1,
        True,
    )


def test_tables_that_are_not_whole(path: Path) -> None:
    """One is gone, a column is, the counter is, or it does not agree with the feed."""
    for statement, words in (
        ("UPDATE faregate_sequence SET value = 7", "counts 7 changes, its feed ends with 1"),
        ("DELETE FROM faregate_sequence", "lacks the row of faregate_sequence"),
        ("ALTER TABLE faregate_feed DROP COLUMN details", "lacks faregate_feed.details"),
        ("DROP TABLE faregate_unseen", "lacks faregate_feed.details, faregate_unseen"),
    ):
        change(path, statement)
        code, found = doctor(path)
        assert (code, found["store"][0], words in found["store"][1]) == (1, "fault", True), found


def test_a_page_that_is_a_pipe(path: Path) -> None:
    """A page file that is a pipe is opened without waiting for a writer."""
    page = Path(f"{path}-page")
    page.unlink()
    os.mkfifo(page, 0o600)
    code, found = doctor(path)
    assert (code, found["page"][0]) == (1, "fault")


@pytest.mark.processes
def test_a_missing_page(path: Path) -> None:
    """It is found, not made."""
    page = Path(f"{path}-page")
    page.unlink()
    code, found = doctor(path)
    assert (code, found["page"][0], "is missing" in found["page"][1]) == (1, "fault", True)
    assert not page.exists()
    assert run("token", "list", store=f"sqlite:///{path}").returncode == 0  # as it is told
    assert doctor(path) == (0, {})


@pytest.mark.parametrize(
    ("data", "words"),
    [(bytes(8), "is behind the feed (0 of 1)"), (b"abc", "cut off"), (None, "cannot be read")],
)
def test_a_page_that_misleads(path: Path, data: bytes | None, words: str) -> None:
    """It is behind, or cut off, or no page."""
    page = Path(f"{path}-page")
    page.unlink()
    if data is None:
        page.symlink_to(path)
    else:
        page.write_bytes(data)
        page.chmod(0o600)
    code, found = doctor(path)
    assert (code, found["page"][0], words in found["page"][1]) == (1, "fault", True), found


def test_tables_of_another_version(tmp_path: Path, path: Path) -> None:
    """Too old, too new, or none: the rest is looked at all the same."""
    old = tmp_path / "old.db"
    upgrade(f"sqlite:///{old}", "0001")
    code, found = doctor(old)
    assert (code, found["tables"][0]) == (1, "fault")
    assert "0001 is too old" in found["tables"][1]
    assert "faregate db upgrade" in found["tables"][1]
    change(path, "UPDATE faregate_schema SET version_num = '9999'")
    code, found = doctor(path)
    assert (code, "newer faregate" in found["tables"][1]) == (1, True)
    other = tmp_path / "other.db"
    change(other, "CREATE TABLE other (id INTEGER)")
    other.chmod(0o600)
    code, found = doctor(other)
    assert (code, "right file" in found["tables"][1]) == (1, True)


def test_a_clock_that_is_behind(path: Path) -> None:
    """An hour behind the newest change: what has expired would open. Seconds are no matter."""
    change(path, "UPDATE faregate_feed SET at = ?", time.time() + 30)
    assert doctor(path) == (0, {})
    change(path, "UPDATE faregate_feed SET at = ?", time.time() + 3600)
    code, found = doctor(path)
    assert (code, found["clock"][0]) == (1, "fault")
    assert re.search(r"is 3,[56]\d\d s behind the newest change", found["clock"][1])
    change(path, "UPDATE faregate_feed SET at = ?", time.time() - 3600)
    assert doctor(path) == (0, {})


def test_clocks_that_disagree(path: Path) -> None:
    """A process with a clock an hour behind is a fault: its entries are dated before earlier ones."""
    gate = Gate(f"sqlite:///{path}", clock=lambda: time.time() - 3600)
    gate.tokens.create(name="b")
    gate.close()
    code, found = doctor(path)
    assert (code, found["clock"][0]) == (1, "fault")
    assert re.search(r"dated 3,[56]\d\d s before an earlier one", found["clock"][1])
    gate = Gate(f"sqlite:///{path}")
    gate.tokens.create(name="c")
    gate.close()
    assert doctor(path) == (0, {})


@pytest.mark.parametrize(
    ("blocks", "wide"),
    [
        ("0.0.0.0/0", "0.0.0.0/0"), ("::/0", "::/0"), ("10.0.0.0/8 0.0.0.0/1 128.0.0.0/1", "0.0.0.0/1, 128.0.0.0/1"), ("2000::/3", "2000::/3"),
        ("::ffff:0:0/96", "0.0.0.0/0"), ("64.0.0.0/2", "64.0.0.0/2"), ("*", "every sender"),
        ("8.0.0.0/8", None),
        ("10.0.0.0/8 192.168.0.0/16 fc00::/7 127.0.0.1 2001:db8::/32 unix", None), ("", None),
    ],
)  # fmt: skip
def test_proxies_that_hold_the_internet(path: Path, blocks: str, wide: str | None) -> None:
    """However it is written; private networks are no matter."""
    code, found = doctor(path, FAREGATE_TRUSTED_PROXIES=blocks)
    if wide is None:
        assert (code, found) == (0, {})
    else:
        assert (code, found["proxies"][0], wide in found["proxies"][1]) == (1, "fault", True)


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
def test_trap_26_proxies_have_to_name_the_client(path: Path, header: str) -> None:
    """Which is no fault that could be seen here: it is told beside the proxies, with their header."""
    settings = {"trusted_proxies": ["10.0.0.0/8", "unix"], "forwarded_header": header}
    (found,) = [one for one in examine(f"sqlite:///{path}", settings) if one.check == "proxies"]
    assert found.verdict == "ok"
    assert (
        f"10.0.0.0/8, unix: a request from there without {header} has no known address"
        in found.words
    )
    assert "waitress" in found.words


@pytest.mark.processes
def test_proxies_of_the_application(tmp_path: Path, path: Path) -> None:
    """As ``flask faregate doctor`` finds them, and as an option names them."""
    settings = {"FAREGATE_STORE": f"sqlite:///{path}", "FAREGATE_TRUSTED_PROXIES": '["0.0.0.0/0"]'}
    asked = run_flask("doctor", folder=tmp_path, **settings)
    assert (asked.returncode, "0.0.0.0/0 holds the whole internet" in asked.stdout) == (1, True)
    asked = run(
        "--trusted-proxy",
        "10.0.0.0/8",
        "--trusted-proxy",
        "::/0",
        "doctor",
        store=f"sqlite:///{path}",
    )
    assert (asked.returncode, "::/0 holds the whole internet" in asked.stdout) == (1, True)


def test_a_short_secret(path: Path) -> None:
    """Given, or in the file; and one that is really a key of another kind."""
    code, found = doctor(path, FAREGATE_SECRET="short")
    assert (code, found["secret"][0]) == (1, "fault")
    assert "FAREGATE_SECRET: 32 bytes or more" in found["secret"][1]
    assert doctor(path, FAREGATE_SECRET="s" * 32) == (0, {})
    assert doctor(path, FAREGATE_SECRET="-----BEGIN PUBLIC KEY-----" + "A" * 40)[0] == 1
    key = Path(f"{path}.key")
    key.write_text("short")
    key.chmod(0o600)
    code, found = doctor(path)
    assert (code, found["secret"][0], f"{key}: 32 bytes or more" in found["secret"][1]) == (
        1,
        "fault",
        True,
    )
    key.write_text("s" * 32)
    assert doctor(path) == (0, {})
    key.write_bytes(b"\xc0" * 32)
    code, found = doctor(path)
    assert (code, found["secret"]) == (
        1,
        ("fault", f"{key}: a secret is a text that can be read as UTF-8"),
    )


@pytest.mark.processes
@pytest.mark.slow
def test_a_damaged_store(tmp_path: Path, path: Path) -> None:
    """A damaged database is a fault, and so is a file that is not a database. A missing file is a missing store."""
    gate = Gate(f"sqlite:///{path}")
    for number in range(200):
        gate.tokens.create(name=f"t{number}", description="d" * 500)
    gate.close()
    sound, size = path.read_bytes(), 4096
    verdicts = {}
    for start in range(size, len(sound), size):
        path.write_bytes(sound[:start] + os.urandom(size) + sound[start + size :])
        verdicts[start] = verdict_of(examine(f"sqlite:///{path}", {}), "store")
    assert set(verdicts.values()) == {"fault", "down"}
    start = next(start for start, verdict in verdicts.items() if verdict == "fault")
    path.write_bytes(sound[:start] + bytes(size) + sound[start + size :])
    code, found = doctor(path)
    assert (code, found["store"][0]) == (1, "fault")
    assert "is damaged" in found["store"][1]
    path.write_bytes(b"no database at all" * 100)
    code, found = doctor(path)
    assert (code, found["store"][0]) == (1, "fault")
    assert "file is not a database" in found["store"][1]
    missing = run("doctor", store=f"sqlite:///{tmp_path / 'missing.db'}")
    assert (missing.returncode, "There is no store" in missing.stderr) == (2, True)
    assert run("doctor").returncode == run("doctor", store="sqlite://").returncode == 2


MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / {0} rw,relatime shared:2 master:1 - {1} server:/export rw
"""


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("nfs4", "fault"),
        ("nfs", "fault"),
        ("cifs", "fault"),
        ("9p", "fault"),
        ("ceph", "fault"),
        ("fuse.sshfs", "fault"),
        ("vboxsf", "fault"),
        ("fuse.bindfs", "note"),
        ("ext4", "ok"),
        ("overlay", "ok"),
        ("nfsd", "ok"),
    ],
)
def test_file_systems_of_a_network(tmp_path: Path, kind: str, verdict: str) -> None:
    """By the mount that is nearest to the file, whose path may hold white space."""
    folder = tmp_path / "on the network"
    folder.mkdir()
    Gate(f"sqlite:///{folder / 'gate.db'}").close()
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTINFO.format(str(folder).replace(" ", "\\040"), kind))
    assert (
        verdict_of(examine(f"sqlite:///{folder / 'gate.db'}", {}, mounts), "file system") == verdict
    )
    beside = tmp_path / "on the network too"
    beside.mkdir()
    shutil.copy(folder / "gate.db", beside)
    assert verdict_of(examine(f"sqlite:///{beside / 'gate.db'}", {}, mounts), "file system") == "ok"
    assert (
        verdict_of(examine(f"sqlite:///{beside / 'gate.db'}", {}, tmp_path / "none"), "file system")
        == "note"
    )
    mounts.write_bytes(b"31 22 0:41 / /mnt/\xff rw - nfs x rw\n" + mounts.read_bytes())
    assert (
        verdict_of(examine(f"sqlite:///{folder / 'gate.db'}", {}, mounts), "file system") == verdict
    )
    hidden = MOUNTINFO.format(str(folder).replace(" ", "\\040"), "nfs4") + MOUNTINFO.format(
        str(folder).replace(" ", "\\040"), "tmpfs"
    )
    mounts.write_text(hidden)
    assert verdict_of(examine(f"sqlite:///{folder / 'gate.db'}", {}, mounts), "file system") == "ok"


def verdict_of(findings: list[Finding], check: str) -> str:
    """The verdict of one check."""
    return next(one.verdict for one in findings if one.check == check)


def test_a_store_in_memory_has_nothing_around_it() -> None:
    """And a URL that is none is refused."""
    for url in ("sqlite://", "mysql://x/y"):
        with pytest.raises(InvalidInput):
            examine(url, {})
