"""Stored texts, read back into values. A text that was broken by hand opens nothing."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import NamedTuple

import msgspec

from faregate.decision.compiled import NOTHING
from faregate.model import ALLOWED_SCOPES, AllowedScopes
from faregate.values.grants import Granted, flat_list
from faregate.values.networks import NOWHERE, Networks
from faregate.values.scopes import compile_grants

_logger = logging.getLogger("faregate")

# Longer texts are not remembered, so that all of them together take a few megabytes.
_SHORT = 1024  # bytes
_TEXTS = msgspec.json.Decoder(tuple[str, ...])

# Errors of msgspec and InvalidInput are ValueErrors. So is the error for bytes that are no UTF-8.
_BROKEN = (ValueError, TypeError)


def stored_networks(texts: bytes | str, packed: object, record_id: str) -> Networks | None:
    """Return the networks of a stored list, or None if it is empty.

    A list that no longer parses admits no address.
    """
    try:
        blocks = _TEXTS.decode(texts)
        if not blocks:
            return None
        return Networks.load(blocks, packed if isinstance(packed, bytes) else b"")
    except _BROKEN:
        _logger.exception(
            "the stored networks of %s no longer parse; the record admits no address", record_id
        )
        return NOWHERE


def stored_texts(texts: bytes | str) -> tuple[str, ...]:
    """Return a stored list of texts; an empty list if it no longer parses."""
    try:
        return _TEXTS.decode(texts)
    except _BROKEN:
        return ()


class StoredScopes(NamedTuple):
    """Stored scopes: as they were given, ready to be judged, and as the flat list for people."""

    allowed: AllowedScopes
    granted: Granted
    shown: tuple[str, ...]


def stored_scopes(text: bytes | str, record_id: str) -> StoredScopes:
    """Return stored scopes. Scopes that no longer parse, or break the rules, grant nothing.

    Most tokens of a store share a few texts. Each of these is compiled once.
    """
    try:
        return _compiled(text) if len(text) <= _SHORT else _compiled.__wrapped__(text)
    except _BROKEN:
        _logger.exception(
            "the stored scopes of %s no longer parse; the record grants nothing", record_id
        )
        return StoredScopes(AllowedScopes(), NOTHING, ())


@lru_cache(maxsize=512)
def _compiled(text: bytes | str) -> StoredScopes:
    allowed = ALLOWED_SCOPES.decode(text)
    grants = compile_grants(allowed)
    return StoredScopes(allowed, Granted.of(grants), flat_list(grants))
