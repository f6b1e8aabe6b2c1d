"""The statements about the change feed's entries, inside a transaction of :mod:`faregate.stores.store`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import delete, func, select

from faregate.stores.change_feed import OF_THE_STORE
from faregate.stores.rows import batched
from faregate.stores.schema import feed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from faregate.stores.queries import FeedQuery
    from faregate.stores.rows import Values


_TAKEN = 16  # entries of a page that are read at once


class FeedRows:
    """The entries of the feed, as one transaction sees them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, query: FeedQuery, orgs: tuple[str | None] | None) -> Iterator[Values]:
        """Yield entries, one more than wanted if there are; only of an organization, if one is named.

        They come in their order; where the newest are wanted, these come first. They are read as they are taken.
        ``orgs`` holds that one. What is about the store, and not about a record, is in no organization.
        """
        where = (
            []
            if orgs is None
            else [feed.c.org_id.is_not_distinct_from(orgs[0]), feed.c.action.not_in(OF_THE_STORE)]
        )
        if query.subject is not None:
            where.append(feed.c.subject == query.subject)
        if query.after is not None:
            where.append(feed.c.sequence > query.after)
        if query.since is not None:
            where.append(feed.c.at >= query.since)
        order = feed.c.sequence.desc() if query.newest else feed.c.sequence
        wanted = select(feed.c.sequence).where(*where).order_by(order).limit(query.limit + 1)
        sequences = self._connection.execute(wanted).scalars().all()
        for some in batched(sequences, _TAKEN):
            rows = self._connection.execute(
                select(feed).where(feed.c.sequence.in_(some)).order_by(order)
            ).mappings()
            yield from (_decoded(dict(row)) for row in rows.all())

    def first_since(self, instant: float) -> int:
        """Return the first sequence of those that are kept: the oldest entry not before an instant, or the newest."""
        young = select(func.min(feed.c.sequence)).where(feed.c.at >= instant)
        newest = select(func.max(feed.c.sequence))
        first = select(func.coalesce(young.scalar_subquery(), newest.scalar_subquery(), 0))
        return int(self._connection.execute(first).scalar_one())

    def delete_before(self, sequence: int, most: int) -> int:
        """Remove the oldest entries before a sequence, so many at most; return how many there were."""
        oldest = (
            select(feed.c.sequence)
            .where(feed.c.sequence < sequence)
            .order_by(feed.c.sequence)
            .limit(most)
        )
        return self._connection.execute(delete(feed).where(feed.c.sequence.in_(oldest))).rowcount


def _decoded(row: Values) -> Values:
    try:
        row["details"] = msgspec.json.decode(row["details"])
    except (msgspec.MsgspecError, TypeError):  # changed by hand in the database
        row["details"] = None
    return row
