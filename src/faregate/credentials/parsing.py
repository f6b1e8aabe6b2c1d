"""What a credential's text names, told before any look-up: nothing here asks the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from faregate.credentials.opaque import MAX_OPAQUE, kind_of, marks_of
from faregate.credentials.opaque import digest as digest_of
from faregate.errors import Denied

if TYPE_CHECKING:
    from faregate.credentials.share_tokens import ShareTokens, Signed
    from faregate.jwts.reader import Trusted, TrustedIssuers

TOKEN, REFRESH, ACCESS, SHARE, REDEEMED, JWT = (
    "token",
    "refresh",
    "access",
    "share",
    "redeemed",
    "jwt",
)
_RECORDS = {"tok": TOKEN, "rft": REFRESH, "act": ACCESS, "shr": SHARE}


class ParsedCredential(NamedTuple):
    """What a credential names.

    What is looked up of a ``token``, ``refresh`` or ``access`` credential or a ``share`` is found by the digest, of a
    ``redeemed`` one by its share; a ``jwt`` of an issuer says itself what it stands for.
    """

    kind: str
    digest: bytes
    signed: Signed | None = None
    trusted: Trusted | None = None


class CredentialParser:
    """Reads the texts of credentials of one brand, and of the issuers that are trusted, if there are any."""

    def __init__(
        self, brand: str, share_tokens: ShareTokens, issuers: TrustedIssuers | None, longest: int
    ) -> None:
        self._brand = brand
        self._share_tokens = share_tokens
        self._issuers = issuers
        self._longest = longest

    def digest(self, credential: str) -> bytes:
        """Return the SHA-256 of a text that may be a credential, under which its record is found.

        Raises Denied ``malformed_credential`` for a text that is too long, or holds half of a surrogate pair: that is
        in the alphabet of no credential.
        """
        if len(credential) > self._longest:
            raise self._too_long(credential)
        try:
            return digest_of(credential)
        except UnicodeEncodeError:
            raise Denied("malformed_credential") from None

    def read(
        self, credential: str, digest: bytes | None = None, *, wait: bool = True
    ) -> ParsedCredential:
        """Return what a credential names; its ``digest`` is given by who has it already.

        Raises Denied for what no look-up could find: ``malformed_credential`` for no b64token and what is too long,
        ``unknown_credential`` for another brand or kind, a wrong checksum, a signature of nobody who is trusted.
        StoreUnavailable while an issuer's keys are not known; WouldWait where they would have to be waited for.
        """
        if len(credential) <= MAX_OPAQUE:
            kind = kind_of(credential, self._brand)
            if kind is not None:  # which is a b64token, too
                return ParsedCredential(_RECORDS[kind], digest or digest_of(credential))
        elif len(credential) > self._longest:
            raise self._too_long(credential)

        raw = credential.encode(errors="replace")  # a half of a surrogate pair is in no credential
        marks = marks_of(raw)
        if marks is None:
            raise Denied("malformed_credential")
        if marks != b"..":
            raise Denied("unknown_credential")

        if digest is None:
            digest = digest_of(credential)
        signed = self._share_tokens.read(credential)
        if signed is not None:
            return ParsedCredential(REDEEMED, digest, signed)
        if self._issuers is not None:
            return ParsedCredential(JWT, digest, trusted=self._issuers.read(raw, wait=wait))
        why = "this gate trusts no issuer of JWTs" if raw.startswith(b"e") else None
        raise Denied("unknown_credential", why=why)

    def _too_long(self, credential: str) -> Denied:
        words = f"The credential has {len(credential):,} characters; at most {self._longest:,} are taken."
        return Denied("malformed_credential", words)
