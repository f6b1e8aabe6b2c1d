"""The verification of a credential: read its text, look it up, judge it. The first failure decides.

The order is that of RFC 6750 section 3.1. Before the look-up only the text is judged, so
a denial says nothing about the records. After the look-up the caller has proved possession, and the
true reason may be told. The needs of a route come last, in
:meth:`faregate.decision.principal.Principal.require`.

The ways of a request, from the fastest on::

    peek()                      the compiled credential is cached and current, and admits
    verify(wait=False)          short look-ups are made; WouldWait where a thread has to wait
    verify()                    waits for the store, the issuers' keys, the owner's rights
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

    from faregate.credentials.parsing import CredentialParser, ParsedCredential
    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import OwnerRights, Rights
    from faregate.model import Owner
    from faregate.stores.record_cache import Find
    from faregate.verification.usage import Usage

_FIND = {TOKEN: RecordCache.token, ACCESS: RecordCache.access, SHARE: RecordCache.share}


class Verifier:
    """Verifies credentials.

    ``records`` caches the records of the store, ``owner_rights`` the rights of their owners.
    ``usage`` collects uses, ``parser`` reads the texts, ``clock`` returns UTC epoch seconds.
    """

    def __init__(
        self,
        records: RecordCache,
        owner_rights: OwnerRights,
        usage: Usage,
        parser: CredentialParser,
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._owner_rights = owner_rights
        self._limits = owner_rights.limits
        self._usage = usage
        self._notes = usage.notes
        self._parser = parser
        self._clock = clock

    def peek(self, digest: bytes, address: str | None) -> Principal | None:
        """Fast path: return the principal of a cached credential that admits the request.

        ``digest`` is the credential's SHA-256, ``address`` the client's. Nothing is waited for, and
        neither store nor feed is read. None if :meth:`verify` must be called; None is not a denial.
        """
        records = self._records
        if monotonic() >= records.look_at or records.view[0] != records.applied:
            return None

        # A known digest implies the right kind and checksum. They are checked only on a miss.
        compiled = records.at_hand(digest)
        now = self._clock()

        # CompiledCredential.admits, inlined: a call would add a thirtieth to the cost of a hit.
        if compiled is None or not compiled.opens <= now < compiled.closes:
            return None
        networks = compiled.networks
        if (
            networks is not None
            and address not in networks.admitted
            and not networks.admit(address)
        ):
            return None
        if compiled.trusted is not None and not compiled.trusted(now):
            return None

        grants = None
        if self._limits:
            rights = self._owner_rights.known(compiled.effective_owner)
            if rights is None or rights.gone:
                return None
            grants = rights.grants

        if compiled.tracks_use:
            # The look-up, or the last confirmation of the cache, has started the writing thread.
            self._notes[compiled.id] = now
        return Principal(compiled, address, grants)

    def verify(
        self, credential: str, digest: bytes, address: str | None, *, wait: bool = True
    ) -> Principal:
        """Return the principal of a credential that is known, alive, in time and in its networks.

        ``digest`` is the SHA-256 of the text ``credential``. ``address`` is the client's, as text
        without a port, or None. :meth:`peek` returns a cached principal sooner.

        Raises Denied for the first step that fails. Raises StoreUnavailable if the store, an
        issuer's keys or the owner's rights are not available, WouldWait if ``wait`` is False and
        the answer has to be waited for.
        """
        compiled = self._look_up(credential, digest, wait=wait)

        rights = UNLIMITED
        if self._limits:
            rights = self._rights(compiled.effective_owner, wait=wait)
        if rights.gone:
            compiled = compiled.closed()

        now = self._clock()
        if not compiled.admits(now, address):
            raise compiled.refusal(now, address)
        if compiled.tracks_use:
            self._usage.note(compiled.id, now)
        return Principal(compiled, address, rights.grants)

    def _look_up(self, credential: str, digest: bytes, *, wait: bool) -> CompiledCredential:
        """Return the compiled credential, from the cache or else from the store."""
        try:
            compiled = self._records.cached(digest, wait=wait)
        except StoreUnavailable:
            # Junk is denied as junk, whether the store answers or not.
            self._parse(credential, digest, wait=wait)
            raise

        # A forked process has the records, confirmed just now, but no thread that writes notes yet.
        self._usage.resume()

        if compiled is None and self._records.is_unknown(digest):
            raise Denied("unknown_credential")

        # A cached JWT whose key is no longer known as trusted is read again.
        if compiled is None or (
            compiled.trusted is not None and not compiled.trusted(self._clock())
        ):
            find = self._finder(self._parse(credential, digest, wait=wait))
            compiled = self._records.fetch(digest, find, wait=wait)

        if compiled is not None and compiled.unseen and self._usage.may_note_presentation(digest):
            if not wait:
                raise WouldWait

            # From now on the credential before it rotates nothing. It may have been replaced in
            # between, so it is looked up again.
            self._usage.note_presentation(digest)
            compiled = self._records.fetch(digest, RecordCache.token)

        if compiled is None:
            raise Denied("unknown_credential")
        return compiled

    def _rights(self, owner: Owner, *, wait: bool) -> Rights:
        """Return the rights of an owner. The application is asked only if ``wait`` is True."""
        rights = self._owner_rights.known(owner)
        if rights is None and not wait:
            raise WouldWait
        return rights or self._owner_rights.ask(owner)

    def _parse(self, credential: str, digest: bytes, *, wait: bool) -> ParsedCredential:
        """Return the parsed credential; raise Denied for a text that no look-up could find."""
        parsed = self._parser.read(credential, digest, wait=wait)

        # A refresh credential is exchanged, and opens nothing itself.
        if parsed.kind == REFRESH:
            raise Denied("unknown_credential")
        return parsed

    def _finder(self, parsed: ParsedCredential) -> Find:
        """Return the look-up for a credential of this kind."""
        if parsed.trusted is not None:
            compiled = compile_jwt(*parsed.trusted, parsed.digest)
            return lambda records, _: records.unless_revoked(compiled)

        if parsed.signed is None:
            return _FIND[parsed.kind]

        share_id = parsed.signed.share_id
        # At most the lifetime of a redeemed token, so that a token of a stolen secret is soon read
        # again.
        until = min(parsed.signed.expires_at, self._clock() + REDEEMED_LIFETIME)
        return lambda records, digest: records.redeemed(digest, share_id, until)
