"""Measures refusals in front of an ASGI application, and the lag of an event loop under a flood.

The middleware runs over a SQLite file, without a socket. Logging is off, as in an application that
has not set it to INFO.

- Refusals: each kind of request runs in turns with the others, and the medians count. The floor of
  an unknown credential is its SHA-256 and the bare look-up.
- Lag: the delay of a task that sleeps for a millisecond at a time, alone and beside 6,000 new
  unknown credentials a second. Other work on the machine adds its own lag.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from faregate import Gate
from faregate.credentials.opaque import mint
from faregate_asgi import GateMiddleware

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 15
CALLS = 1_000  # requests of a kind in each round
RATE = 6_000  # unknown credentials a second
SECONDS = 4.0  # length of a flood


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with a few bytes."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def main() -> int:
    """Print the figures."""
    logging.getLogger("faregate").setLevel(logging.WARNING)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gate.db"
        gate = Gate(f"sqlite:///{file}")
        valid = gate.tokens.create(name="bench", scopes=["docs:read"]).secret
        guarded = GateMiddleware(app, gate=gate, rules={"/": "docs:read"})

        for name, seconds, ratio in measure(guarded, valid, file):
            print(f"{name:20} {seconds * 1e6:7.1f} µs  {ratio:5.2f} times a hit")

        for name, rate in (("quiet", 0), ("flooded", RATE)):
            lags = asyncio.run(lag(guarded, valid, rate))
            print(f"lag of a loop, {name}: {percentiles(lags)} ms")

        gate.close()
    return 0


def measure(guarded: GateMiddleware, valid: str, file: Path) -> list[tuple[str, float, float]]:
    """Return each kind of request, its seconds, and its ratio to a hit; both are medians."""
    seconds: dict[str, list[float]] = {}
    repeated = mint("fg", "tok")

    for _ in range(ROUNDS):
        unknown = [mint("fg", "tok") for _ in range(CALLS)]
        kinds: dict[str, Sequence[str | None]] = {
            "hit": [valid] * CALLS,
            "unknown, new": unknown,
            "unknown, repeated": [repeated] * CALLS,
            "wrong checksum": [f"{credential[:-6]}000000" for credential in unknown],
            "another brand": [f"x{credential}" for credential in unknown],
            "none": [None] * CALLS,
        }
        for name, credentials in kinds.items():
            total = asyncio.run(answer(guarded, credentials))
            seconds.setdefault(name, []).append(total / CALLS)
        seconds.setdefault("SHA-256 and SELECT", []).append(floor(file, unknown) / CALLS)

    figures: list[tuple[str, float, float]] = []
    for name, times in seconds.items():
        ratios = [taken / hit for taken, hit in zip(times, seconds["hit"], strict=True)]
        figures.append((name, median(times), median(ratios)))
    return figures


def floor(file: Path, credentials: Sequence[str]) -> float:
    """Return the seconds of the least that looks up each credential."""
    connection = sqlite3.connect(file)

    start = time.perf_counter()
    for credential in credentials:
        digest = sha256(credential.encode()).digest()
        connection.execute(
            "SELECT token_id FROM faregate_secrets WHERE digest = ?", (digest,)
        ).fetchall()
    seconds = time.perf_counter() - start

    connection.close()
    return seconds


async def answer(guarded: GateMiddleware, credentials: Sequence[str | None]) -> float:
    """Send a request with each of the credentials; return the seconds of all together."""
    scopes = [scope_of(credential) for credential in credentials]

    start = time.perf_counter()
    for scope in scopes:
        await guarded(scope, receive, send)
    return time.perf_counter() - start


async def lag(guarded: GateMiddleware, valid: str, rate: int) -> list[float]:
    """Return the seconds by which each sleep of a millisecond was too long.

    ``rate`` is the number of new unknown credentials a second that arrive meanwhile. Each has a
    task of its own, as if it came over its own connection.
    """
    end = time.perf_counter() + SECONDS
    waiting = [scope_of(mint("fg", "tok")) for _ in range(int(rate * SECONDS))]
    running: set[asyncio.Task[None]] = set()

    async def flood() -> None:
        start = time.perf_counter()
        sent = 0
        while waiting and time.perf_counter() < end:
            due = min(int((time.perf_counter() - start) * rate) - sent, len(waiting))
            for _ in range(due):
                task = asyncio.create_task(guarded(waiting.pop(), receive, send))
                running.add(task)
                task.add_done_callback(running.discard)
            sent += due

            # Valid credentials arrive among the unknown ones.
            if sent % 100 == 0:
                await guarded(scope_of(valid), receive, send)
            await asyncio.sleep(0)

    lags: list[float] = []
    flooding = asyncio.create_task(flood())
    while time.perf_counter() < end:
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append(time.perf_counter() - start - 0.001)

    await flooding
    return lags


def percentiles(lags: list[float]) -> str:
    """Return the median, the 99th percentile and the maximum of seconds, in milliseconds."""
    ordered = sorted(lags)
    last = len(ordered) - 1
    return ", ".join(
        f"p{percent} {ordered[int(last * percent / 100)] * 1e3:.2f}" for percent in (50, 99, 100)
    )


def scope_of(credential: str | None) -> dict[str, Any]:
    """Return the ASGI scope of a request with a credential, or without any."""
    headers = [(b"host", b"localhost"), (b"accept", b"*/*")]
    if credential is not None:
        headers.append((b"authorization", f"Bearer {credential}".encode()))

    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }


async def receive() -> dict[str, Any]:
    """Return the end of an empty body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Any) -> None:
    """Discard a message of the response."""
    del message


if __name__ == "__main__":
    sys.exit(main())
