"""Keys that are fetched: from a real HTTPS server on loopback, sound or not, and what becomes of tokens meanwhile."""

from __future__ import annotations

import codecs
import gc
import gzip
import json
import os
import re
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock
from urllib.parse import unquote

import identity_provider as provider
import pytest
from conftest import START, Clock, reason_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flask import Flask
from identity_provider import jwk, jwks, token

from faregate import Denied, Gate, Policy, Principal, __version__
from faregate.credentials.presented import RequestValues
from faregate.diagnosis import examine
from faregate.errors import WouldWait
from faregate.jwts import jwks as source
from faregate_flask import Faregate

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers as its server says at the moment."""

    server: Endpoint

    def do_GET(self) -> None:
        """Count the request and answer it."""
        self.server.asked.append(self.path)
        self.server.headers.append(self.headers)
        with suppress(OSError):
            self.server.answer(self)

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


class Endpoint(ThreadingHTTPServer):
    """The place of a key set; ``answer`` says what is answered now, ``asked`` what was asked for so far, and how."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, context: ssl.SSLContext | None, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        super().__init__((address, port), Handler)
        self.asked: list[str] = []
        self.headers: list[Message] = []
        self.answer: Answer = says(jwks("rsa"))
        if context is not None:
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = (
            f"{'http' if context is None else 'https'}://{address}:{self.server_port}/keys?v=1"
        )
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what some tests are about."""


def says(
    content: Any, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})
) -> Answer:
    """Return the answer of a JSON document, or of a text or bytes as they are."""
    body = (
        content
        if isinstance(content, bytes)
        else (content if isinstance(content, str) else json.dumps(content)).encode()
    )

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def certificate(folder: Path, *, name: str = "127.0.0.1") -> tuple[Path, Path]:
    """Make a certificate for an address or a host that signs itself; return its file, and that of its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    called = x509.DNSName(name) if name.endswith(".test") else x509.IPAddress(ip_address(name))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([called]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files[1].write_bytes(private.private_bytes(serialization.Encoding.PEM, *form))
    return files


def context_of(files: tuple[Path, Path]) -> ssl.SSLContext:
    """The server's side of TLS with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A real HTTPS server whose certificate is trusted."""
    files = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    server = Endpoint(context_of(files))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def guarded(endpoint: Endpoint, make_gate: Callable[..., Gate]) -> Gate:
    """A gate that fetches its issuer's keys there."""
    return make_gate("sqlite://", issuers=[provider.issuer(jwks_url=endpoint.url)])


def keys_of(gate: Gate) -> source.FetchedKeys:
    """The keys of its one issuer."""
    assert gate._issuers is not None
    found = gate._issuers._trusts[0].keys
    assert isinstance(found, source.FetchedKeys)
    return found


def refresh(gate: Gate) -> None:
    """Have the keys fetched as when it is time, and wait for that."""
    keys = keys_of(gate)
    with keys._changed:
        keys._await_fetch()


def later(seconds: float) -> Any:
    """Let the monotonic clock of the keys be so much later."""
    return mock.patch.object(source, "monotonic", side_effect=lambda: time.monotonic() + seconds)


def test_a_token_gets_in_by_a_key_that_is_fetched(guarded: Gate, endpoint: Endpoint) -> None:
    """On first use, once, with the path and query that were given."""
    assert endpoint.asked == []
    assert guarded.verify(token()).id == "alice"
    for number in range(20):
        assert guarded.verify(token(jti=f"t{number}")).org is not None
    assert endpoint.asked == ["/keys?v=1"]


def test_http_will_do_on_loopback(make_gate: Callable[..., Gate]) -> None:
    """As for an issuer that runs beside the application."""
    server = Endpoint(None)
    gate = make_gate("sqlite://", issuers=[provider.issuer(jwks_url=server.url)])
    assert gate.verify(token()).id == "alice"
    server.shutdown()
    server.server_close()


def test_the_event_loop_never_waits_for_keys(guarded: Gate) -> None:
    """What is not at hand is WouldWait; afterwards it is."""
    with pytest.raises(WouldWait):
        presented(guarded, token())
    guarded.verify(token())
    assert presented(guarded, token(jti="t2")).id == "alice"
    with pytest.raises(WouldWait):
        presented(guarded, token(key="rsa2"))


def presented(gate: Gate, credential: str) -> Principal:
    """The principal of a credential as an event loop asks for it."""
    return gate.requests.identify(RequestValues([f"Bearer {credential}"], None), wait=False)[0]


def redirect(to: str) -> Answer:
    """Return the answer that leads elsewhere."""
    return says(b"", 302, {"Location": to})


def hangs(handler: Handler) -> None:
    """Say nothing for as long as anybody listens."""
    handler.rfile.read(1)


def trickles(handler: Handler) -> None:
    """Send a byte now and then: no single wait is long."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" ")
        time.sleep(0.02)


def trickles_headers(handler: Handler) -> None:
    """Never come to the end of the headers."""
    for _ in range(1000):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" if _ == 0 else b"X: y\r\n")
        time.sleep(0.02)


def floods(handler: Handler) -> None:
    """Send 200 MB, if anybody takes them."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" " * 1_000_000)
        handler.server.asked.append("megabyte")


def cut_short(handler: Handler) -> None:
    """End before the end."""
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(json.dumps(jwks("rsa")).encode()[:-2])
    handler.close_connection = True


def in_chunks(handler: Handler) -> None:
    """Send the set in chunks, as many servers do."""
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    body = json.dumps(jwks("rsa")).encode()
    for start in range(0, len(body), 100):
        piece = body[start : start + 100]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")
    handler.close_connection = True


def until_the_end(handler: Handler) -> None:
    """Send the set and hang up, without saying how long it is."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(json.dumps(jwks("rsa")).encode())


def coded(coding: str, body: bytes) -> Answer:
    """Return the answer of what is coded (RFC 9110 section 8.4), rightly or not."""
    return says(body, headers={"Content-Encoding": coding})


def many(code: Callable[[bytes], bytes], times: int) -> Callable[[bytes], bytes]:
    """Return a coding that is applied several times."""
    return lambda body: code(body if times == 1 else many(code, times - 1)(body))


def bare_deflate(body: bytes) -> bytes:
    """Deflate without zlib's header, as some servers understand that coding (RFC 9110 section 8.4.1.2)."""
    deflating = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflating.compress(body) + deflating.flush()


def raw(answer: bytes) -> Answer:
    """Return an answer that is sent as it stands."""

    def send(handler: Handler) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    return send


def typed(content_type: str) -> Answer:
    """Return the set with another type."""
    return says(SET, headers={"Content-Type": content_type})


SET = json.dumps(jwks("rsa")).encode()
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(SET)
WAYS: dict[str, Answer] = {
    "in chunks": in_chunks,
    "until the end": until_the_end,
    "HTTP/1.1 until the end": raw(OK + b"Connection: close\r\n\r\n" + SET),
    "no reason": raw(b"HTTP/1.1 200 \r\n" + LENGTH + b"\r\n" + SET),
    "kept open": raw(OK + b"Connection: keep-alive\r\n" + LENGTH + b"\r\n" + SET),
    "extensions and trailers": raw(
        OK + b"Trailer: Digest\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b'%x;name="value"\r\n%s\r\n0\r\nDigest: x\r\n\r\n' % (len(SET), SET)
    ),
    "early hints": raw(
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK + LENGTH + b"\r\n" + SET
    ),
    "no type": says(SET),
    "plain text": typed("text/plain; charset=us-ascii"),
    "octets": typed("application/octet-stream"),
    "JWK set": typed('Application/JWK-Set+JSON ;Charset="UTF-8"'),
    "gzip": coded("gzip", gzip.compress(SET)),
    "GZIP": coded("GZIP", gzip.compress(SET)),
    "x-gzip": coded("x-gzip", gzip.compress(SET)),
    "gzip in parts": coded("gzip", gzip.compress(SET[:99]) + gzip.compress(SET[99:])),
    "deflate": coded("deflate", zlib.compress(SET)),
    "bare deflate": coded("deflate", bare_deflate(SET)),
    "two codings": coded("deflate, gzip", gzip.compress(zlib.compress(SET))),
    "two lines": raw(
        OK + b"Content-Encoding: deflate\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
        + gzip.compress(zlib.compress(SET))
    ),
    "identity": coded("identity", SET),
    "no coding": coded("", SET),
    "gzip and identity": coded("gzip,, identity", gzip.compress(SET)),
    "gzip in chunks": raw(
        OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%s\r\n0\r\n\r\n" % (len(gzip.compress(SET, mtime=0)), gzip.compress(SET, mtime=0))
    ),
    "as long as may be": coded("gzip", gzip.compress(SET + b" " * (256 * 1024 - len(SET)))),
    "changed by a gateway": says(SET, 203),
    "a mark of byte order": says(codecs.BOM_UTF8 + SET),
    "a mark of byte order in gzip": coded("gzip", gzip.compress(codecs.BOM_UTF8 + SET)),
}  # fmt: skip


@pytest.mark.parametrize("answer", WAYS.values(), ids=WAYS)
def test_a_set_may_come_in_any_way_of_http(
    guarded: Gate, endpoint: Endpoint, answer: Answer
) -> None:
    """RFC 9112 sections 6 and 7; RFC 9110 sections 8.3, 8.4 and 15.2; RFC 8259 section 8.1."""
    endpoint.answer = answer
    assert guarded.verify(token()).id == "alice"


def test_the_request_says_who_asks_and_what_is_understood(
    guarded: Gate, endpoint: Endpoint
) -> None:
    """Of codings those whose end is known before they are undone."""
    guarded.verify(token())
    (headers,) = endpoint.headers
    assert headers["User-Agent"] == f"faregate/{__version__}"
    assert headers["Host"] == f"127.0.0.1:{endpoint.server_port}"
    assert headers["Accept"].startswith("application/jwk-set+json")
    assert (
        {"gzip", "deflate"}
        <= set(headers["Accept-Encoding"].split(", "))
        <= {"gzip", "deflate", "zstd"}
    )
    assert len(headers.keys()) == 4


BOMBS = {
    "gzip": gzip.compress(bytes(30_000_000)),
    "deflate": zlib.compress(bytes(30_000_000)),
    "gzip, gzip": many(gzip.compress, 2)(bytes(30_000_000)),
}


@pytest.mark.parametrize(("coding", "bomb"), BOMBS.items(), ids=BOMBS)
def test_a_bomb_takes_no_memory(endpoint: Endpoint, coding: str, bomb: bytes) -> None:
    """Of 30 MB no more is undone than a set may be long."""
    endpoint.answer = coded(coding, bomb)
    with suppress(OSError):
        source.fetch(endpoint.url, ["RS256"])  # what is loaded once does not count
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="longer than 262144 bytes"):
            source.fetch(endpoint.url, ["RS256"])
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


