"""What JWTs of a trusted issuer cost: junk, first sights, and every further one.

Junk of 8 KiB is refused within a multiple of its own SHA-256, and what is longer costs no more. The first sight of
an RS256 token is measured beside PyJWT's own ``decode`` with the same key; a further sight beside the floor of a hit,
as in ``hit.py``: SHA-256, a dictionary, the expiry and the scope. All run in turns in one process; the median of the
ratios counts. Exits 1 if one is above its bound.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes
from statistics import median
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from faregate import Denied, Gate, Issuer

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 41
ISSUER, AUDIENCE = "https://id.example", "https://api.example"
JUNK, FORGED, FIRST, FURTHER = 3.0, 5.0, 1.4, 2.5
LONGEST = 8192


def main() -> int:
    """Print the figures and return the exit code."""
    private = rsa.generate_private_key(65537, 2048)
    public = jwt.get_algorithm_by_name("RS256").to_jwk(private.public_key(), as_dict=True)
    keys = {"keys": [{**public, "key_ops": ["verify"], "kid": "k1", "alg": "RS256"}]}
    issuer = Issuer(ISSUER, AUDIENCE, ["RS256"], keys=keys)
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(f"sqlite:///{Path(folder) / 'gate.db'}", issuers=[issuer])
        found = [
            *(("junk: " + name, junk(gate, text), JUNK) for name, text in kinds_of_junk().items()),
            ("a forged header of 4,000 characters", junk(gate, forged()), FORGED),
            ("first sight", first_sight(gate, private), FIRST),
            ("further sight", further_sight(gate, private), FURTHER),
        ]
        gate.close()
    for name, ratio, bound in found:
        print(f"{name:42} {ratio:5.2f} times, bound {bound}")
    return 0 if all(ratio <= bound for _, ratio, bound in found) else 1


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


def junk(gate: Gate, text: str) -> float:
    """Return what the gate's refusal costs, in SHA-256 of 8 KiB."""
    raw = text[:LONGEST].encode()

    def refuse() -> None:
        with suppress(Denied):
            gate.verify(text, address="10.0.0.77")

    return ratio(lambda: sha256(raw).digest(), refuse, 200)


def first_sight(gate: Gate, private: Any) -> float:
    """Return what first sights cost, in bare decodes by PyJWT of the same tokens."""
    key = private.public_key()
    each = 25
    tokens = [sign(private) for _ in range(2 * ROUNDS * each)]
    for_floor, for_gate = iter(tokens), iter(tokens)

    def decode() -> None:
        jwt.decode(next(for_floor), key, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER)

    def verify() -> None:
        gate.verify(next(for_gate), address="10.0.0.77").require("docs:read")

    return ratio(decode, verify, each)


def further_sight(gate: Gate, private: Any) -> float:
    """Return what further sights cost, in floors of a hit."""
    token = sign(private)
    known = {sha256(token.encode()).digest(): (time.time() + 600, frozenset({"docs:read"}))}
    clock, verify = time.time, gate.verify

    def floor() -> None:
        closes, scopes = known[sha256(token.encode()).digest()]
        if clock() >= closes or "docs:read" not in scopes:
            raise AssertionError

    def hit() -> None:
        verify(token, address="10.0.0.77").require("docs:read")

    return ratio(floor, hit, 5000)


def sign(private: Any) -> str:
    """Return a token of the issuer, as access tokens are."""
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "client_id": "app",
        "jti": token_bytes(9).hex(),
    }
    claims |= {"iat": now, "exp": now + 600, "scope": "openid docs:read docs:write"}
    return jwt.encode(claims, private, "RS256", headers={"kid": "k1", "typ": "at+jwt"})


def ratio(floor: Callable[[], object], call: Callable[[], object], calls: int) -> float:
    """Return the median of the ratios of ``call`` to ``floor``, each so often a round."""
    return median(1 / (seconds(floor, calls) / seconds(call, calls)) for _ in range(ROUNDS))


def seconds(call: Callable[[], object], calls: int) -> float:
    """Return how long so many calls take."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
