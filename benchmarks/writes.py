"""Measures management calls on a SQLite file, as multiples of a durable INSERT.

The floor is a bare connection that inserts a row like that of a token and commits it, on the same
disk and with the same durability.
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

CALLS = 12  # in a slice
LISTED = 100  # tokens on a page
HOUR = 3_600.0  # seconds
DAY = 86_400.0  # seconds

FLOOR = "durable INSERT"

# The cost of each call before its statements were made once, in durable INSERTs. The bound is half
# of it. Without an actor, root calls, which no look-up precedes; a token is looked up in each call.
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

    floor = Row(FLOOR, repeated(floor_call(bare)), number=CALLS)
    changes = [
        Row(name, repeated(call), FLOOR, BEFORE[name] / 2, CALLS)
        for name, call in calls(gate).items()
    ]
    return [floor, *changes]


def lists(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the row of a page of tokens with its total; the cost is that of a single token."""
    gate = stack.enter_context(closing(Gate(f"sqlite:///{folder / 'lists.db'}")))
    for number in range(LISTED):
        gate.tokens.create(
            name=f"token {number}", scopes=["docs:read", "docs:write"], expires_in=DAY
        )

    def page(number: int) -> None:
        for _ in range(number // LISTED):
            gate.tokens.list(limit=LISTED)

    return [Row("tokens.list of 100, a token", page, bound=20.0, number=LISTED)]


def repeated(call: Call) -> Calls:
    """Return a function that makes the call a given number of times."""

    def calls(number: int) -> None:
        for _ in range(number):
            call()

    return calls


def calls(gate: Gate) -> dict[str, Call]:
    """Return a repeatable call of each kind, by root and by a token."""
    maker = gate.tokens.create(name="maker", scopes=["gate:*", "docs:*"])
    by = gate.verify(maker.secret)

    # Root and the token change the same token, which the token has made.
    target = gate.tokens.create(name="changed", scopes=["docs:read"], expires_in=DAY, by=by)

    by_root = _calls_by(gate, None, target.token.id)
    by_token = _calls_by(gate, by, target.token.id)
    return {
        **by_root,
        **{f"{name} by a token": call for name, call in by_token.items()},
        "tokens.exchange": _exchange(gate),
    }


def _calls_by(gate: Gate, by: Principal | None, token_id: str) -> dict[str, Call]:
    return {
        "tokens.create": _create(gate, by),
        "shares.create": _share(gate, by),
        "tokens.update": _update(gate, token_id, by),
        "tokens.rotate": _rotate(gate, token_id, by),
        "shares.redeem": _redeem(gate, by),
    }


def _create(gate: Gate, by: Principal | None) -> Call:
    return lambda: gate.tokens.create(
        name="bench", scopes=["docs:read", "docs:write"], expires_in=HOUR, by=by
    )


def _share(gate: Gate, by: Principal | None) -> Call:
    return lambda: gate.shares.create(
        "doc-1", ["doc-2"], scopes=["docs:read"], expires_in=HOUR, by=by
    )


def _update(gate: Gate, token_id: str, by: Principal | None) -> Call:
    numbers = count()
    return lambda: gate.tokens.update(token_id, description=f"change {next(numbers)}", by=by)


def _rotate(gate: Gate, token_id: str, by: Principal | None) -> Call:
    return lambda: gate.tokens.rotate(token_id, by=by)


def _redeem(gate: Gate, by: Principal | None) -> Call:
    """Return the redemption of a share: by its maker, or for root with the secret."""
    issued = gate.shares.create("doc-1", ["doc-2"], scopes=["docs:read"], expires_in=DAY, by=by)
    secret = issued.secret if by is None else None
    return lambda: gate.shares.redeem(issued.share.id, secret=secret, by=by)


def _exchange(gate: Gate) -> Call:
    """Return the exchange of a refresh token's current credential, which makes the next."""
    family = gate.tokens.create(name="family", type="REFRESH", scopes=["docs:read", "docs:write"])
    current = [family.secret]

    def exchange() -> None:
        exchanged = gate.tokens.exchange(current.pop())
        current.append(exchanged.refresh_token or "")

    return exchange


def floor_connection(folder: Path) -> sqlite3.Connection:
    """Return a connection to a database with a single row, in a table like that of tokens."""
    with closing(Gate(f"sqlite:///{folder / 'model.db'}")) as gate:
        gate.tokens.create(name="bench", scopes=["docs:read", "docs:write"], expires_in=HOUR)

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
    """Return the insertion of a row, in a transaction of its own."""
    row = bare.execute("SELECT * FROM faregate_tokens").fetchone()
    marks = ", ".join("?" * len(row))
    statement = f"INSERT INTO faregate_tokens VALUES ({marks})"  # noqa: S608  marks alone
    numbers = count()
    return lambda: bare.execute(statement, (f"{next(numbers):036}", *row[1:]))
