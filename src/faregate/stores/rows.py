"""What the rows of tokens and of shares have in common: who reaches them, who made them, and that they are sound."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import and_, func, or_, select, true

from faregate.instants import END_OF_TIME
from faregate.stores.schema import descent, tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Connection, RowMapping, Table

    from faregate.stores.reach import Reach

Values = dict[str, Any]

ID = re.compile(r"[\x21-\x7e]{1,64}")  # what an identifier could be; anything else is found nowhere

FAMILY = tokens.c.type == "REFRESH"  # such a token is a family of credentials, and only those open anything

_BATCH = 500
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

    def made_by(self, token_ids: Sequence[str]) -> list[Values]:
        """Return the columns of all records that one of these tokens made."""
        made: list[Values] = []
        for some in batched(token_ids):
            rows = self._connection.execute(select(self.table).where(self.table.c.made_by.in_(some)))
            made += map(sound, rows.mappings())
        return made

    def page(
        self, where: Iterable[ColumnElement[bool]], order: Sequence[ColumnElement[Any]], limit: int, offset: int
    ) -> tuple[Sequence[Values], int]:
        """Return one page of the records that meet all conditions, and how many there are in all."""
        conditions = list(where)
        total = self._connection.execute(select(func.count()).select_from(self.table).where(*conditions)).scalar_one()
        rows = select(self.table).where(*conditions).order_by(*order).limit(limit).offset(offset)
        return [sound(row) for row in self._connection.execute(rows).mappings()], total


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


def batched(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield so many ids at a time as a statement takes."""
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


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
