"""The write-ahead log and its index, ``-wal`` and ``-shm`` beside a SQLite file, which all processes have to share.

SQLite forbids to remove or replace them while the file is open. Whoever opened it before goes on with the old ones,
whoever opens it afterwards gets new ones, and neither sees what the other commits. So there are two laws:

- While a connection is open, SQLite itself removes neither: only the last connection that closes folds the log into
  the file and removes both. An open connection whose companions are not those at the path was cut off by somebody. It
  is closed, and nothing is read or acknowledged by it.
- A file that lacks one of them is opened only if nobody else has it open. So those who were cut off all close, and what
  was committed is there when it is opened again: each folds the removed log into the file before it closes. SQLite does
  that only for the last one, who finds nobody else at the file; two who close at once, or one beside whom somebody
  tries whether he is alone, would leave it to each other.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

File = tuple[int, int]
Files = tuple[File, File]

_OPENING = 0.5  # seconds in which another process that opens the file has made its companions
_FOLDING = 2.0  # seconds in which another one has folded the log, or at least ours can be
_PAUSE = 0.005
_MODE = "PRAGMA journal_mode"
_READ = "SELECT 1 FROM sqlite_master LIMIT 1"


class Connection(sqlite3.Connection):
    """A connection that knows which companions it opened, if any, and that is not closed before it has saved a log."""

    path = ""
    companions: Files | None = None

    def close(self) -> None:
        """Close the connection; what is in a log that was removed is folded into the file first."""
        companions, self.companions = self.companions, None
        try:
            if companions is not None and _is_orphan(self.path, companions):
                self._fold()
        finally:
            super().close()

    def _fold(self) -> None:
        deadline = monotonic() + _FOLDING
        with suppress(sqlite3.Error):  # the disk is full, say: another one who closes tries again
            self.rollback()
            # As far as others do not read; they fold the rest when they close. Busy is who folds just now.
            while (
                self.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0][0]
                and monotonic() < deadline
            ):
                sleep(_PAUSE)


class Companions:
    """The companions of one file, as the connections of one store see them."""

    def __init__(self, path: str, uri: str, halt: Callable[[str], NoReturn]) -> None:
        self._path = path
        self._uri = uri
        self._halt = halt
        self._refused: Files | None = None
        self._logless = (
            False  # the file was not in WAL mode when it was opened last, so it has none
        )
        self.torn = False  # a connection was cut off, and none was opened since
        self._why = ""

    def admit(self) -> None:
        """Wait until the file may be opened; the store is halted if that takes long."""
        deadline = monotonic() + (0.0 if self.torn else _OPENING)
        while not self._logless and not self._in_place() and not self._alone():
            if monotonic() >= deadline:
                self._keep_out()
            sleep(_PAUSE)
        self.torn = False

    def note(self, connection: Connection) -> None:
        """Have a new connection open its companions, and know them: from now on nobody may remove them."""
        connection.path = self._path
        connection.execute(_READ).fetchall()
        connection.companions = self._found()
        self._logless = connection.companions is None
        if self._logless and connection.execute(_MODE).fetchall() == [("wal",)]:
            self._logless = False
            self._cut_off()

    def check(self, connection: Connection) -> None:
        """Halt the store if an open connection has other companions than those that are there now."""
        found = self._found()
        if connection.companions is None:  # it was not in WAL mode before
            connection.companions = found
        if found != connection.companions:
            self._refused = found
            self._cut_off()

    def _found(self) -> Files | None:
        log, index = _present(self._path)
        return None if log is None or index is None else (log, index)

    def _in_place(self) -> bool:
        """Tell whether both are there, and are not those that somebody put in the place of the ones in use."""
        found = self._found()
        return found is not None and not (self.torn and found == self._refused)

    def _alone(self) -> bool:
        """Tell whether nobody has the file open, by a lock that bears none beside it."""
        try:
            with closing(sqlite3.connect(self._uri, uri=True, timeout=0.0)) as connection:
                # First of all: whatever reads before it would open the companions, and make them where they lack.
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute(_READ).fetchall()
        except sqlite3.OperationalError as error:
            # Whatever else is wrong, opening the file will tell.
            return error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY
        return True

    def _keep_out(self) -> NoReturn:
        self._shut(
            f"another process has {self._path} open, and the -wal and -shm that all have to share are not beside it; "
            "if it holds the database alone, wait until it ends; if one of them was removed or replaced, stop all "
            "processes that use it, remove nothing more, and start them again"
        )

    def _cut_off(self) -> NoReturn:
        self._shut(
            f"{self._path}-wal or {self._path}-shm was removed or replaced while the database was open; "
            f"stop all processes that use {self._path}, remove nothing more, and start them again"
        )

    def _shut(self, words: str) -> NoReturn:
        """Halt the store, for what was found first: the log says it once."""
        if not self.torn:
            self._why = words
        self.torn = True
        self._halt(self._why)


def _is_orphan(path: str, companions: Files) -> bool:
    """Tell whether one lacks at its path, and no other is in its place: to fold beside a new log would mix both."""
    present = _present(path)
    return None in present and all(
        there in (None, own) for there, own in zip(present, companions, strict=True)
    )


def _present(path: str) -> tuple[File | None, File | None]:
    return _identity(f"{path}-wal"), _identity(f"{path}-shm")


def _identity(file: str) -> File | None:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
