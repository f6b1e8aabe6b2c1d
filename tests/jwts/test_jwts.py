"""JWTs of trusted issuers: what is hostile is refused, at first sight and later; keys; revocations; management."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from conftest import FUZZ, START, Clock, reason_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from identity_provider import (
    AUDIENCE,
    ISSUER,
    SECRET,
    claims_of,
    compact,
    header_of,
    issuer,
    jwk,
    jwks,
    part,
    private,
    token,
)

from faregate import Denied, Gate, InvalidInput, Owner, Policy, Principal
from faregate.credentials.opaque import MAX_LENGTH
from faregate.jwts.jwks import FetchedKeys
from faregate.jwts.keys import read_set

SOUND = token()


def text(header: str | None = None, claims: str | None = None, key: str = "rsa") -> str:
    """A token of these texts, rightly signed; sound ones where none is given."""
    head = json.dumps(header_of(key)) if header is None else header
    return compact(
        head.encode(), (json.dumps(claims_of()) if claims is None else claims).encode(), key
    )


def with_member(name: str, value: str) -> str:
    """Sound claims with one member more, of which JSON text is given."""
    return json.dumps(claims_of())[:-1] + f', "{name}": {value}}}'


def resigned(change: Callable[[bytes], bytes]) -> str:
    """A sound token with another signature."""
    signed, _, signature = token(key="ec").rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    return f"{signed}.{part(change(raw))}"


def confused(secret: bytes) -> str:
    """A token signed by HMAC with what everybody knows."""
    header = json.dumps(header_of(alg="HS256")).encode()
    signed = f"{part(header)}.{part(json.dumps(claims_of()).encode())}"
    return f"{signed}.{part(jwt.get_algorithm_by_name('HS256').sign(signed.encode(), secret))}"


def pem(name: str = "rsa") -> bytes:
    """A public key as PEM."""
    return bytes(
        private(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )


def der(name: str = "rsa") -> bytes:
    """A public key as DER."""
    return bytes(
        private(name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )


HEADER, CLAIMS, SIGNATURE = SOUND.split(".")
BROKEN = part(b'{"alg": "RS2\xd2: "rsa"}')
NONE = part(b'{"alg": "none", "kid": "rsa", "typ": "at+jwt"}')
ATTACKS: dict[str, str] = {
    "an empty signature": f"{HEADER}.{CLAIMS}.",
    "no signature": f"{HEADER}.{CLAIMS}",
    "alg none": f"{NONE}.{CLAIMS}.",
    "alg none, signed": text('{"alg": "none", "kid": "rsa", "typ": "at+jwt"}'),
    "alg in small letters": text('{"alg": "rs256", "kid": "rsa", "typ": "at+jwt"}'),
    "alg in a list": text('{"alg": ["RS256"], "kid": "rsa", "typ": "at+jwt"}'),
    "no alg": text('{"kid": "rsa", "typ": "at+jwt"}'),
    "alg twice": text('{"alg": "none", "alg": "RS256", "kid": "rsa", "typ": "at+jwt"}'),
    "kid twice": text('{"alg": "RS256", "kid": "x", "kid": "rsa", "typ": "at+jwt"}'),
    "kid null": text('{"alg": "RS256", "kid": null, "typ": "at+jwt"}'),
    "typ twice": text('{"alg": "RS256", "kid": "rsa", "typ": "JWT", "typ": "at+jwt"}'),
    "typ null": text('{"alg": "RS256", "kid": "rsa", "typ": null}'),
    "b64 false": text('{"alg": "RS256", "kid": "rsa", "typ": "at+jwt", "b64": false}'),
    "b64 null": text('{"alg": "RS256", "kid": "rsa", "typ": "at+jwt", "b64": null}'),
    "a header in a list": text(f"[{json.dumps(header_of())}]"),
    "a header and more": text(json.dumps(header_of()) + "{}"),
    "a header with a comment": text(json.dumps(header_of())[:-1] + "/**/}"),
    "a header with a comma more": text(json.dumps(header_of())[:-1] + ",}"),
    "a header with NaN": text(json.dumps(header_of())[:-1] + ', "x": NaN}'),
    "a header in UTF-16": compact(json.dumps(header_of()).encode("utf-16-le"), json.dumps(claims_of()).encode()),
    "a header that is no text": compact(json.dumps(header_of()).encode()[:-1] + b', "x": "\xff"}', b"{}"),
    "a header that is no text before its end": f"{BROKEN}.{CLAIMS}.{SIGNATURE}",
    "a header behind a space": text(" " + json.dumps(header_of())),
    "a header behind a mark": text("\ufeff" + json.dumps(header_of())),
    "claims in a list": text(claims=f"[{json.dumps(claims_of())}]"),
    "claims and more": text(claims=json.dumps(claims_of()) + " 1"),
    "no claims": text(claims="{}"),
    "nothing as claims": text(claims=""),
    "null as claims": text(claims="null"),
    "claims behind a mark": text(claims="\ufeff" + json.dumps(claims_of())),
    "claims in UTF-16": compact(json.dumps(header_of()).encode(), json.dumps(claims_of()).encode("utf-16")),
    "claims in UTF-32": compact(json.dumps(header_of()).encode(), json.dumps(claims_of()).encode("utf-32-le")),
    "claims that are no text before their end": f"{HEADER}.{BROKEN}.{SIGNATURE}",
    "claims with a broken letter": compact(
        json.dumps(header_of()).encode(), with_member("x", '"y"').encode().replace(b'"y"', b'"\xed\xa0\x80"')
    ),
    "sub twice": text(claims=with_member("sub", '"bob"')),
    "exp twice": text(claims=with_member("exp", "4000000000")),
    "twice inside": text(claims=with_member("x", '{"a": 1, "a": 1}')),
    "twice under other letters": text(claims=with_member("s\\u0075b", '"bob"')),
    "NaN": text(claims=with_member("x", "NaN")),
    "Infinity": text(claims=with_member("nbf", "-Infinity")),
    "a number that no float holds": text(claims=with_member("x", "1e999")),
    "a number of 5,000 digits": text(claims=with_member("x", "9" * 5000)),
    "nested one too deep": text(claims=with_member("x", "[" * 32 + "]" * 32)),
    "objects nested one too deep": text(claims=with_member("x", '{"x":' * 32 + "1" + "}" * 32)),
    "a header nested one too deep": text(json.dumps(header_of())[:-1] + ', "x": ' + "[" * 32 + "]" * 32 + "}"),
    "nested two thousand deep": text(claims=with_member("x", "[" * 2000 + "]" * 2000)),
    "nested and never closed": text(claims=with_member("x", "[" * 2000)),
    "sub is half of a pair": text(claims=json.dumps(claims_of(sub="\ud800"))),
    "jti is half of a pair": text(claims=json.dumps(claims_of(jti="\udfff"))),
    "sub is a NUL": text(claims=json.dumps(claims_of(sub="\0"))),
    "sub turns around": text(claims=json.dumps(claims_of(sub="alice\u202e"))),
    "HMAC with PEM": confused(pem()),
    "HMAC with PEM without its end": confused(pem().strip()),
    "HMAC with DER": confused(der()),
    "HMAC with the JWK": confused(json.dumps(jwk("rsa")).encode()),
    "HMAC with the modulus": confused(jwk("rsa")["n"].encode()),
    "HMAC with nothing": confused(b""),
    "its own key": text(json.dumps(header_of("stranger", jwk=jwk("stranger"), kid=None)), key="stranger"),
    "its own key under a known name": text(json.dumps(header_of("stranger", jwk=jwk("stranger"), kid="rsa")), key="stranger"),
    "its own address": text(json.dumps(header_of("stranger", jku="http://127.0.0.1:9/", kid="rsa")), key="stranger"),
    "kid with a NUL": text(json.dumps(header_of(kid="rsa\0"))),
    "kid as a path": text(json.dumps(header_of(kid="../../rsa"))),
    "kid as a number": text(json.dumps({**header_of(), "kid": 1})),
    "a zero signature": resigned(lambda raw: bytes(len(raw))),
    "a short signature": resigned(lambda raw: raw[:-1]),
    "a long signature": resigned(lambda raw: raw + b"\0"),
    "a DER signature": resigned(
        lambda raw: encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    ),
    "a flipped bit": resigned(lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])),
    "another's claims": f"{HEADER}.{token(sub='bob').split('.')[1]}.{SIGNATURE}",
    "another's header": f"{token(key='rsa2').split('.')[0]}.{CLAIMS}.{SIGNATURE}",
    "padding": SOUND + "==",
    "a dot before": "." + SOUND,
    "a dot behind": SOUND + ".",
    "five parts": f"{SOUND}.{CLAIMS}.{SIGNATURE}",
    "the other alphabet": SOUND.replace("-", "+").replace("_", "/") + "+",
    "one letter more": SOUND + "A",
    "leftover bits": SOUND[:-1] + chr(ord(SOUND[-1]) + 1),
    "only dots": "..",
    "a lone header": f"{HEADER}..",
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_what_is_hostile_gets_nowhere(attack: str, make_gate: Callable[..., Gate]) -> None:
    """At first sight, again, and beside a sound token that is remembered."""
    gate = make_gate("sqlite://", issuers=[issuer()])
    for _ in ("first", "again"):
        assert reason_of(lambda: gate.verify(attack)) == "unknown_credential"
    gate.verify(SOUND)
    assert reason_of(lambda: gate.verify(attack)) == "unknown_credential"
    assert gate.verify(SOUND).id == "alice"


@pytest.mark.parametrize(
    "sound",
    [
        text(claims=with_member("x", "1e3")),
        text(claims=with_member("x", '{"a": [1, {"b": null}]}')),
        text(claims=with_member("x", "[" * 31 + "]" * 31)),
        text(json.dumps(header_of())[:-1] + ', "x": ' + '{"x":' * 31 + "1" + "}" * 32),
        text(claims=json.dumps(claims_of(sub="J\u00fcrgen \U0001f600"), ensure_ascii=False)),
        text(claims=json.dumps(claims_of(), indent=2)),
        text(json.dumps(header_of(), indent=1)),
        text(json.dumps(header_of(x5c=["A" * 2000], jwk=jwk("stranger")))),
        text(claims=with_member("y", '"' + "x" * 5000 + '"')),
        text(json.dumps({"alg": "ES256", "kid": "ec", "typ": "at+jwt"}), key="ec"),
    ],
    ids=range(10),
)
def test_what_only_looks_odd_gets_in(sound: str, make_gate: Callable[..., Gate]) -> None:
    """At first sight and from the cache."""
    gate = make_gate("sqlite://", issuers=[issuer()])
    assert gate.verify(sound).allows("docs:read")
    assert gate.verify(sound).allows("docs:read")


@pytest.mark.parametrize("key", ["rsa", "ec", "ed", "wide", "goldilocks"])
def test_each_algorithm_verifies_with_its_key(key: str, make_gate: Callable[..., Gate]) -> None:
    """As JWK and as PEM; with a bit turned in header, claims or signature it does not."""
    algorithm = jwk(key)["alg"]
    sound = compact(
        json.dumps(header_of(key, alg=algorithm)).encode(),
        json.dumps(claims_of()).encode(),
        key,
        algorithm,
    )
    for keys in (jwks(key), pem(key), pem(key).decode()):
        gate = make_gate("sqlite://", issuers=[issuer(algorithms=[algorithm], keys=keys)])
        assert gate.verify(sound).id == "alice"
        for place in (5, len(sound) // 2, len(sound) - 9):
            turned = sound[:place] + ("A" if sound[place] != "A" else "B") + sound[place + 1 :]
            assert (
                reason_of(lambda turned=turned, gate=gate: gate.verify(turned))
                == "unknown_credential"
            )


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_verifies(algorithm: str, make_gate: Callable[..., Gate]) -> None:
    """As bytes, as a text, and as a JWK; not shortened, not by another hash."""
    octets = {"keys": [{"kty": "oct", "k": part(SECRET), "kid": "s", "alg": algorithm}]}
    sound = compact(
        json.dumps(header_of(alg=algorithm, kid=None)).encode(),
        json.dumps(claims_of()).encode(),
        "secret",
        algorithm,
    )
    for keys in (SECRET, SECRET.decode(), octets):
        gate = make_gate("sqlite://", issuers=[issuer(algorithms=[algorithm], keys=keys)])
        assert gate.verify(sound).id == "alice"
        assert reason_of(lambda gate=gate: gate.verify(sound[:-2])) == "unknown_credential"
    other = make_gate(
        "sqlite://",
        issuers=[issuer(algorithms=["HS256" if algorithm != "HS256" else "HS512"], keys=SECRET)],
    )
    assert reason_of(lambda: other.verify(sound)) == "unknown_credential"


def private_pem() -> bytes:
    """A private key, where only a public one belongs."""
    return bytes(private("rsa").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def openssh() -> bytes:
    """A public key as OpenSSH writes it."""
    return bytes(private("rsa").public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


@pytest.mark.parametrize(
    "secret",
    [
        b"", b"short", b"x" * 31, pem(), pem().strip(), pem().replace(b"\n", b"\r\n"), b"  " + pem(), der(), openssh(), private_pem(),
        base64.b64encode(der()), base64.urlsafe_b64encode(der()).rstrip(b"="), base64.encodebytes(der()), json.dumps(jwk("rsa")).encode(),
        json.dumps(jwks("rsa")).encode(), b"\xef\xbb\xbf" + json.dumps(jwk("rsa")).encode(), pem("ec"), der("ed"),
    ],
    ids=range(18),
)  # fmt: skip
def test_what_others_know_is_no_secret(secret: bytes) -> None:
    """Nor is what is shorter than the hash; as bytes, as a text and in a JWK."""
    with pytest.raises(InvalidInput, match="keys"):
        issuer(algorithms=["HS256"], keys=secret)
    with pytest.raises(InvalidInput, match="keys"):
        issuer(algorithms=["HS256"], keys={"keys": [{"kty": "oct", "k": part(secret), "kid": "a"}]})


def test_a_secret_is_as_long_as_its_hash() -> None:
    """64 bytes for HS512 (RFC 7518 section 3.2)."""
    issuer(algorithms=["HS512"], keys=b"k" * 64)
    with pytest.raises(InvalidInput, match="64 or more"):
        issuer(algorithms=["HS512"], keys=b"k" * 63)


@pytest.mark.parametrize(
    ("left_out", "why"),
    [
        (jwk("rsa2", use="enc"), "use"),
        (jwk("rsa2", key_ops=["encrypt"]), "key_ops"),
        (jwk("rsa2", key_ops="verify"), "key_ops"),
        (jwk("small"), "1024 bits"),
        (jwk("rsa2", alg="RS512"), "alg"),
        (jwk("rsa2", alg="none"), "alg"),
        (jwk("rsa2", alg=["RS256"]), "alg"),
        (jwk("rsa2", kty="EC"), "missing"),
        (jwk("rsa2", kty=None), "kty"),
        (jwk("rsa2", kid=7), "kid"),
        (jwk("rsa2", e="AQ"), "exponent|read"),
        (jwk("rsa2", e="Ag"), "exponent|read"),
        (jwk("rsa2", n=""), "read|bits"),
        (jwk("rsa2", n="A" * 5000), "too long"),
        (jwk("rsa2", n=5), "no text"),
        (jwk("rsa2", e=None), "missing"),
        (jwk("ec", x=jwk("ec")["y"]), "read"),
        (jwk("ec", crv="P-384"), "fits|read|takes"),
        (jwk("wide", alg=None), "fits no algorithm"),
        (jwk("ed", x="AAAA"), "read"),
        ({"kty": "oct", "k": part(SECRET), "kid": "rsa2"}, "fits no algorithm"),
        ({"kty": "oct", "k": part(SECRET), "kid": "rsa2", "alg": "HS256"}, "alg"),
        ("rsa2", "not a JWK"),
        (None, "not a JWK"),
    ],
)
def test_a_key_that_serves_nothing_costs_no_other(
    left_out: Any, why: str, make_gate: Callable[..., Gate]
) -> None:
    """It verifies nothing, is told, and the others of the set go on."""
    given = issuer(keys={"keys": [left_out, jwk("rsa")]})
    assert given.keys is not None
    (told,) = given.keys.skipped
    assert re.search(why, told)
    gate = make_gate("sqlite://", issuers=[given])
    assert gate.verify(SOUND).id == "alice"
    with pytest.raises(InvalidInput, match="no key can be used"):
        issuer(keys={"keys": [left_out]})


def test_a_private_key_in_a_set_is_used_as_far_as_it_is_public(
    make_gate: Callable[..., Gate],
) -> None:
    """Its other members are not even looked at."""
    gate = make_gate("sqlite://", issuers=[issuer(keys=jwks(jwk("rsa", d="!", p=7)))])
    assert gate.verify(SOUND).id == "alice"


def test_a_key_without_alg_serves_the_only_algorithm_of_its_type(
    make_gate: Callable[..., Gate],
) -> None:
    """Where there are two, it serves neither; with alg it serves that one and no other."""
    bare, named = jwk("rsa", alg=None), jwk("rsa")
    assert make_gate("sqlite://", issuers=[issuer(keys=jwks(bare))]).verify(SOUND).id == "alice"
    with pytest.raises(InvalidInput, match="RS256 and PS256 would fit"):
        issuer(algorithms=["RS256", "PS256"], keys=jwks(bare))
    gate = make_gate("sqlite://", issuers=[issuer(algorithms=["RS256", "PS256"], keys=jwks(named))])
    probabilistic = compact(
        json.dumps(header_of(alg="PS256")).encode(),
        json.dumps(claims_of()).encode(),
        "rsa",
        "PS256",
    )
    assert gate.verify(SOUND).id == "alice"
    assert reason_of(lambda: gate.verify(probabilistic)) == "unknown_credential"


def test_names_of_keys(make_gate: Callable[..., Gate]) -> None:
    """An only key is found without a name, and one without a name by any; where there are more, by its own alone."""
    nameless = token(header={"kid": None})
    only = make_gate("sqlite://", issuers=[issuer(keys=jwks("rsa"))])
    assert only.verify(nameless).id == only.verify(SOUND).id == "alice"
    for kid in ('"x"', '""', "null", "7"):
        named = text(f'{{"alg": "RS256", "typ": "at+jwt", "kid": {kid}}}')
        assert reason_of(lambda named=named: only.verify(named)) == "unknown_credential"
    unnamed = make_gate("sqlite://", issuers=[issuer(keys=jwks(jwk("rsa", kid=None)))])
    assert unnamed.verify(nameless).id == unnamed.verify(SOUND).id == "alice"
    several = make_gate(
        "sqlite://", issuers=[issuer(keys=jwks("rsa", "ec", jwk("rsa2", kid=None)))]
    )
    assert reason_of(lambda: several.verify(nameless)) == "unknown_credential"
    assert reason_of(lambda: several.verify(token(key="rsa2"))) == "unknown_credential"
    twins = make_gate(
        "sqlite://", issuers=[issuer(keys=jwks(jwk("rsa", kid="k"), jwk("ec", kid="k")))]
    )
    assert (
        twins.verify(token(header={"kid": "k"})).id
        == twins.verify(token(key="ec", header={"kid": "k"})).id
    )


def test_a_certificate_holds_a_key(make_gate: Callable[..., Gate]) -> None:
    """As PEM; only its key is looked at."""
    name = x509.Name([])
    made = x509.CertificateBuilder(
        name,
        name,
        private("rsa").public_key(),
        7,
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2021, 1, 1, tzinfo=UTC),
    )
    keys = made.sign(private("rsa"), hashes.SHA256()).public_bytes(Encoding.PEM)
    assert make_gate("sqlite://", issuers=[issuer(keys=keys)]).verify(SOUND).id == "alice"


@pytest.mark.parametrize(
    ("arguments", "member"),
    [
        ({"issuer": ""}, "issuer"),
        ({"issuer": "a\nb"}, "issuer"),
        ({"issuer": 5}, "issuer"),
        ({"audience": ""}, "audience"),
        ({"audience": []}, "audience"),
        ({"audience": "*"}, "audience"),
        ({"audience": ["a", 5]}, "audience"),
        ({"audience": None}, "audience"),
        ({"algorithms": []}, "algorithms"),
        ({"algorithms": ["none"]}, "none of"),
        ({"algorithms": ["RS256", "XX"]}, "none of"),
        ({"algorithms": ["RS256", "HS256"]}, "HMAC and public keys"),
        ({"algorithms": "HS256"}, "secret|keys"),
        ({"algorithms": 5}, "algorithms"),
        ({"algorithms": [["RS256"]]}, "algorithms"),
        ({"keys": None}, "give either"),
        ({"jwks_url": "https://id.example/jwks"}, "give either"),
        ({"keys": {}}, "list of keys"),
        ({"keys": {"keys": []}}, "no key can be used"),
        ({"keys": {"keys": [jwk("rsa")] * 101}}, "100"),
        ({"keys": 5}, "keys"),
        ({"keys": "hello"}, "PEM"),
        ({"keys": private_pem()}, "private"),
        ({"keys": pem() + pem("ec")}, "JWK set"),
        (
            {"keys": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"},
            "cannot be read",
        ),
        ({"keys": pem("wide")}, "fits no algorithm"),
        ({"keys": pem("small")}, "1024 bits"),
        ({"keys": "\ud800"}, "UTF-8|PEM"),
        ({"keys": None, "jwks_url": "http://id.example/jwks"}, "https"),
        ({"keys": None, "jwks_url": "ftp://localhost/jwks"}, "https"),
        ({"keys": None, "jwks_url": "http://127.0.0.1.evil.example/"}, "https"),
        ({"keys": None, "jwks_url": "http://localhost@evil.example/"}, "without user"),
        ({"keys": None, "jwks_url": "https://user:word@id.example/"}, "without user"),
        ({"keys": None, "jwks_url": "https://id.example/#x"}, "fragment"),
        ({"keys": None, "jwks_url": "https:///jwks"}, "jwks_url"),
        ({"keys": None, "jwks_url": "https://id.example:99999/"}, "jwks_url"),
        ({"keys": None, "jwks_url": "https://[::1/"}, "jwks_url"),
        ({"keys": None, "jwks_url": "https://id.example/\r\nX: y"}, "jwks_url"),
        ({"keys": None, "jwks_url": "jwks.json"}, "jwks_url"),
        ({"keys": None, "jwks_url": "https://a..b/"}, "jwks_url"),
        ({"keys": None, "jwks_url": f"https://{'a' * 64}.example/"}, "jwks_url"),
        ({"keys": None, "jwks_url": f"https://{'a.' * 130}example/"}, "jwks_url"),
        ({"keys": None, "jwks_url": 5}, "jwks_url"),
        ({"keys": None, "jwks_url": "https://id.example/", "algorithms": ["HS256"]}, "not fetched"),
        (
            {"keys": None, "jwks_url": "http://8.8.8.8/jwks", "plain_http": True},
            "no private network",
        ),
        (
            {"keys": None, "jwks_url": "http://[2600:1406::1]/jwks", "plain_http": True},
            "no private network",
        ),
        (
            {"keys": None, "jwks_url": "http://[::ffff:8.8.8.8]/jwks", "plain_http": True},
            "jwks_url",
        ),
        (
            {"keys": None, "jwks_url": "http://user:word@id.svc/", "plain_http": True},
            "without user",
        ),
        ({"keys": None, "jwks_url": "ftp://id.svc/jwks", "plain_http": True}, "https"),
        (
            {"keys": None, "jwks_url": "https://id.svc/jwks", "plain_http": True},
            "leave plain_http out",
        ),
        ({"keys": None, "jwks_url": "http://id.svc/jwks", "plain_http": 1}, "plain_http"),
        ({"plain_http": True}, "only with jwks_url"),
        ({"proxy": "http://proxy.example:3128"}, "only with jwks_url"),
        (
            {
                "keys": None,
                "jwks_url": "http://id.svc/",
                "plain_http": True,
                "proxy": "http://p.example",
            },
            "only with an https",
        ),
        (
            {
                "keys": None,
                "jwks_url": "https://id.example/",
                "proxy": "https://proxy.example:3128",
            },
            "proxy: expected http",
        ),
        (
            {"keys": None, "jwks_url": "https://id.example/", "proxy": "socks5://proxy.example"},
            "proxy: expected http",
        ),
        (
            {"keys": None, "jwks_url": "https://id.example/", "proxy": "proxy.example:3128"},
            "proxy: expected http",
        ),
        (
            {"keys": None, "jwks_url": "https://id.example/", "proxy": "http://proxy.example/x"},
            "proxy: expected http",
        ),
        (
            {"keys": None, "jwks_url": "https://id.example/", "proxy": "http://proxy.example:0"},
            "proxy: expected http",
        ),
        (
            {"keys": None, "jwks_url": "https://id.example/", "proxy": "http://a b@proxy.example"},
            "proxy: expected http",
        ),
        ({"keys": None, "jwks_url": "https://id.example/", "proxy": ""}, "proxy: expected http"),
        ({"keys": None, "jwks_url": "https://id.example/", "proxy": True}, "proxy: expected http"),
        ({"typ": ""}, "typ"),
        ({"typ": 5}, "typ"),
        ({"leeway": -1}, "leeway"),
        ({"leeway": 121}, "leeway"),
        ({"leeway": float("nan")}, "leeway"),
        ({"leeway": True}, "leeway"),
        ({"leeway": "30"}, "leeway"),
        ({"scopes_claim": ""}, "scopes_claim"),
        ({"scopes_claim": None}, "scopes_claim"),
        ({"org_claim": ""}, "org_claim"),
        ({"required_claims": "a\nb"}, "required_claims"),
        ({"required_claims": [5]}, "required_claims"),
        ({"resources": ["x"]}, "resources"),
        ({"allowed_cidr_blocks": ["10.0.0.1/8"]}, "allowed_cidr_blocks"),
        ({"allowed_cidr_blocks": 5}, "allowed_cidr_blocks"),
        ({"manages": "False"}, "manages"),
    ],
)
def test_an_issuer_that_cannot_be_is_refused(arguments: dict[str, Any], member: str) -> None:
    """When it is made, naming the argument."""
    with pytest.raises(InvalidInput, match=member):
        issuer(**{"keys": jwks("rsa"), **arguments})


@pytest.mark.parametrize(
    ("issuers", "words"),
    [
        ([issuer(), issuer(audience="b", name="b")], "same 'iss'"),
        ([issuer(), issuer(issuer="https://b.example")], "all but one a name"),
        ([issuer(name="a"), issuer(issuer="https://b.example", name="A")], "all but one a name"),
        (issuer(), "a list of faregate.Issuer"),
        (["https://id.example"], "a list of faregate.Issuer"),
        (None, "a list of faregate.Issuer"),
        ([issuer(manages=True)], "max_lifetime"),
    ],
)
def test_issuers_that_cannot_be_are_refused(issuers: Any, words: str) -> None:
    """When the gate is made."""
    with pytest.raises(InvalidInput, match=words):
        Gate("sqlite://", issuers=issuers)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("missing", "words"),
    [("cryptography", "algorithms: JWTs need"), ("urllib3", "issuers: JWTs need")],
)
def test_without_the_extra_it_is_said_what_is_missing(missing: str, words: str) -> None:
    """When an issuer is made, or the gate; a gate without any needs none of it."""
    script = f"""
