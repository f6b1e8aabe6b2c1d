"""Measures hits, refusals and misses, as multiples of the least that any gate must do.

The floor of a hit is F, written in line: the SHA-256 of the credential, a look-up in a dictionary,
the expiry, and the scope. A gate does the same. It also checks that its cache is fresh, that the
token has begun, the network, the clock, and the owner's rights; it notes the last use, and makes
the principal.
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
DAY = 86_400.0  # seconds
ISSUER = "https://id.example"
AUDIENCE = "https://api.example"

# Tokens that misses look up, and the size of a large store.
ROWS = 1_000
LARGE = 1_000_000


def hits(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the rows of cached credentials."""
    private = rsa.generate_private_key(65537, 2048)
    gate = Gate(f"sqlite:///{folder / 'hits.db'}", issuers=[issuer_of(private)])
    stack.callback(gate.close)

    def token(scopes: tuple[str, ...] = ("docs:read",), networks: int = 0) -> str:
        blocks = [f"10.{index // 256}.{index % 256}.0/25" for index in range(networks)]
        issued = gate.tokens.create(
            name="bench", scopes=scopes, allowed_cidr_blocks=blocks, expires_in=DAY
        )
        return issued.secret

    plain = token()
    both = ("docs:read", "docs:write")
    either = any_of("docs:read", "docs:write")
    tokens = [
        Row("F", floor(plain)),
        Row("token", hit(gate, plain), "F", 2.0),
        Row("token, 1 network", hit(gate, token(networks=1)), "F", 2.0),
        Row("token, 1,000 networks", hit(gate, token(networks=1_000)), "F", 2.0),
        Row("token, 10,000 networks", hit(gate, token(networks=10_000)), "F", 2.0),
        Row("token, two needs", hit(gate, token(both), both), "F", 2.5),
        Row("token, grant docs:*", hit(gate, token(("docs:*",))), "F", 2.5),
        Row("token, any_of of two", hit(gate, token(), (either,)), "F", 2.5),
    ]

    small_share, small_redeemed = share_rows(gate, 1, "1 object")
    large_share, large_redeemed = share_rows(gate, 1_000, "1,000 objects")
    shares = [small_share, small_redeemed, large_share, large_redeemed]

    family = gate.tokens.create(name="bench", type="REFRESH", scopes=["docs:read"])
    access = gate.tokens.exchange(family.secret, address=ADDRESS).access_token
    signed = sign(private)
    others = [
        Row("access credential", hit(gate, access), "F", 2.0),
        Row("F of a JWT", floor(signed)),
        Row("issuer's JWT, further sight", hit(gate, signed), "F of a JWT", 1.7),
    ]

    # The size of a list must not matter: the long list is compared with the short.
    sizes = [
        Row("10,000 networks", hit(gate, token(networks=10_000)), "token, 1 network", 1.05),
        Row("share of 1,000", large_share.calls, small_share.name, 1.1),
        Row("redeemed of 1,000", large_redeemed.calls, small_redeemed.name, 1.1),
    ]

    return [*tokens, *shares, *others, *sizes]


def share_rows(gate: Gate, objects: int, size: str) -> tuple[Row, Row]:
    """Return the row of a share of some objects, and the row of a token redeemed from it."""
    ids = [f"doc-{number}" for number in range(objects)]
    share = gate.shares.create(ids[0], ids[1:], scopes=["docs:read"], expires_in=DAY)
    redeemed = gate.shares.redeem(share.share.id, secret=share.secret, address=ADDRESS)

    return (
        Row(f"share, {size}", hit(gate, share.secret, on=ids[-1]), "F", 2.5),
        Row(f"redeemed share, {size}", hit(gate, redeemed.token, on=ids[-1]), "F", 2.5),
    )


