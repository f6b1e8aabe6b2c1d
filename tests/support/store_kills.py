"""Kills readers and writers of one store, while the files beside the store are taken away.

``python store_kills.py <folder> <seconds>`` runs two writers and three readers on one file, and
prints its counts as JSON. :mod:`test_storm` runs it; ``make soak`` runs it for longer.

A slot of shared memory holds the number of changes of each token, and its state. The state is
unknown from before a change until its acknowledgement. An answer is judged if its slot was known
before the request and is the same after it. It is stale if it differs from the slot. A change is
lost if a new gate at the end does not know it. 503 is not an answer.

A process may be killed while it alone holds a removed write-ahead log. Then the log is lost with
it, and nothing can prevent that. After such a removal, no process is killed until all work again.
The first stale answers of each reader are printed to stderr, with the last events before them.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from mmap import mmap
from pathlib import Path

from faregate import Denied, Gate, StoreUnavailable
from faregate.stores.database import LOOK_EVERY

FOLDER, SECONDS = Path(sys.argv[1]), float(sys.argv[2])
FILE = FOLDER / "gate.db"
STORE = f"sqlite:///{FILE}"
TOKENS, WRITERS, READERS = 12, 2, 3
STATES = {"ok": 1, "deactivated": 2}
HARMS = ["killed", "page removed", "page replaced", "companions removed"]
TOLD = 20  # stale answers of one reader
PATIENCE = 60.0  # seconds in which all work again, on a machine that does much else

memory = memoryview(mmap(-1, 4096)).cast("Q")
slots, judged, stale, refused, changed, worked, harms = (
    memory[start : start + 16] for start in range(0, 112, 16)
)


def write(number: int, tokens: list[tuple[str, str]]) -> None:
    """Change the tokens of one writer in turns, until killed."""
    gate = opened(number)
    while True:
        for index in range(number, TOKENS, WRITERS):
            slots[index] = (slots[index] // 4 + 1) * 4
            state = random.choice(list(STATES))
            change = gate.tokens.activate if state == "ok" else gate.tokens.deactivate
            while True:
                began = time.monotonic_ns()
                try:
                    change(tokens[index][0])
                except StoreUnavailable:
                    refused[number] += 1
                    time.sleep(0.01)
                else:
                    break
            slots[index] += STATES[state]
            worked[number] = began
            changed[number] += 1
            time.sleep(0.001)  # SQLite's lock is not fair


def read(number: int, tokens: list[tuple[str, str]]) -> None:
    """Verify all tokens in turns, until killed."""
    gate = opened(number)
    while True:
        began, refusals = time.monotonic_ns(), refused[number]
        if random.random() < 0.001:
            gate.close()
        for index, (_, secret) in enumerate(tokens):
            before = slots[index]
            reason = "ok"
            try:
                gate.verify(secret)
            except Denied as denied:
                reason = denied.reason
            if reason == "store_unavailable":
                refused[number] += 1
                time.sleep(0.01)
            elif before % 4 and slots[index] == before:
                judged[number] += 1
                if STATES.get(reason) != before % 4:
                    stale[number] += 1
                    tell(number, index, reason)
        if refused[number] == refusals:
            worked[number] = began


def tell(number: int, index: int, reason: str) -> None:
    """Print a stale answer of a reader, and the latest events with their times."""
    if stale[number] <= TOLD:
        ago = {
            harm: (time.monotonic_ns() - harms[at]) / 1e9
            for at, harm in enumerate(HARMS)
            if harms[at]
        }
        done = ", ".join(f"{harm} {seconds:.3f} s ago" for harm, seconds in ago.items())
        print(
            f"reader {number}: token {index} is {reason}, which it is no more; {done}",
            file=sys.stderr,
            flush=True,
        )


def settle(processes: list[int]) -> None:
    """Wait until each process works with the present files.

    If one does not in time, all are aborted, and print where their threads stand.
    """
    since, deadline = time.monotonic_ns() + round(LOOK_EVERY * 1e9), time.monotonic() + PATIENCE
    while min(worked[: WRITERS + READERS]) < since:
        if time.monotonic() > deadline:
            for process in processes:
                os.kill(process, signal.SIGABRT)
            ages = [(time.monotonic_ns() - at) / 1e9 for at in worked[: WRITERS + READERS]]
            raise TimeoutError(f"not all work again after {PATIENCE} s; they worked {ages} s ago")
        time.sleep(0.01)


def opened(number: int) -> Gate:
    """Return a gate as soon as the store can be opened."""
    while True:
        try:
            return Gate(STORE)
        except StoreUnavailable:
            refused[number] += 1
            time.sleep(0.01)


def forked(work: Callable[[], None]) -> int:
    """Start a process for the work; return its pid."""
    process = os.fork()
    if process == 0:
        faulthandler.enable()
        try:
            work()
        finally:
            os._exit(1)
    return process


def main() -> None:
    """Start all processes, disturb them, and print the counts."""
    gate = Gate(STORE)
    issued = [gate.tokens.create(name="a") for _ in range(TOKENS)]
    tokens = [(one.token.id, one.secret) for one in issued]
    gate.close()
    works = [
        lambda number=number: (write if number < WRITERS else read)(number, tokens)
        for number in range(WRITERS + READERS)
    ]
    processes = [forked(work) for work in works]
    settle(processes)
    done = dict.fromkeys(HARMS, 0)
    ends, ended_early = time.monotonic() + SECONDS, 0
    while time.monotonic() < ends:
        time.sleep(random.uniform(0.1, 1.2))
        harm = min(done, key=lambda one: (done[one], random.random()))
        done[harm] += 1
        harms[HARMS.index(harm)] = time.monotonic_ns()
        with suppress(FileNotFoundError):  # nobody has made it anew yet
            if harm == "killed":
                number = random.randrange(len(works))
                os.kill(processes[number], signal.SIGKILL)
                _, status = os.waitpid(processes[number], 0)
                ended_early += not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL
                processes[number] = forked(works[number])
            elif harm == "page removed":
                Path(f"{FILE}-page").unlink()
            elif harm == "page replaced":
                shutil.copy(f"{FILE}-page", FOLDER / "copy")
                (FOLDER / "copy").replace(f"{FILE}-page")
            else:
                for suffix in random.choice([["-wal"], ["-shm"], ["-shm", "-wal"]]):
                    Path(f"{FILE}{suffix}").unlink()
        if harm == "companions removed":
            settle(processes)
    settle(processes)
    for process in processes:
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        ended_early += not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL
    lost = 0
    for index, (_, secret) in enumerate(tokens):
        reason = "ok"
        try:
            gate.verify(secret)
        except Denied as denied:
            reason = denied.reason
        lost += slots[index] % 4 not in {0, STATES.get(reason)}
    gate.close()
    told = {
        "judged": sum(judged),
        "stale": sum(stale),
        "changed": sum(changed),
        "lost": lost,
        "refused": sum(refused),
    }
    print(json.dumps(told | {"ended early": ended_early} | done))


if __name__ == "__main__":
    main()
