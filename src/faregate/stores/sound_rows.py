"""Rows as mappings, with numbers where numbers belong: the edge at which rows are judged.

Somebody may have changed a row by hand. A numeric column that holds anything else gets its most
restrictive value, so that a broken row opens nothing more. Stored texts are judged where they are
read back, in :mod:`faregate.fields.stored_values`.
"""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from types import NoneType
from typing import TYPE_CHECKING, Any

from faregate.values.instants import END_OF_TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Result

    from faregate.fields.field import Columns

# A column that is missing here becomes None: it restricts nothing.
_MOST_RESTRICTIVE = {
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
_NUMERIC = (*_MOST_RESTRICTIVE, "rotated_at", "last_used_at", "deactivated_updated_on")
_KINDS = frozenset((int, float, NoneType))


def first_of(result: Result[Any]) -> Columns | None:
    """Return the first row of a result, or None if there is none."""
    row = result.first()
    if row is None:
        return None
    return _reader_of(tuple(result.keys()))(row)


def all_of(result: Result[Any]) -> list[Columns]:
    """Return all rows of a result."""
    read = _reader_of(tuple(result.keys()))
    return [read(row) for row in result.all()]


@cache
def _reader_of(names: tuple[str, ...]) -> Callable[[Sequence[Any]], Columns]:
    """Return a function that turns the values of a row with these columns into a sound mapping."""
    sound = sound_values(names)

    def read(values: Sequence[Any]) -> Columns:
        return dict(zip(names, sound(values), strict=True))

    return read


@cache
def sound_values(names: tuple[str, ...]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a function that mends the values of a row with these columns, if any is broken."""
    numeric = [index for index, name in enumerate(names) if name in _NUMERIC]
    # Several look-ups return a tuple, so a single column is looked up twice.
    numbers = itemgetter(*numeric, numeric[0])

    def sound(values: Sequence[Any]) -> Sequence[Any]:
        if _KINDS.issuperset(map(type, numbers(values))):
            return values

        mended = list(values)
        for index in numeric:
            if type(mended[index]) not in _KINDS:
                mended[index] = _MOST_RESTRICTIVE.get(names[index])
        return mended

    return sound
