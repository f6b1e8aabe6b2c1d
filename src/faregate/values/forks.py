"""What is open is closed before a fork and made anew on first use after it.

A SQLite connection that is open at a fork takes the child's file locks with it, even those of new
connections: an acknowledged write was lost that way. So stores, threads and locks register here.

Two things happen that nobody announces. A server that forks in C (uWSGI) runs none of Python's hooks. And gevent
and eventlet turn threads into greenlets, often after the application was loaded: a lock that was made before is
still one between threads, so that a greenlet that waits for it stops the very thread whose other greenlet holds it,
and it keeps no two greenlets of one thread apart. So whoever takes a registered lock, opens a connection or starts a
thread calls :func:`look` first, which notices either and has everything made anew.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from threading import RLock


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

    def renew(self, *, child: bool) -> None:
        """Make locks anew, close what is open and forget the thread.

        In a ``child`` of a fork that nobody announced, other threads are gone, and may have held the locks and used
        what is open. Otherwise threads have become greenlets. Must not wait, nor call :func:`look`.
        """
        ...


_World = tuple[int, object]  # the process, and what tells its threads apart

_logger = logging.getLogger("faregate")

# In the order in which they are held: what may be waited for comes first, while nothing else is held yet.
_slow: WeakKeyDictionary[Forkable, None] = WeakKeyDictionary()
_quick: WeakKeyDictionary[Forkable, None] = WeakKeyDictionary()
_held: list[Forkable] = []
# A lock for each world, which no thread of another one can hold.
_turns: dict[_World, RLock] = {}


class _Seen:
    """The world that all locks are made for, except those of the things that wait to be made anew."""

    def __init__(self) -> None:
        self.world = _world()
        self.waiting: list[Forkable] = []
        self.child = False  # whether what waits comes from another process
        self.announced = False  # a fork, by the hook before it


def register(thing: Forkable, *, slow: bool = False) -> None:
    """Have ``thing`` closed before each fork for as long as it lives.

    A ``slow`` one may be in use for longer than a moment, as a store is by a transaction. It is held before those
    that requests need.
    """
    look()
    with _turn():
        (_slow if slow else _quick)[thing] = None

        # The end of a child that never looked begins with it: before finalizers close what was its parent's.
        atexit.unregister(look)
        atexit.register(look)


def look() -> None:
    """Notice a fork that was not announced, and threads that have become greenlets."""
    if _seen.waiting or _seen.world != _world():
        _catch_up()


def _world() -> _World:
    # Not the kind of lock: a profiler replaces that while threads hold locks, and threads they remain.
    return os.getpid(), threading.get_ident


def _turn() -> RLock:
    return _turns.setdefault(_world(), threading.RLock())


def _catch_up() -> None:
    with _turn():
        world = _world()
        if _seen.world != world:
            _held.clear()
            _seen.announced, _seen.child = False, _seen.world[0] != world[0]
            _seen.waiting = [*_slow, *_quick]
            _seen.world = world

        # A collection of garbage may write last uses in the middle of this: then it first goes on here.
        while _seen.waiting:
            thing = _seen.waiting[0]
            try:
                thing.renew(child=_seen.child)
            except Exception:
                _logger.exception("%r could not be made anew", thing)
            if thing in _seen.waiting:
                _seen.waiting.remove(thing)


def _before() -> None:
    """Close everything. An exception here would be swallowed by the interpreter and the fork go on."""
    look()
    _turn().acquire()
    _seen.announced = True
    for thing in [*_slow, *_quick]:
        try:
            thing.hold()
            _held.append(thing)
            thing.before_fork()
        except BaseException:
            _logger.exception("%r could not be closed before a fork", thing)


def _after(*, child: bool) -> None:
    if (
        not _seen.announced
    ):  # a server that forks in C may run this without the hook before: the next look notices
        return
    _seen.announced = False
    while _held:
        thing = _held.pop()
        try:
            thing.after_fork(child=child)
        except Exception:
            _logger.exception("%r could not be let go after a fork", thing)
    if child:
        _turns.clear()
        _seen.world = _world()
    else:
        _turn().release()


_seen = _Seen()
os.register_at_fork(
    before=_before,
    after_in_parent=lambda: _after(child=False),
    after_in_child=lambda: _after(child=True),
)
