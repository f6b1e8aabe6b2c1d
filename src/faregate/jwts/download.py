"""Gets a document over HTTP: bounded in time and length, in whatever form RFC 9110 lets a server send it.

A host may have several addresses, of which some may never answer. They share the time: each is asked in its turn,
beside those before it that are still silent, and the first document counts (RFC 8305 does so for connections alone;
here a server that connects and then says nothing holds up nobody either). urllib3 does the HTTP: it follows no redirect
and no proxy of the environment, decodes within bounds, and depends on nothing.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from base64 import b64encode
from contextlib import suppress
from io import BytesIO
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection

from faregate.jwts.issuer import LOOPBACK_HOST
from faregate.values.names import abbreviated
from faregate.values.networks import LOOPBACK, PRIVATE
from faregate.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Document = TypeVar("Document")

USER_AGENT = f"faregate/{__version__}"

# Not Brotli, which urllib3 may know: older versions of that package decode a bomb to its end.
_CODINGS = frozenset(HTTPResponse.CONTENT_DECODERS) - {"br"}
_ACCEPT_ENCODING = ", ".join(sorted(_CODINGS - {"x-gzip"}))
_MOST_CODINGS = 3  # within each other
_MOST_ADDRESSES = 16  # of IPv4 and of IPv6 that are asked in one fetch, each by a thread


class _Address(NamedTuple):
    """One of a host's, as ``getaddrinfo`` finds them."""

    family: socket.AddressFamily
    place: tuple[str | int, ...] | tuple[int, bytes]

    def __str__(self) -> str:
        return str(self.place[0])


def get(
    url: str,
    accept: str,
    read: Callable[[bytes], Document],
    *,
    proxy: str | None,
    seconds: float,
    longest: int,
) -> Document:
    """Return what ``read`` makes of the document at an address, by way of a proxy if one is given.

    ``read`` raises ValueError for what is no such document: then another address of the host may have it. ``longest``
    are bytes, decoded or not.

    The ``seconds`` begin when the addresses of the host are known: a resolver whose first server is down takes longer
    each time. In plain http only addresses of private networks are asked. OSError where the document is not to be had,
    with the reason for each address.
    """
    addresses = _find(url, proxy)
    deadline = monotonic() + seconds
    changed, attempts = Condition(), list[_Attempt[Document]]()

    try:
        for address in addresses:
            attempt = _Attempt(
                _Request(url, accept, proxy, longest), read, address, deadline, changed
            )
            attempts.append(attempt)
            attempt.start()

            last = len(attempts) == len(addresses)
            until = deadline if last else min(deadline, monotonic() + seconds / 2 / len(addresses))
            document = _await(attempts, changed, until, all_of_them=last)
            if document is not None:
                return document
            if monotonic() >= deadline:
                break
        raise _failure(attempts, seconds, proxy)
    finally:
        for attempt in attempts:
            attempt.hang_up()


def shown(proxy: str) -> str:
    """Return a proxy's address as people may see it: without user and password."""
    return urlsplit(proxy).netloc.rpartition("@")[2]


