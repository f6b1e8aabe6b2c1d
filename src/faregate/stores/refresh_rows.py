"""The statements about families of refresh credentials and about access credentials, inside a transaction.

The current credential of a family is where those of tokens are, in the table of secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, select, update

from faregate.stores.family import Exchange, Family
from faregate.stores.rows import FAMILY
from faregate.stores.schema import access, exchanges, families, secrets, tokens
from faregate.stores.sound_rows import first_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from faregate.stores.rows import Values

_FEW = 20  # rows that are removed along with what is added
_LINGERING = 3600.0  # seconds for which that leaves a dead access credential, for its holder to be told that it expired

# The statements are made once, since SQLAlchemy takes longer to make one than to run it.
_SELECT_FAMILY = (
    select(tokens, secrets.c.digest.label("current"))
    .join_from(tokens, families)
    .outerjoin(secrets, (secrets.c.token_id == tokens.c.id) & secrets.c.superseded_at.is_(None))
    .where(families.c.digest == bindparam("digest"), FAMILY)
)
_SELECT_EXCHANGE = select(exchanges.c.presented, exchanges.c.successor, exchanges.c.until).where(
    exchanges.c.token_id == bindparam("token")
)

_SELECT_LINE = select(families.c.digest).where(families.c.token_id == bindparam("token"))
_DELETE_FAMILY = delete(families).where(families.c.token_id == bindparam("token"))
_INSERT_FAMILY = insert(families)
_REPLACE_PRESENTED = update(secrets).where(
    secrets.c.token_id == bindparam("token"), secrets.c.digest == bindparam("presented")
)

_INSERT_EXCHANGE = insert(exchanges)
_DELETE_EXCHANGE = delete(exchanges).where(exchanges.c.token_id == bindparam("token"))
_SOME_PAST = (
    select(exchanges.c.token_id)
    .where(exchanges.c.until <= bindparam("now"))
    .limit(bindparam("most"))
)
_DELETE_PAST = delete(exchanges).where(exchanges.c.token_id.in_(_SOME_PAST))

_INSERT_ACCESS = insert(access)
_SELECT_ACCESS = select(access).where(access.c.digest == bindparam("digest"))
_SELECT_RECORD = select(tokens).where(tokens.c.id == bindparam("token"), FAMILY)
_DELETE_ACCESS_OF = delete(access).where(access.c.token_id == bindparam("token"))
_SOME_DEAD = (
    select(access.c.digest)
    .where(access.c.expires_at <= bindparam("until"))
    .limit(bindparam("most"))
)
_DELETE_DEAD = delete(access).where(access.c.digest.in_(_SOME_DEAD))


class RefreshRows:
    """The rows of families, exchanges and access credentials, as one transaction sees and changes them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def family(self, digest: bytes) -> Family | None:
        """Return the family whose credentials have in common what has this digest, or None."""
        values = first_of(self._connection.execute(_SELECT_FAMILY, {"digest": digest}))
        if values is None:
            return None
        last = self._connection.execute(_SELECT_EXCHANGE, {"token": values["id"]}).first()
        exchange = None if last is None else Exchange(*last)
        return Family(
            values,
            values.pop("current"),
            exchange if exchange is not None and exchange.sound else None,
        )

    def digest_of(self, token_id: str) -> bytes | None:
        """Return the digest of what the credentials of a family have in common."""
        return self._connection.execute(_SELECT_LINE, {"token": token_id}).scalar()

    def register_family(self, token_id: str, digest: bytes) -> None:
        """Keep what a new token's credentials have in common, in place of what they had."""
        self._connection.execute(_DELETE_FAMILY, {"token": token_id})
        self._connection.execute(_INSERT_FAMILY, {"digest": digest, "token_id": token_id})
        self.forget_exchange(token_id)

    def exchange(self, token_id: str, new: bytes, done: Exchange) -> bool:
        """Make ``new`` the current credential of a family in place of the presented one; say whether that was so."""
        swap = {"token": token_id, "presented": done.presented, "digest": new}
        swapped = self._connection.execute(_REPLACE_PRESENTED, swap)
        if swapped.rowcount != 1:
            return False
        self.forget_exchange(token_id)
        self._connection.execute(_INSERT_EXCHANGE, {"token_id": token_id, **done._asdict()})
        return True

    def forget_exchange(self, token_id: str) -> None:
        """Have the last exchange of a family never be repeated."""
        self.forget_exchanges([token_id])

    def forget_exchanges(self, token_ids: Sequence[str]) -> None:
        """Have the last exchanges of families never be repeated."""
        if token_ids:
            self._connection.execute(
                _DELETE_EXCHANGE, [{"token": token_id} for token_id in token_ids]
            )

    def add_access(self, values: Values) -> None:
        """Insert an access credential. Some that are long dead go, so that there are never many more of them."""
        self.delete_dead(values["created_at"] - _LINGERING, _FEW)
        self.delete_past(values["created_at"], _FEW)
        self._connection.execute(_INSERT_ACCESS, values)

    def by_access(self, digest: bytes) -> tuple[Values, Values] | None:
        """Return the columns of the family behind an access credential, and those of the credential; or None."""
        found = first_of(self._connection.execute(_SELECT_ACCESS, {"digest": digest}))
        if found is None:
            return None
        family = first_of(self._connection.execute(_SELECT_RECORD, {"token": found["token_id"]}))
        return None if family is None else (family, found)

    def delete_access(self, digest: bytes) -> None:
        """Remove one access credential."""
        self._connection.execute(delete(access).where(access.c.digest == digest))

    def delete_access_of(self, token_ids: Sequence[str]) -> None:
        """Remove all access credentials of families."""
        if token_ids:
            self._connection.execute(
                _DELETE_ACCESS_OF, [{"token": token_id} for token_id in token_ids]
            )

    def delete(self, token_id: str) -> None:
        """Remove a family, with all that came of it."""
        for removal in (_DELETE_FAMILY, _DELETE_EXCHANGE, _DELETE_ACCESS_OF):
            self._connection.execute(removal, {"token": token_id})

    def delete_dead(self, until: float, most: int) -> int:
        """Remove access credentials that expired until then, so many at most; return how many there were."""
        return self._connection.execute(_DELETE_DEAD, {"until": until, "most": most}).rowcount

    def delete_past(self, now: float, most: int) -> int:
        """Remove exchanges that may be repeated no more, so many at most; return how many there were."""
        return self._connection.execute(_DELETE_PAST, {"now": now, "most": most}).rowcount
