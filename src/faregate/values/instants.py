"""Instants: what callers may write, and the one form that is stored and judged.

Inside, an instant is a float: UTC seconds since 1970, exact to the microsecond. Outside it is an aware
``datetime`` (Python) or a text of RFC 3339 with an offset (JSON).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import TypeGuard

import msgspec

from faregate.errors import InvalidInput

Instant = datetime | float | str
END_OF_TIME = datetime(2201, 1, 1, tzinfo=UTC).timestamp()


def parse_instant(value: object, member: str) -> float:
    """Return the epoch seconds of an aware datetime, an RFC 3339 text or a number of epoch seconds.

    Raises InvalidInput, naming ``member``, for anything else, for texts and datetimes without an
    offset, and beyond the year 2200, where milliseconds were taken for seconds.
    """
    if isinstance(value, str):
        try:
            value = msgspec.convert(value, datetime)
        except (msgspec.ValidationError, UnicodeEncodeError):
            raise InvalidInput(
                f"{member}: not an instant of RFC 3339, such as 2030-01-31T12:00:00Z"
            ) from None
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidInput(
                f"{member}: has no offset from UTC; write 2030-01-31T12:00:00Z or +01:00"
            )
        value = value.timestamp()
    if not _is_number(value):
        raise InvalidInput(
            f"{member}: expected an instant of RFC 3339 or a number of epoch seconds"
        )
    if value < 0:
        raise InvalidInput(f"{member}: lies before 1970")
    if value >= END_OF_TIME:
        raise InvalidInput(
            f"{member}: lies beyond the year 2200; epoch seconds, not milliseconds, are expected"
        )
    return round(float(value), 6)


def parse_span(value: object, member: str) -> float:
    """Return the seconds of a timedelta or a number of seconds; InvalidInput if it is neither or negative."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not _is_number(value):
        raise InvalidInput(
            f"{member}: expected a time span (seconds in JSON, a timedelta in Python)"
        )
    if value < 0:
        raise InvalidInput(f"{member}: must not be negative")
    return float(value)


def as_datetime(seconds: float | None) -> datetime | None:
    """Return the aware UTC datetime of epoch seconds; None stays None."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):  # changed by hand in the database
        return None


def _is_number(value: object) -> TypeGuard[float]:
    """Tell whether this is a number of seconds; beyond 10¹⁸ it is none of ours, and no float may hold it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (
        isfinite(value) and abs(value) < 1e18 if isinstance(value, float) else abs(value) < 10**18
    )
