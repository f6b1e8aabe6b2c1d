"""The files of a SQLite store: what lies beside the database, whose it is, and whether it is what it was.

A database has one name, because SQLite finds its write-ahead log beside the name: by a second one there is a
second log, and what was acknowledged through one is lost through the other.

A database is made before its companions, and its tables before the key, and before the page announces anything. So
companions without a database, and a key or such a page without tables, are what is left of a store. Who looks at
them first and then at the database is misled by nobody who makes a store at the same time, and by none that died in
the middle of it.
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
_SHARED = (
    "",
    "-wal",
    "-shm",
    "-page",
)  # what every process has to find; a key may well be mounted alone
_LASTING = ("-page", ".key")  # made after the tables
_COMPANIONS = ("-wal", "-shm", *_LASTING)
# Those who use a database have a lock on these bytes of it: https://sqlite.org/src/file/src/os.h, SHARED_FIRST.
_FIRST_SHARED, _ALL_SHARED = 0x40000000 + 2, 510


@contextmanager
def in_use(path: str) -> Generator[None]:
    """Have the database look used by another process, so that no connection that is closed here removes its log.

    Only while this process has no connection to it that it will use: its locks end with this. Where the system has
    no such locks, and where a log is being removed just now, nothing is done.
    """
    if sys.platform != "linux":
        yield
        return

    collects = gc.isenabled()
    gc.disable()  # a collection may write last uses, by a connection whose locks would end
    descriptor = None
    try:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            # struct flock of a 64-bit Linux. Unlike other locks these keep out the process that has them, too.
            lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, _FIRST_SHARED, _ALL_SHARED, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
        if collects:
            gc.enable()


def check_names(path: str) -> None:
    """Raise InvalidInput if the database, or a file that SQLite shares between processes, has a second name."""
    if words := second_name(path):
        raise InvalidInput(f"store: {words}")


def second_name(path: str) -> str | None:
    """Return what is wrong, and what to do, if a file of the store is hard-linked or mounted alone; else None.

    Where the system does not tell its mounts (no ``/proc``) only links are found.
    """
    try:
        mounts = _MOUNTS.read_bytes()
    except OSError:
        mounts = b""

    for file in (f"{path}{suffix}" for suffix in _SHARED):
        try:
            found = os.lstat(file)
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            return (
                f"{file} has {found.st_nlink} names (hard links), by each of which SQLite would keep another "
                f"write-ahead log and lose changes: remove the others ('find -inum {found.st_ino}' shows them), or wait"
                " if a backup by links is being made; back up with '.backup' instead"
            )
        if b" %s " % _escaped(file) in mounts and _is_mounted(file, mounts):
            return (
                f"{file} is mounted alone, so SQLite's write-ahead log beside it is not that of other processes, and "
                f"changes are lost: mount the directory {Path(path).parent} instead"
            )
    return None


def _escaped(file: str) -> bytes:
    """Return a path as ``mountinfo`` writes it (proc(5))."""
    escapes = {b"\\": b"\\134", b" ": b"\\040", b"\t": b"\\011", b"\n": b"\\012"}
    raw = os.fsencode(file)
    for byte, escape in escapes.items():
        raw = raw.replace(byte, escape)
    return raw


def _is_mounted(file: str, mounts: bytes) -> bool:
    escaped = _escaped(file)
    return any(line.split(b" ")[4:5] == [escaped] for line in mounts.splitlines())


def traces(path: str) -> list[str]:
    """Return the companions that are there; look at them before the database."""
    there = [
        file for file in (f"{path}{suffix}" for suffix in _COMPANIONS) if os.path.lexists(file)
    ]
    return [file for file in there if not (file.endswith("-page") and _announces_nothing(path))]


def _announces_nothing(path: str) -> bool:
    """Tell whether a page was made for a store in which nothing was ever changed, and which may not be finished."""
    try:
        return read_page(path) == 0
    except OSError:
        return False


def check_kept(path: str, companions: list[str]) -> None:
    """Raise InvalidInput if the database is gone or emptied, though its companions say that there was one.

    Called before SQLite opens it, which would remove the log of an empty database.
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
    """Raise InvalidInput if a database without tables had some, as its page or key says."""
    lasting = [file for file in companions if file.endswith(_LASTING)]
    if lasting:
        raise InvalidInput(
            f"store: {path} holds nothing of faregate any more, {_how_to_go_on(path, lasting)}"
        )


def _how_to_go_on(path: str, companions: list[str]) -> str:
    names = abbreviated(companions)
    alone = companions == [f"{path}.key"]
    ours = "; if you put the key there for a new store, move it away for the first start and back after it"
    return (
        f"but {names} beside it {'say' if len(companions) > 1 else 'says'} that there was a store: restore a backup of "
        f"{path}; or, to begin anew, where no token of before opens anything, remove {names}{ours if alone else ''}"
    )


def check_whole(path: str | None, missing: list[str]) -> None:
    """Raise InvalidInput if tables, columns or rows are missing that no creation leaves out."""
    if missing:
        raise InvalidInput(
            f"store: {path} lacks {abbreviated(missing)}: restore a backup, or name a file in which no other tables have "
            "these names"
        )


def check_usable(path: str) -> None:
    """Raise InvalidInput for what can be no database whatever is in it: a directory, a pipe, a device."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode):
        raise InvalidInput(
            f"store: {path} is a directory; name a file in it, such as {path}/gate.db"
        )
    if not stat.S_ISREG(mode):
        raise InvalidInput(f"store: {path} is no file that could hold a database; name another")


def explained(path: str | None, error: Exception) -> FaregateError:
    """Return the error to raise where a store cannot be opened, with the file, what is wrong, and what to do."""
    cause = getattr(error, "orig", error)
    what = f"{path or 'the store in memory'}"
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    number = getattr(cause, "errno", None)

    if code == sqlite3.SQLITE_NOTADB:
        return InvalidInput(
            f"store: {what} is no SQLite database ({cause}): name another file, or restore a backup"
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return StoreUnavailable(f"{what} is damaged ({cause}): restore a backup")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreUnavailable(
            f"{what} is held by another process ({cause}): end that, or try again when it is done"
        )
    if path is not None and (refused := _not_permitted(path)):
        return StoreUnavailable(f"{refused} ({cause})")
    if code == sqlite3.SQLITE_FULL or number == errno.ENOSPC or _is_full(path):
        return StoreUnavailable(
            f"{what} cannot be written ({cause}): its disk is full, so make room"
        )
    return StoreUnavailable(f"{what} cannot be opened: {cause}")


def _is_full(path: str | None) -> bool:
    """Tell whether nothing can be added: SQLite says no more than that it failed."""
    if path is None:
        return False
    try:
        return os.statvfs(Path(path).parent).f_bavail == 0
    except OSError:
        return False


def _not_permitted(path: str) -> str | None:
    folder = Path(path).parent
    for place in (str(folder), path, *traces(path)):
        if os.path.lexists(place) and not os.access(place, os.R_OK | os.W_OK):
            if not os.access(place, os.R_OK):
                lack = "read"
            elif os.statvfs(place).f_flag & os.ST_RDONLY:
                return f"{place} lies on what is mounted read-only: mount it for writing, or put the store elsewhere"
            else:
                lack = "written"
            return f"{place} cannot be {lack} by user {os.geteuid()}: give it to that user (chown, chmod)"
    return None
