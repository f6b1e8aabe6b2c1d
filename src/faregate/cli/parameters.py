"""What options may hold, and the options that many commands share."""

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
    from collections.abc import Callable

    from faregate.values.instants import Instant

Command = TypeVar("Command", bound="Callable[..., Any]")
NOTHING = object()  # an option that takes a value away

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def span(text: str) -> timedelta:
    """Return a time span such as ``90d``, ``12h``, ``30m`` or ``45s``."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no span such as 90d, 12h, 30m or 45s")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def instant_or_none(text: str) -> Instant | object:
    """Return an instant as below; ``none`` is NOTHING."""
    return NOTHING if text == "none" else instant(text)


def instant(text: str) -> Instant:
    """Return an instant of RFC 3339, or epoch seconds."""
    try:
        return parse_instant(
            float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else text, "an instant"
        )
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


def allowed_scopes(text: str) -> AllowedScopes:
    """Return what a token grants, from JSON as the HTTP API takes it."""
    try:
        return payloads.read(text.encode(), AllowedScopes)
    except (InvalidInput, UnicodeEncodeError) as error:
        raise click.BadParameter(str(error)) from error


def text(value: str) -> str | object:
    """Return a text; an empty one is NOTHING."""
    return value or NOTHING


def given(**values: Any) -> dict[str, Any]:
    """Return the values of the options that were given, None for NOTHING."""
    return {
        name: None if value is NOTHING else value
        for name, value in values.items()
        if value is not None and value != ()
    }


def read_secret(prompt: str) -> str | None:
    """Return a credential from standard input, or, at a terminal, from a prompt that does not show it."""
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  as it is where it was closed
        return None
    if sys.stdin.isatty():
        return (
            str(
                click.prompt(prompt, hide_input=True, err=True, default="", show_default=False)
            ).strip()
            or None
        )
    data = sys.stdin.buffer.read(2 * LONGEST)
    return data.decode("ascii", errors="replace").strip() or None


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    words = "Print JSON; a record as the HTTP API shows it."
    return click.option("--json", "as_json", is_flag=True, help=words)(command)


def by_option(command: Command) -> Command:
    """Add ``--by``."""
    words = "Who does it, for the record."

    def as_root(_: click.Context, __: click.Parameter, name: str) -> CommandLine:
        return CommandLine(name)

    return click.option(
        "--by", default=CLI, show_default=True, metavar="NAME", help=words, callback=as_root
    )(command)


def page_options(command: Command) -> Command:
    """Add ``--limit`` and ``--offset``."""
    command = click.option("--offset", default=0, show_default=True, help="After so many.")(command)
    return click.option(
        "--limit", default=100, show_default=True, help="At most so many, 1 to 1000."
    )(command)


def limit_options(command: Command) -> Command:
    """Add the options for what a record opens, and from where."""
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
    """Add the options for until when."""
    command = click.option(
        "--expires-at",
        type=instant_or_none,
        metavar="INSTANT",
        help="Such as 2030-01-31T12:00:00Z.",
    )(command)
    return click.option(
        "--expires-in", type=span, metavar="SPAN", help="Such as 90d or 12h, from now."
    )(command)


def networks(blocks: tuple[str, ...], *, any_address: bool) -> list[str] | None:
    """Return the networks that were given; an empty list for any address, None for nothing said."""
    if blocks and any_address:
        raise click.UsageError("Give --cidr or --any-address.")
    return [] if any_address else list(blocks) or None
