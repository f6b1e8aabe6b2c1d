"""The store: transactions that read or write records, and leave their entries in the change feed.

The laws:

- A writer announces its entries on the page with the write lock held, before its commit. So the
  page may run ahead of the database, and never behind: a writer that dies costs reads, never
  freshness.
- Nothing is acknowledged that went into a log which other processes do not see, or past a page that
  readers no longer map.
- Nothing is open while the process forks. A thread that waits for another process holds no lock, so
  that a fork waits for running transactions alone.
"""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection, Engine, bindparam, insert, inspect, make_url, select, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from faregate.errors import InvalidInput, StoreUnavailable
from faregate.stores import schema
from faregate.stores.database import LOOK_EVERY, driver_errors, open_database
from faregate.stores.feed_rows import FeedRows
from faregate.stores.refresh_rows import RefreshRows
from faregate.stores.revocation_rows import RevocationRows
from faregate.stores.rows import lineage
from faregate.stores.schema import feed, schema_version, sequence
from faregate.stores.share_rows import ShareRows
from faregate.stores.token_rows import TokenRows
from faregate.values import forks

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from threading import RLock

    from faregate.stores.change_feed import Entry
    from faregate.stores.database import Page

WRITER_WAITS = 15.0  # seconds for the lock that another process holds
# Seconds between tries for a lock of the database; the last one repeats.
_PAUSES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
_SOUND = 2**62  # no honest sequence reaches it

_SELECT_VERSION = select(schema_version.c.version_num)
_SELECT_PAGE = select(sequence.c.page)
_SELECT_SEQUENCE = select(sequence.c.value)
_COUNT_UP = update(sequence).values(value=sequence.c.value + bindparam("entries"))
_SET_SEQUENCE = update(sequence).values(value=bindparam("last"))
_INSERT_ENTRIES = insert(feed)


