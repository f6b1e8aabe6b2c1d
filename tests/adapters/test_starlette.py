"""Starlette beyond the rows: where ``requires`` stands, who answers, and the management API as Flask's."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from asgi_client import ask, scope_of, send_to
from conftest import Clock
from fastapi import FastAPI
from fastapi import HTTPException as FastApiHTTPException
from flask import Flask
from real_servers import exchange, serving
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from faregate import Denied, Gate, InvalidInput, Misconfigured, path
from faregate_asgi import GateMiddleware
from faregate_flask import Faregate
from faregate_starlette import management, requires


def bearer(secret: str, *more: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    """Header lines, the one of a credential first."""
    return [
        (b"authorization", f"Bearer {secret}".encode()),
        *((name.encode(), value.encode()) for name, value in more),
    ]


def behind(gate: Gate, *routes: Any, **settings: Any) -> Starlette:
    """An application behind its gate."""
    return Starlette(
        routes=list(routes), middleware=[Middleware(GateMiddleware, gate=gate)], **settings
    )


async def hello(request: Request) -> PlainTextResponse:
    """A view."""
    return PlainTextResponse(f"hello {request.user.identity}")


def test_without_the_middleware_it_is_an_error_and_never_a_pass() -> None:
    """So is a parameter that the route does not have."""
    gate = Gate("sqlite://")
    secret = gate.tokens.create(name="a", scopes=["x"]).secret
    with pytest.raises(Misconfigured, match="GateMiddleware"):
        ask(Starlette(routes=[Route("/", requires("x")(hello))]), scope_of(headers=bearer(secret)))
    with pytest.raises(Misconfigured, match="no such parameter"):
        ask(
            behind(gate, Route("/", requires("x", on=path("id"))(hello))),
            scope_of(headers=bearer(secret)),
        )
    with pytest.raises(Misconfigured, match="a request or a WebSocket"):
        requires("x")(lambda: None)()


def test_what_stands_in_the_users_place_is_not_believed() -> None:
    """A user that another middleware puts into the scope is ignored: only the gate's principal counts."""
    gate = Gate("sqlite://")
    app = behind(gate, Route("/", requires("x")(hello)))
    root = gate.verify(gate.tokens.create(name="root", scopes=["*"]).secret)
    assert ask(app, scope_of() | {"user": root, "faregate.visit": object()}).status == 401

    class Impostor:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope["user"] = root
            await self.app(scope, receive, send)

    inner = Starlette(
        routes=[Route("/", requires("x")(hello))],
        middleware=[Middleware(GateMiddleware, gate=gate), Middleware(Impostor)],
    )
    assert ask(inner, scope_of()).status == 401


def test_what_cannot_be_guarded_is_refused() -> None:
    """At once, when the module is loaded."""
    for wrong in (object(), 5, type("Plain", (), {}), hello(None)):  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            requires("x")(wrong)  # type: ignore[type-var]
        if asyncio.iscoroutine(wrong):
            wrong.close()
    for needs in (("docs:*",), ("",), (5,), ("a b",)):
        with pytest.raises(InvalidInput):
            requires(*needs)
    with pytest.raises(InvalidInput, match="on="):
        requires(on="x")


