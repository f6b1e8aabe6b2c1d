"""How the rows of the benchmark are measured.

A row is a function that makes so many calls. It is compared with its floor, another row of the same group. Both run in
turns, in many short slices whose order rotates, and the fastest slice of each counts: other work on a machine makes a
slice slower, and never faster. Where a machine is too busy for that, instructions are counted instead of time.
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

Calls = Callable[[int], object]


class Row(NamedTuple):
    """So many calls in a slice, compared with the row named ``floor``; a ``bound`` of None only shows the figure.

    ``prepare`` is called before each slice, unmeasured. A ``peer`` is another package that does the same.
    """

    name: str
    calls: Calls
    floor: str | None = None
    bound: float | None = None
    number: int = 20
    prepare: Callable[[], object] | None = None
    peer: bool = False


class Figure(NamedTuple):
    """One line of the table: ``value`` in ``unit``, and the ``bound`` that it may reach at most, or at ``least``."""

    name: str
    value: float
    unit: str
    bound: float | None = None
    least: bool = False
    peer: bool = False

    def holds(self, slack: float = 1.0) -> bool:
        """Tell whether the bound is kept, times ``slack``."""
        if self.bound is None:
            return True
        return self.value >= self.bound / slack if self.least else self.value <= self.bound * slack


def timed(rows: list[Row], rounds: int) -> list[Figure]:
    """Return the rows as multiples of their floors, by time; those without a floor in microseconds."""
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


def marked(rows: list[Row]) -> None:
    """Run a slice of each row between two marks that callgrind notices; see :func:`counted`."""
    for row in rows:
        _slice(row)
    gc.disable()
    for row in rows:
        if row.prepare is not None:
            row.prepare()
        os.getppid()
        row.calls(row.number)
        os.getppid()


def counted(rows: list[Row], command: list[str]) -> list[Figure]:
    """Return the rows as multiples of their floors, by instructions, which are the same on a busy machine.

    ``command`` has these same rows :func:`marked`. Callgrind begins to count anew at each mark, a call of ``getppid``.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = [
            "--quiet",
            "--tool=callgrind",
            "--dump-before=getppid",
            f"--callgrind-out-file={folder}/out",
        ]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        subprocess.run(["valgrind", *options, *command], check=True, env=environment)  # noqa: S603, S607  a command of our own
        dumps = sorted(Path(folder).glob("out.*"), key=lambda dump: int(dump.suffix[1:]))
        totals = [
            int(re.findall(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)[0]) for dump in dumps
        ]
    # Every other dump is what lies between two rows.
    costs = [total / row.number for total, row in zip(totals[1::2], rows, strict=True)]
    return _figures(rows, costs, "instructions")


def _slice(row: Row) -> float:
    """Return the seconds of a call, as the mean of a slice."""
    if row.prepare is not None:
        row.prepare()
    begun = time.perf_counter()
    row.calls(row.number)
    return (time.perf_counter() - begun) / row.number


def _figures(rows: list[Row], costs: list[float], unit: str) -> list[Figure]:
    cost = {row.name: value for row, value in zip(rows, costs, strict=True)}
    figures: list[Figure] = []
    for row in rows:
        value, measured_in = cost[row.name], unit
        if row.floor is not None:
            value, measured_in = value / cost[row.floor], f"× {row.floor}"
        figures.append(Figure(row.name, value, measured_in, row.bound, peer=row.peer))
    return figures