class Reading:
    """A transaction that reads: every statement sees the same state."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.tokens = TokenRows(connection)
        self.refresh = RefreshRows(connection)
        self.shares = ShareRows(connection)
        self.revocations = RevocationRows(connection)
        self.feed = FeedRows(connection)

    def lineage(self, token_id: str) -> Sequence[str]:
        """Return the ids of a token and of all its descendants, deleted ones included."""
        return lineage(self._connection, token_id)


class Change(Reading):
    """A transaction that writes. Every management call writes its entries with :meth:`enter`."""

    def __init__(self, connection: Connection, page: Page) -> None:
        super().__init__(connection)
        self._page = page

    def enter(self, *entries: Entry) -> None:
        """Write entries of the feed, and announce them on the page while the write lock is held."""
        if not entries:
            return

        last = self._last_sequence(len(entries))
        rows = [
            {
                **entry._asdict(),
                "details": msgspec.json.encode(entry.details).decode(),
                "sequence": number,
            }
            for number, entry in enumerate(entries, last - len(entries) + 1)
        ]
        self._connection.execute(_INSERT_ENTRIES, rows)
        self._page.advance(last)

    def _last_sequence(self, entries: int) -> int:
        """Count the sequence up by a number of entries, and return the last sequence."""
        # RETURNING would save a statement. SQLite before 3.35, which some systems have, does not
        # know it.
        self._connection.execute(_COUNT_UP, {"entries": entries})
        last: int = self._connection.execute(_SELECT_SEQUENCE).scalar_one()

        announced = self._page.view[0]
        if last - entries < announced < _SOUND:
            # The page is ahead: a writer died, or the file was restored. The announced number is
            # skipped, so that no reader takes a new change for an applied one.
            last = announced + entries
            self._connection.execute(_SET_SEQUENCE, {"last": last})
        return last


class Store:
    """One database. Making a store opens, checks and closes it; the first use opens it again.

    ``lock`` is held over every transaction that writes, and in memory over every one. Readers of a
    file hold another lock. A caller who needs both takes the readers' lock last: others read while
    it waits for a writer. Both are held while the process forks.

    ``presented`` holds the digests of new secrets that were presented, until the next write
    transaction records that.
    """

    def __init__(self, url: str) -> None:
        self.database = open_database(url)
        self._errors: tuple[type[Exception], ...] = (OperationalError, *self.database.errors)
        self._make_locks()
        self._engine: Engine | None = None
        # The open engine, for the finalizer, which must not hold the store.
        self._engines: list[Engine] = []
        # Reference cycles hold the pool: without this, a dropped store would keep its connection
        # until the garbage is collected, perhaps in the middle of a fork. The finalizer that writes
        # the last uses is made later, so it runs earlier at exit, and this one closes the
        # connection that it opened.
        weakref.finalize(self, _dispose, self._engines)
        self._identity = (0, 0)
        self._page: Page | None = None
        self.presented: dict[bytes, None] = {}
        forks.register(self, slow=True)

        with driver_errors(self.database, self.database.explained):
            self._prepare()

    @contextmanager
    def reading(self) -> Generator[Reading]:
        """Open a transaction that reads. StoreUnavailable if the store cannot answer."""
        with (
            driver_errors(self.database),
            self._transaction(WRITER_WAITS, writing=False) as connection,
        ):
            self.database.check_version(_stamp(connection))
            yield Reading(connection)

    @contextmanager
    def changing(self, waits: float = WRITER_WAITS) -> Generator[Change]:
        """Open a transaction that writes: committed at the end, rolled back by an exception.

        StoreUnavailable if the store cannot answer, if other writers take longer than ``waits``
        seconds, or if the page that announces changes cannot be written.
        """
        presented: list[bytes] = []
        with driver_errors(self.database), self._writing(waits) as (connection, page):
            change = Change(connection, page)

            # Before anything is judged: a rotation must know which new secrets were presented
            # before it, so that they no longer count as unseen.
            presented += list(self.presented)
            for digest in presented:
                change.tokens.mark_presented(digest)

            yield change

        for digest in presented:
            self.presented.pop(digest, None)

    def let_go(self) -> None:
        """Close the open connections that no transaction uses, unless that has to be waited for."""
        forks.look()
        opening = self._opening
        if opening.acquire(blocking=False):
            try:
                self._close()
            finally:
                opening.release()

    def close(self) -> None:
        """Close all connections. The next use opens them again."""
        forks.look()
        with self.lock, self._reading, self._opening:
            self._close()

    def hold(self) -> None:
        """Wait for running transactions, before a fork."""
        self.lock.acquire()
        self._reading.acquire()
        self._opening.acquire()

    def before_fork(self) -> None:
        """Close all connections."""
        self._close()

    def after_fork(self, *, child: bool) -> None:
        """Let transactions run again, on either side."""
        del child
        self._opening.release()
        self._reading.release()
        self.lock.release()

    def renew(self, *, child: bool) -> None:
        """Make the locks anew and close all connections, in a child also the parent's."""
        self._make_locks()
        self._engines.clear()
        if not self.database.in_memory:
            # Not disposed of: the pool has locks of its own, as old as these were.
            self._engine = None
        self.database.close_connections(idle=not child)

    def _make_locks(self) -> None:
        self.lock = threading.RLock()
        # In memory there is one connection for all. The readers of a file wait for no writer.
        self._reading = self.lock if self.database.in_memory else threading.RLock()
        # Reentrant: a collection of garbage meanwhile may write the last uses.
        self._opening = threading.RLock()

    @contextmanager
    def _transaction(self, waits: float, *, writing: bool) -> Generator[Connection]:
        """Open a transaction under the lock of its kind, within ``waits`` seconds.

        While another process holds the database, the begin is tried again and again, and the lock
        is let go meanwhile: the process may fork, and other waiting threads meet their own
        deadlines. Nothing was read or changed yet.
        """
        forks.look()
        lock = self.lock if writing else self._reading
        deadline = time.monotonic() + waits
        pauses = iter(_PAUSES)
        while True:
            with ExitStack() as held:
                held.enter_context(_held(lock, deadline))
                transaction = self.database.transaction(self._open(), writing=writing, at_once=True)
                try:
                    connection = held.enter_context(transaction)
                except self._errors as error:
                    if not self.database.is_busy(error) or time.monotonic() >= deadline:
                        raise
                else:
                    yield connection
                    return
            time.sleep(next(pauses, _PAUSES[-1]))

    def _open(self) -> Engine:
        identity = self.database.identity()
        with self._opening:
            # A replaced file: the open connections lead to one that no other process sees.
            replaced = self._identity != identity or self.database.torn
            if self._engine is not None and replaced:
                self._close()

            if self._engine is None:
                engine = self.database.engine(waits=0.0)
                if not self.database.in_memory:
                    self._engines.append(engine)
                self._engine = engine
                self._identity = identity
            return self._engine

    def _close(self) -> None:
        if self._engine is not None and not self.database.in_memory:
            _dispose(self._engines)
            self._engine = None

    @contextmanager
    def _writing(self, waits: float = WRITER_WAITS) -> Generator[tuple[Connection, Page]]:
        """Open a transaction that writes, and the page on which readers learn of it."""
        while True:
            with self._transaction(waits, writing=True) as connection:
                # Under the write lock: the tables or the page may have been replaced meanwhile.
                self.database.check_version(_stamp(connection))
                known = connection.execute(_SELECT_PAGE).scalar_one()
                page = self._page
                if page is not None and page.identity == known and page.is_current():
                    driver = self.database.driver_connection(connection)
                    yield connection, page
                    break
                # This transaction only renews the page. So a call that is refused later cannot undo
                # it.
                self._renew_page(connection, known, waits)

        # A reader that mapped another page during this change has not been told of it. So wait
        # until it looks again.
        self.database.check(driver)
        if not page.is_current():
            _wait_for_readers()

    def _renew_page(self, connection: Connection, known: str | None, waits: float) -> None:
        """Open the page at its path, and store its identity as the page that readers map.

        StoreUnavailable if readers have to be waited for and ``waits`` is too short.
        """
        page = self.database.page(create=True)
        if known is not None and (page.created or page.identity != known):
            # NULL is committed first: inode numbers are reused, so that a later page could pass for
            # the known one.
            connection.execute(update(sequence).values(page=None))
            return

        if known is None:
            # The page was deleted or replaced. The write lock is held until all readers have
            # noticed.
            if waits < LOOK_EVERY:
                raise StoreUnavailable
            if self._page is not None:
                self._page.retire()
            _wait_for_readers()
            if not page.created and not page.is_current():
                # Another page came meanwhile.
                return
            connection.execute(update(sequence).values(page=page.identity))

        # Last: a writer that dies earlier leaves no page, and without a page the feed is read.
        page.publish()
        self._page = page

    def _prepare(self) -> None:
        """Create the tables in an empty database, refuse another version, put the page in step."""
        in_step = False
        with self._transaction(WRITER_WAITS, writing=False) as connection:
            columns = self.database.columns(connection)
            version = _stamp(connection) if schema_version.name in columns else None
            missing = schema.missing_from(columns) + self.database.missing_rows(connection, columns)
            if version == schema.VERSION and not missing:
                in_step = self._in_step(connection)

        if version == schema.VERSION or (version is None and columns):
            self.database.check_whole(missing)
        if version is None:
            self.database.check_never_used()
        if version in (None, schema.VERSION):
            self._prepare_database()

        if version is None:
            with self._transaction(WRITER_WAITS, writing=True) as connection:
                version = _version(connection) or self._create(connection)
                in_step = version == schema.VERSION and self._in_step(connection)
        if version != schema.VERSION:
            raise InvalidInput(
                f"store: its tables have version {version}, this faregate needs {schema.VERSION}; "
                "run 'faregate db upgrade' with the newest faregate"
            )

        if not in_step:
            # A page out of step costs reads, never freshness. So a process that may only read goes
            # on.
            with suppress(SQLAlchemyError, OSError), self._writing() as (connection, page):
                page.advance(connection.execute(_SELECT_SEQUENCE).scalar_one())
        self.close()

    def _prepare_database(self) -> None:
        """Bring the database into its mode. A second process at once finds it busy, and retries."""
        deadline = time.monotonic() + WRITER_WAITS
        while True:
            try:
                with _held(self.lock, deadline):
                    self.database.prepare()
            except self.database.errors as error:
                if not self.database.is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSES[-1])
            else:
                return

    def _create(self, connection: Connection) -> str:
        """Create the tables and the page. A store without tables has no readers to wait for."""
        self._page = self.database.page(create=True)
        for definition in _definitions(connection.dialect.name):
            connection.exec_driver_sql(definition)
        connection.execute(insert(sequence).values(id=1, value=0, page=self._page.identity))
        connection.execute(insert(schema_version).values(version_num=schema.VERSION))
        self._page.publish()
        return schema.VERSION

    def _in_step(self, connection: Connection) -> bool:
        """Return True if the page announces the newest entry: then no writer is waited for."""
        last, known = connection.execute(select(sequence.c.value, sequence.c.page)).one()
        with suppress(OSError):
            page = self.database.page(create=False)
            return bool(page.identity == known and page.view[0] == last)
        return False


