"""Finds the record of a credential that is the subject of a call, and does not authenticate it.

Introspection, explanations and self-revocation use it. No use of the credential is recorded, and no
cache is asked: each look-up reads the store in the transaction of the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from faregate.credentials.parsing import ACCESS, REFRESH, SHARE, TOKEN
from faregate.credentials.share_tokens import REDEEMED_LIFETIME
from faregate.decision.compiled import compile_jwt, compile_redeemed
from faregate.errors import Denied
from faregate.stores.compiled_rows import compile_access_row, compile_share_row, compile_token_row

if TYPE_CHECKING:
    from faregate.credentials.parsing import ParsedCredential
    from faregate.credentials.share_tokens import Signed
    from faregate.decision.compiled import CompiledCredential
    from faregate.fields.field import Columns
    from faregate.jwts.reader import Trusted
    from faregate.stores.store import Reading


class FoundCredential(NamedTuple):
    """A credential, compiled as a request would be judged by it, and its row.

    A JWT has an empty row. An access credential has the row of its refresh token as ``row``, and
    its own row as ``access_row``.
    """

    parsed: ParsedCredential
    compiled: CompiledCredential
    row: Columns
    access_row: Columns | None = None


def find_credential(reading: Reading, parsed: ParsedCredential, now: float) -> FoundCredential:
    """Return the credential as it is in this transaction, also if it is expired or revoked.

    ``now`` is in epoch seconds.

    Raises Denied ``unknown_credential`` if the store has no record of it.
    """
    target = None
    if parsed.kind in (TOKEN, REFRESH):
        target = _find_token(reading, parsed)
    elif parsed.kind == ACCESS:
        target = _find_access(reading, parsed)
    elif parsed.kind == SHARE:
        target = _find_share(reading, parsed)
    elif parsed.trusted is not None:
        target = _find_jwt(reading, parsed, parsed.trusted)
    elif parsed.signed is not None:
        target = _find_redeemed(reading, parsed, parsed.signed, now)

    if target is None:
        raise Denied("unknown_credential")
    return target


def _find_token(reading: Reading, parsed: ParsedCredential) -> FoundCredential | None:
    match = reading.tokens.by_digest(parsed.digest, refresh=parsed.kind == REFRESH)
    if match is None:
        return None

    row, superseded_at = match
    return FoundCredential(parsed, compile_token_row(row, parsed.digest, superseded_at), row)


def _find_access(reading: Reading, parsed: ParsedCredential) -> FoundCredential | None:
    match = reading.refresh.by_access(parsed.digest)
    if match is None:
        return None

    family_row, access_row = match
    compiled = compile_access_row(family_row, access_row, parsed.digest)
    return FoundCredential(parsed, compiled, family_row, access_row)


def _find_share(reading: Reading, parsed: ParsedCredential) -> FoundCredential | None:
    row = reading.shares.by_digest(parsed.digest)
    if row is None:
        return None
    return FoundCredential(parsed, compile_share_row(row, secret=True), row)


def _find_jwt(reading: Reading, parsed: ParsedCredential, trusted: Trusted) -> FoundCredential:
    """Return a JWT, compiled from its claims. The store holds only its revocations."""
    compiled = compile_jwt(*trusted, parsed.digest)
    if reading.revocations.revoked(compiled.revocations, compiled.issued_at):
        compiled = compiled.revoke()
    return FoundCredential(parsed, compiled, {})


def _find_redeemed(
    reading: Reading, parsed: ParsedCredential, signed: Signed, now: float
) -> FoundCredential | None:
    row = reading.shares.get(signed.share_id)
    if row is None:
        return None

    # As in a request: a token that was signed with a stolen secret ends with this lifetime.
    expires_at = min(signed.expires_at, now + REDEEMED_LIFETIME)
    compiled = compile_redeemed(compile_share_row(row), expires_at, parsed.digest)
    return FoundCredential(parsed, compiled, row)
