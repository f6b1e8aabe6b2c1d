"""``faregate audit``: shows and follows the changes of tokens and shares."""

from __future__ import annotations

import re
import select
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click
import msgspec

from faregate.cli.output import table
from faregate.cli.parameters import json_option
from faregate.cli.source import pass_source
from faregate.management import payloads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from faregate.cli.source import Source
    from faregate.gate import Gate
    from faregate.model import AuditEntry, AuditPage

POLL = 0.25  # seconds between two reads of --follow

_HEAD = ("SEQUENCE", "AT", "ACTOR", "ACTION", "SUBJECT", "ORG", "DETAILS")

# Minimal widths: entries that follow later stand under the head.
_WIDTHS = (8, 20, 12, 16, 36, 6, 0)


@click.command()
@click.option(
    "--since",
    metavar="WHEN",
    help="Entries after this sequence, or from this instant on. Default: the newest entries.",
)
@click.option("--subject", metavar="ID", help="Only changes of this token or share.")
@click.option("--limit", default=100, show_default=True, help="Number of entries, 1 to 1000.")
@click.option("--follow", "-f", is_flag=True, help="Print new entries as they come, until Ctrl-C.")
@json_option
@pass_source
def audit(
    source: Source,
    since: str | None,
    subject: str | None,
    limit: int,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    """Show the newest changes, or the changes since WHEN.

    Entries are in the order of the changes. WHEN is the SEQUENCE of an entry, or an instant such as
    2030-01-31T12:00:00Z. The audit holds every change of a token or share by Python, HTTP and the
    command line, until 'db purge' removes it. Denied requests are not in the audit; the logger
    'faregate' has them. With --follow, --json prints an entry on each line.
    """
    start: str | int | None = since
    if since is not None and re.fullmatch("[0-9]{1,18}", since):
        start = int(since)

    with source.gate() as gate:
        page = gate.audit(start, subject=subject, limit=limit)
        if not follow:
            _print_page(page, as_json=as_json)
            return

        pages = _following(gate, page, start or 0, subject, limit)
        with suppress(KeyboardInterrupt):
            _print_pages(pages, as_json=as_json)


def _following(
    gate: Gate, page: AuditPage, start: int | str | datetime, subject: str | None, limit: int
) -> Iterator[AuditPage]:
    """Yield ``page``, and then the entries after it, page by page.

    A page is empty while there are no new entries.
    """
    last: AuditEntry | None = None
    while True:
        yield page
        if page.items:
            last = page.items[-1]

        if last is None:
            page = gate.audit(start, subject=subject, limit=limit)
            continue

        # The last entry is read again: if another entry is in its place, so is another store.
        page = gate.audit(last.sequence - 1, subject=subject, limit=max(limit, 2))
        if page.items[:1] == (last,):
            page = msgspec.structs.replace(page, items=page.items[1:])
        elif not _is_purged(gate, last):
            click.echo("The store was replaced; the changes of the new store follow.", err=True)
            start = last.at
            last = None
            page = gate.audit(start, subject=subject, limit=limit)


def _is_purged(gate: Gate, entry: AuditEntry) -> bool:
    """Return True if the oldest entry left is newer than ``entry``."""
    oldest = gate.audit(0, limit=1).items
    return bool(oldest) and oldest[0].sequence > entry.sequence


def _print_pages(pages: Iterable[AuditPage], *, as_json: bool) -> None:
    """Print entries as they come, until standard output has no reader any more."""
    if not as_json:
        table([_HEAD], least=_WIDTHS)

    for page in pages:
        for entry in page.items:
            _print_entry(entry, as_json=as_json)
        if not page.more and _reader_gone():
            return


def _reader_gone() -> bool:
    """Wait a moment; return True if nothing reads standard output any more.

    So ``faregate audit -f | grep -m 1 …`` ends even if no entry follows.
    """
    poller = select.poll()
    try:
        poller.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):
        # Standard output is not a file of the system, so it cannot be polled.
        time.sleep(POLL)
        return False
    return bool(poller.poll(POLL * 1000))


def _print_page(page: AuditPage, *, as_json: bool) -> None:
    if as_json:
        click.echo(payloads.show(page))
        return

    table([_HEAD, *map(_cells, page.items)])
    if page.more:
        last = page.items[-1].sequence
        click.echo(f"There are more; see --limit, or --since {last}.", err=True)


def _print_entry(entry: AuditEntry, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(entry))
    else:
        table([_cells(entry)], least=_WIDTHS)


def _cells(entry: AuditEntry) -> Sequence[str]:
    return (
        str(entry.sequence),
        f"{entry.at:%Y-%m-%dT%H:%M:%SZ}",
        _actor(entry),
        entry.action,
        entry.subject,
        entry.org_id or "-",
        msgspec.json.encode(entry.details).decode(),
    )


def _actor(entry: AuditEntry) -> str:
    """Return the actor's name with kind and id, since names are not unique."""
    name = entry.actor or "-"
    kind = entry.actor_kind
    if kind is None or name in (kind, f"{kind}:{entry.actor_id}"):
        return name

    identity = " ".join(filter(None, (kind, entry.actor_id)))
    return f"{name} ({identity})"
