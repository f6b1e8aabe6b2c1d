"""Removes expired data: old entries of the feed, credentials past their grace, dead records.

The law of the feed: entries are removed oldest first, and the newest entry always stays. So the
feed has no gaps. A process whose last applied entry was removed finds it missing, and drops its
whole cache.
"""

from __future__ import annotations

from functools import partial
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

_BATCH = 2000  # rows a transaction, so that the write lock is held briefly


class Purge:
    """Purges a store."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def purge(self, keep: timedelta | float, by: ActorName) -> Purged:
        """Remove expired data and return how much; see :meth:`faregate.Gate.purge`.

        ``keep`` is the age up to which entries of the feed stay: a timedelta or seconds.
        """
        if isinstance(by, Principal):
            raise InvalidInput("by: expected a name; only the application purges its store")
        now = self._transactions.now()
        oldest = now - parse_span(keep, "keep")
        with self._transactions.reading(None, now) as (reading, _):
            first_kept = reading.feed.first_since(oldest)

        repeat = partial(self._repeat, by, now)

        # Exchanges are not counted: later exchanges delete them, too.
        repeat(lambda change: change.refresh.delete_past(now, _BATCH))

        # A JWT counts by its issuer's clock, and may live longer than its exp.
        jwts_until = now - MOST_LEEWAY
        purged = Purged(
            entries=repeat(lambda change: change.feed.delete_before(first_kept, _BATCH)),
            secrets=repeat(lambda change: change.tokens.delete_superseded(now, _BATCH)),
            revocations=repeat(
                lambda change: change.revocations.delete_kept_until(jwts_until, _BATCH)
            ),
            access=repeat(lambda change: change.refresh.delete_dead(now, _BATCH)),
            makers=repeat(lambda change: change.tokens.delete_childless(_BATCH)),
        )

        if purged != Purged():
            details = msgspec.structs.asdict(purged)
            with self._transactions.changing(by, now) as (change, actor):
                change.enter(actor.entry_about(now, PURGED, "store", None, details))
        return purged

    def _repeat(self, by: ActorName, now: float, removal: Callable[[Change], int]) -> int:
        """Repeat a removal until it removes nothing, and return how many rows it removed.

        Each repetition is a transaction of its own.
        """
        total = 0
        while True:
            with self._transactions.changing(by, now) as (change, _):
                removed = removal(change)
            if not removed:
                return total
            total += removed
