"""What JWTs of a trusted issuer cost: junk, and first sights.

Junk of 8 KiB is refused in so many F, the floor of a hit, and what is longer costs no more. The first sight of an RS256
token stands beside PyJWT's own ``decode`` with the same key.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from measure import Row
from verification import ADDRESS, AUDIENCE, ISSUER, floor, issuer_of, refused, sign

from faregate import Gate
from faregate.credentials.opaque import mint

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from measure import Calls

LONGEST = 8192
JUNK, FORGED, FIRST = 45.0, 90.0, 1.4
EACH, SIGHTS = 10, 1_500


def rows(folder: Path, closing: ExitStack) -> list[Row]:
    """Return the rows of JWTs that were not seen before, of somebody or of nobody."""
    private = rsa.generate_private_key(65537, 2048)
    gate = Gate(f"sqlite:///{folder / 'jwts.db'}", issuers=[issuer_of(private)])
    closing.callback(gate.close)
    junk = [
        Row(f"junk: {name}", refused(gate, text), "F", JUNK, 20)
        for name, text in kinds_of_junk().items()
    ]
    tokens = [sign(private) for _ in range(2 * SIGHTS)]
    return [
        Row("F", floor(mint("fg", "tok"))),
        *junk,
        Row("junk: a forged header of 4,000 characters", refused(gate, forged()), "F", FORGED, 20),
        Row("PyJWT's decode", decoded(private.public_key(), tokens[:SIGHTS]), number=EACH),
        Row(
            "issuer's JWT, first sight", seen(gate, tokens[SIGHTS:]), "PyJWT's decode", FIRST, EACH
        ),
    ]


def decoded(key: Any, tokens: list[str]) -> Calls:
    """Return bare decodes by PyJWT."""
    left = iter(tokens)

    def calls(number: int) -> None:
        for _ in range(number):
            jwt.decode(next(left), key, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER)

    return calls


def seen(gate: Gate, tokens: list[str]) -> Calls:
    """Return first sights by the gate."""
    left = iter(tokens)

    def calls(number: int) -> None:
        for _ in range(number):
            gate.verify(next(left), address=ADDRESS).require("docs:read")

    return calls


def part(content: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def header(**members: object) -> str:
    """Return a header as the first part of a token."""
    return part(json.dumps(members).encode())


def forged() -> str:
    """Return a text of 8 KiB that is junk behind a header that has to be read to know it."""
    padded = header(alg="RS256", kid="other", pad="A" * 2900)
    return f"{padded}.eyJ{'A' * (LONGEST - len(padded) - 347)}.{'A' * 342}"


def kinds_of_junk() -> dict[str, str]:
    """Return texts of 8 KiB, and longer ones, that are no token of anybody."""
    noise = part(token_bytes(LONGEST))
    signature = noise[:342]
    begun = "eyJ" + noise
    kinds = {
        "one letter": "A" * LONGEST,
        "noise": noise,
        "dots": "." * LONGEST,
        "three parts of noise": f"{noise[:2700]}.{noise[:2700]}.{noise[:2700]}",
        "three parts that begin as they should": f"{begun[:2700]}.{begun[:2700]}.{noise[:2700]}",
        "no algorithm": f"{header(alg='none')}.{begun}",
        "an unknown name of a key": f"{header(alg='RS256', kid='x')}.{begun[: LONGEST - 400]}.{signature}",
        "a known name and noise": f"{header(alg='RS256', kid='k1')}.{noise[: LONGEST - 400]}.{signature}",
    }
    kinds = {name: text[:LONGEST] for name, text in kinds.items()}
    return {**kinds, "64 KiB of a letter": "A" * 65536, "64 KiB of dots": "." * 65536}
