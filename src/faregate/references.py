"""What a credential's text names, told before any look-up: nothing here asks the store."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from faregate.credentials import is_b64token, kind_of
from faregate.errors import Denied

if TYPE_CHECKING:
    from faregate.jwt import ShareTokens, Signed

TOKEN, SHARE, REDEEMED = "token", "share", "redeemed"
_RECORDS = {"tok": TOKEN, "shr": SHARE}


class Reference(NamedTuple):
    """What is looked up: a ``token`` or ``share`` by the credential's digest, or the share of a ``redeemed`` one."""

    kind: str
    digest: bytes
    signed: Signed | None = None


class References:
    """Reads the texts of credentials of one brand."""

    def __init__(self, brand: str, share_tokens: ShareTokens) -> None:
        self._brand = brand
        self._share_tokens = share_tokens

    def read(self, credential: str) -> Reference:
        """Return what a credential names.

        Raises Denied for what no look-up could find: ``malformed_credential`` for no b64token,
        ``unknown_credential`` for another brand or kind, a wrong checksum, a signature that is not ours.
        """
        if not is_b64token(credential):  # which a text that is too long is not
            raise Denied("malformed_credential")
        digest = sha256(credential.encode()).digest()
        kind = kind_of(credential, self._brand)
        if kind in _RECORDS:
            return Reference(_RECORDS[kind], digest)
        signed = None if kind else self._share_tokens.read(credential)
        if signed is None:
            raise Denied("unknown_credential")
        return Reference(REDEEMED, digest, signed)
