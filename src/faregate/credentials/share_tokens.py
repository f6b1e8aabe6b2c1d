"""JSON Web Tokens (RFC 7519): those that the gate signs itself, for shares that were redeemed.

They are HS256 with the gate's own secret and one fixed header (RFC 8725 section 3.11, explicit typing), which
is compared as text: the token chooses neither algorithm nor key. They carry the share's id and no rights:
what the share opens is looked up on each request.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, NamedTuple

import jwt

from faregate.errors import InvalidInput
from faregate.values.instants import END_OF_TIME

if TYPE_CHECKING:
    from faregate.credentials.signing_secret import SigningSecret

ALGORITHM = "HS256"
TYPE = "faregate-share+jwt"
REDEEMED_LIFETIME = 900.0  # seconds that a redeemed token lives, at most
_CLAIMS = ["iss", "aud", "sub", "jti", "iat", "exp"]
# pyright: reportUnknownMemberType=false
# PyJWT's types name those of a library for public keys, which is not needed here.
_HEADER = jwt.encode({}, bytes(32), ALGORITHM, headers={"typ": TYPE}, sort_headers=True).partition(
    "."
)[0]
# Three parts of base64url and nothing that a lenient decoder would skip. PyJWT refuses other spellings of the last.
_FORM = re.compile(rf"{re.escape(_HEADER)}\.[A-Za-z0-9_-]{{1,2000}}\.[A-Za-z0-9_-]{{43}}")


class Signed(NamedTuple):
    """What a token of ours says: whose it is, and until when. The instants are UTC epoch seconds."""

    share_id: str
    expires_at: float
    token_id: str
    issued_at: float


class ShareTokens:
    """Signs and reads the tokens of redeemed shares of one brand."""

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
        token = jwt.encode(
            claims, self._secret.newest(), ALGORITHM, headers=headers, sort_headers=True
        )
        return token, token_id

    def read(self, text: str) -> Signed | None:
        """Return what a token says that this gate signed; None for any other text.

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
                    audience=self.issuer,
                    issuer=self.issuer,
                    options={
                        "require": _CLAIMS,
                        "verify_exp": False,
                        "verify_iat": False,
                        "verify_nbf": False,
                    },
                )
            except jwt.InvalidTokenError:
                continue
            share_id, token_id, *instants = (claims[name] for name in ("sub", "jti", "exp", "iat"))
            if all(type(one) in (int, float) and 0 <= one < END_OF_TIME for one in instants):
                return Signed(str(share_id), float(instants[0]), str(token_id), float(instants[1]))
        return None


def _check_symmetric(secret: bytes) -> None:
    """Raise InvalidInput if a secret is really a public or private key, which others may know (RFC 8725 2.1)."""
    try:
        jwt.get_algorithm_by_name(ALGORITHM).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise InvalidInput(
            "secret: this is an asymmetric key; give a random text of 32 bytes or more"
        ) from None
