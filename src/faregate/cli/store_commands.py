"""``faregate db``: the store's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from faregate.cli.output import echo, moment, table
from faregate.cli.parameters import by_option, json_option, span
from faregate.cli.source import Failure, explained, pass_source
from faregate.errors import InvalidInput
from faregate.gate import KEEP
from faregate.management import payloads

if TYPE_CHECKING:
    from datetime import timedelta

    from faregate.cli.source import Source
    from faregate.lifecycles.authority import CommandLine


@click.group()
def db() -> None:
    """Look after the store's tables."""


@db.command()
@json_option
@pass_source
def upgrade(source: Source, *, as_json: bool) -> None:
    """Bring the tables to the version that this faregate needs.

    Make a backup first, and stop the application: an older faregate does not open newer tables. It is one transaction:
    if it fails, nothing was changed.
    """
    # Alembic and SQLAlchemy are loaded only to migrate.
    from faregate.stores.migrations import upgrade as migrate  # noqa: PLC0415
    from faregate.stores.sqlite.status import read_status  # noqa: PLC0415

    with explained():
        url = source.existing()
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
        echo(
            f"The tables are up to date: version {after.version}, before {before.version or 'none'}."
        )


@db.command()
@json_option
@pass_source
@click.pass_context
def status(context: click.Context, source: Source, *, as_json: bool) -> None:
    """Show the version of the tables and what is in them.

    Exit code 0: this faregate can use them; 1: they need 'db upgrade', or a newer faregate.
    """
    from faregate.stores.sqlite.status import read_status  # noqa: PLC0415

    with explained():
        url = source.existing()
        found = read_status(url)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        version = found.version or "none"
        table(
            [
                ("store", url),
                ("size", f"{found.bytes:,} bytes"),
                (
                    "tables",
                    version if found.current else f"{version}; this faregate needs {found.needed}",
                ),
                ("tokens", f"{found.tokens:,}"),
                ("shares", f"{found.shares:,}"),
                (
                    "audit",
                    f"{found.entries:,} since {moment(found.oldest, 'ever')}; the newest is {found.sequence:,}",
                ),
            ]
        )
    context.exit(0 if found.current else 1)


@db.command()
@click.option(
    "--keep",
    type=span,
    default=f"{KEEP.days}d",
    show_default=True,
    metavar="SPAN",
    help="Of the audit.",
)
@by_option
@json_option
@pass_source
def purge(source: Source, keep: timedelta, *, by: CommandLine, as_json: bool) -> None:
    """Remove what nobody needs any more.

    Which is: entries of the audit older than --keep (the newest one always stays), secrets that were rotated and are
    past their grace, access credentials that are dead, the traces of deleted tokens of which nothing is left, and
    revocations of JWTs that are over.
    Tokens and shares stay, expired ones too, and it can be done while the application runs.
    """
    with source.gate() as gate:
        purged = gate.purge(keep, by=by)
    if as_json:
        click.echo(payloads.show(purged))
    else:
        echo(
            f"Removed {purged.entries:,} entries of the audit, {purged.secrets:,} secrets past their grace, "
            f"{purged.access:,} dead access credentials, {purged.makers:,} traces of deleted tokens, "
            f"{purged.revocations:,} revocations of JWTs."
        )
