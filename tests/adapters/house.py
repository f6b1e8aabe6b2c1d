"""Every row of ``tests/cases`` that a client on this host can send, each behind its own gate, in one application.

Loaded by a real server. ``/<n>/…`` is the row of that number; what its request presents is written into the
folder ``HOUSE``, for the test to send. The rows' clocks stand still.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from conftest import Clock
from expected import check_unforged
from table import Row, rows, stage

from faregate import Gate
from faregate_asgi import GateMiddleware as AsgiGateMiddleware
from faregate_wsgi import GateMiddleware as WsgiGateMiddleware

ROWS = [row for row in rows() if row.peer == "127.0.0.1"]


class Room:
    """One row, with an application of either kind that tells who asks."""

    def __init__(self, row: Row) -> None:
        clock = Clock()
        self.row = row
        self.gate = Gate("sqlite://", clock=clock, **row.gate)
        self.scene = stage(row, self.gate, clock)
        settings: dict[str, Any] = {
            "gate": self.gate,
            "rules": self.scene.rules,
            "default": row.default,
        }
        self.asgi = AsgiGateMiddleware(self._asgi, **settings)
        self.wsgi = WsgiGateMiddleware(self._wsgi, **settings)

    async def _asgi(self, scope: Any, receive: Any, send: Any) -> None:
        user = scope["user"]
        check_unforged(scope["headers"])
        if self.row.on is not None:
            user.require(*self.scene.needs, on=self.row.on)
        told = json.dumps({"for": user.id if user.is_authenticated else None})
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": told})
            await send({"type": "websocket.close", "code": 1000})
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(told)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(
            {
                "type": "http.response.body",
                "body": b"" if scope["method"] == "HEAD" else told.encode(),
            }
        )

    def _wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        principal = environ["faregate.principal"]
        assert "HTTP_REMOTE_USER" not in environ
        if self.row.on is not None:
            if principal is None:
                raise environ["faregate.denied"]
            principal.require(*self.scene.needs, on=self.row.on)
        told = json.dumps({"for": principal.id if principal else None}).encode()
        start_response(
            "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(told)))]
        )
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else told]


def furnish() -> list[Room]:
    """Make every room, and tell the test what to present in each."""
    made = [Room(row) for row in ROWS]
    told = [
        {
            name: getattr(room.scene, name)
            for name in ("authorization", "query", "header", "cookie", "record_id")
        }
        for room in made
    ]
    draft = Path(os.environ["HOUSE"], f"scenes.{os.getpid()}")
    draft.write_text(json.dumps(told))
    draft.replace(Path(os.environ["HOUSE"], "scenes.json"))
    return made


ROOMS = furnish() if "HOUSE" in os.environ else []


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Answer over ASGI."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    number = scope["path"].split("/")[1]
    room = ROOMS[int(number)]
    await room.asgi({**scope, "root_path": f"/{number}{room.row.root}"}, receive, send)


def wsgi(environ: Any, start_response: Any) -> Any:
    """Answer over WSGI."""
    number, rest = environ["PATH_INFO"][1:].split("/", 1)
    room = ROOMS[int(number)]
    rest = f"/{rest}".removeprefix(room.row.root)
    return room.wsgi(
        {**environ, "SCRIPT_NAME": f"/{number}{room.row.root}", "PATH_INFO": rest}, start_response
    )
