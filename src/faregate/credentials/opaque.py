"""Opaque credentials: ``<brand>_<kind>_<43 base62 characters><6 base62 characters>``.

The 43 characters of the body carry 256 bits from the operating system. The last six are their
CRC32: junk is refused before any look-up, and secret scanners can match a leaked credential. The
checksum authenticates nothing. The store holds the SHA-256 of the whole text; 256 random bits need
neither salt nor pepper.

The refresh credentials of a family share the first 21 characters of their bodies. The SHA-256 of
this common part identifies a retired credential, however many there were. The other 22 characters
are new in each credential: 128 bits from the operating system.
"""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256
from typing import Literal, get_args
from zlib import crc32

from faregate.errors import InvalidInput

OpaqueKind = Literal["tok", "rft", "act", "shr"]
KINDS: dict[str, OpaqueKind] = {kind: kind for kind in get_args(OpaqueKind)}
MAX_LENGTH = 8192  # characters, the default bound of a gate
LONGEST = 65_536  # characters, the highest bound that a gate can have
MAX_OPAQUE = 16 + 1 + 3 + 1 + 43 + 6  # characters; every JWT is longer

_FAMILY = 21  # characters at the start of the body, common to a family
_OWN_BYTES = 16  # random bytes, written as the other 22 characters
_OWN_PART = 22 + 6  # characters of the own part and the checksum

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BRAND = re.compile(r"[a-z][a-z0-9]{0,15}")
_OPAQUE = re.compile(r"([a-z][a-z0-9]{0,15})_([a-z]{3})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_BASE64URL = f"{_ALPHABET}-_".encode()


def check_brand(brand: object) -> str:
    """Return ``brand`` if it is valid.

    Raises InvalidInput otherwise.
    """
    if not isinstance(brand, str) or not _BRAND.fullmatch(brand):
        raise InvalidInput("brand: 1 to 16 characters a-z and 0-9, the first a letter")
    return brand


def check_length(longest: object) -> None:
    """Return if ``longest``, in characters, can bound the length of a gate's credentials.

    Raises InvalidInput otherwise.
    """
    valid = (
        isinstance(longest, int)
        and not isinstance(longest, bool)
        and MAX_LENGTH <= longest <= LONGEST
    )
    if not valid:
        raise InvalidInput(
            f"max_length: a whole number of characters, {MAX_LENGTH:,} to {LONGEST:,}"
        )


def mint(brand: str, kind: OpaqueKind) -> str:
    """Return a new credential. The caller shows it once and stores only its :func:`digest`."""
    body = _base62(int.from_bytes(secrets.token_bytes(32)), 43)
    return f"{brand}_{kind}_{body}{_checksum(body)}"


def succeed(credential: str) -> tuple[str, bytes]:
    """Return the next refresh credential of a family, and its mask for :func:`succeeded`.

    The mask is the new own part, XORed with an HMAC under the text of ``credential``. Only a caller
    that presents ``credential`` can restore its successor, so the store may hold the mask.
    """
    own = secrets.token_bytes(_OWN_BYTES)
    return _successor(credential, own), _masked(credential, own)


def succeeded(credential: str, kept: bytes) -> str:
    """Return the successor that :func:`succeed` gave for ``credential``, from the mask ``kept``."""
    return _successor(credential, _masked(credential, kept))


def family_digest(credential: str) -> bytes:
    """Return the SHA-256 of the part that all refresh credentials of a family have in common."""
    return digest(credential[:-_OWN_PART])


def kind_of(text: str, brand: str) -> OpaqueKind | None:
    """Return the kind of a well-formed opaque credential of ``brand``, or None. Asks no store.

    >>> from faregate.credentials.opaque import kind_of, mint
    >>> kind_of(mint("fg", "tok"), "fg"), kind_of("fg_tok_mistyped", "fg")
    ('tok', None)
    """
    match = _OPAQUE.fullmatch(text)
    if match is None:
        return None

    own_brand, kind, body, checksum = match.groups()
    if own_brand != brand or kind not in KINDS or checksum != _checksum(body):
        return None
    return KINDS[kind]


def marks_of(raw: bytes) -> bytes | None:
    """Return the characters of a text outside base64url: the two dots of a JWT, for example.

    Returns None for a text that cannot follow ``Bearer``: no b64token (RFC 6750 section 2.1).
    """
    marks = raw.translate(None, _BASE64URL)
    if raw and marks in (b"", b".."):
        return marks

    # Padding stands at the end only. So each "=" among the marks must be among those at the end.
    body = raw.rstrip(b"=")
    padding = b"=" * (len(raw) - len(body))
    outside = marks.translate(None, b"._~+/")
    if not body or outside != padding:
        return None
    return marks


def digest(text: str) -> bytes:
    """Return the SHA-256 of a credential, the key of its record."""
    return sha256(text.encode()).digest()


def _successor(credential: str, own: bytes) -> str:
    start = credential[:-_OWN_PART]
    body = start[-_FAMILY:] + _base62(int.from_bytes(own), 22)
    return f"{start[:-_FAMILY]}{body}{_checksum(body)}"


def _masked(credential: str, own: bytes) -> bytes:
    mask = hmac.digest(credential.encode(), b"successor", "sha256")[:_OWN_BYTES]
    return bytes(left ^ right for left, right in zip(own, mask, strict=False))


def _checksum(body: str) -> str:
    # Two digits at a time: a flood of unknown credentials costs a checksum for each text.
    rest, last = divmod(crc32(body.encode()), 3844)
    first, middle = divmod(rest, 3844)
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[last]


def _base62(number: int, width: int) -> str:
    characters: list[str] = []
    while number:
        number, index = divmod(number, 62)
        characters.append(_ALPHABET[index])
    return "".join(reversed(characters)).rjust(width, "0")
