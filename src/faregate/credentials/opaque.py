"""Opaque credentials: ``<brand>_<kind>_<43 base62 characters><6 base62 characters>``.

The 43 characters carry 256 bits from the operating system; the last six are their CRC32, so that junk is
refused before any look-up and secret scanners can match a leaked one. The checksum authenticates nothing.
What is stored is the SHA-256 of the whole text: 256 random bits need neither salt nor pepper.

The refresh credentials of one family begin with the same 21 characters, by whose SHA-256 a retired one is known for
what it is, however many there were; the other 22 are new in each, 128 bits from the operating system.
"""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256
from zlib import crc32

from faregate.errors import InvalidInput

KINDS = frozenset({"tok", "rft", "act", "shr"})
MAX_LENGTH = 8192  # characters, unless a gate takes longer ones
LONGEST = 65_536  # that a gate may take
MAX_OPAQUE = 16 + 1 + 3 + 1 + 43 + 6  # what no JWT is as short as

_FAMILY = 21  # characters that all refresh credentials of a family have in common
_OWN_BYTES = 16  # what is behind the 22 others
_OTHERS = 22 + 6  # those, and the checksum

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BRAND = re.compile(r"[a-z][a-z0-9]{0,15}")
_OPAQUE = re.compile(r"([a-z][a-z0-9]{0,15})_([a-z]{3})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_BASE64URL = f"{_ALPHABET}-_".encode()


def check_brand(brand: object) -> str:
    """Return ``brand`` if it is one; raise InvalidInput otherwise."""
    if not isinstance(brand, str) or not _BRAND.fullmatch(brand):
        raise InvalidInput("brand: one to 16 characters a-z and 0-9, the first a letter")
    return brand


def check_length(longest: object) -> None:
    """Raise InvalidInput for a bound of lengths that a gate cannot have."""
    if (
        not isinstance(longest, int)
        or isinstance(longest, bool)
        or not MAX_LENGTH <= longest <= LONGEST
    ):
        raise InvalidInput(
            f"max_length: a whole number of characters, {MAX_LENGTH:,} to {LONGEST:,}"
        )


def mint(brand: str, kind: str) -> str:
    """Return a new credential. The caller shows it once and stores only its :func:`digest`."""
    body = _base62(int.from_bytes(secrets.token_bytes(32)), 43)
    return f"{brand}_{kind}_{body}{_checksum(body)}"


def succeed(credential: str) -> tuple[str, bytes]:
    """Return a new refresh credential of the family of one, and what to keep for :func:`succeeded`.

    That is the new part, XORed with an HMAC under the text of the one before: only who presents that can tell it.
    """
    own = secrets.token_bytes(_OWN_BYTES)
    return _successor(credential, own), _masked(credential, own)


def succeeded(credential: str, kept: bytes) -> str:
    """Return the refresh credential that :func:`succeed` gave for this one, from what it had kept."""
    return _successor(credential, _masked(credential, kept))


def family_digest(credential: str) -> bytes:
    """Return the SHA-256 of what all refresh credentials of a family have in common."""
    return digest(credential[:-_OTHERS])


def kind_of(text: str, brand: str) -> str | None:
    """Return the kind of a well-formed opaque credential of ``brand``, or None. Asks no store."""
    match = _OPAQUE.fullmatch(text)
    if match is None:
        return None
    own_brand, kind, body, checksum = match.groups()
    return kind if own_brand == brand and kind in KINDS and checksum == _checksum(body) else None


def marks_of(raw: bytes) -> bytes | None:
    """Return what stands in a text between the characters of base64url, such as the two dots of a JWT.

    None for a text that is not what may follow ``Bearer`` (RFC 6750 section 2.1).
    """
    marks = raw.translate(None, _BASE64URL)
    if raw and marks in (b"", b".."):
        return marks
    body = raw.rstrip(b"=")  # padding may stand at the end alone, which is why it is counted
    others = marks.translate(None, b"._~+/")
    return marks if body and others == b"=" * (len(raw) - len(body)) else None


def digest(text: str) -> bytes:
    """Return the SHA-256 of a credential, under which its record is stored and found."""
    return sha256(text.encode()).digest()


def _successor(credential: str, own: bytes) -> str:
    start = credential[:-_OTHERS]
    body = start[-_FAMILY:] + _base62(int.from_bytes(own), 22)
    return f"{start[:-_FAMILY]}{body}{_checksum(body)}"


def _masked(credential: str, own: bytes) -> bytes:
    mask = hmac.digest(credential.encode(), b"successor", "sha256")
    return bytes(one ^ other for one, other in zip(own, mask[:_OWN_BYTES], strict=False))


def _checksum(body: str) -> str:
    # A flood of what nobody knows has it reckoned for each text.
    rest, last = divmod(crc32(body.encode()), 3844)
    first, middle = divmod(rest, 3844)
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[last]


def _base62(number: int, width: int) -> str:
    characters: list[str] = []
    while number:
        number, index = divmod(number, 62)
        characters.append(_ALPHABET[index])
    return "".join(reversed(characters)).rjust(width, "0")
