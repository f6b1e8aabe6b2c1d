"""What a management call costs on a SQLite file, as a multiple of one durable INSERT.

The floor is a bare connection that inserts a row like a token's and commits it, on the same disk and as durably. All
run in turns, in an order that moves on with each round, and the fastest of the slices counts. A store grows with each
call, so every round begins with a new one. A page of tokens is told in microseconds for each of them.
Exits 1 if one is above its bound.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

from faregate import Gate, Principal

ROUNDS = 15
CALLS = 12
LISTED = 100
FLOOR = "one durable INSERT"
LIST = "tokens.list"
# What each cost when this was written, in durable INSERTs; the bound is half of it. Root is looked up nowhere, a token
# in each call.
BEFORE = {
    "tokens.create": 17.4,
    "shares.create": 14.6,
    "tokens.update": 15.5,
    "tokens.rotate": 28.6,
    "shares.redeem": 22.9,
    "tokens.create by a token": 22.7,
    "shares.create by a token": 19.9,
    "tokens.update by a token": 22.9,
    "tokens.rotate by a token": 41.1,
    "shares.redeem by a token": 33.4,
    "tokens.exchange": 32.3,
}
LIST_BEFORE = 83.1  # microseconds a token
LIST_BOUND = 20.0  # microseconds a token

Call = Callable[[], object]


def main() -> int:
    """Print the figures and return the exit code."""
    fastest = measure(ROUNDS)
    floor = fastest.pop(FLOOR)
    listed = fastest.pop(LIST) / LISTED * 1e6
    print(f"{FLOOR}: {floor * 1e6:.0f} µs")

    missed = listed > LIST_BOUND
    for name, seconds in fastest.items():
        ratio, before = seconds / floor, BEFORE[name]
        missed |= ratio > before / 2
        print(f"{name:26} {ratio:5.1f} INSERTs, before {before:.1f}, bound {before / 2:.1f}")
    print(f"{LIST:26} {listed:5.1f} µs a token, before {LIST_BEFORE:.1f}, bound {LIST_BOUND:.1f}")
    return 1 if missed else 0


def measure(rounds: int) -> dict[str, float]:
    """Return the fewest seconds that each call took, and the floor."""
    fastest: dict[str, float] = {}
    for turn in range(rounds):
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(floor_connection(Path(folder))) as bare,
            closing(Gate(f"sqlite:///{Path(folder) / 'gate.db'}")) as gate,
        ):
            timed = {FLOOR: floor_call(bare), **calls(gate)}
            names = [*timed]
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                seconds = slice_of(timed[name])
                fastest[name] = min(seconds, fastest.get(name, seconds))
    return fastest


def slice_of(call: Call) -> float:
    """Return the seconds of one call, as the mean of a few in a row."""
    call()
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


def calls(gate: Gate) -> dict[str, Call]:
    """Return one call of each kind, which can be made again and again, in a store with a page of tokens."""
    for number in range(LISTED):
        gate.tokens.create(name=f"token {number}", scopes=["docs:read", "docs:write"], expires_in=86_400.0)

    maker = gate.tokens.create(name="maker", scopes=["gate:*", "docs:*"])
    by = gate.verify(maker.secret)
    changed = gate.tokens.create(name="changed", scopes=["docs:read"], expires_in=86_400.0, by=by)
    return {
        **{
            f"{name}{whose}": call
            for actor, whose in ((None, ""), (by, " by a token"))
            for name, call in {
                "tokens.create": _create(gate, actor),
                "shares.create": _share(gate, actor),
                "tokens.update": _update(gate, changed.token.id, actor),
                "tokens.rotate": _rotate(gate, changed.token.id, actor),
                "shares.redeem": _redeem(gate, actor),
            }.items()
        },
        "tokens.exchange": _exchange(gate),
        LIST: lambda: gate.tokens.list(limit=LISTED),
    }


def _create(gate: Gate, by: Principal | None) -> Call:
    return lambda: gate.tokens.create(name="bench", scopes=["docs:read", "docs:write"], expires_in=3600.0, by=by)


def _share(gate: Gate, by: Principal | None) -> Call:
    return lambda: gate.shares.create("doc-1", ["doc-2"], scopes=["docs:read"], expires_in=3600.0, by=by)


def _update(gate: Gate, token_id: str, by: Principal | None) -> Call:
    numbers = count()
    return lambda: gate.tokens.update(token_id, description=f"change {next(numbers)}", by=by)


def _rotate(gate: Gate, token_id: str, by: Principal | None) -> Call:
    return lambda: gate.tokens.rotate(token_id, by=by)


def _redeem(gate: Gate, by: Principal | None) -> Call:
    """Return the redemption of a share by its maker, or, where that is root, by the secret."""
    issued = gate.shares.create("doc-1", ["doc-2"], scopes=["docs:read"], expires_in=86_400.0, by=by)
    secret = issued.secret if by is None else None
    return lambda: gate.shares.redeem(issued.share.id, secret=secret, by=by)


def _exchange(gate: Gate) -> Call:
    """Return the exchange of a family's current credential, each of which makes the next one."""
    family = gate.tokens.create(name="family", type="REFRESH", scopes=["docs:read", "docs:write"])
    current = [family.secret]

    def exchange() -> None:
        exchanged = gate.tokens.exchange(current.pop())
        current.append(exchanged.refresh_token or "")

    return exchange


def floor_connection(folder: Path) -> sqlite3.Connection:
    """Return a bare connection to a database of its own, which holds a token's table, with one row in it."""
    with closing(Gate(f"sqlite:///{folder / 'model.db'}")) as gate:
        gate.tokens.create(name="bench", scopes=["docs:read", "docs:write"], expires_in=3600.0)

    bare = sqlite3.connect(folder / "bare.db", isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("PRAGMA synchronous = FULL")
    bare.execute("ATTACH ? AS model", (str(folder / "model.db"),))
    (definition,) = bare.execute("SELECT sql FROM model.sqlite_master WHERE name = 'faregate_tokens'").fetchone()
    bare.execute(definition)
    bare.execute("INSERT INTO main.faregate_tokens SELECT * FROM model.faregate_tokens")
    bare.execute("DETACH model")
    return bare


def floor_call(bare: sqlite3.Connection) -> Call:
    """Return the insertion of one row, committed by itself."""
    row = bare.execute("SELECT * FROM faregate_tokens").fetchone()
    statement = f"INSERT INTO faregate_tokens VALUES ({', '.join('?' * len(row))})"  # noqa: S608  marks alone
    numbers = count()
    return lambda: bare.execute(statement, (f"{next(numbers):036}", *row[1:]))


if __name__ == "__main__":
    sys.exit(main())
