"""JSON from outside (RFC 8259), read so that every text has one meaning.

The law: a text with two meanings is refused. Python's own reader takes other encodings, NaN, and
the last of several members of the same name. Another reader of the same text may take the first
member. The depth that Python's reader follows depends on its version and on its caller, so the
depth is bounded here.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, NoReturn, cast

MAX_DEPTH = 32  # objects and arrays within each other, the outermost counted

AMBIGUOUS = object()  # stands for an object with a repeated member

_REPEATED = "a member is repeated"
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def parse_object(data: bytes, *, partly: bool = False) -> dict[str, Any]:
    """Return the members of a JSON object in UTF-8.

    ``partly`` is for lists in which a bad item must not spoil the others. An inner object with a
    repeated member is then :data:`AMBIGUOUS`. Every number is a float, infinite if it is too large.

    Raises ValueError for any other text: another encoding or a byte order mark (RFC 8259 section
    8.1), a repeated member (section 4), NaN or a number that no float holds (section 6), and
    nesting deeper than :data:`MAX_DEPTH` (section 9).
    """
    decoder = _partial_decoder if partly else _decoder
    try:
        value = decoder.decode(data.decode())
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None

    if value is AMBIGUOUS:
        raise ValueError(_REPEATED)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  the text is wrong, not its type

    members = cast("dict[str, Any]", value)
    _check_depth(members, MAX_DEPTH)
    return members


def _check_depth(value: dict[str, Any] | list[Any], left: int) -> None:
    """Raise ValueError if ``value`` is nested deeper than ``left`` levels."""
    if left == 0:
        raise ValueError(_TOO_DEEP)

    items = value.values() if isinstance(value, dict) else value
    for item in items:
        if isinstance(item, (dict, list)):
            _check_depth(cast("dict[str, Any] | list[Any]", item), left - 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError(_REPEATED)
    return value


def _object_or_ambiguous(pairs: list[tuple[str, Any]]) -> object:
    value = dict(pairs)
    if len(value) != len(pairs):
        return AMBIGUOUS
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("a number is too large")
    return number


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite)

# An integer is a float here: Python reads no integer of more than 4,300 digits, and the ValueError
# would spoil the other items.
_partial_decoder = json.JSONDecoder(
    object_pairs_hook=_object_or_ambiguous,
    parse_constant=_refuse,
    parse_float=float,
    parse_int=float,
)
