"""An application that guards each row of ``tests/cases`` with a gate of its own.

A real server loads it; :mod:`test_cases_servers` sends the requests. ``/<n>/…`` is the row with
that number. The credentials of each row are written to ``scenes.json`` in the folder that the
environment variable ``SCENES_FOLDER`` names. Clocks stand still. Rows that need another peer than
127.0.0.1 are left out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from case_answers import check_unforged
from case_rows import Row, rows, stage
from conftest import Clock

from faregate import Gate
from faregate_asgi import GateMiddleware as AsgiGateMiddleware
from faregate_wsgi import GateMiddleware as WsgiGateMiddleware

ROWS = [row for row in rows() if row.peer == "127.0.0.1"]


class GuardedRow:
    """A row behind its gate, as an ASGI and as a WSGI application that answers with the caller's id."""

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


def guard_rows() -> list[GuardedRow]:
    """Stage every row, and write the credentials of each for the test."""
    made = [GuardedRow(row) for row in ROWS]
    told = [
        {
            name: getattr(guarded.scene, name)
            for name in ("authorization", "query", "header", "cookie", "record_id")
        }
        for guarded in made
    ]
    draft = Path(os.environ["SCENES_FOLDER"], f"scenes.{os.getpid()}")
    draft.write_text(json.dumps(told))
    draft.replace(Path(os.environ["SCENES_FOLDER"], "scenes.json"))
    return made


GUARDED_ROWS = guard_rows() if "SCENES_FOLDER" in os.environ else []


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Answer over ASGI."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    number = scope["path"].split("/")[1]
    guarded = GUARDED_ROWS[int(number)]
    await guarded.asgi({**scope, "root_path": f"/{number}{guarded.row.root}"}, receive, send)


def wsgi(environ: Any, start_response: Any) -> Any:
    """Answer over WSGI."""
    number, rest = environ["PATH_INFO"][1:].split("/", 1)
    guarded = GUARDED_ROWS[int(number)]
    rest = f"/{rest}".removeprefix(guarded.row.root)
    return guarded.wsgi(
        {**environ, "SCRIPT_NAME": f"/{number}{guarded.row.root}", "PATH_INFO": rest},
        start_response,
    )
