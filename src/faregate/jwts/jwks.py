"""Where an issuer's keys come from: given once, or fetched from its JWK set and kept current in the background.

Everything is fetched by one thread, so there is one fetch at a time, and a token whose key is known waits for
nothing. A set that could not be fetched again counts for an hour; then, as before the first one, nobody gets in
whose key it would tell.
"""

from __future__ import annotations

import logging
import weakref
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
from faregate.values.strict_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faregate.jwts.keys import Key, KeySet

_logger = logging.getLogger("faregate")

EVERY = 300.0  # seconds from one fetch to the next
RETRY = 10.0  # seconds from a fetch that failed to the next
STALE = 3600.0  # seconds for which a set counts that cannot be fetched again
ASK_EVERY = 30.0  # seconds between fetches for the sake of unknown names
TIMEOUT = 3.0  # seconds for a fetch once its host is found, and for who waits for one
MAX_BYTES = 256 * 1024

_UNKNOWN = 10_000  # names that are remembered to be unknown
_LOOK_EVERY = 10.0  # seconds after which the thread looks whether anybody needs it still
_WAITING = 8  # requests that wait at once for the sake of unknown names
_ACCEPT = "application/jwk-set+json, application/json;q=0.9, */*;q=0.1"


Holds = Callable[[float], bool | None]


class KeySource(Protocol):
    """Where the keys of one issuer are."""

    def may_have(self, kid: str | None, algorithm: str) -> bool:
        """Tell whether :meth:`find` could find a key: at once, and at no cost."""
        ...

    def find(self, kid: str | None, algorithm: str, *, wait: bool) -> Key | None:
        """Return the key that a token names; None if there is none. StoreUnavailable if that cannot be told."""
        ...

    def watch(self, kid: str | None, algorithm: str, key: Key) -> Holds | None:
        """Return what tells at an instant whether a token would be verified by the same key; None where keys stay.

        It answers None where that cannot be told.
        """
        ...

    def close(self) -> None:
        """Stop what runs in the background."""
        ...


