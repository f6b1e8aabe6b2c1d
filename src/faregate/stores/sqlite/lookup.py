"""The hot queries: from a digest to a record, past SQLAlchemy, on one connection that threads share.

Every read is read to its end: a cursor left open would freeze the connection's view of the database.
"""

from __future__ import annotations

import logging
import sqlite3
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from faregate.decision.compiled import (
    NOTHING,
    CompiledCredential,
    compile_access,
    compile_share,
    compile_token,
)
from faregate.model import Org, Owner
from faregate.stores.stored_values import stored_networks, stored_scopes, stored_texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from faregate.stores.sqlite.companions import Connection

_logger = logging.getLogger("faregate")

_NOBODY, _NO_ORG = Owner(), Org()  # of many records, which share them

# A credential opens nothing as another kind than its record's, whoever may have written it there.
_RECORD = """
SELECT t.id, t.owner_id, t.owner_name, t.owner_acct, t.owner_domain, t.owner_idp_id, t.org_id, t.org_name,
       CAST(t.allowed_scopes AS BLOB), CAST(t.allowed_cidr_blocks AS BLOB), CAST(t.networks AS BLOB),
       t.not_before, t.expires_at, t.deactivated, s.superseded_at,
       EXISTS (SELECT 1 FROM faregate_unseen AS u WHERE u.digest = s.digest)
FROM faregate_secrets AS s JOIN faregate_tokens AS t ON t.id = s.token_id
WHERE s.digest = ? AND t.type <> 'REFRESH'
"""
_ACCESS = """
SELECT t.id, t.owner_id, t.owner_name, t.owner_acct, t.owner_domain, t.owner_idp_id, t.org_id, t.org_name,
       CAST(t.allowed_scopes AS BLOB), CAST(t.allowed_cidr_blocks AS BLOB), CAST(t.networks AS BLOB),
       t.not_before, t.expires_at, t.deactivated, t.revoked_at,
       CAST(a.allowed_scopes AS BLOB), CAST(a.allowed_cidr_blocks AS BLOB), CAST(a.networks AS BLOB), a.expires_at
FROM faregate_access AS a JOIN faregate_tokens AS t ON t.id = a.token_id
WHERE a.digest = ? AND t.type = 'REFRESH'
"""
_SHARE = """
SELECT id, owner_id, owner_name, owner_acct, owner_domain, owner_idp_id, org_id, org_name,
       CAST(object_ids AS BLOB), CAST(scopes AS BLOB), CAST(allowed_cidr_blocks AS BLOB), CAST(networks AS BLOB),
       not_before, expires_at, revoked_at, max_redemptions
FROM faregate_shares WHERE """
_REVOKED = """
SELECT EXISTS (
    SELECT 1 FROM faregate_jwt_revocations WHERE key IN (?, ?) AND (issued_until IS NULL OR issued_until >= ?)
)
"""
_CHANGES = "SELECT sequence, at, action, subject FROM faregate_feed WHERE sequence >= ? ORDER BY sequence LIMIT ?"
_VERSION = "SELECT version_num FROM faregate_schema"
_NEWEST = "SELECT sequence, at FROM faregate_feed ORDER BY sequence DESC LIMIT 1"


class Changed(NamedTuple):
    """One entry of the feed, as far as a cache needs it."""

    sequence: int
    at: float
    action: str
    subject: str


class SqliteLookup:
    """The read connection of one process. Its user holds a lock; ``sqlite3.Error`` passes through."""

    def __init__(self, connect: Callable[[], Connection], *, keep: bool) -> None:
        self._connect = connect
        self._keep = keep  # the connection of a database in memory is the database
        self._connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether a look-up need not open the database first."""
        return self._connection is not None or self._keep

    def token(self, digest: bytes) -> CompiledCredential | None:
        """Return the record of the token whose credential has this digest, or None."""
        rows = (self._connection or self._open()).execute(_RECORD, (digest,)).fetchall()
        return _judged(_token, rows[0], digest) if rows else None

    def access(self, digest: bytes) -> CompiledCredential | None:
        """Return the record of the access credential that has this digest, or None."""
        rows = self._open().execute(_ACCESS, (digest,)).fetchall()
        return _judged(_access, rows[0], digest) if rows else None

    def share(self, digest: bytes) -> CompiledCredential | None:
        """Return the record of the share whose secret has this digest, or None."""
        rows = self._open().execute(f"{_SHARE} digest = ?", (digest,)).fetchall()
        return _judged(_share, rows[0], digest) if rows else None

    def share_of(self, share_id: str) -> CompiledCredential | None:
        """Return the record of the share with this id, which is no credential's, or None."""
        rows = self._open().execute(f"{_SHARE} id = ?", (share_id,)).fetchall()
        return _judged(_share, rows[0], b"") if rows else None

    def is_revoked(self, keys: tuple[str, ...], issued_at: float | None) -> bool:
        """Tell whether a JWT was revoked by one of one or two keys; one that has no date was issued ages ago."""
        rows = self._open().execute(_REVOKED, (keys[0], keys[-1], issued_at or 0.0)).fetchall()
        return bool(rows[0][0])

    def changes(self, since: int, limit: int) -> list[Changed]:
        """Return the entries of the feed from ``since`` on, that one included, at most ``limit``."""
        return [Changed(*row) for row in self._open().execute(_CHANGES, (since, limit)).fetchall()]

    def newest(self) -> tuple[int, float]:
        """Return the sequence and instant of the newest entry; (0, 0.0) of an empty feed."""
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
        """Tell whether a page can be trusted: only beside a database in WAL mode, or in memory."""
        return self._keep or self._open().execute("PRAGMA journal_mode").fetchall() == [("wal",)]

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


