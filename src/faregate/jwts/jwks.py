"""Sources of an issuer's keys: given once, or fetched from a JWK set and kept current.

The law: a single thread fetches, so fetches never overlap, and a token with a known key waits for
nothing. Unknown names cause at most a single fetch in ``ASK_EVERY`` seconds, however many tokens
carry them.

The states of a fetched set, and how a token with a known name fares in each:

    none ──── fetched ────> current ──── STALE without a fetch ────> stale
      │                      │   ^                                    │
      │                      └───┘ fetched again, every EVERY         │
      │                            seconds, or RETRY after a failure  │
      │                                                               │
      ├─ waits for a fetch; store_unavailable if it fails             │
      └───────────────────────────── as before the first fetch ───────┘

In the current state, a known name is answered at once. An unknown name may cause a fetch, if no
other name has lately, or wait for the fetch of another name. A name that was not in the set after
its fetch has no key, and causes no other fetch until the set is replaced.
"""

from __future__ import annotations

import logging
from codecs import BOM_UTF8
from collections.abc import Callable
from functools import partial
from threading import Condition, Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from cachetools import FIFOCache

from faregate.errors import StoreUnavailable, WouldWait
from faregate.jwts import download
from faregate.jwts.keys import read_set
from faregate.values import forks
from faregate.values.names import abbreviated
from faregate.values.owned_thread import OwnedThread
from faregate.values.strict_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faregate.jwts.keys import Key, KeySet

_logger = logging.getLogger("faregate")

EVERY = 300.0  # seconds from a fetch to the next
RETRY = 10.0  # seconds from a failed fetch to the next
STALE = 3600.0  # seconds for which a set counts that cannot be fetched again
ASK_EVERY = 30.0  # seconds between fetches for unknown names
TIMEOUT = 3.0  # seconds for a fetch after its host is resolved, and for a wait for it
MAX_BYTES = 256 * 1024

_UNKNOWN = 10_000  # unknown names that are remembered
_LOOK_EVERY = 10.0  # seconds between the thread's checks that its keys are still in use
_WAITING = 8  # requests that may wait at once for unknown names
_ACCEPT = "application/jwk-set+json, application/json;q=0.9, */*;q=0.1"


Holds = Callable[[float], bool | None]


class KeySource(Protocol):
    """Finds the keys of an issuer."""

    def may_have(self, kid: str | None, algorithm: str) -> bool:
        """Return True if :meth:`find` could find a key, without a wait and at no cost."""
        ...

    def find(self, kid: str | None, algorithm: str, *, wait: bool) -> Key | None:
        """Return the key that a token names; None if the issuer has none.

        ``wait``: whether the call may wait for a fetch.

        Raises StoreUnavailable while the keys are not known, and WouldWait if a fetch is needed
        and ``wait`` is False.
        """
        ...

    def watch(self, kid: str | None, algorithm: str, key: Key) -> Holds | None:
        """Return a function that checks whether a name still stands for the same key.

        The function takes UTC epoch seconds, and returns None while the keys are not known.
        None instead of a function: the keys never change.
        """
        ...

    def close(self) -> None:
        """Stop the thread in the background, if there is any."""
        ...


