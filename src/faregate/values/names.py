"""Names, ids and other texts that people write and read.

The law: a text holds no control characters, line separators, half surrogates or characters that
turn the direction of text. They break logs and terminals, or make two names look alike. An id is
compared, not read by people: control characters and half surrogates alone are refused in it.
"""

from __future__ import annotations

import re

from faregate.errors import InvalidInput

MAX_ID = 512  # characters of an id: of subjects, owners, organizations, resources
MAX_NAME = 200  # characters of a name for people
_MAX_LISTED = 20  # names that a message lists

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def check_name(value: object, member: str, longest: int = MAX_NAME) -> str:
    """Return ``value`` if it is a name: 1 to ``longest`` characters that people can see.

    Raises InvalidInput, naming ``member``, for any other value.
    """
    if (
        not isinstance(value, str)
        or not value.strip()
        or len(value) > longest
        or _UNSEEN.search(value)
    ):
        raise InvalidInput(
            f"{member}: expected 1 to {longest} characters without control or direction characters"
        )
    return value


def check_text(value: object, member: str, longest: int) -> str:
    """Return ``value`` if it is a text of at most ``longest`` characters.

    Tabs and line feeds are allowed. Raises InvalidInput, naming ``member``, for any other value.
    """
    if (
        not isinstance(value, str)
        or len(value) > longest
        or _UNSEEN.search(re.sub(r"[\n\t]", "", value))
    ):
        raise InvalidInput(
            f"{member}: expected a text of at most {longest} characters without control or "
            "direction characters"
        )
    return value


def check_id(value: object, member: str) -> str:
    """Return ``value`` if it is an id: 1 to 512 characters without control characters.

    Permissions, resources and services have ids. Raises InvalidInput, naming ``member``, for any
    other value.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID or _CONTROL.search(value):
        raise InvalidInput(
            f"{member}: expected a text of 1 to {MAX_ID} characters without control characters"
        )
    return value


def json_name(name: str) -> str:
    """Return the JSON name of a Python name.

    >>> json_name("expires_at")
    'expiresAt'
    """
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))


def abbreviated(names: list[str]) -> str:
    """Return up to 20 names for a message, and the number of the others."""
    listed = ", ".join(names[:_MAX_LISTED])
    if len(names) > _MAX_LISTED:
        return f"{listed} and {len(names) - _MAX_LISTED} more"
    return listed
