"""SQLite as a database of a store: file, connections, engine, two kinds of transactions.

A file is created with mode 0600 and put into WAL mode. Transactions that write begin IMMEDIATE: a
deferred transaction that reads and then writes fails at once with BUSY_SNAPSHOT, whatever the
time-out. Readers begin deferred and never wait.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import weakref
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import quote

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Engine, QueuePool, StaticPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from faregate.errors import InvalidInput, StoreUnavailable
from faregate.stores.schema import VERSION, schema_version, sequence
from faregate.stores.sqlite import files
from faregate.stores.sqlite.companions import Companions, Connection
from faregate.stores.sqlite.lookup import SqliteLookup, is_busy
from faregate.stores.sqlite.page import FilePage, MemoryPage
from faregate.values import forks

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

    from faregate.errors import FaregateError
    from faregate.stores.database import Page

_logger = logging.getLogger("faregate")

WRITER_WAITS = 15.0  # seconds for the lock that another process holds


class _Creating:
    """Lets one thread at a time create a file, and none while the process forks."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        forks.register(self)

    def hold(self) -> None:
        """Take the lock."""
        self.lock.acquire()

    def before_fork(self) -> None:
        """Do nothing: nothing is open while the lock is free."""

    def after_fork(self, *, child: bool) -> None:
        """Let files be created again, on either side."""
        del child
        self.lock.release()

    def renew(self, *, child: bool) -> None:
        """Make the lock anew."""
        del child
        self.lock = threading.Lock()


_creating = _Creating()


class Halted(OSError):
    """The store must not be used as it is; the text says why, and how to mend it."""


class SqliteDatabase:
    """One SQLite database: a file, or in memory for as long as this object lives."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, url: str) -> None:
        self.path = path_of(url)
        self._memory = _connect(":memory:") if self.path is None else None
        if self._memory is not None:
            weakref.finalize(self, self._memory.close)
        self._memory_page = MemoryPage()
        # The companions as they were before the database was opened.
        self._traces: list[str] = []
        self._companions: Companions | None = None
        self._uri = ""
        self._logged = ""
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()

        if self.path is not None:
            self._traces = files.traces(self.path)
            files.check_usable(self.path)
            files.check_kept(self.path, self._traces)
            _create_private(self.path)
            files.check_names(self.path)
            # mode=rw: a missing file is an error, never an empty database.
            self._uri = f"file:{quote(os.fsencode(self.path))}?mode=rw"
            self._companions = Companions(self.path, self._uri, self.halt)

    @property
    def in_memory(self) -> bool:
        """Whether the database is in memory, on one connection."""
        return self.path is None

    @property
    def file(self) -> str | None:
        """The file of the database; None in memory."""
        return self.path

    def lookup(self) -> SqliteLookup:
        """Return the hot queries, on a connection of their own."""
        return SqliteLookup(self.connect, keep=self.in_memory)

    def check_whole(self, missing: list[str]) -> None:
        """Raise InvalidInput if tables, columns or rows are missing that no creation leaves out."""
        files.check_whole(self.path, missing)

    def explained(self, error: Exception) -> FaregateError:
        """Return the error for a file that cannot be opened: the fault, and its remedy."""
        return files.explained(self.path, error)

    def is_busy(self, error: BaseException) -> bool:
        """Return True if another process holds the database: then try again."""
        return is_busy(error)

    def driver_connection(self, connection: SqlConnection) -> Connection:
        """Return the driver's connection."""
        return cast("Connection", connection.connection.dbapi_connection)

    def check_never_used(self) -> None:
        """Raise InvalidInput if there were tables. Called where there are none now."""
        if self.path is not None:
            files.check_never_used(self.path, self._traces)

    def halt(self, words: str) -> NoReturn:
        """Raise Halted. The log says so once, however many requests are refused."""
        if words != self._logged:
            _logger.error("the store is shut: %s", words)
        self._logged = words
        raise Halted(words)

    def check_version(self, version: str | None) -> None:
        """Raise Halted unless the tables are of the version that this process knows."""
        if version != VERSION:
            self.halt(
                f"the tables of {self.path} have version {version or 'none'}, "
                f"this process needs {VERSION}; start it again with the newest faregate, "
                "and run 'faregate db upgrade' if that asks for it"
            )

    @property
    def torn(self) -> bool:
        """Whether open connections have to be closed: they lead to a log that others do not see."""
        return self._companions is not None and self._companions.torn

    def check(self, connection: Connection) -> None:
        """Raise Halted if the companions of an open connection were removed or replaced."""
        if self._companions is not None:
            self._companions.check(connection)

    def connect(self, waits: float = 0.0) -> Connection:
        """Return a connection that waits so long for others; in memory always the same."""
        if self._memory is not None:
            return self._memory

        torn = self.torn
        if self._companions is not None:
            self._companions.admit()

        connection = _connect(self._uri, waits)
        self._connections.add(connection)
        try:
            if self._companions is not None:
                self._companions.note(connection)
        except (sqlite3.Error, OSError):
            connection.close()
            raise

        if torn:
            self._logged = ""
        return connection

    def close_connections(self, *, idle: bool) -> None:
        """Close all connections to a file, or only the ``idle`` ones.

        In a child of an unannounced fork all are closed: while a connection of the parent is open
        there, no other connection of the child holds a lock that other processes see.
        """
        # SQLite removes a log with the last connection. After a fork it cannot tell whether the log
        # is its own.
        log_kept = nullcontext() if idle or self.path is None else files.in_use(self.path)
        with log_kept:
            for connection in list(self._connections):
                with suppress(sqlite3.Error):
                    if not (idle and connection.in_transaction):
                        connection.close()

    def page(self, *, create: bool) -> Page:
        """Return the page as it is now; OSError if the page of a file cannot be opened for writing.

        Only the holder of the write lock may ``create`` it.
        """
        return self._memory_page if self.path is None else FilePage(self.path, create=create)

    def prepare(self) -> None:
        """Put a file into WAL mode: readers and the writer do not wait for each other.

        Fails if another process uses it just now.
        """
        with closing(self.connect()) if self.path else nullcontext(self.connect()) as connection:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()

    def identity(self) -> tuple[int, int]:
        """Return the identity of the file at the path; OSError if there is none."""
        if self.path is None:
            return (0, 0)
        found = os.stat(self.path)
        return (found.st_dev, found.st_ino)

    def engine(self, *, waits: float) -> Engine:
        """Return a new engine for this database, with two connections: a reader's and the writer's.

        A new connection waits ``waits`` seconds for a process that holds the database alone. The
        engine begins no transaction by itself: :meth:`transaction` does.
        """
        # The pool is named: SQLAlchemy's own choice for SQLite in memory closes connections in use.
        options: dict[str, Any] = {"poolclass": StaticPool}
        if self.path is not None:
            options = {"poolclass": QueuePool, "pool_size": 2, "max_overflow": 0}
        engine = create_engine(
            "sqlite://", creator=partial(self.connect, waits), hide_parameters=True, **options
        )
        event.listen(engine, "checkin", self._return)
        event.listen(engine, "connect", _leave_transactions_alone)
        return engine

    @contextmanager
    def transaction(
        self, engine: Engine, *, writing: bool, at_once: bool = False
    ) -> Generator[SqlConnection]:
        """Open a transaction, committed at the end of the block, rolled back by an exception.

        ``at_once`` fails if another process holds the database; otherwise the process is waited
        for.
        """
        # Not in a listener for SQLAlchemy's "begin": with a listener each statement costs more.
        with engine.begin() as connection:
            if at_once:
                _begin_at_once(self.driver_connection(connection), writing=writing)
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
            self.check(self.driver_connection(connection))
            yield connection

    def columns(self, connection: SqlConnection) -> dict[str, set[str]]:
        """Return the columns of each table of the package, also those of other versions."""
        found: dict[str, set[str]] = {}
        rows = connection.exec_driver_sql(
            "SELECT m.name, p.name FROM sqlite_master AS m, pragma_table_info(m.name) AS p "
            "WHERE m.type IN ('table', 'view') AND substr(m.name, 1, 9) = 'faregate_'"
        )
        for table, column in rows:
            found.setdefault(table, set()).add(column)
        return found

    def missing_rows(self, connection: SqlConnection, columns: dict[str, set[str]]) -> list[str]:
        """Return which of the two tables of one row lacks it, while the other has its own.

        Tables that an application made together with its own have neither, until a gate opens them.
        """
        single = [table.name for table in (schema_version, sequence) if table.name in columns]
        empty = [
            name
            for name in single
            if not connection.exec_driver_sql(f"SELECT 1 FROM {name} LIMIT 1").all()  # noqa: S608  a table of this package
        ]
        if len(empty) == len(single):
            return []
        return [f"the row of {name}" for name in empty]

    def _return(self, _: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        """Keep no connection in the pool that was cut off."""
        if self.torn:
            entry.invalidate()


def _begin_at_once(connection: Connection, *, writing: bool) -> None:
    """Begin a transaction, or fail if another process holds the database.

    A thread that waits in SQLite cannot let go of a lock for a fork. Only the begin fails at once:
    a commit without WAL waits for readers, and cannot be repeated.
    """
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        if writing:
            connection.execute("BEGIN IMMEDIATE")
        else:
            connection.execute("BEGIN")
            # This takes the read lock.
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(WRITER_WAITS * 1000)}")


