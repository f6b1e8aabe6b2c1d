"""Reading and writing records, in transactions that leave their entry in the change feed.

Updates are partial: a statement names the columns that it changes, so that no stale copy brings anything back.
"""

from __future__ import annotations

import re
import sqlite3
import time
import weakref
from contextlib import contextmanager, suppress
from threading import RLock
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, Engine, and_, delete, func, insert, inspect, or_, select, true, update
from sqlalchemy.exc import SQLAlchemyError

from faregate.errors import InvalidInput, StoreUnavailable
from faregate.instants import END_OF_TIME
from faregate.stores import forks, schema
from faregate.stores.page import LOOK_EVERY
from faregate.stores.schema import feed, schema_version, secrets, sequence, tokens
from faregate.stores.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from sqlalchemy import ColumnElement, RowMapping

    from faregate.stores.entry import Entry
    from faregate.stores.page import Page
    from faregate.stores.reach import Reach, TokenQuery

Values = dict[str, Any]

_ID = re.compile(r"[\x21-\x7e]{1,64}")  # what an identifier could be; anything else is found nowhere


_SOUND = 2**62  # what no honest sequence reaches


class Reading:
    """A transaction that reads: every statement sees the same state."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def token(self, token_id: str, reach: Reach | None = None) -> Values | None:
        """Return a token's columns, or None if there is none or it is not reached."""
        if not _ID.fullmatch(token_id):
            return None
        rows = self._connection.execute(select(tokens).where(tokens.c.id == token_id, _reached(reach)))
        row = rows.mappings().first()
        return None if row is None else _sound(row)

    def current_digest(self, token_id: str) -> bytes | None:
        """Return the digest of a token's current credential: the one that no rotation has superseded."""
        if not _ID.fullmatch(token_id):
            return None
        wanted = (secrets.c.token_id == token_id) & secrets.c.superseded_at.is_(None)
        return self._connection.execute(select(secrets.c.digest).where(wanted)).scalar()

    def has_secret(self, digest: bytes, now: float) -> bool:
        """Tell whether a credential is one of its token's live ones."""
        live = secrets.c.superseded_at.is_(None) | (secrets.c.superseded_at > now)
        found = self._connection.execute(select(secrets.c.token_id).where((secrets.c.digest == digest) & live))
        return found.first() is not None

    def list_tokens(self, query: TokenQuery, reach: Reach | None) -> tuple[Sequence[Values], int]:
        """Return one page of the tokens that are reached and meet the query, and how many there are in all."""
        where = [_reached(reach), *_conditions(query)]
        total = self._connection.execute(select(func.count()).select_from(tokens).where(*where)).scalar_one()
        column = tokens.c[query.sort]
        order = column.desc() if query.descending else column.asc()
        rows = select(tokens).where(*where).order_by(order, tokens.c.id).limit(query.limit).offset(query.offset)
        return [_sound(row) for row in self._connection.execute(rows).mappings()], total


