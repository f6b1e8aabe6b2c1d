"""Prints records as tables and lists. Characters that would control a terminal are escaped."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec

from faregate.cli.source import Failure
from faregate.fields.share_fields import PARAM_FIELDS
from faregate.fields.token_fields import TOKEN_FIELDS
from faregate.management import payloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

GAP = "  "  # between columns, and between the values of a list

# Objects of the application's own, which are printed as they are.
_FREE_FORM = frozenset(
    field.json_name
    for field in (*TOKEN_FIELDS, *PARAM_FIELDS)
    if field.sent == dict[str, Any] | None
)


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, on standard error if ``err``."""
    click.echo(printable(text), err=err)


def print_secret(secret: str | bytes, words: str, record: str) -> None:
    """Print a secret on standard output, after ``words`` on standard error.

    Raises Failure with the name of the ``record`` if the secret cannot be written.
    """
    # Standard error may be closed or full; the secret is still needed.
    with suppress(OSError):
        if words:
            echo(words, err=True)

    try:
        click.echo(secret)
    except OSError as error:
        discard_output()
        words = f"{record} exists, but its secret could not be written: {error.strerror}."
        raise Failure(f"{words} Replace it.", 1) from error


def discard_output() -> None:
    """Discard the rest of standard output, so that the same error is not raised again at exit."""
    # ValueError: a test or an application replaced standard output by an object without a file.
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def check_open() -> None:
    """Raise Failure if standard output is closed, so that no secret is made and then lost."""
    # None stands for a closed stream.
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise Failure(
            "Standard output is closed, and the secret would be lost: nothing was done", 2
        )


def printable(text: str) -> str:
    """Return ``text`` with its control and formatting characters escaped.

    So no record can control the terminal.
    """
    if text.isprintable():
        return text
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()


def table(rows: Iterable[Sequence[str]], *, least: Sequence[int] = ()) -> None:
    """Print rows of cells in columns, which have at least the widths ``least``, in characters."""
    lines = [[printable(cell) for cell in row] for row in rows]

    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if least:
        widths = [max(pair) for pair in zip(widths, least, strict=True)]

    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(GAP.join(cells).rstrip())


def print_list(
    columns: dict[str, Callable[[Any], str]], records: Sequence[Any], total: int
) -> None:
    """Print records as a table; on standard error say if there are more, up to ``total``."""
    rows = [[cell(record) for cell in columns.values()] for record in records]
    table([list(columns), *rows])
    if total > len(records):
        click.echo(f"{len(records)} of {total}; see --limit and --offset.", err=True)


def print_record(record: payloads.Shown, **more: str) -> None:
    """Print the members of a record that are not empty, a member a line; ``more`` comes first."""
    members = msgspec.json.decode(payloads.show(record))
    table(_lines({**more, **members}, ""))


def moment(instant: datetime | None, otherwise: str) -> str:
    """Return an instant in UTC to the minute, ``otherwise`` for None."""
    if instant is None:
        return otherwise
    return f"{instant:%Y-%m-%d %H:%M}Z"


def _lines(record: dict[str, Any], prefix: str) -> Iterable[tuple[str, str]]:
    """Yield name and value of each member; members of a nested record follow its name and a dot."""
    for name, value in record.items():
        # ``scope`` says the same as ``allowedScopes``, in a line.
        if value in (None, [], {}, "") or name == "allowedScopes":
            continue

        if isinstance(value, dict) and name not in _FREE_FORM:
            yield from _lines(cast("dict[str, Any]", value), f"{prefix}{name}.")
        elif isinstance(value, list):
            # Lists of records hold strings alone.
            yield f"{prefix}{name}", GAP.join(cast("list[str]", value))
        elif isinstance(value, str):
            yield f"{prefix}{name}", value
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False)
