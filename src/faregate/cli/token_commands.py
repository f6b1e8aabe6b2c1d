"""``faregate token``: the lifecycle of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from faregate.cli.output import check_open, echo, members, moment, secret, table
from faregate.cli.parameters import (
    allowed_scopes,
    by_option,
    given,
    instant,
    instant_or_none,
    json_option,
    limit_options,
    networks,
    page_options,
    span,
    text,
    time_options,
)
from faregate.cli.source import pass_source
from faregate.management import payloads
from faregate.model import Org, Owner
from faregate.values.instants import as_datetime

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from faregate.cli.parameters import Command
    from faregate.cli.source import Source
    from faregate.lifecycles.authority import CommandLine
    from faregate.model import AllowedScopes, Closed, Issued, Token
    from faregate.values.instants import Instant


def _grants(command: Command) -> Command:
    """Add the options for whatever a token may be, at creation and later."""
    for option in (
        click.option("--org-name", metavar="NAME", help="The organization's name."),
        click.option("--org", metavar="ID", help="The id of the organization."),
        click.option(
            "--owner-idp", metavar="ID", help="The identity provider that knows the owner."
        ),
        click.option("--owner-name", metavar="NAME", help="The owner's name."),
        click.option("--owner", metavar="ID", help="The id of the owner."),
        click.option(
            "--description",
            type=text,
            metavar="TEXT",
            help="More about it; an empty text takes it away.",
        ),
        click.option(
            "--rotation/--no-rotation",
            default=None,
            help="Of type REFRESH: whether exchanges replace the secret.",
        ),
        click.option(
            "--not-before",
            type=instant_or_none,
            metavar="INSTANT",
            help="From when on; 'none': at once.",
        ),
    ):
        command = option(command)
    command = limit_options(time_options(command))
    words = "Permissions and roles, too: allowedScopes in JSON, instead of --scope."
    return click.option("--allowed-scopes", type=allowed_scopes, metavar="JSON", help=words)(
        command
    )


@click.group()
def token() -> None:
    """Create, show, change, rotate, close and delete tokens."""


@token.command()
@click.option("--name", required=True, help="What the token is for.")
@click.option(
    "--type",
    "kind",
    default="API",
    show_default=True,
    metavar="TYPE",
    help="API, REFRESH, PROXY or EXTENSION.",
)
@_grants
@by_option
@json_option
@pass_source
def create(
    source: Source, /, name: str, kind: str, *, by: CommandLine, as_json: bool, **options: Any
) -> None:
    """Create a token and print its secret, once.

    The secret alone goes to standard output, so that it can be piped. Without an expiry the token never expires,
    without --cidr it works from everywhere, without --scope it opens what any valid credential opens, and without
    --owner it is nobody's. With --scope '*', without owner and organization, it is root: it may do everything. Of type
    REFRESH it is a refresh token: it opens nothing itself, and expires, after 90 days unless another end is given.
    """
    check_open()
    details = _details(**options)
    with source.gate(create=True) as gate:
        issued = gate.tokens.create(name=name, type=kind, by=by, **details)
    _show_secret(issued, "was created", as_json=as_json)


@token.command("list")
@click.option("--owner", metavar="ID", help="Only those of this owner.")
@click.option("--type", "kind", metavar="TYPE", help="Only those of this type.")
@click.option("--name", metavar="NAME", help="Only those of this name.")
@click.option(
    "--deactivated/--not-deactivated", default=None, help="Only those that are, or are not."
)
@click.option(
    "--expires-before", type=instant, metavar="INSTANT", help="Only those that expire before."
)
@click.option(
    "--sort",
    default="-createdAt",
    show_default=True,
    metavar="MEMBER",
    help="In this order; '-': reversed.",
)
@page_options
@json_option
@pass_source
def list_(
    source: Source, /, kind: str | None, limit: int, offset: int, *, as_json: bool, **filters: Any
) -> None:
    """List tokens, the newest first. Secrets are not kept and so never listed.

    They can be sorted by name, createdAt, updatedAt, expiresAt, lastUsedAt, type, owner.name and org.name.
    """
    with source.gate() as gate:
        found = gate.tokens.list(type=kind, limit=limit, offset=offset, **given(**filters))
    if as_json:
        click.echo(payloads.show(found))
        return
    now = as_datetime(source.now())
    columns: dict[str, Callable[[Token], str]] = {
        "ID": lambda one: one.id,
        "NAME": lambda one: one.name,
        "OWNER": lambda one: one.owner.id or "-",
        "EXPIRES": lambda one: moment(one.expires_at, "never"),
        "STATE": lambda one: _state(one, now),
        "SCOPES": lambda one: " ".join(one.scope) or "-",
    }
    table([list(columns), *([show(one) for show in columns.values()] for one in found.items)])
    if found.total > len(found.items):
        click.echo(f"{len(found.items)} of {found.total}; see --limit and --offset.", err=True)


@token.command()
@click.argument("token_id", metavar="ID")
@json_option
@pass_source
def show(source: Source, token_id: str, *, as_json: bool) -> None:
    """Show everything about a token but its secret, which is not kept."""
    with source.gate() as gate:
        _show(source, gate.tokens.get(token_id), as_json=as_json)


@token.command()
@click.argument("token_id", metavar="ID")
@click.option("--name", help="What the token is for.")
@click.option("--no-scopes", is_flag=True, help="Take every scope, permission and role away.")
@_grants
@by_option
@json_option
@pass_source
def update(
    source: Source,
    /,
    token_id: str,
    name: str | None,
    *,
    no_scopes: bool,
    by: CommandLine,
    as_json: bool,
    **options: Any,
) -> None:
    """Change what is given and keep the rest. Scopes and networks are replaced whole.

    The change counts from the next request on. The secret stays; 'token rotate' replaces it.
    """
    details = given(name=name) | _details(**options)
    if no_scopes:
        if details.keys() & {"scopes", "allowed_scopes"}:
            raise click.UsageError("Give --no-scopes, --scope or --allowed-scopes.")
        details["scopes"] = []
    if not details:
        raise click.UsageError("Nothing to change: give an option, such as --description.")
    with source.gate() as gate:
        _show(source, gate.tokens.update(token_id, by=by, **details), as_json=as_json)


@token.command()
@click.argument("token_id", metavar="ID")
@click.option(
    "--grace",
    type=span,
    metavar="SPAN",
    help="How long the old secret opens, up to 7d. Default: not at all.",
)
@click.option(
    "--leaked", is_flag=True, help="Somebody else has it: no grace, and close what it made."
)
@by_option
@json_option
@pass_source
def rotate(
    source: Source,
    token_id: str,
    grace: timedelta | None,
    *,
    leaked: bool,
    by: CommandLine,
    as_json: bool,
) -> None:
    """Replace the secret and print the new one, once.

    The secret alone goes to standard output. With --leaked every token that the old one made or rotated is closed as
    well, every share that it made, and what comes from those. A token that was closed as leaked is rotated with
    --leaked before it can be activated.
    """
    check_open()
    with source.gate() as gate:
        issued = gate.tokens.rotate(token_id, grace=grace, leaked=leaked, by=by)
    if not as_json:
        _tell_closed(issued.token.closed)
    _show_secret(issued, "has a new secret", as_json=as_json)


@token.command()
@click.argument("token_id", metavar="ID")
@click.option("--reason", metavar="TEXT", help="Why, for the record.")
@click.option("--leaked", is_flag=True, help="Somebody else has it: close what it made as well.")
@by_option
@json_option
@pass_source
def deactivate(
    source: Source,
    token_id: str,
    reason: str | None,
    *,
    leaked: bool,
    by: CommandLine,
    as_json: bool,
) -> None:
    """Close a token, at once and everywhere. It can be activated again.

    With --leaked whatever came from it is closed, too, and none of it is activated before 'rotate --leaked' has
    replaced its secret.
    """
    with source.gate() as gate:
        closed = gate.tokens.deactivate(token_id, reason=reason, leaked=leaked, by=by)
    if as_json:
        click.echo(payloads.show(closed))
    else:
        echo(
            f"Token {closed.id} ({closed.name}) is deactivated, by {closed.deactivated_updated_by}."
        )
        _tell_closed(closed.closed)


@token.command()
@click.argument("token_id", metavar="ID")
@click.option("--reason", metavar="TEXT", help="Why, for the record.")
@by_option
@json_option
@pass_source
def activate(
    source: Source, token_id: str, reason: str | None, *, by: CommandLine, as_json: bool
) -> None:
    """Open a token again that was deactivated, whoever did that."""
    with source.gate() as gate:
        opened = gate.tokens.activate(token_id, reason=reason, by=by)
    if as_json:
        click.echo(payloads.show(opened))
    else:
        echo(f"Token {opened.id} ({opened.name}) is active.")


@token.command()
@click.argument("token_id", metavar="ID")
@by_option
@json_option
@pass_source
def delete(source: Source, token_id: str, *, by: CommandLine, as_json: bool) -> None:
    """Remove a token, for good. What it made stays."""
    with source.gate() as gate:
        gate.tokens.delete(token_id, by=by)
    if as_json:
        click.echo(msgspec.json.encode({"id": token_id, "deleted": True}))
    else:
        echo(f"Token {token_id} is deleted.")


def _details(  # each an option of the command line
    scopes: tuple[str, ...],
    allowed_scopes: AllowedScopes | None,
    blocks: tuple[str, ...],
    expires_in: timedelta | None,
    expires_at: Instant | object | None,
    not_before: Instant | object | None,
    description: str | object | None,
    owner: str | None,
    owner_name: str | None,
    owner_idp: str | None,
    org: str | None,
    org_name: str | None,
    *,
    rotation: bool | None,
    any_address: bool,
) -> dict[str, Any]:
    """Return the members of a token that the options give, by their names in Python."""
    whose = {"id": owner, "name": owner_name, "idp_id": owner_idp}
    where = {"id": org, "name": org_name}
    details = given(
        scopes=scopes,
        allowed_scopes=allowed_scopes,
        expires_in=expires_in,
        expires_at=expires_at,
        not_before=not_before,
        require_rotation=rotation,
        description=description,
        owner=Owner(**whose) if any(one is not None for one in whose.values()) else None,
        org=Org(**where) if any(one is not None for one in where.values()) else None,
    )
    allowed = networks(blocks, any_address=any_address)
    return details if allowed is None else {**details, "allowed_cidr_blocks": allowed}


def _show_secret(issued: Issued, words: str, *, as_json: bool) -> None:
    name = f"Token {issued.token.id}"
    told = f"{name} ({issued.token.name}) {words}. Its secret is shown this once:"
    secret(payloads.show(issued) if as_json else issued.secret, "" if as_json else told, name)


def _tell_closed(closed: Closed | None) -> None:
    if closed is None:
        return
    for kind, ids in (("Token", closed.tokens), ("Share", closed.shares)):
        for record_id in ids:
            echo(f"{kind} {record_id} came from it and is closed.", err=True)


def _show(source: Source, one: Token, *, as_json: bool) -> None:
    if as_json:
        click.echo(payloads.show(one))
        return
    members(one, state=_state(one, as_datetime(source.now())))


def _state(one: Token, now: datetime | None) -> str:
    if one.deactivated or one.revoked_at is not None:
        return "deactivated" if one.deactivated else "revoked"
    if now and one.expires_at is not None and one.expires_at <= now:
        return "expired"
    return (
        "not yet valid" if now and one.not_before is not None and one.not_before > now else "active"
    )
