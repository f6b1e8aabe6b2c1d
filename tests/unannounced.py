"""A fork in C, as uWSGI's, of which none of Python's hooks hears."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

LIBC = ctypes.PyDLL(None)  # which keeps the interpreter lock, as a server does that forks


def forked(work: Callable[[], bool]) -> int:
    """Fork behind Python's back, and do the work in the child, within 40 seconds."""
    child = _fork()
    if child == 0:
        signal.alarm(40)
        try:
            os._exit(0 if work() else 1)
        except BaseException:  # noqa: BLE001  nothing of the test run may go on in the child
            os._exit(2)
    return child


def in_child(work: Callable[[], bool]) -> bool:
    """Tell whether the work comes out right in a child."""
    return os.waitpid(forked(work), 0)[1] == 0


def _fork() -> int:
    # No other thread may be asking for the interpreter lock: in the child this one would wait for it to take the lock,
    # and it is not there.
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    time.sleep(0.05)
    try:
        return int(LIBC.fork())
    finally:
        sys.setswitchinterval(before)