import sys
sys.modules[{missing!r}] = None
import faregate
gate = faregate.Gate("sqlite://")
gate.verify(gate.tokens.create(name="a").secret)
keys = {{"keys": [{jwk("rsa")}]}}
try:
    faregate.Gate("sqlite://", issuers=[faregate.Issuer("i", "a", ["RS256"], keys=keys)])
except faregate.InvalidInput as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(words)
    assert "pip install 'faregate[jwt]'" in done.stdout


def test_a_secret_is_not_shown() -> None:
    """Neither the issuer nor what it keeps tells it."""
    made = issuer(algorithms=["HS256"], keys=SECRET)
    assert repr(made) == "Issuer('https://id.example')"
    assert made.keys is not None
    for shown in (made.keys, made.keys.find(None, "HS256")):
        assert "HMAC secret" not in repr(shown)


def test_a_principal_is_its_subject(make_gate: Callable[..., Gate]) -> None:
    """Of its provider and organization, literal in what it may, with the end that it says."""
    gate = make_gate("sqlite://", issuers=[issuer(org_claim="tenant")])
    principal = gate.verify(token(tenant="o1", scope="docs:read docs:* *"))
    assert (principal.kind, principal.id, principal.identity) == ("jwt", "alice", "alice")
    assert principal.owner == Owner("alice", idp_id=ISSUER)
    assert principal.org is not None
    assert principal.org.id == "o1"
    assert (principal.shared_by, principal.compiled.granted.scopes) == (
        None,
        frozenset({"docs:read"}),
    )
    assert not principal.compiled.root
    told = dict(gate.requests.response_headers(principal, elsewhere=False, status=200, present=[]))
    assert told["Faregate-Token-Expires"] == "1970-01-12T13:56:40Z", (
        "without the leeway, which is the gate's affair"
    )


