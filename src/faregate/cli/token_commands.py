"""``faregate token``: creates, shows, changes, rotates, closes and deletes tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from faregate.cli.output import (
    check_open,
    echo,
    moment,
    print_list,
    print_record,
    print_secret,
)
from faregate.cli.parameters import (
    allowed_scopes,
    by_option,
    field_options,
    given,
    instant,
    json_option,
    limit_options,
    networks,
    page_options,
    span,
    time_options,
)
from faregate.cli.source import pass_source
from faregate.fields.token_fields import TOKEN_FIELDS
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


def _token_options(command: Command) -> Command:
    """Add the options for the members of a token, at creation and later."""
    for option in (
        click.option("--org-name", metavar="NAME", help="The organization's name."),
        click.option("--org", metavar="ID", help="The id of the organization."),
        click.option("--owner-idp", metavar="ID", help="The owner's identity provider."),
        click.option("--owner-name", metavar="NAME", help="The owner's name."),
        click.option("--owner", metavar="ID", help="The id of the owner."),
    ):
        command = option(command)

    command = limit_options(time_options(field_options(TOKEN_FIELDS, command)))

    words = "Scopes, permissions and roles: allowedScopes in JSON, instead of --scope."
    option = click.option("--allowed-scopes", type=allowed_scopes, metavar="JSON", help=words)
    return option(command)


@click.group()
def token() -> None:
    """Create, show, change, rotate, close and delete tokens."""


@token.command()
@click.option("--name", required=True, help="Name of the token, such as its purpose.")
@click.option(
    "--type",
    "kind",
    default="API",
    show_default=True,
    metavar="TYPE",
    help="API, REFRESH, PROXY or EXTENSION.",
)
@_token_options
@by_option
@json_option
@pass_source
def create(
    source: Source, /, name: str, kind: str, *, by: CommandLine, as_json: bool, **options: Any
) -> None:
    """Create a token and print its secret, once.

    The secret alone goes to standard output, so that it can be piped.

    Without an expiry the token never expires. Without --cidr it works from every address. Without
    --scope it opens the routes that require no scope. Without --owner it has no owner. With --scope
    '*', without owner and organization, it is root and may do everything.

    A token of type REFRESH is a refresh token: it opens nothing itself, and expires after 90 days
    unless another expiry is given.
    """
    check_open()
    changes = _changes(**options)

    with source.gate(create=True) as gate:
        issued = gate.tokens.create(name=name, type=kind, by=by, **changes)
    _print_secret(issued, "was created", as_json=as_json)


@token.command("list")
@click.option("--owner", metavar="ID", help="Only tokens of this owner.")
@click.option("--type", "kind", metavar="TYPE", help="Only tokens of this type.")
@click.option("--name", metavar="NAME", help="Only tokens with this name.")
@click.option(
    "--deactivated/--not-deactivated",
    default=None,
    help="Only deactivated tokens, or only the others.",
)
@click.option(
    "--expires-before", type=instant, metavar="INSTANT", help="Only tokens that expire before."
)
@click.option(
    "--sort",
    default="-createdAt",
    show_default=True,
    metavar="MEMBER",
    help="Sort by this member; '-' before it reverses the order.",
)
@page_options
@json_option
@pass_source
def list_(
    source: Source, /, kind: str | None, limit: int, offset: int, *, as_json: bool, **filters: Any
) -> None:
    """List tokens, the newest first.

    They can be sorted by name, createdAt, updatedAt, expiresAt, lastUsedAt, type, owner.name and
    org.name. Secrets are not stored, and so never listed.
    """
    with source.gate() as gate:
        page = gate.tokens.list(type=kind, limit=limit, offset=offset, **given(**filters))

    if as_json:
        click.echo(payloads.show(page))
        return

    now = as_datetime(source.now())
    columns: dict[str, Callable[[Token], str]] = {
        "ID": lambda token: token.id,
        "NAME": lambda token: token.name,
        "OWNER": lambda token: token.owner.id or "-",
        "EXPIRES": lambda token: moment(token.expires_at, "never"),
        "STATE": lambda token: _state(token, now),
        "SCOPES": lambda token: " ".join(token.scope) or "-",
    }
    print_list(columns, page.items, page.total)


@token.command()
@click.argument("token_id", metavar="ID")
@json_option
@pass_source
def show(source: Source, token_id: str, *, as_json: bool) -> None:
    """Show a token without its secret, which is not stored."""
    with source.gate() as gate:
        _print(source, gate.tokens.get(token_id), as_json=as_json)


@token.command()
@click.argument("token_id", metavar="ID")
@click.option("--name", help="Name of the token, such as its purpose.")
@click.option("--no-scopes", is_flag=True, help="Remove every scope, permission and role.")
@_token_options
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
    """Change the given members of a token, and no others.

    Scopes and networks are replaced as a whole. The change counts from the next request on. The
    secret stays; 'token rotate' replaces it.
    """
    changes = given(name=name) | _changes(**options)
    if no_scopes:
        if changes.keys() & {"scopes", "allowed_scopes"}:
            raise click.UsageError("Give --no-scopes, --scope or --allowed-scopes.")
        changes["scopes"] = []
    if not changes:
        raise click.UsageError("Nothing to change: give an option, such as --description.")

    with source.gate() as gate:
        _print(source, gate.tokens.update(token_id, by=by, **changes), as_json=as_json)


@token.command()
@click.argument("token_id", metavar="ID")
@click.option(
    "--grace",
    type=span,
    metavar="SPAN",
    help="How long the old secret stays valid, up to 7d. Default: not at all.",
)
@click.option(
    "--leaked",
    is_flag=True,
    help="The secret has leaked: no grace, and close the token's descendants.",
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
    """Replace the secret and print the new secret, once.

    The secret alone goes to standard output. With --leaked the token's descendants are closed: the
    tokens that it created or rotated, the shares that it created, and their descendants in turn. A
    token that was closed as leaked has to be rotated with --leaked before it can be activated.
    """
    check_open()

    with source.gate() as gate:
        issued = gate.tokens.rotate(token_id, grace=grace, leaked=leaked, by=by)

    if not as_json:
        _echo_closed(issued.token.closed)
    _print_secret(issued, "has a new secret", as_json=as_json)


@token.command()
@click.argument("token_id", metavar="ID")
@click.option("--reason", metavar="TEXT", help="The reason, kept with the token.")
@click.option(
    "--leaked", is_flag=True, help="The secret has leaked: close the token's descendants as well."
)
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
    """Deactivate a token, at once and everywhere.

    It can be activated again. With --leaked its descendants are closed as well. None of them can be
    activated before 'rotate --leaked' has replaced its secret.
    """
    with source.gate() as gate:
        closed = gate.tokens.deactivate(token_id, reason=reason, leaked=leaked, by=by)

    if as_json:
        click.echo(payloads.show(closed))
        return

    echo(f"Token {closed.id} ({closed.name}) is deactivated, by {closed.deactivated_updated_by}.")
    _echo_closed(closed.closed)


@token.command()
@click.argument("token_id", metavar="ID")
@click.option("--reason", metavar="TEXT", help="The reason, kept with the token.")
@by_option
@json_option
@pass_source
def activate(
    source: Source, token_id: str, reason: str | None, *, by: CommandLine, as_json: bool
) -> None:
    """Activate a deactivated token.

    Any actor may have deactivated it.
    """
    with source.gate() as gate:
        activated = gate.tokens.activate(token_id, reason=reason, by=by)

    if as_json:
        click.echo(payloads.show(activated))
    else:
        echo(f"Token {activated.id} ({activated.name}) is active.")


@token.command()
@click.argument("token_id", metavar="ID")
@by_option
@json_option
@pass_source
def delete(source: Source, token_id: str, *, by: CommandLine, as_json: bool) -> None:
    """Delete a token for good; its descendants stay."""
    with source.gate() as gate:
        gate.tokens.delete(token_id, by=by)

    if as_json:
        click.echo(msgspec.json.encode({"id": token_id, "deleted": True}))
    else:
        echo(f"Token {token_id} is deleted.")


# Each argument is an option of the command line.
def _changes(
    scopes: tuple[str, ...],
    allowed_scopes: AllowedScopes | None,
    blocks: tuple[str, ...],
    expires_in: timedelta | None,
    expires_at: Instant | object | None,
    owner: str | None,
    owner_name: str | None,
    owner_idp: str | None,
    org: str | None,
    org_name: str | None,
    *,
    any_address: bool,
    **declared: Any,
) -> dict[str, Any]:
    """Return the given fields of a token, by their names in Python.

    ``declared`` holds the options that follow from the declarations of fields.
    """
    changes = given(
        scopes=scopes,
        allowed_scopes=allowed_scopes,
        expires_in=expires_in,
        expires_at=expires_at,
        **declared,
    )

    if (owner, owner_name, owner_idp) != (None, None, None):
        changes["owner"] = Owner(id=owner, name=owner_name, idp_id=owner_idp)
    if (org, org_name) != (None, None):
        changes["org"] = Org(id=org, name=org_name)

    allowed = networks(blocks, any_address=any_address)
    if allowed is not None:
        changes["allowed_cidr_blocks"] = allowed

    return changes


def _print_secret(issued: Issued, words: str, *, as_json: bool) -> None:
    name = f"Token {issued.token.id}"
    if as_json:
        print_secret(payloads.show(issued), "", name)
    else:
        words = f"{name} ({issued.token.name}) {words}. Its secret is shown this once:"
        print_secret(issued.secret, words, name)


def _echo_closed(closed: Closed | None) -> None:
    if closed is None:
        return

    for token_id in closed.tokens:
        echo(f"Token {token_id} came from it and is closed.", err=True)
    for share_id in closed.shares:
        echo(f"Share {share_id} came from it and is closed.", err=True)


def _print(source: Source, token: Token, *, as_json: bool) -> None:
    if as_json:
        click.echo(payloads.show(token))
    else:
        print_record(token, state=_state(token, as_datetime(source.now())))


def _state(token: Token, now: datetime | None) -> str:
    """Return the state of a token at ``now``; None stands for an instant that no calendar has."""
    if token.deactivated:
        return "deactivated"
    if token.revoked_at is not None:
        return "revoked"

    if now is not None and token.expires_at is not None and token.expires_at <= now:
        return "expired"
    if now is not None and token.not_before is not None and token.not_before > now:
        return "not yet valid"
    return "active"
