"""What is open is closed before a fork and made anew on first use after it.

A SQLite connection that is open at a fork takes the child's file locks with it, even those of new
connections: an acknowledged write was lost that way. So stores, threads and locks register here.
"""

from __future__ import annotations

import logging
import os
from threading import Lock
from typing import Protocol
from weakref import WeakKeyDictionary


class Forkable(Protocol):
    """Something that must not be in use while the process forks. Its locks are held together with no other's."""

    def hold(self) -> None:
        """Take the lock."""
        ...

    def before_fork(self) -> None:
        """Close what is open. The lock is held, and let go after the fork even if this fails."""
        ...

    def after_fork(self, *, child: bool) -> None:
        """Let the locks go; ``child`` says on which side."""
        ...


_logger = logging.getLogger("faregate")

# In the order in which they are held: what may be waited for comes first, while nothing else is held yet.
_slow: WeakKeyDictionary[Forkable, None] = WeakKeyDictionary()
_quick: WeakKeyDictionary[Forkable, None] = WeakKeyDictionary()
_held: list[Forkable] = []
_one_at_a_time = Lock()


def register(thing: Forkable, *, slow: bool = False) -> None:
    """Have ``thing`` closed before each fork for as long as it lives.

    A ``slow`` one may be in use for longer than a moment, as a store is by a transaction. It is held before those
    that requests need.
    """
    with _one_at_a_time:
        (_slow if slow else _quick)[thing] = None


def _before() -> None:
    """Close everything. An exception here would be swallowed by the interpreter and the fork go on."""
    _one_at_a_time.acquire()
    for thing in [*_slow, *_quick]:
        try:
            thing.hold()
            _held.append(thing)
            thing.before_fork()
        except BaseException:
            _logger.exception("%r could not be closed before a fork", thing)


def _after(*, child: bool) -> None:
    try:
        while _held:
            _held.pop().after_fork(child=child)
    finally:
        if _one_at_a_time.locked():  # a server that forks in C may run this without the hook before
            _one_at_a_time.release()


os.register_at_fork(
    before=_before,
    after_in_parent=lambda: _after(child=False),
    after_in_child=lambda: _after(child=True),
)