def test_partials_and_methods_are_guarded() -> None:
    """Whatever Starlette takes for a function."""
    gate = Gate("sqlite://")
    secret = gate.tokens.create(name="a", scopes=["x"]).secret

    class Views:
        async def view(self, request: Request) -> PlainTextResponse:
            return await hello(request)

    def greet(word: str, request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{word} {request.user.identity}")

    guard: Any = requires("x")
    app = behind(gate, Route("/m", guard(Views().view)), Route("/p", guard(partial(greet, "hi"))))
    for url in ("/m", "/p"):
        assert ask(app, scope_of(path=url)).status == 401
        assert ask(app, scope_of(path=url, headers=bearer(secret))).status == 200


def test_a_class_is_guarded_in_place() -> None:
    """Every name of a guarded class leads to its guard, and subclasses are guarded too."""
    gate = Gate("sqlite://")

    class View(HTTPEndpoint):
        async def get(self, request: Request) -> PlainTextResponse:
            return await hello(request)

    before = View
    assert requires("x")(View) is before

    class Derived(View):
        pass

    app = behind(gate, Route("/a", before), Route("/b", Derived))
    assert [ask(app, scope_of(path=url)).status for url in ("/a", "/b")] == [401, 401]
    assert (
        ask(app, scope_of(path="/a", method="DELETE")).status == 401
    )  # nobody learns what there is


def test_the_applications_own_handlers_see_denials() -> None:
    """By status or for HTTPException; without one the answer is problem+json."""
    gate = Gate("sqlite://")
    route = Route("/", requires("x")(hello))

    class View(HTTPEndpoint):
        @requires("x")
        def get(self, request: Request) -> PlainTextResponse:
            del request
            return PlainTextResponse("x")

    def own(_: Request, exc: Exception) -> JSONResponse:
        assert isinstance(exc, HTTPException)
        denied = exc.denied  # type: ignore[attr-defined]
        return JSONResponse([exc.detail, denied.reason], exc.status_code, exc.headers)

    for key in (401, HTTPException):
        handlers: Any = {key: own}
        for routes in ([route], [Route("/", View)]):
            answered = ask(behind(gate, *routes, exception_handlers=handlers), scope_of())
            assert (answered.status, json.loads(answered.body)[1]) == (401, "missing_credential")
            assert answered.headers["www-authenticate"] == 'Bearer realm="faregate"'
            assert answered.headers["content-type"] == "application/json"
    for handlers in ({403: own}, {KeyError: own}, {}):
        answered = ask(behind(gate, route, exception_handlers=handlers), scope_of())
        assert answered.headers["content-type"] == "application/problem+json"


class Asked:
    """A handler that is an object."""

    async def __call__(self, _: Request, exc: Exception) -> JSONResponse:
        """Answer without a word on how to do better."""
        assert isinstance(exc, HTTPException)
        return JSONResponse({"error": "no"}, exc.status_code)


async def asked(request: Request, exc: Exception) -> JSONResponse:
    """A handler that is a coroutine function."""
    return await Asked()(request, exc)


def plain(_: Request, exc: Exception) -> PlainTextResponse:
    """A handler that is a function."""
    assert isinstance(exc, HTTPException)
    return PlainTextResponse("no", exc.status_code, {"Cache-Control": "no-cache"})


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
@pytest.mark.parametrize(
    "handler", [Asked(), asked, plain], ids=["object", "coroutine", "function"]
)
@pytest.mark.parametrize("key", [401, HTTPException, Exception], ids=str)
def test_a_refusal_keeps_its_challenge(framework: Any, handler: Any, key: Any) -> None:
    """RFC 9110 section 15.5.2: whatever body a handler of the application makes, what it leaves away is added."""
    gate = Gate("sqlite://")
    app = framework(
        exception_handlers={key: handler}, middleware=[Middleware(GateMiddleware, gate=gate)]
    )
    app.router.routes += [
        Route("/async", requires("x")(hello)),
        Route("/sync", requires("x")(lambda _: None)),
    ]
    for place in ("/async", "/sync"):
        answered = ask(app, scope_of(path=place))
        own = key is not Exception  # that is the one for what nobody has foreseen
        assert (answered.status, b"urn:faregate" in answered.body) == (401, not own)
        assert answered.headers["www-authenticate"] == 'Bearer realm="faregate"'
        assert answered.headers["cache-control"] == (
            "no-cache" if own and handler is plain else "no-store"
        )


@pytest.mark.parametrize(
    ("framework", "key"),
    [
        *(
            (framework, key)
            for framework in (Starlette, FastAPI)
            for key in (403, HTTPException, Denied, None)
        ),
        (FastAPI, FastApiHTTPException),
    ],
    ids=str,
)
def test_one_denial_has_one_body_whoever_refuses(framework: Any, key: Any) -> None:
    """The guard, or the view behind it: a handler for the status, for HTTPException or for Denied itself sees both."""
    gate = Gate("sqlite://")

    def own(_: Request, exc: Exception) -> JSONResponse:
        denied = exc if isinstance(exc, Denied) else exc.denied  # type: ignore[attr-defined]
        return JSONResponse([denied.reason], denied.status)

    @requires
    async def late(request: Request) -> None:
        request.user.require("docs:read")

    @requires
    def late_in_a_thread(request: Request) -> None:
        request.user.require("docs:read")

    @requires
    class Late(HTTPEndpoint):
        async def get(self, request: Request) -> None:
            request.user.require("docs:read")

    handlers = {key: own} if key else {}
    app = framework(exception_handlers=handlers, middleware=[Middleware(GateMiddleware, gate=gate)])
    app.router.routes += [
        Route("/0", requires("docs:read")(hello)), Route("/1", late), Route("/2", late_in_a_thread), Route("/3", Late)
    ]  # fmt: skip
    secret = gate.tokens.create(name="a").secret
    answers = [ask(app, scope_of(path=f"/{number}", headers=bearer(secret))) for number in range(4)]
    for answered in answers:
        assert (answered.status, answered.body) == (403, answers[0].body)
        assert (answered.body == b'["insufficient_scope"]') == bool(key)
        assert answered.headers["www-authenticate"].startswith(
            'Bearer realm="faregate", error="insufficient_scope"'
        )
        assert answered.headers["cache-control"] == "no-store"


def test_a_handler_that_answers_something_else_is_left_alone() -> None:
    """A page to log in, say: nothing of a refusal is added to it."""
    gate = Gate("sqlite://")

    def to_login(_: Request, exc: Exception) -> RedirectResponse:
        assert isinstance(exc, HTTPException)
        return RedirectResponse("/login")

    answered = ask(
        behind(gate, Route("/", requires(hello)), exception_handlers={401: to_login}), scope_of()
    )
    assert (answered.status, answered.headers["location"]) == (307, "/login")
    assert "www-authenticate" not in answered.headers


def test_trap_13_a_frameworks_default_is_no_handler_of_the_users() -> None:
    """FastAPI's own handler of HTTPException is bypassed: every denial has the same body."""
    gate = Gate("sqlite://")
    app = FastAPI(middleware=[Middleware(GateMiddleware, gate=gate)])

    @app.get("/guarded")
    @requires("docs:read")
    async def guarded(request: Request) -> str:
        return str(request.user.identity)

    @app.get("/late")
    def late(request: Request) -> str:
        request.user.require("docs:read")
        return "late"

    secret = gate.tokens.create(name="a").secret
    bodies = [
        ask(app, scope_of(path=place, headers=bearer(secret))) for place in ("/guarded", "/late")
    ]
    assert bodies[0].status == bodies[1].status == 403
    assert bodies[0].body == bodies[1].body
    assert json.loads(bodies[0].body)["code"] == "insufficient_scope"
    assert bodies[0].headers == bodies[1].headers


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
def test_a_mounted_application_answers_denials_behind_a_gate_of_its_own(framework: Any) -> None:
    """Its page for errors stands before the gate of the outer one; what is announced is announced once."""
    gate = Gate("sqlite://")
    gated = [Middleware(GateMiddleware, gate=gate)]

    def late(request: Request) -> PlainTextResponse:
        request.user.require("docs:read")
        return PlainTextResponse("late")

    inner = framework(routes=[Route("/late", late)], middleware=gated)
    app = Starlette(routes=[Mount("/v1", inner)], middleware=gated)
    refused = ask(app, scope_of(path="/v1/late"))
    assert (refused.status, json.loads(refused.body)["code"]) == (401, "missing_credential")
    secret = gate.tokens.create(name="a", scopes=["docs:read"], expires_in=60).secret
    answered = ask(app, scope_of(path="/v1/late", headers=bearer(secret)))
    names = [name for name, _ in answered.messages[0]["headers"]]
    assert (answered.status, names.count(b"faregate-token-expires")) == (200, 1)


WATCHED = """
import json
import subprocess
import sys
import sys

sys.modules |= {"eventlet": None, "gevent": None}  # which the SDK would patch where they are installed
import sentry_sdk
from fastapi import FastAPI
from fastapi import HTTPException as FastApiHTTPException
from sentry_sdk.integrations.fastapi import FastApiIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from faregate import Gate
from faregate_asgi import GateMiddleware
from faregate_starlette import requires

sentry_sdk.init(
    "http://key@127.0.0.1:9/1", default_integrations=False, auto_enabling_integrations=False,
    integrations=[StarletteIntegration(), FastApiIntegration()],
)

def own(request, error):
    return JSONResponse({"code": "own"}, error.status_code)

async def view(request):
    return JSONResponse({})

answers = []
for framework in (Starlette, FastAPI):
    for key in (KeyError, Exception, 500, HTTPException, 401):
        gate = Gate("sqlite://")
        app = framework(
            routes=[Route("/", requires(view))], exception_handlers={key: own}, middleware=[Middleware(GateMiddleware, gate=gate)]
        )
        answer = TestClient(app).get("/")
        answers.append((answer.json()["code"], answer.status_code, answer.headers["www-authenticate"], answer.headers["cache-control"]))
print(json.dumps(answers))
"""


@pytest.mark.processes
@pytest.mark.skipif(find_spec("sentry_sdk") is None, reason="sentry-sdk is not installed")
def test_a_default_that_something_is_around_is_no_handler_of_the_users() -> None:
    """The SDK of Sentry puts its own function around each handler, the framework's default among them."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    refused = [401, 'Bearer realm="faregate"', "no-store"]
    codes = [*["missing_credential"] * 3, *["own"] * 2]
    assert json.loads(done.stdout) == [[code, *refused] for code in codes * 2]


class Throttled(Denied):
    """A denial of the application's own."""

    def __init__(self) -> None:
        super().__init__("insufficient_scope", "Come back later.")
        self.status, self.error = 429, None


def test_a_denial_may_have_another_status() -> None:
    """A denial keeps the status that the application sets, and has no challenge."""
    gate = Gate("sqlite://")

    def view(_: Request) -> None:
        raise Throttled

    answered = ask(behind(gate, Route("/", view)), scope_of())
    assert (answered.status, json.loads(answered.body)["detail"]) == (429, "Come back later.")
    assert "www-authenticate" not in answered.headers


def test_a_websocket_that_was_accepted_is_closed() -> None:
    """A guard on a later message closes with 1008, since no answer is possible any more."""
    gate = Gate("sqlite://")

    class Sockets(WebSocketEndpoint):
        async def on_connect(self, websocket: WebSocket) -> None:
            await websocket.accept()
            await self.on_late(websocket)

        @requires("x")
        async def on_late(self, websocket: WebSocket) -> None:
            await websocket.send_text("let in")

    app = behind(gate, WebSocketRoute("/", Sockets))
    answered = ask(app, scope_of("websocket", extensions={"websocket.http.response": {}}))
    assert (answered.closed, answered.text) == (1008, "")
    secret = gate.tokens.create(name="a", scopes=["x"]).secret
    assert ask(app, scope_of("websocket", headers=bearer(secret))).text == "let in"


def test_trap_11_the_management_is_guarded_without_the_middleware_too() -> None:
    """And with the middleware of another gate, whose principals are nobody here; an owner in a body counts as none."""
    gate, other = Gate("sqlite://"), Gate("sqlite://")
    app = Starlette(routes=[Mount("/auth", management(gate))])
    root = other.tokens.create(name="root", scopes=["*"]).secret
    elsewhere = behind(other, Mount("/auth", management(gate)))
    for operation in ("/auth/tokens", "/auth/shares", "/auth/tokens/self", "/auth/shares/x"):
        assert ask(app, scope_of(path=operation)).status == 401
        assert ask(elsewhere, scope_of(path=operation, headers=bearer(root))).status == 401
    weak = gate.tokens.create(name="weak", scopes=["gate:tokens:write"]).secret
    body = json.dumps({"name": "x", "owner": {"id": "somebody"}}).encode()
    scope = scope_of(
        path="/auth/tokens",
        method="POST",
        headers=bearer(weak, ("content-type", "application/json")),
    )
    assert ask(app, scope, body).status == 403


REQUESTS: list[tuple[str, str, bytes | None]] = [
    ("POST", "/tokens", b'{"name": "made", "scopes": ["docs:read"], "expiresIn": 60}'),
    ("POST", "/tokens", b'{"name": 5}'),
    ("POST", "/tokens", b"{"),
    ("POST", "/tokens", b"x" * 1_048_577),
    ("GET", "/tokens?limit=1&offset=1", None),
    ("GET", "/tokens?limit=0", None),
    ("GET", "/tokens?name=%C3%B6&name=x", None),
    ("GET", "/tokens/self", None),
    ("GET", "/tokens/nothing", None),
    ("PUT", "/tokens/self", b'{"name": "x"}'),
    ("PATCH", "/tokens/self", b'{"description": "\xc3\xb6"}'),
    ("POST", "/tokens/{token}/rotate", b'{"grace": 5}'),
    ("POST", "/tokens/{token}/rotate", None),
    ("POST", "/tokens/{token}/deactivate", b'{"reason": "x"}'),
    ("POST", "/tokens/{token}/activate", None),
    ("DELETE", "/tokens/{token}", None),
    ("DELETE", "/tokens/{token}", None),
    (
        "POST",
        "/shares",
        b'{"objectId": "a", "scopes": ["x"], "expiresIn": 60, "params": {"maxRedemptions": 2}}',
    ),
    ("POST", "/shares", b'{"objectId": "a", "expiresIn": 60}'),
    ("GET", "/shares?objectId=a", None),
    ("GET", "/shares?object_id=a", None),
    ("GET", "/shares/{share}", None),
    ("PATCH", "/shares/{share}", b'{"params": {"attributes": {"a": [1]}}, "expiresIn": 120}'),
    ("PATCH", "/shares/{share}", b'{"params": {"other": 1}}'),
    ("POST", "/shares/{share}/redeem", None),
    ("POST", "/shares/{share}/redeem", b'{"secret": "{secret}"}'),
    ("POST", "/shares/{share}/redeem", b'{"secret": "{secret}"}'),
    ("POST", "/shares/{share}/redeem", b'{"secret": "wrong"}'),
    ("POST", "/shares/{share}/redeem", b'{"secret": 5}'),
    ("POST", "/shares/{share}/redeem", b"x" * 16_385),
    ("POST", "/shares/{share}/revoke", None),
    ("POST", "/shares/{share}/revoke", b'{"reason": "x"}'),
    ("PATCH", "/shares/{share}", b'{"expiresIn": 240}'),
    ("POST", "/introspect", b"{}"),
    ("POST", "/revoke", b"{}"),
    ("GET", "/audit?limit=3", None),
    ("GET", "/audit?since=1&limit=2&subject={token}", None),
    ("GET", "/audit?since=x", None),
    ("GET", "/openapi.json", None),
    ("GET", "/docs", None),
    ("GET", "/tokens/deactivate", None),
    ("DELETE", "/tokens", None),
    ("PATCH", "/docs", None),
    ("TRACE", "/audit", None),
    ("OPTIONS", "/tokens/{token}", None),
    ("OPTIONS", "/tokens/activate", None),
]


def test_management_answers_byte_for_byte_as_flasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal requests to equal stores get equal statuses, headers and bodies from Flask and Starlette."""
    told: list[list[Any]] = []
    for framework in ("flask", "starlette"):
        count = iter(range(1000))
        for module in ("faregate.fields.token_fields", "faregate.fields.share_fields"):
            monkeypatch.setattr(f"{module}.new_id", lambda count=count: f"id-{next(count)}")
        for module in ("faregate.lifecycles.tokens", "faregate.lifecycles.shares"):
            monkeypatch.setattr(
                f"{module}.mint",
                lambda brand, kind, count=count: (
                    f"{brand}_{kind}_{next(count):043}{next(count):06}"
                ),
            )
        monkeypatch.setattr(
            "faregate.credentials.share_tokens.secrets.token_urlsafe", lambda _: "jti"
        )
        monkeypatch.setattr(
            "faregate.lifecycles.shares.kind_of",
            lambda text, _: text.split("_")[1] if text.startswith("fg_") else None,
        )
        monkeypatch.setattr(
            "faregate.credentials.parsing.kind_of",
            lambda text, _: text.split("_")[1] if text.startswith("fg_") else None,
        )
        settings: dict[str, Any] = {"clock": Clock(), "secret": "s" * 32}
        if framework == "flask":
            flask = Flask("x")
            flask.config |= {
                "FAREGATE_STORE": "sqlite://",
                **{f"FAREGATE_{name.upper()}": value for name, value in settings.items()},
            }
            faregate = Faregate(flask)
            flask.register_blueprint(faregate.management(), url_prefix="/auth")
            gate, app = faregate.gate, flask.wsgi_app
        else:
            gate = Gate("sqlite://", **settings)
            app = behind(gate, Mount("/auth", management(gate)))  # type: ignore[assignment]
        told.append(list(answers(gate, app, framework)))
    assert len(told[0]) == 2 * len(REQUESTS)
    for (method, url, _), one, two in zip(
        [request for request in REQUESTS for _ in "ab"], *told, strict=True
    ):
        assert one == two, (method, url)
    assert {status for status, _, _ in told[0]} >= {
        200,
        201,
        204,
        400,
        401,
        404,
        405,
        409,
        413,
        415,
    }


def answers(gate: Gate, app: Any, framework: str) -> Any:
    """Every answer to the requests, without a credential and with one that expires."""
    from io import BytesIO

    from werkzeug.test import Client, EnvironBuilder

    admin = gate.tokens.create(name="admin", scopes=["*"], expires_in=600).secret
    token = gate.tokens.create(name="target").token.id
    share = gate.shares.create("o", scopes=["x"], expires_in=60, params={"maxRedemptions": 2})
    for method, url, body in REQUESTS:
        for secret in (None, admin):
            target = url.replace("{token}", token).replace("{share}", share.share.id)
            sent = (body or b"").replace(b"{secret}", share.secret.encode())
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            headers |= {"Content-Type": "application/json"} if body else {}
            if framework == "flask":
                environ = EnvironBuilder(
                    f"/auth{target}",
                    method=method,
                    headers=list(headers.items()),
                    input_stream=BytesIO(sent),
                ).get_environ()
                environ["CONTENT_LENGTH"] = str(len(sent))
                answer = Client(app).open(environ)
                got = (answer.status_code, dict(answer.headers), answer.get_data())
            else:
                where, _, query = target.partition("?")
                lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
                answered = ask(
                    app,
                    scope_of(
                        path=f"/auth{where}",
                        method=method,
                        query_string=query.encode(),
                        headers=lines,
                    ),
                    sent,
                )
                got = (answered.status, answered.headers, answered.body)
            yield (
                got[0],
                {
                    name.lower(): value
                    for name, value in got[1].items()
                    if name.lower() != "content-length"
                },
                got[2],
            )


def test_a_client_that_leaves_in_the_middle_changes_nothing() -> None:
    """Half a body is no body: the call is not made."""
    gate = Gate("sqlite://")
    token = gate.tokens.create(name="t")
    app = behind(gate, Mount("/auth", management(gate)))
    scope = scope_of(
        path=f"/auth/tokens/{token.token.id}/deactivate",
        method="POST",
        headers=bearer(gate.tokens.create(name="a", scopes=["*"]).secret),
    )
    coming = [{"type": "http.request", "body": b"", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return coming.pop(0)

    async def send(_: Any) -> None:
        pass

    asyncio.run(app(scope, receive, send))
    assert gate.verify(token.secret).kind == "token"


def test_the_body_is_read_only_after_the_caller_may_call() -> None:
    """And no more of it than the call allows."""
    gate = Gate("sqlite://")
    app = behind(gate, Mount("/auth", management(gate)))
    received: list[int] = []

    async def receive() -> Any:
        received.append(1)
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    async def run(secret: str) -> int:
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        headers = bearer(secret, ("content-type", "application/json"))
        await app(scope_of(path="/auth/tokens", method="POST", headers=headers), receive, send)
        return int(messages[0]["status"])

    assert asyncio.run(run("junk")) == 401
    assert asyncio.run(run(gate.tokens.create(name="a").secret)) == 403
    assert received == []
    assert asyncio.run(run(gate.tokens.create(name="a", scopes=["*"]).secret)) == 413
    assert len(received) == 17


APP = """
import os
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from faregate import Gate, path
from faregate_asgi import GateMiddleware
from faregate_starlette import management, requires

gate = Gate(os.environ["STORE"], trusted_proxies=os.environ.get("TRUSTED", "").split())

@requires("docs:read", on=path("doc_id"))
async def document(request):
    return JSONResponse({"document": request.path_params["doc_id"], "for": request.user.identity, "worker": os.getpid()})

asgi = Starlette(routes=[Route("/docs/{doc_id}", document), Mount("/auth", management(gate))],
                 middleware=[Middleware(GateMiddleware, gate=gate)])
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    "server", ["uvicorn --no-proxy-headers --workers 2 --port {port} {module}:asgi", "granian"]
)
def test_every_worker_sees_every_change_of_a_share_at_once(tmp_path: Path, server: str) -> None:
    """Extended or revoked in another process: the next request with its secret and with what was redeemed knows."""
    (tmp_path / "served.py").write_text(APP)
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)
    with serving(server, "served", tmp_path, STORE=store) as address:

        def answers(secret: str, url: str = "/docs/a") -> list[tuple[int, str]]:
            told = [
                exchange(address, "GET", url, [("Authorization", f"Bearer {secret}")])
                for _ in range(6)
            ]
            return sorted({(status, json.loads(body).get("code", "")) for status, _, body in told})

        for _ in range(5):
            made = gate.shares.create("a", scopes=["docs:read"], expires_in=3600)
            body = json.dumps({"secret": made.secret}).encode()
            status, _, redeemed = exchange(
                address,
                "POST",
                f"/auth/shares/{made.share.id}/redeem",
                [("Content-Type", "application/json")],
                body,
            )
            assert status == 200
            secrets = (made.secret, json.loads(redeemed)["token"])
            assert [answers(secret) for secret in secrets] == [[(200, "")]] * 2
            assert [answers(secret, "/docs/b") for secret in secrets] == [
                [(403, "object_not_shared")]
            ] * 2
            gate.shares.update(made.share.id, params={"scopes": ["docs:write"]})
            assert [answers(secret) for secret in secrets] == [[(403, "insufficient_scope")]] * 2
            gate.shares.update(made.share.id, params={"scopes": ["docs:read"]}, expires_in=7200)
            assert [answers(secret) for secret in secrets] == [[(200, "")]] * 2
            gate.shares.revoke(made.share.id)
            assert [answers(secret) for secret in secrets] == [[(401, "revoked")]] * 2
    gate.close()


