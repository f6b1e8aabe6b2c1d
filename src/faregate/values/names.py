"""Texts that people write and read: which characters they may hold.

Control characters, line separators, half surrogates and what turns the direction of text are refused: they
break logs and terminals, or make one name look like another.
"""

from __future__ import annotations

import re

from faregate.errors import InvalidInput

MAX_ID = 512  # characters of whatever names somebody or something: subjects, owners, organizations, resources
MAX_NAME = 200  # characters of what people call it

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def check_name(value: object, member: str, longest: int = MAX_NAME) -> str:
    """Return ``value`` if it is a name: 1 to ``longest`` characters that people can see."""
    if (
        not isinstance(value, str)
        or not value.strip()
        or len(value) > longest
        or _UNSEEN.search(value)
    ):
        raise InvalidInput(
            f"{member}: 1 to {longest} characters, none of them a control or direction character"
        )
    return value


def check_text(value: object, member: str, longest: int) -> str:
    """Return ``value`` if it is a text of several lines and at most ``longest`` characters."""
    if (
        not isinstance(value, str)
        or len(value) > longest
        or _UNSEEN.search(re.sub(r"[\n\t]", "", value))
    ):
        raise InvalidInput(
            f"{member}: a text of at most {longest} characters, no control or direction characters"
        )
    return value


def check_id(value: object, member: str) -> str:
    """Return ``value`` if it names a permission, a resource or a service: 1 to 512 characters, no control ones."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID or _CONTROL.search(value):
        raise InvalidInput(
            f"{member}: expected a text of 1 to {MAX_ID} characters without control characters"
        )
    return value


def json_name(name: str) -> str:
    """Return the name in JSON of what has this one in Python."""
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))


def abbreviated(names: list[str]) -> str:
    """Return the first names in words; nobody reads a thousand."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
