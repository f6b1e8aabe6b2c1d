"""Translation from an ASGI scope to the core's values, and from the core's answers to messages.

Names of headers are bytes in lower case, as ASGI demands. Values are decoded as Latin-1, which
keeps every byte.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from faregate.credentials.presented import SAFE_METHODS, RequestValues

if TYPE_CHECKING:
    from faregate.adapters import RequestGate
    from faregate.credentials.answers import Answer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


# Applications take this header for the server's word about the caller. Bridges to WSGI and Django
# turn both spellings into HTTP_REMOTE_USER, which Django's RemoteUserMiddleware reads over ASGI. No
# bridge turns X-Forwarded-User, X-Remote-User or their like into it: these headers are between the
# application and the proxy that sets them.
REMOTE_USER = (b"remote-user", b"remote_user")


class Reader:
    """Reads the values that identify a caller out of the scopes of requests to a gate."""

    def __init__(self, gate: RequestGate) -> None:
        resolver = gate.resolver
        # An empty name stands for a header that this gate does not read.
        self._forwarded = gate.proxies.header.encode() if gate.proxies.any else b""
        self._header = (resolver.header or "").lower().encode()
        self._cookie = b"cookie" if resolver.cookie else b""
        self._origin = b"origin" if resolver.cookie else b""
        self._query = resolver.query
        names = {self._forwarded, self._header, self._cookie, self._origin}
        self._others = frozenset(names - {b""})

    def values(self, scope: Scope) -> RequestValues:
        """Return the values of a request, without those that the gate does not read.

        The handshake of a WebSocket is an unsafe request.
        """
        authorization: list[str] = []
        others: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization.append(value.decode("latin-1"))
            elif name in self._others:
                others.setdefault(name, []).append(value.decode("latin-1"))

        client = scope.get("client")
        peer = client[0] if client else None
        if not (others or self._query):
            return RequestValues(authorization, peer)

        origin = None
        if b"origin" in others:
            origin = ", ".join(others[b"origin"])
        return RequestValues(
            authorization,
            peer,
            forwarded=others.get(self._forwarded, ()),
            query=query(scope),
            header=others.get(self._header, ()),
            cookies=others.get(self._cookie, ()),
            unsafe=scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS,
            origin=origin,
        )


def query(scope: Scope) -> str:
    """Return the raw query string."""
    raw: bytes = scope.get("query_string", b"")
    return raw.decode("latin-1")


def path(scope: Scope) -> str:
    """Return the path as the application's router sees it: decoded, and without ``root_path``."""
    whole: str = scope["path"]
    root: str = scope.get("root_path", "")
    if not root or not whole.startswith(root):
        return whole

    inner = whole[len(root) :]
    # "/app" is a root of "/app/docs", and not of "/application".
    if inner and not inner.startswith("/"):
        return whole
    return inner


def raw_path(scope: Scope) -> str:
    """Return the path as it was sent, or an empty text if the server does not provide it."""
    raw: bytes = scope.get("raw_path") or b""
    return raw.decode("latin-1").partition("?")[0]


def method(scope: Scope) -> str:
    """Return the method of a request, for the log."""
    if scope["type"] == "websocket":
        return "WEBSOCKET"
    return str(scope["method"])


async def respond(answer: Answer, scope: Scope, send: Send) -> None:
    """Send an answer of the core.

    A WebSocket is denied with the answer, or closed where the server has no denial response.
    """
    prefix = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            # 1008 is a policy violation (RFC 6455 section 7.4.1).
            await send({"type": "websocket.close", "code": 1008})
            return
        prefix = "websocket.http.response"

    # Not cached: the length of the body, and a scope in the challenge, are of this answer alone.
    headers = encode.__wrapped__((*answer.headers, ("Content-Length", str(len(answer.body)))))
    body = b"" if scope.get("method") == "HEAD" else answer.body
    await send({"type": f"{prefix}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})


@lru_cache(maxsize=1024)
def encode(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI sends them: bytes, the names in lower case.

    Cached, since many answers have the same headers.
    """
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
