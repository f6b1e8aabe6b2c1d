"""How the rows of the benchmark are measured, and how they are shown.

A row is a function that makes so many calls. It is compared with its floor, another row of the same group. Both run in
turns, in many short slices whose order rotates, and the fastest slice of each counts: other work on a machine makes a
slice slower and never faster.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Calls = Callable[[int], object]
Prepare = Callable[[], object]


class Row(NamedTuple):
    """So many calls in a slice, compared with the row named ``floor``; ``bound`` None only shows the figure.

    ``prepare`` is called before each slice, unmeasured.
    """

    name: str
    calls: Calls
    floor: str | None = None
    bound: float | None = None
    number: int = 200
    prepare: Prepare | None = None
    peer: bool = False


class Figure(NamedTuple):
    """One line of the table: ``value`` in ``unit``, and what it may be at most, or at ``least``."""

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
    """Return the rows as multiples of their floors, by time."""
    for row in rows:
        _slice(row)
    fastest = [float("inf")] * len(rows)
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            for index in range(len(rows)):
                at = (index + number) % len(rows)
                fastest[at] = min(fastest[at], _slice(rows[at]))
    finally:
        gc.enable()
    return _figures(rows, fastest, 1e6, "µs")


def marked(rows: list[Row]) -> None:
    """Run each row once between two marks that callgrind notices; see :func:`counted`."""
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
    """Return the rows as multiples of their floors, by the instructions that ``command`` takes for them.

    ``command`` has these same rows :func:`marked`. Callgrind counts anew at each mark, a call of ``getppid``.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={folder}/out"]
        subprocess.run(["valgrind", "--quiet", *options, *command], check=True)
        dumps = sorted(Path(folder).glob("out.*"), key=lambda dump: int(dump.suffix[1:]))
        totals = [int(re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)[1]) for dump in dumps]
    # Even ones are between rows.
    costs = [total / row.number for total, row in zip(totals[1::2], rows, strict=True)]
    return _figures(rows, costs, 1.0, "instructions")


def _slice(row: Row) -> float:
    if row.prepare is not None:
        row.prepare()
    begun = time.perf_counter()
    row.calls(row.number)
    return (time.perf_counter() - begun) / row.number


def _figures(rows: list[Row], costs: list[float], factor: float, unit: str) -> list[Figure]:
    cost = {row.name: value for row, value in zip(rows, costs, strict=True)}
    figures: list[Figure] = []
    for row in rows:
        if row.floor is None:
            figures.append(Figure(row.name, cost[row.name] * factor, unit))
        else:
            figures.append(Figure(row.name, cost[row.name] / cost[row.floor], f"× {row.floor}", row.bound, peer=row.peer))
    return figures
