"""Measures the gate and prints a table: each figure, its bound, and the verdict.

The exit code is 1 if a figure misses its bound, else 0.

- Arguments name groups of rows. Without arguments, every group runs.
- ``--short`` takes fewer rounds and allows a quarter more than each bound. It suits a machine that
  does other work as well. With valgrind installed, it counts instructions instead of time and
  compares them with ``counts.json``.
- ``--record`` counts instructions and writes them to ``counts.json``.

Other packages stand beside the gate's rows if they are installed (``make bench-peers``). A complete
run by time draws its table as ``results.svg``.
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
from measure import Figure, Row, count_instructions, measure_time, run_between_marks

from faregate.stores import database
from faregate.verification import usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
COUNTS = HERE / "counts.json"

# A short run by time may miss a bound by this factor.
SLACK = 1.25

# Instructions are repeatable. Only another release of a framework changes their number.
GROWTH = 1.1


class Group(NamedTuple):
    """Rows that run in turns.

    - ``rows`` makes the rows of the gate, in a folder of their own; its stack closes their stores.
    - ``rounds`` is the number of slices for each row in a complete run; a short run takes a tenth.
    - ``peers`` makes the rows of other packages; its first row repeats the group's floor.
    - ``long`` excludes the group from short runs.
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
    # Apart from the hits: a call of milliseconds leaves the processor's caches cold for the next.
    "peers": Group(peers.verifying, 100, long=True),
}

# Groups without rows: each measures by itself, always in full.
STANDALONE = {
    "memory": footprint.memory,
    "start": footprint.start,
    "threads": footprint.threads,
    "servers": loopback.servers,
}


def main() -> int:
    """Print the table and return the exit code."""
    arguments = parse()
    names = names_of_groups(arguments)

    if arguments.marked:
        run_marked(names)
        return 0

    short = arguments.short or arguments.record
    counting = arguments.record or (arguments.short and shutil.which("valgrind") is not None)
    figures: list[Figure] = []
    passed = True

    for figure, slack in measure(names, short=short, counting=counting):
        figures.append(figure)
        passed &= figure.holds(slack)
        show(figure, slack)

    if arguments.record:
        record(figures)

    if not (short or arguments.names):
        drawn = [figure for figure in figures if not figure.name.startswith("junk")]
        picture.draw(drawn, HERE / "results.svg")

    return 0 if passed else 1


def parse() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Print what the gate costs, beside the bounds.")
    groups = ", ".join((*GROUPS, *STANDALONE))
    parser.add_argument("names", nargs="*", metavar="group", help=groups)
    parser.add_argument("--short", action="store_true", help="fewer rounds, and looser bounds")
    parser.add_argument(
        "--record", action="store_true", help="count instructions and write them to counts.json"
    )

    # Internal: callgrind runs this file again with this option.
    parser.add_argument("--marked", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def names_of_groups(arguments: argparse.Namespace) -> list[str]:
    """Return the groups that the command line names, or else those of the kind of run."""
    if arguments.names:
        return list(arguments.names)

    names = list(GROUPS)
    if not arguments.record:
        names += STANDALONE
    if arguments.short or arguments.record:
        return [name for name in names if not is_long(name)]
    return names


def measure(names: list[str], *, short: bool, counting: bool) -> Iterator[tuple[Figure, float]]:
    """Yield each figure with the factor by which it may miss its bound."""
    groups = [name for name in names if name in GROUPS]
    slack = SLACK if short else 1.0

    if counting and groups:
        for figure in count_groups(groups):
            yield figure, GROWTH
    else:
        for name in groups:
            for figure in time_group(name, short=short):
                yield figure, slack

    for name in names:
        if name in STANDALONE:
            for figure in STANDALONE[name]():
                yield figure, slack


def count_groups(names: list[str]) -> list[Figure]:
    """Return the figures of groups by instructions; their bounds are the recorded counts."""
    # These rows only lend names and numbers of calls. Callgrind makes its own in another process.
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        rows = rows_of_groups(names, Path(folder), stack)

    figures = count_instructions(rows, [sys.executable, __file__, "--marked", *names])

    counts: dict[str, float] = {}
    if COUNTS.exists():
        counts = json.loads(COUNTS.read_text())
    return [figure._replace(bound=counts.get(figure.name, figure.bound)) for figure in figures]


def time_group(name: str, *, short: bool) -> list[Figure]:
    """Return the figures of a group by time."""
    rounds = GROUPS[name].rounds
    if short:
        rounds = max(10, rounds // 10)

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        return measure_time(rows_of(name, Path(folder), stack, short=short), rounds)


def is_long(name: str) -> bool:
    """Return True if short runs leave the group out."""
    return name in GROUPS and GROUPS[name].long


def rows_of(name: str, folder: Path, stack: ExitStack, *, short: bool) -> list[Row]:
    """Return the rows of a group; a short run has no rows of other packages."""
    group = GROUPS[name]
    own = folder / name
    own.mkdir()

    rows = group.rows(own, stack)
    if short or group.peers is None:
        return rows

    # The first row of the peers is the floor, which the group has already.
    return rows + group.peers(own, stack)[1:]


def rows_of_groups(names: list[str], folder: Path, stack: ExitStack) -> list[Row]:
    """Return the rows of several groups, without other packages."""
    return [row for name in names for row in rows_of(name, folder, stack, short=True)]


def run_marked(names: list[str]) -> None:
    """Run the rows of groups under callgrind; see :func:`measure.count_instructions`."""
    # Callgrind counts the work of every thread and makes a run many times longer. Work that
    # recurs by the clock would be counted at random, so it is put off.
    database.LOOK_EVERY = 3_600.0
    usage.EVERY = 3_600.0

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        run_between_marks(rows_of_groups(names, Path(folder), stack))


def record(figures: list[Figure]) -> None:
    """Write the instructions of figures to ``counts.json``, save those of the floors."""
    counts = {
        figure.name: round(figure.value, 3)
        for figure in figures
        if figure.unit.startswith("×") or figure.bound is not None
    }
    COUNTS.write_text(json.dumps(counts, indent=2, ensure_ascii=False) + "\n")


def show(figure: Figure, slack: float) -> None:
    """Print one line of the table."""
    line = f"{figure.name:42} {figure.value:9.2f} {figure.unit:24}"

    if figure.bound is not None:
        if figure.least:
            limit = f" at least {figure.bound / slack:7.2f}"
        else:
            limit = f"  at most {figure.bound * slack:7.2f}"
        verdict = "ok" if figure.holds(slack) else "MISSED"
        line += f" {limit}  {verdict}"

    print(line.rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
