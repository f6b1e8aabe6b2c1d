"""The state of a store's tables, of whichever version they are; read without a gate, which would mend things."""

from __future__ import annotations

import sqlite3
from datetime import datetime  # noqa: TC003  msgspec reads the annotations when it runs
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Table, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from faregate.errors import StoreUnavailable
from faregate.instants import as_datetime
from faregate.stores.schema import VERSION, feed, schema_version, sequence, shares, tokens
from faregate.stores.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """What is in a store: ``version`` is that of its tables, None where there are none; ``needed`` this faregate's.

    ``sequence`` is the newest of the feed and ``newest`` its instant; ``first`` and ``oldest`` are of what is left of
    it, and ``latest`` is the latest instant in it, which clocks that disagree may have put elsewhere. ``journal`` is
    SQLite's journal mode, and ``damage`` what it finds wrong with the file.
    """

    version: str | None
    needed: str
    bytes: int
    tokens: int = 0
    shares: int = 0
    entries: int = 0
    sequence: int = 0
    first: int | None = None
    oldest: datetime | None = None
    newest: datetime | None = None
    latest: datetime | None = None
    journal: str = ""
    damage: str | None = None

    @property
    def current(self) -> bool:
        """Whether this faregate can use the tables."""
        return self.version == self.needed


def read_status(url: str, *, thorough: bool = False) -> Status:
    """Return the state of a store; ``thorough`` has every page of it checked. StoreUnavailable if it cannot answer."""
    engine = None
    try:
        database = SqliteDatabase(url)
        size = 0 if database.path is None else Path(database.path).stat().st_size
        engine = database.engine()
        with engine.begin() as connection:
            return _read(connection, size, thorough=thorough)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise StoreUnavailable from error
    finally:
        if engine is not None:
            engine.dispose()


def _read(connection: Connection, size: int, *, thorough: bool) -> Status:
    there = set(inspect(connection).get_table_names())

    def first_row(table: Table, *columns: Any, order: Any = None) -> Any:
        wanted = select(*columns).select_from(table).order_by(order).limit(1)
        return connection.execute(wanted).first() if table.name in there else None

    version = first_row(schema_version, schema_version.c.version_num)
    last = first_row(sequence, sequence.c.value)
    entries = first_row(feed, func.count(), func.min(feed.c.sequence), func.min(feed.c.at), func.max(feed.c.at))
    damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one() if thorough else "ok"
    number, first, oldest, latest = entries or (0, None, None, None)
    newest = first_row(feed, feed.c.at, order=feed.c.sequence.desc())
    return Status(
        version=version and version[0],
        needed=VERSION,
        bytes=size,
        tokens=(first_row(tokens, func.count()) or (0,))[0],
        shares=(first_row(shares, func.count()) or (0,))[0],
        entries=number,
        sequence=last[0] if last else 0,
        first=first,
        oldest=as_datetime(oldest),
        newest=as_datetime(newest[0]) if newest else None,
        latest=as_datetime(latest),
        journal=connection.exec_driver_sql("PRAGMA journal_mode").scalar_one(),
        damage=None if damage == "ok" else str(damage).splitlines()[-1],
    )
