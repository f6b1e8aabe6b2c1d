"""Reading the change feed: every management change in the order of the commits, and who made it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from faregate.errors import InvalidInput
from faregate.lifecycles.paging import fill
from faregate.lifecycles.token_fields import check_window
from faregate.model import AuditEntry, AuditPage
from faregate.stores.queries import FeedQuery
from faregate.values.instants import as_datetime, parse_instant
from faregate.values.names import check_id

if TYPE_CHECKING:
    from faregate.lifecycles.authority import By
    from faregate.lifecycles.token_fields import Values
    from faregate.lifecycles.transactions import Transactions

_NOBODY_KNOWS = datetime.fromtimestamp(0, UTC)  # an instant that was broken by hand


class Audit:
    """Shows the entries of one store's change feed."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def list(
        self, since: int | datetime | str | None, subject: str | None, limit: int, by: By
    ) -> AuditPage:
        """Return entries in their order, as :meth:`faregate.Gate.audit` says."""
        check_window(limit, 0)
        if subject is not None:
            check_id(subject, "subject")
        after, instant = _start(since)
        with self._transactions.reading(by, self._transactions.now()) as (reading, actor):
            actor.permit("audit.list")
            orgs = None if actor.root or actor.compiled is None else (actor.compiled.org.id,)
            query = FeedQuery(after, instant, subject, limit)
            page, more = fill(reading.feed.list(query, orgs), _entry, limit)
        entries = [entry for _, entry in page]
        if query.newest:  # which were read from the end, and older ones are no next page
            return AuditPage(tuple(reversed(entries)), limit, more=False)
        return AuditPage(tuple(entries), limit, more)


def _start(since: object) -> tuple[int | None, float | None]:
    """Return the sequence after which, or the instant from which on, entries are wanted."""
    if since is None:
        return None, None
    if isinstance(since, datetime | str):
        return None, parse_instant(since, "since")
    if isinstance(since, bool) or not isinstance(since, int) or not 0 <= since < 2**63:
        raise InvalidInput("since: the sequence of an entry, or an instant of RFC 3339")
    return since, None


def _entry(row: Values) -> AuditEntry:
    return AuditEntry(
        sequence=row["sequence"],
        at=as_datetime(row["at"]) or _NOBODY_KNOWS,
        actor=row["actor"],
        action=row["action"],
        subject=row["subject"],
        org_id=row["org_id"],
        details=row["details"],
        actor_kind=row["actor_kind"],
        actor_id=row["actor_id"],
    )
