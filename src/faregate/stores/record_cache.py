"""The record cache over the change feed: what was looked up counts only while the feed is known to be read.

On each request the shared page is compared with the sequence that was applied last; on any difference the
feed is read, and what its newer entries name is dropped. A look-up fills the cache under the lock that
applies the feed, so that an old record cannot be stored after its change was applied, and a thousand first
uses make one look-up. Whoever cannot confirm asks the store, and a store that cannot answer is an error.
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
from faregate.stores.change_feed import OWNER_CHANGED
from faregate.stores.database import never
from faregate.values import forks
from faregate.values.identities import NOBODY_ELSE, Identities

if TYPE_CHECKING:
    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import OwnerRights
    from faregate.stores.database import Database, Page
    from faregate.stores.store import Store

CAPACITY = 65_536
MAX_BYTES = 64 * 1024 * 1024  # of the records that are at hand, roughly
SHARES_BYTES = 16 * 1024 * 1024  # of the shares that tokens were redeemed from
MINTING = frozenset({"token.create", "token.rotate", "share.create"})
HARMLESS = frozenset({"share.redeem"})  # changes nothing by which a request is judged

_MANY = 10_000  # entries of the feed after which dropping everything is cheaper
_SIBLINGS = 1024  # credentials of one record, so that one share cannot fill the cache
_FEW = 256  # entries that are read at once, without waiting
_PATIENCE = (
    0.1  # seconds: a reader in WAL mode waits for nobody; elsewhere it soon gives up and says 503
)
_PAUSE = 0.002

T = TypeVar("T")
Find = Callable[["RecordCache", bytes], "CompiledCredential | None"]


def _share_weight(share: CompiledCredential) -> int:
    # One that is heavier than all of them may be takes the place of all.
    return min(record_weight(share), SHARES_BYTES)


class _Filed:
    """Records by digest, the oldest given up when they are too many or too heavy, and filed under what they depend on.

    ``by_digest`` is a plain dictionary in the order of insertion: reading it needs no lock and reorders nothing.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._weights = Weights()
        self.by_digest: dict[bytes, CompiledCredential] = {}
        self._digests: dict[
            str, tuple[bytes, ...]
        ] = {}  # most have one, for which nothing is smaller

    def file(self, record: CompiledCredential) -> None:
        if record.digest in self.by_digest:
            self._remove(record.digest)
        self._weights.add(record)
        while self.by_digest and (
            len(self.by_digest) >= self._capacity or self._weights.total > MAX_BYTES
        ):
            self._remove(next(iter(self.by_digest)))
        # The index comes first: whatever cuts this short, nothing is at hand that no change could drop.
        for subject in record.subjects:
            siblings = self._digests[subject] = (*self._digests.get(subject, ()), record.digest)
            if len(siblings) > _SIBLINGS:
                self._remove(siblings[0])
        self.by_digest[record.digest] = record

    def drop(self, subject: str) -> None:
        for digest in self._digests.get(subject, ()):
            self._remove(digest)

    def clear(self) -> None:
        self.by_digest.clear()
        self._digests.clear()
        self._weights.clear()

    def _remove(self, digest: bytes) -> None:
        record = self.by_digest.pop(digest, None)
        if record is None:
            return
        self._weights.remove(record)
        # In one step each: siblings that are at hand stay in the index, whatever cuts this short.
        for subject in record.subjects:
            siblings = self._digests[subject]
            at = siblings.index(digest)
            if len(siblings) > 1:
                self._digests[subject] = siblings[:at] + siblings[at + 1 :]
            else:
                del self._digests[subject]


