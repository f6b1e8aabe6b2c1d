"""Closes connections, locks and threads before a fork, and renews them after it.

A SQLite connection that is open at a fork takes the child's file locks with it, even those of new
connections: an acknowledged write was lost that way. So stores, threads and locks register here.

The states of all registered objects together::

                  hook before the fork             hook after the fork
    current ────────────────────────────▶ held ────────────────────────▶ current
       │                                  (announced)
       │
       │  look() sees another world       renew() of each
       └────────────────────────────▶ outdated ────────────────────────▶ current

A world is a process and its kind of threads. It changes without a hook in two cases:

- A server that forks in C (uWSGI) runs none of Python's hooks.
- gevent and eventlet turn threads into greenlets, often after the application was loaded. An older
  lock still works between threads. A greenlet that waits for it stops the very thread whose other
  greenlet holds it, and two greenlets of one thread are not kept apart.

The laws:

- Code that takes a registered lock, opens a connection or starts a thread calls :func:`look` first.
- Slow objects are held first: the process may wait for them while it holds nothing else.
- A failure of one object is logged. It stops neither the fork nor the renewal of the others.
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
    """An object that must not be in use while the process forks.

    Outside of a fork, no thread holds its lock together with the lock of another object.
    """

    def hold(self) -> None:
        """Take the lock."""
        ...

    def before_fork(self) -> None:
        """Close what is open. The lock is held, and released after the fork even if this fails."""
        ...

    def after_fork(self, *, child: bool) -> None:
        """Release the lock; ``child`` is True in the child, False in the parent."""
        ...

    def renew(self, *, child: bool) -> None:
        """Make new locks, close what is open and forget the thread.

        In a ``child`` of a fork without a hook, the other threads are gone. They may have held the
        locks and used what is open. Otherwise threads have become greenlets. Must not wait, nor
        call :func:`look`.
        """
        ...


_World = tuple[int, object]  # the process, and what tells its threads apart

_logger = logging.getLogger("faregate")

_slow: WeakKeyDictionary[Forkable, None] = WeakKeyDictionary()
_quick: WeakKeyDictionary[Forkable, None] = WeakKeyDictionary()
_held: list[Forkable] = []

# A lock for each world, which no thread of another world can hold.
_turns: dict[_World, RLock] = {}


class _State:
    """The world for which all locks are made, except those of ``outdated`` objects."""

    def __init__(self) -> None:
        self.world = _world()
        self.outdated: list[Forkable] = []
        self.child = False  # whether the outdated objects come from another process
        self.announced = False  # whether the hook before a fork has run


def register(forkable: Forkable, *, slow: bool = False) -> None:
    """Close ``forkable`` before each fork, for as long as it lives.

    A ``slow`` object may be in use for longer than a moment, as a store is by a transaction. It is
    held before the objects that requests need.
    """
    look()
    with _turn():
        registry = _slow if slow else _quick
        registry[forkable] = None

        # A child that never called look() calls it first at its end, before finalizers close the
        # connections of its parent.
        atexit.unregister(look)
        atexit.register(look)


def look() -> None:
    """Notice a fork without a hook, and threads that have become greenlets."""
    if _state.outdated or _state.world != _world():
        _catch_up()


def _world() -> _World:
    # The kind of lock would not do: a profiler replaces it while threads hold locks, and they stay
    # threads.
    return os.getpid(), threading.get_ident


def _turn() -> RLock:
    return _turns.setdefault(_world(), threading.RLock())


def _catch_up() -> None:
    """Renew every object that was made for another world."""
    with _turn():
        world = _world()
        if _state.world != world:
            _held.clear()
            _state.announced = False
            _state.child = _state.world[0] != world[0]
            _state.outdated = [*_slow, *_quick]
            _state.world = world

        # Garbage collection in the middle of this loop may write last uses, which calls look().
        # That inner call renews the rest first.
        while _state.outdated:
            forkable = _state.outdated[0]
            try:
                forkable.renew(child=_state.child)
            except Exception:
                _logger.exception("%r could not be renewed", forkable)

            if forkable in _state.outdated:
                _state.outdated.remove(forkable)


def _before() -> None:
    """Hold and close every object; an exception is logged, since the interpreter swallows it."""
    look()
    _turn().acquire()
    _state.announced = True

    for forkable in [*_slow, *_quick]:
        try:
            forkable.hold()
            _held.append(forkable)
            forkable.before_fork()
        except BaseException:
            _logger.exception("%r could not be closed before a fork", forkable)


def _after(*, child: bool) -> None:
    """Release every object that is held, in the reverse order."""
    # A server that forks in C may run this hook without the hook before. The next look() notices.
    if not _state.announced:
        return

    _state.announced = False
    while _held:
        forkable = _held.pop()
        try:
            forkable.after_fork(child=child)
        except Exception:
            _logger.exception("%r could not be released after a fork", forkable)

    if child:
        _turns.clear()
        _state.world = _world()
    else:
        _turn().release()


_state = _State()
os.register_at_fork(
    before=_before,
    after_in_parent=lambda: _after(child=False),
    after_in_child=lambda: _after(child=True),
)
