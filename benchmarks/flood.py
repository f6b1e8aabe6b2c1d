"""What refusals cost in front of an application, and how far a flood of them makes an event loop lag.

The middleware over a SQLite file, without a socket, and without a log, as where nobody has set it to INFO. The floor
of an unknown credential is its SHA-256 and the bare look-up. Each kind runs in turns with the others in one process,
and the medians count. The lag is that of a task which sleeps a millisecond at a time, beside 6,000 new unknown
credentials a second and without them; a machine with other work adds its own to it.
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
CALLS = 1_000
RATE = 6_000
SECONDS = 4.0


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
        good = gate.tokens.create(name="bench", scopes=["docs:read"]).secret
        guarded = GateMiddleware(app, gate=gate, rules={"/": "docs:read"})
        for name, seconds, ratio in measure(guarded, good, file):
            print(f"{name:20} {seconds * 1e6:7.1f} µs  {ratio:5.2f} times a hit")
        for name, rate in (("quiet", 0), ("flooded", RATE)):
            lags = sorted(asyncio.run(lag(guarded, good, rate)))
            shown = ", ".join(
                f"p{part} {lags[int((len(lags) - 1) * part / 100)] * 1e3:.2f}"
                for part in (50, 99, 100)
            )
            print(f"lag of a loop, {name}: {shown} ms")
        gate.close()
    return 0


def measure(guarded: GateMiddleware, good: str, file: Path) -> list[tuple[str, float, float]]:
    """Return the seconds of a request of each kind, and the median of their ratios to a hit."""
    found: dict[str, list[float]] = {}
    repeated = mint("fg", "tok")
    for _ in range(ROUNDS):
        new = [mint("fg", "tok") for _ in range(CALLS)]
        kinds: dict[str, Sequence[str | None]] = {
            "hit": [good] * CALLS,
            "unknown, new": new,
            "unknown, repeated": [repeated] * CALLS,
            "wrong checksum": [f"{text[:-6]}000000" for text in new],
            "another brand": [f"x{text}" for text in new],
            "none": [None] * CALLS,
        }
        for name, secrets in kinds.items():
            found.setdefault(name, []).append(asyncio.run(answer(guarded, secrets)) / CALLS)
        found.setdefault("SHA-256 and SELECT", []).append(floor(file, new) / CALLS)
    hits = found["hit"]
    return [
        (name, median(times), median(one / hit for one, hit in zip(times, hits, strict=True)))
        for name, times in found.items()
    ]


def floor(file: Path, secrets: Sequence[str]) -> float:
    """Return the seconds that the least look-ups take."""
    connection = sqlite3.connect(file)
    begun = time.perf_counter()
    for secret in secrets:
        digest = sha256(secret.encode()).digest()
        connection.execute(
            "SELECT token_id FROM faregate_secrets WHERE digest = ?", (digest,)
        ).fetchall()
    taken = time.perf_counter() - begun
    connection.close()
    return taken


async def answer(guarded: GateMiddleware, secrets: Sequence[str | None]) -> float:
    """Send a request with each of the credentials; return the seconds that took."""
    scopes = [scope(secret) for secret in secrets]
    begun = time.perf_counter()
    for one in scopes:
        await guarded(one, receive, send)
    return time.perf_counter() - begun


async def lag(guarded: GateMiddleware, good: str, rate: int) -> list[float]:
    """Return by how many seconds each millisecond of sleep was too long, beside so many unknown credentials a second.

    They come as from connections of their own: what is due is begun at once, each in its task.
    """
    lags: list[float] = []
    ends = time.perf_counter() + SECONDS
    waiting = [scope(mint("fg", "tok")) for _ in range(int(rate * SECONDS))]
    running: set[asyncio.Task[None]] = set()

    async def flood() -> None:
        begun = time.perf_counter()
        sent = 0
        while waiting and time.perf_counter() < ends:
            due = min(int((time.perf_counter() - begun) * rate) - sent, len(waiting))
            for _ in range(due):
                task = asyncio.create_task(guarded(waiting.pop(), receive, send))
                running.add(task)
                task.add_done_callback(running.discard)
            sent += due
            if sent % 100 == 0:
                await guarded(scope(good), receive, send)
            await asyncio.sleep(0)

    beside = asyncio.create_task(flood())
    while time.perf_counter() < ends:
        begun = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append(time.perf_counter() - begun - 0.001)
    await beside
    return lags


def scope(secret: str | None) -> dict[str, Any]:
    """Return the scope of a request with this credential."""
    headers = [(b"host", b"localhost"), (b"accept", b"*/*")]
    if secret is not None:
        headers.append((b"authorization", f"Bearer {secret}".encode()))
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
    """Take what is answered."""
    del message


if __name__ == "__main__":
    sys.exit(main())
