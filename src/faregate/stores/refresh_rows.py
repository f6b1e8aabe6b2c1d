"""The statements about families, exchanges and access credentials, in a transaction.

The record of a refresh token stands for a family of refresh credentials. All of them have a part in
common, and the digest of this part finds the family. The states of a refresh credential::

    CURRENT ── exchanged ──► REPEATABLE ── ``until`` passes, or the next exchange ──► RETIRED

- The current credential of a family is in the table of secrets, as that of any token.
- The last exchange of a family is stored while it may be repeated, with its successor masked. So a
  client that missed the answer gets the same credential again.
- Any other credential of the family is retired. Its presentation is the sign of a theft.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, delete, insert, select, update

from faregate.stores.rows import FAMILY
from faregate.stores.schema import access, exchanges, families, secrets, tokens
from faregate.stores.sound_rows import first_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from faregate.stores.rows import Values

_FEW = 20  # rows that an insertion deletes

# An expired access credential stays for an hour, so that its holder is told that it expired.
_LINGERING = 3600.0  # seconds

# Statements are built once: SQLAlchemy takes longer to build a statement than to run it.
_SELECT_FAMILY = (
    select(tokens, secrets.c.digest.label("current"))
    .join_from(tokens, families)
    .outerjoin(secrets, (secrets.c.token_id == tokens.c.id) & secrets.c.superseded_at.is_(None))
    .where(families.c.digest == bindparam("digest"), FAMILY)
)
_SELECT_EXCHANGE = select(exchanges.c.presented, exchanges.c.successor, exchanges.c.until).where(
    exchanges.c.token_id == bindparam("token")
)

_SELECT_DIGEST = select(families.c.digest).where(families.c.token_id == bindparam("token"))
_DELETE_FAMILY = delete(families).where(families.c.token_id == bindparam("token"))
_INSERT_FAMILY = insert(families)
_REPLACE_PRESENTED = update(secrets).where(
    secrets.c.token_id == bindparam("token"), secrets.c.digest == bindparam("presented")
)

_INSERT_EXCHANGE = insert(exchanges)
_DELETE_EXCHANGE = delete(exchanges).where(exchanges.c.token_id == bindparam("token"))
_FEW_PAST = (
    select(exchanges.c.token_id)
    .where(exchanges.c.until <= bindparam("now"))
    .limit(bindparam("most"))
)
_DELETE_PAST = delete(exchanges).where(exchanges.c.token_id.in_(_FEW_PAST))

_INSERT_ACCESS = insert(access)
_SELECT_ACCESS = select(access).where(access.c.digest == bindparam("digest"))
_SELECT_RECORD = select(tokens).where(tokens.c.id == bindparam("token"), FAMILY)
_DELETE_ACCESS_OF = delete(access).where(access.c.token_id == bindparam("token"))
_FEW_DEAD = (
    select(access.c.digest)
    .where(access.c.expires_at <= bindparam("until"))
    .limit(bindparam("most"))
)
_DELETE_DEAD = delete(access).where(access.c.digest.in_(_FEW_DEAD))


class Exchange(NamedTuple):
    """Holds an exchange that may be repeated.

    ``presented`` is the digest of the presented credential. ``successor`` is the own part of its
    successor, and only the text of the presented credential unmasks it. ``until`` is in epoch
    seconds.
    """

    presented: bytes
    successor: bytes
    until: float

    @property
    def sound(self) -> bool:
        """Whether the columns have their types; a row that was changed by hand may lack them."""
        columns: tuple[Any, ...] = self
        return (
            isinstance(columns[0], bytes)
            and isinstance(columns[1], bytes)
            and isinstance(columns[2], int | float)
        )


class Family(NamedTuple):
    """Holds the record of a family, the digest of its current credential, and its last exchange."""

    row: dict[str, Any]
    current: bytes | None
    exchange: Exchange | None


class RefreshRows:
    """Reads and writes families, exchanges and access credentials in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def family(self, digest: bytes) -> Family | None:
        """Return the family with this family digest, or None."""
        row = first_of(self._connection.execute(_SELECT_FAMILY, {"digest": digest}))
        if row is None:
            return None

        current = row.pop("current")
        columns = self._connection.execute(_SELECT_EXCHANGE, {"token": row["id"]}).first()
        if columns is None:
            return Family(row, current, None)

        # An exchange that is not sound cannot be repeated.
        exchange = Exchange(*columns)
        if not exchange.sound:
            return Family(row, current, None)
        return Family(row, current, exchange)

    def digest_of(self, token_id: str) -> bytes | None:
        """Return the family digest of a refresh token, or None."""
        return self._connection.execute(_SELECT_DIGEST, {"token": token_id}).scalar()

    def register_family(self, token_id: str, digest: bytes) -> None:
        """Register the family digest of a new refresh token, replacing any earlier digest."""
        self._connection.execute(_DELETE_FAMILY, {"token": token_id})
        self._connection.execute(_INSERT_FAMILY, {"digest": digest, "token_id": token_id})
        self.forget_exchange(token_id)

    def exchange(self, token_id: str, new: bytes, done: Exchange) -> bool:
        """Replace the presented credential by ``new``, the digest of its successor.

        Return False, and change nothing, if the presented credential is not the current credential.
        """
        parameters = {"token": token_id, "presented": done.presented, "digest": new}
        replaced = self._connection.execute(_REPLACE_PRESENTED, parameters)
        if replaced.rowcount != 1:
            return False

        self.forget_exchange(token_id)
        self._connection.execute(_INSERT_EXCHANGE, {"token_id": token_id, **done._asdict()})
        return True

    def forget_exchange(self, token_id: str) -> None:
        """Delete the last exchange of a family, so that it is never repeated."""
        self.forget_exchanges([token_id])

    def forget_exchanges(self, token_ids: Sequence[str]) -> None:
        """Delete the last exchanges of families, so that they are never repeated."""
        if token_ids:
            parameters = [{"token": token_id} for token_id in token_ids]
            self._connection.execute(_DELETE_EXCHANGE, parameters)

    def add_access(self, values: Values) -> None:
        """Insert an access credential, and delete a few that expired long ago."""
        # Each insertion deletes more rows than it adds. So the tables stay small without a purge.
        self.delete_dead(values["created_at"] - _LINGERING, _FEW)
        self.delete_past(values["created_at"], _FEW)
        self._connection.execute(_INSERT_ACCESS, values)

    def by_access(self, digest: bytes) -> tuple[Values, Values] | None:
        """Return the columns of the family's record and of an access credential, or None."""
        credential = first_of(self._connection.execute(_SELECT_ACCESS, {"digest": digest}))
        if credential is None:
            return None

        token = {"token": credential["token_id"]}
        record = first_of(self._connection.execute(_SELECT_RECORD, token))
        if record is None:
            return None
        return record, credential

    def delete_access(self, digest: bytes) -> None:
        """Delete an access credential."""
        self._connection.execute(delete(access).where(access.c.digest == digest))

    def delete_access_of(self, token_ids: Sequence[str]) -> None:
        """Delete all access credentials of families."""
        if token_ids:
            parameters = [{"token": token_id} for token_id in token_ids]
            self._connection.execute(_DELETE_ACCESS_OF, parameters)

    def delete(self, token_id: str) -> None:
        """Delete a family with its last exchange and its access credentials."""
        for removal in (_DELETE_FAMILY, _DELETE_EXCHANGE, _DELETE_ACCESS_OF):
            self._connection.execute(removal, {"token": token_id})

    def delete_dead(self, until: float, most: int) -> int:
        """Delete at most ``most`` access credentials that expired by ``until``; return how many."""
        return self._connection.execute(_DELETE_DEAD, {"until": until, "most": most}).rowcount

    def delete_past(self, now: float, most: int) -> int:
        """Delete at most ``most`` exchanges that may no longer be repeated; return how many."""
        return self._connection.execute(_DELETE_PAST, {"now": now, "most": most}).rowcount
