"""Identifiers of records: UUIDv7 (RFC 9562 section 5.7), so that new rows lie beside each other."""

from __future__ import annotations

import re
import sys

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils import uuid7

_FORM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_id() -> str:
    """Return a new identifier of 36 characters. Later identifiers sort later."""
    return str(uuid7())


def is_id(text: str) -> bool:
    """Return True if ``text`` has the form of an identifier, of any version and in lower case.

    >>> is_id("01890a5d-ac96-774b-bcce-b302099a8057")
    True
    """
    return _FORM.fullmatch(text) is not None
