"""The statements about shares, inside a transaction of :mod:`faregate.stores.sql`.

A redemption is counted where it is judged, in one conditional statement: whoever reads first and counts
later gives one too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, insert, select, update

from faregate.stores.rows import Order, Rows, sound
from faregate.stores.schema import share_objects, shares

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import ColumnElement

    from faregate.stores.reach import Reach, ShareQuery
    from faregate.stores.rows import Values

# The statements are made once, since SQLAlchemy takes longer to make one than to run it.
_INSERT_SHARE = insert(shares)
_INSERT_OBJECTS = insert(share_objects)
_UPDATE_LIVE = update(shares).where(shares.c.id == bindparam("share_id"), shares.c.revoked_at.is_(None))
_HAS_ONE_LEFT = shares.c.max_redemptions.is_(None) | (shares.c.redemptions < shares.c.max_redemptions)
_UPDATE_COUNT = _UPDATE_LIVE.where(_HAS_ONE_LEFT).values(redemptions=shares.c.redemptions + 1)


class ShareRows(Rows):
    """The rows of shares, as one transaction sees and changes them."""

    table = shares

    def list(self, query: ShareQuery, reach: Reach | None) -> tuple[Iterator[Values], int]:
        """Return one page of the shares that are reached and meet the query, newest first, and how many there are."""
        where: list[ColumnElement[bool]] = []
        if query.object_id is not None:
            holding = select(share_objects.c.share_id).where(share_objects.c.object_id == query.object_id)
            where.append(shares.c.id.in_(holding))
        order = Order(shares.c.created_at, shares.c.id, descending=True, newest_id_first=True)
        return self.page(reach, where, order, query.limit, query.offset, query.after)

    def by_digest(self, digest: bytes) -> Values | None:
        """Return the columns of the share whose secret has this digest."""
        row = self._connection.execute(select(shares).where(shares.c.digest == digest)).first()
        return None if row is None else sound(row)

    def add(self, values: Values, object_ids: Sequence[str]) -> None:
        """Insert a share, and each of its objects, by which it is found."""
        self._connection.execute(_INSERT_SHARE, values)
        objects = [{"object_id": object_id, "share_id": values["id"]} for object_id in object_ids]
        self._connection.execute(_INSERT_OBJECTS, objects)

    def update(self, values: Values, *share_ids: str) -> None:
        """Change the named columns of shares that are not revoked: a revoked one stays as it is."""
        if share_ids:
            changes = [{**values, "share_id": share_id} for share_id in share_ids]
            self._connection.execute(_UPDATE_LIVE, changes)

    def count_redemption(self, share_id: str) -> bool:
        """Count one redemption if the share is not revoked and has one left; say whether it was counted."""
        return self._connection.execute(_UPDATE_COUNT, {"share_id": share_id}).rowcount == 1
