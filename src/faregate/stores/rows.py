"""What the rows of tokens and of shares have in common: who reaches them, who made them, and that they are sound."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from sqlalchemy import and_, bindparam, false, func, or_, select, true

from faregate.stores.queries import AFTER_NOTHING, EVERYTHING, FIRST, ID, MADE, ORG, bounds, breadth
from faregate.stores.schema import descent, tokens
from faregate.stores.sound_rows import all_of, first_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import BindParameter, ColumnElement, Connection, Row, Select, Table

    from faregate.stores.queries import Beginning, Breadth, Place, Reach

    Numbers = Callable[[Row[Any]], tuple[object, ...]]

Values = dict[str, Any]
T = TypeVar("T")

FAMILY = (
    tokens.c.type == "REFRESH"
)  # such a token is a family of credentials, and only those open anything

_BATCH = 500
_TAKEN = 16  # rows of a page that are read first


class Order(NamedTuple):
    """How a list is sorted: by a column, and among equals by the id."""

    column: ColumnElement[Any]
    id: ColumnElement[str]
    descending: bool
    newest_id_first: bool = False


class Listing(NamedTuple):
    """The statements of a list: how many records there are in all, and the ids on a page."""

    total: Select[int]
    ids: Select[str]


class Rows:
    """The rows of tokens or of shares, as one transaction sees them; what both have in common."""

    table: ClassVar[Table]

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, record_id: str, reach: Reach | None = None) -> Values | None:
        """Return a record's columns, or None if there is none or it is not reached."""
        if not ID.fullmatch(record_id):
            return None
        wanted = _select_one(self.table, breadth(reach))
        return first_of(self._connection.execute(wanted, {"record_id": record_id, **bounds(reach)}))

    def by_ids(self, ids: Sequence[str]) -> list[Values]:
        """Return the columns of those records of these ids that there are."""
        found: list[Values] = []
        for some in batched(ids):
            # A statement is made once for each power of two; the last id fills it up.
            number = 1 << (len(some) - 1).bit_length()
            parameters = {f"id{index}": some[min(index, len(some) - 1)] for index in range(number)}
            found += all_of(self._connection.execute(_select_some(self.table, number), parameters))
        return found

    def made_by(self, token_ids: Sequence[str]) -> list[Values]:
        """Return the columns of all records that one of these tokens made."""
        made: list[Values] = []
        for some in batched(token_ids):
            made += all_of(
                self._connection.execute(select(self.table).where(self.table.c.made_by.in_(some)))
            )
        return made

    def page(self, listing: Listing, parameters: Values) -> tuple[Iterator[Values], int]:
        """Return one page of a list, and how many records there are in all.

        The rows are read as they are taken, a few at a time and never more than were taken before, so that whoever
        stops early reads little more; the ids alone are sorted.
        """
        total = self._connection.execute(listing.total, parameters).scalar_one()
        ids = self._connection.execute(listing.ids, parameters).scalars().all()
        return self._taken(ids), total

    def _taken(self, ids: Sequence[str]) -> Iterator[Values]:
        taken, reads = 0, _TAKEN
        while taken < len(ids):
            some = ids[taken : taken + reads]
            found = {row["id"]: row for row in self.by_ids(some)}
            yield from (found[record_id] for record_id in some if record_id in found)
            taken += len(some)
            reads = min(taken, _BATCH)


@cache
def _select_one(table: Table, breadth: Breadth) -> Select[Any]:
    """Return the statement that finds a record by its id, if it is reached. It takes the bounds of the reach."""
    return select(table).where(table.c.id == bindparam("record_id"), reached(table, breadth))


@cache
def _select_some(table: Table, number: int) -> Select[Any]:
    """Return the statement that finds records by so many ids."""
    return select(table).where(table.c.id.in_([bindparam(f"id{index}") for index in range(number)]))


def listing_of(
    table: Table, where: Iterable[ColumnElement[bool]], order: Order, begins: Beginning
) -> Listing:
    """Return the statements of a list of the records that meet all conditions.

    They take the parameters of the conditions, ``limit`` and ``offset``, and ``after_value`` and ``after_id`` of the
    place after which the page begins.
    """
    conditions = list(where)
    total = select(func.count()).select_from(table).where(*conditions)
    if begins != FIRST:
        conditions.append(_beyond(order, begins))
    ids = select(table.c.id).where(*conditions).order_by(*_sorted(order))
    return Listing(total, ids.limit(bindparam("limit")).offset(bindparam("offset")))


def page_parameters(reach: Reach | None, limit: int, offset: int, after: Place | None) -> Values:
    """Return the parameters that all lists take. One record more than ``limit`` is asked for."""
    parameters = {**bounds(reach), "limit": limit + 1, "offset": offset}
    if after is not None:
        parameters |= {"after_value": after.value, "after_id": after.id}
    return parameters


def _sorted(order: Order) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    # Said for every database alike: nothing is less than anything.
    key = order.column.desc().nulls_last() if order.descending else order.column.asc().nulls_first()
    return key, order.id.desc() if order.newest_id_first else order.id.asc()


def _beyond(order: Order, begins: Beginning) -> ColumnElement[bool]:
    """Return the rule of which records come after a place, by the order that :func:`_sorted` says."""
    column: ColumnElement[Any] = order.column
    value: BindParameter[Any] = bindparam("after_value")
    record_id: BindParameter[str] = bindparam("after_id")
    among_equals = order.id < record_id if order.newest_id_first else order.id > record_id
    later: ColumnElement[bool]
    if begins == AFTER_NOTHING:
        later = false() if order.descending else column.is_not(None)
        return or_(and_(column.is_(None), among_equals), later)
    later = or_(column < value, column.is_(None)) if order.descending else column > value
    return or_(later, and_(column == value, among_equals))


def lineage(connection: Connection, token_id: str) -> list[str]:
    """Return the ids of a token and of all that it made or rotated, and those did, those that are gone among them."""
    line, newest = {token_id: None}, [token_id]
    while newest:
        found: list[str] = []
        for some in batched(newest):
            for table, origin in ((tokens, tokens.c.made_by), (descent, descent.c.origin)):
                found += connection.execute(select(table.c.id).where(origin.in_(some))).scalars()
        newest = list(dict.fromkeys(one for one in found if one not in line))
        line |= dict.fromkeys(newest)
    return list(line)


def batched(ids: Sequence[T], size: int = _BATCH) -> Iterator[Sequence[T]]:
    """Yield so many ids at a time, by default as many as a statement takes."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def reached(table: Table, breadth: Breadth) -> ColumnElement[bool]:
    """Return the one rule of reach: itself; in its organization all, its owner's, or, if nobody's, what it made.

    It takes the parameters of :func:`faregate.stores.queries.bounds`.
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
    """Return the rule of whose a record of an organization is: of the same id at the same provider."""
    return and_(table.c.owner_id == owner_id, table.c.owner_idp_id.is_not_distinct_from(idp_id))
