"""What a record weighs in a cache, roughly: a handful of numbers, once, when it is filed.

What several records have in common, as the tokens of one share do, is weighed once for all of them.
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

RECORD = 700  # bytes: its members, its digest, its places in two dictionaries
_GRANT = 250  # bytes of a name under its realm and kind
_TEXT = 110  # bytes of a text in a set, beside its characters
_BLOCK = 80  # bytes of a network's text
_RANGE = 110  # bytes of the first and the last address of a range


class Weights:
    """The weight of all records that are held, those parts that they share counted once."""

    def __init__(self) -> None:
        self.total = 0
        self._holders: dict[int, int] = {}

    def add(self, record: CompiledCredential) -> None:
        """Count a record that is held from now on."""
        self.total += _own_weight(record)
        for part in _parts(record):
            key = id(part)
            holders = self._holders.get(key, 0)
            self._holders[key] = holders + 1
            if not holders:
                self.total += _part_weight(part)

    def remove(self, record: CompiledCredential) -> None:
        """Count a record no more."""
        self.total -= _own_weight(record)
        for part in _parts(record):
            holders = self._holders.pop(id(part), 1) - 1
            if holders:
                self._holders[id(part)] = holders
            else:
                self.total -= _part_weight(part)

    def clear(self) -> None:
        """Count none any more."""
        self.total = 0
        self._holders.clear()


def record_weight(record: CompiledCredential) -> int:
    """Return what one record weighs by itself."""
    return _own_weight(record) + sum(map(_part_weight, _parts(record)))


def grants_weight(grants: Grants | None) -> int:
    """Return what grants weigh; a set of resources that several of them have counts once."""
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
    """Return what the texts of an owner weigh."""
    if owner is None:
        return 0
    texts: tuple[str | None, ...] = astuple(owner)
    return sum(map(getsizeof, filter(None, texts)))


def _own_weight(record: CompiledCredential) -> int:
    """Return what a record weighs beside the parts that others may share."""
    texts: tuple[str | None, ...] = (
        record.id,
        record.alias,
        *astuple(record.org),
        *astuple(record.owner),
    )
    return RECORD + sum(map(getsizeof, filter(None, texts))) + owner_weight(record.shared_by)


def _parts(record: CompiledCredential) -> tuple[Networks | Granted, ...]:
    """Return the parts of a record that others may share."""
    return (record.granted,) if record.networks is None else (record.granted, record.networks)


def _part_weight(part: Networks | Granted) -> int:
    if isinstance(part, Networks):
        return _RANGE * len(part.starts) + _BLOCK * len(part.texts or ())
    return grants_weight(part.grants)
