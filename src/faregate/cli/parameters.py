"""Types of options, and options that several commands share."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from faregate.credentials.opaque import LONGEST
from faregate.errors import InvalidInput
from faregate.lifecycles.authority import CLI, CommandLine
from faregate.management import payloads
from faregate.model import AllowedScopes
from faregate.values.instants import parse_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from faregate.fields.field import Field
    from faregate.values.instants import Instant

Command = TypeVar("Command", bound="Callable[..., Any]")

# The value of an option that removes a member, such as ``--expires-at none``.
CLEAR = object()

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def span(text: str) -> timedelta:
    """Return a time span from a text such as ``90d``, ``12h``, ``30m`` or ``45s``."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no time span; expected e.g. 90d, 12h, 30m or 45s")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def instant_or_none(text: str) -> Instant | object:
    """Return an instant as :func:`instant` does, CLEAR for ``none``."""
    if text == "none":
        return CLEAR
    return instant(text)


def instant(text: str) -> Instant:
    """Return an instant from RFC 3339 or epoch seconds."""
    value: str | float = text
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        value = float(text)

    try:
        return parse_instant(value, "an instant")
    except InvalidInput as error:
        raise click.BadParameter(str(error)) from error


def json_object(text: str) -> dict[str, Any]:
    """Return a JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"is not JSON: {error}") from error

    if not isinstance(value, dict):
        raise click.BadParameter("expected a JSON object")
    return cast("dict[str, Any]", value)


def json_object_or_none(text: str) -> dict[str, Any] | object:
    """Return a JSON object, CLEAR for ``none``."""
    return CLEAR if text == "none" else json_object(text)


def allowed_scopes(text: str) -> AllowedScopes:
    """Return the grants of a token from the JSON of the HTTP API."""
    try:
        return payloads.read(text.encode(), AllowedScopes)
    except (InvalidInput, UnicodeEncodeError) as error:
        raise click.BadParameter(str(error)) from error


def text(value: str) -> str | object:
    """Return a text, CLEAR for an empty text."""
    return value or CLEAR


def given(**values: Any) -> dict[str, Any]:
    """Return the values of the options that were given, None for CLEAR."""
    options: dict[str, Any] = {}
    for name, value in values.items():
        if value is CLEAR:
            options[name] = None
        elif value is not None and value != ():
            options[name] = value
    return options


def read_secret(prompt: str) -> str | None:
    """Return a credential from standard input, None if it is empty or closed.

    At a terminal it is asked for with ``prompt``, and not shown.
    """
    # None stands for a closed stream.
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        return None

    if sys.stdin.isatty():
        answer = click.prompt(prompt, hide_input=True, err=True, default="", show_default=False)
        return str(answer).strip() or None

    # Enough to see that a longer text is no credential.
    data = sys.stdin.buffer.read(2 * LONGEST)
    return data.decode("ascii", errors="replace").strip() or None


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    words = "Print JSON, as the HTTP API does."
    return click.option("--json", "as_json", is_flag=True, help=words)(command)


def by_option(command: Command) -> Command:
    """Add ``--by``."""
    words = "Name of the actor, for the audit."

    def as_actor(_: click.Context, __: click.Parameter, name: str) -> CommandLine:
        return CommandLine(name)

    return click.option(
        "--by", default=CLI, show_default=True, metavar="NAME", help=words, callback=as_actor
    )(command)


def page_options(command: Command) -> Command:
    """Add ``--limit`` and ``--offset``."""
    command = click.option(
        "--offset", default=0, show_default=True, help="Number of records to skip."
    )(command)
    return click.option(
        "--limit", default=100, show_default=True, help="Number of records, 1 to 1000."
    )(command)


def field_options(fields: Sequence[Field], command: Command) -> Command:
    """Add the options of declared fields, each under the field's name in Python."""
    kinds = {"text": text, "instant": instant_or_none, "switch": None, "json": json_object_or_none}
    for field in reversed(fields):
        option = field.option
        if option is not None:
            add = click.option(
                option.flag,
                field.name,
                type=kinds[option.kind],
                default=None,
                metavar=option.metavar,
                help=option.help,
            )
            command = add(command)
    return command


def limit_options(command: Command) -> Command:
    """Add the options for general scopes and allowed networks."""
    command = click.option("--any-address", is_flag=True, help="Allow every address.")(command)
    command = click.option(
        "--cidr",
        "blocks",
        multiple=True,
        metavar="BLOCK",
        help="An allowed network or address; may be repeated.",
    )(command)
    return click.option(
        "--scope",
        "scopes",
        multiple=True,
        metavar="SCOPE",
        help="A general scope; may be repeated.",
    )(command)


def time_options(command: Command) -> Command:
    """Add the options for the expiry."""
    command = click.option(
        "--expires-at",
        type=instant_or_none,
        metavar="INSTANT",
        help="Expiry, such as 2030-01-31T12:00:00Z.",
    )(command)
    return click.option(
        "--expires-in", type=span, metavar="SPAN", help="Expiry from now, such as 90d or 12h."
    )(command)


def networks(blocks: tuple[str, ...], *, any_address: bool) -> list[str] | None:
    """Return the given networks, an empty list for any address, None if neither was given."""
    if blocks and any_address:
        raise click.UsageError("Give --cidr or --any-address.")

    if any_address:
        return []
    return list(blocks) or None