class RecordCache:
    """The records of one store, as fresh as its newest committed change.

    What :attr:`at_hand` has counts until :attr:`look_at`, by the monotonic clock, and while ``view[0]``, the newest
    sequence that may be committed, is the one that was :attr:`applied`. Whoever compares asks the time first: a page
    that was cut off is noticed by a look, and not by reading it. Else :meth:`cached` confirms or reads again.
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
        self.applied, self._applied_at, self.look_at = 0, 0.0, 0.0
        self.view = never()
        self._failures = 0
        self._failure: Exception | None = None  # the last of them
        forks.register(self)

    def cached(self, digest: bytes, *, wait: bool = True) -> CompiledCredential | None:
        """Return the record of this digest if it is at hand and confirmed current.

        Raises WouldWait where that cannot be told at once and ``wait`` is False.
        """
        if monotonic() >= self.look_at or self.view[0] != self.applied:
            self._answer(partial(self._confirm, wait=wait), wait=wait)
        return self.at_hand(digest)

    def is_unknown(self, digest: bytes) -> bool:
        """Tell whether it is remembered that nothing has this digest; to be asked right behind :meth:`cached`.

        What is remembered was well-formed, so its text need not be read again, and no lock is waited for.
        """
        return digest in self._unknown

    def fetch(self, digest: bytes, find: Find, *, wait: bool = True) -> CompiledCredential | None:
        """Return what ``find`` looks up for this digest, or None if there is nothing; keep either answer.

        A look-up is short, so it is made at once; WouldWait only where something is in its way.
        """

        def look_up() -> CompiledCredential | None:
            self._confirm(wait=wait)
            if digest in self._unknown:
                return None
            record = self.at_hand(digest)
            if record is None or record.trusted is not None:  # of a JWT what was read now counts
                record = find(self, digest)
                record = None if record is None else record.named(self._identities)
            if record is None:
                self._unknown[digest] = True
            elif not record.unseen:  # which is looked at each time, until somebody has noted it
                self._records.file(record)
            return record

        return self._answer(look_up, wait=wait)

    def token(self, digest: bytes) -> CompiledCredential | None:
        """Find a token by its credential. Like those below, for :meth:`fetch`, which holds the lock."""
        return self._lookup.token(digest)

    def access(self, digest: bytes) -> CompiledCredential | None:
        """Find what an access credential opens, which is filed under the family that it depends on."""
        return self._lookup.access(digest)

    def share(self, digest: bytes) -> CompiledCredential | None:
        """Find a share by its secret."""
        return self._lookup.share(digest)

    def redeemed(self, digest: bytes, share_id: str, until: float) -> CompiledCredential | None:
        """Find what a token opens that was redeemed from a share; the share is read once for all of its tokens."""
        share = self._shares.get(share_id) or self._lookup.share_of(share_id)
        if share is None:
            return None
        self._shares[share_id] = share
        return compile_redeemed(share, until, digest)

    def unless_revoked(self, record: CompiledCredential) -> CompiledCredential:
        """Return the record of a JWT as it is: revoked, if its token or subject was."""
        return (
            record.revoke()
            if self._lookup.is_revoked(record.revocations, record.issued_at)
            else record
        )

    def close(self) -> None:
        """Close the connection and forget what was read. The next use starts anew."""
        forks.look()
        with self._lock:
            self._lookup.close()
            self._nothing_known()

    def hold(self) -> None:
        """Wait for a running look-up."""
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
        """Make the locks anew and close the connection. What was read stays, as confirmed by the next look."""
        del child
        self._lock = self._new_lock()
        self._owner_rights.renew()
        self.look_at = 0.0
        self._lookup.close()

    def _new_lock(self) -> threading.RLock:
        # In memory there is one connection, so its lock is held over whole transactions.
        return self._store.lock if self._database.in_memory else threading.RLock()

    def _answer(self, step: Callable[[], T], *, wait: bool) -> T:
        """Return what ``step`` reads under the lock; it is repeated while another process holds the database.

        The waiting is done here and not by SQLite, whose time-out belongs to the connection and not to the call.
        Who waits for another thread's turn shares its failure: else each would ask in vain, one after the other.
        """
        forks.look()
        failures, lock = self._failures, self._lock
        if not lock.acquire(blocking=wait):
            raise WouldWait
        try:
            if self._failures != failures:
                raise StoreUnavailable from self._failure
            if not wait and not self._lookup.is_open:
                raise WouldWait
            return _repeated(self._database, step, wait=wait)
        except self._errors as error:
            self._failures += 1
            self._failure = copy(error)  # without its traceback, whose frames hold this
            self._give_up()
            if self._database.torn:
                self._store.let_go()
            raise StoreUnavailable from error
        finally:
            lock.release()

    def _confirm(self, *, wait: bool) -> None:
        """Apply what the feed holds beyond what was applied, from the files that are there now."""
        if monotonic() >= self.look_at or self.view[0] != self.applied:
            looked = (
                monotonic()
            )  # before the look: however long this takes, the next one is not later
            self._look_at_files()
            self._apply(wait=wait)
            self.look_at = (
                looked + database.LOOK_EVERY
            )  # last: what was not read to its end is not trusted

    def _apply(self, *, wait: bool) -> None:
        # The entry that was applied last is read again: if it is not there, or is another one, the
        # database was purged beyond it, or is not the one that it was.
        most = _MANY if wait else _FEW
        entries = self._lookup.changes(self.applied, most) if self.applied else []
        if len(entries) == _FEW and not wait:
            raise WouldWait
        if (
            not entries
            or entries[0][:2] != (self.applied, self._applied_at)
            or len(entries) == _MANY
        ):
            newest = self._lookup.newest()
            if (
                self.applied or newest[0]
            ):  # in a feed that is empty, as where JWTs alone are used, nothing changed
                self._drop_all()
            self.applied, self._applied_at = newest
            return
        for entry in entries[1:]:
            if entry.action in HARMLESS:
                continue
            if entry.action == OWNER_CHANGED:
                self._owner_rights.drop(entry.subject)
                continue
            self._records.drop(entry.subject)
            self._shares.pop(entry.subject, None)
            if entry.action in MINTING:
                self._unknown.clear()
        # Only now: a reader that sees the new sequence must not find an old record.
        self.applied, self._applied_at = entries[-1][:2]

    def _look_at_files(self) -> None:
        """Notice a database or a page that was replaced, and open the new one."""
        identity = self._database.identity()
        if self._identity != identity:
            self._lookup.close()
            self._nothing_known()
            self._identity = identity
        self._database.check(self._lookup.connection)
        self._database.check_version(self._lookup.version())
        if self._page is None or not self._page.is_current():
            self._page = None
            with suppress(
                OSError
            ):  # it is not there, or is not ours to write: then the feed is read each time
                self._page = self._database.page(create=False)
        trusted = self._page is not None and self._lookup.announces()
        self.view = self._page.view if self._page is not None and trusted else never()

    def _give_up(self) -> None:
        """Forget everything after a failure, so that the next request asks again."""
        with self._lock:
            self._lookup.close()
            self._nothing_known()

    def _nothing_known(self) -> None:
        self.view = never()
        self._drop_all()
        self.applied, self._applied_at, self.look_at = 0, 0.0, 0.0

    def _drop_all(self) -> None:
        self._records.clear()
        self._shares.clear()
        self._unknown.clear()
        self._owner_rights.clear()


def _repeated(database: Database, step: Callable[[], T], *, wait: bool) -> T:
    """Return what ``step`` reads, once no other process holds the database, or raise its error after a moment."""
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
