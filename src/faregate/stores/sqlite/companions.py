"""The companions of a SQLite file: its write-ahead log ``-wal``, and the log's index ``-shm``.

All processes have to share them. SQLite forbids to remove or replace them while the file is open.
If that happens, earlier connections go on with the old companions, and later connections get
new ones. Neither sees the changes that the other commits.

The states of a store that has the file open::

             the companions at the path are not those of a connection
        OPEN ────────────────────────────────────────────────────────► TORN
         ▲                                                              │
         └── both companions are in place, or nobody has the file open ─┘

The laws:

- While a connection is open, SQLite removes neither companion. Only the last connection that
  closes folds the log into the file, and removes both. So different companions at the path mean
  that somebody else replaced them. The store is halted: its connections are closed, and none
  of them reads or acknowledges anything.
- A file that lacks a companion is opened only if nobody else has it open. So all earlier
  connections are closed first, and their commits are there when the file is opened again: each of
  them folds the removed log into the file before it closes.
- SQLite folds the log only for the last connection of a file. Two that close at once may each
  leave it to the other, and a test for other connections looks to them like another connection.
  So every connection to a removed log folds it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

# A device and an inode.
File = tuple[int, int]

# The log and its index.
Files = tuple[File, File]

_OPENING = 0.5  # seconds in which another process that opens the file makes its companions
_FOLDING = 2.0  # seconds to fold a log, while another process may be folding it
_PAUSE = 0.005  # seconds
_MODE = "PRAGMA journal_mode"
_READ = "SELECT 1 FROM sqlite_master LIMIT 1"


class Connection(sqlite3.Connection):
    """A connection that folds its log into the file before it closes, if the log was removed.

    ``companions`` are those that it opened, and None if it opened none.
    """

    path = ""
    companions: Files | None = None

    def close(self) -> None:
        """Close the connection, and save the commits of a removed log before."""
        companions = self.companions
        self.companions = None
        try:
            if companions is not None and _is_orphan(self.path, companions):
                self._fold()
        finally:
            super().close()

    def _fold(self) -> None:
        deadline = monotonic() + _FOLDING
        # After an error, such as a full disk, the next connection that closes tries again.
        with suppress(sqlite3.Error):
            self.rollback()
            while self._is_busy_after_checkpoint() and monotonic() < deadline:
                sleep(_PAUSE)

    def _is_busy_after_checkpoint(self) -> bool:
        # A passive checkpoint folds as much as no reader needs, and readers fold the rest when they
        # close. It is busy while another connection folds.
        return bool(self.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0][0])


class Companions:
    """Checks that the connections of one store share the companions of its file with everybody.

    ``halt`` is called with the reason if they do not. It halts the store, and raises.
    """

    def __init__(self, path: str, uri: str, halt: Callable[[str], NoReturn]) -> None:
        self._path = path
        self._uri = uri
        self._halt = halt
        self._refused: Files | None = None

        # True if the file was not in WAL mode when it was last opened: it has no companions then.
        self._logless = False

        # True from the moment a connection is cut off until the file may be opened again.
        self.torn = False
        self._reason = ""

    def admit(self) -> None:
        """Wait until the file may be opened; halt the store if that takes long.

        A torn store does not wait.
        """
        deadline = monotonic() + (0.0 if self.torn else _OPENING)
        while not self._logless and not self._in_place() and not self._is_unused():
            if monotonic() >= deadline:
                self._keep_out()
            sleep(_PAUSE)
        self.torn = False

    def note(self, connection: Connection) -> None:
        """Let a new connection open its companions, and remember them.

        From now on nobody may remove them. Halt the store if they were removed meanwhile.
        """
        connection.path = self._path
        connection.execute(_READ).fetchall()
        connection.companions = self._current()

        self._logless = connection.companions is None
        if self._logless and connection.execute(_MODE).fetchall() == [("wal",)]:
            self._logless = False
            self._cut_off()

    def check(self, connection: Connection) -> None:
        """Halt the store if the companions at the path are not those of an open connection."""
        current = self._current()
        if connection.companions is None:
            # The file was not in WAL mode until now.
            connection.companions = current
        if current != connection.companions:
            self._refused = current
            self._cut_off()

    def _current(self) -> Files | None:
        log, index = _identities(self._path)
        if log is None or index is None:
            return None
        return log, index

    def _in_place(self) -> bool:
        """Return True if both companions exist, and are not those that replaced the open ones."""
        current = self._current()
        return current is not None and not (self.torn and current == self._refused)

    def _is_unused(self) -> bool:
        """Return True if nobody has the file open, by a lock that excludes every other lock."""
        try:
            with closing(sqlite3.connect(self._uri, uri=True, timeout=0.0)) as connection:
                # This comes first: a statement before it would open the companions, or make them.
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute(_READ).fetchall()
        except sqlite3.OperationalError as error:
            # Any other error is raised again when the file is opened.
            return error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY
        return True

    def _keep_out(self) -> NoReturn:
        self._tear(
            f"another process has {self._path} open, and the -wal and -shm that all processes "
            "share are not beside it; if that process holds the database alone, wait until it "
            "ends; if one of the files was removed or replaced, stop all processes that use the "
            "database, remove nothing more, and start them again"
        )

    def _cut_off(self) -> NoReturn:
        self._tear(
            f"{self._path}-wal or {self._path}-shm was removed or replaced while the database was "
            f"open; stop all processes that use {self._path}, remove nothing more, and start them "
            "again"
        )

    def _tear(self, reason: str) -> NoReturn:
        """Halt the store for the first reason, so that the log has it once."""
        if not self.torn:
            self._reason = reason
        self.torn = True
        self._halt(self._reason)


def _is_orphan(path: str, companions: Files) -> bool:
    """Return True if a companion is missing at its path, and no other file is in its place.

    Beside a new log nothing is folded: that would mix both logs.
    """
    present = _identities(path)
    return None in present and all(
        identity in (None, own) for identity, own in zip(present, companions, strict=True)
    )


def _identities(path: str) -> tuple[File | None, File | None]:
    return _identity(f"{path}-wal"), _identity(f"{path}-shm")


def _identity(file: str) -> File | None:
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