SPOILT: dict[str, str] = {
    "a member twice": '{"kty": "RSA", "kty": "EC"}',
    "a member twice in a member": '{"kty": "RSA", "alg": "RS256", "n": {"a": 1, "a": 2}, "e": "AQAB"}',
    "use twice in a member": json.dumps(jwk("rsa2", use="USE")).replace(
        '"USE"', '{"a": 1, "a": 2}'
    ),
    "a number too large": '{"kty": "RSA", "nbf": 1e999}',
    "a number too long": '{"kty": "RSA", "kid": %s}' % ("9" * 5000),
    "null": "null",
    "a text": '"\\ud800"',
    "a list": "[[]]",
    "nothing": "{}",
    "half a surrogate": json.dumps(jwk("rsa2", kid="\ud800", crv="\ud800", n="\ud800")),
    "an exponent of nothing": json.dumps(jwk("rsa2", e="")),
    "a point that is not on the curve": json.dumps(jwk("ec", kid="rsa2", x="AAAA")),
    "another curve": json.dumps(jwk("ec", kid="rsa2", crv="secp256k1", alg="ES256K")),
    "another type": '{"kty": "AKP", "alg": "ML-DSA-44", "kid": "rsa2", "pub": "AAAA"}',
    "for encryption": json.dumps(jwk("rsa2", use="enc")),
    "a private one without what is public": '{"kty": "RSA", "d": "AAAA"}',
    "a secret": '{"kty": "oct", "k": "AAAA", "alg": "HS256", "kid": "rsa2"}',
    "of the same name": json.dumps(jwk("rsa2", kid="rsa", e="AA")),
}


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_one_bad_key_spoils_no_other(guarded: Gate, endpoint: Endpoint, spoilt: str) -> None:
    """Wherever it stands in the set; it opens nothing itself, and is told."""
    good = json.dumps(jwk("rsa"))
    for listed in ((spoilt, good), (good, spoilt)):
        endpoint.answer = says(f'{{"keys": [{", ".join(listed)}]}}')
        keys = source.fetch(endpoint.url, ["RS256", "ES256", "EdDSA"])
        assert len(keys) == len(keys.skipped) == 1
        assert keys.skipped[0].startswith(f"keys[{listed.index(spoilt)}]: ")
    assert guarded.verify(token()).id == "alice"
    assert reason_of(lambda: guarded.verify(token(key="rsa2"))) == "unknown_credential"


def speaks_otherwise(handler: Handler) -> None:
    """Speak another protocol."""
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")


