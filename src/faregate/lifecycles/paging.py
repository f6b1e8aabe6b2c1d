"""Pages of lists: where one ends, and the opaque text with which the next one begins.

The text holds the sort key and the id of the last item, both of which its reader was shown. Filters and reach are
judged anew with every page, so whoever writes one by hand chooses a place in their own list and nothing more.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from faregate.errors import InvalidInput
from faregate.stores.queries import ID, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_BYTES = 4 * 1024 * 1024  # of the JSON of a page's items
_TEXTS = frozenset({"name", "type", "owner.name", "org.name"})  # the sort keys that are no instants
_encoder = msgspec.json.Encoder()
_NONE = "after: expected the text from the link of a page to the next one"
_FORM = re.compile(r"[A-Za-z0-9_-]{1,4096}")

Row = TypeVar("Row")
Item = TypeVar("Item")


def fill(
    rows: Iterable[Row], show: Callable[[Row], Item], limit: int
) -> tuple[list[tuple[Row, Item]], bool]:
    """Return the first rows with what is shown of them, and whether there are more.

    A page ends at ``limit`` items, or before it would weigh more than 4 MiB, but has one item if there is any. What
    comes after its end is not read.
    """
    page: list[tuple[Row, Item]] = []
    weight, written = 0, bytearray()
    for row in rows:
        if len(page) == limit:
            return page, True
        item = show(row)
        _encoder.encode_into(item, written)
        weight += len(written)
        if page and weight > MAX_BYTES:
            return page, True
        page.append((row, item))
    return page, False


def mark(sort: str, place: Place) -> str:
    """Return the text with which a list, ordered by ``sort``, continues after a place."""
    return urlsafe_b64encode(msgspec.json.encode((sort, *place))).rstrip(b"=").decode()


def read_mark(text: object, sort: str) -> Place:
    """Return the place that :func:`mark` was given; InvalidInput for any other text, and for another order."""
    if not isinstance(text, str) or not _FORM.fullmatch(text):
        raise InvalidInput(_NONE)
    try:
        held = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        marked, value, record_id = msgspec.json.decode(
            held, type=tuple[str, str | float | None, str]
        )
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise InvalidInput(_NONE) from None
    if marked != sort:
        raise InvalidInput("after: is of a list in another order; begin anew, or keep the sort")
    wanted: Any = str if sort.removeprefix("-") in _TEXTS else float
    sound = isinstance(value, wanted | None) and not (
        isinstance(value, float) and not isfinite(value)
    )
    if not sound or not ID.fullmatch(record_id):
        raise InvalidInput(_NONE)
    return Place(value, record_id)
