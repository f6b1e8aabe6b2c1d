"""The record cache over the change feed: a cached credential counts only while the feed is known.

The states of a cache, each entered under its lock::

                    look at the files,                    the clock passes look_at, or
    NOTHING KNOWN ── read the feed ──────► CONFIRMED ──── the page differs ────► TO BE CONFIRMED
         ▲                                     ▲                                       │
         │                                     └── apply the newer entries ────────────┤
         └──────────── a failure, a replaced database, or too many entries ────────────┘

The laws:

- On each request the page is compared with the sequence that was applied last. On any difference,
  not only a larger number, the feed is read, and the records that its newer entries name are
  dropped.
- A look-up fills the cache under the lock that applies the feed. So an old record cannot be stored
  after its change was applied, and a thousand first uses make one look-up.
- An instant is taken before a look, never after it: a look that takes long does not delay the next
  one.
- A cache that cannot confirm asks the store. A store that cannot answer is an error, and everything
  is forgotten: no answer is ever given from what may be stale.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar

from cachetools import FIFOCache

from faregate.decision.compiled import compile_redeemed
from faregate.decision.weight import Weights, record_weight
from faregate.errors import StoreUnavailable, WouldWait
from faregate.stores import database
from faregate.stores.change_feed import HARMLESS, MINTING, OWNER_CHANGED
from faregate.stores.database import never
from faregate.values import forks
from faregate.values.identities import NOBODY_ELSE, Identities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import OwnerRights
    from faregate.stores.database import Changed, Database, Page
    from faregate.stores.store import Store

CAPACITY = 65_536  # credentials
MAX_BYTES = 64 * 1024 * 1024  # of the cached credentials, roughly
SHARES_BYTES = 16 * 1024 * 1024  # of the shares behind redeemed tokens

_MANY = 10_000  # entries of the feed after which dropping everything is cheaper
_SIBLINGS = 1024  # credentials of one record, so that one share cannot fill the cache
_FEW = 256  # entries that are read at once, without waiting
_PATIENCE = 0.1  # seconds: a reader in WAL mode waits for nobody; elsewhere it soon answers 503
_PAUSE = 0.002  # seconds

T = TypeVar("T")
Find = Callable[["RecordCache", bytes], "CompiledCredential | None"]


def _share_weight(share: CompiledCredential) -> int:
    # A share that outweighs the whole cache takes the place of all others.
    return min(record_weight(share), SHARES_BYTES)


class _Filed:
    """Credentials by digest, and filed under the subjects that they depend on.

    The oldest are given up when they are too many or too heavy. ``by_digest`` is a plain dictionary
    in the order of insertion: reading it needs no lock and reorders nothing.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._weights = Weights()
        self.by_digest: dict[bytes, CompiledCredential] = {}
        # Most subjects have one digest, for which nothing is smaller than a tuple.
        self._digests: dict[str, tuple[bytes, ...]] = {}

    def file(self, compiled: CompiledCredential) -> None:
        if compiled.digest in self.by_digest:
            self._remove(compiled.digest)
        self._weights.add(compiled)
        while self.by_digest and self._is_full():
            self._remove(next(iter(self.by_digest)))

        # The index comes first: wherever a signal interrupts this, no change misses a cached
        # credential.
        for subject in compiled.subjects:
            siblings = (*self._digests.get(subject, ()), compiled.digest)
            self._digests[subject] = siblings
            if len(siblings) > _SIBLINGS:
                self._remove(siblings[0])
        self.by_digest[compiled.digest] = compiled

    def drop(self, subject: str) -> None:
        for digest in self._digests.get(subject, ()):
            self._remove(digest)

    def clear(self) -> None:
        self.by_digest.clear()
        self._digests.clear()
        self._weights.clear()

    def _is_full(self) -> bool:
        return len(self.by_digest) >= self._capacity or self._weights.total > MAX_BYTES

    def _remove(self, digest: bytes) -> None:
        compiled = self.by_digest.pop(digest, None)
        if compiled is None:
            return

        self._weights.remove(compiled)
        # One step for each subject: wherever a signal interrupts this, cached siblings stay in the
        # index.
        for subject in compiled.subjects:
            siblings = self._digests[subject]
            if len(siblings) > 1:
                index = siblings.index(digest)
                self._digests[subject] = siblings[:index] + siblings[index + 1 :]
            else:
                del self._digests[subject]