@pytest.mark.processes
def test_trap_18_uvicorn_rewrites_the_peer_from_what_a_client_sends(tmp_path: Path) -> None:
    """By default it believes its own host: then whatever it hands on is text; a gate without proxies adds no belief."""
    (tmp_path / "served.py").write_text(APP)
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)
    secret = gate.tokens.create(
        name="a", scopes=["docs:read"], allowed_cidr_blocks=["10.0.0.0/8"]
    ).secret

    def status(address: tuple[str, int], *forwarded: str) -> int:
        lines = [("X-Forwarded-For", line) for line in forwarded]
        return exchange(address, "GET", "/docs/a", [("Authorization", f"Bearer {secret}"), *lines])[
            0
        ]

    rewriting = "uvicorn --port {port} {module}:asgi"
    with serving(rewriting, "served", tmp_path, STORE=store) as address:
        assert [
            status(address, *lines)
            for lines in ((), ("10.0.0.1",), ("junk",), ("10.0.0.1, 192.0.2.1",))
        ] == [
            403,
            200,
            403,
            403,
        ]
    with serving("uvicorn", "served", tmp_path, STORE=store) as address:
        assert [status(address, *lines) for lines in ((), ("10.0.0.1",))] == [403, 403]
    with serving("uvicorn", "served", tmp_path, STORE=store, TRUSTED="127.0.0.1") as address:
        # Traps 3 and 4: all lines count, from the right.
        forged = [
            (),
            ("10.0.0.1",),
            ("10.0.0.1", "192.0.2.1"),
            ("192.0.2.1", "10.0.0.1"),
            ("10.0.0.1, 192.0.2.1",),
        ]
        assert [status(address, *lines) for lines in forged] == [403, 200, 403, 200, 403]
    gate.close()


def test_requests_of_many_loops_share_a_gate() -> None:
    """Several event loops, one after the other and at once: nothing belongs to a loop that is gone."""
    gate = Gate("sqlite://")
    app = behind(gate, Mount("/auth", management(gate)))
    admin = gate.tokens.create(name="a", scopes=["*"]).secret
    for backend in ("asyncio", "trio", "asyncio"):
        assert (
            ask(app, scope_of(path="/auth/tokens", headers=bearer(admin)), backend=backend).status
            == 200
        )

    async def many() -> list[int]:
        scopes = [scope_of(path="/auth/tokens", headers=bearer(admin)) for _ in range(30)]
        return [
            answered.status
            for answered in await asyncio.gather(*(send_to(app, scope) for scope in scopes))
        ]

    assert asyncio.run(many()) == [200] * 30
