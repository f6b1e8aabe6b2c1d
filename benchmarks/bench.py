"""Prints what the gate costs: a table of rows, their figures, their bounds, and whether those are kept.

Exits 1 if one is not. Where other packages are installed (``make bench-peers``), they stand beside the gate's rows.
``--short`` takes fewer rounds, and a quarter more than each bound: for a machine that does other work as well. Where
valgrind is installed, it counts instructions instead, and compares them with those that ``--record`` wrote to
``counts.json``. Names of groups ask for these alone. A whole table by time is drawn in ``results.svg``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import footprint
import frameworks
import jwts
import loopback
import peers
import picture
import verification
import writes
from measure import Figure, Row, counted, marked, timed

from faregate.stores import database
from faregate.verification import usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
COUNTS = HERE / "counts.json"
SLACK = 1.25  # of a short run by time
GROWTH = (
    1.1  # of a run by instructions, which are repeatable, save for another release of a framework
)


class Group(NamedTuple):
    """Rows that run in turns, for so many rounds; ``peers`` are those of other packages, beside them.

    A group that takes ``long`` is left out of short runs.
    """

    rows: Callable[[Path, ExitStack], list[Row]]
    rounds: int
    peers: Callable[[Path, ExitStack], list[Row]] | None = None
    long: bool = False


GROUPS = {
    "hits": Group(verification.hits, 8_000),
    "refusals": Group(verification.refusals, 8_000),
    "jwts": Group(jwts.rows, 120),
    "misses": Group(verification.misses, 200),
    "growth": Group(verification.growth, 60, long=True),
    "flask": Group(frameworks.flask, 6_000, peers.flask),
    "starlette": Group(frameworks.starlette, 8_000, peers.starlette),
    "writes": Group(writes.rows, 25),
    "lists": Group(writes.lists, 300),
    # By themselves: what takes milliseconds leaves the processor's caches cold for the next row.
    "peers": Group(peers.verifying, 100, long=True),
}
BY_THEMSELVES = {
    "memory": footprint.memory,
    "start": footprint.start,
    "threads": footprint.threads,
    "servers": loopback.measured,
}


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description="Print what the gate costs, beside the bounds.")
    parser.add_argument(
        "names", nargs="*", metavar="group", help=", ".join((*GROUPS, *BY_THEMSELVES))
    )
    parser.add_argument("--short", action="store_true", help="fewer rounds, and looser bounds")
    parser.add_argument(
        "--record",
        action="store_true",
        help="write the instructions that are counted to counts.json",
    )
    parser.add_argument("--marked", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    short = given.short or given.record
    known = GROUPS if given.record else (*GROUPS, *BY_THEMSELVES)
    names: list[str] = given.names or [name for name in known if not (short and is_long(name))]

    if given.marked:
        run_marked(names)
        return 0
    counting = given.record or (given.short and shutil.which("valgrind") is not None)
    kept, figures = True, list[Figure]()
    for figure, slack in measured(names, short=short, counting=counting):
        figures.append(figure)
        kept &= figure.holds(slack)
        show(figure, slack)

    if given.record:
        bounded = [
            figure for figure in figures if figure.unit.startswith("×") or figure.bound is not None
        ]
        counts = {figure.name: round(figure.value, 3) for figure in bounded}
        COUNTS.write_text(json.dumps(counts, indent=2, ensure_ascii=False) + "\n")
    if not (short or given.names):
        picture.draw(
            [figure for figure in figures if not figure.name.startswith("junk")],
            HERE / "results.svg",
        )
    return 0 if kept else 1


def measured(names: list[str], *, short: bool, counting: bool) -> Iterator[tuple[Figure, float]]:
    """Yield each figure, and by how much its bound may be missed."""
    groups = [name for name in names if name in GROUPS]
    if counting and groups:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
            rows = [
                row for name in groups for row in rows_of(name, Path(folder), closing, short=True)
            ]
        counts: dict[str, float] = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
        for figure in counted(rows, [sys.executable, __file__, "--marked", *groups]):
            yield figure._replace(bound=counts.get(figure.name, figure.bound)), GROWTH
        groups = []
    slack = SLACK if short else 1.0
    for name in groups:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
            rows = rows_of(name, Path(folder), closing, short=short)
            for figure in timed(rows, max(10, GROUPS[name].rounds // (10 if short else 1))):
                yield figure, slack
    for name in names:
        if name in BY_THEMSELVES:
            for figure in BY_THEMSELVES[name]():
                yield figure, slack


def is_long(name: str) -> bool:
    """Tell whether a group is left out of short runs."""
    return name in GROUPS and GROUPS[name].long


def rows_of(name: str, folder: Path, closing: ExitStack, *, short: bool) -> list[Row]:
    """Return the rows of a group; in a short run those of the gate alone."""
    own = folder / name
    own.mkdir()
    group = GROUPS[name]
    rows = group.rows(own, closing)
    return rows if short or group.peers is None else rows + group.peers(own, closing)[1:]


def run_marked(names: list[str]) -> None:
    """Run the rows of groups for callgrind, whose second is long, and which counts what every thread does.

    So no look at the files falls due, and no last use is written meanwhile.
    """
    database.LOOK_EVERY = 3_600.0
    usage.EVERY = 3_600.0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        marked([row for name in names for row in rows_of(name, Path(folder), closing, short=True)])


def show(figure: Figure, slack: float) -> None:
    """Print one line of the table."""
    bound = ""
    if figure.bound is not None:
        limit = figure.bound / slack if figure.least else figure.bound * slack
        bound = f"{'at least' if figure.least else 'at most':>9} {limit:7.2f}  {'ok' if figure.holds(slack) else 'MISSED'}"
    print(f"{figure.name:42} {figure.value:9.2f} {figure.unit:24} {bound}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