class Change(Reading):
    """A transaction that writes. Whatever it changes, :meth:`enter` writes into the feed."""

    def __init__(self, connection: Connection, page: Page) -> None:
        super().__init__(connection)
        self._page = page

    def add_token(self, values: Values, digest: bytes) -> None:
        """Insert a token and the digest of its credential."""
        self._connection.execute(insert(tokens).values(values))
        self._connection.execute(insert(secrets).values(digest=digest, token_id=values["id"]))

    def update_token(self, token_id: str, values: Values) -> None:
        """Change the named columns of a token and count its version up."""
        counted = {**values, "version": tokens.c.version + 1}
        self._connection.execute(update(tokens).where(tokens.c.id == token_id).values(counted))

    def delete_token(self, token_id: str) -> None:
        """Remove a token and its credentials."""
        self._connection.execute(delete(secrets).where(secrets.c.token_id == token_id))
        self._connection.execute(delete(tokens).where(tokens.c.id == token_id))

    def replace_secret(self, token_id: str, current: bytes, new: bytes, superseded_at: float | None) -> bool:
        """Make ``new`` the token's credential if ``current`` still is it; say whether that was so.

        The old one dies at once, or at ``superseded_at``; any older one dies now.
        """
        mine = secrets.c.token_id == token_id
        swapped = self._connection.execute(
            update(secrets)
            .where(mine & (secrets.c.digest == current) & secrets.c.superseded_at.is_(None))
            .values(superseded_at=superseded_at or 0.0)
        )
        if swapped.rowcount != 1:
            return False
        gone = secrets.c.superseded_at.is_not(None) if superseded_at is None else secrets.c.digest != current
        self._connection.execute(delete(secrets).where(mine & gone))
        self._connection.execute(insert(secrets).values(digest=new, token_id=token_id))
        return True

    def enter(self, entry: Entry) -> None:
        """Write one entry of the feed, and announce it on the page while the write lock is held."""
        self._connection.execute(update(sequence).values(value=sequence.c.value + 1))
        number = self._connection.execute(select(sequence.c.value)).scalar_one()
        announced = self._page.view[0]
        if number <= announced < _SOUND:
            # The page is ahead: a writer died, or the file is a restored one. A number that was announced
            # once is not given again, so that nobody takes a new change for one that he has applied.
            number = announced + 1
            self._connection.execute(update(sequence).values(value=number))
        details = msgspec.json.encode(entry.details).decode()
        self._connection.execute(insert(feed).values({**entry._asdict(), "details": details, "sequence": number}))
        self._page.advance(number)

    def note_uses(self, uses: Sequence[tuple[str, float]]) -> None:
        """Move ``last_used_at`` forward, never back; no version, no entry: it is no change of the record."""
        for token_id, at in uses:
            earlier = tokens.c.last_used_at.is_(None) | (tokens.c.last_used_at < at)
            self._connection.execute(update(tokens).where((tokens.c.id == token_id) & earlier).values(last_used_at=at))


