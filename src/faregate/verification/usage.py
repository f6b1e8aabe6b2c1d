"""The last use of each token: noted in memory on the request, written later in batches.

The law:

- A batch moves the column of the last use, forward only. A row written back as a whole would revive
  a token that was deactivated in between.
- A failure to write never reaches a request.
- A note is forgotten only after its commit. If a batch is cut short, its notes wait for the next.
- A request never waits for the thread, nor for its start.

The states of the thread that writes::

                      note(), resume()
          idle  ------------------------>  running  --+
           ^                                  |  ^    |  every few seconds: write a batch
           |                                  |  +----+
           +----------------------------------+
             close(): the notes are written
             after_fork(child=True): the notes belong to the parent and are dropped
             renew(): after a fork without hooks; the notes stay
             the system has no thread left: the notes wait

``_thread`` is None in the state idle, and each thread has a stop event of its own, so that an old
thread cannot run beside a new one for long. The thread holds only a weak reference to its Usage. It
ends by itself once the Usage is gone, whose finalizer writes the last notes.
"""

from __future__ import annotations

import logging
import threading
import weakref
from threading import Event, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

from faregate.errors import StoreUnavailable
from faregate.values import forks
from faregate.values.owned_thread import OwnedThread

if TYPE_CHECKING:
    from faregate.stores.store import Store

_logger = logging.getLogger("faregate")

EVERY = 10.0  # seconds between batches
_PRESENTATION_WAITS = 0.1  # seconds that a request waits for other writers
_PRESENTATION_RETRY = 1.0  # seconds after a failure until the next attempt
_BATCH = 500  # tokens a transaction, so that the write lock is held briefly

# Seconds for a write lock that another process holds. An exit or a fork waits for this, too.
_WAITS = 2.0
# Seconds after which no batch is begun, so that a process ends in time for its supervisor.
_AT_MOST = 5.0


