"""Sends requests to ASGI applications: bare ones, or as a WSGI application.

:func:`ask` and :func:`send_to` run one request or handshake without a server. :class:`AsWsgi`
wraps an ASGI application, so that tests send the same requests to Flask and to Starlette.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import anyio

Headers = list[tuple[bytes, bytes]]


class Answered:
    """The answer of an ASGI application: status, headers and body, and the close code of a WebSocket."""

    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages
        starts = [
            message for message in messages if message["type"].endswith("http.response.start")
        ]
        self.status = starts[0]["status"] if starts else 0
        self.headers = (
            {name.decode(): value.decode("latin-1") for name, value in starts[0]["headers"]}
            if starts
            else {}
        )
        self.body = b"".join(message.get("body", b"") for message in messages)
        closes = [message for message in messages if message["type"] == "websocket.close"]
        self.closed = closes[0]["code"] if closes else None
        self.text = "".join(message.get("text", "") for message in messages)


def scope_of(kind: str = "http", path: str = "/", **members: Any) -> dict[str, Any]:
    """Return the scope of a request or a handshake."""
    scope: dict[str, Any] = {
        "type": kind, "asgi": {"version": "3.0"}, "http_version": "1.1", "path": path, "raw_path": path.encode(),
        "root_path": "", "query_string": b"", "headers": [], "client": ("127.0.0.1", 40_000), "server": ("testserver", 80),
        "scheme": "http" if kind == "http" else "ws",
    }  # fmt: skip
    if kind == "http":
        scope["method"] = "GET"
    else:
        scope["subprotocols"] = []
    return scope | members


async def send_to(app: Any, scope: dict[str, Any], body: bytes = b"") -> Answered:
    """Send one request, or open and leave one WebSocket; return the answer."""
    http = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
    websocket = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1005}]
    coming = http if scope["type"] == "http" else websocket
    messages: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0) if len(coming) > 1 else coming[0]

    async def send(message: Any) -> None:
        messages.append(message)

    await app(scope, receive, send)
    return Answered(messages)


def ask(app: Any, scope: dict[str, Any], body: bytes = b"", backend: str = "asyncio") -> Answered:
    """Call :func:`send_to` in an event loop of its own."""
    return anyio.run(send_to, app, scope, body, backend=backend)


class AsWsgi:
    """An ASGI application behind a WSGI client."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a WSGI request."""
        path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
        headers: Headers = [
            (
                name.removeprefix("HTTP_").replace("_", "-").lower().encode(),
                str(value).encode("latin-1"),
            )
            for name, value in environ.items()
            if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
        ]
        scope = scope_of(
            path=path.encode("latin-1").decode(), raw_path=environ.get("REQUEST_URI", path).encode(), headers=headers,
            root_path=environ["SCRIPT_NAME"], method=environ["REQUEST_METHOD"], query_string=environ["QUERY_STRING"].encode(),
            client=(environ.get("REMOTE_ADDR", ""), 1),
        )  # fmt: skip
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        answered = asyncio.run(send_to(self.app, scope, body))
        start = next(
            message for message in answered.messages if message["type"] == "http.response.start"
        )
        sent = [
            (name.decode().title(), value.decode("latin-1")) for name, value in start["headers"]
        ]
        start_response(f"{answered.status} status", sent)
        return [answered.body]
