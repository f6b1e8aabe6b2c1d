"""JSON Web Tokens (RFC 7519): those that the gate signs itself, for shares that were redeemed.

They are HS256 with the gate's own secret and one fixed header (RFC 8725 section 3.11, explicit typing), which
is compared as text: the token chooses neither algorithm nor key. They carry the share's id and no rights:
what the share opens is looked up on each request.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

import jwt

from faregate.errors import InvalidInput
from faregate.instants import END_OF_TIME

if TYPE_CHECKING:
    from faregate.signing import SigningSecret

ALGORITHM = "HS256"
TYPE = "faregate-share+jwt"
REDEEMED_LIFETIME = 900.0  # seconds that a redeemed token lives, at most
_CLAIMS = ["iss", "aud", "sub", "jti", "iat", "exp"]
# pyright: reportUnknownMemberType=false
# PyJWT's types name those of a library for public keys, which is not needed here.
_HEADER = jwt.encode({}, bytes(32), ALGORITHM, headers={"typ": TYPE}, sort_headers=True).partition(".")[0]
# Three parts of base64url and nothing that a lenient decoder would skip. PyJWT refuses other spellings of the last.
_FORM = re.compile(rf"{re.escape(_HEADER)}\.[A-Za-z0-9_-]{{1,2000}}\.[A-Za-z0-9_-]{{43}}")


class ShareTokens:
    """Signs and reads the tokens of redeemed shares of one brand."""

    def __init__(self, secret: SigningSecret, brand: str) -> None:
        for given in secret.given:
            _check_symmetric(given)
        self._secret = secret
        self._issuer = f"urn:faregate:{brand}"

    def mint(self, share_id: str, now: float, expires_at: float) -> tuple[str, str]:
        """Return a new token of a share, and its ``jti``. The instants are UTC epoch seconds."""
        token_id = secrets.token_urlsafe(16)
        claims = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": share_id,
            "jti": token_id,
            "iat": now,
            "exp": expires_at,
        }
        headers = {"typ": TYPE}
        token = jwt.encode(claims, self._secret.newest(), ALGORITHM, headers=headers, sort_headers=True)
        return token, token_id

    def read(self, text: str) -> tuple[str, float] | None:
        """Return the share's id and the expiry of a token that this gate signed; None for any other text.

        Whether it has expired is for the gate's clock to say. StoreUnavailable if the secret cannot be read.
        """
        if not _FORM.fullmatch(text):
            return None
        for secret in self._secret.known():
            try:
                claims = jwt.decode(
                    text,
                    secret,
                    algorithms=[ALGORITHM],
                    audience=self._issuer,
                    issuer=self._issuer,
                    options={"require": _CLAIMS, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
                )
            except jwt.InvalidTokenError:
                continue
            share_id, expires_at = claims["sub"], claims["exp"]
            if isinstance(share_id, str) and type(expires_at) in (int, float) and 0 < expires_at < END_OF_TIME:
                return share_id, float(expires_at)
        return None


def _check_symmetric(secret: bytes) -> None:
    """Raise InvalidInput if a secret is really a public or private key, which others may know (RFC 8725 2.1)."""
    try:
        jwt.get_algorithm_by_name(ALGORITHM).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise InvalidInput("secret: this is an asymmetric key; give a random text of 32 bytes or more") from None