def refusals(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the rows of credentials without a record."""
    gate = Gate(f"sqlite:///{folder / 'refusals.db'}")
    stack.callback(gate.close)
    plain = gate.tokens.create(name="bench", scopes=["docs:read"], expires_in=DAY).secret
    unknown = mint("fg", "tok")

    return [
        Row("F", floor(plain)),
        Row("refused: unknown, seen before", refusal(gate, unknown), "F", 6.0),
        Row("refused: wrong checksum", refusal(gate, f"{unknown[:-6]}000000"), "F", 9.0),
        Row("refused: another brand", refusal(gate, f"x{unknown}"), "F", 9.0),
    ]


def misses(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the rows of credentials that are not cached; the floor is a bare SELECT."""
    row, credentials = misses_of(folder / "misses.db", stack, ROWS)
    return [
        Row("SELECT", select(folder / "misses.db", credentials), number=ROWS),
        row._replace(name="miss", floor="SELECT", bound=2.5),
    ]


def growth(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the rows of the same look-ups in a small store and in a large store."""
    small, _ = misses_of(folder / f"{ROWS}.db", stack, ROWS)
    large, _ = misses_of(folder / f"{LARGE}.db", stack, LARGE)
    return [small, large._replace(floor=small.name, bound=1.4)]


def misses_of(file: Path, stack: ExitStack, size: int) -> tuple[Row, list[str]]:
    """Return the row of look-ups in a store of ``size`` tokens, and the credentials in it."""
    gate = Gate(f"sqlite:///{file}")
    stack.callback(gate.close)
    credentials = [
        gate.tokens.create(name="bench", scopes=["docs:read"], expires_in=DAY).secret
        for _ in range(ROWS)
    ]
    fill(file, size - ROWS)

    # An empty cache makes every credential a miss.
    records: Any = gate._records._records  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
    name = f"miss in {size:,} tokens"
    return Row(name, miss(gate, credentials), number=ROWS, prepare=records.clear), credentials


def hit(
    gate: Gate, credential: str, needs: tuple[Any, ...] = ("docs:read",), on: str | None = None
) -> Calls:
    """Return verifications of a credential that require its needs, or a need on an object."""
    verify = gate.verify
    need = needs[0]

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
    if len(needs) > 1:
        return several
    return plain


def refusal(gate: Gate, credential: str) -> Calls:
    """Return refusals of a credential."""
    verify = gate.verify

    def calls(number: int) -> None:
        for _ in range(number):
            try:
                verify(credential, address=ADDRESS)
            except Denied:
                # Handling it in line adds less to the figure than contextlib.suppress.
                continue

    return calls


def miss(gate: Gate, credentials: list[str]) -> Calls:
    """Return verifications of the first credentials of a list."""
    verify = gate.verify

    def calls(number: int) -> None:
        for credential in credentials[:number]:
            verify(credential, address=ADDRESS)

    return calls


def select(file: Path, credentials: list[str]) -> Calls:
    """Return bare look-ups of the rows of the first credentials of a list."""
    connection = sqlite3.connect(file)
    statement = (
        "SELECT t.id, t.owner_id, t.owner_name, t.owner_acct, t.owner_domain, t.owner_idp_id, "
        "t.org_id, t.org_name, CAST(t.allowed_scopes AS BLOB), "
        "CAST(t.allowed_cidr_blocks AS BLOB), CAST(t.networks AS BLOB), "
        "t.not_before, t.expires_at, t.deactivated, s.superseded_at, "
        "EXISTS (SELECT 1 FROM faregate_unseen AS u WHERE u.digest = s.digest) "
        "FROM faregate_secrets AS s JOIN faregate_tokens AS t ON t.id = s.token_id "
        "WHERE s.digest = ? AND t.type <> 'REFRESH'"
    )

    def calls(number: int) -> None:
        for credential in credentials[:number]:
            digest = sha256(credential.encode()).digest()
            if not connection.execute(statement, (digest,)).fetchall():
                raise AssertionError("The SELECT finds no row of the credential.")

    return calls


def fill(file: Path, number: int) -> None:
    """Add copies of a token to a store, with secrets that no request presents."""
    with sqlite3.connect(file) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(faregate_tokens)")]
        others = ", ".join(column for column in columns if column != "id")
        add_token = (
            f"INSERT INTO faregate_tokens (id, {others}) "  # noqa: S608  columns of the table
            f"SELECT ?, {others} FROM faregate_tokens LIMIT 1"
        )
        add_digest = "INSERT INTO faregate_secrets (token_id, digest) VALUES (?, ?)"

        copies = (
            (f"{index:08x}-0000-7000-8000-000000000000", token_bytes(32)) for index in range(number)
        )
        while batch := list(islice(copies, 10_000)):
            connection.executemany(add_token, [(token_id,) for token_id, _ in batch])
            connection.executemany(add_digest, batch)

    # The end of the block commits, and leaves the connection open.
    connection.close()


def floor(credential: str) -> Calls:
    """Return the least that any gate must do for a credential."""
    known = {sha256(credential.encode()).digest(): (time.time() + DAY, frozenset({"docs:read"}))}
    clock = time.time

    def calls(number: int) -> None:
        for _ in range(number):
            expiry, scopes = known[sha256(credential.encode()).digest()]
            if clock() >= expiry or "docs:read" not in scopes:
                raise AssertionError

    return calls


def issuer_of(private: Any) -> Issuer:
    """Return an issuer whose tokens are signed with a private key."""
    public = jwt.get_algorithm_by_name("RS256").to_jwk(private.public_key(), as_dict=True)
    keys = {"keys": [{**public, "key_ops": ["verify"], "kid": "k1", "alg": "RS256"}]}
    return Issuer(ISSUER, AUDIENCE, ["RS256"], keys=keys)


def sign(private: Any) -> str:
    """Return a JWT of the issuer, in the form of an access token (RFC 9068)."""
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "client_id": "app",
        "jti": token_bytes(9).hex(),
        "iat": now,
        "exp": now + 3_600,
        "scope": "openid docs:read docs:write",
    }
    return jwt.encode(claims, private, "RS256", headers={"kid": "k1", "typ": "at+jwt"})
