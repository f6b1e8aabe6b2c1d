"""What a management call costs on a SQLite file, as a multiple of one durable INSERT.

The floor is a bare connection that inserts a row like a token's and commits it, on the same disk and as durably.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from itertools import count
from typing import TYPE_CHECKING

from measure import Calls, Row

from faregate import Gate, Principal

if TYPE_CHECKING:
    from pathlib import Path

CALLS = 12
LISTED = 100
FLOOR = "durable INSERT"
# What each cost before its statements were made once, in durable INSERTs; the bound is half of it. Root is looked up
# nowhere, a token in each call.
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

Call = Callable[[], object]


def rows(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the rows of calls that change a store."""
    bare = stack.enter_context(closing(floor_connection(folder)))
    gate = stack.enter_context(closing(Gate(f"sqlite:///{folder / 'writes.db'}")))
    made = [
        Row(name, repeated(call), FLOOR, BEFORE[name] / 2, CALLS)
        for name, call in calls(gate).items()
    ]
    return [Row(FLOOR, repeated(floor_call(bare)), number=CALLS), *made]


def lists(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the row of a page of tokens with its total; the token is what counts."""
    gate = stack.enter_context(closing(Gate(f"sqlite:///{folder / 'lists.db'}")))
    for number in range(LISTED):
        gate.tokens.create(
            name=f"token {number}", scopes=["docs:read", "docs:write"], expires_in=86_400.0
        )

    def page(number: int) -> None:
        for _ in range(number // LISTED):
            gate.tokens.list(limit=LISTED)

    return [Row("tokens.list of 100, a token", page, bound=20.0, number=LISTED)]


def repeated(call: Call) -> Calls:
    """Return a call that is made so many times."""

    def calls(number: int) -> None:
        for _ in range(number):
            call()

    return calls


def calls(gate: Gate) -> dict[str, Call]:
    """Return one call of each kind, which can be made again and again."""
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
    }


def _create(gate: Gate, by: Principal | None) -> Call:
    return lambda: gate.tokens.create(
        name="bench", scopes=["docs:read", "docs:write"], expires_in=3600.0, by=by
    )


def _share(gate: Gate, by: Principal | None) -> Call:
    return lambda: gate.shares.create(
        "doc-1", ["doc-2"], scopes=["docs:read"], expires_in=3600.0, by=by
    )


def _update(gate: Gate, token_id: str, by: Principal | None) -> Call:
    numbers = count()
    return lambda: gate.tokens.update(token_id, description=f"change {next(numbers)}", by=by)


def _rotate(gate: Gate, token_id: str, by: Principal | None) -> Call:
    return lambda: gate.tokens.rotate(token_id, by=by)


def _redeem(gate: Gate, by: Principal | None) -> Call:
    """Return the redemption of a share by its maker, or, where that is root, by the secret."""
    issued = gate.shares.create(
        "doc-1", ["doc-2"], scopes=["docs:read"], expires_in=86_400.0, by=by
    )
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
    (definition,) = bare.execute(
        "SELECT sql FROM model.sqlite_master WHERE name = 'faregate_tokens'"
    ).fetchone()
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
