"""JSON objects of the application's own: ``attributes`` of a share, ``metadata`` of a token.

A change is merged into the stored object, as RFC 7396 says: null removes a member. An object that
was read may be sent back as it is, its nulls included, and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from faregate.errors import InvalidInput
from faregate.values.strict_json import MAX_DEPTH


def read_json_object(
    value: object, name: str, row: Mapping[str, Any] | None, column: str, max_bytes: int
) -> str | None:
    """Return the text to store for a given object, merged into the ``column`` of a stored ``row``.

    Raises InvalidInput for a value without a form in JSON, for more than ``max_bytes`` of UTF-8,
    and for an object that is nested too deep. None removes the whole object.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidInput(f"{name}: expected an object")
    given = cast("dict[str, Any]", value)
    _check_json(given, name, MAX_DEPTH)

    try:
        text = _encode(given)
        before = None if row is None else load_json_object(row[column])
        if row is not None and _encode(before) != text:
            text = _encode(_merge(before, given))
        size = len(text.encode())
    except ValueError:
        raise InvalidInput(
            f"{name}: not JSON; infinite numbers and half surrogates have no form in it"
        ) from None
    if size > max_bytes:
        raise InvalidInput(f"{name}: at most {max_bytes} bytes of JSON")
    return text


def load_json_object(text: Any) -> dict[str, Any] | None:
    """Return the object of a stored text. A text that was broken by hand counts as none."""
    try:
        return msgspec.json.decode(text or "null", type=dict[str, Any] | None)
    # Bytes that are no UTF-8 are a ValueError, as errors of msgspec are.
    except (ValueError, RecursionError, TypeError):
        return None


def _encode(value: object) -> str:
    return json.dumps(
        value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True
    )


def _check_json(value: object, name: str, depth: int) -> None:
    """Raise InvalidInput for a value without a form in JSON, and for too deep nesting."""
    if depth == 0:
        raise InvalidInput(f"{name}: nested more than {MAX_DEPTH} deep")
    match value:
        case dict():
            items = cast("dict[object, object]", value)
            if not all(isinstance(key, str) for key in items):
                raise InvalidInput(f"{name}: the names of members are texts")
            for item in items.values():
                _check_json(item, name, depth - 1)
        case list() | tuple():
            for item in cast("Sequence[object]", value):
                _check_json(item, name, depth - 1)
        case str() | int() | float() | None:
            pass
        case _:
            raise InvalidInput(f"{name}: JSON has no form for {type(value).__name__}")


def _merge(target: Any, patch: Any) -> Any:
    """Return ``target`` with ``patch`` merged into it (RFC 7396 section 2)."""
    if not isinstance(patch, Mapping):
        return patch

    merged: dict[str, Any] = {}
    if isinstance(target, Mapping):
        merged.update(cast("Mapping[str, Any]", target))
    for name, value in cast("Mapping[str, Any]", patch).items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged
