"""JSON of strangers (RFC 8259), read so that there is one way to understand it.

Python's own reader takes other encodings, NaN, and the last of several members of one name; two readers of such a
text may see two different things, so here it is no text at all. How deep it follows hangs on its version and on who
calls it, so there is a bound.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, NoReturn, cast

MAX_DEPTH = 32  # objects and arrays within each other, the outermost counted
_TWICE = "a member comes twice"
_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"


AMBIGUOUS = object()  # in the place of an object that can be understood in several ways


def parse_object(data: bytes, *, partly: bool = False) -> dict[str, Any]:
    """Return the members of a JSON object in UTF-8.

    ``partly`` is for lists in which one bad item must not spoil the others. An object inside with a member that comes
    twice is then :data:`AMBIGUOUS`, and every number a float, infinite if it is too large.

    ValueError for anything else: another encoding or a byte order mark (RFC 8259 section 8.1), a member that comes
    twice (section 4), a number that is none or that no float holds (section 6), nesting deeper than
    :data:`MAX_DEPTH` (section 9).
    """
    try:
        value = (_partial_decoder if partly else _decoder).decode(data.decode())
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if value is AMBIGUOUS:
        raise ValueError(_TWICE)
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004  the text is wrong, not its type
    _check_depth(cast("dict[str, Any]", value), MAX_DEPTH)
    return cast("dict[str, Any]", value)


def _check_depth(value: dict[str, Any] | list[Any], left: int) -> None:
    if left == 0:
        raise ValueError(_TOO_DEEP)
    for one in value.values() if isinstance(value, dict) else value:
        if isinstance(one, (dict, list)):
            _check_depth(cast("dict[str, Any] | list[Any]", one), left - 1)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError(_TWICE)
    return members


def _members_or_not(pairs: list[tuple[str, Any]]) -> object:
    members = dict(pairs)
    return members if len(members) == len(pairs) else AMBIGUOUS


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("a number that is too large")
    return number


_decoder = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_refuse, parse_float=_finite)
_partial_decoder = json.JSONDecoder(
    object_pairs_hook=_members_or_not, parse_constant=_refuse, parse_float=float, parse_int=float
)
