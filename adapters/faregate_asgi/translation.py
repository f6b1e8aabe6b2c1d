"""From an ASGI scope to the values of the core, and from the core's answers to ASGI's messages."""

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


# The header that applications take for the server's word about who calls: bridges to WSGI and Django turn both
# spellings into HTTP_REMOTE_USER, which Django's RemoteUserMiddleware reads over ASGI. X-Forwarded-User, X-Remote-User
# and the like become nobody's REMOTE_USER: they are between the application and the proxy that sets them.
REMOTE_USER = (b"remote-user", b"remote_user")


class Reader:
    """Takes the values by which a caller is identified out of the requests to one gate."""

    def __init__(self, gate: RequestGate) -> None:
        resolver = gate.resolver
        self._forwarded = gate.proxies.header.encode() if gate.proxies.any else b""
        self._header = (resolver.header or "").lower().encode()
        self._cookie = b"cookie" if resolver.cookie else b""
        self._origin = b"origin" if resolver.cookie else b""
        self._query = resolver.query
        self._others = frozenset(
            {self._forwarded, self._header, self._cookie, self._origin} - {b""}
        )

    def values(self, scope: Scope) -> RequestValues:
        """Return the values of a request, of which none is taken that the gate does not look at.

        A handshake of a WebSocket is an unsafe request.
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
        return RequestValues(
            authorization,
            peer,
            forwarded=others.get(self._forwarded, ()),
            query=query(scope),
            header=others.get(self._header, ()),
            cookies=others.get(self._cookie, ()),
            unsafe=scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS,
            origin=", ".join(others[b"origin"]) if b"origin" in others else None,
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
    rest = whole[len(root) :]
    return rest if rest.startswith("/") or not rest else whole


def raw_path(scope: Scope) -> str:
    """Return the path as it was sent, where the server tells, else an empty text."""
    raw: bytes = scope.get("raw_path") or b""
    return raw.decode("latin-1").partition("?")[0]


def method(scope: Scope) -> str:
    """Return the method of a request, for the log."""
    return "WEBSOCKET" if scope["type"] == "websocket" else str(scope["method"])


async def respond(answer: Answer, scope: Scope, send: Send) -> None:
    """Send an answer of the core; to a WebSocket as its denial, or as a close where the server knows no better."""
    headers = encode.__wrapped__((*answer.headers, ("Content-Length", str(len(answer.body)))))
    prefix = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send(
                {"type": "websocket.close", "code": 1008}
            )  # RFC 6455 section 7.4.1: policy violation
            return
        prefix = "websocket.http.response"
    body = b"" if scope.get("method") == "HEAD" else answer.body
    await send({"type": f"{prefix}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})


@lru_cache(maxsize=1024)
def encode(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI sends them: bytes, the names in lower case. Remembered: many answers have the same."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
