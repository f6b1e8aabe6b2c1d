"""``faregate db``: upgrades, describes and purges the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from faregate.cli.output import echo, moment, table
from faregate.cli.parameters import by_option, json_option, span
from faregate.cli.source import Failure, exit_on_error, pass_source
from faregate.errors import InvalidInput
from faregate.gate import KEEP
from faregate.management import payloads

if TYPE_CHECKING:
    from datetime import timedelta

    from faregate.cli.source import Source
    from faregate.lifecycles.authority import CommandLine
    from faregate.stores.sqlite.status import Status


@click.group()
def db() -> None:
    """Maintain the store and its tables."""


@db.command()
@json_option
@pass_source
def upgrade(source: Source, *, as_json: bool) -> None:
    """Upgrade the tables to the version that this faregate needs.

    Make a backup first, and stop the application: an older faregate does not open newer tables. The
    upgrade is a single transaction: if it fails, nothing was changed.
    """
    # Alembic and SQLAlchemy are loaded only to migrate.
    from faregate.stores.migrations import upgrade as migrate  # noqa: PLC0415
    from faregate.stores.sqlite.status import read_status  # noqa: PLC0415

    with exit_on_error():
        url = source.existing_url()
        before = read_status(url)

        try:
            migrate(url)
        except InvalidInput as error:
            raise Failure(str(error), 1) from error

        after = read_status(url)

    if as_json:
        click.echo(msgspec.json.encode({"from": before.version, "to": after.version}))
    elif before.version == after.version:
        echo(f"The tables are up to date: version {after.version}.")
    else:
        former = before.version or "none"
        echo(f"The tables are up to date: version {after.version}, before {former}.")


@db.command()
@json_option
@pass_source
@click.pass_context
def status(context: click.Context, source: Source, *, as_json: bool) -> None:
    """Show the version of the tables and the number of their records.

    Exit code 0: this faregate can use the tables; 1: they need 'db upgrade', or a newer faregate.
    """
    # SQLAlchemy is loaded only by commands that open a store.
    from faregate.stores.sqlite.status import read_status  # noqa: PLC0415

    with exit_on_error():
        url = source.existing_url()
        store_status = read_status(url)

    if as_json:
        click.echo(msgspec.json.encode(store_status))
    else:
        _print_status(url, store_status)

    if not store_status.current:
        context.exit(1)


def _print_status(url: str, status: Status) -> None:
    tables = status.version or "none"
    if not status.current:
        tables += f"; this faregate needs {status.needed}"

    since = moment(status.oldest, "ever")
    audit = f"{status.entries:,} since {since}; the newest is {status.sequence:,}"

    rows = [
        ("store", url),
        ("size", f"{status.bytes:,} bytes"),
        ("tables", tables),
        ("tokens", f"{status.tokens:,}"),
        ("shares", f"{status.shares:,}"),
        ("audit", audit),
    ]
    table(rows)


@db.command()
@click.option(
    "--keep",
    type=span,
    default=f"{KEEP.days}d",
    show_default=True,
    metavar="SPAN",
    help="Age up to which entries of the audit are kept.",
)
@by_option
@json_option
@pass_source
def purge(source: Source, keep: timedelta, *, by: CommandLine, as_json: bool) -> None:
    """Remove data that is no longer needed.

    Removed are entries of the audit older than --keep (the newest entry always stays), rotated
    secrets past their grace, dead access credentials, traces of deleted tokens without
    descendants, and revocations of JWTs past their end.

    Tokens and shares stay, expired ones too. The application may be running.
    """
    with source.gate() as gate:
        purged = gate.purge(keep, by=by)

    if as_json:
        click.echo(payloads.show(purged))
        return

    echo(
        f"Removed {purged.entries:,} entries of the audit, "
        f"{purged.secrets:,} secrets past their grace, "
        f"{purged.access:,} dead access credentials, "
        f"{purged.makers:,} traces of deleted tokens, "
        f"{purged.revocations:,} revocations of JWTs."
    )
