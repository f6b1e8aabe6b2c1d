"""Fetches a document over HTTP, bounded in time and length, in every form of RFC 9110.

The law: a host may have several addresses, and a silent address must not use up the time of the
others. The addresses are asked in turn, each while earlier addresses are still silent. The first
document wins. RFC 8305 does so for connections alone. Here the whole exchange is covered, because
a server may connect and then send nothing.

    getaddrinfo ──> attempt 1 ────────────────────────────── silent, hung up
                       └─ pause ─> attempt 2 ── document ──> returned
                                      └─ pause ─> attempt 3 (not started)

urllib3 speaks HTTP. It has no dependencies, decodes within bounds, and follows neither redirects
nor the proxies of the environment.
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

# Brotli is left out: older versions of its package decode a bomb to its end.
_CODINGS = frozenset(HTTPResponse.CONTENT_DECODERS) - {"br"}
_ACCEPT_ENCODING = ", ".join(sorted(_CODINGS - {"x-gzip"}))
_MOST_CODINGS = 3  # within each other
_MOST_ADDRESSES = 16  # of each IP version in a fetch: every attempt is a thread


class _Address(NamedTuple):
    """An address of a host, as ``getaddrinfo`` returns it."""

    family: socket.AddressFamily
    sockaddr: tuple[str | int, ...] | tuple[int, bytes]

    def __str__(self) -> str:
        return str(self.sockaddr[0])


def get(
    url: str,
    accept: str,
    read: Callable[[bytes], Document],
    *,
    proxy: str | None,
    seconds: float,
    longest: int,
) -> Document:
    """Return the document at a URL, as ``read`` parses it.

    ``accept``: the ``Accept`` header.
    ``read``: parses the body. A ValueError fails the attempt; another address may still succeed.
    ``proxy``: address of an HTTP proxy, or None.
    ``seconds``: time for all addresses together. It begins after the host is resolved, because a
    resolver whose first server is down is always slow.
    ``longest``: limit of the body in bytes, encoded and decoded.

    Plain http is only sent to addresses of private networks. Raises OSError, with the reason for
    each address, if no address has the document.
    """
    addresses = _resolve(url, proxy)
    request = _Request(url, accept, proxy, longest)
    deadline = monotonic() + seconds
    changed = Condition()
    attempts: list[_Attempt[Document]] = []

    try:
        for address in addresses:
            attempt = _Attempt(request, read, address, deadline, changed)
            attempts.append(attempt)
            attempt.start()

            last = len(attempts) == len(addresses)
            until = deadline
            if not last:
                # Half of the time is for the starts, and half is left for the last address.
                pause = seconds / 2 / len(addresses)
                until = min(deadline, monotonic() + pause)
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
    """Return the address of a proxy without user and password."""
    return urlsplit(proxy).netloc.rpartition("@")[2]


def _resolve(url: str, proxy: str | None) -> list[_Address]:
    """Return the addresses to connect to; OSError if there are none, or if an address is unsafe."""
    parts = urlsplit(proxy or url)
    host = str(parts.hostname)
    try:
        infos = socket.getaddrinfo(host, _port(parts), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OSError(f"no address of {host} is found: {error}") from error

    by_family: dict[int, list[_Address]] = {}
    for address in dict.fromkeys(_Address(family, sockaddr) for family, _, _, _, sockaddr in infos):
        by_family.setdefault(address.family, []).append(address)

    addresses: list[_Address] = []
    for same_family in by_family.values():
        addresses += same_family[:_MOST_ADDRESSES]

    if parts.scheme != "https" and proxy is None:
        _check_private(host, addresses)
    return addresses


def _check_private(host: str, addresses: Sequence[_Address]) -> None:
    """Raise OSError if plain http would leave loopback, or the private networks."""
    network = PRIVATE
    expected = "a private network"
    if LOOPBACK_HOST.fullmatch(host):
        network = LOOPBACK
        expected = "loopback"

    outside = [str(address) for address in addresses if not network.admit(str(address))]
    if outside:
        raise OSError(
            f"{host} is {abbreviated(outside)}, no address of {expected}: "
            "use https, or correct the host name"
        )


def _await(
    attempts: Sequence[_Attempt[Document]], changed: Condition, until: float, *, all_of_them: bool
) -> Document | None:
    """Return the first document; None at ``until``, or once the last attempt has failed.

    With ``all_of_them``, every attempt must have failed.
    """
    awaited = attempts if all_of_them else attempts[-1:]

    def settled() -> bool:
        if any(attempt.document is not None for attempt in attempts):
            return True
        return all(attempt.error is not None for attempt in awaited)

    with changed:
        changed.wait_for(settled, until - monotonic())

    documents = (attempt.document for attempt in attempts if attempt.document is not None)
    return next(documents, None)


def _failure(attempts: Sequence[_Attempt[Document]], seconds: float, proxy: str | None) -> OSError:
    """Return the error of all attempts, without a cause: it might log the bytes of a server."""
    reasons: list[str] = []
    for attempt in attempts:
        reason = f"no answer in {seconds:g} s"
        if attempt.error is not None:
            reason = _reason(attempt.error)
        reasons.append(f"{attempt.address}: {reason}")

    route = "by way of the proxy " if proxy else ""
    return OSError(f"{route}{abbreviated(reasons)}")


def _reason(error: Exception) -> str:
    text = str(error)
    if not text or not isinstance(error, OSError | ValueError):
        text = f"{type(error).__name__} {text}"
    return ascii(text)[1:-1][:300]


class _Attempt(Thread, Generic[Document]):
    """Asks a single address. At its end it sets ``document`` or ``error``, and notifies."""

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
        self._request = request
        self._read = read
        self._deadline = deadline

        # Guards the members below, document and error.
        self._changed = changed

        # A duplicate handle to hang up with: TLS takes over the original.
        self._line: socket.socket | None = None
        self._late = False

    def run(self) -> None:
        """Fetch and parse the document."""
        document = None
        error = None
        try:
            document = self._read(self._request.send(self._dial, self._deadline - monotonic()))
        # Whatever the failure is, another address may do better.
        except Exception as failure:  # noqa: BLE001
            error = failure

        with self._changed:
            self.document = document
            self.error = error
            if self._line is not None:
                self._line.close()
                self._line = None
            self._changed.notify_all()

    def hang_up(self) -> None:
        """Shut the connection down, whatever it waits for.

        The timeout of a socket restarts with each byte, so a slow server could hold it for ever.
        """
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
            connected.connect(self.address.sockaddr)
        except BaseException:
            connected.close()
            raise

        # A hang-up before the socket existed had nothing to shut down.
        if self._late:
            connected.close()
            raise TimeoutError("too late")
        return connected


class _Request(NamedTuple):
    """A GET request, and the limit of its answer in bytes."""

    url: str
    accept: str
    proxy: str | None
    longest: int

    def send(self, dial: Callable[[], socket.socket], seconds: float) -> bytes:
        """Return the decoded body of the answer.

        ``dial``: returns a connected socket.
        ``seconds``: timeout of each read and write.
        """
        parts = urlsplit(self.url)
        connection = self._connection(parts, dial, max(seconds, 0.001))

        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
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
        host = str(first.hostname)
        port = _port(first)

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
        # 203 is a 200 that an intermediary changed (RFC 9110 section 15.3.4), as by a coding.
        if response.status not in (200, 203):
            raise ValueError(
                f"the answer is {response.status} and not 200; redirects are not followed"
            )

        # The extra byte shows a body that is too long.
        body = response.read(self.longest + 1, decode_content=False)
        self._check_length(body)
        return self._decode(body, response.headers.get("Content-Encoding", ""))

    def _decode(self, body: bytes, header: str) -> bytes:
        """Return the body without its content codings (RFC 9110 section 8.4)."""
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
    """Skips interim responses (RFC 9110 section 15.2), such as 103 Early Hints."""

    def begin(self) -> None:
        """Read status and headers of the final response."""
        super().begin()
        while 100 <= self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            # The base class reads headers again only if there are none.
            self.headers = self.msg = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
            super().begin()


class _Connection(HTTPConnection):
    """Uses a socket that is connected elsewhere."""

    response_class = _Response
    dial: Callable[[], socket.socket]

    def _new_conn(self) -> socket.socket:
        return self.dial()


class _TlsConnection(_Connection, HTTPSConnection):
    """Adds TLS."""


def _login(proxy: SplitResult) -> dict[str, str]:
    """Return the header with user and password of a proxy (RFC 7617); empty without a user."""
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"}


def _port(parts: SplitResult) -> int:
    if parts.port:
        return parts.port
    return 443 if parts.scheme == "https" else 80
