"""``faregate share``: the lifecycle of shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from faregate.cli.output import check_open, echo, members, moment, secret, table
from faregate.cli.parameters import (
    NOTHING,
    by_option,
    given,
    json_object,
    json_option,
    limit_options,
    networks,
    page_options,
    read_secret,
    time_options,
)
from faregate.cli.source import pass_source
from faregate.management import payloads

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from faregate.cli.parameters import Command
    from faregate.cli.source import Source
    from faregate.lifecycles.authority import CommandLine
    from faregate.model import Share
    from faregate.values.instants import Instant


def _count(text: str) -> int | object:
    if text == "none":
        return NOTHING
    if not text.isascii() or not text.isdigit():
        raise click.BadParameter(f"{text!r} is no number, nor 'none'")
    return int(text)


def _attributes(text: str) -> dict[str, Any] | object:
    return NOTHING if text == "none" else json_object(text)


def _opens(command: Command) -> Command:
    """Add the options for what a share opens, at creation and later."""
    command = click.option(
        "--attributes",
        type=_attributes,
        metavar="JSON",
        help="An object of the application's own; 'none': nothing.",
    )(command)
    command = click.option(
        "--max-redemptions",
        type=_count,
        metavar="N",
        help="Redeem only, so many times; 'none': without end.",
    )(command)
    return time_options(limit_options(command))


@click.group()
def share() -> None:
    """Create, show, change, redeem and revoke shares."""


@share.command()
@click.option(
    "--object",
    "objects",
    required=True,
    multiple=True,
    metavar="ID",
    help="What it opens; may be repeated.",
)
@_opens
@by_option
@json_option
@pass_source
def create(
    source: Source, /, objects: tuple[str, ...], *, by: CommandLine, as_json: bool, **options: Any
) -> None:
    """Create a share and print its secret, once.

    It takes --scope, and --expires-in or --expires-at. The secret alone goes to standard output. It is nobody's: who
    manages it over HTTP has to be root or an admin without an organization.
    """
    check_open()
    details = _changes(**options)
    with source.gate(create=True) as gate:
        issued = gate.shares.create(objects[0], objects[1:], by=by, **details)
    name = f"Share {issued.share.id}"
    told = f"{name} was created. Its secret is shown this once:"
    secret(payloads.show(issued) if as_json else issued.secret, "" if as_json else told, name)


@share.command("list")
@click.option("--object", "object_id", metavar="ID", help="Only those that open this object.")
@page_options
@json_option
@pass_source
def list_(source: Source, object_id: str | None, limit: int, offset: int, *, as_json: bool) -> None:
    """List shares, the newest first, dead or alive. Secrets are not kept and so never listed."""
    with source.gate() as gate:
        found = gate.shares.list(object_id, limit, offset)
    if as_json:
        click.echo(payloads.show(found))
        return
    columns: dict[str, Callable[[Share], str]] = {
        "ID": lambda one: one.id,
        "OBJECT": lambda one: one.object_id,
        "MORE": lambda one: str(len(one.object_ids) - 1),
        "EXPIRES": lambda one: moment(one.expires_at, "never"),
        "STATE": lambda one: one.state,
        "REDEEMED": lambda one: f"{one.redemptions} of {one.params.max_redemptions or 'any'}",
        "SCOPES": lambda one: " ".join(one.params.scopes),
    }
    table([list(columns), *([show(one) for show in columns.values()] for one in found.items)])
    if found.total > len(found.items):
        click.echo(f"{len(found.items)} of {found.total}; see --limit and --offset.", err=True)


@share.command()
@click.argument("share_id", metavar="ID")
@json_option
@pass_source
def show(source: Source, share_id: str, *, as_json: bool) -> None:
    """Show everything about a share but its secret, which is not kept."""
    with source.gate() as gate:
        _show(gate.shares.get(share_id), as_json=as_json)


@share.command()
@click.argument("share_id", metavar="ID")
@_opens
@by_option
@json_option
@pass_source
def update(
    source: Source, /, share_id: str, *, by: CommandLine, as_json: bool, **options: Any
) -> None:
    """Change what is given and keep the rest. Scopes and networks are replaced whole; the objects stay.

    An expired share can be extended, a revoked one cannot. What was redeemed from it follows at once.
    """
    details = _changes(**options)
    scopes = details.pop("scopes", None)
    if scopes is not None:
        details["params"] = {**details.get("params", {}), "scopes": scopes}
    if not details:
        raise click.UsageError("Nothing to change: give an option, such as --expires-in.")
    with source.gate() as gate:
        _show(gate.shares.update(share_id, by=by, **details), as_json=as_json)


@share.command()
@click.argument("share_id", metavar="ID")
@click.option(
    "--secret",
    "ask",
    is_flag=True,
    help="As its holder does: with the secret, read from standard input.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    help="The client's address, for a share that is bound to networks.",
)
@by_option
@json_option
@pass_source
def redeem(
    source: Source, share_id: str, address: str | None, *, ask: bool, by: CommandLine, as_json: bool
) -> None:
    """Redeem a share for a token, and print that, once.

    The token opens the objects for 15 minutes, and it counts as a redemption. The secret, if used, is read from
    standard input, or from a prompt that does not show it; it is no argument, since everybody on the machine can read
    those.
    """
    check_open()
    given_secret = read_secret("Secret of the share") if ask else None
    if ask and given_secret is None:
        raise click.UsageError("--secret: there was none on standard input.")
    with source.gate() as gate:
        redeemed = gate.shares.redeem(share_id, secret=given_secret, address=address, by=by)
    opens = f"Opens {', '.join(redeemed.object_ids)} until {moment(redeemed.expires_at, '-')}."
    told = f"{opens} The token is shown this once:"
    secret(
        payloads.show(redeemed) if as_json else redeemed.token, "" if as_json else told, "A token"
    )


@share.command()
@click.argument("share_id", metavar="ID")
@by_option
@json_option
@pass_source
def revoke(source: Source, share_id: str, *, by: CommandLine, as_json: bool) -> None:
    """Close a share for good, at once, with what was redeemed from it."""
    with source.gate() as gate:
        revoked = gate.shares.revoke(share_id, by=by)
    if as_json:
        click.echo(payloads.show(revoked))
    else:
        echo(f"Share {revoked.id} is revoked.")


def _changes(  # each an option of the command line
    scopes: tuple[str, ...],
    blocks: tuple[str, ...],
    expires_in: timedelta | None,
    expires_at: Instant | object | None,
    max_redemptions: int | object | None,
    attributes: dict[str, Any] | object | None,
    *,
    any_address: bool,
) -> dict[str, Any]:
    """Return the members of a share that the options give, by their names in Python."""
    params = given(maxRedemptions=max_redemptions, attributes=attributes)
    allowed = networks(blocks, any_address=any_address)
    if allowed is not None:
        params["allowedCidrBlocks"] = allowed
    return given(scopes=scopes, expires_in=expires_in, expires_at=expires_at, params=params or None)


def _show(one: Share, *, as_json: bool) -> None:
    if as_json:
        click.echo(payloads.show(one))
    else:
        members(one)
