"""Checks on the files of a SQLite store: their names, their traces, and their permissions.

The laws:

- A database has one name. SQLite finds its write-ahead log beside the name: a second name has a
  second log, and changes that were acknowledged through one name are lost through the other.
- A database is made before its companions, its tables before the key, and its tables before the
  page announces a change. So companions without a database are the traces of a lost store. So are
  a key, or a page that announces a change, without tables.
- The traces are looked at before the database. So a store that another process makes meanwhile is
  never taken for a lost store, and neither is a store whose creation was cut off.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import sqlite3
import stat
import struct
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from faregate.errors import FaregateError, InvalidInput, StoreUnavailable
from faregate.stores.sqlite.page import read_page
from faregate.values.names import abbreviated

if TYPE_CHECKING:
    from collections.abc import Generator

_MOUNTS = Path("/proc/self/mountinfo")

# Suffixes of the files that every process has to find. A key may well be mounted alone.
_SHARED = ("", "-wal", "-shm", "-page")

# Suffixes of the files that are made after the tables.
_LASTING = ("-page", ".key")
_COMPANIONS = ("-wal", "-shm", *_LASTING)

# Users of a database lock these bytes: SHARED_FIRST in https://sqlite.org/src/file/src/os.h.
_SHARED_FIRST = 0x40000000 + 2
_SHARED_SIZE = 510


@contextmanager
def in_use(path: str) -> Generator[None]:
    """Let the database look used by another process, so that closing a connection keeps its log.

    The locks of this process on the database end with this context. So the process must not use
    any connection afterwards that is open now. Nothing is done on a system without such locks, or
    while a log is being removed.
    """
    if sys.platform != "linux":
        yield
        return

    # A garbage collection may write last uses, through a connection whose locks would end.
    collects = gc.isenabled()
    gc.disable()

    descriptor = None
    try:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            # The struct flock of a 64-bit Linux. A lock of an open file description also excludes
            # the process that holds it, as other locks do not.
            lock = struct.pack(
                "hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0
            )
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
        if collects:
            gc.enable()


def check_names(path: str) -> None:
    """Raise InvalidInput if the database, or a file that processes share, has a second name."""
    if problem := _second_name(path):
        raise InvalidInput(f"store: {problem}")


def _second_name(path: str) -> str | None:
    """Return the problem of a file that is hard-linked or mounted alone, or None.

    Without ``/proc`` the mounts are unknown, and only hard links are found.
    """
    try:
        mounts = _MOUNTS.read_bytes()
    except OSError:
        mounts = b""

    for file in (f"{path}{suffix}" for suffix in _SHARED):
        try:
            status = os.lstat(file)
        except OSError:
            continue

        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            return (
                f"{file} has {status.st_nlink} names (hard links), and SQLite would keep a "
                "write-ahead log for each name and lose changes: remove the other names "
                f"('find -inum {status.st_ino}' shows them), or wait until a backup by links is "
                "done; back up with '.backup' instead"
            )
        # The search for a text is cheaper than the parse, and nearly always enough.
        if b" %s " % _escaped(file) in mounts and _is_mounted(file, mounts):
            return (
                f"{file} is mounted alone, so other processes have another write-ahead log, and "
                f"changes are lost: mount the directory {Path(path).parent} instead"
            )
    return None


def _escaped(file: str) -> bytes:
    """Return a path in the form of ``mountinfo``, see proc(5)."""
    escapes = {b"\\": b"\\134", b" ": b"\\040", b"\t": b"\\011", b"\n": b"\\012"}
    raw = os.fsencode(file)
    for byte, escape in escapes.items():
        raw = raw.replace(byte, escape)
    return raw


def _is_mounted(file: str, mounts: bytes) -> bool:
    # The fifth field of a line is the mount point.
    escaped = _escaped(file)
    return any(line.split(b" ")[4:5] == [escaped] for line in mounts.splitlines())


def traces(path: str) -> list[str]:
    """Return the companions that are traces of a store; look at them before the database.

    A page that announces no change is no trace: the creation of its store may have been cut off.
    """
    companions = [f"{path}{suffix}" for suffix in _COMPANIONS]
    existing = [file for file in companions if os.path.lexists(file)]
    return [file for file in existing if not (file.endswith("-page") and _announces_nothing(path))]


def _announces_nothing(path: str) -> bool:
    """Return True if no change of the store was ever announced on its page."""
    try:
        return read_page(path) == 0
    except OSError:
        return False


def check_kept(path: str, companions: list[str]) -> None:
    """Raise InvalidInput if the database is gone or emptied, though its companions are there.

    Call it before SQLite opens the database: SQLite removes the log of an empty database.
    """
    if not companions:
        return

    try:
        emptied = os.stat(path).st_size == 0
    except FileNotFoundError:
        raise InvalidInput(f"store: {path} is gone, {_how_to_go_on(path, companions)}") from None
    if emptied:
        raise InvalidInput(f"store: {path} is empty, {_how_to_go_on(path, companions)}")


def check_never_used(path: str, companions: list[str]) -> None:
    """Raise InvalidInput if a database without tables had tables, as its page or key shows."""
    lasting = [file for file in companions if file.endswith(_LASTING)]
    if lasting:
        raise InvalidInput(
            f"store: {path} holds nothing of faregate any more, {_how_to_go_on(path, lasting)}"
        )


def _how_to_go_on(path: str, companions: list[str]) -> str:
    names = abbreviated(companions)
    verb = "show" if len(companions) > 1 else "shows"
    remedy = (
        f"but {names} beside it {verb} that there was a store: restore a backup of {path}; or, to "
        f"begin anew, where no former token is valid, remove {names}"
    )
    if companions != [f"{path}.key"]:
        return remedy
    return (
        f"{remedy}; if you put the key there for a new store, move it away for the first start and "
        "back after it"
    )


def check_whole(path: str | None, missing: list[str]) -> None:
    """Raise InvalidInput if tables, columns or rows are missing that every creation makes."""
    if missing:
        raise InvalidInput(
            f"store: {path} lacks {abbreviated(missing)}: restore a backup, or name a file in "
            "which no other tables have these names"
        )


def check_usable(path: str) -> None:
    """Raise InvalidInput for a path that is no regular file: a directory, a pipe, a device."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode):
        raise InvalidInput(
            f"store: {path} is a directory; name a file in it, such as {path}/gate.db"
        )
    if not stat.S_ISREG(mode):
        raise InvalidInput(f"store: {path} is not a regular file; name another file")