@pytest.mark.parametrize("manages", [False, True])
def test_no_claim_makes_root(manages: bool, make_gate: Callable[..., Gate]) -> None:
    """Whatever the scopes, with no organization and a subject that is called so."""
    gate = make_gate("sqlite://", issuers=[issuer(manages=manages)], policy=Policy(max_lifetime=60))
    for scope in ("*", "gate:*", "* gate:admin", ["*"], ["gate:*", "gate:admin"]):
        principal = gate.verify(token(scope=scope, sub="root"))
        assert not principal.compiled.root
        assert not principal.allows("docs:read")
        assert not principal.allows("gate:tokens:write")
        assert principal.allows("gate:admin") == (manages and "gate:admin" in scope)


NOW = int(START)
PROVIDERS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "RFC 9068": ({}, {"typ": "at+jwt"}, {"client_id": "s6B", "jti": "d", "iat": NOW, "scope": "openid docs:read"}),
    "permissions in a claim of their own": (
        {"typ": "JWT", "required_claims": ["iat", "azp"], "scopes_claim": "permissions"},
        {"typ": "JWT"},
        {"aud": [AUDIENCE, "https://id.example/userinfo"], "iat": NOW, "azp": "a", "scope": "openid", "permissions": ["docs:read"]},
    ),
    "roles that are not looked at": (
        {"typ": "JWT", "required_claims": ["iat", "jti"]},
        {"typ": "JWT"},
        {
            "aud": [AUDIENCE, "account"], "iat": NOW, "jti": "onrtac:1", "typ": "Bearer", "azp": "spa", "allowed-origins": ["*"],
            "realm_access": {"roles": ["admin"]}, "scope": "docs:read email", "email_verified": False,
        },
    ),
    "scopes in scp, a tenant and no jti": (
        {"typ": "JWT", "required_claims": ["iat"], "scopes_claim": "scp", "org_claim": "tid"},
        {"typ": "JWT", "x5t": "abc"},
        {"iat": NOW, "nbf": NOW, "azp": "a", "scp": "docs:read user_impersonation", "tid": "t", "uti": "u", "ver": "2.0"},
    ),
    "no type, and a list of scopes": (
        {"typ": None, "required_claims": ["iat", "jti"], "scopes_claim": "scp"},
        {},
        {"iat": NOW, "jti": "AT.x", "cid": "0oa", "uid": "00u", "scp": ["docs:read"], "auth_time": NOW, "ver": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("written", PROVIDERS.values(), ids=PROVIDERS)
def test_what_providers_write_gets_in(written: Any, make_gate: Callable[..., Gate]) -> None:
    """With the settings that say so; without them it does not."""
    how, header, claims = written
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "f:1|alice@example.com",
        "exp": NOW + 600,
        **claims,
    }
    made = compact(
        json.dumps({"alg": "RS256", "kid": "rsa", **header}).encode(), json.dumps(said).encode()
    )
    gate = make_gate("sqlite://", issuers=[issuer(**how)])
    principal = gate.verify(made)
    assert (principal.id, principal.allows("docs:read"), principal.allows("admin")) == (
        said["sub"],
        True,
        False,
    )
    plain = make_gate("sqlite://", issuers=[issuer()])
    assert reason_of(lambda: plain.verify(made)) == ("unknown_credential" if how else "ok")


def test_what_is_no_scope_is_dropped(make_gate: Callable[..., Gate]) -> None:
    """Nor is it shown to anybody as one."""
    gate = make_gate("sqlite://", issuers=[issuer()])
    odd = [
        "a\nb",
        'a"b',
        "a\\b",
        "x/permission:y",
        "x/role:y",
        "a" * 513,
        ":".join("a" * 40),
        "\u00e4",
        "a*",
        "",
    ]
    principal = gate.verify(token(scope=[*odd, "ok", "ok"]))
    assert principal.compiled.granted.scopes == {"ok"}
    assert list(principal.compiled.grants) == [("general", "scope", "ok")]
    assert gate.introspect(token(scope=" ".join([*odd, "ok"]))).scope == ("ok",)


def test_scopes_are_bounded(make_gate: Callable[..., Gate]) -> None:
    """As those of any record."""
    gate = make_gate("sqlite://", issuers=[issuer()])
    assert gate.verify(token(scope=" ".join(map(str, range(1000))))).allows("999")
    assert (
        reason_of(lambda: gate.verify(token(scope=" ".join(map(str, range(1001))))))
        == "unknown_credential"
    )


def test_8192_characters_and_no_more(make_gate: Callable[..., Gate]) -> None:
    """The longest token gets in, one character more is malformed, and neither takes long."""
    gate = make_gate("sqlite://", issuers=[issuer()])
    short = len(token(x=""))
    lengths = {
        len(longest := token(x="y" * size)): longest
        for size in range((MAX_LENGTH - short) * 3 // 4 - 4, (MAX_LENGTH - short) * 3 // 4 + 6)
    }
    assert gate.verify(lengths[max(size for size in lengths if size <= MAX_LENGTH)]).id == "alice"
    too_long = lengths[min(size for size in lengths if size > MAX_LENGTH)]
    assert reason_of(lambda: gate.verify(too_long)) == "malformed_credential"
    started = time.perf_counter()
    for junk in ("A" * 65_536, "." * 65_536, "e." * 30_000, "eyJ" * 20_000):
        for _ in range(100):
            assert reason_of(lambda junk=junk: gate.verify(junk)) == "malformed_credential"
    assert time.perf_counter() - started < 0.5


CORPUS = [SOUND, token(key="ec"), token(key="ed"), *ATTACKS.values()]


@st.composite
def spoilt(draw: st.DrawFn) -> str:
    """A token of the corpus with pieces cut, doubled, exchanged and put in."""
    made = draw(st.sampled_from(CORPUS))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(made)))
        end = draw(st.integers(start, min(len(made), start + 40)))
        piece = draw(
            st.one_of(
                st.text(max_size=6),
                st.sampled_from(
                    [".", "=", "-", "_", "A", "e", "\0", "\ud800", made[start:end] * 2]
                ),
            )
        )
        made = made[:start] + piece + made[end:]
    return made


