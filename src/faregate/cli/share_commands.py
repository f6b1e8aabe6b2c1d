"""``faregate share``: creates, shows, changes, redeems and revokes shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from faregate.cli.output import (
    check_open,
    echo,
    moment,
    print_list,
    print_record,
    print_secret,
)
from faregate.cli.parameters import (
    CLEAR,
    by_option,
    given,
    json_object_or_none,
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
        return CLEAR

    if not text.isascii() or not text.isdigit():
        raise click.BadParameter(f"{text!r} is no number; expected a number or 'none'")
    return int(text)


def _share_options(command: Command) -> Command:
    """Add the options for the content of a share, at creation and later."""
    command = click.option(
        "--attributes",
        type=json_object_or_none,
        metavar="JSON",
        help="An object with data of the application; 'none' removes it.",
    )(command)
    command = click.option(
        "--max-redemptions",
        type=_count,
        metavar="N",
        help="The share can only be redeemed, at most N times; 'none' removes this.",
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
    help="An object that the share opens; may be repeated.",
)
@_share_options
@by_option
@json_option
@pass_source
def create(
    source: Source, /, objects: tuple[str, ...], *, by: CommandLine, as_json: bool, **options: Any
) -> None:
    """Create a share and print its secret, once.

    Required are --scope, and --expires-in or --expires-at. The secret alone goes to standard
    output. The share has no owner: over HTTP it is managed by root, or by an admin without an
    organization.
    """
    check_open()
    changes = _changes(**options)

    with source.gate(create=True) as gate:
        issued = gate.shares.create(objects[0], objects[1:], by=by, **changes)

    name = f"Share {issued.share.id}"
    if as_json:
        print_secret(payloads.show(issued), "", name)
    else:
        print_secret(issued.secret, f"{name} was created. Its secret is shown this once:", name)


@share.command("list")
@click.option("--object", "object_id", metavar="ID", help="Only shares that open this object.")
@page_options
@json_option
@pass_source
def list_(source: Source, object_id: str | None, limit: int, offset: int, *, as_json: bool) -> None:
    """List shares, the newest first.

    Expired and revoked shares are included. Secrets are not stored, and so never listed.
    """
    with source.gate() as gate:
        page = gate.shares.list(object_id, limit, offset)

    if as_json:
        click.echo(payloads.show(page))
        return

    columns: dict[str, Callable[[Share], str]] = {
        "ID": lambda share: share.id,
        "OBJECT": lambda share: share.object_id,
        "MORE": lambda share: str(len(share.object_ids) - 1),
        "EXPIRES": lambda share: moment(share.expires_at, "never"),
        "STATE": lambda share: share.state,
        "REDEEMED": lambda share: f"{share.redemptions} of {share.params.max_redemptions or 'any'}",
        "SCOPES": lambda share: " ".join(share.params.scopes),
    }
    print_list(columns, page.items, page.total)


@share.command()
@click.argument("share_id", metavar="ID")
@json_option
@pass_source
def show(source: Source, share_id: str, *, as_json: bool) -> None:
    """Show a share without its secret, which is not stored."""
    with source.gate() as gate:
        _print(gate.shares.get(share_id), as_json=as_json)


@share.command()
@click.argument("share_id", metavar="ID")
@_share_options
@by_option
@json_option
@pass_source
def update(
    source: Source, /, share_id: str, *, by: CommandLine, as_json: bool, **options: Any
) -> None:
    """Change the given members of a share, and no others.

    Scopes and networks are replaced as a whole; the objects cannot be changed. An expired share can
    be extended, a revoked share cannot. The change also counts for tokens redeemed from the share,
    at once.
    """
    changes = _changes(**options)
    scopes = changes.pop("scopes", None)
    if scopes is not None:
        changes["params"] = {**changes.get("params", {}), "scopes": scopes}
    if not changes:
        raise click.UsageError("Nothing to change: give an option, such as --expires-in.")

    with source.gate() as gate:
        _print(gate.shares.update(share_id, by=by, **changes), as_json=as_json)


@share.command()
@click.argument("share_id", metavar="ID")
@click.option(
    "--secret",
    "with_secret",
    is_flag=True,
    help="Redeem as the holder does, with the secret from standard input.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    help="The client's address, for a share with allowed networks.",
)
@by_option
@json_option
@pass_source
def redeem(
    source: Source,
    share_id: str,
    address: str | None,
    *,
    with_secret: bool,
    by: CommandLine,
    as_json: bool,
) -> None:
    """Redeem a share for a token, and print the token once.

    The token opens the objects for 15 minutes, and counts as a redemption. With --secret the secret
    is read from standard input, or from a prompt that does not show it. It is no argument:
    everybody on the machine can read arguments.
    """
    check_open()

    secret = None
    if with_secret:
        secret = read_secret("Secret of the share")
        if secret is None:
            raise click.UsageError("--secret: there was none on standard input.")

    with source.gate() as gate:
        redeemed = gate.shares.redeem(share_id, secret=secret, address=address, by=by)

    if as_json:
        print_secret(payloads.show(redeemed), "", "A token")
        return

    objects = ", ".join(redeemed.object_ids)
    expiry = moment(redeemed.expires_at, "-")
    words = f"Opens {objects} until {expiry}. The token is shown this once:"
    print_secret(redeemed.token, words, "A token")


@share.command()
@click.argument("share_id", metavar="ID")
@by_option
@json_option
@pass_source
def revoke(source: Source, share_id: str, *, by: CommandLine, as_json: bool) -> None:
    """Revoke a share and its redeemed tokens, at once and for good."""
    with source.gate() as gate:
        revoked = gate.shares.revoke(share_id, by=by)

    if as_json:
        click.echo(payloads.show(revoked))
    else:
        echo(f"Share {revoked.id} is revoked.")


# Each argument is an option of the command line.
def _changes(
    scopes: tuple[str, ...],
    blocks: tuple[str, ...],
    expires_in: timedelta | None,
    expires_at: Instant | object | None,
    max_redemptions: int | object | None,
    attributes: dict[str, Any] | object | None,
    *,
    any_address: bool,
) -> dict[str, Any]:
    """Return the given members of a share, by their names in Python."""
    params = given(maxRedemptions=max_redemptions, attributes=attributes)
    allowed = networks(blocks, any_address=any_address)
    if allowed is not None:
        params["allowedCidrBlocks"] = allowed

    return given(scopes=scopes, expires_in=expires_in, expires_at=expires_at, params=params or None)


def _print(share: Share, *, as_json: bool) -> None:
    if as_json:
        click.echo(payloads.show(share))
    else:
        print_record(share)