class Usage:
    """Collects uses, and writes them every :data:`EVERY` seconds and at exit.

    ``store`` is written to, ``every`` are the seconds between batches, :data:`EVERY` if None.

    ``notes`` holds the instant of the last use by record id, in UTC epoch seconds. A caller may
    write a use there directly if the thread was started before, by :meth:`note` or :meth:`resume`.
    """

    def __init__(self, store: Store, every: float | None = None) -> None:
        self._store = store
        self._every = EVERY if every is None else every
        self.notes: dict[str, float] = {}

        # Held for a moment, and never while a thread starts.
        self._lock = threading.Lock()
        self._thread: Thread | None = None
        self._stop = Event()
        # True once there was a use, in this process or in a parent before the fork.
        self._was_used = False

        self._no_attempt_before = 0.0
        self._at_end = weakref.finalize(self, _write, store, self.notes, 0.0)
        forks.register(self)

    def note(self, record_id: str, now: float) -> None:
        """Remember that a record was used at ``now``. The thread writes it later."""
        self.notes[record_id] = now
        self._was_used = True
        self.resume()

    def resume(self) -> None:
        """Start the thread if there was a use and no thread runs, as after a fork."""
        if self._thread is None and self._was_used:
            self._start()

    def may_note_presentation(self, digest: bytes) -> bool:
        """Return False if :meth:`note_presentation` would do nothing.

        That is so while the presentation is remembered and no attempt to write is due.
        """
        return digest not in self._store.presented or monotonic() >= self._no_attempt_before

    def note_presentation(self, digest: bytes) -> None:
        """Write, before the request is answered, that a rotation's new credential was presented.

        A store that cannot be written must not deny what it can read. So a failure is logged, and
        the presentation is remembered until the next write of this process, which includes it. The
        use of the admitted token causes a write within a batch's time. A rotation in this process
        is a write, too.

        Until then a rotation in another process takes the credential for unseen and may replace
        it. That opens nothing. It stays so for good if the process is killed before the write.
        """
        self._store.presented[digest] = None
        if monotonic() < self._no_attempt_before:
            return

        try:
            with self._store.changing(_PRESENTATION_WAITS):
                # Each transaction writes the remembered presentations.
                pass
        except StoreUnavailable:
            # Until then requests go on without waiting for the lock.
            self._no_attempt_before = monotonic() + _PRESENTATION_RETRY
            _logger.warning(
                "it could not be noted that a new credential was presented", exc_info=True
            )

    def flush(self) -> None:
        """Write all notes."""
        _write(self._store, self.notes, 0.0)

    def write_behind(self) -> None:
        """Write all notes, and leave the lock to other writers for half of the time."""
        _write(self._store, self.notes, 1.0)

    def close(self) -> None:
        """Stop the thread and write all notes. The next note starts a new thread."""
        forks.look()
        with self._lock:
            self._stop.set()
            self._thread = None
            self._was_used = False
        self.flush()

    def hold(self) -> None:
        """Take the lock. A thread that is starting is not waited for: the child starts its own."""
        self._lock.acquire()

    def before_fork(self) -> None:
        """Do nothing: the thread writes under the store's lock, which the store holds."""

    def after_fork(self, *, child: bool) -> None:
        """Release the lock. A child has no thread yet, and drops its parent's notes."""
        if child:
            self._thread = None
            self._stop = Event()
            self.notes.clear()
        self._lock.release()

    def renew(self, *, child: bool) -> None:
        """Replace lock and thread after a fork without hooks.

        The notes stay: a child cannot tell its own from its parent's.
        """
        if not child:
            self._stop.set()
        self._lock = threading.Lock()
        self._thread = None
        self._stop = Event()

    def _start(self) -> None:
        """Start the thread if there is none. Only the first of several callers waits for it."""
        forks.look()
        with self._lock:
            if self._thread is not None:
                return

            stop = Event()
            thread = OwnedThread(
                "faregate-usage",
                self,
                lambda usage: usage.write_unless(stop),
                wake=stop,
                pause=self._every,
                look_every=self._every,
            )
            self._stop = stop
            self._thread = thread

        if not thread.try_start():
            # The notes wait for the next attempt, or for the exit.
            _logger.warning("the times of last use cannot be written now: no thread is left")
            with self._lock:
                if self._thread is thread:
                    self._thread = None

    def write_unless(self, stop: Event) -> float | None:
        """Write all notes, as a step of the thread; return the seconds until the next step.

        Return None once ``stop`` is set: the thread ends.
        """
        if stop.is_set():
            return None
        try:
            self.write_behind()
        except Exception:
            _logger.exception("the times of last use could not be written")
        return self._every


def _write(store: Store, notes: dict[str, float], pause: float) -> None:
    """Write the notes in batches, for a few seconds at most; the rest stays noted.

    Between two batches the lock is left to other writers for ``pause`` times the length of a batch.
    """
    # By id, so that two processes that write lock the rows in the same order.
    uses = sorted(notes.copy().items())
    deadline = monotonic() + _AT_MOST

    for start in range(0, len(uses), _BATCH):
        batch = uses[start : start + _BATCH]
        began = monotonic()
        if began > deadline:
            _logger.warning(
                "the times of last use of %d tokens wait: the store takes too long",
                len(uses) - start,
            )
            return

        try:
            with store.changing(waits=_WAITS) as change:
                change.tokens.note_uses(batch)
        except StoreUnavailable:
            _logger.warning(
                "the times of last use could not be written; trying again later", exc_info=True
            )
            return

        for record_id, at in batch:
            _forget(notes, record_id, at)

        # Writers that wait for the lock look for it only now and then.
        if start + _BATCH < len(uses):
            sleep(pause * (monotonic() - began))


def _forget(notes: dict[str, float], record_id: str, written: float) -> None:
    """Remove a note that was written; a newer note of the record stays."""
    newest = notes.pop(record_id, written)
    if newest > written:
        notes.setdefault(record_id, newest)
