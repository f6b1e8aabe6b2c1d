"""Two writers and three readers on one file, while they are killed and what lies beside the file is taken away.

``python storm.py <folder> <seconds>`` prints, as JSON, what was seen. A slot of shared memory says of each token how often
it was changed, and its state: none from before a change until its acknowledgement. An answer is judged if its slot was
certain before the request and is the same after it; it is stale if it is another one than the slot says. What the slots say
at the end and a new gate does not is lost. 503 is no answer. A process that is killed while a removed log lives in its
hands alone takes that with it, which nobody can prevent: so after that nobody is killed until all work again. The first
stale answers of each reader are told on stderr, with what was done last.
"""

from __future__ import annotations

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
    """Change the tokens of one writer, in turns, until killed."""
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
    """Verify all tokens, in turns, until killed."""
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
    """Say what a reader got that is stale, and what had been done when."""
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
    """Wait until each process has looked at the files as they are now, and does its work; else end all."""
    since, deadline = time.monotonic_ns() + round(LOOK_EVERY * 1e9), time.monotonic() + PATIENCE
    while min(worked[: WRITERS + READERS]) < since:
        if time.monotonic() > deadline:
            for process in processes:
                os.kill(process, signal.SIGKILL)
            raise TimeoutError(f"not all work again after {PATIENCE} s")
        time.sleep(0.01)


def opened(number: int) -> Gate:
    """A gate, as soon as the store can be opened."""
    while True:
        try:
            return Gate(STORE)
        except StoreUnavailable:
            refused[number] += 1
            time.sleep(0.01)


def forked(work: Callable[[], None]) -> int:
    """The process that does this work."""
    process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(1)
    return process


def main() -> None:
    """Start all, disturb them, and count."""
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
