"""Reads the change feed: every management change in the order of the commits, with its actor.

An admin sees the entries of their organization, root and the application see all of them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from faregate.errors import InvalidInput
from faregate.lifecycles.paging import check_window, fill
from faregate.model import AuditEntry, AuditPage
from faregate.stores.queries import FeedQuery
from faregate.values.instants import as_datetime, parse_instant
from faregate.values.names import check_id

if TYPE_CHECKING:
    from faregate.fields.field import Columns
    from faregate.lifecycles.authority import By
    from faregate.lifecycles.transactions import Transactions

# Shown for an instant that was broken by hand in the database.
_UNKNOWN_INSTANT = datetime.fromtimestamp(0, UTC)


class Audit:
    """Reads the change feed of a store."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def list(
        self, since: int | datetime | str | None, subject: str | None, limit: int, by: By
    ) -> AuditPage:
        """Return a page of entries, oldest first; see :meth:`faregate.Gate.audit`."""
        check_window(limit, 0)
        if subject is not None:
            check_id(subject, "subject")
        after, instant = _start(since)

        with self._transactions.reading(by, self._transactions.now()) as (reading, actor):
            actor.permit("audit.list")
            orgs = None
            if actor.compiled is not None and not actor.root:
                orgs = (actor.compiled.org.id,)
            query = FeedQuery(after, instant, subject, limit)
            page, more = fill(reading.feed.list(query, orgs), _entry, limit)

        entries = tuple(entry for _, entry in page)
        if query.newest:
            # The newest entries were read from the end; no next page leads to older entries.
            return AuditPage(entries[::-1], limit, more=False)
        return AuditPage(entries, limit, more)


def _start(since: object) -> tuple[int | None, float | None]:
    """Return the sequence after which a page starts, or the instant in epoch seconds.

    Raises InvalidInput for any other value.
    """
    if since is None:
        return None, None
    if isinstance(since, datetime | str):
        return None, parse_instant(since, "since")
    if isinstance(since, bool) or not isinstance(since, int) or not 0 <= since < 2**63:
        raise InvalidInput("since: the sequence of an entry, or an instant of RFC 3339")
    return since, None


def _entry(row: Columns) -> AuditEntry:
    return AuditEntry(
        sequence=row["sequence"],
        at=as_datetime(row["at"]) or _UNKNOWN_INSTANT,
        actor=row["actor"],
        action=row["action"],
        subject=row["subject"],
        org_id=row["org_id"],
        details=row["details"],
        actor_kind=row["actor_kind"],
        actor_id=row["actor_id"],
    )
