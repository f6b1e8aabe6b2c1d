"""Opening SQLite: the file and its mode, the connections, and the engine with its two faces.

A file is created with mode 0600 and put into WAL mode. Writers use ``execution_options(writing=True)``, whose
transactions begin IMMEDIATE: a deferred one that reads and then writes fails at once with BUSY_SNAPSHOT,
whatever the time-out. Readers begin deferred and never wait.
"""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from contextlib import closing, nullcontext
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, StaticPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from faregate.errors import InvalidInput
from faregate.stores.page import FilePage, MemoryPage, Page

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

WRITER_WAITS = 15.0  # seconds for the lock that another process holds
_creating = Lock()
os.register_at_fork(before=_creating.acquire, after_in_parent=_creating.release, after_in_child=_creating.release)


class SqliteDatabase:
    """One SQLite database: a file, or, where ``path`` is None, in memory for as long as this object lives."""

    def __init__(self, url: str) -> None:
        self.path = path_of(url)
        self._memory = _connect(":memory:") if self.path is None else None
        if self._memory is not None:
            weakref.finalize(self, self._memory.close)
        self._memory_page = MemoryPage()
        if self.path is not None:
            _create_private(self.path)

    def connect_reader(self) -> sqlite3.Connection:
        """Return a connection for look-ups that never waits; of a database in memory always the same one."""
        return self._connect(0.0)

    def connect_writer(self) -> sqlite3.Connection:
        """Return a connection that waits longer; of a database in memory always the same one."""
        return self._connect(WRITER_WAITS)

    def _connect(self, waits: float) -> sqlite3.Connection:
        if self._memory is not None:
            return self._memory
        # mode=rw: a file that was taken away is an error, never an empty database.
        return _connect(f"file:{quote(os.fsencode(str(self.path)))}?mode=rw", waits)

    def page(self, *, create: bool) -> Page:
        """Return the page of this database as it is now; OSError if a file's page cannot be opened for writing.

        Only who holds the write lock may ``create`` it.
        """
        return self._memory_page if self.path is None else FilePage(self.path, create=create)

    def enter_wal(self) -> None:
        """Put a file into WAL mode, where readers and the writer do not wait for each other.

        SQLite answers a second process that does the same with "locked" at once, so it is asked again.
        """
        deadline = time.monotonic() + WRITER_WAITS
        with closing(self.connect_writer()) if self.path else nullcontext(self.connect_writer()) as connection:
            while True:
                try:
                    connection.execute("PRAGMA journal_mode = WAL").fetchall()
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error) or time.monotonic() >= deadline:
                        raise
                    time.sleep(0.02)
                else:
                    return

    def identity(self) -> tuple[int, int]:
        """Return which file the path leads to now; OSError if it leads to none."""
        if self.path is None:
            return (0, 0)
        found = os.stat(self.path)
        return (found.st_dev, found.st_ino)

    def engine(self) -> Engine:
        """Return a new engine for this database. Two connections are enough: a reader's and the writer's.

        The pool is named, since SQLAlchemy's own choice for SQLite in memory closes connections that are in use.
        """
        options: dict[str, Any] = {"poolclass": StaticPool}
        if self.path is not None:
            options = {"poolclass": QueuePool, "pool_size": 2, "max_overflow": 0}
        engine = create_engine("sqlite://", creator=self.connect_writer, hide_parameters=True, **options)
        event.listen(engine, "begin", _begin)
        event.listen(engine, "connect", _leave_transactions_alone)
        return engine


def is_busy(error: BaseException) -> bool:
    """Return True if somebody else holds the database, so that the same may be tried again."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF == sqlite3.SQLITE_BUSY


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("at_once"):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writing") else "BEGIN")
        return

    # Who waits in SQLite cannot let go of a lock for a fork. Only the begin fails at once: a commit without WAL waits
    # for readers, and cannot begin again.
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        if options.get("writing"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()  # takes the read lock
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(WRITER_WAITS * 1000)}")


def _leave_transactions_alone(dbapi_connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    dbapi_connection.isolation_level = None


def path_of(url: str) -> str | None:
    """Return the path of a SQLite URL, None for memory; InvalidInput for any other URL."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        # Not quoted: there may be a password in it.
        raise InvalidInput("store: expected a database URL such as sqlite:///gate.db") from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise InvalidInput(f"store: {parsed.drivername} is not supported yet; use sqlite:///<file> or sqlite://")
    if parsed.host or parsed.query:
        raise InvalidInput("store: a SQLite URL is sqlite:///<file> (four slashes for an absolute path), no options")
    if parsed.database in (None, "", ":memory:"):
        return None
    if parsed.database.startswith("file:"):
        raise InvalidInput("store: write the path itself, sqlite:///<file>, not a file: URI")
    return os.path.realpath(parsed.database)


def _create_private(path: str) -> None:
    """Create the file with mode 0600 where it does not exist.

    The descriptor is closed before any connection of this process can be open: closing it later would drop
    the locks of that connection (POSIX advisory locks belong to the process and the file).
    """
    with _creating:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return
        except OSError as error:
            raise InvalidInput(f"store: cannot create {path}: {error.strerror}") from error


def _connect(database: str, waits: float = 0.0) -> sqlite3.Connection:
    connection = sqlite3.connect(database, uri=True, timeout=waits, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text  # a text that was broken by hand is an odd text, no failure of the store
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # an acknowledged revocation outlives a power cut
    except sqlite3.Error:  # the file is no database, say
        connection.close()
        raise
    return connection


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
