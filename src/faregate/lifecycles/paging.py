"""Pages of lists: the end of a page, and the opaque mark with which the next page begins.

A mark holds the sort key and the id of the last item, both of which the reader was shown. It is not
signed: filters and reach are judged anew for every page, so a forged mark chooses a place in the
caller's own list and nothing more.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from math import isfinite
from typing import TYPE_CHECKING, TypeVar

import msgspec

from faregate.errors import InvalidInput
from faregate.stores.queries import ID, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_PAGE = 1000  # items
MAX_BYTES = 4 * 1024 * 1024  # of the JSON of a page's items

# The sort keys that are no instants.
_TEXT_KEYS = frozenset({"name", "type", "owner.name", "org.name"})

_MARK = re.compile(r"[A-Za-z0-9_-]{1,4096}")
_NO_MARK = "after: expected the text from the link of a page to the next page"

_encoder = msgspec.json.Encoder()

Row = TypeVar("Row")
Item = TypeVar("Item")


def check_window(limit: object, offset: object, after: object = None) -> None:
    """Raise InvalidInput unless a page can begin at ``offset`` and hold ``limit`` items."""
    if not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"limit: 1 to {MAX_PAGE}")
    if not isinstance(offset, int) or not 0 <= offset < 2**63:
        raise InvalidInput("offset: 0 or more")
    if offset and after is not None:
        raise InvalidInput("offset, after: give one of them")


def fill(
    rows: Iterable[Row], show: Callable[[Row], Item], limit: int
) -> tuple[list[tuple[Row, Item]], bool]:
    """Return the rows of a page with their items, and whether more rows follow.

    A page ends at ``limit`` items, or before its JSON exceeds 4 MiB. It has an item if there is
    any. Rows after the end of the page are not read, but for the next row.
    """
    page: list[tuple[Row, Item]] = []
    size = 0
    encoded = bytearray()
    for row in rows:
        if len(page) == limit:
            return page, True

        item = show(row)
        _encoder.encode_into(item, encoded)
        size += len(encoded)
        if page and size > MAX_BYTES:
            return page, True
        page.append((row, item))
    return page, False


def mark(sort: str, place: Place) -> str:
    """Return the opaque text with which a list in the order ``sort`` continues after a place."""
    return urlsafe_b64encode(msgspec.json.encode((sort, *place))).rstrip(b"=").decode()


def read_mark(text: object, sort: str) -> Place:
    """Return the place of a text that :func:`mark` made.

    Raises InvalidInput for any other text, and for the mark of a list in another order.
    """
    if not isinstance(text, str) or not _MARK.fullmatch(text):
        raise InvalidInput(_NO_MARK)
    try:
        decoded = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        marked_sort, key, record_id = msgspec.json.decode(
            decoded, type=tuple[str, str | float | None, str]
        )
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise InvalidInput(_NO_MARK) from None

    if marked_sort != sort:
        raise InvalidInput("after: belongs to another sort; start anew, or keep the sort")
    if not _fits(key, sort) or not ID.fullmatch(record_id):
        raise InvalidInput(_NO_MARK)
    return Place(key, record_id)


def _fits(key: str | float | None, sort: str) -> bool:
    """Return True if the list in this order may have the sort key."""
    if key is None:
        return True
    if sort.removeprefix("-") in _TEXT_KEYS:
        return isinstance(key, str)
    return isinstance(key, float) and isfinite(key)
