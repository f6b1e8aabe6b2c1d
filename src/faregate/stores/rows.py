"""The statements that tokens and shares have in common: look-up, reach, lists and lineage.

The law of reach is said once, in :func:`reached`, and is part of each statement for a caller. So
a record out of reach is never read, and cannot be told from a record that does not exist.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from sqlalchemy import Text, and_, bindparam, cast, false, func, or_, select, true

from faregate.stores.queries import AFTER_NOTHING, EVERYTHING, FIRST, ID, MADE, ORG, bounds, breadth
from faregate.stores.schema import descent, tokens
from faregate.stores.sound_rows import all_of, first_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import BindParameter, ColumnElement, Connection, Select, Table

    from faregate.stores.queries import Beginning, Breadth, Place, Reach

Values = dict[str, Any]
T = TypeVar("T")

# The record of a refresh token stands for a family of credentials, and is never presented itself.
FAMILY = tokens.c.type == "REFRESH"
# A type that was written as a blob equals no text. Its record is neither a family nor a token.
NO_FAMILY = cast(tokens.c.type, Text) != "REFRESH"

_BATCH = 500  # ids in a statement
_FIRST_ROWS = 16  # rows of a page in the first read


class Order(NamedTuple):
    """Holds the order of a list: by a column, and by the id among equal values."""

    column: ColumnElement[Any]
    id: ColumnElement[str]
    descending: bool
    newest_id_first: bool = False


class Listing(NamedTuple):
    """Holds the two statements of a list: the number of all records, and the ids of a page."""

    total: Select[int]
    ids: Select[str]


class Rows:
    """Reads the rows of a table, tokens or shares, in a transaction."""

    table: ClassVar[Table]

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, record_id: str, reach: Reach | None = None) -> Values | None:
        """Return the columns of a record, or None if it does not exist or is not reached."""
        if not ID.fullmatch(record_id):
            return None

        statement = _select_reached(self.table, breadth(reach))
        parameters = {"record_id": record_id, **bounds(reach)}
        return first_of(self._connection.execute(statement, parameters))

    def by_ids(self, ids: Sequence[str]) -> list[Values]:
        """Return the columns of the existing records of these ids, in no order."""
        rows: list[Values] = []
        for batch in batched(ids):
            # One statement is cached for each power of two. The last id fills its free places.
            number = 1 << (len(batch) - 1).bit_length()
            last = len(batch) - 1
            parameters = {f"id{index}": batch[min(index, last)] for index in range(number)}
            rows += all_of(self._connection.execute(_select_by_ids(self.table, number), parameters))
        return rows

    def made_by(self, token_ids: Sequence[str]) -> list[Values]:
        """Return the columns of all records that these tokens made."""
        rows: list[Values] = []
        for batch in batched(token_ids):
            statement = select(self.table).where(self.table.c.made_by.in_(batch))
            rows += all_of(self._connection.execute(statement))
        return rows

    def page(self, listing: Listing, parameters: Values) -> tuple[Iterator[Values], int]:
        """Return the rows of a page of a list, and the number of all its records.

        Only the ids are sorted. The rows are read while the iterator is consumed, in portions that
        double: a caller that stops early has read little more than it used.
        """
        total = self._connection.execute(listing.total, parameters).scalar_one()
        ids = self._connection.execute(listing.ids, parameters).scalars().all()
        return self._in_portions(ids), total

    def _in_portions(self, ids: Sequence[str]) -> Iterator[Values]:
        position = 0
        size = _FIRST_ROWS

        while position < len(ids):
            portion = ids[position : position + size]
            rows = {row["id"]: row for row in self.by_ids(portion)}
            yield from (rows[record_id] for record_id in portion if record_id in rows)

            position += len(portion)
            size = min(position, _BATCH)


@cache
def _select_reached(table: Table, breadth: Breadth) -> Select[Any]:
    """Return the statement that reads a record by ``record_id``, if it is reached."""
    return select(table).where(table.c.id == bindparam("record_id"), reached(table, breadth))


@cache
def _select_by_ids(table: Table, number: int) -> Select[Any]:
    """Return the statement that reads records by the parameters ``id0``, ``id1`` and so on."""
    return select(table).where(table.c.id.in_([bindparam(f"id{index}") for index in range(number)]))


def listing_of(
    table: Table, where: Iterable[ColumnElement[bool]], order: Order, begins: Beginning
) -> Listing:
    """Return the statements of a list of the records that meet all conditions.

    Their parameters are those of the conditions, and :func:`page_parameters`.
    """
    conditions = list(where)
    total = select(func.count()).select_from(table).where(*conditions)

    if begins != FIRST:
        conditions.append(_after_place(order, begins))
    ids = select(table.c.id).where(*conditions).order_by(*_sort_keys(order))
    return Listing(total, ids.limit(bindparam("limit")).offset(bindparam("offset")))


def page_parameters(reach: Reach | None, limit: int, offset: int, after: Place | None) -> Values:
    """Return the parameters that all lists take.

    A list reads ``limit + 1`` records: the last record only tells that there is another page.
    """
    parameters = {**bounds(reach), "limit": limit + 1, "offset": offset}
    if after is not None:
        parameters |= {"after_value": after.value, "after_id": after.id}
    return parameters


def _sort_keys(order: Order) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    # Databases disagree about the place of NULL. Here it is less than every value.
    if order.descending:
        column = order.column.desc().nulls_last()
    else:
        column = order.column.asc().nulls_first()

    record_id = order.id.desc() if order.newest_id_first else order.id.asc()
    return column, record_id


def _after_place(order: Order, begins: Beginning) -> ColumnElement[bool]:
    """Return the condition of the records after a place, in the order of :func:`_sort_keys`."""
    column: ColumnElement[Any] = order.column
    value: BindParameter[Any] = bindparam("after_value")
    record_id: BindParameter[str] = bindparam("after_id")
    after_id = order.id < record_id if order.newest_id_first else order.id > record_id
    later: ColumnElement[bool]

    if begins == AFTER_NOTHING:
        later = false() if order.descending else column.is_not(None)
        return or_(and_(column.is_(None), after_id), later)

    later = or_(column < value, column.is_(None)) if order.descending else column > value
    return or_(later, and_(column == value, after_id))


def lineage(connection: Connection, token_id: str) -> list[str]:
    """Return the ids of a token and of its descendants, deleted tokens included.

    The descendants are the tokens that it made or rotated, and the descendants of these.
    """
    ids: dict[str, None] = {token_id: None}
    newest = [token_id]

    while newest:
        children: list[str] = []
        for batch in batched(newest):
            for table, origin in ((tokens, tokens.c.made_by), (descent, descent.c.origin)):
                statement = select(table.c.id).where(origin.in_(batch))
                children += connection.execute(statement).scalars()

        newest = list(dict.fromkeys(child for child in children if child not in ids))
        ids |= dict.fromkeys(newest)
    return list(ids)


def batched(ids: Sequence[T], size: int = _BATCH) -> Iterator[Sequence[T]]:
    """Yield the ids in batches of at most ``size``, by default for a statement each."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def reached(table: Table, breadth: Breadth) -> ColumnElement[bool]:
    """Return the condition under which a record is reached.

    A credential reaches its own record and, in its organization, the records that its breadth says:
    all of them, its owner's, or those that it made. The parameters are
    :func:`faregate.stores.queries.bounds`.
    """
    if breadth == EVERYTHING:
        return true()

    itself: BindParameter[str] = bindparam("reach_id")
    others: ColumnElement[bool]
    if breadth == ORG:
        others = true()
    elif breadth == MADE:
        others = table.c.made_by == itself
    else:
        others = owned(table, bindparam("reach_owner_id"), bindparam("reach_owner_idp_id"))

    same_org = table.c.org_id.is_not_distinct_from(bindparam("reach_org_id"))
    return or_(table.c.id == itself, and_(same_org, others))


def owned(
    table: Table, owner_id: BindParameter[Any], idp_id: BindParameter[Any]
) -> ColumnElement[bool]:
    """Return the condition under which an owner has a record: equal ids of owner and provider.

    The caller adds the condition of the organization.
    """
    return and_(table.c.owner_id == owner_id, table.c.owner_idp_id.is_not_distinct_from(idp_id))
