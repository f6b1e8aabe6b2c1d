"""Every row of ``tests/cases``, against a bare ASGI application behind the middleware, over HTTP and WebSocket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgi_client import Answered, ask, scope_of
from case_answers import asgi_headers, check_answer, check_unforged, named
from case_rows import Row, Scene, rows, stage
from conftest import Clock

from faregate import Gate
from faregate_asgi import GateMiddleware


def application_of(row: Row, scene: Scene) -> Any:
    """An application that tells who asks; where a rule cannot name the object, it asks the principal itself."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        user = scope["user"]
        check_unforged(scope["headers"])
        if row.on is not None:
            user.require(*scene.needs, on=row.on)
        told = json.dumps({"for": user.id if user.is_authenticated else None})
        if scope["type"] == "websocket":
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": told})
            return
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": told.encode()})

    return application


def stand(row: Row, clock: Clock) -> tuple[Scene, Any, dict[str, Any]]:
    """The scene, the application behind its gate, and the members of the scope."""
    gate = Gate("sqlite://", clock=clock, **row.gate)
    scene = stage(row, gate, clock)
    app = GateMiddleware(
        application_of(row, scene), gate=gate, rules=scene.rules, default=row.default
    )
    members = {
        "path": row.path, "raw_path": (row.raw or row.path).encode(), "root_path": row.root, "query_string": scene.query.encode(),
        "headers": asgi_headers(row, scene), "client": (row.peer, 40_000) if row.peer else None,
    }  # fmt: skip
    return scene, app, members


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_asgi_answers_as_the_row_says(row: Row, clock: Clock) -> None:
    """Status, reason and challenge are those of the row, on asyncio and on trio; WebSockets meet the same."""
    scene, app, members = stand(row, clock)
    for backend in ("asyncio", "trio"):
        scene.forget()
        for state in ("uncached", "cached") if backend == "asyncio" else ("uncached",):
            with named(f"{backend}, {state}"):
                answered = ask(app, scope_of(method=row.method, **members), backend=backend)
                check_answer(row, scene, answered.status, answered.headers, answered.body)
            scene.warm(row)
    for denials in ("answered", "closed") if row.method == "GET" else ():
        scene.forget()
        extensions: dict[str, Any] = (
            {"websocket.http.response": {}} if denials == "answered" else {}
        )
        with named(denials):
            answered = ask(app, scope_of("websocket", extensions=extensions, **members))
            check_trap_2(row, scene, answered, denials)


def check_trap_2(row: Row, scene: Scene, answered: Answered, denials: str) -> None:
    """What was answered to a handshake of a WebSocket is what the row says, in the way in which its server takes denials."""
    expect = row.websocket or row.expect
    if expect == "ok":
        assert json.loads(answered.text) == {"for": scene.record_id if row.identified else None}
    elif denials == "answered":
        check_answer(row, scene, answered.status, answered.headers, answered.body, expect)
        assert answered.messages[0]["type"] == "websocket.http.response.start"
    else:
        assert (answered.closed, len(answered.messages)) == (1008, 1)
    assert (answered.messages[0]["type"] == "websocket.accept") == (expect == "ok")
