"""Measures the gate in front of the routes of a framework, as multiples of the bare route.

Requests are made by calling the application, without a socket.
"""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

from flask import Flask
from measure import Row
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import faregate_asgi
import faregate_wsgi
from faregate import Gate
from faregate_flask import Faregate
from faregate_starlette import requires

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path

    from measure import Calls
    from starlette.requests import Request

DAY = 86_400.0  # seconds


def flask(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the rows of Flask."""
    bare = flask_app(hello, goodbye)

    # The same two views in either order: one application guards its root, the other does not.
    faregate = Faregate()
    root_guarded = flask_app()
    root_open = flask_app()
    for index, app in enumerate((root_guarded, root_open)):
        app.config["FAREGATE_STORE"] = f"sqlite:///{folder / f'flask{index}.db'}"
        faregate.init_app(app)
        stack.callback(app.extensions["faregate"].close)

    guarded = faregate.requires("docs:read")(hello)
    add_routes(root_guarded, guarded, goodbye)
    add_routes(root_open, goodbye, guarded)

    gate = root_guarded.extensions["faregate"]
    endless, expiring = tokens(gate)
    inside = faregate_wsgi.GateMiddleware(bare, gate=gate, rules={"/": "docs:read"})

    rows = [
        Row("Flask", wsgi(bare, endless)),
        Row("Flask, requires", wsgi(root_guarded, endless), "Flask", 1.15),
        Row("Flask, requires, token with an end", wsgi(root_guarded, expiring), "Flask", 1.30),
        Row("Flask, a view without guard", wsgi(root_open, endless), "Flask", 1.02),
        Row("WSGI middleware, one rule", wsgi(inside, endless), "Flask", 1.15),
    ]
    return [row._replace(number=2) for row in rows]


def starlette(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the rows of Starlette."""
    gate = Gate(f"sqlite:///{folder / 'starlette.db'}")
    stack.callback(gate.close)
    endless, expiring = tokens(gate)

    bare = Starlette(routes=[Route("/", view)])
    guarded = Starlette(
        routes=[Route("/", requires("docs:read")(view))],
        middleware=[Middleware(faregate_asgi.GateMiddleware, gate=gate)],
    )
    ruled = Starlette(
        routes=[Route("/", view)],
        middleware=[Middleware(faregate_asgi.GateMiddleware, gate=gate, rules={"/": "docs:read"})],
    )

    rows = [
        Row("Starlette", asgi(bare, endless)),
        Row("Starlette, requires", asgi(guarded, endless), "Starlette", 1.38),
        Row("Starlette, requires, token with an end", asgi(guarded, expiring), "Starlette", 1.70),
        Row("Starlette, one rule", asgi(ruled, endless), "Starlette", 1.60),
    ]
    return [row._replace(number=10) for row in rows]


def tokens(gate: Gate) -> tuple[str, str]:
    """Return the credential of a token that never expires, and of a token that expires."""
    endless = gate.tokens.create(name="bench", scopes=["docs:read"])
    expiring = gate.tokens.create(name="bench", scopes=["docs:read"], expires_in=DAY)
    return endless.secret, expiring.secret


def hello() -> str:
    """Answer with a few bytes; guarded where an application has a gate."""
    return "hello"


def goodbye() -> str:
    """Answer with a few bytes; never guarded."""
    return "adieu"


async def view(request: Request[Any]) -> PlainTextResponse:
    """Answer with a few bytes."""
    del request
    return PlainTextResponse("hello")


def flask_app(*views: Callable[[], str]) -> Flask:
    """Return a Flask application with a route for each view."""
    app = Flask("bench")
    add_routes(app, *views)
    return app


def add_routes(app: Flask, *views: Callable[[], str]) -> None:
    """Add a route for each view: ``/`` for the first, then ``/1`` and so on."""
    for index, view in enumerate(views):
        app.add_url_rule(f"/{index or ''}", str(index), view)


def wsgi(app: Callable[..., Any], credential: str, path: str = "/") -> Calls:
    """Return a function that sends requests to a WSGI application."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "HTTP_ACCEPT": "*/*",
        "HTTP_AUTHORIZATION": f"Bearer {credential}",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        del headers, exc_info
        if status != "200 OK":
            raise AssertionError(status)

    def calls(number: int) -> None:
        for _ in range(number):
            response = app(dict(environ), start_response)
            b"".join(response)
            response.close()

    return calls


def asgi(app: Any, credential: str) -> Calls:
    """Return a function that sends requests to an ASGI application."""
    headers = [
        (b"host", b"localhost"),
        (b"authorization", f"Bearer {credential}".encode()),
        (b"accept", b"*/*"),
    ]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
        "scheme": "http",
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise AssertionError(message)

    async def once() -> None:
        await app(dict(scope), receive, send)

    # The first look-up may wait, and needs a loop. Later calls never wait. They run without a
    # loop, so that the cost of a loop is not measured.
    asyncio.run(once())

    def calls(number: int) -> None:
        for _ in range(number):
            try:
                app(dict(scope), receive, send).send(None)
            except StopIteration:
                continue
            raise AssertionError("The application waited; a measured request must not.")

    return calls
