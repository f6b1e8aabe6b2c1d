"""What is stored of a family of refresh credentials: values that :mod:`faregate.stores.store` reads and writes."""

from __future__ import annotations

from typing import Any, NamedTuple


class Exchange(NamedTuple):
    """An exchange that may be repeated: what was presented, what it was exchanged for, masked, and until when."""

    presented: bytes
    successor: bytes
    until: float

    @property
    def sound(self) -> bool:
        """Whether this is one; what was broken by hand in the database is none, and cannot be repeated."""
        kept: tuple[Any, ...] = self
        return (
            isinstance(kept[0], bytes)
            and isinstance(kept[1], bytes)
            and isinstance(kept[2], int | float)
        )


class Family(NamedTuple):
    """The columns of a family's record, the digest of its current credential, and its last exchange."""

    row: dict[str, Any]
    current: bytes | None
    exchange: Exchange | None