class Store:
    """One database. Opened, checked and closed when it is made; opened again on first use.

    ``lock`` is held over every transaction of this process, so that nothing is open while it forks.
    """

    def __init__(self, url: str) -> None:
        self.database = SqliteDatabase(url)
        self.lock = RLock()
        self._engine: Engine | None = None
        self._identity = (0, 0)
        self._page: Page | None = None
        forks.register(self)
        with self._answering(), self.lock:
            self._prepare()

    @contextmanager
    def reading(self) -> Generator[Reading]:
        """Open a transaction that reads. StoreUnavailable if the store cannot answer."""
        with self._answering(), self.lock, self._open().begin() as connection:
            yield Reading(connection)

    @contextmanager
    def changing(self) -> Generator[Change]:
        """Open a transaction that writes; it is committed at the end of the block, or rolled back by an exception.

        StoreUnavailable if the store cannot answer, or the page that announces changes cannot be written.
        """
        with (
            self._answering(),
            self.lock,
            self._open().execution_options(writing=True).begin() as connection,
        ):
            # Looked up under the write lock: while this waited for it the page may have been replaced.
            yield Change(connection, self._open_page(connection))

    def close(self) -> None:
        """Close what is open. The next use opens it again."""
        with self.lock:
            if self._engine is not None and self.database.path is not None:
                self._closing.detach()
                self._engine.dispose()
                self._engine = None

    def hold(self) -> None:
        """Wait for running transactions."""
        self.lock.acquire()

    def before_fork(self) -> None:
        """Close what is open."""
        self.close()

    def after_fork(self, *, child: bool) -> None:
        """Let transactions run again, on either side."""
        del child
        self.lock.release()

    def _open(self) -> Engine:
        identity = self.database.identity()
        if self._engine is not None and self._identity != identity:
            self.close()  # the file was replaced: what is open leads to one that nobody else sees
        if self._engine is None:
            engine = self.database.engine()
            if self.database.path is not None:
                # The pool is held by reference cycles: without this, a dropped store would keep its
                # connection until the garbage is collected, maybe in the middle of a fork.
                self._closing = weakref.finalize(self, engine.dispose)
            self._engine, self._identity = engine, identity
        return self._engine

    def _open_page(self, connection: Connection) -> Page:
        """Return the page that is at its path now: a writer must announce where readers look."""
        if self._page is None or not self._page.is_current():
            replaced, page = self._page, self.database.page(create=True)
            if replaced is not None:
                replaced.retire()
            if page.created and connection.execute(select(sequence.c.value)).scalar_one():
                # Somebody deleted the page. Readers look for a new one this often; until all of them
                # have, the write lock is held and nothing is acknowledged.
                time.sleep(LOOK_EVERY * 1.1)
            page.publish()  # last: whoever dies before leaves no page, and without one the feed is read
            self._page = page
        return self._page

    def _prepare(self) -> None:
        """Create the tables in an empty database, refuse a schema of another version, put the page in step."""
        self.database.enter_wal()
        with self._open().begin() as connection:
            version = _version(connection)
        if version is None:
            with self._open().execution_options(writing=True).begin() as connection:
                version = _version(connection) or _create(connection)
        if version != schema.VERSION:
            raise InvalidInput(
                f"store: its tables have version {version}, this faregate needs {schema.VERSION}; "
                "run 'faregate db upgrade' with the newest faregate"
            )
        # A page out of step costs reads, never freshness, so who may only read goes on.
        with suppress(SQLAlchemyError, OSError), self._open().execution_options(writing=True).begin() as connection:
            self._open_page(connection).advance(connection.execute(select(sequence.c.value)).scalar_one())
        self.close()

    @contextmanager
    def _answering(self) -> Generator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise StoreUnavailable from error


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(schema_version.name):
        return None
    return connection.execute(select(schema_version.c.version_num)).scalar()


def _create(connection: Connection) -> str:
    schema.metadata.create_all(connection)
    connection.execute(insert(sequence).values(id=1, value=0))
    connection.execute(insert(schema_version).values(version_num=schema.VERSION))
    return schema.VERSION


def _reached(reach: Reach | None) -> ColumnElement[bool]:
    """Return the one rule of reach: itself; in its organization all, its owner's, or, if nobody's, what it made."""
    if reach is None:
        return true()
    columns = tokens.c
    others: ColumnElement[bool]
    if reach.whole_org:
        others = true()
    elif reach.owner_id is None:
        others = columns.made_by == reach.id
    else:
        same_idp = columns.owner_idp_id.is_not_distinct_from(reach.owner_idp_id)
        others = and_(columns.owner_id == reach.owner_id, same_idp)
    return or_(columns.id == reach.id, and_(columns.org_id.is_not_distinct_from(reach.org_id), others))


def _conditions(query: TokenQuery) -> Iterator[ColumnElement[bool]]:
    columns = tokens.c
    if query.owner_id is not None:
        yield columns.owner_id == query.owner_id
    if query.type is not None:
        yield columns.type == query.type
    if query.name is not None:
        yield columns.name == query.name
    if query.deactivated is not None:
        yield columns.deactivated == query.deactivated
    if query.expires_before is not None:
        yield columns.expires_at < query.expires_before


def _sound(row: RowMapping) -> Values:
    """Return a row's columns, with numbers where numbers belong: what was broken by hand opens nothing more."""
    values: Values = {str(column): value for column, value in row.items()}
    worst = {"expires_at": 0.0, "not_before": END_OF_TIME, "created_at": 0.0, "updated_at": 0.0, "version": 0}
    for column in ("rotated_at", "last_used_at", "deactivated_updated_on", *worst):
        if values[column] is not None and not isinstance(values[column], int | float):
            values[column] = worst.get(column)
    return values
