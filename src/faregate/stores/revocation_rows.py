"""The statements about revoked JWTs, in a transaction.

The key of a revocation is a digest of claims: of issuer and ``jti``, or of issuer and ``sub``. It
covers the JWTs with these claims that were issued until ``issued_until``. After ``kept_until`` all
of them have expired, and the revocation may be deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from faregate.stores.schema import jwt_revocations as revocations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


class RevocationRows:
    """Reads and writes the revocations of JWTs in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def revoked(self, keys: Sequence[str], issued_at: float | None) -> bool:
        """Return True if a revocation of one of the keys covers a JWT.

        ``issued_at`` is its ``iat`` in epoch seconds. A JWT without ``iat`` counts as old.
        """
        issued = issued_at or 0.0
        covers = revocations.c.issued_until.is_(None) | (revocations.c.issued_until >= issued)
        statement = select(revocations.c.key).where(revocations.c.key.in_(keys), covers).limit(1)
        return self._connection.execute(statement).first() is not None

    def add(self, key: str, issued_until: float | None, kept_until: float | None) -> None:
        """Insert a revocation, or widen the stored revocation of the same key.

        Both bounds are in epoch seconds; None is without bound. Of two bounds the later counts.
        """
        columns = revocations.c
        statement = select(revocations).where(columns.key == key)
        stored = self._connection.execute(statement).mappings().first()
        if stored is None:
            values = {"key": key, "issued_until": issued_until, "kept_until": kept_until}
            self._connection.execute(insert(revocations), values)
            return

        wider = {
            "issued_until": _later(stored["issued_until"], issued_until),
            "kept_until": _later(stored["kept_until"], kept_until),
        }
        self._connection.execute(update(revocations).where(columns.key == key).values(wider))

    def delete_kept_until(self, now: float, most: int) -> int:
        """Delete at most ``most`` revocations that cover only expired JWTs; return how many."""
        over = select(revocations.c.key).where(revocations.c.kept_until <= now).limit(most)
        statement = delete(revocations).where(revocations.c.key.in_(over))
        return self._connection.execute(statement).rowcount


def _later(first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return None
    return max(first, second)
