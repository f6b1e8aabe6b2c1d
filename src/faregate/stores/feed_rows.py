"""The statements about entries of the change feed, in a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import delete, func, select

from faregate.stores.change_feed import OF_THE_STORE
from faregate.stores.rows import batched
from faregate.stores.schema import feed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnElement, Connection

    from faregate.stores.queries import FeedQuery
    from faregate.stores.rows import Values


_PORTION = 16  # entries of a page in each read


class FeedRows:
    """Reads and deletes entries of the feed in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, query: FeedQuery, orgs: tuple[str | None] | None) -> Iterator[Values]:
        """Yield the entries of a page, and the next entry if there is another page.

        The entries come in the order of their sequence, or newest first if the newest are listed.
        They are read while the iterator is consumed.

        ``orgs`` holds the organization to which the list is narrowed; None narrows nothing. Entries
        about the store are in no organization, not even in the organization None.
        """
        order = feed.c.sequence.desc() if query.newest else feed.c.sequence
        where = _conditions(query, orgs)
        page = select(feed.c.sequence).where(*where).order_by(order).limit(query.limit + 1)
        sequences = self._connection.execute(page).scalars().all()

        for portion in batched(sequences, _PORTION):
            statement = select(feed).where(feed.c.sequence.in_(portion)).order_by(order)
            rows = self._connection.execute(statement).mappings().all()
            yield from (_decoded(dict(row)) for row in rows)

    def first_since(self, instant: float) -> int:
        """Return the sequence of the first entry to keep.

        It is the oldest entry not before an instant in epoch seconds. Without any, it is the newest
        entry; the sequence of an empty feed is 0.
        """
        young = select(func.min(feed.c.sequence)).where(feed.c.at >= instant)
        newest = select(func.max(feed.c.sequence))
        first = select(func.coalesce(young.scalar_subquery(), newest.scalar_subquery(), 0))
        return int(self._connection.execute(first).scalar_one())

    def delete_before(self, sequence: int, most: int) -> int:
        """Delete the oldest entries before a sequence, at most ``most``; return how many."""
        before = select(feed.c.sequence).where(feed.c.sequence < sequence)
        oldest = before.order_by(feed.c.sequence).limit(most)
        statement = delete(feed).where(feed.c.sequence.in_(oldest))
        return self._connection.execute(statement).rowcount


def _conditions(query: FeedQuery, orgs: tuple[str | None] | None) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if orgs is not None:
        where.append(feed.c.org_id.is_not_distinct_from(orgs[0]))
        where.append(feed.c.action.not_in(OF_THE_STORE))

    if query.subject is not None:
        where.append(feed.c.subject == query.subject)
    if query.after is not None:
        where.append(feed.c.sequence > query.after)
    if query.since is not None:
        where.append(feed.c.at >= query.since)
    return where


def _decoded(row: Values) -> Values:
    try:
        row["details"] = msgspec.json.decode(row["details"])
    except (msgspec.MsgspecError, TypeError):
        # The row was changed by hand, and the rest of its entry may still be read.
        row["details"] = None
    return row
