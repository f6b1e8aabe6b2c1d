"""Measures JWTs of a trusted issuer: junk, and first sights.

- Junk of 8 KiB is refused within a bound. The unit is F, the floor of a hit (``verification.py``).
  Longer junk costs no more.
- The first sight of an RS256 token is compared with PyJWT's own ``decode`` with the same key.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from measure import Row
from verification import ADDRESS, AUDIENCE, ISSUER, floor, issuer_of, refusal, sign

from faregate import Gate
from faregate.credentials.opaque import mint

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from measure import Calls

LONGEST = 8192  # characters of a JWT that a gate reads
SIGHTS = 1_500  # tokens for each row of first sights
EACH = 10  # first sights in a slice

# Bounds: junk and forged headers in F, first sights in decodes by PyJWT.
JUNK = 45.0
FORGED = 90.0
FIRST = 1.4


def rows(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the rows of junk, and of an issuer's tokens that the gate has not seen yet."""
    private = rsa.generate_private_key(65537, 2048)
    gate = Gate(f"sqlite:///{folder / 'jwts.db'}", issuers=[issuer_of(private)])
    stack.callback(gate.close)

    # A token is new only once, so each row has its own.
    tokens = [sign(private) for _ in range(2 * SIGHTS)]
    decode = pyjwt_decode(private.public_key(), tokens[:SIGHTS])
    sights = first_sights(gate, tokens[SIGHTS:])

    junk = [
        Row(f"junk: {kind}", refusal(gate, text), "F", JUNK, 20)
        for kind, text in texts_of_junk().items()
    ]
    return [
        Row("F", floor(mint("fg", "tok"))),
        *junk,
        Row("junk: a forged header of 4,000 characters", refusal(gate, forged()), "F", FORGED, 20),
        Row("PyJWT's decode", decode, number=EACH),
        Row("issuer's JWT, first sight", sights, "PyJWT's decode", FIRST, EACH),
    ]


def pyjwt_decode(key: Any, tokens: list[str]) -> Calls:
    """Return a function that has PyJWT decode the next tokens."""
    unused = iter(tokens)

    def calls(number: int) -> None:
        for _ in range(number):
            jwt.decode(next(unused), key, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER)

    return calls


def first_sights(gate: Gate, tokens: list[str]) -> Calls:
    """Return a function that has the gate verify the next tokens."""
    unused = iter(tokens)

    def calls(number: int) -> None:
        for _ in range(number):
            gate.verify(next(unused), address=ADDRESS).require("docs:read")

    return calls


def part(content: bytes) -> str:
    """Return base64url without padding, as in a part of a JWT."""
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def header(**parameters: object) -> str:
    """Return a header as the first part of a JWT."""
    return part(json.dumps(parameters).encode())


def forged() -> str:
    """Return junk of 8 KiB with a valid header, which the gate must parse before it refuses."""
    first = header(alg="RS256", kid="other", pad="A" * 2900)
    return f"{first}.eyJ{'A' * (LONGEST - len(first) - 347)}.{'A' * 342}"


def texts_of_junk() -> dict[str, str]:
    """Return texts of 8 KiB and of 64 KiB that are not JWTs of any issuer, by kind."""
    noise = part(token_bytes(LONGEST))
    signature = noise[:342]

    # Every JSON object begins with these letters in base64url.
    json_like = "eyJ" + noise

    unknown_key = header(alg="RS256", kid="x")
    known_key = header(alg="RS256", kid="k1")
    texts = {
        "one letter": "A" * LONGEST,
        "noise": noise,
        "dots": "." * LONGEST,
        "three parts of noise": f"{noise[:2700]}.{noise[:2700]}.{noise[:2700]}",
        "three parts that begin as they should": (
            f"{json_like[:2700]}.{json_like[:2700]}.{noise[:2700]}"
        ),
        "no algorithm": f"{header(alg='none')}.{json_like}",
        "an unknown name of a key": f"{unknown_key}.{json_like[: LONGEST - 400]}.{signature}",
        "a known name and noise": f"{known_key}.{noise[: LONGEST - 400]}.{signature}",
    }
    texts = {kind: text[:LONGEST] for kind, text in texts.items()}

    return {**texts, "64 KiB of a letter": "A" * 65536, "64 KiB of dots": "." * 65536}
