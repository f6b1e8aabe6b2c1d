"""The statements about revoked JWTs, inside a transaction of :mod:`faregate.stores.store`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from faregate.stores.schema import jwt_revocations as revocations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


class RevocationRows:
    """The revocations of JWTs, as one transaction sees and changes them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def revoked(self, keys: Sequence[str], issued_at: float | None) -> bool:
        """Tell whether a JWT was revoked by one of its keys; one that has no date was issued ages ago."""
        meant = revocations.c.issued_until.is_(None) | (
            revocations.c.issued_until >= (issued_at or 0.0)
        )
        found = select(revocations.c.key).where(revocations.c.key.in_(keys), meant).limit(1)
        return self._connection.execute(found).first() is not None

    def add(self, key: str, issued_until: float | None, kept_until: float | None) -> None:
        """Keep a revocation. Of two under one key the wider bounds count; None is without bound."""
        columns = revocations.c
        known = (
            self._connection.execute(select(revocations).where(columns.key == key))
            .mappings()
            .first()
        )
        if known is None:
            values = {"key": key, "issued_until": issued_until, "kept_until": kept_until}
            self._connection.execute(insert(revocations), values)
            return
        wider = {
            "issued_until": _later(known["issued_until"], issued_until),
            "kept_until": _later(known["kept_until"], kept_until),
        }
        self._connection.execute(update(revocations).where(columns.key == key).values(wider))

    def delete_kept_until(self, now: float, most: int) -> int:
        """Remove revocations that need be kept no longer, so many at most; return how many there were."""
        over = select(revocations.c.key).where(revocations.c.kept_until <= now).limit(most)
        return self._connection.execute(
            delete(revocations).where(revocations.c.key.in_(over))
        ).rowcount


def _later(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)