class GivenKeys:
    """Keys that never change."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def may_have(self, kid: str | None, algorithm: str) -> bool:
        """Tell whether there is such a key."""
        return self._keys.find(kid, algorithm) is not None

    def find(self, kid: str | None, algorithm: str, *, wait: bool) -> Key | None:
        """Return the key that a token names."""
        del wait
        return self._keys.find(kid, algorithm)

    def watch(self, kid: str | None, algorithm: str, key: Key) -> None:
        """Return None: the keys are what they were."""

    def close(self) -> None:
        """Nothing runs."""


class FetchedKeys:
    """The keys of a JWK set at ``url`` that serve one of ``algorithms``, fetched by way of ``proxy`` if there is one.

    How old a set is, is counted by the monotonic clock and by ``clock``, UTC epoch seconds, and the greater age
    counts: the one stands still while a machine sleeps, the other may be set back.
    """

    def __init__(
        self,
        url: str,
        algorithms: Sequence[str],
        clock: Callable[[], float],
        proxy: str | None = None,
    ) -> None:
        self._url, self._proxy = url, proxy
        self._algorithms = tuple(algorithms)
        self._clock = clock
        self._fetched: tuple[KeySet, float, float] | None = None  # and when, by either clock
        self._unknown: FIFOCache[int, bool] = FIFOCache(
            _UNKNOWN
        )  # by hash: names are as long as who sends them likes
        self._changed = Condition()  # guards what follows; told when a fetch has ended
        self._thread: Thread | None = None
        self._wake = Event()
        self._fetching, self._failing = False, False
        self._ended = 0  # fetches
        self._asked, self._waiting = (
            False,
            0,
        )  # for the sake of unknown names: a fetch, and requests for its end
        self._next_at, self._blocked_until, self._ask_at = 0.0, 0.0, 0.0
        forks.register(self)

    def may_have(self, kid: str | None, algorithm: str) -> bool:
        """Tell whether there is such a key, or it may be asked for."""
        keys = self._current(self._clock())
        return (
            keys is None
            or keys.find(kid, algorithm) is not None
            or self._may_ask(hash((kid, algorithm)))
        )

    def find(self, kid: str | None, algorithm: str, *, wait: bool) -> Key | None:
        """Return the key that a token names, after a fetch if it is not known and one may be made.

        StoreUnavailable while no set counts. WouldWait where a fetch would have to be waited for.
        """
        self._keep_running()
        keys, name = self._current(self._clock()), hash((kid, algorithm))
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
        """Return what tells at an instant whether a token would be verified by the same key."""
        return partial(self._holds, kid, algorithm, key.identity)

    def _holds(self, kid: str | None, algorithm: str, identity: bytes, now: float) -> bool | None:
        """Tell whether a name still stands for the same key in the set as it is now; None where none counts."""
        if self._thread is None:  # after a fork, say: tokens that are remembered depend on it, too
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
        """Take the lock. A thread that is being started is not waited for: the child starts its own."""
        self._changed.acquire()

    def before_fork(self) -> None:
        """Nothing is kept open: a connection lasts for one fetch, and stays this side's."""

    def after_fork(self, *, child: bool) -> None:
        """In the child there is no thread yet, and nobody waits. What was fetched is as good there."""
        self._changed.release()
        if child:
            self.renew(child=True)

    def renew(self, *, child: bool) -> None:
        """Have the next token start a thread; one that has become a greenlet ends."""
        if not child:
            self._wake.set()
        self._changed, self._wake, self._thread = Condition(), Event(), None
        self._fetching, self._asked, self._waiting = False, False, 0

    def refresh(self, wake: Event) -> float | None:
        """Fetch the set if it is time, or ``wake`` is set; return the seconds to wait, None to end. For the thread."""
        with self._changed:
            if self._wake is not wake:
                return None
            if not wake.is_set() and monotonic() < self._next_at:
                return self._next_at - monotonic()
            wake.clear()
            self._fetching = True
        fetched = None
        try:
            fetched = self._fetch()
        finally:
            with self._changed:
                if self._wake is wake:
                    self._keep(fetched)
        return EVERY if fetched is not None else RETRY

    def _keep(self, fetched: tuple[KeySet, float, float] | None) -> None:
        """Put what was fetched in the place of what was there; without it, that stays for as long as it counts."""
        self._next_at = monotonic() + (EVERY if fetched is not None else RETRY)
        self._blocked_until = 0.0 if fetched is not None else self._next_at
        if fetched is not None:
            self._fetched = fetched
            self._unknown.clear()
        self._fetching = self._asked = False
        self._ended += 1
        self._changed.notify_all()

    def _fetch(self) -> tuple[KeySet, float, float] | None:
        try:
            keys = fetch(self._url, self._algorithms, self._proxy)
            fetched = (keys, monotonic(), self._clock())
        except Exception as error:  # whatever it is, the thread goes on
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
        """Return the set if it still counts."""
        fetched = self._fetched
        if fetched is None or monotonic() - fetched[1] >= STALE or now - fetched[2] >= STALE:
            return None
        return fetched[0]

    def _may_ask(self, name: int) -> bool:
        """Tell whether an unknown name is worth a fetch: its first, and not soon after the last; few wait for one."""
        if name in self._unknown:
            return False
        return self._waiting < _WAITING if self._asked else monotonic() >= self._ask_at

    def _ask(self, kid: str | None, algorithm: str, name: int) -> None:
        """Have the set fetched for the sake of an unknown name, wait for it, and remember what is not in it."""
        with self._changed:
            if not self._may_ask(name):
                return
            if not self._asked:
                self._asked, self._ask_at = True, monotonic() + ASK_EVERY
            self._waiting += 1
            before, running = self._fetched, self._fetching
            try:
                self._await_fetch()
            finally:
                self._waiting -= 1
                self._asked = (
                    self._asked and self._waiting > 0
                )  # a fetch that took too long is waited for no more
            after = self._fetched
            # What ran already may have begun before the key was published.
            if (
                after is not None
                and after is not before
                and not running
                and after[0].find(kid, algorithm) is None
            ):
                self._unknown[name] = True

    def _await_any(self) -> None:
        """Wait for a set where none counts, unless a fetch has just failed.

        For the first fetch of all, everybody waits; later few do, or a provider that hangs would hold up what else the
        application does.
        """
        with self._changed:
            if self._current(self._clock()) is not None or (
                self._ended and self._waiting >= _WAITING
            ):
                return
            if self._fetching or monotonic() >= self._blocked_until:
                self._waiting += 1
                try:
                    self._await_fetch()
                finally:
                    self._waiting -= 1

    def _await_fetch(self) -> None:
        """Wait for the fetch that runs, or else for a new one; no longer than one may take."""
        if not self._fetching:
            self._wake.set()
        before = self._ended
        self._changed.wait_for(lambda: self._ended != before, TIMEOUT)

    def _keep_running(self, *, wait: bool = False) -> None:
        """Start the thread if there is none; one of many who come at once does, and holds no lock meanwhile.

        Only who may ``wait`` does so for a lock, and looks whether the thread has died: others may hold a store's.
        """
        if self._thread is not None and not wait:
            return
        forks.look()
        changed = self._changed
        if not changed.acquire(blocking=wait):
            return
        try:
            found = self._thread
            if wait and found is not None and found.ident is not None and not found.is_alive():
                self._stop()
            if self._thread is not None:
                return
            arguments = (weakref.ref(self), self._wake)
            thread = Thread(
                target=_keep_fetching, args=arguments, name="faregate-jwks", daemon=True
            )
            self._thread = thread
        finally:
            changed.release()
        try:
            thread.start()
        except RuntimeError:  # no thread to be had: the next token tries again
            with self._changed:
                if self._thread is thread:
                    self._stop()
            _logger.warning("the keys of %s cannot be fetched now", self._url, exc_info=True)

    def _stop(self) -> None:
        stopped, self._wake, self._thread = self._wake, Event(), None
        self._fetching = self._asked = False
        stopped.set()
        self._changed.notify_all()


def _keep_fetching(source: weakref.ref[FetchedKeys], wake: Event) -> None:
    """Refresh until told to stop, or until nobody holds the keys any more."""
    pause: float | None = 0.0
    while pause is not None:
        wake.wait(min(pause, _LOOK_EVERY))
        alive = source()
        if alive is None:
            return
        pause = alive.refresh(wake)
        del alive


def fetch(url: str, algorithms: Sequence[str], proxy: str | None = None) -> KeySet:
    """Return the keys of the JWK set at an address that serve one of the algorithms.

    OSError where no address of its host has one.
    """

    def read(body: bytes) -> KeySet:
        # RFC 8259 section 8.1: none may write a byte order mark, and a reader may pass over it.
        return read_set(parse_object(body.removeprefix(BOM_UTF8), partly=True), algorithms)

    return download.get(url, _ACCEPT, read, proxy=proxy, seconds=TIMEOUT, longest=MAX_BYTES)
