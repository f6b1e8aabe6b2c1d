"""Reads the state of a store, whatever the version of its tables.

It opens no gate: a gate would create or repair files, and refuse tables of another version.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime  # noqa: TC003  msgspec reads the annotations when it runs
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Table, func, inspect, select

from faregate.stores.database import driver_errors
from faregate.stores.schema import (
    VERSION,
    feed,
    missing_from,
    schema_version,
    sequence,
    shares,
    tokens,
)
from faregate.stores.sqlite.database import WRITER_WAITS, SqliteDatabase
from faregate.values.instants import as_datetime

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """Holds the state of a store.

    ``version`` is the version of its tables, and None without tables; ``needed`` is the version
    that this faregate needs. ``bytes`` is the size of the file, without its companions.

    ``entries`` is the number of entries in the feed, and ``sequence`` the counter of the feed.
    ``first`` and ``last`` are the sequences of its first and its newest entry. ``oldest`` and
    ``latest`` are the least and the greatest instant in it, and ``newest`` is the instant of the
    newest entry. If clocks disagreed, ``newest`` is not ``latest``.

    ``journal`` is SQLite's journal mode. ``damage`` is the damage that SQLite finds in the file, or
    None. ``missing`` are the names of missing tables, columns and rows.
    """

    version: str | None
    needed: str
    bytes: int
    tokens: int = 0
    shares: int = 0
    entries: int = 0
    sequence: int | None = 0
    first: int | None = None
    last: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    latest: datetime | None = None
    journal: str = ""
    damage: str | None = None
    missing: tuple[str, ...] = ()

    @property
    def current(self) -> bool:
        """Whether the tables have the version that this faregate needs."""
        return self.version == self.needed


def read_version(url: str) -> str | None:
    """Return the version of a store's tables, or None without tables.

    Raises StoreUnavailable if the store cannot answer.
    """
    with _reading(url) as (_, connection):
        return _version(connection, set(inspect(connection).get_table_names()))


def read_status(url: str, *, thorough: bool = False) -> Status:
    """Return the state of a store.

    ``thorough`` checks every page of the file, and looks for missing tables, columns and rows.
    Raises StoreUnavailable if the store cannot answer.
    """
    with _reading(url) as (database, connection):
        return _read(database, connection, thorough=thorough)


@contextmanager
def _reading(url: str) -> Generator[tuple[SqliteDatabase, Connection]]:
    """Open a transaction on the file of a store, whatever it holds."""
    database = SqliteDatabase(url)
    engine = database.engine(waits=WRITER_WAITS)
    try:
        with (
            driver_errors(database, database.explained),
            database.transaction(engine, writing=False) as connection,
        ):
            yield database, connection
    finally:
        engine.dispose()


def _read(database: SqliteDatabase, connection: Connection, *, thorough: bool) -> Status:
    size = 0
    if database.path is not None:
        size = Path(database.path).stat().st_size
    tables = set(inspect(connection).get_table_names())

    def first_row(table: Table, *columns: Any, order: Any = None) -> Any:
        if table.name not in tables:
            return None
        statement = select(*columns).select_from(table).order_by(order).limit(1)
        return connection.execute(statement).first()

    version = _version(connection, tables)
    counter = first_row(sequence, sequence.c.value)
    entries = first_row(
        feed, func.count(), func.min(feed.c.sequence), func.min(feed.c.at), func.max(feed.c.at)
    )
    number, first, oldest, latest = entries or (0, None, None, None)

    damage = None
    missing: list[str] = []
    if thorough:
        damage = _damage(connection)
        columns = database.columns(connection)
        # Tables of another version lack the newer columns, and are not damaged by that.
        if version == VERSION:
            missing += missing_from(columns)
        missing += database.missing_rows(connection, columns)

    newest_entry = first_row(feed, feed.c.sequence, feed.c.at, order=feed.c.sequence.desc())
    last, newest = newest_entry or (0, None)
    return Status(
        version=version,
        needed=VERSION,
        bytes=size,
        tokens=(first_row(tokens, func.count()) or (0,))[0],
        shares=(first_row(shares, func.count()) or (0,))[0],
        entries=number,
        sequence=counter[0] if counter else None,
        last=last,
        first=first,
        oldest=as_datetime(oldest),
        newest=as_datetime(newest),
        latest=as_datetime(latest),
        journal=connection.exec_driver_sql("PRAGMA journal_mode").scalar_one(),
        damage=damage,
        missing=tuple(missing),
    )


def _damage(connection: Connection) -> str | None:
    report = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
    if report == "ok":
        return None
    # The lines before the last one only name the database.
    return str(report).splitlines()[-1]


def _version(connection: Connection, tables: set[str]) -> str | None:
    if schema_version.name not in tables:
        return None
    return connection.execute(select(schema_version.c.version_num)).scalar()