class RecordCache:
    """The compiled credentials of one store, as fresh as its newest committed change.

    A credential that :attr:`at_hand` returns counts until :attr:`look_at`, by the monotonic clock,
    and while ``view[0]``, the newest sequence that may be committed, equals :attr:`applied`.
    Compare the time first: only a look at the files notices a page that was cut off, and reading
    such a page ends the process (SIGBUS). Otherwise :meth:`cached` confirms or reads again.
    """

    def __init__(
        self,
        store: Store,
        owner_rights: OwnerRights,
        identities: Identities = NOBODY_ELSE,
        capacity: int = CAPACITY,
    ) -> None:
        self._identities = identities
        self._store = store
        self._database = store.database
        self._owner_rights = owner_rights
        self._errors: tuple[type[Exception], ...] = (OSError, *store.database.errors)
        self._lock = self._new_lock()
        self._lookup = store.database.lookup()

        self._records = _Filed(capacity)
        self.at_hand = self._records.by_digest.get
        self._shares: FIFOCache[str, CompiledCredential] = FIFOCache(SHARES_BYTES, _share_weight)
        self._unknown: FIFOCache[bytes, bool] = FIFOCache(capacity)

        self._page: Page | None = None
        self._identity: tuple[int, int] | None = None
        self.applied = 0
        self._applied_at = 0.0
        self.look_at = 0.0
        self.view = never()

        self._failures = 0
        self._last_failure: Exception | None = None
        forks.register(self)

    def cached(self, digest: bytes, *, wait: bool = True) -> CompiledCredential | None:
        """Return the cached credential of this digest, confirmed current, or None.

        Raises WouldWait if ``wait`` is False and the confirmation has to be waited for.
        """
        if monotonic() >= self.look_at or self.view[0] != self.applied:
            self._answer(partial(self._confirm, wait=wait), wait=wait)
        return self.at_hand(digest)

    def is_unknown(self, digest: bytes) -> bool:
        """Return True if the digest is remembered as unknown. Call it right after :meth:`cached`.

        A remembered text was well-formed, so it need not be read again. Never waits.
        """
        return digest in self._unknown

    def fetch(self, digest: bytes, find: Find, *, wait: bool = True) -> CompiledCredential | None:
        """Return the credential that ``find`` looks up, or None; cache either answer.

        A look-up is short, so it is made at once. Raises WouldWait if ``wait`` is False and
        something is in its way.
        """

        def look_up() -> CompiledCredential | None:
            self._confirm(wait=wait)
            if digest in self._unknown:
                return None

            compiled = self.at_hand(digest)
            # A cached JWT is looked up anew: its key may be gone by now.
            if compiled is None or compiled.trusted is not None:
                compiled = find(self, digest)
                if compiled is not None:
                    compiled = compiled.named(self._identities)

            if compiled is None:
                self._unknown[digest] = True
            # An unseen secret is looked up each time, until its presentation is recorded.
            elif not compiled.unseen:
                self._records.file(compiled)
            return compiled

        return self._answer(look_up, wait=wait)

    def token(self, digest: bytes) -> CompiledCredential | None:
        """Find a token by its credential.

        Call this and the next four methods only from a ``find`` of :meth:`fetch`, which holds the
        lock.
        """
        return self._lookup.token(digest)

    def access(self, digest: bytes) -> CompiledCredential | None:
        """Find an access credential. It is filed under the family that it depends on."""
        return self._lookup.access(digest)

    def share(self, digest: bytes) -> CompiledCredential | None:
        """Find a share by its secret."""
        return self._lookup.share(digest)

    def redeemed(self, digest: bytes, share_id: str, until: float) -> CompiledCredential | None:
        """Find a redeemed token. Its share is read once for all of its tokens."""
        share = self._shares.get(share_id) or self._lookup.share_of(share_id)
        if share is None:
            return None
        self._shares[share_id] = share
        return compile_redeemed(share, until, digest)

    def unless_revoked(self, compiled: CompiledCredential) -> CompiledCredential:
        """Return a JWT; as revoked if the token or its subject was revoked."""
        if self._lookup.is_revoked(compiled.revocations, compiled.issued_at):
            return compiled.revoke()
        return compiled

    def close(self) -> None:
        """Close the connection and forget everything. The next use starts anew."""
        forks.look()
        with self._lock:
            self._lookup.close()
            self._forget()

    def hold(self) -> None:
        """Wait for a running look-up, before a fork."""
        self._lock.acquire()
        self._owner_rights.lock.acquire()

    def before_fork(self) -> None:
        """Close the connection."""
        self._lookup.close()

    def after_fork(self, *, child: bool) -> None:
        """Let look-ups run again, on either side."""
        del child
        self.look_at = 0.0
        self._owner_rights.lock.release()
        self._lock.release()

    def renew(self, *, child: bool) -> None:
        """Make the locks anew and close the connection. Cached credentials stay, once confirmed."""
        del child
        self._lock = self._new_lock()
        self._owner_rights.renew()
        self.look_at = 0.0
        self._lookup.close()

    def _new_lock(self) -> threading.RLock:
        # In memory there is one connection, so its lock is held over whole transactions.
        return self._store.lock if self._database.in_memory else threading.RLock()

    def _answer(self, step: Callable[[], T], *, wait: bool) -> T:
        """Return the result of ``step`` under the lock; retry while the database is busy.

        The waiting is done here and not by the driver, whose time-out belongs to the connection and
        not to the call. Threads that wait for another's turn share its failure: otherwise each
        would ask in vain, one after the other.
        """
        forks.look()
        failures = self._failures
        lock = self._lock
        if not lock.acquire(blocking=wait):
            raise WouldWait
        try:
            if self._failures != failures:
                raise StoreUnavailable from self._last_failure
            if not wait and not self._lookup.is_open:
                raise WouldWait
            return _repeated(self._database, step, wait=wait)
        except self._errors as error:
            self._failures += 1
            # Copied without its traceback, whose frames hold this object.
            self._last_failure = copy(error)
            self._give_up()
            if self._database.torn:
                self._store.let_go()
            raise StoreUnavailable from error
        finally:
            lock.release()

    def _confirm(self, *, wait: bool) -> None:
        """Apply the entries of the feed that are newer, from the files that are there now."""
        if monotonic() < self.look_at and self.view[0] == self.applied:
            return

        looked = monotonic()
        self._look_at_files()
        self._apply(wait=wait)
        # Last: a feed that was not read to its end is not trusted.
        self.look_at = looked + database.LOOK_EVERY

    def _apply(self, *, wait: bool) -> None:
        # The entry that was applied last is read again. If it is gone or differs, the feed was
        # purged beyond it, or the database is another one.
        most = _MANY if wait else _FEW
        entries: Sequence[Changed] = []
        if self.applied:
            entries = self._lookup.changes(self.applied, most)
        if len(entries) == _FEW and not wait:
            raise WouldWait
        applied = (self.applied, self._applied_at)
        if not entries or entries[0][:2] != applied or len(entries) == _MANY:
            self._start_anew()
            return

        for entry in entries[1:]:
            self._apply_entry(entry)
        # Only now: a reader that sees the new sequence must not find an old record.
        self.applied, self._applied_at = entries[-1][:2]

    def _apply_entry(self, entry: Changed) -> None:
        if entry.action in HARMLESS:
            return
        if entry.action == OWNER_CHANGED:
            self._owner_rights.drop(entry.subject)
            return

        self._records.drop(entry.subject)
        self._shares.pop(entry.subject, None)
        if entry.action in MINTING:
            self._unknown.clear()

    def _start_anew(self) -> None:
        newest = self._lookup.newest()
        # Without any entry, before and now, cached credentials still count. So it is where only
        # JWTs are used.
        if self.applied or newest[0]:
            self._drop_all()
        self.applied, self._applied_at = newest

    def _look_at_files(self) -> None:
        """Notice a database or a page that was replaced, and open the new one."""
        identity = self._database.identity()
        if self._identity != identity:
            self._lookup.close()
            self._forget()
            self._identity = identity
        self._database.check(self._lookup.connection)
        self._database.check_version(self._lookup.version())

        if self._page is None or not self._page.is_current():
            self._page = None
            # A page that is missing, or that this process may not write, is not used: then each
            # request reads the feed.
            with suppress(OSError):
                self._page = self._database.page(create=False)
        self.view = never()
        if self._page is not None and self._lookup.announces():
            self.view = self._page.view

    def _give_up(self) -> None:
        """Forget everything after a failure, so that the next request asks again."""
        with self._lock:
            self._lookup.close()
            self._forget()

    def _forget(self) -> None:
        self.view = never()
        self._drop_all()
        self.applied = 0
        self._applied_at = 0.0
        self.look_at = 0.0

    def _drop_all(self) -> None:
        self._records.clear()
        self._shares.clear()
        self._unknown.clear()
        self._owner_rights.clear()


def _repeated(database: Database, step: Callable[[], T], *, wait: bool) -> T:
    """Return the result of ``step`` once the database is not busy, or raise its error soon."""
    deadline = monotonic() + _PATIENCE
    while True:
        try:
            return step()
        except database.errors as error:
            if not database.is_busy(error):
                raise
            if not wait:
                raise WouldWait from None
            if monotonic() >= deadline:
                raise
            sleep(_PAUSE)
