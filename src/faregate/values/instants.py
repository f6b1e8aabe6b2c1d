"""Instants and time spans: the forms that callers write, and the form that is stored and judged.

The law: inside, an instant is a float of UTC seconds since 1970, exact to the microsecond. Outside,
it is an aware ``datetime`` (Python) or a text of RFC 3339 with an offset (JSON). An instant
lies between 1970 and the end of 2200.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import TypeGuard

import msgspec

from faregate.errors import InvalidInput

Instant = datetime | float | str

# Milliseconds that were written for seconds lie beyond.
END_OF_TIME = datetime(2201, 1, 1, tzinfo=UTC).timestamp()


def parse_instant(value: object, member: str) -> float:
    """Return the epoch seconds of an instant.

    ``value`` is an aware datetime, an RFC 3339 text or a number of epoch seconds.

    >>> parse_instant("2030-01-31T12:00:00+01:00", "expiresAt")
    1896087600.0

    Raises InvalidInput, naming ``member``, for any other value, for a text or datetime without an
    offset, and for an instant before 1970 or after 2200.
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

    if not _is_seconds(value):
        raise InvalidInput(
            f"{member}: expected an instant of RFC 3339 or a number of epoch seconds"
        )
    if value < 0:
        raise InvalidInput(f"{member}: lies before 1970; give a later instant")
    if value >= END_OF_TIME:
        raise InvalidInput(
            f"{member}: lies beyond the year 2200; give epoch seconds, not milliseconds"
        )
    return round(float(value), 6)


def parse_span(value: object, member: str) -> float:
    """Return the seconds of a time span.

    ``value`` is a timedelta or a number of seconds.

    Raises InvalidInput, naming ``member``, for any other value and for a negative span.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()

    if not _is_seconds(value):
        raise InvalidInput(
            f"{member}: expected a time span (seconds in JSON, a timedelta in Python)"
        )
    if value < 0:
        raise InvalidInput(f"{member}: must not be negative")
    return float(value)


def as_datetime(seconds: float | None) -> datetime | None:
    """Return the aware UTC datetime of epoch seconds, or None for None."""
    if seconds is None:
        return None

    # A value that was changed by hand in the database may be no instant at all.
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _is_seconds(value: object) -> TypeGuard[float]:
    """Return True for a number of seconds below 10¹⁸; a float might not hold a larger integer."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, float):
        return isfinite(value) and abs(value) < 1e18
    return abs(value) < 10**18
