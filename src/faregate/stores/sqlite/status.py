"""The state of a store's tables, of whichever version they are; read without a gate, which would mend things."""

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
    """What is in a store: ``version`` is that of its tables, None where there are none; ``needed`` this faregate's.

    ``sequence`` is the feed's counter, ``last`` that of its newest entry and ``newest`` the instant of that; ``first``
    and ``oldest`` are of what is left of it, and ``latest`` is the latest instant in it, which clocks that disagree may
    have put elsewhere. ``journal`` is SQLite's journal mode, ``damage`` what it finds wrong with the file, and
    ``missing`` are tables, columns and rows that should be there.
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
        """Whether this faregate can use the tables."""
        return self.version == self.needed


def read_version(url: str) -> str | None:
    """Return the version of a store's tables, None if there are none. StoreUnavailable if it cannot answer."""
    with _reading(url) as (_, connection):
        return _version(connection, set(inspect(connection).get_table_names()))


def read_status(url: str, *, thorough: bool = False) -> Status:
    """Return the state of a store; ``thorough`` has every page of it checked. StoreUnavailable if it cannot answer."""
    with _reading(url) as (database, connection):
        return _read(database, connection, thorough=thorough)


@contextmanager
def _reading(url: str) -> Generator[tuple[SqliteDatabase, Connection]]:
    """Open a store's file, whatever is in it."""
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
    inspector = inspect(connection)
    there = set(inspector.get_table_names())

    def first_row(table: Table, *columns: Any, order: Any = None) -> Any:
        wanted = select(*columns).select_from(table).order_by(order).limit(1)
        return connection.execute(wanted).first() if table.name in there else None

    version = _version(connection, there)
    last = first_row(sequence, sequence.c.value)
    entries = first_row(
        feed, func.count(), func.min(feed.c.sequence), func.min(feed.c.at), func.max(feed.c.at)
    )
    damage = (
        connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one() if thorough else "ok"
    )
    missing: list[str] = []
    if thorough:
        columns = database.columns(connection)
        missing = missing_from(columns) if version == VERSION else []
        missing += database.missing_rows(connection, columns)
    number, first, oldest, latest = entries or (0, None, None, None)
    newest_row = first_row(feed, feed.c.sequence, feed.c.at, order=feed.c.sequence.desc())
    return Status(
        version=version,
        needed=VERSION,
        bytes=size,
        tokens=(first_row(tokens, func.count()) or (0,))[0],
        shares=(first_row(shares, func.count()) or (0,))[0],
        entries=number,
        sequence=last[0] if last else None,
        last=newest_row[0] if newest_row else 0,
        first=first,
        oldest=as_datetime(oldest),
        newest=as_datetime(newest_row[1]) if newest_row else None,
        latest=as_datetime(latest),
        journal=connection.exec_driver_sql("PRAGMA journal_mode").scalar_one(),
        damage=None if damage == "ok" else str(damage).splitlines()[-1],
        missing=tuple(missing),
    )


def _version(connection: Connection, there: set[str]) -> str | None:
    if schema_version.name not in there:
        return None
    return connection.execute(select(schema_version.c.version_num)).scalar()
