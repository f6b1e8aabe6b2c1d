"""The keys by which JWTs of an issuer are verified: JWK sets (RFC 7517), PEM, and secrets.

Each key serves one algorithm: that of its ``alg``, else the only one of the issuer for its type and curve. So a token
chooses a key by its name, and never how the key is used (RFC 8725 sections 3.1 and 3.2).
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
    """What keys an algorithm takes (RFC 7518 sections 3.1 and 6.1, RFC 8037), by type and curve, and its signature.

    ``signature`` is the length in bytes, None where it is the key's.
    """

    kty: str
    curve: str | None
    signature: int | None


# EdDSA stands for two curves, told apart by the key; RFC 9864 gives each a name of its own.
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
_MEMBERS = {
    "RSA": ("n", "e"),
    "EC": ("crv", "x", "y"),
    "OKP": ("crv", "x"),
    "oct": ("k",),
}  # what is public of a key
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_LONGEST = 1400  # characters of a member: a modulus of 8,192 bits
_BITS = range(2048, 8192 + 1)  # of a modulus: RFC 7518 section 3.3, and what a request can wait for
_EXPONENTS = range(3, 2**32)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_=\s-]+")

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


def _shown(text: object) -> str:
    """Return a text of an issuer's as it may stand in a log."""
    return ascii(text)[:200]


class Unusable(ValueError):
    """A key that verifies nothing here, and why."""


class Key(NamedTuple):
    """One key for one algorithm. ``identity`` says which key of which name it is; ``size`` is its signatures'.

    ``secret`` is that of HMAC, with which whoever has it also signs.
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
    """The keys of one issuer, by the names and algorithms of tokens.

    Different keys of the same name and algorithm cannot be told apart, so none of them counts. ``skipped`` says what
    was left out.
    """

    def __init__(self, keys: Iterable[Key], skipped: Sequence[str] = ()) -> None:
        named: dict[tuple[str | None, str], dict[bytes, Key]] = {}
        for key in keys:
            named.setdefault((key.kid, key.algorithm), {})[key.identity] = key
        self._keys = {
            name: next(iter(same.values())) for name, same in named.items() if len(same) == 1
        }
        self._sole = next(iter(self._keys.values())) if len(self._keys) == 1 else None
        clashes = [
            f"several keys are called {_shown(name[0])}"
            for name, same in named.items()
            if len(same) > 1
        ]
        self.skipped = (*skipped, *clashes)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The secrets of HMAC among the keys."""
        return tuple(key.secret for key in self._keys.values() if key.secret is not None)

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key that a token names, or None.

        A token without a name means the only key, and any name means an only key that has none; where there are
        several, none is tried that was not named (RFC 7515 section 4.1.4).
        """
        key = self._keys.get((kid, algorithm)) if kid is not None else None
        if key is None and self._sole is not None and None in (kid, self._sole.kid):
            key = self._sole if self._sole.algorithm == algorithm else None
        return key


def read_set(document: Mapping[str, Any], algorithms: Sequence[str]) -> KeySet:
    """Return the keys of a JWK set (RFC 7517 section 5) that serve one of the algorithms; others are skipped.

    ValueError for what is no such set, or has more than :data:`MAX_KEYS` keys.
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
    """Return the keys that an application gives: a JWK set as a mapping, PEM, or a secret for HMAC.

    InvalidInput where there is none to verify with, or a secret is too short or is really a public key.
    """
    if isinstance(keys, Mapping):
        try:
            found = read_set(cast("Mapping[str, Any]", keys), algorithms)
        except ValueError as error:
            raise InvalidInput(f"keys: {error}") from None
        secret = algorithms[0].startswith("HS")
        if not found or (secret and found.skipped):
            raise InvalidInput(
                f"keys: no key can be used; {abbreviated(list(found.skipped)) or 'the set is empty'}"
            )
        return found
    if not isinstance(keys, str | bytes):
        raise InvalidInput(
            "keys: a JWK set as a dict, a public key as PEM, or the secret of an HMAC algorithm"
        )
    try:
        if algorithms[0].startswith("HS"):
            raw = keys.encode() if isinstance(keys, str) else keys
            return KeySet([_secret_key(raw, None, _only(algorithms, "oct", None))])
        return KeySet([_read_pem(keys, algorithms)])
    except UnicodeError:
        raise InvalidInput("keys: a text that can be written as UTF-8") from None
    except Unusable as error:
        raise InvalidInput(f"keys: {error}") from None