def _leave_transactions_alone(dbapi_connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    dbapi_connection.isolation_level = None


def path_of(url: str) -> str | None:
    """Return the path of a SQLite URL, None for memory; InvalidInput for any other URL."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        # Not quoted: it may hold a password.
        raise InvalidInput("store: expected a database URL such as sqlite:///gate.db") from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise InvalidInput(
            f"store: {parsed.drivername} is not supported yet; use sqlite:///<file> or sqlite://"
        )
    if parsed.host or parsed.query:
        raise InvalidInput(
            "store: a SQLite URL is sqlite:///<file> (four slashes for an absolute path), "
            "without options"
        )
    if parsed.database in (None, "", ":memory:"):
        return None
    if parsed.database.startswith("file:"):
        raise InvalidInput("store: write the path itself, sqlite:///<file>, not a file: URI")
    return os.path.realpath(parsed.database)


def _create_private(path: str) -> None:
    """Create the file with mode 0600 where it does not exist.

    The descriptor is closed before any connection of this process can be open: closing it later
    would drop the locks of that connection (POSIX advisory locks belong to the process and the
    file).
    """
    forks.look()
    with _creating.lock:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise StoreUnavailable(
                    f"{path} cannot be made: its disk is full, so make room"
                ) from error
            raise InvalidInput(
                f"store: cannot create {path}: {error.strerror}; make its directory, which this "
                "process must be able to write, or name another file"
            ) from error


def _connect(database: str, waits: float = 0.0) -> Connection:
    connection = sqlite3.connect(
        database,
        uri=True,
        timeout=waits,
        isolation_level=None,
        check_same_thread=False,
        factory=Connection,
    )
    # A text that was broken by hand is an odd text, no failure of the store.
    connection.text_factory = _text
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        # An acknowledged revocation outlives a power cut.
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        # The file may be no database.
        connection.close()
        raise
    return connection


def _text(data: bytes) -> str:
    try:
        # Without arguments it is faster.
        return data.decode()
    except UnicodeDecodeError:
        return data.decode(errors="replace")
