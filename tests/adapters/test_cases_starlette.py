"""Every row of ``tests/cases``, against a real Starlette application: functions, coroutines, endpoints, WebSockets."""

from __future__ import annotations

import json
from typing import Any, Protocol, TypeVar

import pytest
from asgi_client import ask, scope_of
from case_answers import asgi_headers, check_answer, check_unforged, named
from case_rows import Row, Scene, rows, stage
from conftest import Clock
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from faregate import Gate, path
from faregate_asgi import GateMiddleware
from faregate_starlette import requires

E = TypeVar("E")


class Guard(Protocol):
    """What guards an endpoint."""

    def __call__(self, endpoint: E, /) -> E:
        """Return the endpoint, guarded."""
        ...


HTTP = ["function", "coroutine", "endpoint", "method"]
WEBSOCKET = ["websocket function", "websocket endpoint"]


def endpoint_of(kind: str, guard: Guard) -> Any:  # noqa: C901  one branch a kind
    """A guarded endpoint of this kind, which tells who asks."""

    def told(connection: HTTPConnection[Any]) -> dict[str, Any]:
        check_unforged(connection.headers.raw)
        return {"for": connection.user.id if connection.user.is_authenticated else None}

    match kind:
        case "function":

            @guard
            def function(request: Request) -> JSONResponse:
                return JSONResponse(told(request))

            return function
        case "coroutine":

            @guard
            async def coroutine(request: Request) -> JSONResponse:
                return JSONResponse(told(request))

            return coroutine
        case "endpoint":

            @guard
            class Endpoint(HTTPEndpoint):
                async def get(self, request: Request) -> JSONResponse:
                    return JSONResponse(told(request))

                post = options = get

            return Endpoint
        case "method":

            class Methods(HTTPEndpoint):
                @guard
                async def get(self, request: Request) -> JSONResponse:
                    return JSONResponse(told(request))

                post = options = get

            return Methods
        case "websocket function":

            @guard
            async def function_of_websocket(websocket: WebSocket) -> None:
                await websocket.accept()
                await websocket.send_text(json.dumps(told(websocket)))

            return function_of_websocket
        case _:

            @guard
            class Sockets(WebSocketEndpoint):
                async def on_connect(self, websocket: WebSocket) -> None:
                    await websocket.accept()
                    await websocket.send_text(json.dumps(told(websocket)))

            return Sockets


def stand(row: Row, scene: Scene, kind: str) -> tuple[Any, dict[str, Any]]:
    """The application behind the gate of the scene, and the members of the scope."""
    by_rules = row.rules is not None

    def unguarded(view: E) -> E:
        return view

    guard: Any = unguarded if by_rules else requires
    if scene.needs and not by_rules:
        guard = requires(*scene.needs, on=path("thing") if row.on is not None else None)
    rule = (
        "/{thing:path}"
        if by_rules
        else "/guarded/{thing:path}"
        if row.on is not None
        else "/guarded"
    )
    endpoint = endpoint_of(kind, guard)
    if kind in WEBSOCKET:
        routes: list[BaseRoute] = [WebSocketRoute(rule, endpoint)]
    else:
        routes = [Route(rule, endpoint, methods=["GET", "POST", "OPTIONS"])]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(
                GateMiddleware,
                gate=scene.gate,
                rules=scene.rules if by_rules else None,
                default=row.default,
            )
        ],
    )
    url = row.path if row.on is None else f"/guarded/{row.on}"
    members = {
        "path": url, "raw_path": (row.raw or url).encode(), "root_path": row.root, "query_string": scene.query.encode(),
        "headers": asgi_headers(row, scene), "client": (row.peer, 40_000) if row.peer else None,
    }  # fmt: skip
    return app, members


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_starlette_answers_as_the_row_says(row: Row, clock: Clock) -> None:
    """Status, reason and challenge are those of the row, before functions, coroutines, endpoint classes and WebSockets."""
    scene = stage(row, Gate("sqlite://", clock=clock, **row.gate), clock)
    for kind in HTTP:
        app, members = stand(row, scene, kind)
        scene.forget()
        for state in ("uncached", "cached") if kind == "coroutine" else ("uncached",):
            with named(f"{kind}, {state}"):
                answered = ask(app, scope_of(method=row.method, **members))
                check_answer(row, scene, answered.status, answered.headers, answered.body)
            scene.warm(row)
    for kind in WEBSOCKET if row.method == "GET" else []:
        scene.forget()
        with named(kind):
            check_trap_2(row, scene, kind)


def check_trap_2(row: Row, scene: Scene, kind: str) -> None:
    """A WebSocket is not even accepted where the row says no, by a server that answers denials or by one that cannot."""
    app, members = stand(row, scene, kind)
    expect = row.websocket or row.expect
    answered = ask(
        app, scope_of("websocket", extensions={"websocket.http.response": {}}, **members)
    )
    if expect == "ok":
        assert json.loads(answered.text) == {"for": scene.record_id if row.identified else None}
    else:
        check_answer(row, scene, answered.status, answered.headers, answered.body, expect)
        assert not answered.text
    plain = ask(app, scope_of("websocket", **members))
    assert (plain.messages[0]["type"], plain.closed if expect != "ok" else 1008) == (
        "websocket.accept" if expect == "ok" else "websocket.close",
        1008,
    )
