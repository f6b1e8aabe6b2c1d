"""From a credential's text to a principal: read, look up, judge, and the first failure decides.

The order is that of RFC 6750 section 3.1 and of what the caller has proved. Before the look-up only the
text is judged; from the look-up on the caller has shown possession, so the true reason may be told. The
needs of a route come last, in :meth:`faregate.decision.principal.Principal.require`.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from faregate.credentials.parsing import ACCESS, REFRESH, SHARE, TOKEN
from faregate.credentials.share_tokens import REDEEMED_LIFETIME
from faregate.decision.compiled import compile_jwt
from faregate.decision.owner_rights import UNLIMITED
from faregate.decision.principal import Principal
from faregate.errors import Denied, StoreUnavailable, WouldWait
from faregate.stores.record_cache import RecordCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from faregate.credentials.parsing import CredentialParser
    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import OwnerRights, Rights
    from faregate.model import Owner
    from faregate.stores.record_cache import Find
    from faregate.verification.usage import Usage

_FIND = {TOKEN: RecordCache.token, ACCESS: RecordCache.access, SHARE: RecordCache.share}


class Verifier:
    """Judges credentials against the records of one store, by one clock."""

    def __init__(
        self,
        records: RecordCache,
        owner_rights: OwnerRights,
        usage: Usage,
        references: CredentialParser,
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._owner_rights = owner_rights
        self._limits = owner_rights.limits
        self._usage = usage
        self._notes = usage.notes
        self._parser = references
        self._clock = clock

    def peek(self, digest: bytes, address: str | None) -> Principal | None:
        """Return the principal of a credential whose record is at hand, and admits; None says nothing at all.

        This is what most requests are: it waits for nothing, and asks neither store nor feed.
        """
        records = self._records
        if monotonic() >= records.look_at or records.view[0] != records.applied:
            return None

        # A digest that is known implies the right kind and checksum, so they are looked at only on a miss.
        record = records.at_hand(digest)
        now = self._clock()
        # What Record.admits says, written out: a call would be a thirtieth of what all of this costs.
        if record is None or not record.opens <= now < record.closes:
            return None
        networks = record.networks
        if (
            networks is not None
            and address not in networks.admitted
            and not networks.admit(address)
        ):
            return None
        if record.trusted is not None and not record.trusted(now):
            return None

        grants = None
        if self._limits:
            rights = self._owner_rights.known(record.effective_owner)
            if rights is None or rights.gone:
                return None
            grants = rights.grants

        if record.tracks_use:
            # Whoever looked the record up, or confirmed it, has started the thread that writes this.
            self._notes[record.id] = now
        return Principal(record, address, grants)

    def verify(
        self, credential: str, digest: bytes, address: str | None, *, wait: bool = True
    ) -> Principal:
        """Return the principal of a credential that is known, alive, in time and in its networks; else raise Denied.

        What is at hand is found sooner by :meth:`peek`. ``address`` is the client's, as text without a port, or None.
        WouldWait where ``wait`` is False and the answer is not at hand.
        """
        record = self._look_up(credential, digest, wait=wait)
        rights = self._rights(record.effective_owner, wait=wait) if self._limits else UNLIMITED
        if rights.gone:
            record = record.closed()
        now = self._clock()
        if record.admits(now, address):
            if record.tracks_use:
                self._usage.note(record.id, now)
            return Principal(record, address, rights.grants)
        raise record.refusal(now, address)

    def _look_up(self, credential: str, digest: bytes, *, wait: bool) -> CompiledCredential:
        try:
            record = self._records.cached(digest, wait=wait)
        except StoreUnavailable:
            self._finder(
                credential, digest, wait=wait
            )  # junk is junk, whether the store answers or not
            raise
        # A forked process has the records, which were confirmed just now, and not yet the thread that writes notes.
        self._usage.resume()
        if record is None and self._records.is_unknown(digest):
            raise Denied("unknown_credential")
        if record is None or (record.trusted is not None and not record.trusted(self._clock())):
            find = self._finder(credential, digest, wait=wait)
            record = self._records.fetch(digest, find, wait=wait)
        if record is not None and record.unseen and self._usage.may_see(digest):
            if not wait:
                raise WouldWait
            # From now on the credential before it rotates nothing. Meanwhile it may have been replaced.
            self._usage.see(digest)
            record = self._records.fetch(digest, RecordCache.token)
        if record is None:
            raise Denied("unknown_credential")
        return record

    def _rights(self, owner: Owner, *, wait: bool) -> Rights:
        """Return what an owner may do. The application is asked where that may take its time."""
        rights = self._owner_rights.known(owner)
        if rights is None and not wait:
            raise WouldWait
        return rights or self._owner_rights.ask(owner)

    def _finder(self, credential: str, digest: bytes, *, wait: bool) -> Find:
        """Return the look-up for a credential of this kind; Denied for what no look-up could find."""
        reference = self._parser.read(credential, digest, wait=wait)
        if reference.trusted is not None:
            record = compile_jwt(*reference.trusted, digest)
            return lambda records, _: records.unless_revoked(record)
        if reference.kind == REFRESH:  # which is exchanged, and opens nothing itself
            raise Denied("unknown_credential")
        if reference.signed is None:
            return _FIND[reference.kind]
        share_id = reference.signed.share_id
        # No longer than a token lives: one that was signed with a stolen secret is soon read again.
        until = min(reference.signed.expires_at, self._clock() + REDEEMED_LIFETIME)
        return lambda records, digest: records.redeemed(digest, share_id, until)
