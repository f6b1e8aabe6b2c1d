"""What the gate costs on a hit, as a multiple of the least that any gate must do.

The floor is SHA-256 of the credential, a dictionary, the expiry and the scope. The gate does the same, and
besides: its freshness check on a SQLite file, the network, the clock, the use, the principal, the exceptions.
Both run in turns in one process; the median of the ratios counts. Exits 1 if it is above the bound.
"""

from __future__ import annotations

import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from statistics import median

from faregate import Gate

ROUNDS = 41
CALLS = 20_000
BOUND = 3.0


def main() -> int:
    """Print the figures and return the exit code."""
    decided = 0.0
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(f"sqlite:///{Path(folder) / 'gate.db'}")
        for blocks in (0, 1, 100, 10_000):
            ratio, floor = measure(gate, blocks)
            print(f"{blocks:6} networks: {ratio:.2f} times the floor of {floor * 1e6:.2f} µs")
            if blocks == 1:
                decided = ratio
        gate.close()
    print(f"bound: {BOUND} times the floor, with one network")
    return 0 if decided <= BOUND else 1


def measure(gate: Gate, blocks: int) -> tuple[float, float]:
    """Return the median ratio of a hit to the floor, and the floor in seconds."""
    networks = [f"10.{index // 256}.{index % 256}.0/25" for index in range(blocks)]
    issued = gate.tokens.create(name="bench", scopes=["docs:read"], allowed_cidr_blocks=networks, expires_in=86_400.0)
    secret, address = issued.secret, "10.0.0.77"
    known = {sha256(secret.encode()).digest(): (time.time() + 86_400.0, frozenset({"docs:read"}))}
    gate.verify(secret, address=address)
    floors: list[float] = []
    ratios: list[float] = []
    for _ in range(ROUNDS):
        floor = run_floor(known, secret)
        floors.append(floor)
        ratios.append(run_gate(gate, secret, address) / floor)
    return median(ratios), median(floors)


def run_floor(known: dict[bytes, tuple[float, frozenset[str]]], secret: str) -> float:
    """Return the seconds that one floor takes."""
    clock = time.time
    start = time.perf_counter()
    for _ in range(CALLS):
        closes, scopes = known[sha256(secret.encode()).digest()]
        if clock() >= closes or "docs:read" not in scopes:
            raise AssertionError
    return (time.perf_counter() - start) / CALLS


def run_gate(gate: Gate, secret: str, address: str) -> float:
    """Return the seconds that one verification and one need take."""
    verify = gate.verify
    start = time.perf_counter()
    for _ in range(CALLS):
        verify(secret, address=address).require("docs:read")
    return (time.perf_counter() - start) / CALLS


if __name__ == "__main__":
    sys.exit(main())
