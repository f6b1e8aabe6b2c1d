"""``faregate audit``: who changed what."""

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
    from collections.abc import Sequence
    from datetime import datetime

    from faregate.cli.source import Source
    from faregate.gate import Gate
    from faregate.model import AuditEntry, AuditPage

POLL = 0.25  # seconds between two looks of --follow
_HEAD = ("SEQUENCE", "AT", "ACTOR", "ACTION", "SUBJECT", "ORG", "DETAILS")
_WIDTHS = (8, 20, 12, 16, 36, 6, 0)  # at least, so that what follows later stands under it


@click.command()
@click.option(
    "--since",
    metavar="WHEN",
    help="After this sequence, or from this instant on. Default: the newest.",
)
@click.option("--subject", metavar="ID", help="Only what was done to this token or share.")
@click.option("--limit", default=100, show_default=True, help="At most so many, 1 to 1000.")
@click.option("--follow", "-f", is_flag=True, help="Go on, and print what comes, until Ctrl-C.")
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
    """Show who changed what: the newest changes, or those since.

    They come in the order in which they were made. WHEN is the SEQUENCE of an entry, or an instant such as
    2030-01-31T12:00:00Z. Every change of a token or share is here, from Python, HTTP and the command line, until 'db
    purge' removes it. Denied requests are not: they are records of the logger 'faregate'. With --follow, --json prints
    one entry a line.
    """
    start = int(since) if since is not None and re.fullmatch("[0-9]{1,18}", since) else since
    with source.gate() as gate:
        page = gate.audit(start, subject=subject, limit=limit)
        if not follow:
            _show(page, as_json=as_json)
            return
        with suppress(KeyboardInterrupt):
            if not as_json:
                table([_HEAD], least=_WIDTHS)
            _follow(gate, page, start or 0, subject, limit, as_json=as_json)


def _follow(
    gate: Gate,
    page: AuditPage,
    start: int | str | datetime,
    subject: str | None,
    limit: int,
    *,
    as_json: bool,
) -> None:
    """Print the entries of a page, and then whatever comes."""
    last: AuditEntry | None = None
    while True:
        for last in page.items:
            _line(last, as_json=as_json)
        if not page.more and _reader_gone():
            return
        if last is None:
            page = gate.audit(start, subject=subject, limit=limit)
            continue
        # The entry that was printed last is read again: if another one is there, so is another store.
        page = gate.audit(last.sequence - 1, subject=subject, limit=max(limit, 2))
        if page.items[:1] == (last,):
            page = msgspec.structs.replace(page, items=page.items[1:])
            continue
        oldest = gate.audit(0, limit=1).items
        if not oldest or oldest[0].sequence <= last.sequence:  # and it was not purged
            click.echo(
                "The store was replaced by another one; what follows was done to that since.",
                err=True,
            )
            start, last = last.at, None
            page = gate.audit(start, subject=subject, limit=limit)


def _reader_gone() -> bool:
    """Wait a little; tell whether nobody reads standard output any more, as behind ``| grep -m 1``."""
    poller = select.poll()
    try:
        poller.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # it is no file of the system
        time.sleep(POLL)
        return False
    return bool(poller.poll(POLL * 1000))


def _show(page: AuditPage, *, as_json: bool) -> None:
    if as_json:
        click.echo(payloads.show(page))
        return
    table([_HEAD, *map(_cells, page.items)])
    if page.more:
        click.echo(f"There are more; see --limit, or --since {page.items[-1].sequence}.", err=True)


def _line(entry: AuditEntry, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(entry))
    else:
        table([_cells(entry)], least=_WIDTHS)


def _cells(entry: AuditEntry) -> Sequence[str]:
    details = msgspec.json.encode(entry.details).decode()
    at = f"{entry.at:%Y-%m-%dT%H:%M:%SZ}"
    return (
        str(entry.sequence),
        at,
        _actor(entry),
        entry.action,
        entry.subject,
        entry.org_id or "-",
        details,
    )


def _actor(entry: AuditEntry) -> str:
    """Return the name of an actor, and who that was: alike names tell nobody apart."""
    name = entry.actor or "-"
    if entry.actor_kind is None or name in (
        entry.actor_kind,
        f"{entry.actor_kind}:{entry.actor_id}",
    ):
        return name
    return f"{name} ({' '.join(filter(None, (entry.actor_kind, entry.actor_id)))})"
