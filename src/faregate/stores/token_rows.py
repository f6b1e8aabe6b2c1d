"""The statements about tokens and their secrets, inside a transaction of :mod:`faregate.stores.sql`.

Updates are partial: a statement names the columns that it changes, so that no stale copy brings anything back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, func, insert, select, update

from faregate.stores.rows import ID, reached, sound
from faregate.stores.schema import secrets, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import ColumnElement

    from faregate.stores.reach import Reach, TokenQuery
    from faregate.stores.rows import Values


class TokenRows:
    """The rows of tokens, as one transaction sees and changes them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, token_id: str, reach: Reach | None = None) -> Values | None:
        """Return a token's columns, or None if there is none or it is not reached."""
        if not ID.fullmatch(token_id):
            return None
        rows = self._connection.execute(select(tokens).where(tokens.c.id == token_id, reached(tokens, reach)))
        row = rows.mappings().first()
        return None if row is None else sound(row)

    def list(self, query: TokenQuery, reach: Reach | None) -> tuple[Sequence[Values], int]:
        """Return one page of the tokens that are reached and meet the query, and how many there are in all."""
        where = [reached(tokens, reach), *_conditions(query)]
        total = self._connection.execute(select(func.count()).select_from(tokens).where(*where)).scalar_one()
        column = tokens.c[query.sort]
        order = column.desc() if query.descending else column.asc()
        rows = select(tokens).where(*where).order_by(order, tokens.c.id).limit(query.limit).offset(query.offset)
        return [sound(row) for row in self._connection.execute(rows).mappings()], total

    def current_digest(self, token_id: str) -> bytes | None:
        """Return the digest of a token's current credential: the one that no rotation has superseded."""
        if not ID.fullmatch(token_id):
            return None
        wanted = (secrets.c.token_id == token_id) & secrets.c.superseded_at.is_(None)
        return self._connection.execute(select(secrets.c.digest).where(wanted)).scalar()

    def has_secret(self, digest: bytes, now: float) -> bool:
        """Tell whether a credential is one of its token's live ones."""
        live = secrets.c.superseded_at.is_(None) | (secrets.c.superseded_at > now)
        found = self._connection.execute(select(secrets.c.token_id).where((secrets.c.digest == digest) & live))
        return found.first() is not None

    def add(self, values: Values, digest: bytes) -> None:
        """Insert a token and the digest of its credential."""
        self._connection.execute(insert(tokens).values(values))
        self._connection.execute(insert(secrets).values(digest=digest, token_id=values["id"]))

    def update(self, token_id: str, values: Values) -> None:
        """Change the named columns of a token and count its version up."""
        counted = {**values, "version": tokens.c.version + 1}
        self._connection.execute(update(tokens).where(tokens.c.id == token_id).values(counted))

    def delete(self, token_id: str) -> None:
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

    def note_uses(self, uses: Sequence[tuple[str, float]]) -> None:
        """Move ``last_used_at`` forward, never back; no version, no entry: it is no change of the record."""
        for token_id, at in uses:
            earlier = tokens.c.last_used_at.is_(None) | (tokens.c.last_used_at < at)
            self._connection.execute(update(tokens).where((tokens.c.id == token_id) & earlier).values(last_used_at=at))


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
