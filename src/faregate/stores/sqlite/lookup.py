"""The hot queries: from a digest to a compiled credential, past SQLAlchemy.

One connection serves all threads of a process. Every result is read to its end: an open cursor
would freeze the connection's view of the database.
"""

from __future__ import annotations

import sqlite3
import weakref
from typing import TYPE_CHECKING, NamedTuple

from faregate.stores.compiled_rows import (
    ACCESS_COLUMNS,
    SHARE_COLUMNS,
    TOKEN_COLUMNS,
    compile_access_values,
    compile_share_values,
    compile_token_values,
)
from faregate.stores.sound_rows import sound_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from faregate.decision.compiled import CompiledCredential
    from faregate.stores.sqlite.companions import Connection

# As bytes: they are decoded where they are judged, and a text that is no UTF-8 gets there, too.
_TEXTS = ("type", "allowed_scopes", "allowed_cidr_blocks", "networks", "object_ids", "scopes")


def _selected(table: str, columns: tuple[str, ...]) -> str:
    """Return the columns of a statement."""
    return ", ".join(
        f"CAST({table}.{column} AS BLOB)" if column in _TEXTS else f"{table}.{column}"
        for column in columns
    )


# A credential opens nothing as another kind than its record's, whoever may have written it there.
_TOKEN = f"""
SELECT {_selected("t", TOKEN_COLUMNS)}, s.superseded_at,
       EXISTS (SELECT 1 FROM faregate_unseen AS u WHERE u.digest = s.digest)
FROM faregate_secrets AS s JOIN faregate_tokens AS t ON t.id = s.token_id
WHERE s.digest = ? AND CAST(t.type AS TEXT) <> 'REFRESH'
"""  # noqa: S608  the columns stand above
_ACCESS = f"""
SELECT {_selected("t", TOKEN_COLUMNS)}, {_selected("a", ACCESS_COLUMNS)}
FROM faregate_access AS a JOIN faregate_tokens AS t ON t.id = a.token_id
WHERE a.digest = ? AND t.type = 'REFRESH'
"""  # noqa: S608  the columns stand above
_SHARE = f"SELECT {_selected('s', SHARE_COLUMNS)} FROM faregate_shares AS s WHERE "  # noqa: S608
_REVOKED = """
SELECT EXISTS (
    SELECT 1 FROM faregate_jwt_revocations
    WHERE key IN (?, ?) AND (issued_until IS NULL OR issued_until >= ?)
)
"""
_CHANGES = """
SELECT sequence, at, action, subject FROM faregate_feed
WHERE sequence >= ? ORDER BY sequence LIMIT ?
"""
_VERSION = "SELECT version_num FROM faregate_schema"
_NEWEST = "SELECT sequence, at FROM faregate_feed ORDER BY sequence DESC LIMIT 1"

_sound_token = sound_values((*TOKEN_COLUMNS, "superseded_at"))
_sound_access = sound_values((*TOKEN_COLUMNS, *ACCESS_COLUMNS))
_sound_share = sound_values(SHARE_COLUMNS)


class Changed(NamedTuple):
    """The part of a feed entry that a cache needs."""

    sequence: int
    at: float
    action: str
    subject: str


class SqliteLookup:
    """The read connection of one process. Its user holds a lock.

    ``sqlite3.Error`` passes through.
    """

    def __init__(self, connect: Callable[[], Connection], *, keep: bool) -> None:
        self._connect = connect
        # The connection of a database in memory is the database.
        self._keep = keep
        self._connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether a look-up can be made without opening the database first."""
        return self._connection is not None or self._keep

    def token(self, digest: bytes) -> CompiledCredential | None:
        """Return the compiled credential of a token by its digest, or None."""
        rows = (self._connection or self._open()).execute(_TOKEN, (digest,)).fetchall()
        if not rows:
            return None
        *values, superseded_at, unseen = _sound_token(rows[0])
        return compile_token_values(values, digest, superseded_at, unseen=bool(unseen))

    def access(self, digest: bytes) -> CompiledCredential | None:
        """Return the compiled access credential of this digest, or None."""
        rows = self._open().execute(_ACCESS, (digest,)).fetchall()
        if not rows:
            return None
        values = _sound_access(rows[0])
        size = len(TOKEN_COLUMNS)
        return compile_access_values(values[:size], values[size:], digest)

    def share(self, digest: bytes) -> CompiledCredential | None:
        """Return the compiled secret of a share by its digest, or None."""
        rows = self._open().execute(f"{_SHARE} s.digest = ?", (digest,)).fetchall()
        return compile_share_values(_sound_share(rows[0]), digest, secret=True) if rows else None

    def share_of(self, share_id: str) -> CompiledCredential | None:
        """Return the share of this id, compiled for its redeemed tokens, or None."""
        rows = self._open().execute(f"{_SHARE} s.id = ?", (share_id,)).fetchall()
        return compile_share_values(_sound_share(rows[0])) if rows else None

    def is_revoked(self, keys: tuple[str, ...], issued_at: float | None) -> bool:
        """Return True if a JWT was revoked by any of its one or two keys.

        A JWT without an instant of issue counts as very old.
        """
        rows = self._open().execute(_REVOKED, (keys[0], keys[-1], issued_at or 0.0)).fetchall()
        return bool(rows[0][0])

    def changes(self, since: int, limit: int) -> list[Changed]:
        """Return the entries of the feed from ``since`` on, inclusive, at most ``limit``."""
        rows = self._open().execute(_CHANGES, (since, limit)).fetchall()
        return [Changed(*row) for row in rows]

    def newest(self) -> tuple[int, float]:
        """Return the sequence and instant of the newest entry; (0, 0.0) for an empty feed."""
        rows = self._open().execute(_NEWEST).fetchall()
        return (rows[0][0], rows[0][1]) if rows else (0, 0.0)

    def version(self) -> str | None:
        """Return the version of the tables."""
        rows = self._open().execute(_VERSION).fetchall()
        return rows[0][0] if rows else None

    @property
    def connection(self) -> Connection:
        """The open connection."""
        return self._open()

    def announces(self) -> bool:
        """Return True if the page can be trusted: beside a database in WAL mode, or in memory."""
        if self._keep:
            return True
        return self._open().execute("PRAGMA journal_mode").fetchall() == [("wal",)]

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None and not self._keep:
            self._closing.detach()
            connection.close()

    def _open(self) -> Connection:
        if self._connection is None:
            connection = self._connect()
            if not self._keep:
                self._closing = weakref.finalize(self, connection.close)
            self._connection = connection
        return self._connection


def is_busy(error: BaseException) -> bool:
    """Return True if another process holds the database: then try again."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF == sqlite3.SQLITE_BUSY
