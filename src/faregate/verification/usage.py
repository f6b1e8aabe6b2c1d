"""When each token was used last: noted in memory on the request, written behind in batches.

Writing moves one column, forward only, and nothing else: a whole row written back would revive what was
deactivated meanwhile. A failure to write never reaches a request; a note is forgotten only after it was
committed, so whatever cuts a batch short, it waits for the next time.
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

if TYPE_CHECKING:
    from faregate.stores.store import Store

_logger = logging.getLogger("faregate")

EVERY = 10.0  # seconds between batches
_SEE_WAITS = 0.1  # seconds that a request waits for other writers
_SEE_AGAIN = 1.0  # seconds after which the next request tries it again
_BATCH = 500  # tokens a transaction, so that the write lock is held briefly
_WAITS = (
    2.0  # seconds for a write lock that another holds: whoever ends or forks waits for this, too
)
_AT_MOST = (
    5.0  # seconds after which no batch is begun, so that a process ends in time for its supervisor
)


class Usage:
    """Collects uses and writes them every :data:`EVERY` seconds, at exit, and when it is no longer needed.

    ``notes`` holds, by record, when that was used last. A use may be written there directly where the thread that
    writes was started before; :meth:`note` starts it, and :meth:`resume` where it has ended.
    """

    def __init__(self, store: Store, every: float | None = None) -> None:
        self._store = store
        self._every = EVERY if every is None else every
        self.notes: dict[str, float] = {}
        self._lock = threading.Lock()  # held for a moment, and never while a thread starts
        self._thread: Thread | None = None
        self._noted = False  # whether there was a use at all, here or before the process forked
        self._stop = Event()
        self._not_before = 0.0
        self._at_end = weakref.finalize(self, _write, store, self.notes, 0.0)
        forks.register(self)

    def note(self, record_id: str, now: float) -> None:
        """Remember that a record was used now, and have that written in a while. Writes nothing itself."""
        self.notes[record_id] = now
        self._noted = True
        self.resume()

    def resume(self) -> None:
        """Start the thread where there is something to write and none runs, as after a fork."""
        if self._thread is None and self._noted:
            self._start()

    def may_see(self, digest: bytes) -> bool:
        """Return False if :meth:`see` would do nothing: the presentation is remembered, and no write is tried yet."""
        return digest not in self._store.presented or monotonic() >= self._not_before

    def see(self, digest: bytes) -> None:
        """Note, before the request is answered, that a rotated token's new credential was presented.

        A store that cannot write closes nothing that it can read: then the presentation is remembered, and the next
        write of this process notes it. A use that is admitted brings one within a batch's time. Rotations of this
        process are such writes, so they know of it. Until then (or for good, if the process is killed) a rotation in
        another process takes the credential for unseen: it may replace it, and opens nothing by that.
        """
        self._store.presented[digest] = None
        if monotonic() < self._not_before:
            return
        try:
            with self._store.changing(_SEE_WAITS):
                pass  # a write notes what is remembered
        except StoreUnavailable:
            self._not_before = (
                monotonic() + _SEE_AGAIN
            )  # meanwhile requests go on without waiting for it
            _logger.warning(
                "it could not be noted that a new credential was presented", exc_info=True
            )

    def flush(self) -> None:
        """Write what was noted."""
        _write(self._store, self.notes, 0.0)

    def write_behind(self) -> None:
        """Write what was noted, and give other writers as much time as that takes."""
        _write(self._store, self.notes, 1.0)

    def close(self) -> None:
        """Stop the thread and write what was noted. The next note starts it again."""
        forks.look()
        with self._lock:
            self._stop.set()
            self._thread, self._noted = None, False
        self.flush()

    def hold(self) -> None:
        """Take the lock. A thread that is being started is not waited for: the child starts its own."""
        self._lock.acquire()

    def before_fork(self) -> None:
        """Nothing is open here: the thread works under the store's lock."""

    def after_fork(self, *, child: bool) -> None:
        """In the child there is no thread yet, and the notes are the parent's to write."""
        if child:
            self._thread = None
            self._stop = Event()
            self.notes.clear()
        self._lock.release()

    def renew(self, *, child: bool) -> None:
        """Have the next note start a thread. The notes stay: a child cannot tell its own from its parent's."""
        if not child:
            self._stop.set()
        self._lock, self._thread, self._stop = threading.Lock(), None, Event()

    def _start(self) -> None:
        """Start the thread if there is none. Of many who come at once one does, and the others do not wait for it."""
        forks.look()
        with self._lock:
            if self._thread is not None:
                return
            self._stop = Event()
            arguments = (weakref.ref(self), self._stop, self._every)
            thread = Thread(
                target=_keep_writing, args=arguments, name="faregate-usage", daemon=True
            )
            self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # no thread to be had: the notes wait for one, or for the end
            _logger.warning("the times of last use cannot be written now", exc_info=True)
            with self._lock:
                if self._thread is thread:
                    self._thread = None


def _keep_writing(usage: weakref.ref[Usage], stop: Event, every: float) -> None:
    """Flush until told to stop, or until nobody holds the usage any more."""
    while not stop.wait(every):
        alive = usage()
        if alive is None:
            return
        try:
            alive.write_behind()
        except Exception:
            _logger.exception("the times of last use could not be written")
        del alive


def _write(store: Store, notes: dict[str, float], others: float) -> None:
    """Write the notes of now in batches, for a few seconds; what is not written stays noted.

    Between batches other writers have ``others`` times as long as a batch took.
    """
    due = sorted(notes.copy().items())  # by id, so that two who write lock rows in one order
    give_up = monotonic() + _AT_MOST
    for start in range(0, len(due), _BATCH):
        batch = due[start : start + _BATCH]
        began = monotonic()
        if began > give_up:
            _logger.warning(
                "the times of last use of %d tokens wait: the store takes too long",
                len(due) - start,
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

        if start + _BATCH < len(due):
            sleep(
                others * (monotonic() - began)
            )  # whoever waits for the lock looks again now and then


def _forget(notes: dict[str, float], record_id: str, at: float) -> None:
    """Take a note out that was written, unless there is a newer one by now."""
    noted = notes.pop(record_id, at)
    if noted > at:
        notes.setdefault(record_id, noted)
