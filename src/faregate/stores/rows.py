"""What the rows of tokens and of shares have in common: who reaches them, who made them, and that they are sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from sqlalchemy import and_, false, func, or_, select, true

from faregate.instants import END_OF_TIME
from faregate.stores.reach import ID
from faregate.stores.schema import descent, tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Connection, RowMapping, Table

    from faregate.stores.reach import Place, Reach

Values = dict[str, Any]
T = TypeVar("T")

FAMILY = tokens.c.type == "REFRESH"  # such a token is a family of credentials, and only those open anything

_BATCH = 500
_TAKEN = 16  # rows of a page that are read at once
# What a number becomes that was broken by hand: the value that opens least, or nothing.
_WORST = {
    "expires_at": 0.0,
    "not_before": END_OF_TIME,
    "created_at": 0.0,
    "updated_at": 0.0,
    "revoked_at": 0.0,
    "version": 0,
    "redemptions": 0,
    "max_redemptions": 0,
    "superseded_at": 0.0,
}
_NUMBERS = (*_WORST, "rotated_at", "last_used_at", "deactivated_updated_on")


class Order(NamedTuple):
    """How a list is sorted: by a column, and among equals by the id."""

    column: ColumnElement[Any]
    id: ColumnElement[str]
    descending: bool
    newest_id_first: bool = False


class Rows:
    """The rows of tokens or of shares, as one transaction sees them; what both have in common."""

    table: ClassVar[Table]

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, record_id: str, reach: Reach | None = None) -> Values | None:
        """Return a record's columns, or None if there is none or it is not reached."""
        if not ID.fullmatch(record_id):
            return None
        where = (self.table.c.id == record_id, reached(self.table, reach))
        row = self._connection.execute(select(self.table).where(*where)).mappings().first()
        return None if row is None else sound(row)

    def of(self, ids: Sequence[str]) -> list[Values]:
        """Return the columns of those records of these ids that there are."""
        found: list[Values] = []
        for some in batched(ids):
            rows = self._connection.execute(select(self.table).where(self.table.c.id.in_(some)))
            found += map(sound, rows.mappings())
        return found

    def made_by(self, token_ids: Sequence[str]) -> list[Values]:
        """Return the columns of all records that one of these tokens made."""
        made: list[Values] = []
        for some in batched(token_ids):
            rows = self._connection.execute(select(self.table).where(self.table.c.made_by.in_(some)))
            made += map(sound, rows.mappings())
        return made

    def page(
        self, where: Iterable[ColumnElement[bool]], order: Order, limit: int, offset: int, after: Place | None
    ) -> tuple[Iterator[Values], int]:
        """Return one page of the records that meet all conditions, and how many meet them in all.

        One record more than ``limit`` is returned if there is one. The rows are read as they are taken, a few at a
        time, so that whoever stops early reads no more; the ids alone are sorted.
        """
        conditions = list(where)
        total = self._connection.execute(select(func.count()).select_from(self.table).where(*conditions)).scalar_one()
        if after is not None:
            conditions.append(_beyond(order, after))
        ids = select(self.table.c.id).where(*conditions).order_by(*_sorted(order)).limit(limit + 1).offset(offset)
        return self._taken(self._connection.execute(ids).scalars().all()), total

    def _taken(self, ids: Sequence[str]) -> Iterator[Values]:
        for some in batched(ids, _TAKEN):
            rows = self._connection.execute(select(self.table).where(self.table.c.id.in_(some))).mappings()
            found = {row["id"]: sound(row) for row in rows}
            yield from (found[one] for one in some if one in found)


def _sorted(order: Order) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    # Said for every database alike: nothing is less than anything.
    key = order.column.desc().nulls_last() if order.descending else order.column.asc().nulls_first()
    return key, order.id.desc() if order.newest_id_first else order.id.asc()


def _beyond(order: Order, after: Place) -> ColumnElement[bool]:
    """Return the rule of which records come after a place, by the order that :func:`_sorted` says."""
    column, value = order.column, after.value
    among_equals = order.id < after.id if order.newest_id_first else order.id > after.id
    later: ColumnElement[bool]
    if value is None:
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


def reached(table: Table, reach: Reach | None) -> ColumnElement[bool]:
    """Return the one rule of reach: itself; in its organization all, its owner's, or, if nobody's, what it made."""
    if reach is None:
        return true()
    columns = table.c
    others: ColumnElement[bool]
    if reach.whole_org:
        others = true()
    elif reach.owner_id is None:
        others = columns.made_by == reach.id
    else:
        others = owned(table, reach.owner_id, reach.owner_idp_id)
    return or_(columns.id == reach.id, and_(columns.org_id.is_not_distinct_from(reach.org_id), others))


def owned(table: Table, owner_id: str, idp_id: str | None) -> ColumnElement[bool]:
    """Return the rule of whose a record of an organization is: of the same id at the same provider."""
    return and_(table.c.owner_id == owner_id, table.c.owner_idp_id.is_not_distinct_from(idp_id))


def sound(row: RowMapping) -> Values:
    """Return a row's columns, with numbers where numbers belong: what was broken by hand opens nothing more."""
    values: Values = {str(column): value for column, value in row.items()}
    for column in _NUMBERS:
        if not isinstance(values.get(column), int | float | None):
            values[column] = _WORST.get(column)
    return values
