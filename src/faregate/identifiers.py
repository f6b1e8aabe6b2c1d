"""Identifiers of records: UUIDv7 (RFC 9562 section 5.7), so that new rows lie beside each other."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils import uuid7


def new_id() -> str:
    """Return a new identifier, 36 characters, later ones sorting later."""
    return str(uuid7())
