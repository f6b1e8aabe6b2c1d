"""An identity provider: its keys, the JWKS it publishes, and the JWTs it signs, valid or not."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from typing import Any

import jwt
from conftest import START
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from faregate import Issuer

ISSUER, AUDIENCE = "https://id.example", "https://api.example"
SECRET = b"an HMAC secret of the tests: longer than every hash that there is, and known to nobody."
ALGORITHMS = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA", "secret": "HS256"}


_MAKERS: dict[str, Callable[[], Any]] = {
    "small": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505  that is what it is for
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "wide": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed": ed25519.Ed25519PrivateKey.generate,
    "goldilocks": ed448.Ed448PrivateKey.generate,
    "secret": lambda: SECRET,
}


@cache
def private(name: str) -> Any:
    """Return the private key of this name, the same on each call.

    The name without its digits is the type of the key: a name of ``_MAKERS``, else RSA.
    """
    make = _MAKERS.get(name.rstrip("0123456789"), lambda: rsa.generate_private_key(65537, 2048))
    return make()


def jwk(name: str, /, **members: Any) -> dict[str, Any]:
    """Return the public JWK of a key, with its name as ``kid``; members that are None are left out."""
    kind = name.rstrip("0123456789")
    algorithm = {"small": "RS256", "wide": "ES384", "goldilocks": "EdDSA"}.get(
        kind
    ) or ALGORITHMS.get(kind, "RS256")
    public = jwt.get_algorithm_by_name(algorithm).to_jwk(private(name).public_key(), as_dict=True)
    known = {**public, "key_ops": None, "kid": name, "use": "sig", "alg": algorithm, **members}
    return {name: value for name, value in known.items() if value is not None}


def jwks(*keys: str | dict[str, Any]) -> dict[str, Any]:
    """Return a JWKS of keys, each given by name or as a JWK."""
    return {"keys": [jwk(key) if isinstance(key, str) else key for key in keys]}


def issuer(**settings: Any) -> Issuer:
    """Return the issuer that a gate trusts."""
    given = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "algorithms": ["RS256", "ES256", "EdDSA"],
        **settings,
    }
    if "keys" not in given and "jwks_url" not in given:
        given["keys"] = jwks("rsa", "ec", "ed", jwk("rsa2", alg=None))
    return Issuer(**given)


def claims_of(now: float = START, **members: Any) -> dict[str, Any]:
    """Return valid claims for ten minutes; members that are None are left out."""
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "app", "jti": "t1", "iat": int(now),
        "exp": int(now) + 600, "scope": "docs:read",
    } | members  # fmt: skip
    return {name: value for name, value in claims.items() if value is not None}


def header_of(key: str = "rsa", **members: Any) -> dict[str, Any]:
    """Return a valid header for a key; members that are None are left out."""
    header = {
        "alg": ALGORITHMS.get(key.rstrip("0123456789"), "RS256"),
        "kid": key,
        "typ": "at+jwt",
        **members,
    }
    return {name: value for name, value in header.items() if value is not None}


def part(content: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def compact(header: bytes, payload: bytes, key: str = "rsa", algorithm: str | None = None) -> str:
    """Return a compact JWS of any header and payload, with a valid signature."""
    signed = f"{part(header)}.{part(payload)}"
    name = algorithm or ALGORITHMS.get(key.rstrip("0123456789"), "RS256")
    return f"{signed}.{part(jwt.get_algorithm_by_name(name).sign(signed.encode(), private(key)))}"


def token(
    now: float = START, *, key: str = "rsa", header: dict[str, Any] | None = None, **claims: Any
) -> str:
    """Return a JWT that is valid, except for the given claims and header members."""
    return compact(
        json.dumps(header_of(key, **(header or {}))).encode(),
        json.dumps(claims_of(now, **claims)).encode(),
        key,
    )
