"""The command line. The first token must come from somewhere.

Exit codes: 0 done, 1 refused by the store's records, 2 usage or bad input, 3 the store cannot answer.
Secrets are printed once, on standard output, and never taken as arguments.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faregate.errors import Denied, InvalidInput, Refused, StoreUnavailable
from faregate.gate import Gate
from faregate.management import wire
from faregate.model import Org, Owner, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class _Span(click.ParamType[timedelta]):
    """A time span such as ``90d``, ``12h``, ``30m`` or ``45s``."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is no span such as 90d, 12h, 30m or 45s", param, ctx)
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--store", envvar="FAREGATE_STORE", metavar="URL", help="The store, such as sqlite:///gate.db.")
@click.option("--brand", envvar="FAREGATE_BRAND", default="fg", show_default=True, help="First part of new secrets.")
@click.version_option(package_name="faregate")
@click.pass_context
def main(context: click.Context, store: str | None, brand: str) -> None:
    """Issue, list and deactivate the tokens of a gate.

    Who may open the store's file is root: the command line asks for no credential.
    """
    context.obj = (store, brand)


@main.group()
def token() -> None:
    """Create, list and deactivate tokens."""


@token.command()
@click.option("--name", required=True, help="What the token is for.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="A general scope; may be repeated.")
@click.option("--cidr", "blocks", multiple=True, metavar="BLOCK", help="An allowed network; may be repeated.")
@click.option("--expires-in", type=_Span(), metavar="SPAN", help="Such as 90d or 12h. Default: never.")
@click.option("--type", "kind", default="API", show_default=True, metavar="TYPE", help="API, PROXY or EXTENSION.")
@click.option("--owner", metavar="ID", help="The id of the owner. Default: nobody's.")
@click.option("--org", metavar="ID", help="The id of the organization. Default: none.")
@click.option("--description", metavar="TEXT", help="More about it.")
@click.option("--json", "as_json", is_flag=True, help="Print the record, with the secret in it, as JSON.")
@click.pass_obj
def create(
    settings: tuple[str | None, str],
    name: str,
    scopes: Sequence[str],
    blocks: Sequence[str],
    expires_in: timedelta | None,
    kind: str,
    owner: str | None,
    org: str | None,
    description: str | None,
    *,
    as_json: bool,
) -> None:
    """Create a token and print its secret, once.

    The secret alone goes to standard output, so that it can be piped. With --scope '*', without owner and
    organization, the token is root: it may do everything.
    """
    details: dict[str, Any] = {"scopes": scopes, "allowed_cidr_blocks": blocks, "description": description}
    if expires_in is not None:
        details["expires_in"] = expires_in
    with _gate(settings, existing=False) as gate:
        details |= {"owner": Owner(id=owner), "org": Org(id=org)}
        issued = gate.tokens.create(name=name, type=kind, by="cli", **details)
    if as_json:
        click.echo(wire.show(issued))
        return
    click.echo(f"Token {issued.token.id} ({name}) was created. Its secret is shown this once:", err=True)
    click.echo(issued.secret)


@token.command("list")
@click.option("--owner", metavar="ID", help="Only those of this owner.")
@click.option("--limit", default=100, show_default=True, help="At most so many.")
@click.option("--offset", default=0, show_default=True, help="After so many.")
@click.option("--json", "as_json", is_flag=True, help="Print the page as JSON.")
@click.pass_obj
def list_(settings: tuple[str | None, str], owner: str | None, limit: int, offset: int, *, as_json: bool) -> None:
    """List tokens, the newest first. Secrets are not kept and so never listed."""
    with _gate(settings) as gate:
        page = gate.tokens.list(owner=owner, limit=limit, offset=offset)
    if as_json:
        click.echo(wire.show(page))
        return
    columns: dict[str, Callable[[Token], str]] = {
        "ID": lambda one: one.id,
        "NAME": lambda one: one.name,
        "OWNER": lambda one: one.owner.id or "-",
        "EXPIRES": lambda one: f"{one.expires_at:%Y-%m-%d %H:%M}Z" if one.expires_at else "never",
        "STATE": _state,
        "SCOPES": lambda one: " ".join(one.scope) or "-",
    }
    rows = [list(columns), *([show(one) for show in columns.values()] for one in page.items)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if page.total > len(page.items):
        click.echo(f"{len(page.items)} of {page.total}; see --limit and --offset.", err=True)


@token.command()
@click.argument("token_id", metavar="ID")
@click.option("--by", metavar="NAME", help="Who does it, for the record. Default: root.")
@click.option("--reason", metavar="TEXT", help="Why, for the record.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@click.pass_obj
def deactivate(
    settings: tuple[str | None, str], token_id: str, by: str | None, reason: str | None, *, as_json: bool
) -> None:
    """Close a token, at once and everywhere. It can be activated again."""
    with _gate(settings) as gate:
        closed = gate.tokens.deactivate(token_id, reason=reason, by=by)
    if as_json:
        click.echo(wire.show(closed))
    else:
        click.echo(f"Token {closed.id} ({closed.name}) is deactivated, by {closed.deactivated_updated_by}.")


@main.group()
def db() -> None:
    """Look after the store's tables."""


@db.command("upgrade")
@click.pass_obj
def upgrade(settings: tuple[str | None, str]) -> None:
    """Bring the tables of an older faregate to the version that this one needs. Make a backup first."""
    # Alembic is loaded only to migrate.
    from faregate.stores.migrations import upgrade as migrate  # noqa: PLC0415

    with _explained():
        migrate(_existing(settings))
    click.echo("The tables are up to date.")


@contextmanager
def _gate(settings: tuple[str | None, str], *, existing: bool = True) -> Generator[Gate]:
    """Open the gate of the settings, and close it."""
    with _explained():
        gate = Gate(_existing(settings) if existing else _store_of(settings), brand=settings[1])
        try:
            yield gate
        finally:
            gate.close()


@contextmanager
def _explained() -> Generator[None]:
    """Turn the errors of the package into messages and exit codes."""
    try:
        yield
    except InvalidInput as error:
        raise click.UsageError(str(error)) from error
    except StoreUnavailable as error:
        raise _Failure(f"The store cannot answer: {error.__cause__}", 3) from error
    except (Refused, Denied) as error:
        raise _Failure(str(error), 1) from error


def _store_of(settings: tuple[str | None, str]) -> str:
    store, _ = settings
    if store is None:
        raise click.UsageError("No store: give --store or set FAREGATE_STORE, such as sqlite:///gate.db")
    if store in ("sqlite://", "sqlite:///:memory:"):
        raise click.UsageError("A store in memory is gone when the command ends; use sqlite:///<file>")
    return store


def _existing(settings: tuple[str | None, str]) -> str:
    """Return the store's URL if there is one: a misspelt path is no empty store."""
    # SQLAlchemy is loaded only by what opens a store.
    from faregate.stores.sqlite import path_of  # noqa: PLC0415

    store = _store_of(settings)
    path = path_of(store)
    if path is not None and not Path(path).exists():
        raise click.UsageError(f"There is no store at {path} yet; 'faregate token create' makes one")
    return store


class _Failure(click.ClickException):
    """A message for people, and the exit code for programs."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  click's own way


def _state(one: Token) -> str:
    if one.deactivated:
        return "deactivated"
    return "expired" if one.expires_at is not None and one.expires_at <= datetime.now(UTC) else "active"
