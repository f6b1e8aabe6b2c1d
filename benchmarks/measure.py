"""Measures the rows of the benchmark.

A row is a function that makes a given number of calls. It is compared with its floor, another row
of the same group.

By time, all rows run in turns, in many short slices whose order rotates. The fastest slice of each
row counts, because other work on the machine makes a slice slower and never faster. On a machine
that is too busy for that, instructions are counted instead.
"""

from __future__ import annotations

import gc
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# Makes the given number of calls.
Calls = Callable[[int], object]


class Row(NamedTuple):
    """A cost to measure.

    - ``floor`` names the row that this row is compared with, if any.
    - ``bound`` is the highest multiple of the floor that passes; None only shows the figure.
    - ``number`` is the number of calls in a slice.
    - ``prepare`` is called before each slice, unmeasured.
    - ``peer`` marks another package that does the same job.
    """

    name: str
    calls: Calls
    floor: str | None = None
    bound: float | None = None
    number: int = 20
    prepare: Callable[[], object] | None = None
    peer: bool = False


class Figure(NamedTuple):
    """A line of the table: ``value`` in ``unit``.

    ``bound`` is the highest value that passes, or with ``least`` the lowest. ``peer`` marks another
    package.
    """

    name: str
    value: float
    unit: str
    bound: float | None = None
    least: bool = False
    peer: bool = False

    def holds(self, slack: float = 1.0) -> bool:
        """Return True if the value is within the bound, loosened by the factor ``slack``."""
        if self.bound is None:
            return True
        if self.least:
            return self.value >= self.bound / slack
        return self.value <= self.bound * slack


def measure_time(rows: list[Row], rounds: int) -> list[Figure]:
    """Return rows as multiples of their floors, by time; rows without a floor in microseconds."""
    # The first calls fill caches.
    for row in rows:
        _slice(row)

    fastest = [float("inf")] * len(rows)
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            for index in range(len(rows)):
                turn = (index + number) % len(rows)
                fastest[turn] = min(fastest[turn], _slice(rows[turn]))
    finally:
        gc.enable()

    return _figures(rows, [seconds * 1e6 for seconds in fastest], "µs")


def count_instructions(rows: list[Row], command: list[str]) -> list[Figure]:
    """Return rows as multiples of their floors, by instructions; a busy machine has the same.

    ``command`` starts a program that calls :func:`run_between_marks` with the same rows.
    """
    # Without a fixed seed, hashes and the work of dictionaries differ from run to run.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}

    with tempfile.TemporaryDirectory() as folder:
        options = [
            "--quiet",
            "--tool=callgrind",
            "--dump-before=getppid",
            f"--callgrind-out-file={folder}/out",
        ]
        subprocess.run(["valgrind", *options, *command], check=True, env=environment)  # noqa: S603, S607  a command of our own

        dumps = sorted(Path(folder).glob("out.*"), key=lambda dump: int(dump.suffix[1:]))
        totals = [_total(dump) for dump in dumps]

    # A dump ends at each mark. Every other dump is the work between two rows.
    costs = [total / row.number for total, row in zip(totals[1::2], rows, strict=True)]
    return _figures(rows, costs, "instructions")


def run_between_marks(rows: list[Row]) -> None:
    """Run a slice of each row between two marks; see :func:`count_instructions`.

    A mark is a call of ``getppid``, at which callgrind writes its count and begins a new one.
    """
    for row in rows:
        _slice(row)

    gc.disable()
    for row in rows:
        if row.prepare is not None:
            row.prepare()
        os.getppid()
        row.calls(row.number)
        os.getppid()


def _slice(row: Row) -> float:
    """Return the seconds of a call, as the mean of a slice."""
    if row.prepare is not None:
        row.prepare()

    start = time.perf_counter()
    row.calls(row.number)
    return (time.perf_counter() - start) / row.number


def _total(dump: Path) -> int:
    """Return the instructions that a dump of callgrind counts."""
    return int(re.findall(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)[0])


def _figures(rows: list[Row], costs: list[float], unit: str) -> list[Figure]:
    cost_by_name = {row.name: cost for row, cost in zip(rows, costs, strict=True)}
    figures: list[Figure] = []

    for row in rows:
        cost = cost_by_name[row.name]
        figure = Figure(row.name, cost, unit, row.bound, peer=row.peer)
        if row.floor is not None:
            figure = figure._replace(value=cost / cost_by_name[row.floor], unit=f"× {row.floor}")
        figures.append(figure)

    return figures
