"""Forks in C, as uWSGI does: no fork hook of Python runs."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LIBC = ctypes.PyDLL(None)  # keeps the interpreter lock during a call, as forking servers do


def forked(work: Callable[[], bool]) -> int:
    """Fork without hooks, and call ``work`` in the child; the child has 40 seconds. Return its pid."""
    child = _fork()
    if child == 0:
        signal.alarm(40)
        try:
            os._exit(0 if work() else 1)
        except BaseException:  # noqa: BLE001  the test run must not continue in the child
            os._exit(2)
    return child


def in_child(work: Callable[[], bool]) -> bool:
    """Return True if ``work`` returns True in a child."""
    return os.waitpid(forked(work), 0)[1] == 0


def _fork() -> int:
    # No other thread may be asking for the interpreter lock: in the child this one would wait for it to take the lock,
    # and it is not there. So all others sleep, and whoever wakes nevertheless asks for no turn.
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    looks = 0
    while looks < 5:
        time.sleep(0.01)
        looks = looks + 1 if _others_sleep() else 0
    try:
        return int(LIBC.fork())
    finally:
        sys.setswitchinterval(before)


def _others_sleep() -> bool:
    states = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # one that ends meanwhile
            states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return states.count("R") <= 1  # this one runs