class GivenKeys:
    """Finds keys that never change."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def may_have(self, kid: str | None, algorithm: str) -> bool:
        """Return True if there is a key."""
        return self._keys.find(kid, algorithm) is not None

    def find(self, kid: str | None, algorithm: str, *, wait: bool) -> Key | None:
        """Return the key that a token names, or None."""
        del wait
        return self._keys.find(kid, algorithm)

    def watch(self, kid: str | None, algorithm: str, key: Key) -> None:
        """Return None: the keys never change."""

    def close(self) -> None:
        """Do nothing: there is no thread."""


class FetchedKeys:
    """Finds keys in a JWK set, which a thread keeps current.

    ``url``: address of the JWK set.
    ``algorithms``: keys for other algorithms are skipped.
    ``clock``: returns UTC epoch seconds.
    ``proxy``: address of an HTTP proxy, or None.

    The age of a set is the greater of two: by the monotonic clock, which may stand still while a
    machine sleeps, and by ``clock``, which may be set back.
    """

    def __init__(
        self,
        url: str,
        algorithms: Sequence[str],
        clock: Callable[[], float],
        proxy: str | None = None,
    ) -> None:
        self._url = url
        self._proxy = proxy
        self._algorithms = tuple(algorithms)
        self._clock = clock

        # The set, and the time of its fetch by the monotonic clock and by ``clock``.
        self._fetched: tuple[KeySet, float, float] | None = None

        # Hashes of unknown names, because a token may carry a name of any length.
        self._unknown: FIFOCache[int, bool] = FIFOCache(_UNKNOWN)

        # Guards the members below, and is notified at the end of each fetch.
        self._changed = Condition()
        self._thread: Thread | None = None
        self._wake = Event()
        self._fetching = False
        self._failing = False
        self._ended = 0  # fetches

        # Whether a fetch for an unknown name is under way, and how many requests wait.
        self._asked = False
        self._waiting = 0

        # Instants of the monotonic clock.
        self._next_at = 0.0
        self._blocked_until = 0.0
        self._ask_at = 0.0
        forks.register(self)

    def may_have(self, kid: str | None, algorithm: str) -> bool:
        """Return True if there is a key, or if a fetch may find it."""
        keys = self._current(self._clock())
        return (
            keys is None
            or keys.find(kid, algorithm) is not None
            or self._may_ask(hash((kid, algorithm)))
        )

    def find(self, kid: str | None, algorithm: str, *, wait: bool) -> Key | None:
        """Return the key that a token names; a fetch may come first.

        ``wait``: whether the call may wait for a fetch.

        Raises StoreUnavailable while no set counts, and WouldWait if a fetch is needed and
        ``wait`` is False.
        """
        self._keep_running()
        keys = self._current(self._clock())
        name = hash((kid, algorithm))

        if keys is not None:
            key = keys.find(kid, algorithm)
            if key is not None or not self._may_ask(name):
                return key

        if not wait:
            raise WouldWait
        self._keep_running(wait=True)
        if keys is None:
            self._await_any()
        else:
            self._ask(kid, algorithm, name)

        keys = self._current(self._clock())
        if keys is None:
            raise StoreUnavailable from TimeoutError(
                f"the keys of {self._url} are not known, or too old to count"
            )
        return keys.find(kid, algorithm)

    def watch(self, kid: str | None, algorithm: str, key: Key) -> Holds:
        """Return a function that checks whether a name still stands for the same key."""
        return partial(self._holds, kid, algorithm, key.identity)

    def _holds(self, kid: str | None, algorithm: str, identity: bytes, now: float) -> bool | None:
        """Return True if a name still stands for the same key; None while no set counts."""
        # After a fork the thread is gone, and cached tokens need current keys as well.
        if self._thread is None:
            self._keep_running()

        keys = self._current(now)
        if keys is None:
            return None
        key = keys.find(kid, algorithm)
        return key is not None and key.identity == identity

    def close(self) -> None:
        """Stop the thread. The next token starts it again."""
        forks.look()
        with self._changed:
            self._stop()

    def hold(self) -> None:
        """Take the lock, without a wait for a starting thread: the child starts its own."""
        self._changed.acquire()

    def before_fork(self) -> None:
        """Do nothing: a connection lasts for a single fetch, and stays with the parent."""

    def after_fork(self, *, child: bool) -> None:
        """Release the lock. A child has no thread and no waiting request, but keeps the set."""
        self._changed.release()
        if child:
            self.renew(child=True)

    def renew(self, *, child: bool) -> None:
        """Make locks anew, and let the next token start a thread."""
        # The old thread may have become a greenlet; the event ends it.
        if not child:
            self._wake.set()

        self._changed = Condition()
        self._wake = Event()
        self._thread = None
        self._fetching = False
        self._asked = False
        self._waiting = 0

    def refresh(self, wake: Event) -> float | None:
        """Fetch the set if it is time, or if ``wake`` is set; called by the thread alone.

        Return the seconds until the next call, or None if the thread must end.
        """
        with self._changed:
            # Another event belongs to a newer thread.
            if self._wake is not wake:
                return None
            if not wake.is_set() and monotonic() < self._next_at:
                return self._next_at - monotonic()
            wake.clear()
            self._fetching = True

        # The lock is not held during the fetch, so that known keys stay available.
        fetched = None
        try:
            fetched = self._fetch()
        finally:
            with self._changed:
                if self._wake is wake:
                    self._keep(fetched)

        if fetched is None:
            return RETRY
        return EVERY

    def _keep(self, fetched: tuple[KeySet, float, float] | None) -> None:
        """Replace the set, and notify the requests that wait.

        After a failed fetch the old set stays, until it is stale.
        """
        if fetched is not None:
            self._next_at = monotonic() + EVERY
            self._blocked_until = 0.0
            self._fetched = fetched
            self._unknown.clear()
        else:
            self._next_at = monotonic() + RETRY
            self._blocked_until = self._next_at

        self._fetching = False
        self._asked = False
        self._ended += 1
        self._changed.notify_all()

    def _fetch(self) -> tuple[KeySet, float, float] | None:
        try:
            keys = fetch(self._url, self._algorithms, self._proxy)
            fetched = (keys, monotonic(), self._clock())
        # Whatever the failure is, the thread goes on.
        except Exception as error:
            if not self._failing:
                _logger.warning(
                    "the keys of %s cannot be fetched: %s", self._url, error, exc_info=True
                )
            self._failing = True
            return None

        if self._failing:
            _logger.warning("the keys of %s were fetched again", self._url)
        if not keys:
            skipped = abbreviated(list(keys.skipped)) or "the set is empty"
            _logger.warning("none of the keys of %s can be used: %s", self._url, skipped)
        self._failing = False
        return fetched

    def _current(self, now: float) -> KeySet | None:
        """Return the set, or None if it is stale or was never fetched."""
        fetched = self._fetched
        if fetched is None or monotonic() - fetched[1] >= STALE or now - fetched[2] >= STALE:
            return None
        return fetched[0]

    def _may_ask(self, name: int) -> bool:
        """Return True if an unknown name may cause a fetch, or wait for a fetch under way.

        A name may do so once, fetches keep ``ASK_EVERY`` seconds apart, and few requests wait.
        """
        if name in self._unknown:
            return False
        if self._asked:
            return self._waiting < _WAITING
        return monotonic() >= self._ask_at

    def _ask(self, kid: str | None, algorithm: str, name: int) -> None:
        """Wait for a fetch for an unknown name, and remember the name if the set lacks it."""
        with self._changed:
            if not self._may_ask(name):
                return
            if not self._asked:
                self._asked = True
                self._ask_at = monotonic() + ASK_EVERY

            self._waiting += 1
            before = self._fetched
            running = self._fetching
            try:
                self._await_fetch()
            finally:
                self._waiting -= 1

                # After the last wait, nobody expects a late fetch any more.
                self._asked = self._asked and self._waiting > 0

            # A fetch that was already running may have begun before the key was published.
            after = self._fetched
            if after is None or after is before or running:
                return
            if after[0].find(kid, algorithm) is None:
                self._unknown[name] = True

    def _await_any(self) -> None:
        """Wait for a set while none counts, unless a fetch has just failed.

        Every request waits for the very first fetch. Later few do, because a provider that hangs
        would hold up the rest of the application.
        """
        with self._changed:
            if self._current(self._clock()) is not None:
                return
            if self._ended and self._waiting >= _WAITING:
                return

            if self._fetching or monotonic() >= self._blocked_until:
                self._waiting += 1
                try:
                    self._await_fetch()
                finally:
                    self._waiting -= 1

    def _await_fetch(self) -> None:
        """Wait up to ``TIMEOUT`` seconds for the fetch that runs, or else for a new fetch."""
        if not self._fetching:
            self._wake.set()
        before = self._ended
        self._changed.wait_for(lambda: self._ended != before, TIMEOUT)

    def _keep_running(self, *, wait: bool = False) -> None:
        """Start the thread if there is none.

        Only a call that may ``wait`` waits for the lock, and replaces a thread that has died: other
        callers may hold the lock of a store.
        """
        if self._thread is not None and not wait:
            return

        forks.look()
        changed = self._changed
        if not changed.acquire(blocking=wait):
            return
        try:
            old = self._thread
            if wait and old is not None and old.ident is not None and not old.is_alive():
                self._stop()
            if self._thread is not None:
                return
            wake = self._wake
            thread = OwnedThread(
                "faregate-jwks",
                self,
                lambda keys: keys.refresh(wake),
                wake=wake,
                pause=0.0,
                look_every=_LOOK_EVERY,
            )
            self._thread = thread
        finally:
            changed.release()

        # The start happens outside of the lock; concurrent calls see the thread set, and return.
        if not thread.try_start():
            # The next token tries again.
            with self._changed:
                if self._thread is thread:
                    self._stop()
            _logger.warning("the keys of %s cannot be fetched now: no thread is left", self._url)

    def _stop(self) -> None:
        stopped = self._wake
        self._wake = Event()
        self._thread = None
        self._fetching = False
        self._asked = False
        stopped.set()
        self._changed.notify_all()


def fetch(url: str, algorithms: Sequence[str], proxy: str | None = None) -> KeySet:
    """Fetch a JWK set, and return its keys for the algorithms.

    ``url``: address of the JWK set.
    ``proxy``: address of an HTTP proxy, or None.

    Raises OSError if no address of the host has a JWK set.
    """

    def read(body: bytes) -> KeySet:
        # RFC 8259 section 8.1 forbids a byte order mark, and lets a parser ignore it.
        return read_set(parse_object(body.removeprefix(BOM_UTF8), partly=True), algorithms)

    return download.get(url, _ACCEPT, read, proxy=proxy, seconds=TIMEOUT, longest=MAX_BYTES)
