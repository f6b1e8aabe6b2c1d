"""Finding the record behind a credential without using it: for who asks about a credential, and presents none."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from faregate.credentials.parsing import ACCESS, REFRESH, SHARE, TOKEN
from faregate.credentials.share_tokens import REDEEMED_LIFETIME
from faregate.decision.compiled import jwt_record, redeemed_record
from faregate.errors import Denied
from faregate.lifecycles.share_fields import share_limits
from faregate.lifecycles.token_fields import access_limits, limits_of

if TYPE_CHECKING:
    from faregate.credentials.parsing import Reference
    from faregate.decision.compiled import Record
    from faregate.lifecycles.token_fields import Values
    from faregate.stores.store import Reading


class Inspected(NamedTuple):
    """What is behind a credential: its record as a request would be judged by it, and the row that it is made of.

    A JWT has no row; that of an access credential is its family's, and ``access`` its own.
    """

    reference: Reference
    record: Record
    row: Values
    access: Values | None = None


def inspect(reading: Reading, reference: Reference, now: float) -> Inspected:
    """Return what a credential stands for in this transaction, and note no use of it.

    Denied ``unknown_credential`` if there is nothing.
    """
    if reference.kind in (TOKEN, REFRESH):
        found = reading.tokens.by_digest(reference.digest, refresh=reference.kind == REFRESH)
        if found is not None:
            row, superseded_at = found
            return Inspected(reference, limits_of(row, reference.digest, superseded_at), row)
    elif reference.kind == ACCESS:
        pair = reading.refresh.by_access(reference.digest)
        if pair is not None:
            row, access = pair
            return Inspected(reference, access_limits(row, access, reference.digest), row, access)
    elif reference.kind == SHARE:
        share = reading.shares.by_digest(reference.digest)
        if share is not None:
            return Inspected(reference, share_limits(share, secret=True), share)
    elif reference.trusted is not None:
        record = jwt_record(*reference.trusted, reference.digest)
        revoked = reading.revocations.revoked(record.revocations, record.issued_at)
        return Inspected(reference, record.revoke() if revoked else record, {})
    elif reference.signed is not None:
        share = reading.shares.get(reference.signed.share_id)
        if share is not None:
            until = min(reference.signed.expires_at, now + REDEEMED_LIFETIME)
            return Inspected(reference, redeemed_record(share_limits(share), until, reference.digest), share)
    raise Denied("unknown_credential")
