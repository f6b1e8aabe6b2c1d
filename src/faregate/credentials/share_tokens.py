"""JSON Web Tokens (RFC 7519) that the gate signs itself, for redeemed shares.

They are HS256 with the gate's own secret and a fixed header (explicit typing, RFC 8725 section
3.11). The header is compared as text, so that the token chooses neither algorithm nor key. A token
carries the id of its share and no rights: the share's record is looked up on each request.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, NamedTuple

import jwt

from faregate.errors import InvalidInput
from faregate.values.instants import END_OF_TIME

if TYPE_CHECKING:
    from jwt.types import Options

    from faregate.credentials.signing_secret import SigningSecret

# PyJWT's types name those of a library for public keys, which is not needed here.
# pyright: reportUnknownMemberType=false

ALGORITHM = "HS256"
TYPE = "faregate-share+jwt"
REDEEMED_LIFETIME = 900.0  # seconds, the longest lifetime of a redeemed token

_CLAIMS = ["iss", "aud", "sub", "jti", "iat", "exp"]
_EMPTY = jwt.encode({}, bytes(32), ALGORITHM, headers={"typ": TYPE}, sort_headers=True)
_HEADER = _EMPTY.partition(".")[0]
# Three parts of base64url, without any character that a lenient decoder would skip. PyJWT refuses
# other spellings of the signature.
_FORM = re.compile(rf"{re.escape(_HEADER)}\.[A-Za-z0-9_-]{{1,2000}}\.[A-Za-z0-9_-]{{43}}")
# Instants are judged by the gate's clock, not by PyJWT's.
_OPTIONS: Options = {
    "require": _CLAIMS,
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
}


class Signed(NamedTuple):
    """The claims of a redeemed token. The instants are UTC epoch seconds."""

    share_id: str
    expires_at: float
    token_id: str
    issued_at: float


class ShareTokens:
    """Signs and reads the tokens of redeemed shares.

    ``secret`` holds the secrets to sign and verify with, ``brand`` is the gate's brand, which names
    the issuer. Raises InvalidInput if a given secret is an asymmetric key.
    """

    def __init__(self, secret: SigningSecret, brand: str) -> None:
        for given in secret.given:
            _check_symmetric(given)

        self._secret = secret
        self.issuer = f"urn:faregate:{brand}"

    def mint(self, share_id: str, now: float, expires_at: float) -> tuple[str, str]:
        """Return a new token of a share, and its ``jti``. The instants are UTC epoch seconds."""
        token_id = secrets.token_urlsafe(16)
        claims = {
            "iss": self.issuer,
            "aud": self.issuer,
            "sub": share_id,
            "jti": token_id,
            "iat": now,
            "exp": expires_at,
        }
        headers = {"typ": TYPE}
        secret = self._secret.newest()
        token = jwt.encode(claims, secret, ALGORITHM, headers=headers, sort_headers=True)
        return token, token_id

    def read(self, text: str) -> Signed | None:
        """Return the claims of a token that this gate signed, expired or not; None for other texts.

        Raises StoreUnavailable if the secret cannot be read.
        """
        if not _FORM.fullmatch(text):
            return None

        for secret in self._secret.known():
            signed = self._verified(text, secret)
            if signed is not None:
                return signed
        return None

    def _verified(self, text: str, secret: bytes) -> Signed | None:
        """Return the claims of a token that ``secret`` signed, or None."""
        try:
            claims = jwt.decode(
                text,
                secret,
                algorithms=[ALGORITHM],
                audience=self.issuer,
                issuer=self.issuer,
                options=_OPTIONS,
            )
        except jwt.InvalidTokenError:
            return None

        expires_at = claims["exp"]
        issued_at = claims["iat"]
        if not _is_instant(expires_at) or not _is_instant(issued_at):
            return None
        return Signed(str(claims["sub"]), float(expires_at), str(claims["jti"]), float(issued_at))


def _is_instant(claim: object) -> bool:
    # True and False are integers to Python, so the type itself is compared.
    if type(claim) is int or type(claim) is float:
        return 0 <= claim < END_OF_TIME
    return False


def _check_symmetric(secret: bytes) -> None:
    """Raise InvalidInput for a public or private key, which others may know (RFC 8725 2.1)."""
    try:
        jwt.get_algorithm_by_name(ALGORITHM).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise InvalidInput(
            "secret: this is an asymmetric key; give a random text of 32 bytes or more"
        ) from None