def _read_jwk(jwk: object, algorithms: Sequence[str]) -> Key:
    """Return one key of a set (RFC 7517 section 4); of a private one no more than what is public of it."""
    if not isinstance(jwk, dict):
        raise Unusable("no JWK, or one with a member that comes twice (RFC 7517 section 4)")
    members = cast("dict[str, object]", jwk)
    kid, kty, use, operations = (members.get(name) for name in ("kid", "kty", "use", "key_ops"))
    if not isinstance(kid, str | None) or not isinstance(kty, str) or kty not in _MEMBERS:
        raise Unusable("its kid is no text, or its kty none that is known here")
    if use not in (None, "sig"):
        raise Unusable("its use is not 'sig' (RFC 7517 section 4.2)")
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        raise Unusable("its key_ops have no 'verify' (RFC 7517 section 4.3)")
    public = {name: members.get(name) for name in _MEMBERS[kty]}
    if not all(isinstance(value, str) and len(value) <= _LONGEST for value in public.values()):
        raise Unusable(f"a member of {', '.join(public)} is missing, is no text or is too long")
    curve = str(public["crv"]) if "crv" in public else None
    algorithm = members.get("alg")
    if algorithm is None:
        algorithm = _only(algorithms, kty, curve)
    elif algorithm not in algorithms:
        raise Unusable("its alg is none of the issuer's")
    try:
        loaded = _implementation(str(algorithm)).from_jwk({"kty": kty, **public})
    except (jwt.PyJWTError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Unusable(f"it cannot be read: {_shown(str(error))}") from None
    if isinstance(loaded, bytes):
        return _secret_key(loaded, kid, str(algorithm))
    return _public_key(cast("PublicKey", loaded), kid, str(algorithm))


def _read_pem(text: str | bytes, algorithms: Sequence[str]) -> Key:
    """Return the key of a PEM text (RFC 7468): a public key, or that of a certificate."""
    raw = text.encode() if isinstance(text, str) else text
    labels = _PEM.findall(raw.decode(errors="replace"))
    if len(labels) != 1:
        raise Unusable("one public key as PEM is expected; give several as a JWK set")
    if "PRIVATE" in labels[0]:
        raise Unusable(
            "this is a private key, which only the issuer should have; give the public one"
        )
    try:
        if labels[0] == "CERTIFICATE":
            loaded: object = x509.load_pem_x509_certificate(raw).public_key()
        else:
            loaded = load_pem_public_key(raw)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("this PEM cannot be read as a public key") from None
    if not isinstance(loaded, PublicKey):
        raise Unusable("this is a key of a type that is not known here")
    return _public_key(loaded, None, _only(algorithms, *_kind(loaded)))


def _public_key(key: PublicKey, kid: str | None, algorithm: str) -> Key:
    kty, curve = _kind(key)
    families = [
        family for family in ALGORITHMS[algorithm] if (family.kty, family.curve) == (kty, curve)
    ]
    if not families:
        raise Unusable(f"{algorithm} takes no key of the type {kty} {curve or ''}".rstrip())
    size = families[0].signature
    if isinstance(key, RSAPublicKey):
        if key.key_size not in _BITS:
            raise Unusable(
                f"an RSA key of {key.key_size} bits, instead of {_BITS[0]} to {_BITS[-1]}"
            )
        exponent = key.public_numbers().e
        if exponent not in _EXPONENTS or not exponent % 2:
            raise Unusable("an RSA key with an exponent that no honest one has")
        size = (key.key_size + 7) // 8
    material = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _key(kid, algorithm, material, size or 0, key)


def _secret_key(secret: bytes, kid: str | None, algorithm: str) -> Key:
    size = ALGORITHMS[algorithm][0].signature or 0
    if len(secret) < size:
        raise Unusable(
            f"a secret of {len(secret)} bytes; {algorithm} takes {size} or more (RFC 7518 section 3.2)"
        )
    if is_asymmetric(secret):
        raise Unusable(
            "this is a public or private key, which others may know, and no secret (RFC 8725 section 2.1)"
        )
    return _key(kid, algorithm, secret, size, secret)


def _key(kid: str | None, algorithm: str, material: bytes, size: int, key: object) -> Key:
    named = repr((kid, algorithm)).encode() + b"\0" + material
    secret = key if isinstance(key, bytes) else None
    return Key(
        kid, algorithm, sha256(named).digest(), size, partial(_verify, algorithm, key), secret
    )


def _verify(algorithm: str, key: Any, signed: bytes, signature: bytes) -> bool:
    return _implementation(algorithm).verify(signed, key, signature)


def _implementation(algorithm: str) -> Algorithm:
    return jwt.get_algorithm_by_name("EdDSA" if algorithm in ("Ed25519", "Ed448") else algorithm)


def _kind(key: PublicKey) -> tuple[str, str | None]:
    if isinstance(key, RSAPublicKey):
        return "RSA", None
    if isinstance(key, EllipticCurvePublicKey):
        return "EC", _CURVES.get(key.curve.name, key.curve.name)
    return "OKP", "Ed25519" if isinstance(key, Ed25519PublicKey) else "Ed448"


def _only(algorithms: Sequence[str], kty: str, curve: str | None) -> str:
    """Return the one algorithm for keys of a type and curve."""
    fitting = [
        one
        for one in algorithms
        if any((of.kty, of.curve) == (kty, curve) for of in ALGORITHMS[one])
    ]
    if len(fitting) != 1:
        kind = kty if curve is None else f"{kty} {_shown(curve)}"
        several = f"has no alg, and of the issuer's {' and '.join(fitting)} would fit"
        raise Unusable(
            f"a key of the type {kind} {several if fitting else 'fits no algorithm of the issuer'}"
        )
    return fitting[0]


def is_asymmetric(secret: bytes) -> bool:
    """Tell whether a secret is really a public or private key or a set of them, in whatever wrapping."""
    candidates = [secret, secret.strip()]
    if _BASE64.fullmatch(secret):
        for decode in (base64.b64decode, base64.urlsafe_b64decode):
            try:
                candidates.append(decode(b"".join(secret.split()) + b"=="))
            except (binascii.Error, ValueError):
                continue
    return any(map(_is_key, filter(None, candidates)))


def _is_key(candidate: bytes) -> bool:
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(candidate)
    except jwt.InvalidKeyError:
        return True
    return False
