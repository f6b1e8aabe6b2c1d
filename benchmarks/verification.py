"""What the gate costs on a hit, on a refusal and on a miss, as multiples of the least that any gate must do.

The floor, F, is written in line: the SHA-256 of the credential, a dictionary, the expiry, the scope. The gate does the
same, and besides: its freshness, the start, the networks, the clock, the owner's rights, the last use, the principal.
"""

from __future__ import annotations

import sqlite3
import time
from hashlib import sha256
from itertools import islice
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from measure import Row

from faregate import Denied, Gate, Issuer, any_of
from faregate.credentials.opaque import mint

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from measure import Calls

ADDRESS = "10.0.0.77"
DAY = 86_400.0
ISSUER, AUDIENCE = "https://id.example", "https://api.example"
ROWS = 1_000
LARGE = 1_000_000


def hits(folder: Path, closing: ExitStack) -> list[Row]:
    """Return the rows of credentials whose record is at hand."""
    private = rsa.generate_private_key(65537, 2048)
    gate = Gate(f"sqlite:///{folder / 'hits.db'}", issuers=[issuer_of(private)])
    closing.callback(gate.close)

    def token(scopes: tuple[str, ...] = ("docs:read",), networks: int = 0) -> str:
        blocks = [f"10.{index // 256}.{index % 256}.0/25" for index in range(networks)]
        made = gate.tokens.create(
            name="bench", scopes=scopes, allowed_cidr_blocks=blocks, expires_in=DAY
        )
        return made.secret

    plain = token()
    rows = [
        Row("F", floor(plain)),
        Row("token", hit(gate, plain), "F", 2.0),
        Row("token, 1 network", hit(gate, token(networks=1)), "F", 2.0),
        Row("token, 1,000 networks", hit(gate, token(networks=1_000)), "F", 2.0),
        Row("token, 10,000 networks", hit(gate, token(networks=10_000)), "F", 2.0),
        Row(
            "token, two needs",
            hit(gate, token(("docs:read", "docs:write")), ("docs:read", "docs:write")),
            "F",
            2.5,
        ),
        Row("token, grant docs:*", hit(gate, token(("docs:*",))), "F", 2.5),
        Row(
            "token, any_of of two",
            hit(gate, token(("docs:read",)), (any_of("docs:read", "docs:write"),)),
            "F",
            2.5,
        ),
    ]
    for objects in (1, 1_000):
        ids = [f"doc-{number}" for number in range(objects)]
        share = gate.shares.create(ids[0], ids[1:], scopes=["docs:read"], expires_in=DAY)
        redeemed = gate.shares.redeem(share.share.id, secret=share.secret, address=ADDRESS).token
        for kind, credential in (("share", share.secret), ("redeemed share", redeemed)):
            within = f"{objects:,} object{'s' if objects > 1 else ''}"
            rows.append(Row(f"{kind}, {within}", hit(gate, credential, on=ids[-1]), "F", 2.5))
    family = gate.tokens.create(name="bench", type="REFRESH", scopes=["docs:read"])
    access = gate.tokens.exchange(family.secret, address=ADDRESS).access_token
    signed = sign(private)
    more = [
        Row("access credential", hit(gate, access), "F", 2.0),
        Row("F of a JWT", floor(signed)),
        Row("issuer's JWT, further sight", hit(gate, signed), "F of a JWT", 1.7),
        Row("10,000 networks", hit(gate, token(networks=10_000)), "token, 1 network", 1.05),
        Row("share of 1,000", rows[-2].calls, rows[-4].name, 1.1),
        Row("redeemed of 1,000", rows[-1].calls, rows[-3].name, 1.1),
    ]
    return rows + more


def refusals(folder: Path, closing: ExitStack) -> list[Row]:
    """Return the rows of credentials that nothing is behind."""
    gate = Gate(f"sqlite:///{folder / 'refusals.db'}")
    closing.callback(gate.close)
    plain = gate.tokens.create(name="bench", scopes=["docs:read"], expires_in=DAY).secret
    unknown = mint("fg", "tok")
    return [
        Row("F", floor(plain)),
        Row("refused: unknown, seen before", refused(gate, unknown), "F", 6.0),
        Row("refused: wrong checksum", refused(gate, f"{unknown[:-6]}000000"), "F", 9.0),
        Row("refused: another brand", refused(gate, f"x{unknown}"), "F", 9.0),
    ]


def misses(folder: Path, closing: ExitStack) -> list[Row]:
    """Return the rows of credentials that have to be looked up."""
    miss, credentials = first_sights(folder / "misses.db", closing, ROWS)
    return [
        Row("SELECT", selected(folder / "misses.db", credentials), number=ROWS),
        miss._replace(name="miss", floor="SELECT", bound=2.5),
    ]


def growth(folder: Path, closing: ExitStack) -> list[Row]:
    """Return the rows of the same look-ups in a small store and in a large one."""
    small, large = (first_sights(folder / f"{size}.db", closing, size)[0] for size in (ROWS, LARGE))
    return [small, large._replace(floor=small.name, bound=1.4)]


