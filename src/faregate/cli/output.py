"""How records are shown to people: tables, and lists of members. Whatever a terminal would obey is spelt out."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec

from faregate.cli.source import Failure
from faregate.management import payloads

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

GAP = "  "


def echo(text: str, *, err: bool = False) -> None:
    """Print a line."""
    click.echo(printable(text), err=err)


def secret(text: str | bytes, words: str, what: str) -> None:
    """Print what is shown this once, after ``words`` on standard error; Failure, which names it, if it cannot be."""
    with suppress(OSError):
        if words:
            echo(words, err=True)
    try:
        click.echo(text)
    except OSError as error:
        give_up()
        raise Failure(
            f"{what} exists, but its secret could not be written: {error.strerror}. Replace it.", 1
        ) from error


def give_up() -> None:
    """Have what is still to be written to standard output lead nowhere, so that the end is not about that again."""
    with suppress(OSError, ValueError):  # it is no file of the system
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def check_open() -> None:
    """End the command if what it is about to make could not be shown."""
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  as it is where it was closed
        raise Failure(
            "Standard output is closed, and the secret would be lost: nothing was done", 2
        )


def printable(text: str) -> str:
    """Return a text whose control and formatting characters are escaped, so that no record steers a terminal."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def table(rows: Iterable[Sequence[str]], *, least: Sequence[int] = ()) -> None:
    """Print rows of cells under each other; the columns have at least these widths."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    widths = [max(pair) for pair in zip(widths, least, strict=True)] if least else widths
    for row in shown:
        click.echo(
            GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def members(shown: payloads.Shown, **more: str) -> None:
    """Print the members of a record that are not empty, one a line; ``more`` comes first."""
    table(_flat({**more, **msgspec.json.decode(payloads.show(shown))}, ""))


def moment(instant: datetime | None, otherwise: str) -> str:
    """Return an instant to the minute, in UTC."""
    return otherwise if instant is None else f"{instant:%Y-%m-%d %H:%M}Z"


def _flat(record: dict[str, Any], prefix: str) -> Iterable[tuple[str, str]]:
    for name, value in record.items():
        if value in (None, [], {}, "") or name == "allowedScopes":  # which ``scope`` tells, too
            continue
        if isinstance(value, dict) and name != "attributes":
            yield from _flat(cast("dict[str, Any]", value), f"{prefix}{name}.")
        elif isinstance(value, list):  # of texts, in every record
            yield f"{prefix}{name}", GAP.join(cast("list[str]", value))
        else:
            yield (
                f"{prefix}{name}",
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
            )