def explained(path: str | None, error: Exception) -> FaregateError:
    """Return the error to raise for a driver's error: the file, the problem, and the remedy.

    ``path`` is None for a store in memory. SQLite's code says little about a file that it cannot
    open or write, so its permissions and its disk are looked at.
    """
    cause = getattr(error, "orig", error)
    store = path or "the store in memory"
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    number = getattr(cause, "errno", None)

    if code == sqlite3.SQLITE_NOTADB:
        return InvalidInput(
            f"store: {store} is not a SQLite database ({cause}): name another file, or restore "
            "a backup"
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return StoreUnavailable(f"{store} is damaged ({cause}): restore a backup")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreUnavailable(
            f"{store} is locked by another process ({cause}): end that process, or try again later"
        )

    if path is not None and (refusal := _refusal(path)):
        return StoreUnavailable(f"{refusal} ({cause})")
    if code == sqlite3.SQLITE_FULL or number == errno.ENOSPC or _is_full(path):
        return StoreUnavailable(
            f"{store} cannot be written ({cause}): its disk is full, so make room"
        )
    return StoreUnavailable(f"{store} cannot be opened: {cause}")


def _is_full(path: str | None) -> bool:
    """Return True if the disk of a store is full, for which SQLite may have a vague code."""
    if path is None:
        return False
    try:
        return os.statvfs(Path(path).parent).f_bavail == 0
    except OSError:
        return False


def _refusal(path: str) -> str | None:
    """Return the first file that this user cannot read or write, with the remedy, or None."""
    folder = Path(path).parent
    for file in (str(folder), path, *traces(path)):
        if not os.path.lexists(file) or os.access(file, os.R_OK | os.W_OK):
            continue

        remedy = f"by user {os.geteuid()}: give it to that user (chown, chmod)"
        if not os.access(file, os.R_OK):
            return f"{file} cannot be read {remedy}"
        if os.statvfs(file).f_flag & os.ST_RDONLY:
            return (
                f"{file} lies on a file system that is mounted read-only: mount it for writing, or "
                "move the store"
            )
        return f"{file} cannot be written {remedy}"
    return None
