"""The rough weight of a compiled credential in a cache, in bytes.

It is worked out once, when the credential is filed. A part that several credentials share, as the
tokens of a share do, counts once for all of them.
"""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING

from msgspec.structs import astuple

from faregate.values.grants import AnyResource
from faregate.values.networks import Networks

if TYPE_CHECKING:
    from faregate.decision.compiled import CompiledCredential
    from faregate.model import Owner
    from faregate.values.grants import Granted, Grants

RECORD = 700  # bytes: its fields, its digest, its places in two dictionaries
_GRANT = 250  # bytes of a name under its realm and kind
_TEXT = 110  # bytes of a text in a set, beside its characters
_BLOCK = 80  # bytes of a network's text
_RANGE = 110  # bytes of the first and the last address of a range


class Weights:
    """Sums the weight of all held credentials in ``total``, with shared parts counted once."""

    def __init__(self) -> None:
        self.total = 0
        self._holders: dict[int, int] = {}

    def add(self, compiled: CompiledCredential) -> None:
        """Count a credential that is held from now on."""
        self.total += _own_weight(compiled)

        # By identity: equal parts that are two objects take memory twice.
        for part in _parts(compiled):
            key = id(part)
            holders = self._holders.get(key, 0)
            self._holders[key] = holders + 1
            if not holders:
                self.total += _part_weight(part)

    def remove(self, compiled: CompiledCredential) -> None:
        """Stop counting a credential."""
        self.total -= _own_weight(compiled)

        for part in _parts(compiled):
            holders = self._holders.pop(id(part), 1) - 1
            if holders:
                self._holders[id(part)] = holders
            else:
                self.total -= _part_weight(part)

    def clear(self) -> None:
        """Stop counting all credentials."""
        self.total = 0
        self._holders.clear()


def record_weight(compiled: CompiledCredential) -> int:
    """Return the weight of a credential that shares no part, in bytes."""
    return _own_weight(compiled) + sum(map(_part_weight, _parts(compiled)))


def grants_weight(grants: Grants | None) -> int:
    """Return the weight of grants in bytes; a set of resources counts once."""
    if grants is None:
        return 0

    sets = {
        id(resources): resources
        for resources in grants.values()
        if not isinstance(resources, AnyResource)
    }
    texts = sum(_TEXT + getsizeof(text) for resources in sets.values() for text in resources)
    return texts + sum(_GRANT + getsizeof(key[2]) for key in grants)


def owner_weight(owner: Owner | None) -> int:
    """Return the weight of an owner's texts in bytes."""
    if owner is None:
        return 0

    texts: tuple[str | None, ...] = astuple(owner)
    return sum(map(getsizeof, filter(None, texts)))


def _own_weight(compiled: CompiledCredential) -> int:
    """Return the weight without the parts that other credentials may share."""
    texts: tuple[str | None, ...] = (
        compiled.id,
        compiled.alias,
        *astuple(compiled.org),
        *astuple(compiled.owner),
    )
    return RECORD + sum(map(getsizeof, filter(None, texts))) + owner_weight(compiled.shared_by)


def _parts(compiled: CompiledCredential) -> tuple[Networks | Granted, ...]:
    """Return the parts that other credentials may share."""
    if compiled.networks is None:
        return (compiled.granted,)
    return (compiled.granted, compiled.networks)


def _part_weight(part: Networks | Granted) -> int:
    if isinstance(part, Networks):
        return _RANGE * len(part.starts) + _BLOCK * len(part.texts or ())
    return grants_weight(part.grants)