def _find(url: str, proxy: str | None) -> list[_Address]:
    """Return the addresses to connect to; OSError if there are none, or if one of them must not be asked."""
    parts = urlsplit(proxy or url)
    host = str(parts.hostname)
    try:
        found = socket.getaddrinfo(host, _port(parts), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OSError(f"no address of {host} is found: {error}") from error

    by_family: dict[int, list[_Address]] = {}
    for address in dict.fromkeys(_Address(family, place) for family, _, _, _, place in found):
        by_family.setdefault(address.family, []).append(address)
    addresses = [address for same in by_family.values() for address in same[:_MOST_ADDRESSES]]
    if parts.scheme == "https" or proxy is not None:
        return addresses

    network, words = (
        (LOOPBACK, "loopback") if LOOPBACK_HOST.fullmatch(host) else (PRIVATE, "a private network")
    )
    others = [str(address) for address in addresses if not network.admit(str(address))]
    if others:
        raise OSError(
            f"{host} is {abbreviated(others)}, no address of {words}: use https, or mend the name"
        )
    return addresses


def _await(
    attempts: Sequence[_Attempt[Document]], changed: Condition, until: float, *, all_of_them: bool
) -> Document | None:
    """Return the first document; None where the time is over, or the last attempt or all of them have failed."""
    awaited = attempts if all_of_them else attempts[-1:]

    def settled() -> bool:
        return any(one.document is not None for one in attempts) or all(
            one.error is not None for one in awaited
        )

    with changed:
        changed.wait_for(settled, until - monotonic())
    return next((one.document for one in attempts if one.document is not None), None)


def _failure(attempts: Sequence[_Attempt[Document]], seconds: float, proxy: str | None) -> OSError:
    """Return the error of all attempts; it has no cause, which might show a log what a server wrote."""
    silence = f"no answer in {seconds:g} s"
    words = [
        f"{one.address}: {silence if one.error is None else _reason(one.error)}" for one in attempts
    ]
    return OSError(f"{'by way of the proxy ' if proxy else ''}{abbreviated(words)}")


def _reason(error: Exception) -> str:
    text = str(error)
    if not text or not isinstance(error, OSError | ValueError):
        text = f"{type(error).__name__} {text}"
    return ascii(text)[1:-1][:300]


class _Attempt(Thread, Generic[Document]):
    """Asks one address. ``document`` or ``error`` is set at its end, and ``changed`` is told."""

    def __init__(
        self,
        request: _Request,
        read: Callable[[bytes], Document],
        address: _Address,
        deadline: float,
        changed: Condition,
    ) -> None:
        super().__init__(name="faregate-jwks-attempt", daemon=True)
        self.address = address
        self.document: Document | None = None
        self.error: Exception | None = None
        self._request, self._read, self._deadline = request, read, deadline
        self._changed = changed  # guards what follows
        self._line: socket.socket | None = None  # a second handle: TLS takes the first one
        self._late = False

    def run(self) -> None:
        """Ask."""
        document, error = None, None
        try:
            document = self._read(self._request.send(self._dial, self._deadline - monotonic()))
        except Exception as failure:  # noqa: BLE001  whatever it is, another address may do better
            error = failure
        with self._changed:
            self.document, self.error = document, error
            if self._line is not None:
                self._line.close()
                self._line = None
            self._changed.notify_all()

    def hang_up(self) -> None:
        """Break off: a socket's own time-out begins anew with each byte, so slow bytes might take for ever."""
        with self._changed:
            self._late = True
            if self._line is not None:
                with suppress(OSError):
                    self._line.shutdown(socket.SHUT_RDWR)

    def _dial(self) -> socket.socket:
        """Return a socket that is connected to the address."""
        connected = socket.socket(self.address.family, socket.SOCK_STREAM)
        try:
            connected.settimeout(max(self._deadline - monotonic(), 0.001))
            with self._changed:
                self._line = connected.dup()
            connected.connect(self.address.place)
        except BaseException:
            connected.close()
            raise

        if self._late:  # it may have been too early to hang up
            connected.close()
            raise TimeoutError("too late")
        return connected


class _Request(NamedTuple):
    """What is asked for, and how."""

    url: str
    accept: str
    proxy: str | None
    longest: int

    def send(self, dial: Callable[[], socket.socket], seconds: float) -> bytes:
        """Return the document that comes over what ``dial`` connects."""
        parts = urlsplit(self.url)
        connection = self._connection(parts, dial, max(seconds, 0.001))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {
            "Accept": self.accept,
            "Accept-Encoding": _ACCEPT_ENCODING,
            "User-Agent": USER_AGENT,
        }
        try:
            connection.request("GET", target, headers=headers, preload_content=False)
            response = connection.getresponse()
            try:
                return self._read(response)
            finally:
                response.close()
        finally:
            connection.close()

    def _connection(
        self, parts: SplitResult, dial: Callable[[], socket.socket], seconds: float
    ) -> HTTPConnection:
        first = parts if self.proxy is None else urlsplit(self.proxy)
        host, port = str(first.hostname), _port(first)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection: _Connection = _TlsConnection(
                host, port, timeout=seconds, ssl_context=context
            )
        else:
            connection = _Connection(host, port, timeout=seconds)

        connection.dial = dial
        if self.proxy is not None:
            headers = {"User-Agent": USER_AGENT, **_login(first)}
            connection.set_tunnel(str(parts.hostname), _port(parts), headers)
        return connection

    def _read(self, response: HTTPResponse) -> bytes:
        # 203 is a 200 that a gateway before the server has changed (RFC 9110 section 15.3.4), as a coding does.
        if response.status not in (200, 203):
            raise ValueError(
                f"the answer is {response.status} and not 200; a redirect is not followed"
            )
        body = response.read(self.longest + 1, decode_content=False)
        self._check_length(body)
        return self._decode(body, response.headers.get("Content-Encoding", ""))

    def _decode(self, body: bytes, header: str) -> bytes:
        """Undo the content codings (RFC 9110 section 8.4)."""
        codings = [coding.strip().lower() for coding in header.split(",")]
        codings = [coding for coding in codings if coding not in ("", "identity")]
        if not codings:
            return body
        if not _CODINGS.issuperset(codings) or len(codings) > _MOST_CODINGS:
            raise ValueError(
                f"its content coding is {ascii(header)[:100]}; asked for was {_ACCEPT_ENCODING}"
            )

        coded = HTTPResponse(
            BytesIO(body), {"Content-Encoding": ",".join(codings)}, preload_content=False
        )
        decoded = b""
        while piece := coded.read(self.longest + 1 - len(decoded), decode_content=True):
            decoded += piece
            self._check_length(decoded)
        return decoded

    def _check_length(self, body: bytes) -> None:
        if len(body) > self.longest:
            raise ValueError(f"the answer is longer than {self.longest} bytes")


class _Response(http.client.HTTPResponse):
    """One that is final: servers may send others before it (RFC 9110 section 15.2), such as 103 Early Hints."""

    def begin(self) -> None:
        """Read status and headers."""
        super().begin()
        while 100 <= self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = self.msg = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
            super().begin()


class _Connection(HTTPConnection):
    """One over a socket that is made elsewhere."""

    response_class = _Response
    dial: Callable[[], socket.socket]

    def _new_conn(self) -> socket.socket:
        return self.dial()


class _TlsConnection(_Connection, HTTPSConnection):
    """One with TLS."""


def _login(proxy: SplitResult) -> dict[str, str]:
    """Return the header that tells a proxy who asks (RFC 7617), if its address says so."""
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"}


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)
