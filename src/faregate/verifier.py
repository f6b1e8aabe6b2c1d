"""From a credential's text to a principal: read, look up, judge, and the first failure decides.

The order is that of RFC 6750 section 3.1 and of what the caller has proved. Before the look-up only the
text is judged; from the look-up on the caller has shown possession, so the true reason may be told. The
needs of a route come last, in :meth:`faregate.principal.Principal.require`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from faregate.addresses import canonical
from faregate.credentials import MAX_LENGTH, is_b64token, kind_of
from faregate.errors import Denied, StoreUnavailable
from faregate.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Callable

    from faregate.record import Record
    from faregate.stores.freshness import Records
    from faregate.usage import Usage


class Verifier:
    """Judges credentials of one brand against the records of one store, by one clock."""

    def __init__(self, records: Records, usage: Usage, clock: Callable[[], float], brand: str) -> None:
        self._records = records
        self._usage = usage
        self._clock = clock
        self._brand = brand

    def verify(self, credential: str, address: str | None) -> Principal:
        """Return the principal of a credential that is known, alive, in time and in its networks; else raise Denied.

        ``address`` is the client's, as text without a port, or None.
        """
        if len(credential) > MAX_LENGTH:
            raise Denied("malformed_credential", address=address)
        try:
            digest = sha256(credential.encode()).digest()
        except UnicodeEncodeError:  # a lone surrogate, which no credential holds
            raise Denied("malformed_credential", address=address) from None
        # A digest that is known implies the right kind and checksum, so they are looked at only on a miss.
        try:
            record = self._records.cached(digest)
        except StoreUnavailable:
            self._check_form(credential, address)  # junk is junk, whether the store answers or not
            raise
        if record is None:
            record = self._look_up(credential, digest, address)
        now = self._clock()
        if record.admits(now, address):
            self._usage.note(record.id, now)
            return Principal(record, address)
        raise refusal(record, now, address)

    def _look_up(self, credential: str, digest: bytes, address: str | None) -> Record:
        self._check_form(credential, address)
        record = self._records.fetch(digest)
        if record is None:
            raise Denied("unknown_credential", address=address)
        return record

    def _check_form(self, credential: str, address: str | None) -> None:
        """Raise Denied for what no look-up could find: no b64token, another brand or kind, a wrong checksum."""
        if not is_b64token(credential):
            raise Denied("malformed_credential", address=address)
        if kind_of(credential, self._brand) != "tok":
            raise Denied("unknown_credential", address=address)


def refusal(record: Record, now: float, address: str | None) -> Denied:
    """Work out why a record that is known does not admit: alive, in time, from an allowed network."""
    if not now < record.superseded_at:
        reason = "unknown_credential"
    elif record.deactivated:
        reason = "deactivated"
    elif not now >= record.not_before:
        reason = "not_yet_valid"
    elif not now < record.expires_at:
        reason = "expired"
    elif address is None or canonical(address) is None:
        reason = "address_unknown"
    else:
        reason = "address_not_allowed"
    return Denied(reason, record_id=record.id, address=address)
