"""Fixtures of all tests: a clock that stands still, stores, and gates that are closed afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from faregate import Denied, Gate
from faregate.stores import sqlite

START = 1_000_000.0
# Multiplies the examples of properties; ``make fuzz`` sets it.
FUZZ = int(os.environ.get("FUZZ", "1"))

_first = create_engine("sqlite://")


def _like_the_first(*arguments: Any, **options: Any) -> Any:
    """Make an engine with the compiled statements of the first: tests make thousands of stores."""
    engine = create_engine(*arguments, **options)
    engine._compiled_cache = _first._compiled_cache
    return engine


# Compiled statements are cached by dialect; the dialects of all stores are alike.
setattr(SQLiteDialect_pysqlite, "__eq__", lambda self, other: type(self) is type(other))  # noqa: B010
setattr(SQLiteDialect_pysqlite, "__hash__", lambda self: hash(type(self)))  # noqa: B010
setattr(sqlite, "create_engine", _like_the_first)  # noqa: B010


class Clock:
    """A clock that stands still; tests set ``now``."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the instant."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock at 1,000,000."""
    return Clock()


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store; each test runs in memory and on a file."""
    return "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 'gate.db'}"


@pytest.fixture
def make_gate(clock: Clock) -> Iterator[Callable[..., Gate]]:
    """Return a function that makes gates; they are closed after the test."""
    gates: list[Gate] = []

    def make(store: str, **settings: object) -> Gate:
        gates.append(Gate(store, **{"clock": clock, **settings}))  # type: ignore[arg-type]
        return gates[-1]

    yield make
    for gate in gates:
        gate.close()


@pytest.fixture
def gate(make_gate: Callable[..., Gate], store: str) -> Gate:
    """A gate in memory and one on a file."""
    return make_gate(store)


def reason_of(call: Callable[..., object]) -> str:
    """Return the reason of the denial that a call raises, or ``ok``."""
    try:
        call()
    except Denied as denied:
        return denied.reason
    return "ok"