@st.composite
def rightly_signed(draw: st.DrawFn) -> str:
    """A token of whatever header and claims, rightly signed."""
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=5,
    )  # fmt: skip
    header: dict[str, Any] = {
        **header_of(),
        **draw(
            st.dictionaries(
                st.sampled_from(["alg", "kid", "typ", "crit", "b64", "cty", "x"]),
                values,
                max_size=2,
            )
        ),
    }
    claims: dict[str, Any] = {
        **claims_of(),
        **draw(
            st.dictionaries(st.sampled_from([*claims_of(), "nbf", "cnf", "x"]), values, max_size=3)
        ),
    }
    header = {"alg": header["alg"], **header}
    encode = [
        json.dumps(one, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
        for one in (header, claims)
    ]
    encode[draw(st.integers(0, 1))] += draw(st.sampled_from([b"", b" ", b"\0", b"{}", b"\xff"]))
    return compact(encode[0], encode[1])


FUZZED = Gate("sqlite://", clock=Clock(), issuers=[issuer()])


@pytest.mark.slow
@settings(max_examples=300 * FUZZ, deadline=None)
@given(made=spoilt() | rightly_signed() | st.text(max_size=50))
@example(made="..")
@example(made="e.e.")
@example(made="")
@example(made=token(scope=None))
def test_no_text_makes_anything_but_a_verdict(made: str) -> None:
    """Any text gives a principal within its claims, or a denial; the second time the same."""
    first = verdict(FUZZED, made)
    assert verdict(FUZZED, made) == first
    FUZZED._records.close()
    assert verdict(FUZZED, made) == first
    assert first[0] in (
        "ok",
        "unknown_credential",
        "malformed_credential",
        "expired",
        "not_yet_valid",
    )
    if first[0] == "ok":
        claimed = jwt.decode(made, options={"verify_signature": False}).get("scope") or []
        literal = claimed.split(" ") if isinstance(claimed, str) else claimed
        assert set(first[1]) <= set(literal)
        assert not any("*" in scope or scope.startswith("gate:") for scope in first[1])
    told = FUZZED.explain(made)
    assert (told.reason or "ok") == first[0]


def verdict(gate: Gate, credential: str) -> tuple[str, tuple[str, ...]]:
    """What a gate says of a credential, and what that may."""
    try:
        principal: Principal = gate.verify(credential, address="127.0.0.1")
    except Denied as denied:
        return denied.reason, ()
    return "ok", tuple(sorted(principal.compiled.granted.scopes))


KEYS = ["rsa", "ec", "ed"]
PUBLISHED = {
    **{name: jwk(name) for name in KEYS},
    "nameless rsa": jwk("rsa", kid=None), "another rsa": jwk("rsa2", kid="rsa"), "renamed rsa": jwk("rsa", kid="x"),
}  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60 * FUZZ, deadline=None)
@given(
    tokens=st.lists(
        st.fixed_dictionaries(
            {
                "key": st.sampled_from(KEYS),
                "kid": st.sampled_from(["own", None, "x"]),
                "sub": st.sampled_from(["alice", "bob"]),
                "jti": st.sampled_from(["t1", "t2"]),
                "iat": st.integers(-60, 60),
                "exp": st.integers(1, 300),
                "nbf": st.none() | st.integers(-60, 200),
            }
        ),
        min_size=1,
        max_size=4,
    ),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("clock"), st.integers(-100, 200)),
            st.tuples(st.just("revoke"), st.sampled_from(["t1", "t2"])),
            st.tuples(
                st.just("subject"), st.sampled_from(["alice", "bob"]), st.integers(-100, 100)
            ),
            st.tuples(st.just("keys"), st.sets(st.sampled_from(sorted(PUBLISHED)))),
        ),
        max_size=6,
    ),
)
def test_what_is_remembered_is_judged_like_what_is_new(
    tokens: list[dict[str, Any]], steps: list[tuple[Any, ...]]
) -> None:
    """After each change of clock, revocations and keys: by a gate that has seen the tokens, and by one that has not."""
    clock = Clock()
    texts = [_text_of(one) for one in tokens]
    given = [issuer(jwks_url="https://id.example/keys") for _ in range(2)]
    warm = Gate("sqlite://", clock=clock, issuers=given[:1])

    def publish(gate: Gate, names: set[str]) -> None:
        assert gate._issuers is not None
        source = gate._issuers._trusts[0].keys
        assert isinstance(source, FetchedKeys)
        source._ask_at = source._next_at = source._blocked_until = time.monotonic() + 1e6
        source._fetched = (
            read_set(
                jwks(*(PUBLISHED[name] for name in sorted(names))), ["RS256", "ES256", "EdDSA"]
            ),
            time.monotonic(),
            clock(),
        )
        source._unknown.clear()

    keys = set(KEYS)
    revoked: list[tuple[Any, ...]] = []
    publish(warm, keys)
    for step in [("clock", 0), *steps]:
        match step:
            case "clock", seconds:
                clock.now += seconds
            case "keys", names:
                keys = names
                publish(warm, keys)
            case _:
                revoked.append(step)
                revoke(warm, step)
        cold = Gate("sqlite://", clock=clock, issuers=given[1:])
        publish(cold, keys)
        for again in revoked:
            revoke(cold, again)
        for made in texts:
            assert verdict(warm, made) == verdict(cold, made) == verdict(cold, made)
        cold.close()
    warm.close()


def revoke(gate: Gate, step: tuple[Any, ...]) -> None:
    """Revoke a token, or a subject's."""
    if step[0] == "revoke":
        gate.jwts.revoke(ISSUER, step[1])
    else:
        gate.jwts.revoke_subject(ISSUER, step[1], before=START + step[2])


def _text_of(told: dict[str, Any]) -> str:
    issued = int(START) + told["iat"]
    nbf = None if told["nbf"] is None else int(START) + told["nbf"]
    header = {} if told["kid"] == "own" else {"kid": told["kid"]}
    return token(
        key=told["key"],
        header=header,
        sub=told["sub"],
        jti=told["jti"],
        iat=issued,
        exp=issued + told["exp"],
        nbf=nbf,
    )
