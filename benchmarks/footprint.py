"""What the gate takes beside time: memory for what is at hand, a while at import, and the other threads' turns."""

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

ENTRIES = 5_000
STARTS = 25
THREADS = 4
TURN = 0.3


def memory() -> list[Figure]:
    """Return the bytes that a token at hand takes: its own, and with an owner and an organization of its own."""
    figures: list[Figure] = []
    for name, bound, parties in (
        ("plain", 900.0, False),
        ("owner and organization", 1_000.0, True),
    ):
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(Gate(f"sqlite:///{folder}/gate.db")) as gate,
        ):
            credentials = [_token(gate, number, parties=parties) for number in range(ENTRIES)]
            gate.verify(credentials[0])

            gc.collect()
            tracemalloc.start()
            for credential in credentials[1:]:
                gate.verify(credential)
            gate.flush()
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0] / (ENTRIES - 1)
            tracemalloc.stop()
        figures.append(Figure(f"token at hand, {name}", taken, "bytes", bound))
    return figures


def _token(gate: Gate, number: int, *, parties: bool) -> str:
    owner = Owner(f"user{number}", "Alice") if parties else Owner()
    org = Org(f"org{number}", "Acme") if parties else Org()
    return gate.tokens.create(name="bench", scopes=["docs:read"], owner=owner, org=org).secret


def start() -> list[Figure]:
    """Return what ``import faregate`` takes, as a multiple of a start of Python without anything."""
    fastest = dict.fromkeys(("pass", "import msgspec", "import faregate"), float("inf"))
    for _ in range(STARTS):
        for statement, known in fastest.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603  statements from above
            fastest[statement] = min(known, time.perf_counter() - begun)
    bare = fastest["pass"]
    return [
        Figure("start of Python", bare * 1e3, "ms"),
        Figure("import msgspec", fastest["import msgspec"] / bare, "× start"),
        Figure("import faregate", fastest["import faregate"] / bare, "× start", 8.0),
    ]


def threads() -> list[Figure]:
    """Return what four threads verify together, in what one does: as a part of what the floor keeps."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Gate(f"sqlite:///{folder}/gate.db")) as gate,
    ):
        made = [
            gate.tokens.create(name="bench", scopes=["docs:read"], expires_in=DAY).secret
            for _ in range(THREADS)
        ]
        for credential in made:
            gate.verify(credential, address=ADDRESS)
        kept = _kept([hit(gate, credential) for credential in made])
        floors = _kept([floor(credential) for credential in made])
    return [
        Figure("four threads, F", floors, "× one thread"),
        Figure("four threads, hits", kept / floors, "× what F keeps", 0.8, least=True),
    ]


def _kept(calls: list[Calls]) -> float:
    rounds = [(_rate(calls[:1]), _rate(calls)) for _ in range(7)]
    return max(many for _, many in rounds) / max(one for one, _ in rounds)


def _rate(calls: list[Calls]) -> float:
    """Return how many calls a second threads make together."""
    made = [0] * len(calls)
    barrier = Barrier(len(calls) + 1)

    def run(index: int) -> None:
        barrier.wait()
        until = time.perf_counter() + TURN
        while time.perf_counter() < until:
            calls[index](200)
            made[index] += 200

    running = [Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in running:
        thread.start()
    barrier.wait()
    begun = time.perf_counter()
    for thread in running:
        thread.join()
    return sum(made) / (time.perf_counter() - begun)
