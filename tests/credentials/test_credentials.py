"""Credentials: their form, what they carry, what is refused without a look-up."""

from __future__ import annotations

import re
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate import Gate, InvalidInput
from faregate.credentials.opaque import LONGEST, OpaqueKind, digest, kind_of, marks_of, mint

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def decode(text: str) -> int:
    """The number that a base62 text stands for."""
    number = 0
    for character in text:
        number = number * 62 + ALPHABET.index(character)
    return number


@pytest.mark.parametrize("kind", ["tok", "rft", "act", "shr"])
def test_form(kind: OpaqueKind) -> None:
    """Brand, kind, 43 characters of 256 bits, and six of their CRC32."""
    text = mint("acme", kind)
    match = re.fullmatch(rf"acme_{kind}_([0-9A-Za-z]{{43}})([0-9A-Za-z]{{6}})", text)
    assert match
    assert decode(match[1]) < 2**256
    assert decode(match[2]) == crc32(match[1].encode())
    assert kind_of(text, "acme") == kind


def test_bodies_use_all_their_bits() -> None:
    """Over 500 credentials every one of the 256 bits is seen both set and clear."""
    bodies = [decode(mint("fg", "tok")[7:50]) for _ in range(500)]
    ones, zeros = 0, 0
    for body in bodies:
        ones |= body
        zeros |= ~body & (2**256 - 1)
    assert ones == zeros == 2**256 - 1


@given(st.integers(7, 55), st.sampled_from(ALPHABET))
def test_any_changed_character_is_noticed(place: int, character: str) -> None:
    """A single changed character is refused by the checksum, without a look-up."""
    text = "fg_tok_" + "7" * 43
    text += kindless_checksum("7" * 43)
    changed = text[:place] + character + text[place + 1 :]
    assert kind_of(changed, "fg") == ("tok" if changed == text else None)


def kindless_checksum(body: str) -> str:
    """The six characters that belong to a body, worked out apart from the package."""
    number, text = crc32(body.encode()), ""
    for _ in range(6):
        number, index = divmod(number, 62)
        text = ALPHABET[index] + text
    return text


@pytest.mark.parametrize("change", ["xx{}", "{}x", " {}", "{}\n", "{}\x00"])
def test_other_texts_are_none(change: str) -> None:
    """Nothing may stand before or behind a credential."""
    assert kind_of(change.format(mint("fg", "tok")), "fg") is None


def test_another_brand_is_none() -> None:
    """A credential of another application is refused by its first letters."""
    assert kind_of(mint("other", "tok"), "fg") is None


def test_digest_is_sha256_of_the_whole_text() -> None:
    """What is stored is SHA-256, nothing more."""
    assert digest("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_b64token_is_matched_in_linear_time() -> None:
    """The longest texts that almost match are refused quickly."""
    assert marks_of(b"a" * LONGEST) == b""
    assert marks_of(b"=" * LONGEST) is None
    assert marks_of(b"a=" * (LONGEST // 2)) is None


@pytest.mark.parametrize("brand", ["", "1a", "Acme", "a_b", "a" * 17, None, 5])
def test_brand_is_checked_when_the_gate_is_made(brand: object) -> None:
    """A brand is [a-z][a-z0-9]{0,15}."""
    with pytest.raises(InvalidInput, match="brand"):
        Gate("sqlite://", brand=brand)  # type: ignore[arg-type]
