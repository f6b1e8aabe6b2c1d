"""Verification keys of an issuer: JWK sets (RFC 7517), PEM, and HMAC secrets.

The law: each key serves a single algorithm. It is the value of its ``alg``, or else the issuer's
only algorithm for its type and curve. A token chooses a key by name, and never how the key is used
(RFC 8725 sections 3.1 and 3.2).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from faregate.errors import InvalidInput
from faregate.values.names import abbreviated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jwt.algorithms import Algorithm

MAX_KEYS = 100


class Family(NamedTuple):
    """The keys that an algorithm takes, and the length of its signature.

    ``kty``, ``curve``: type and curve of the key (RFC 7518 sections 3.1 and 6.1, RFC 8037).
    ``signature``: length in bytes; None where it depends on the key.
    """

    kty: str
    curve: str | None
    signature: int | None


# EdDSA covers two curves, and the key tells them apart; RFC 9864 names each.
ALGORITHMS: dict[str, tuple[Family, ...]] = {
    "HS256": (Family("oct", None, 32),),
    "HS384": (Family("oct", None, 48),),
    "HS512": (Family("oct", None, 64),),
    "RS256": (Family("RSA", None, None),),
    "RS384": (Family("RSA", None, None),),
    "RS512": (Family("RSA", None, None),),
    "PS256": (Family("RSA", None, None),),
    "PS384": (Family("RSA", None, None),),
    "PS512": (Family("RSA", None, None),),
    "ES256": (Family("EC", "P-256", 64),),
    "ES384": (Family("EC", "P-384", 96),),
    "ES512": (Family("EC", "P-521", 132),),
    "EdDSA": (Family("OKP", "Ed25519", 64), Family("OKP", "Ed448", 114)),
    "Ed25519": (Family("OKP", "Ed25519", 64),),
    "Ed448": (Family("OKP", "Ed448", 114),),
}

# Public members by key type: private members of a JWK are never read.
_PUBLIC_MEMBERS = {
    "RSA": ("n", "e"),
    "EC": ("crv", "x", "y"),
    "OKP": ("crv", "x"),
    "oct": ("k",),
}
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_LONGEST = 1400  # characters of a member: a modulus of 8,192 bits

# RFC 7518 section 3.3 sets the minimum; longer moduli would hold up a request.
_BITS = range(2048, 8192 + 1)
_EXPONENTS = range(3, 2**32)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_=\s-]+")

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


def _quoted(text: object) -> str:
    """Return a text of an issuer in a form that is safe in a log."""
    return ascii(text)[:200]


class Unusable(ValueError):
    """A key cannot verify anything here; the message says why."""


class Key(NamedTuple):
    """A key for a single algorithm.

    ``identity``: digest of name, algorithm and key material.
    ``size``: length of its signatures in bytes.
    ``secret``: the HMAC secret, which signs as well as verifies; None for a public key.
    """

    kid: str | None
    algorithm: str
    identity: bytes
    size: int
    verify: Callable[[bytes, bytes], bool]
    secret: bytes | None = None

    def __repr__(self) -> str:
        return f"Key({self.kid!r}, {self.algorithm})"


class KeySet:
    """Finds the keys of an issuer by the names and algorithms in its tokens.

    Different keys with the same name and algorithm cannot be told apart, so all are left out.
    ``skipped`` lists the keys that were left out, each with its reason.
    """

    def __init__(self, keys: Iterable[Key], skipped: Sequence[str] = ()) -> None:
        by_name: dict[tuple[str | None, str], dict[bytes, Key]] = {}
        for key in keys:
            by_name.setdefault((key.kid, key.algorithm), {})[key.identity] = key

        self._keys: dict[tuple[str | None, str], Key] = {}
        clashes: list[str] = []
        for name, namesakes in by_name.items():
            if len(namesakes) == 1:
                self._keys[name] = next(iter(namesakes.values()))
            else:
                clashes.append(f"several keys are called {_quoted(name[0])}")

        self._sole = next(iter(self._keys.values())) if len(self._keys) == 1 else None
        self.skipped = (*skipped, *clashes)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The HMAC secrets among the keys."""
        return tuple(key.secret for key in self._keys.values() if key.secret is not None)

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key that a token names, or None.

        A token without ``kid`` means the only key, and every ``kid`` means an only key without a
        name. Among several keys, a key that was not named is never tried (RFC 7515 section 4.1.4).
        """
        key = self._keys.get((kid, algorithm)) if kid is not None else None
        if key is None and self._sole is not None and None in (kid, self._sole.kid):
            key = self._sole if self._sole.algorithm == algorithm else None
        return key


def read_set(document: Mapping[str, Any], algorithms: Sequence[str]) -> KeySet:
    """Return the keys of a JWK set (RFC 7517 section 5) that serve the algorithms.

    Other keys are skipped. Raises ValueError for a document that is not a JWK set, or that has
    more than :data:`MAX_KEYS` keys.
    """
    listed = document.get("keys")
    if not isinstance(listed, list | tuple):
        raise ValueError("a JWK set has a list of keys (RFC 7517 section 5)")  # noqa: TRY004

    listed = cast("Sequence[object]", listed)
    if len(listed) > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS} keys")

    keys: list[Key] = []
    skipped: list[str] = []
    for index, jwk in enumerate(listed):
        try:
            keys.append(_read_jwk(jwk, algorithms))
        except Unusable as error:
            skipped.append(f"keys[{index}]: {error}")
    return KeySet(keys, skipped)


def given_keys(keys: object, algorithms: Sequence[str]) -> KeySet:
    """Return the keys that an application gives: a JWK set as a mapping, PEM, or an HMAC secret.

    Raises InvalidInput if no key can verify, or if a secret is too short or is an asymmetric key.
    """
    if isinstance(keys, Mapping):
        return _given_set(cast("Mapping[str, Any]", keys), algorithms)
    if not isinstance(keys, str | bytes):
        raise InvalidInput(
            "keys: a JWK set as a dict, a public key as PEM, or the secret of an HMAC algorithm"
        )

    try:
        if not algorithms[0].startswith("HS"):
            return KeySet([_read_pem(keys, algorithms)])
        raw = keys.encode() if isinstance(keys, str) else keys
        return KeySet([_secret_key(raw, None, _only(algorithms, "oct", None))])
    except UnicodeError:
        raise InvalidInput("keys: expected text that can be encoded as UTF-8") from None
    except Unusable as error:
        raise InvalidInput(f"keys: {error}") from None


def _given_set(document: Mapping[str, Any], algorithms: Sequence[str]) -> KeySet:
    try:
        keys = read_set(document, algorithms)
    except ValueError as error:
        raise InvalidInput(f"keys: {error}") from None

    # A weak secret is an error of the application; a strange public key belongs to the provider.
    has_secrets = algorithms[0].startswith("HS")
    if not keys or (has_secrets and keys.skipped):
        reason = abbreviated(list(keys.skipped)) or "the set is empty"
        raise InvalidInput(f"keys: no key can be used; {reason}")
    return keys


def _read_jwk(jwk: object, algorithms: Sequence[str]) -> Key:
    """Return a key of a set (RFC 7517 section 4), without the private members."""
    if not isinstance(jwk, dict):
        raise Unusable("it is not a JWK, or has a duplicate member (RFC 7517 section 4)")

    members = cast("dict[str, object]", jwk)
    kid = members.get("kid")
    kty = members.get("kty")
    if not isinstance(kid, str | None) or not isinstance(kty, str) or kty not in _PUBLIC_MEMBERS:
        raise Unusable("its kid is not a string, or its kty is not supported")
    _check_purpose(members)

    public = _public_members(members, kty)
    curve = str(public["crv"]) if "crv" in public else None
    algorithm = members.get("alg")
    if algorithm is None:
        algorithm = _only(algorithms, kty, curve)
    elif algorithm not in algorithms:
        raise Unusable("its alg is none of the issuer's")

    try:
        loaded = _implementation(str(algorithm)).from_jwk({"kty": kty, **public})
    except (jwt.PyJWTError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Unusable(f"it cannot be read: {_quoted(str(error))}") from None

    if isinstance(loaded, bytes):
        return _secret_key(loaded, kid, str(algorithm))
    return _public_key(cast("PublicKey", loaded), kid, str(algorithm))


def _check_purpose(members: dict[str, object]) -> None:
    """Raise Unusable for a key that is not meant for verification."""
    if members.get("use") not in (None, "sig"):
        raise Unusable("its use is not 'sig' (RFC 7517 section 4.2)")

    operations = members.get("key_ops")
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        raise Unusable("its key_ops have no 'verify' (RFC 7517 section 4.3)")


def _public_members(members: dict[str, object], kty: str) -> dict[str, object]:
    public = {name: members.get(name) for name in _PUBLIC_MEMBERS[kty]}
    if not all(isinstance(value, str) and len(value) <= _LONGEST for value in public.values()):
        raise Unusable(f"a member of {', '.join(public)} is missing, is no text or is too long")
    return public


def _read_pem(text: str | bytes, algorithms: Sequence[str]) -> Key:
    """Return the key of a PEM text (RFC 7468): a public key, or the key of a certificate."""
    raw = text.encode() if isinstance(text, str) else text
    labels = _PEM.findall(raw.decode(errors="replace"))
    if len(labels) != 1:
        raise Unusable("expected a single public key as PEM; give several keys as a JWK set")
    if "PRIVATE" in labels[0]:
        raise Unusable("private key: only the issuer may have it; give the public key")

    try:
        if labels[0] == "CERTIFICATE":
            loaded: object = x509.load_pem_x509_certificate(raw).public_key()
        else:
            loaded = load_pem_public_key(raw)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("this PEM cannot be read as a public key") from None

    if not isinstance(loaded, PublicKey):
        raise Unusable("the type of this key is not supported")
    return _public_key(loaded, None, _only(algorithms, *_kind(loaded)))


def _public_key(key: PublicKey, kid: str | None, algorithm: str) -> Key:
    kind = _kind(key)
    families = [family for family in ALGORITHMS[algorithm] if (family.kty, family.curve) == kind]
    if not families:
        kty, curve = kind
        raise Unusable(f"{algorithm} takes no key of the type {kty} {curve or ''}".rstrip())

    size = families[0].signature
    if isinstance(key, RSAPublicKey):
        _check_rsa(key)
        # The signature is as long as the modulus (RFC 8017 section 8).
        size = (key.key_size + 7) // 8

    material = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _key(kid, algorithm, material, size or 0, key)


def _check_rsa(key: RSAPublicKey) -> None:
    if key.key_size not in _BITS:
        raise Unusable(f"an RSA key of {key.key_size} bits; it must have {_BITS[0]} to {_BITS[-1]}")

    exponent = key.public_numbers().e
    if exponent not in _EXPONENTS or not exponent % 2:
        raise Unusable("the exponent of this RSA key is not safe")


def _secret_key(secret: bytes, kid: str | None, algorithm: str) -> Key:
    size = ALGORITHMS[algorithm][0].signature or 0
    if len(secret) < size:
        raise Unusable(
            f"a secret of {len(secret)} bytes; {algorithm} takes {size} or more "
            "(RFC 7518 section 3.2)"
        )
    if is_asymmetric(secret):
        raise Unusable(
            "this is a public or private key, which others may know, and no secret "
            "(RFC 8725 section 2.1)"
        )
    return _key(kid, algorithm, secret, size, secret)


def _key(kid: str | None, algorithm: str, material: bytes, size: int, key: object) -> Key:
    identity = sha256(repr((kid, algorithm)).encode() + b"\0" + material).digest()
    secret = key if isinstance(key, bytes) else None
    return Key(kid, algorithm, identity, size, partial(_verify, algorithm, key), secret)


def _verify(algorithm: str, key: Any, signed: bytes, signature: bytes) -> bool:
    return _implementation(algorithm).verify(signed, key, signature)


def _implementation(algorithm: str) -> Algorithm:
    # PyJWT knows both curves by the name EdDSA alone.
    name = "EdDSA" if algorithm in ("Ed25519", "Ed448") else algorithm
    return jwt.get_algorithm_by_name(name)


def _kind(key: PublicKey) -> tuple[str, str | None]:
    if isinstance(key, RSAPublicKey):
        return "RSA", None
    if isinstance(key, EllipticCurvePublicKey):
        return "EC", _CURVES.get(key.curve.name, key.curve.name)
    if isinstance(key, Ed25519PublicKey):
        return "OKP", "Ed25519"
    return "OKP", "Ed448"


def _only(algorithms: Sequence[str], kty: str, curve: str | None) -> str:
    """Return the only algorithm for keys of a type and curve; Unusable if there are several."""
    fitting: list[str] = []
    for algorithm in algorithms:
        kinds = [(family.kty, family.curve) for family in ALGORITHMS[algorithm]]
        if (kty, curve) in kinds:
            fitting.append(algorithm)
    if len(fitting) == 1:
        return fitting[0]

    kind = kty if curve is None else f"{kty} {_quoted(curve)}"
    reason = "fits no algorithm of the issuer"
    if fitting:
        reason = f"has no alg, and of the issuer's {' and '.join(fitting)} would fit"
    raise Unusable(f"a key of the type {kind} {reason}")


def is_asymmetric(secret: bytes) -> bool:
    """Return True if a secret is really an asymmetric key or a key set, raw or in base64."""
    candidates = [secret, secret.strip()]
    if _BASE64.fullmatch(secret):
        for decode in (base64.b64decode, base64.urlsafe_b64decode):
            try:
                candidates.append(decode(b"".join(secret.split()) + b"=="))
            except (binascii.Error, ValueError):
                continue
    return any(map(_is_key, filter(None, candidates)))


def _is_key(candidate: bytes) -> bool:
    # PyJWT refuses asymmetric keys as HMAC secrets, whatever their encoding.
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(candidate)
    except jwt.InvalidKeyError:
        return True
    return False
