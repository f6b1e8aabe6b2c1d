"""What the rows of tokens and of shares have in common: who reaches them, and that they are sound."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, true

from faregate.instants import END_OF_TIME

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, RowMapping, Table

    from faregate.stores.reach import Reach

Values = dict[str, Any]

ID = re.compile(r"[\x21-\x7e]{1,64}")  # what an identifier could be; anything else is found nowhere

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
}
_NUMBERS = (*_WORST, "rotated_at", "last_used_at", "deactivated_updated_on")


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
        same_idp = columns.owner_idp_id.is_not_distinct_from(reach.owner_idp_id)
        others = and_(columns.owner_id == reach.owner_id, same_idp)
    return or_(columns.id == reach.id, and_(columns.org_id.is_not_distinct_from(reach.org_id), others))


def sound(row: RowMapping) -> Values:
    """Return a row's columns, with numbers where numbers belong: what was broken by hand opens nothing more."""
    values: Values = {str(column): value for column, value in row.items()}
    for column in _NUMBERS:
        if not isinstance(values.get(column), int | float | None):
            values[column] = _WORST.get(column)
    return values
