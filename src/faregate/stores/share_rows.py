"""The statements about shares, in a transaction.

The law of redemptions: one conditional statement judges a redemption and counts it. If a statement
read the count and another increased it, two redemptions at once could take the last place.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, insert, select, update

from faregate.stores.queries import beginning, breadth
from faregate.stores.rows import Order, Rows, listing_of, page_parameters, reached
from faregate.stores.schema import share_objects, shares
from faregate.stores.sound_rows import first_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from faregate.stores.queries import Beginning, Breadth, Reach, ShareQuery
    from faregate.stores.rows import Listing, Values

_NEWEST = Order(shares.c.created_at, shares.c.id, descending=True, newest_id_first=True)

# Statements are built once: SQLAlchemy takes longer to build a statement than to run it.
_INSERT_SHARE = insert(shares)
_INSERT_OBJECTS = insert(share_objects)
_UPDATE_LIVE = update(shares).where(
    shares.c.id == bindparam("share_id"), shares.c.revoked_at.is_(None)
)
_MAY_BE_REDEEMED = shares.c.max_redemptions.is_(None) | (
    shares.c.redemptions < shares.c.max_redemptions
)
_COUNT_REDEMPTION = _UPDATE_LIVE.where(_MAY_BE_REDEEMED).values(
    redemptions=shares.c.redemptions + 1
)


class ShareRows(Rows):
    """Reads and writes the rows of shares in a transaction."""

    table = shares

    def list(self, query: ShareQuery, reach: Reach | None) -> tuple[Iterator[Values], int]:
        """Return a page of the reached shares that meet the query, and the number of them all.

        The newest share comes first.
        """
        parameters = page_parameters(reach, query.limit, query.offset, query.after)
        if query.object_id is None:
            return self.page(_listing(breadth(reach), beginning(query.after)), parameters)

        listing = _listing_of_object(breadth(reach), beginning(query.after))
        return self.page(listing, {**parameters, "object_id": query.object_id})

    def by_digest(self, digest: bytes) -> Values | None:
        """Return the columns of the share whose secret has this digest, or None."""
        return first_of(self._connection.execute(select(shares).where(shares.c.digest == digest)))

    def add(self, values: Values, object_ids: Sequence[str]) -> None:
        """Insert a share, and the rows by which it is found for each of its objects."""
        self._connection.execute(_INSERT_SHARE, values)

        objects = [{"object_id": object_id, "share_id": values["id"]} for object_id in object_ids]
        self._connection.execute(_INSERT_OBJECTS, objects)

    def update(self, values: Values, *share_ids: str) -> None:
        """Change the named columns of shares; a revoked share keeps its columns."""
        if share_ids:
            changes = [{**values, "share_id": share_id} for share_id in share_ids]
            self._connection.execute(_UPDATE_LIVE, changes)

    def count_redemption(self, share_id: str) -> bool:
        """Count one redemption; return False if the share is revoked or used up."""
        return self._connection.execute(_COUNT_REDEMPTION, {"share_id": share_id}).rowcount == 1


@cache
def _listing(breadth: Breadth, begins: Beginning) -> Listing:
    """Return the statements of the list of all shares."""
    return listing_of(shares, [reached(shares, breadth)], _NEWEST, begins)


@cache
def _listing_of_object(breadth: Breadth, begins: Beginning) -> Listing:
    """Return the statements of the list of the shares that hold ``object_id``."""
    holding = select(share_objects.c.share_id).where(
        share_objects.c.object_id == bindparam("object_id")
    )
    return listing_of(shares, [reached(shares, breadth), shares.c.id.in_(holding)], _NEWEST, begins)