def _dispose(engines: list[Engine]) -> None:
    while engines:
        engines.pop().dispose()


def _wait_for_readers() -> None:
    """Sleep until every reader has looked at its files, and so reads the feed."""
    time.sleep(LOOK_EVERY * 1.1)


@contextmanager
def _held(lock: RLock, deadline: float) -> Generator[None]:
    """Hold a lock; StoreUnavailable if it cannot be taken before the deadline."""
    if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise StoreUnavailable
    try:
        yield
    finally:
        lock.release()


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(schema_version.name):
        return None
    return _stamp(connection)


def _stamp(connection: Connection) -> str | None:
    return connection.execute(_SELECT_VERSION).scalar()


@cache
def _definitions(dialect: str) -> list[str]:
    """Return the statements of ``create_all``, compiled once for all stores of a process."""
    tables = schema.metadata.sorted_tables
    statements: list[CreateTable | CreateIndex] = [
        CreateTable(table, if_not_exists=True) for table in tables
    ]
    for table in tables:
        indices = sorted(table.indexes, key=lambda index: str(index.name))
        statements += [CreateIndex(index, if_not_exists=True) for index in indices]

    compiler = make_url(f"{dialect}://").get_dialect()()
    return [str(statement.compile(dialect=compiler)) for statement in statements]