def first_sights(file: Path, closing: ExitStack, size: int) -> tuple[Row, list[str]]:
    """Return the row of look-ups in a store of so many tokens, and the credentials that are looked up."""
    gate = Gate(f"sqlite:///{file}")
    closing.callback(gate.close)
    made = [
        gate.tokens.create(name="bench", scopes=["docs:read"], expires_in=DAY).secret
        for _ in range(ROWS)
    ]
    fill(file, size - ROWS)
    # A miss is what is not at hand.
    records: Any = gate._records._records  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
    return Row(
        f"miss in {size:,} tokens", missed(gate, made), number=ROWS, prepare=records.clear
    ), made


def hit(
    gate: Gate, credential: str, needs: tuple[Any, ...] = ("docs:read",), on: str | None = None
) -> Calls:
    """Return the verification of a credential, with its needs asked."""
    verify = gate.verify
    need, *more = needs

    def plain(number: int) -> None:
        for _ in range(number):
            verify(credential, address=ADDRESS).require(need)

    def several(number: int) -> None:
        for _ in range(number):
            verify(credential, address=ADDRESS).require(*needs)

    def on_object(number: int) -> None:
        for _ in range(number):
            verify(credential, address=ADDRESS).require(need, on=on)

    if on is not None:
        return on_object
    return several if more else plain


def refused(gate: Gate, credential: str) -> Calls:
    """Return the refusal of a credential."""
    verify = gate.verify

    def calls(number: int) -> None:
        for _ in range(number):
            try:
                verify(credential, address=ADDRESS)
            except Denied:  # the cheapest way to go on
                continue

    return calls


def missed(gate: Gate, credentials: list[str]) -> Calls:
    """Return the first verifications of credentials."""
    verify = gate.verify

    def calls(number: int) -> None:
        for credential in credentials[:number]:
            verify(credential, address=ADDRESS)

    return calls


def selected(file: Path, credentials: list[str]) -> Calls:
    """Return bare look-ups of the rows behind credentials."""
    connection = sqlite3.connect(file)
    wanted = (
        "SELECT t.id, t.owner_id, t.owner_name, t.owner_acct, t.owner_domain, t.owner_idp_id, t.org_id, t.org_name, "
        "CAST(t.allowed_scopes AS BLOB), CAST(t.allowed_cidr_blocks AS BLOB), CAST(t.networks AS BLOB), "
        "t.not_before, t.expires_at, t.deactivated, s.superseded_at, "
        "EXISTS (SELECT 1 FROM faregate_unseen AS u WHERE u.digest = s.digest) "
        "FROM faregate_secrets AS s JOIN faregate_tokens AS t ON t.id = s.token_id "
        "WHERE s.digest = ? AND t.type <> 'REFRESH'"
    )

    def calls(number: int) -> None:
        for credential in credentials[:number]:
            if not connection.execute(wanted, (sha256(credential.encode()).digest(),)).fetchall():
                raise AssertionError

    return calls


def fill(file: Path, number: int) -> None:
    """Add so many tokens to a store, which nobody will present."""
    with sqlite3.connect(file) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(faregate_tokens)")]
        others = ", ".join(column for column in columns if column != "id")
        tokens = f"INSERT INTO faregate_tokens (id, {others}) SELECT ?, {others} FROM faregate_tokens LIMIT 1"  # noqa: S608
        secrets = "INSERT INTO faregate_secrets (digest, token_id) VALUES (?, ?)"
        made = (
            (f"{index:08x}-0000-7000-8000-000000000000", token_bytes(32)) for index in range(number)
        )
        while some := list(islice(made, 10_000)):
            connection.executemany(tokens, [(token_id,) for token_id, _ in some])
            connection.executemany(secrets, [(digest, token_id) for token_id, digest in some])
    connection.close()


def floor(credential: str) -> Calls:
    """Return the least that a gate must do."""
    known = {sha256(credential.encode()).digest(): (time.time() + DAY, frozenset({"docs:read"}))}
    clock = time.time

    def calls(number: int) -> None:
        for _ in range(number):
            closes, scopes = known[sha256(credential.encode()).digest()]
            if clock() >= closes or "docs:read" not in scopes:
                raise AssertionError

    return calls


def issuer_of(private: Any) -> Issuer:
    """Return an issuer that signs with a key."""
    public = jwt.get_algorithm_by_name("RS256").to_jwk(private.public_key(), as_dict=True)
    keys = {"keys": [{**public, "key_ops": ["verify"], "kid": "k1", "alg": "RS256"}]}
    return Issuer(ISSUER, AUDIENCE, ["RS256"], keys=keys)


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
    claims |= {"iat": now, "exp": now + 3_600, "scope": "openid docs:read docs:write"}
    return jwt.encode(claims, private, "RS256", headers={"kid": "k1", "typ": "at+jwt"})
