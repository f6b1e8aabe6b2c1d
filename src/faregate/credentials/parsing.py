"""The first steps of a verification: the form of a credential's text, and the key of its record.

Everything here is decided by the text, the gate's secret and the issuers' keys. The store is not
asked, so junk is refused without a look-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from faregate.credentials.opaque import MAX_OPAQUE, OpaqueKind, kind_of, marks_of
from faregate.credentials.opaque import digest as digest_of
from faregate.errors import Denied

if TYPE_CHECKING:
    from faregate.credentials.share_tokens import ShareTokens, Signed
    from faregate.jwts.reader import Trusted, TrustedIssuers

ParsedKind = Literal["token", "refresh", "access", "share", "redeemed", "jwt"]

TOKEN: Final = "token"  # noqa: S105  a kind, no secret
REFRESH: Final = "refresh"
ACCESS: Final = "access"
SHARE: Final = "share"
REDEEMED: Final = "redeemed"
JWT: Final = "jwt"

_KINDS: dict[OpaqueKind, ParsedKind] = {"tok": TOKEN, "rft": REFRESH, "act": ACCESS, "shr": SHARE}


class ParsedCredential(NamedTuple):
    """The kind of a credential, and the key under which its record is found.

    ``digest`` is the SHA-256 of the text. It is the key of a ``token``, ``refresh`` or ``access``
    credential and of a ``share``. ``signed`` holds the claims of a ``redeemed`` token, among them
    the id of its share. ``trusted`` holds the claims of an issuer's ``jwt``, which needs no record.
    """

    kind: ParsedKind
    digest: bytes
    signed: Signed | None = None
    trusted: Trusted | None = None


class CredentialParser:
    """Reads the texts of credentials.

    ``brand`` is the gate's brand, ``share_tokens`` reads its redeemed tokens, ``issuers`` the JWTs
    of trusted issuers, if there are any. ``longest`` bounds the length, in characters.
    """

    def __init__(
        self, brand: str, share_tokens: ShareTokens, issuers: TrustedIssuers | None, longest: int
    ) -> None:
        self._brand = brand
        self._share_tokens = share_tokens
        self._issuers = issuers
        self._longest = longest

    def digest(self, credential: str) -> bytes:
        """Return the SHA-256 of a presented text, the key of its record.

        Raises Denied ``malformed_credential`` for a text that is too long or holds half of a
        surrogate pair, which is in the alphabet of no credential.
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
        """Return the kind of a credential and the key of its record.

        ``digest`` is the text's SHA-256, if the caller has it already.

        Raises Denied for a text that no look-up could find: ``malformed_credential`` if it is no
        b64token (RFC 6750 section 2.1) or too long, ``unknown_credential`` for another brand or
        kind, a wrong checksum or an untrusted signature. Raises StoreUnavailable while an issuer's
        keys are not known, WouldWait if ``wait`` is False and they have to be fetched.
        """
        if len(credential) <= MAX_OPAQUE:
            kind = kind_of(credential, self._brand)
            if kind is not None:
                # Every opaque credential is a b64token, too.
                return ParsedCredential(_KINDS[kind], digest or digest_of(credential))
        elif len(credential) > self._longest:
            raise self._too_long(credential)

        # Half of a surrogate pair becomes "?", which is in the alphabet of no credential either.
        raw = credential.encode(errors="replace")
        marks = marks_of(raw)
        if marks is None:
            raise Denied("malformed_credential")
        if marks != b"..":
            raise Denied("unknown_credential")
        return self._read_jwt(credential, raw, digest or digest_of(credential), wait=wait)

    def _read_jwt(
        self, credential: str, raw: bytes, digest: bytes, *, wait: bool
    ) -> ParsedCredential:
        """Return a JWT of this gate or of a trusted issuer; raise Denied for any other."""
        signed = self._share_tokens.read(credential)
        if signed is not None:
            return ParsedCredential(REDEEMED, digest, signed)
        if self._issuers is not None:
            return ParsedCredential(JWT, digest, trusted=self._issuers.read(raw, wait=wait))

        why = None
        if raw.startswith(b"e"):  # as the Base64 of a JSON object does
            why = "this gate trusts no issuer of JWTs"
        raise Denied("unknown_credential", why=why)

    def _too_long(self, credential: str) -> Denied:
        length = len(credential)
        words = f"The credential has {length:,} characters; at most {self._longest:,} are taken."
        return Denied("malformed_credential", words)