def _judged(
    read: Callable[[tuple[Any, ...], bytes], CompiledCredential],
    row: tuple[Any, ...],
    digest: bytes,
) -> CompiledCredential:
    """Return the record of a row; a dead one where somebody changed the row by hand into what is no record."""
    try:
        return read(row, digest)
    except (TypeError, ValueError, IndexError):
        _logger.exception(
            "the stored record of %r cannot be read; it counts as deactivated", row[0]
        )
        return _dead(str(row[0]), digest)


def _owner(columns: list[str | None]) -> Owner:
    return Owner(*columns) if any(columns) else _NOBODY


def _org(org_id: str | None, name: str | None) -> Org:
    return Org(org_id, name) if org_id or name else _NO_ORG


def _token(row: tuple[Any, ...], digest: bytes) -> CompiledCredential:
    (
        record_id,
        *owner,
        org_id,
        org_name,
        scopes,
        cidrs,
        packed,
        not_before,
        expires_at,
        dead,
        superseded,
        unseen,
    ) = row
    return compile_token(
        record_id=record_id,
        owner=_owner(owner),
        org=_org(org_id, org_name),
        granted=stored_scopes(scopes, record_id).granted,
        networks=stored_networks(cidrs, packed, record_id),
        not_before=None if not_before is None else not_before + 0.0,
        expires_at=None if expires_at is None else expires_at + 0.0,
        deactivated=bool(dead),
        superseded_at=superseded,
        unseen=bool(unseen),
        digest=digest,
    )


def _access(row: tuple[Any, ...], digest: bytes) -> CompiledCredential:
    (
        record_id,
        *owner,
        org_id,
        org_name,
        scopes,
        cidrs,
        packed,
        not_before,
        expires_at,
        dead,
        revoked,
    ) = row[:15]
    family = compile_token(
        kind="refresh",
        record_id=record_id,
        owner=_owner(owner),
        org=_org(org_id, org_name),
        granted=stored_scopes(scopes, record_id).granted,
        networks=stored_networks(cidrs, packed, record_id),
        not_before=None if not_before is None else not_before + 0.0,
        expires_at=(expires_at or 0.0) + 0.0,
        deactivated=bool(dead),
        revoked=revoked is not None,
    )
    own_scopes, own_cidrs, own_packed, ends = row[15:]
    return compile_access(
        family,
        granted=stored_scopes(own_scopes, record_id).granted,
        networks=stored_networks(own_cidrs, own_packed, record_id),
        expires_at=ends + 0.0,
        digest=digest,
    )


def _share(row: tuple[Any, ...], digest: bytes) -> CompiledCredential:
    (
        record_id,
        *owner,
        org_id,
        org_name,
        objects,
        scopes,
        cidrs,
        packed,
        not_before,
        expires_at,
        revoked,
        most,
    ) = row
    return compile_share(
        record_id=record_id,
        shared_by=_owner(owner),
        org=_org(org_id, org_name),
        scopes=stored_texts(scopes),
        object_ids=stored_texts(objects),
        networks=stored_networks(cidrs, packed, record_id),
        not_before=None if not_before is None else not_before + 0.0,
        expires_at=expires_at + 0.0,
        revoked=revoked is not None,
        redeem_only=most is not None,
        digest=digest,
    )


def _dead(record_id: str, digest: bytes) -> CompiledCredential:
    return compile_token(
        record_id=record_id,
        owner=_NOBODY,
        org=_NO_ORG,
        granted=NOTHING,
        networks=None,
        not_before=None,
        expires_at=None,
        deactivated=True,
        digest=digest,
    )


def is_busy(error: BaseException) -> bool:
    """Return True if somebody else holds the database, so that the same may be tried again."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF == sqlite3.SQLITE_BUSY
