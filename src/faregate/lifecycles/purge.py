"""Removing what nobody needs any more: old entries of the feed, secrets past their grace, traces of what is gone.

The newest entry of the feed always stays, and the others go oldest first, so that what is kept has no gaps: a process
that has applied no more than what was removed finds its last entry missing and drops its whole cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from faregate.decision.principal import Principal
from faregate.errors import InvalidInput
from faregate.jwts.issuer import MOST_LEEWAY
from faregate.model import Purged
from faregate.stores.change_feed import PURGED
from faregate.values.instants import parse_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from faregate.lifecycles.authority import ActorName
    from faregate.lifecycles.transactions import Transactions
    from faregate.stores.store import Change

_AT_ONCE = 2000  # rows a transaction, so that the write lock is held briefly


class Purge:
    """Purges one store."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def purge(self, keep: timedelta | float, by: ActorName) -> Purged:
        """Remove what is dead, as :meth:`faregate.Gate.purge` says."""
        if isinstance(by, Principal):
            raise InvalidInput(
                "by: a name for the record; only the application itself purges its store"
            )
        now = self._transactions.now()
        oldest = now - parse_span(keep, "keep")
        with self._transactions.reading(None, now) as (reading, _):
            first = reading.feed.first_since(oldest)
        self._repeat(by, now, lambda change: change.refresh.delete_past(now, _AT_ONCE))
        purged = Purged(
            entries=self._repeat(
                by, now, lambda change: change.feed.delete_before(first, _AT_ONCE)
            ),
            secrets=self._repeat(
                by, now, lambda change: change.tokens.delete_superseded(now, _AT_ONCE)
            ),
            # By its issuer's clock a JWT may live a little longer than it says.
            revocations=self._repeat(
                by,
                now,
                lambda change: change.revocations.delete_kept_until(now - MOST_LEEWAY, _AT_ONCE),
            ),
            access=self._repeat(by, now, lambda change: change.refresh.delete_dead(now, _AT_ONCE)),
            makers=self._repeat(by, now, lambda change: change.tokens.delete_childless(_AT_ONCE)),
        )
        if purged != Purged():
            with self._transactions.changing(by, now) as (change, actor):
                change.enter(
                    actor.entry_about(now, PURGED, "store", None, msgspec.structs.asdict(purged))
                )
        return purged

    def _repeat(self, by: ActorName, now: float, step: Callable[[Change], int]) -> int:
        """Repeat a step, in a transaction of its own each time, until it removes nothing; return how much it did."""
        removed = 0
        while True:
            with self._transactions.changing(by, now) as (change, _):
                some = step(change)
            if not some:
                return removed
            removed += some
