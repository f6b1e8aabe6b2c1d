"""The statements about families of refresh credentials and about access credentials, inside a transaction.

The current credential of a family is where those of tokens are, in the table of secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from faregate.stores.family import Exchange, Family
from faregate.stores.rows import FAMILY, batched, sound
from faregate.stores.schema import access, exchanges, families, secrets, tokens

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sqlalchemy import Column, ColumnElement, Connection, Table

    from faregate.stores.rows import Values

_FEW = 20  # rows that are removed along with what is added
_LINGERING = 3600.0  # seconds for which that leaves a dead access credential, for its holder to be told that it expired


class RefreshRows:
    """The rows of families, exchanges and access credentials, as one transaction sees and changes them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def family(self, digest: bytes) -> Family | None:
        """Return the family whose credentials have in common what has this digest, or None."""
        joined = select(tokens, secrets.c.digest.label("current")).join_from(tokens, families)
        joined = joined.outerjoin(secrets, (secrets.c.token_id == tokens.c.id) & secrets.c.superseded_at.is_(None))
        row = self._connection.execute(joined.where(families.c.digest == digest, FAMILY)).mappings().first()
        if row is None:
            return None
        values = sound(row)
        columns = exchanges.c
        last = self._connection.execute(
            select(columns.presented, columns.successor, columns.until).where(columns.token_id == values["id"])
        ).first()
        exchange = None if last is None else Exchange(*last)
        return Family(values, values.pop("current"), exchange if exchange is not None and exchange.sound else None)

    def line(self, token_id: str) -> bytes | None:
        """Return the digest of what the credentials of a family have in common."""
        return self._connection.execute(select(families.c.digest).where(families.c.token_id == token_id)).scalar()

    def found(self, token_id: str, digest: bytes) -> None:
        """Keep what a new token's credentials have in common, in place of what they had."""
        self._connection.execute(delete(families).where(families.c.token_id == token_id))
        self._connection.execute(insert(families).values(digest=digest, token_id=token_id))
        self.forget_exchange(token_id)

    def exchange(self, token_id: str, new: bytes, done: Exchange) -> bool:
        """Make ``new`` the current credential of a family in place of the presented one; say whether that was so."""
        current = (secrets.c.token_id == token_id) & (secrets.c.digest == done.presented)
        swapped = self._connection.execute(update(secrets).where(current).values(digest=new))
        if swapped.rowcount != 1:
            return False
        self.forget_exchange(token_id)
        self._connection.execute(insert(exchanges).values(token_id=token_id, **done._asdict()))
        return True

    def forget_exchange(self, token_id: str) -> None:
        """Have the last exchange of a family never be repeated."""
        self.forget_exchanges([token_id])

    def forget_exchanges(self, token_ids: Sequence[str]) -> None:
        """Have the last exchanges of families never be repeated."""
        for some in batched(token_ids):
            self._connection.execute(delete(exchanges).where(exchanges.c.token_id.in_(some)))

    def add_access(self, values: Values) -> None:
        """Insert an access credential. Some that are long dead go, so that there are never many more of them."""
        self.delete_dead(values["created_at"] - _LINGERING, _FEW)
        self.delete_past(values["created_at"], _FEW)
        self._connection.execute(insert(access).values(values))

    def by_access(self, digest: bytes) -> tuple[Values, Values] | None:
        """Return the columns of the family behind an access credential, and those of the credential; or None."""
        found = self._connection.execute(select(access).where(access.c.digest == digest)).mappings().first()
        if found is None:
            return None
        row = (
            self._connection.execute(select(tokens).where(tokens.c.id == found["token_id"], FAMILY)).mappings().first()
        )
        return None if row is None else (sound(row), sound(found))

    def delete_access(self, digest: bytes) -> None:
        """Remove one access credential."""
        self._connection.execute(delete(access).where(access.c.digest == digest))

    def delete_access_of(self, token_ids: Sequence[str]) -> None:
        """Remove all access credentials of families."""
        for some in batched(token_ids):
            self._connection.execute(delete(access).where(access.c.token_id.in_(some)))

    def delete(self, token_id: str) -> None:
        """Remove a family, with all that came of it."""
        for table in (families, exchanges, access):
            self._connection.execute(delete(table).where(table.c.token_id == token_id))

    def delete_dead(self, until: float, most: int) -> int:
        """Remove access credentials that expired until then, so many at most; return how many there were."""
        return self._delete_some(access, access.c.digest, access.c.expires_at <= until, most)

    def delete_past(self, now: float, most: int) -> int:
        """Remove exchanges that may be repeated no more, so many at most; return how many there were."""
        return self._delete_some(exchanges, exchanges.c.token_id, exchanges.c.until <= now, most)

    def _delete_some(self, table: Table, key: Column[Any], where: ColumnElement[bool], most: int) -> int:
        some = select(key).where(where).limit(most)
        return self._connection.execute(delete(table).where(key.in_(some))).rowcount
