"""Finding the record behind a credential without using it: for who asks about a credential, and presents none."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from faregate.credentials.parsing import ACCESS, REFRESH, SHARE, TOKEN
from faregate.credentials.share_tokens import REDEEMED_LIFETIME
from faregate.decision.compiled import compile_jwt, compile_redeemed
from faregate.errors import Denied
from faregate.lifecycles.share_fields import share_limits
from faregate.lifecycles.token_fields import access_limits, limits_of

if TYPE_CHECKING:
    from faregate.credentials.parsing import ParsedCredential
    from faregate.decision.compiled import CompiledCredential
    from faregate.lifecycles.token_fields import Values
    from faregate.stores.store import Reading


class FoundCredential(NamedTuple):
    """What is behind a credential: its record as a request would be judged by it, and the row that it is made of.

    A JWT has no row; that of an access credential is its family's, and ``access`` its own.
    """

    reference: ParsedCredential
    compiled: CompiledCredential
    row: Values
    access: Values | None = None


def find_credential(reading: Reading, reference: ParsedCredential, now: float) -> FoundCredential:
    """Return what a credential stands for in this transaction, and note no use of it.

    Denied ``unknown_credential`` if there is nothing.
    """
    if reference.kind in (TOKEN, REFRESH):
        found = reading.tokens.by_digest(reference.digest, refresh=reference.kind == REFRESH)
        if found is not None:
            row, superseded_at = found
            return FoundCredential(reference, limits_of(row, reference.digest, superseded_at), row)
    elif reference.kind == ACCESS:
        pair = reading.refresh.by_access(reference.digest)
        if pair is not None:
            row, access = pair
            return FoundCredential(
                reference, access_limits(row, access, reference.digest), row, access
            )
    elif reference.kind == SHARE:
        share = reading.shares.by_digest(reference.digest)
        if share is not None:
            return FoundCredential(reference, share_limits(share, secret=True), share)
    elif reference.trusted is not None:
        record = compile_jwt(*reference.trusted, reference.digest)
        revoked = reading.revocations.revoked(record.revocations, record.issued_at)
        return FoundCredential(reference, record.revoke() if revoked else record, {})
    elif reference.signed is not None:
        share = reading.shares.get(reference.signed.share_id)
        if share is not None:
            until = min(reference.signed.expires_at, now + REDEEMED_LIFETIME)
            return FoundCredential(
                reference, compile_redeemed(share_limits(share), until, reference.digest), share
            )
    raise Denied("unknown_credential")