HOSTILE: dict[str, Answer] = {
    "302": redirect("https://127.0.0.1:9/"),
    "500": says("oops", 500),
    "204": says(b"", 204),
    "404 with keys": says(jwks("rsa"), 404),
    "200 MB": floods,
    "256 KiB and a byte": says(json.dumps(jwks("rsa")) + " " * 256 * 1024),
    "HTML": says("<!doctype html><title>Log in</title>", headers={"Content-Type": "text/html"}),
    "nothing": says(b""),
    "another encoding": says(json.dumps(jwks("rsa")).encode("utf-16")),
    "keys twice": says(f'{{"keys": [], "keys": [{json.dumps(jwk("rsa"))}]}}'),
    "no keys": says({}),
    "keys in an object": says({"keys": {"rsa": jwk("rsa")}}),
    "a list": says([jwk("rsa")]),
    "101 keys": says({"keys": [jwk("rsa")] * 101}),
    "nested": says("[" * 100_000),
    "a coding that is not known": coded("br", b"\x0b\x02\x80{}\x03"),
    "no coding of HTTP": coded("utf-8", SET),
    "not what its coding says": coded("gzip", SET),
    "coded too often": coded("gzip, gzip, gzip, gzip", many(gzip.compress, 4)(SET)),
    "a bomb": coded("gzip", gzip.compress(bytes(1_000_000))),
    "a bomb of what may be in JSON": coded("deflate", zlib.compress(SET + b" " * 256 * 1024)),
    "a number that is none": says('{"keys": [NaN, ' + json.dumps(jwk("rsa")) + "]}"),
    "two marks of byte order": says(2 * codecs.BOM_UTF8 + SET),
    "another protocol": raw(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + SET
    ),
    "cut short": cut_short,
    "no HTTP": speaks_otherwise,
    "nobody there": lambda handler: handler.connection.close(),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_key_set_is_no_answer(guarded: Gate, endpoint: Endpoint, answer: Answer) -> None:
    """503 while there is no other; the set that was there before stays, and is no worse for it."""
    endpoint.answer = answer
    assert reason_of(lambda: guarded.verify(token())) == "store_unavailable"
    assert endpoint.asked.count("megabyte") < 20
    endpoint.answer = says(jwks("rsa"))
    with later(source.RETRY):
        assert guarded.verify(token()).id == "alice"
        endpoint.answer = answer
        refresh(guarded)
        assert guarded.verify(token()).id == guarded.verify(token(jti="t2")).id == "alice"


@pytest.mark.parametrize("answer", [hangs, trickles, trickles_headers])
def test_who_hangs_is_hung_up_on(
    guarded: Gate, endpoint: Endpoint, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time-out, whatever still comes; and meanwhile a known key waits for nothing."""
    monkeypatch.setattr(source, "TIMEOUT", 1.0)
    known, *others = [token(jti=f"t{number}") for number in range(20)]
    assert guarded.verify(known).id == "alice"
    endpoint.answer = answer
    keys = keys_of(guarded)
    ended, started = keys._ended, time.monotonic()
    keys._wake.set()
    while not keys._fetching:
        time.sleep(0.001)
    for one in (known, *others):
        assert guarded.verify(one).id == "alice"
    assert keys._ended == ended, "the fetch was over too soon to tell"
    while keys._ended == ended:
        time.sleep(0.005)
    assert time.monotonic() - started < 4


def test_who_never_shakes_hands_is_hung_up_on(
    make_gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that takes connections and says nothing; a token waits for the time-out, and the next one does not."""
    monkeypatch.setattr(source, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        gate = make_gate("sqlite://", issuers=[provider.issuer(jwks_url=url)])
        started = time.monotonic()
        assert reason_of(lambda: gate.verify(token())) == "store_unavailable"
        assert 0.2 < time.monotonic() - started < 4
        refresh(gate)
        keys, text = keys_of(gate), token()
        with keys._changed:  # who waits may give up a moment before the fetch does
            assert keys._changed.wait_for(lambda: not (keys._fetching or keys._wake.is_set()), 20)
            ended = keys._ended
        assert reason_of(lambda: gate.verify(text)) == "store_unavailable"
        assert (keys._ended, keys._fetching) == (ended, False), "it was not asked again"


def test_a_name_that_is_found_late_bounds_the_fetch_all_the_same(
    guarded: Gate, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time may be over before there is anything to hang up on."""
    monkeypatch.setattr(source, "TIMEOUT", 0.3)
    found = socket.getaddrinfo

    def slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.6)
        return found(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    endpoint.answer = trickles
    assert reason_of(lambda: guarded.verify(token())) == "store_unavailable"
    keys, deadline = keys_of(guarded), time.monotonic() + 5
    while keys._fetching and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not keys._fetching


@pytest.mark.slow
def test_a_resolver_that_is_slow_each_time_closes_no_issuer(
    guarded: Gate, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the first server of resolv.conf is down: who waits is told no, and the fetch goes on behind them."""
    monkeypatch.setattr(source, "TIMEOUT", 1.0)
    found = socket.getaddrinfo

    def slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(1.5)
        return found(*arguments, **options)

    endpoint.answer = slow(0.5)
    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    assert reason_of(lambda: guarded.verify(token())) == "store_unavailable"
    keys, deadline = keys_of(guarded), time.monotonic() + 10
    while not keys._ended and time.monotonic() < deadline:
        time.sleep(0.01)
    assert guarded.verify(token()).id == "alice"
    assert len(endpoint.asked) == 1


def test_what_a_server_writes_forges_no_line_of_the_log(
    guarded: Gate, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it speaks, and however much of it."""
    endpoint.answer = raw(
        b"HTTP/1.1 \x1b[2J\xe2\x80\xa8\x85root logged in" + b"x" * 5000 + b"\r\n\r\n"
    )
    assert reason_of(lambda: guarded.verify(token())) == "store_unavailable"
    assert "cannot be fetched: 127.0.0.1: BadStatusLine HTTP/1.1 " in caplog.text
    assert "\x1b" not in caplog.text
    assert "\x85" not in caplog.text
    (record,) = [record for record in caplog.records if "cannot be fetched" in record.message]
    assert len(record.message) < 500


def test_an_address_without_path_is_asked_for_its_root(make_gate: Callable[..., Gate]) -> None:
    """With its query, if there is one (RFC 9112 section 3.2.1)."""
    server = Endpoint(None)
    for more, asked in (("", "/"), ("?a=1", "/?a=1"), ("/x?a=1&b", "/x?a=1&b")):
        url = server.url.partition("/keys")[0] + more
        assert (
            make_gate("sqlite://", issuers=[provider.issuer(jwks_url=url)]).verify(token()).id
            == "alice"
        )
        assert server.asked[-1] == asked
    server.shutdown()
    server.server_close()


def test_what_a_provider_writes_forges_no_line_of_the_log(
    guarded: Gate, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Names and curves are shown as texts, and no more than a bit of them."""
    odd = "a\nroot logged in\x1b[2J" + "b" * 5000
    endpoint.answer = says(
        jwks(
            jwk("rsa", kid=odd),
            jwk("rsa2", kid=odd),
            jwk("ec", crv=odd[:900], alg=None),
            jwk("ed", crv=odd[:900]),
        )
    )
    assert reason_of(lambda: guarded.verify(token())) == "unknown_credential"
    (record,) = [record for record in caplog.records if "can be used" in record.message]
    assert "\n" not in record.message
    assert "\x1b" not in record.message
    assert len(record.message) < 1500


def test_a_redirect_is_not_followed(guarded: Gate, endpoint: Endpoint) -> None:
    """Not even to the same server."""
    endpoint.answer = redirect(endpoint.url.replace("keys", "others"))
    assert reason_of(lambda: guarded.verify(token())) == "store_unavailable"
    assert endpoint.asked == ["/keys?v=1"]


def test_a_certificate_of_nobody_is_not_trusted(
    tmp_path: Path, make_gate: Callable[..., Gate]
) -> None:
    """Nor one for another address."""
    for name in ("127.0.0.1", "127.0.0.9"):
        files = certificate(tmp_path, name=name)
        with mock.patch.dict(
            os.environ, {"SSL_CERT_FILE": str(files[0])} if name == "127.0.0.9" else {}
        ):
            server = Endpoint(context_of(files))
            gate = make_gate("sqlite://", issuers=[provider.issuer(jwks_url=server.url)])
            assert reason_of(lambda gate=gate: gate.verify(token())) == "store_unavailable"
            assert server.asked == []
            server.shutdown()
            server.server_close()


HOST = "id.test"


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A real HTTPS server with a certificate for a name that nobody finds."""
    files = certificate(tmp_path, name=HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    server = Endpoint(context_of(files))
    server.url = f"https://{HOST}:{server.server_port}/keys"
    yield server
    server.shutdown()
    server.server_close()


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let the name have these addresses, in this order."""
    found = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if host != HOST:
            return found(host, port, *more, **options)
        return [one for address in addresses for one in found(address, port, *more, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def slow(seconds: float) -> Answer:
    """Return the answer of the set after so long."""

    def answer(handler: Handler) -> None:
        time.sleep(seconds)
        says(SET)(handler)

    return answer


@contextmanager
def full(address: str, port: int) -> Iterator[None]:
    """A black hole: a port that is there, and connects nobody, since its queue is full."""
    with ExitStack() as open_ones:
        listener = open_ones.enter_context(socket.socket())
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(4):
            waiting = open_ones.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex((address, port))
        time.sleep(0.05)
        with socket.socket() as probe:
            probe.settimeout(0.2)
            with pytest.raises(TimeoutError):
                probe.connect((address, port))
        yield


@contextmanager
def silent(address: str, port: int) -> Iterator[None]:
    """A port that connects everybody, and says nothing."""
    with socket.create_server((address, port)):
        yield


@contextmanager
def closed(address: str, port: int) -> Iterator[None]:
    """A port where nobody is."""
    del address, port
    yield


@contextmanager
def broken(address: str, port: int) -> Iterator[None]:
    """A port where something else is."""
    with socket.create_server((address, port)) as listener:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("hole", [full, silent, closed, broken])
def test_an_address_that_does_not_answer_closes_no_issuer(
    named: Endpoint, make_gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch, hole: Any
) -> None:
    """The next one is asked in good time, and may take some itself."""
    resolve(monkeypatch, "127.0.0.2", "127.0.0.1")
    named.answer = slow(0.3)
    with hole("127.0.0.2", named.server_port):
        gate = make_gate("sqlite://", issuers=[provider.issuer(jwks_url=named.url)])
        assert gate.verify(token()).id == "alice"
    assert named.headers[0]["Host"] == f"{HOST}:{named.server_port}"


def test_the_last_of_many_addresses_has_its_turn(
    named: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first half of the time."""
    holes = [f"127.0.0.{number}" for number in range(2, 10)]
    resolve(monkeypatch, *holes, "127.0.0.1")
    named.answer = slow(0.3)
    with ExitStack() as open_ones:
        for hole in holes:
            open_ones.enter_context(silent(hole, named.server_port))
        assert len(source.fetch(named.url, ["RS256"])) == 1


def test_of_a_hundred_addresses_a_few_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a thread, and a fetch must not take all that there are."""
    monkeypatch.setattr(source, "TIMEOUT", 0.5)
    resolve(monkeypatch, *(f"127.0.1.{number}" for number in range(1, 101)))
    with socket.create_server(("0.0.0.0", 0), backlog=200) as listener:  # noqa: S104
        with pytest.raises(OSError, match="no answer"):
            source.fetch(f"http://{HOST}:{listener.getsockname()[1]}/", ["RS256"])
        listener.settimeout(0)
        asked = 0
        with suppress(BlockingIOError):
            while asked < 100:
                listener.accept()[0].close()
                asked += 1
    assert 1 < asked <= 16


def test_many_addresses_of_one_family_leave_the_other_its_turn(
    plain: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where IPv6 is preferred and leads nowhere."""
    resolve(monkeypatch, *(f"fd00::{number:x}" for number in range(1, 41)), "127.0.0.1")
    assert len(source.fetch(plain.url, ["RS256"])) == 1


def test_a_slow_address_keeps_the_time_of_those_that_fail(
    named: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer counts though others were asked meanwhile."""
    resolve(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.3")
    named.answer = slow(1.5)
    with silent("127.0.0.3", named.server_port):
        assert len(source.fetch(named.url, ["RS256"])) == 1
    assert named.asked == ["/keys"]


def test_who_is_not_needed_any_more_is_hung_up_on(
    named: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, though they would go on for ever, and in the middle of a handshake."""
    resolve(monkeypatch, "127.0.0.2", "127.0.0.1")
    with socket.create_server(("127.0.0.2", named.server_port)) as listener:
        assert len(source.fetch(named.url, ["RS256"])) == 1
        connected, _ = listener.accept()
        with connected:
            connected.settimeout(10)
            while connected.recv(65536):
                pass
    deadline = time.monotonic() + 10
    while any(thread.name == "faregate-jwks-attempt" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_address_tells_why_it_gave_nothing(
    named: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to guess which of them it was."""
    monkeypatch.setattr(source, "TIMEOUT", 1.0)
    resolve(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.1")
    named.answer = says("oops", 503)
    with silent("127.0.0.3", named.server_port), pytest.raises(OSError, match="127") as failed:
        source.fetch(named.url, ["RS256"])
    refused, late, answered = str(failed.value).split(", ")
    assert re.fullmatch(r"127\.0\.0\.2: .*refused", refused)
    assert late == "127.0.0.3: no answer in 1 s"
    assert answered.startswith("127.0.0.1: the answer is 503")


def test_a_name_without_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 6761 section 6.4: there is none."""
    with pytest.raises(OSError, match=r"no address of keys\.invalid is found"):
        source.fetch("https://keys.invalid/", ["RS256"])


class Proxy(socketserver.ThreadingTCPServer):
    """A real HTTP proxy: CONNECT to the port that is named, on loopback; ``asked`` are the heads of requests."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, login: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.asked: list[str] = []
        self.login = login
        self.url = f"http://{login + '@' if login else ''}127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what some tests are about."""


class Tunnel(socketserver.StreamRequestHandler):
    """One connection to the proxy."""

    server: Proxy

    def handle(self) -> None:
        """Answer CONNECT, then carry bytes both ways."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.rfile.readline() or b"\r\n\r\n"
        self.server.asked.append(head.decode())
        if self.server.login is not None:
            expected = b64encode(unquote(self.server.login).encode()).decode()
            if f"\r\nProxy-Authorization: Basic {expected}\r\n" not in head.decode():
                self.wfile.write(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"
                )
                return
        port = int(head.split(b" ")[1].rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port)) as onward:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")
            back = threading.Thread(target=self.carry, args=(onward, self.connection), daemon=True)
            back.start()
            self.carry(self.connection, onward)
            back.join(10)

    @staticmethod
    def carry(source: socket.socket, to: socket.socket) -> None:
        """Carry what comes, to its end."""
        with suppress(OSError):
            while data := source.recv(65536):
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy that asks for no login."""
    server = Proxy()
    yield server
    server.shutdown()
    server.server_close()


def test_keys_come_by_way_of_a_proxy(
    named: Endpoint, proxy: Proxy, make_gate: Callable[..., Gate]
) -> None:
    """In a tunnel to the host, which the proxy finds and whose certificate is checked here."""
    gate = make_gate("sqlite://", issuers=[provider.issuer(jwks_url=named.url, proxy=proxy.url)])
    assert gate.verify(token()).id == "alice"
    (head,) = proxy.asked
    assert head.startswith(f"CONNECT {HOST}:{named.server_port} HTTP/1.")
    assert f"\r\nUser-Agent: faregate/{__version__}\r\n" in head
    assert "Proxy-Authorization" not in head
    assert named.headers[0]["Host"] == f"{HOST}:{named.server_port}"
    assert named.headers[0]["Proxy-Authorization"] is None


def test_a_proxy_vouches_for_nobody(
    named: Endpoint, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate is that of the provider, or nothing is asked."""
    (tmp_path / "others").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate(tmp_path / "others", name=HOST)[0]))
    with pytest.raises(
        OSError, match=r"by way of the proxy 127\.0\.0\.1: .*certificate verify failed"
    ):
        source.fetch(named.url, ["RS256"], proxy.url)
    assert len(proxy.asked) == 1
    assert named.asked == []


def test_a_proxy_may_ask_for_a_login(named: Endpoint) -> None:
    """Which is percent-encoded in its address, as everywhere, and shown nowhere."""
    server = Proxy("us%40er:p%C3%A4ss%3Aword")
    assert len(source.fetch(named.url, ["RS256"], server.url)) == 1
    assert named.headers[0]["Proxy-Authorization"] is None
    with pytest.raises(OSError, match=r"by way of the proxy 127\.0\.0\.1: .*407") as failed:
        source.fetch(named.url, ["RS256"], server.url.replace("word", "words"))
    assert "p%C3" not in str(failed.value)
    server.shutdown()
    server.server_close()


def test_a_proxy_of_the_environment_is_not_asked(
    guarded: Gate, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sets a variable does not decide whose keys count."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv(name.upper(), proxy.url)
    assert guarded.verify(token()).id == "alice"
    assert proxy.asked == []


@pytest.mark.parametrize("hole", [full, silent])
def test_a_proxy_that_does_not_answer_is_hung_up_on(
    named: Endpoint, monkeypatch: pytest.MonkeyPatch, hole: Any
) -> None:
    """As a provider would be."""
    monkeypatch.setattr(source, "TIMEOUT", 0.5)
    with (
        hole("127.0.0.2", named.server_port),
        pytest.raises(OSError, match=r"by way of the proxy 127\.0\.0\.2: "),
    ):
        source.fetch(named.url, ["RS256"], f"http://127.0.0.2:{named.server_port}")


@pytest.fixture
def plain() -> Iterator[Endpoint]:
    """A server without TLS."""
    server = Endpoint(None)
    server.url = f"http://{HOST}:{server.server_port}/keys"
    yield server
    server.shutdown()
    server.server_close()


def test_plain_http_will_do_in_a_private_network(
    plain: Endpoint, make_gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that is said, as for a provider in the same cluster."""
    resolve(monkeypatch, "127.0.0.1")
    gate = make_gate("sqlite://", issuers=[provider.issuer(jwks_url=plain.url, plain_http=True)])
    assert gate.verify(token()).id == "alice"
    assert plain.headers[0]["Host"] == f"{HOST}:{plain.server_port}"


@pytest.mark.parametrize(
    "way", ["HTML", "nothing", "no keys", "101 keys", "not what its coding says", "a list"]
)
def test_an_address_with_something_else_closes_no_issuer(
    plain: Endpoint, make_gate: Callable[..., Gate], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What answers 200 may be another server; the next address has the set, and each is told if none has."""
    resolve(monkeypatch, "127.0.0.2", "127.0.0.1")
    other = Endpoint(None, "127.0.0.2", plain.server_port)
    other.answer = HOSTILE[way]
    gate = make_gate("sqlite://", issuers=[provider.issuer(jwks_url=plain.url, plain_http=True)])
    assert gate.verify(token()).id == "alice"
    assert len(other.asked) == len(plain.asked) == 1
    plain.answer = HOSTILE[way]
    with pytest.raises(OSError, match=r"127\.0\.0\.2: .*127\.0\.0\.1: "):
        source.fetch(plain.url, ["RS256"])
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize(
    ("addresses", "public"),
    [
        (["93.184.215.14"], "93.184.215.14"),
        (["127.0.0.1", "2600:1406::1"], "2600:1406::1"),
        (["::ffff:93.184.215.14"], "::ffff:93.184.215.14"),
        (["64:ff9b::a00:1"], "64:ff9b::a00:1"),
        (["2002:a00:1::1"], "2002:a00:1::1"),
        (["169.254.169.254"], "169.254.169.254"),
        (["0.0.0.0"], "0.0.0.0"),  # noqa: S104
    ],
)
def test_plain_http_goes_to_no_other_network(
    plain: Endpoint,
    make_gate: Callable[..., Gate],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    addresses: list[str],
    public: str,
) -> None:
    """Wherever the name leads today: nobody is asked, and the log says why."""
    resolve(monkeypatch, *addresses)
    gate = make_gate("sqlite://", issuers=[provider.issuer(jwks_url=plain.url, plain_http=True)])
    assert reason_of(lambda: gate.verify(token())) == "store_unavailable"
    assert plain.asked == []
    assert f"{HOST} is {public}, no address of a private network" in caplog.text


def test_localhost_is_loopback_or_nobody_is_asked(
    plain: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that leads it elsewhere does not bring http there (RFC 6761 section 6.3)."""
    found = socket.getaddrinfo
    url = plain.url.replace(HOST, "localhost")
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *more, **options: found("127.0.0.1", *more, **options)
    )
    assert len(source.fetch(url, ["RS256"])) == 1
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *more, **options: found("192.168.7.1", *more, **options)
    )
    with pytest.raises(OSError, match=r"localhost is 192\.168\.7\.1, no address of loopback"):
        source.fetch(url, ["RS256"])


def test_a_new_key_is_known_at_once_and_a_gone_one_no_more(
    guarded: Gate, endpoint: Endpoint
) -> None:
    """With the tokens that are remembered; the others are served on."""
    endpoint.answer = says(jwks("rsa", "ec"))
    old, other = token(), token(key="ec", jti="t2")
    assert guarded.verify(old).id == guarded.verify(other).id == "alice"
    endpoint.answer = says(jwks("ec", "rsa2"))
    assert guarded.verify(token(key="rsa2", jti="t3")).id == "alice", "an unknown name is asked for"
    assert reason_of(lambda: guarded.verify(old)) == "unknown_credential"
    assert guarded.verify(other).id == "alice"
    endpoint.answer = says(jwks("rsa"))
    refresh(guarded)
    assert reason_of(lambda: guarded.verify(other)) == "unknown_credential"
    assert guarded.verify(old).id == "alice", "the key came back, and with it what it verified"


def test_another_key_under_the_same_name_stops_the_old_one(
    guarded: Gate, endpoint: Endpoint
) -> None:
    """A name is no more than a name."""
    old = token()
    guarded.verify(old)
    endpoint.answer = says(jwks(jwk("rsa2", kid="rsa")))
    refresh(guarded)
    assert reason_of(lambda: guarded.verify(old)) == "unknown_credential"
    assert guarded.verify(token(key="rsa2", header={"kid": "rsa"})).id == "alice"


def test_a_name_that_comes_to_mean_another_key_stops_what_it_verified(
    guarded: Gate, endpoint: Endpoint
) -> None:
    """Though the key is still there: what is remembered is judged as what is new."""
    nameless, misnamed = token(header={"kid": None}), token(header={"kid": "x"}, jti="t2")
    endpoint.answer = says(jwks(jwk("rsa", kid=None)))
    assert guarded.verify(nameless).id == guarded.verify(misnamed).id == "alice"
    endpoint.answer = says(jwks(jwk("rsa", kid=None), jwk("ec", kid="x"), jwk("rsa2", kid="x")))
    refresh(guarded)
    for text in (nameless, misnamed):
        assert reason_of(lambda text=text: guarded.verify(text)) == "unknown_credential"
        assert not guarded.introspect(text).active


def test_a_call_by_jwt_is_judged_by_the_keys_of_this_moment(
    endpoint: Endpoint, make_gate: Callable[..., Gate]
) -> None:
    """A management call is refused once its JWT's key is gone, and with store_unavailable while the keys are stale."""
    given = provider.issuer(jwks_url=endpoint.url, manages=True)
    gate = make_gate("sqlite://", issuers=[given], policy=Policy(max_lifetime=60))
    alice = gate.verify(token(scope="gate:tokens:read"))
    assert gate.tokens.list(by=alice).total == 0
    with later(source.STALE):
        assert reason_of(lambda: gate.tokens.list(by=alice)) == "store_unavailable"
    endpoint.answer = says(jwks("ec"))
    refresh(gate)
    assert reason_of(lambda: gate.tokens.list(by=alice)) == "unknown_credential"


def test_two_keys_under_one_name_are_none(guarded: Gate, endpoint: Endpoint) -> None:
    """The others of the set go on; the very same key twice is one."""
    endpoint.answer = says(jwks("rsa", jwk("rsa2", kid="rsa"), "ec"))
    assert guarded.verify(token(key="ec")).id == "alice"
    assert reason_of(lambda: guarded.verify(token())) == "unknown_credential"
    assert (
        reason_of(lambda: guarded.verify(token(key="rsa2", header={"kid": "rsa"})))
        == "unknown_credential"
    )
    endpoint.answer = says(jwks("rsa", "rsa"))
    refresh(guarded)
    assert guarded.verify(token()).id == "alice"


def test_a_flood_of_unknown_names_makes_one_fetch_in_half_a_minute(
    guarded: Gate, endpoint: Endpoint
) -> None:
    """From many threads, and it neither grows nor slows what is known."""
    known = token()
    guarded.verify(known)
    assert len(endpoint.asked) == 1
    texts = [token(header={"kid": f"k{number}"}, jti=f"t{number}") for number in range(200)]

    def knock(some: list[str]) -> None:
        for text in some:
            assert reason_of(lambda text=text: guarded.verify(text)) == "unknown_credential"

    threads = [threading.Thread(target=knock, args=(texts[start::16],)) for start in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(endpoint.asked) == 2
    with later(source.ASK_EVERY):
        knock(texts)
        assert len(endpoint.asked) == 3
    assert len(keys_of(guarded)._unknown) <= source._UNKNOWN
    assert guarded.verify(known).id == "alice"


def test_a_name_that_was_asked_for_is_not_asked_for_again(
    guarded: Gate, endpoint: Endpoint
) -> None:
    """Until the set was fetched anew for another reason."""
    stranger = token(header={"kid": "k1"})
    guarded.verify(token())
    for seconds in (0, 31, 62, 93):
        with later(seconds):
            assert reason_of(lambda: guarded.verify(stranger)) == "unknown_credential"
    assert len(endpoint.asked) == 2
    refresh(guarded)
    with later(124):
        assert reason_of(lambda: guarded.verify(stranger)) == "unknown_credential"
    assert len(endpoint.asked) == 4


def test_a_name_that_was_not_asked_for_is_not_taken_for_unknown(
    guarded: Gate, endpoint: Endpoint
) -> None:
    """Half a minute after a stranger's question a new key is found, and not only with the next refresh."""
    guarded.verify(token())
    stranger, new = token(header={"kid": "k1"}), token(key="rsa2")
    assert reason_of(lambda: guarded.verify(stranger)) == "unknown_credential"
    endpoint.answer = says(jwks("rsa", "rsa2"))
    assert reason_of(lambda: guarded.verify(new)) == "unknown_credential"
    with later(source.ASK_EVERY):
        assert guarded.verify(new).id == "alice"
    endpoint.answer = says("oops", 500)
    newer = token(key="rsa3")
    with later(2 * source.ASK_EVERY):
        assert reason_of(lambda: guarded.verify(newer)) == "unknown_credential", "nobody could say"
    endpoint.answer = says(jwks("rsa3"))
    with later(3 * source.ASK_EVERY):
        assert guarded.verify(newer).id == "alice"


def test_a_key_that_is_published_during_a_fetch_is_found(guarded: Gate, endpoint: Endpoint) -> None:
    """A fetch that had begun before says nothing about it."""
    guarded.verify(token())
    release, keys, new = threading.Event(), keys_of(guarded), token(key="rsa2")

    def slowly(handler: Handler) -> None:
        release.wait(5)
        says(jwks("rsa"))(handler)

    endpoint.answer = slowly
    keys._wake.set()
    while len(endpoint.asked) < 2:
        time.sleep(0.005)
    endpoint.answer = says(jwks("rsa", "rsa2"))
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(reason_of(lambda: guarded.verify(new))))
    asking.start()
    while not keys._waiting:
        time.sleep(0.005)
    release.set()
    asking.join()
    assert found == ["unknown_credential"]
    with later(source.ASK_EVERY):
        assert guarded.verify(new).id == "alice"


@pytest.mark.slow
def test_few_wait_for_a_provider_that_hangs(guarded: Gate, endpoint: Endpoint) -> None:
    """Once a provider is in trouble, only a few callers wait for it; the others are refused at once."""
    endpoint.answer = says("oops", 500)
    junk = token()[:-8] + "AAAAAAAA"
    assert reason_of(lambda: guarded.verify(junk)) == "store_unavailable"
    endpoint.answer = hangs
    keys = keys_of(guarded)
    with later(source.RETRY):
        waiting = [
            threading.Thread(target=reason_of, args=(lambda: guarded.verify(junk),))
            for _ in range(20)
        ]
        for thread in waiting:
            thread.start()
        deadline = time.monotonic() + 2
        while keys._waiting < source._WAITING and time.monotonic() < deadline:
            time.sleep(0.005)
        started = time.monotonic()
        for _ in range(20):
            assert reason_of(lambda: guarded.verify(junk)) == "store_unavailable"
        assert time.monotonic() - started < 1
        assert keys._waiting <= source._WAITING
        guarded.close()
        for thread in waiting:
            thread.join()


def test_no_store_waits_for_a_fetch(guarded: Gate, endpoint: Endpoint) -> None:
    """Introspection of a JWT with an unknown key waits for the fetch; calls to the store meanwhile do not."""
    release = threading.Event()

    def slowly(handler: Handler) -> None:
        release.wait(5)
        says(jwks("rsa"))(handler)

    endpoint.answer = slowly
    found: list[bool] = []
    asking = threading.Thread(target=lambda: found.append(guarded.introspect(token()).active))
    asking.start()
    while not endpoint.asked:
        time.sleep(0.005)
    started = time.monotonic()
    guarded.tokens.create(name="a")
    assert guarded.tokens.list().total == 1
    assert time.monotonic() - started < 1
    release.set()
    asking.join()
    assert found == [True]


def test_an_hour_without_the_endpoint_and_then_no_more(guarded: Gate, endpoint: Endpoint) -> None:
    """Known keys verify for an hour, then it is 503, remembered tokens too; when it is back, all is well."""
    known = token(exp=int(START) + 90_000)
    guarded.verify(known)
    endpoint.answer = says("oops", 500)
    for seconds in (600, 1800, 3590):
        with later(seconds):
            assert (
                guarded.verify(known).id == guarded.verify(token(jti=f"t{seconds}")).id == "alice"
            )
    with later(3601):
        assert reason_of(lambda: guarded.verify(known)) == "store_unavailable"
        asked = len(endpoint.asked)
        started = time.monotonic()
        for _ in range(20):
            assert reason_of(lambda: guarded.verify(known)) == "store_unavailable"
        assert time.monotonic() - started < 1
        assert len(endpoint.asked) == asked, "who was just told no is not asked again at once"
    endpoint.answer = says(jwks("rsa"))
    with later(3601 + source.RETRY):
        assert guarded.verify(known).id == "alice"


def test_an_hour_by_the_gates_clock_counts_as_well(
    guarded: Gate, endpoint: Endpoint, clock: Clock
) -> None:
    """As after a sleep, in which the monotonic clock stands still."""
    known = token(exp=int(START) + 90_000)
    guarded.verify(known)
    endpoint.answer = says("oops", 500)
    clock.now += 3599
    assert guarded.verify(known).id == "alice"
    clock.now += 1
    assert reason_of(lambda: guarded.verify(known)) == "store_unavailable"
    endpoint.answer = says(jwks("rsa"))
    with later(source.RETRY):
        assert guarded.verify(known).id == "alice"
        clock.now -= 90_000
        assert guarded.verify(token(clock.now, jti="t2")).id == "alice", (
            "a clock that goes back makes nothing stale"
        )


def test_the_set_is_refreshed_in_the_background(
    guarded: Gate, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any request; a failure is followed by another try."""
    monkeypatch.setattr(source, "EVERY", 0.05)
    monkeypatch.setattr(source, "RETRY", 0.05)
    monkeypatch.setattr(source, "_LOOK_EVERY", 0.01)
    known = token()
    guarded.verify(known)
    endpoint.answer = says("oops", 500)
    deadline = time.monotonic() + 10
    while len(endpoint.asked) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    endpoint.answer = says(jwks("ec"))
    while reason_of(lambda: guarded.verify(known)) == "ok" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reason_of(lambda: guarded.verify(known)) == "unknown_credential"
    assert time.monotonic() < deadline


def test_the_thread_ends_with_the_gate(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """The thread that fetches keys ends when the gate is closed or collected; a closed gate starts another."""

    def running() -> int:
        return sum(thread.name == "faregate-jwks" for thread in threading.enumerate())

    def until(number: int) -> None:
        deadline = time.monotonic() + 5  # sooner than the thread looks by itself
        while running() != number and time.monotonic() < deadline:
            time.sleep(0.01)
        assert running() == number

    gate = Gate("sqlite://", clock=clock, issuers=[provider.issuer(jwks_url=endpoint.url)])
    until(0)
    gate.verify(token())
    until(1)
    gate.close()
    until(0)
    monkeypatch.setattr(source, "_LOOK_EVERY", 0.02)
    gate.verify(token(jti="t2"))
    until(1)
    del gate
    gc.collect()
    until(0)


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_both_sides_of_a_fork_fetch_for_themselves(
    tmp_path: Path, endpoint: Endpoint, clock: Clock
) -> None:
    """In the child what was fetched is as good, its own thread starts with the next token, and it notices changes."""
    gate = Gate(
        f"sqlite:///{tmp_path / 'gate.db'}",
        clock=clock,
        issuers=[provider.issuer(jwks_url=endpoint.url)],
    )
    gate.tokens.create(name="a")  # of an empty feed nobody can tell whether it is the same
    known = token()
    gate.verify(known)
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            assert gate.verify(known).id == "alice"
            assert keys_of(gate)._thread in threading.enumerate(), (
                "what is remembered depends on it, too"
            )
            assert gate.verify(token(jti="t2")).id == "alice"
            refresh(gate)
            code = 0 if gate.verify(known).id == "alice" else 2
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    endpoint.answer = says(jwks("ec"))
    refresh(gate)
    assert len(endpoint.asked) == 3
    assert reason_of(lambda: gate.verify(known)) == "unknown_credential"
    gate.close()


# In a process of its own: the thread that answers here wakes too often for a fork behind Python's back.
UNANNOUNCED = """
import sys
from identity_provider import START, issuer
from unhooked_fork import in_child
from faregate import Gate

gate = Gate("sqlite://", clock=lambda: START, issuers=[issuer(jwks_url=sys.argv[1])])
gate.verify(sys.argv[2])
print("fetched", flush=True)
sys.stdin.readline()
print(in_child(lambda: gate.verify(sys.argv[3]).id == "alice"), flush=True)
"""


@pytest.mark.processes
def test_a_child_that_nobody_announced_fetches_for_itself(endpoint: Endpoint) -> None:
    """After a fork in C, as uWSGI's, its parent's thread is not there, whatever Python takes it for."""
    command = [sys.executable, "-c", UNANNOUNCED, endpoint.url, token(), token(key="ec")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "fetched\n"
        endpoint.answer = says(jwks("rsa", "ec"))
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "True\n"


def test_a_thread_that_is_gone_is_replaced(guarded: Gate, endpoint: Endpoint) -> None:
    """With the next key that has to be fetched."""
    guarded.verify(token())
    keys = keys_of(guarded)
    dead = threading.Thread()
    dead.start()
    dead.join()
    keys._thread, keys._wake = dead, threading.Event()
    endpoint.answer = says(jwks("rsa", "ec"))
    assert guarded.verify(token(key="ec")).id == "alice"
    assert keys._thread is not dead


@pytest.mark.processes
def test_a_process_ends_while_it_fetches() -> None:
    """Nobody waits for the thread, nor for an endpoint that hangs."""
    server = Endpoint(None)
    server.answer = hangs
    script = """
import sys, threading
import identity_provider as provider
from faregate import Gate
gate = Gate("sqlite://", issuers=[provider.issuer(jwks_url=sys.argv[1])])
threading.Thread(target=gate.introspect, args=(provider.token(),), daemon=True).start()
while not gate._issuers._trusts[0].keys._fetching:
    pass
print("fetching")
"""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, server.url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "fetching\n"
    assert done.stderr == ""
    assert time.monotonic() - started < 20
    server.shutdown()
    server.server_close()


def test_a_thousand_first_tokens_make_one_fetch(guarded: Gate, endpoint: Endpoint) -> None:
    """They wait for it together."""
    texts = [token(jti=f"t{number}") for number in range(64)]
    ready, found = threading.Barrier(len(texts)), []

    def knock(text: str) -> None:
        ready.wait()
        found.append(reason_of(lambda: guarded.verify(text)))

    threads = [threading.Thread(target=knock, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["ok"] * len(texts)
    assert len(endpoint.asked) == 1


def test_the_keys_of_one_issuer_open_nothing_of_another(
    endpoint: Endpoint, make_gate: Callable[..., Gate]
) -> None:
    """Keys count for their issuer alone, whatever their ``kid``. A failing endpoint affects no other issuer."""
    endpoint.answer = says("oops", 500)
    other = provider.issuer(
        issuer="https://other.example", name="other", keys=jwks(jwk("rsa2", kid="rsa"))
    )
    gate = make_gate("sqlite://", issuers=[provider.issuer(jwks_url=endpoint.url), other])
    assert (
        gate.verify(token(key="rsa2", header={"kid": "rsa"}, iss="https://other.example")).owner
        is not None
    )
    assert (
        reason_of(lambda: gate.verify(token(iss="https://other.example"))) == "unknown_credential"
    )
    assert reason_of(lambda: gate.verify(token())) == "store_unavailable"
    assert (
        reason_of(lambda: gate.verify(token(iss="https://nobody.example"))) == "unknown_credential"
    )


def test_the_doctor_looks_for_the_keys(tmp_path: Path, endpoint: Endpoint) -> None:
    """Of the application's issuers; what cannot be used is told."""
    app = Flask("x")
    given = [
        provider.issuer(jwks_url=endpoint.url),
        provider.issuer(issuer="https://other.example", name="other"),
    ]
    app.config |= {"FAREGATE_STORE": f"sqlite:///{tmp_path / 'gate.db'}", "FAREGATE_ISSUERS": given}
    gate, runner = Faregate(app).gate, app.test_cli_runner()
    endpoint.answer = says(jwks("rsa", "small"))
    told = runner.invoke(args=["faregate", "doctor"]).stdout
    assert (
        f"ok    issuer       https://id.example: 1 usable key at {endpoint.url}, not usable keys[1]"
        in told
    )
    assert "ok    issuer       https://other.example: 4 usable keys as given" in told
    for answer, words in (
        (says(jwks("small")), "0 usable keys"),
        (redirect("/"), "the answer is 302"),
    ):
        endpoint.answer = answer
        found = runner.invoke(args=["faregate", "doctor"])
        assert found.exit_code == 1
        assert words in found.stdout
    gate.close()


def test_the_doctor_tells_what_a_fetch_met(
    tmp_path: Path, named: Endpoint, plain: Endpoint, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By way of a proxy, in plain http, and of which address."""

    def told(**settings: Any) -> tuple[str, str]:
        issuers = [provider.issuer(**settings)]
        findings = examine(f"sqlite:///{tmp_path / 'gate.db'}", {"issuers": issuers})
        (found,) = [finding for finding in findings if finding.check == "issuer"]
        return found.verdict, found.words.removeprefix(f"{provider.ISSUER}: ")

    login = proxy.url.replace("//", "//user:word@")
    place = f"at {named.url}, by way of the proxy 127.0.0.1:{proxy.server_address[1]}"
    assert told(jwks_url=named.url, proxy=login) == ("ok", f"1 usable key {place}")
    proxy.shutdown()
    proxy.server_close()
    verdict, words = told(jwks_url=named.url, proxy=login)
    assert verdict == "fault"
    assert words.startswith(f"no keys {place}: by way of the proxy 127.0.0.1: ")

    resolve(monkeypatch, "127.0.0.1")
    verdict, words = told(jwks_url=plain.url, plain_http=True)
    assert verdict == "note"
    assert words.startswith(f"1 usable key at {plain.url}; over plain http")
    resolve(monkeypatch, "93.184.215.14")
    verdict, words = told(jwks_url=plain.url, plain_http=True)
    assert verdict == "fault"
    assert "93.184.215.14, no address of a private network: use https" in words

    resolve(monkeypatch, "127.0.0.2", "127.0.0.1")
    named.answer = coded("br", SET)
    verdict, words = told(jwks_url=named.url)
    assert verdict == "fault"
    assert "127.0.0.2: [Errno" in words
    assert "127.0.0.1: its content coding is 'br'; asked for was deflate, gzip" in words


def test_what_cannot_be_fetched_is_told_to_who_looks_after_it(
    guarded: Gate, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Once until it works again; and the denial says where the keys should be."""
    endpoint.answer = says("oops", 500)
    with pytest.raises(Denied) as denied:
        guarded.verify(token())
    assert endpoint.url in str(denied.value.__cause__)
    refresh(guarded)
    assert sum("cannot be fetched" in record.message for record in caplog.records) == 1
    assert "the answer is 500" in caplog.text
    endpoint.answer = says(jwks(jwk("rsa", use="enc")))
    refresh(guarded)
    assert "were fetched again" in caplog.text
    assert "its use is not 'sig'" in caplog.text
