"""The seam between a store and a database engine.

:class:`Database` is what :mod:`faregate.stores.store` and :mod:`faregate.stores.record_cache` need
of an engine. A second engine is another package that provides it, and another line in
:func:`open_database`.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.exc import SQLAlchemyError

from faregate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine

    from faregate.decision.compiled import CompiledCredential
    from faregate.errors import FaregateError

LOOK_EVERY = 1.0  # seconds between a reader's looks at the files themselves: were they replaced?
PAGE_BYTES = 8
NEVER = 2**64 - 1  # no sequence ever gets here: a reader of this value reads the feed


def never() -> memoryview:
    """Return the view of no page: it matches no sequence, so that each request reads the feed."""
    return memoryview(NEVER.to_bytes(PAGE_BYTES, sys.byteorder)).cast("Q")


class Page(Protocol):
    """The signal of change: ``view[0]`` is the newest sequence that may be committed."""

    @property
    def created(self) -> bool:
        """Whether this process created it: readers may still map a deleted page."""
        ...

    @property
    def identity(self) -> str:
        """The identity of its file. No other file has it while a process maps this one."""
        ...

    @property
    def view(self) -> memoryview:
        """The eight bytes, as one number."""
        ...

    def advance(self, sequence: int) -> None:
        """Announce ``sequence``. Called with the write lock held, before the commit."""
        ...

    def is_current(self) -> bool:
        """Return True if writers and readers still use this page."""
        ...

    def publish(self) -> None:
        """Put a page that was created into its place."""
        ...

    def retire(self) -> None:
        """Invalidate a replaced page, so that processes that still map it read the feed."""
        ...


class Changed(Protocol):
    """The part of a feed entry that a cache needs."""

    @property
    def action(self) -> str:
        """The kind of change."""
        ...

    @property
    def subject(self) -> str:
        """The id of the changed record, or of the owner."""
        ...

    def __getitem__(self, index: slice, /) -> Any:
        """Return the sequence and instant, with ``[:2]``."""
        ...


class Lookup(Protocol):
    """The hot queries of one process, on a connection of their own. Its user holds a lock."""

    @property
    def is_open(self) -> bool:
        """Whether a look-up can be made without opening the database first."""
        ...

    @property
    def connection(self) -> Any:
        """The open connection of the driver."""
        ...

    def token(self, digest: bytes) -> CompiledCredential | None:
        """Return the compiled credential of a token by its digest, or None."""
        ...

    def access(self, digest: bytes) -> CompiledCredential | None:
        """Return the compiled access credential of this digest, or None."""
        ...

    def share(self, digest: bytes) -> CompiledCredential | None:
        """Return the compiled secret of a share by its digest, or None."""
        ...

    def share_of(self, share_id: str) -> CompiledCredential | None:
        """Return the share of this id, compiled for redeemed tokens, or None."""
        ...

    def is_revoked(self, keys: tuple[str, ...], issued_at: float | None) -> bool:
        """Return True if a JWT was revoked by any of its one or two keys."""
        ...

    def changes(self, since: int, limit: int) -> Sequence[Changed]:
        """Return the entries of the feed from ``since`` on, inclusive, at most ``limit``."""
        ...

    def newest(self) -> tuple[int, float]:
        """Return the sequence and instant of the newest entry; (0, 0.0) for an empty feed."""
        ...

    def version(self) -> str | None:
        """Return the version of the tables."""
        ...

    def announces(self) -> bool:
        """Return True if the page can be trusted."""
        ...

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        ...


class Database(Protocol):
    """One database of an engine: connections, transactions, look-ups, and the signal of change."""

    errors: tuple[type[Exception], ...]
    """The errors of the driver, beside those of SQLAlchemy and OSError."""

    @property
    def in_memory(self) -> bool:
        """Whether the database lives in this process alone, on one connection."""
        ...

    @property
    def file(self) -> str | None:
        """The file beside which the signing secret is kept; None if there is none."""
        ...

    @property
    def torn(self) -> bool:
        """Whether open connections have to be closed: they lead to a log that others do not see."""
        ...

    def identity(self) -> tuple[int, int]:
        """Return the identity of the database now; OSError if there is none."""
        ...

    def engine(self, *, waits: float) -> Engine:
        """Return a new engine, whose new connections wait ``waits`` seconds for others."""
        ...

    def transaction(
        self, engine: Engine, *, writing: bool, at_once: bool = False
    ) -> AbstractContextManager[Connection]:
        """Open a transaction. ``at_once`` fails if another process holds the database."""
        ...

    def driver_connection(self, connection: Connection) -> Any:
        """Return the driver's connection, which outlives the transaction."""
        ...

    def check(self, connection: Any) -> None:
        """Raise OSError if an open connection of the driver was cut off from the others."""
        ...

    def check_version(self, version: str | None) -> None:
        """Raise OSError unless the tables are of the version that this process knows."""
        ...

    def lookup(self) -> Lookup:
        """Return the hot queries, on a connection of their own."""
        ...

    def page(self, *, create: bool) -> Page:
        """Return the page as it is now. Only the holder of the write lock may ``create`` it."""
        ...

    def columns(self, connection: Connection) -> dict[str, set[str]]:
        """Return the columns of each table of the package."""
        ...

    def missing_rows(self, connection: Connection, columns: dict[str, set[str]]) -> list[str]:
        """Return the tables of one row that lack it, in words."""
        ...

    def prepare(self) -> None:
        """Bring an empty database, or one of this version, into the mode that a store needs."""
        ...

    def check_never_used(self) -> None:
        """Raise InvalidInput if a database without tables had some."""
        ...

    def check_whole(self, missing: list[str]) -> None:
        """Raise InvalidInput if tables, columns or rows are ``missing``."""
        ...

    def is_busy(self, error: BaseException) -> bool:
        """Return True if another process holds the database: then try again."""
        ...

    def explained(self, error: Exception) -> FaregateError:
        """Return the error for a database that cannot be opened: the fault, and its remedy."""
        ...

    def close_connections(self, *, idle: bool) -> None:
        """Close all connections, or only the ``idle`` ones."""
        ...


def open_database(url: str) -> Database:
    """Return the database of a URL; InvalidInput for a URL that names none."""
    from faregate.stores.sqlite.database import SqliteDatabase  # noqa: PLC0415  one engine is loaded

    return SqliteDatabase(url)


def _unavailable(_: Exception) -> StoreUnavailable:
    return StoreUnavailable()


@contextmanager
def driver_errors(
    database: Database, raised: Callable[[Exception], FaregateError] = _unavailable
) -> Generator[None]:
    """Turn the errors of the driver into StoreUnavailable, or into the error of ``raised``."""
    errors: tuple[type[Exception], ...] = (SQLAlchemyError, OSError, *database.errors)
    try:
        yield
    except errors as error:
        raise raised(error) from error
