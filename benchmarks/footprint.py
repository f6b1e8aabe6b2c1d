"""Measures other resources than the time of a call: memory, import time, concurrent threads."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
import tracemalloc
from contextlib import closing
from threading import Barrier, Thread
from typing import TYPE_CHECKING

from measure import Figure
from verification import ADDRESS, DAY, floor, hit

from faregate import Gate, Org, Owner

if TYPE_CHECKING:
    from measure import Calls

ENTRIES = 5_000  # tokens in memory
STARTS = 25  # starts of Python for each statement
THREADS = 4
TURN = 0.3  # seconds that threads run


def memory() -> list[Figure]:
    """Return the bytes of a cached token, plain and with its own owner and organization."""
    plain = _cached_bytes(owned=False)
    owned = _cached_bytes(owned=True)
    return [
        Figure("token at hand, plain", plain, "bytes", 900.0),
        Figure("token at hand, owner and organization", owned, "bytes", 1_000.0),
    ]


def _cached_bytes(*, owned: bool) -> float:
    """Return the bytes that a gate keeps for each token it has verified."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Gate(f"sqlite:///{folder}/gate.db")) as gate,
    ):
        credentials = [_token(gate, number, owned=owned) for number in range(ENTRIES)]

        # The first call also fills caches that all tokens share.
        gate.verify(credentials[0])

        gc.collect()
        tracemalloc.start()
        for credential in credentials[1:]:
            gate.verify(credential)
        gate.flush()

        gc.collect()
        allocated = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()

    return allocated / (ENTRIES - 1)


def _token(gate: Gate, number: int, *, owned: bool) -> str:
    owner = Owner()
    org = Org()
    if owned:
        owner = Owner(f"user{number}", "Alice")
        org = Org(f"org{number}", "Acme")

    return gate.tokens.create(name="bench", scopes=["docs:read"], owner=owner, org=org).secret


def start() -> list[Figure]:
    """Return the time of ``import faregate``, as a multiple of the start of a bare Python."""
    fastest = dict.fromkeys(("pass", "import msgspec", "import faregate"), float("inf"))

    for _ in range(STARTS):
        for statement, seconds in fastest.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603  statements from above
            fastest[statement] = min(seconds, time.perf_counter() - begun)

    bare = fastest["pass"]
    return [
        Figure("start of Python", bare * 1e3, "ms"),
        Figure("import msgspec", fastest["import msgspec"] / bare, "× start"),
        Figure("import faregate", fastest["import faregate"] / bare, "× start", 8.0),
    ]


def threads() -> list[Figure]:
    """Return the speedup of four threads over a single thread, and its ratio to the floor's."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Gate(f"sqlite:///{folder}/gate.db")) as gate,
    ):
        credentials = [
            gate.tokens.create(name="bench", scopes=["docs:read"], expires_in=DAY).secret
            for _ in range(THREADS)
        ]

        # The first verification of each token is a miss.
        for credential in credentials:
            gate.verify(credential, address=ADDRESS)

        hits = _speedup([hit(gate, credential) for credential in credentials])
        floors = _speedup([floor(credential) for credential in credentials])

    return [
        Figure("four threads, F", floors, "× one thread"),
        Figure("four threads, hits", hits / floors, "× what F keeps", 0.8, least=True),
    ]


def _speedup(calls: list[Calls]) -> float:
    """Return the rate of all threads together, as a multiple of the rate of the first alone."""
    alone: list[float] = []
    together: list[float] = []
    for _ in range(7):
        alone.append(_rate(calls[:1]))
        together.append(_rate(calls))

    return max(together) / max(alone)


def _rate(calls: list[Calls]) -> float:
    """Return the calls a second that threads make together, each with its own function."""
    counts = [0] * len(calls)
    barrier = Barrier(len(calls) + 1)

    def run(index: int) -> None:
        barrier.wait()
        end = time.perf_counter() + TURN
        while time.perf_counter() < end:
            calls[index](200)
            counts[index] += 200

    workers = [Thread(target=run, args=(index,)) for index in range(len(calls))]
    for worker in workers:
        worker.start()

    barrier.wait()
    begun = time.perf_counter()
    for worker in workers:
        worker.join()

    return sum(counts) / (time.perf_counter() - begun)
