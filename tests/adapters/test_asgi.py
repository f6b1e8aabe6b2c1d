"""The ASGI middleware beyond the rows: scopes in Starlette's shapes, what it leaves alone, and that it never waits."""

from __future__ import annotations

import asyncio
import io
import logging
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from asgi_client import ask, scope_of, send_to
from asgiref.wsgi import WsgiToAsgi
from conftest import Clock
from django.conf import settings as django_settings
from django.core.handlers.asgi import ASGIRequest
from starlette.applications import Starlette
from starlette.authentication import requires as starlettes_requires
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from faregate import AUTHENTICATED, PUBLIC, Denied, Gate, InvalidInput, Misconfigured, Owner
from faregate.credentials.presented import RequestValues
from faregate.errors import REASONS, WouldWait
from faregate_asgi import GateMiddleware
from faregate_starlette import management

if not django_settings.configured:
    django_settings.configure()


def bearer(secret: str) -> list[tuple[bytes, bytes]]:
    """The header line of a credential."""
    return [(b"authorization", f"Bearer {secret}".encode())]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An application that says hello."""
    await PlainTextResponse("hello")(scope, receive, send)


def test_lifespan_is_untouched() -> None:
    """It passes with the very scope and receive, and whatever the application sends."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend((scope, receive))
        await send({"type": "lifespan.startup.complete"})

    async def send(message: Any) -> None:
        seen.append(message)

    scope, receive = {"type": "lifespan"}, object()
    middleware = GateMiddleware(app, gate=Gate("sqlite://"), rules={})
    asyncio.run(middleware(scope, receive, send))  # type: ignore[arg-type]
    assert seen == [scope, receive, {"type": "lifespan.startup.complete"}]
    assert seen[0] is scope
    assert scope == {"type": "lifespan"}


@pytest.mark.parametrize("said", ["lifespan.shutdown.complete", "lifespan.shutdown.failed", None])
def test_lifespan_ends_with_the_uses_written(said: str | None) -> None:
    """Before the server hears of the end; off the event loop; and the gate stays open for others."""
    gate = Gate("sqlite://")
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)
    threads: list[int] = []
    written: list[bool] = []
    flush = gate._usage.flush

    def watched() -> None:
        threads.append(threading.get_ident())
        flush()

    async def app(_: Any, __: Any, send: Any) -> None:
        if said is not None:
            await send({"type": said})

    async def send(message: Any) -> None:
        assert message == {"type": said}
        written.append(gate.tokens.get(issued.token.id).last_used_at is not None)

    gate._usage.flush = watched  # type: ignore[method-assign]
    asyncio.run(GateMiddleware(app, gate=gate)({"type": "lifespan"}, object(), send))  # type: ignore[arg-type]
    assert written == ([True] if said else [])
    assert gate.tokens.get(issued.token.id).last_used_at is not None
    assert threads
    assert threading.get_ident() not in threads
    assert gate.verify(issued.secret).id == issued.token.id


def test_lifespan_that_an_application_does_not_know_is_refused_as_before() -> None:
    """The server sees the very exception, by which it knows that."""
    told = ValueError("unknown scope type")

    async def app(*_: Any) -> None:
        raise told

    with pytest.raises(ValueError, match="unknown scope") as raised:
        asyncio.run(
            GateMiddleware(app, gate=Gate("sqlite://"))({"type": "lifespan"}, object(), object())  # type: ignore[arg-type]
        )
    assert raised.value is told


def test_trap_2_a_protocol_that_is_not_known_stays_shut() -> None:
    """What is neither a request nor a WebSocket is not let through unjudged."""
    with pytest.raises(Misconfigured, match="webtransport"):
        asyncio.run(
            GateMiddleware(hello, gate=Gate("sqlite://"))({"type": "webtransport"}, None, None)  # type: ignore[arg-type]
        )


def test_users_and_scopes_have_starlettes_shapes() -> None:
    """``request.user`` and ``request.auth`` as Starlette has them, with wildcards, and with nothing for nobody."""
    gate = Gate("sqlite://")
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["user"], scope["auth"]))
        await hello(scope, receive, send)

    middleware = GateMiddleware(app, gate=gate)
    secret = gate.tokens.create(
        name="a", scopes=["docs:*", "x"], owner=Owner(id="u1", name="Ada")
    ).secret
    share = gate.shares.create("o", scopes=["x"], expires_in=60).secret
    for headers in (bearer(secret), [], bearer("junk"), bearer(share)):
        ask(middleware, scope_of(headers=headers))
    (user, auth), (nobody, nothing), (junk, _), (holder, shared) = seen
    assert (user.is_authenticated, user.display_name, user.identity) == (True, "Ada", "u1")
    for name in ("authenticated", "x", "docs:read", "docs:read:draft"):
        assert name in auth.scopes
    strange: object
    for strange in ("docs", "docs:*", "*", "", "y", "gate:admin", 5, None, "\n"):
        assert strange not in auth.scopes
    assert list(auth.scopes) == ["authenticated", "x"]
    assert (nobody.is_authenticated, nobody.display_name, nobody.identity) == (False, "", "")
    assert list(nothing.scopes) == []
    assert "authenticated" not in nothing.scopes
    assert nobody.denied.reason == "missing_credential"
    assert junk.denied.reason == "unknown_credential"
    assert (nobody.allows("x"), nobody.allowed_objects("x")) == (False, frozenset())
    with pytest.raises(Denied, match="unknown_credential"):
        junk.require("x")
    assert list(shared.scopes) == ["authenticated"]
    assert "x" not in shared.scopes
    assert holder.allows("x", on="o")


def test_trap_14_starlettes_own_requires_works() -> None:
    """Its decorator asks the scopes that the middleware leaves; ours answers with a challenge."""
    gate = Gate("sqlite://")

    @starlettes_requires(["authenticated", "docs:read"])
    async def view(request: Request) -> JSONResponse:
        return JSONResponse({"for": request.user.identity})

    app = Starlette(routes=[Route("/", view)], middleware=[Middleware(GateMiddleware, gate=gate)])
    for scopes, status in ((["docs:*"], 200), (["docs:read"], 200), (["docs"], 403), ([], 403)):
        secret = gate.tokens.create(name="a", scopes=scopes).secret
        assert ask(app, scope_of(headers=bearer(secret))).status == status
    assert ask(app, scope_of()).status == 403
    guarded = Starlette(
        routes=[Route("/", view)],
        middleware=[Middleware(GateMiddleware, gate=gate, rules={"/": "docs:read"})],
    )
    missing = ask(guarded, scope_of())
    assert (missing.status, missing.headers["www-authenticate"]) == (401, 'Bearer realm="faregate"')
    assert (
        ask(guarded, scope_of(headers=bearer("a") * 2)).headers["content-type"]
        == "application/problem+json"
    )


def test_trap_1_mounts_are_judged_on_the_path_that_their_router_sees() -> None:
    """A gate inside a mount sees the rest of the path, one outside the whole."""
    gate = Gate("sqlite://")
    secret = gate.tokens.create(name="a", scopes=["inner"]).secret

    async def view(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.url.path)

    inner = Starlette(
        routes=[Route("/a", view)],
        middleware=[Middleware(GateMiddleware, gate=gate, rules={"/a": "inner"})],
    )
    outer = Starlette(routes=[Mount("/m", inner), Route("/a", view)])
    assert ask(outer, scope_of(path="/m/a")).status == 401
    assert ask(outer, scope_of(path="/m/a", headers=bearer(secret))).status == 200
    assert ask(outer, scope_of(path="/root/m/a", root_path="/root")).status == 401
    assert (
        ask(outer, scope_of(path="/root/m/a", root_path="/root", headers=bearer(secret))).status
        == 200
    )
    around = GateMiddleware(outer, gate=gate, rules={"/m/": PUBLIC, "/a": PUBLIC})
    assert ask(around, scope_of(path="/m/a")).status == 401
    assert ask(around, scope_of(path="/a")).status == 200


def test_trap_13_a_denial_of_the_application_is_answered() -> None:
    """A Denied from ``scope["user"].require`` is a 403 with all that belongs to it, never a 500."""
    gate = Gate("sqlite://")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["user"].require("docs:write", on="x")
        await hello(scope, receive, send)

    secret = gate.tokens.create(name="a", scopes=["docs:read"]).secret
    denied = ask(GateMiddleware(app, gate=gate), scope_of(headers=bearer(secret)))
    assert (denied.status, denied.headers["www-authenticate"]) == (
        403, 'Bearer realm="faregate", error="insufficient_scope", scope="docs:write"',
    )  # fmt: skip
    assert ask(GateMiddleware(app, gate=gate), scope_of()).status == 401

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        scope["user"].require("docs:write")

    # Where an answer was begun it is for the server to say that it is too late.
    begun: list[Any] = []

    async def strict(message: Any) -> None:
        if begun:
            raise RuntimeError(message["type"])
        begun.append(message)

    with pytest.raises(RuntimeError, match=r"http\.response\.start") as raised:
        asyncio.run(GateMiddleware(late, gate=gate)(scope_of(), None, strict))  # type: ignore[arg-type]
    assert isinstance(raised.value.__context__, Denied)


def test_trap_13_preflight_is_answered_by_what_stands_outside() -> None:
    """CORS middleware outside of the gate answers a preflight without the gate and without the view."""
    from starlette.middleware.cors import CORSMiddleware

    gate = Gate("sqlite://")
    called: list[str] = []

    async def view(_: Request) -> PlainTextResponse:
        called.append("view")
        return PlainTextResponse("x")

    cors = Middleware(
        CORSMiddleware, allow_origins=["https://app.example"], allow_headers=["Authorization"]
    )
    app = Starlette(
        routes=[Route("/a", view)],
        middleware=[cors, Middleware(GateMiddleware, gate=gate, rules={"/a": "x"})],
    )
    preflight = [(b"origin", b"https://app.example"), (b"access-control-request-method", b"GET")]
    answered = ask(app, scope_of(path="/a", method="OPTIONS", headers=preflight))
    assert (answered.status, called) == (200, [])
    denied = ask(app, scope_of(path="/a", headers=[(b"origin", b"https://app.example")]))
    assert (denied.status, denied.headers["access-control-allow-origin"]) == (
        401,
        "https://app.example",
    )


def test_trap_15_an_expiry_is_announced() -> None:
    """In a header of its own that scripts of other origins may read; Deprecation and Sunset are about resources."""
    gate = Gate("sqlite://", clock=Clock())
    app = GateMiddleware(hello, gate=gate)
    brief = gate.tokens.create(name="a", expires_in=60).secret
    headers = ask(app, scope_of(headers=bearer(brief))).headers
    assert headers["faregate-token-expires"] == "1970-01-12T13:47:40Z"
    assert headers["access-control-expose-headers"] == "Faregate-Token-Expires"
    assert not {"deprecation", "sunset"} & set(headers)
    forever = gate.tokens.create(name="a").secret
    assert "faregate-token-expires" not in ask(app, scope_of(headers=bearer(forever))).headers
    assert "faregate-token-expires" not in ask(app, scope_of()).headers


def test_trap_18_a_peer_is_text_that_may_be_anything() -> None:
    """What a server hands on as the peer opens no list, and makes no error."""
    gate = Gate("sqlite://", trusted_proxies=["127.0.0.1"])
    secret = gate.tokens.create(name="a", allowed_cidr_blocks=["10.0.0.0/8"]).secret
    guarded = GateMiddleware(hello, gate=gate, rules={"/": AUTHENTICATED})
    for client in (
        None,
        ("", 0),
        ("unknown", 0),
        ("10.0.0.1, evil", 1),
        ("<script>", 1),
        ("10.0.0.1\n", 1),
        ("10.0.0.999", 1),
        ["_hidden", 1],
        [],
        (b"10.0.0.1", 1),
        (b"", 1),
        (["10.0.0.1"], 1),
        (None, None),
        (10, 1),
    ):
        answered = ask(guarded, scope_of(headers=bearer(secret), client=client))
        assert (answered.status, b"address_" in answered.body) == (403, True)
    assert ask(guarded, scope_of(headers=bearer(secret), client=("10.0.0.1", 1))).status == 200


def test_trap_26_a_unix_socket_in_a_scope() -> None:
    """Nothing, an empty text, or a word for a socket is the peer that ``unix`` trusts; bytes and lists are not."""
    gate = Gate("sqlite://", trusted_proxies=["unix"])
    secret = gate.tokens.create(name="a", allowed_cidr_blocks=["10.0.0.0/8"]).secret
    guarded = GateMiddleware(hello, gate=gate, rules={"/": AUTHENTICATED})
    headers = [*bearer(secret), (b"x-forwarded-for", b"10.0.0.1")]
    client: Any
    for client in (
        None,
        (),
        ("", 0),
        ("", "0"),
        ["unix", None],
        ("unix:", 0),
        ("unix:/run/x.sock", 0),
        (None, None),
        ("0.0.0.0", 0),  # noqa: S104
    ):
        assert ask(guarded, scope_of(headers=headers, client=client)).status == 200, client
    for client in (
        (b"", 0),
        (b"unix:", 0),
        ([], 0),
        (0, 0),
        "unix:",
        ("/run/x.sock", 0),
        ("127.0.0.1", 0),
    ):
        assert ask(guarded, scope_of(headers=headers, client=client)).status == 403, client


def test_a_header_remote_user_is_removed() -> None:
    """In every spelling and on every way in; the other headers are those of the server, in their order."""
    gate = Gate("sqlite://")
    secret = gate.tokens.create(name="a", owner=Owner(id="u1")).secret
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["headers"])
        if scope["type"] == "http":
            await hello(scope, receive, send)

    kept = [
        (b"x-remote-user", b"proxy"),
        (b"remote-host", b"h"),
        (b"x-client-ip", b"i"),
        (b"x-forwarded-user", b"f"),
    ]
    forged = [
        (name, b"root")
        for name in (b"remote-user", b"remote_user", b"Remote-User", b"REMOTE_USER", b"Remote_user")
    ]
    mixed = [*forged[:2], *kept, *forged[2:]]
    rules: Any
    for rules, credential in (
        (None, bearer(secret)), (None, bearer(secret)), (None, []), (None, bearer("junk")), ({"/": PUBLIC}, []),
        ({"/": PUBLIC}, bearer(secret)), ({"/": AUTHENTICATED}, bearer(secret)), ({"/x": "x"}, bearer(secret)),
    ):  # fmt: skip
        default: Any = "identify" if rules == {"/x": "x"} else None
        middleware = GateMiddleware(app, gate=gate, rules=rules, default=default)
        for kind in ("http", "websocket"):
            for members in ({"headers": [*credential, *mixed]}, {"headers": (*mixed, *credential)}):
                seen.clear()
                ask(middleware, scope_of(kind, **members))
                assert [line for line in seen[0] if line[0] != b"authorization"] == kept, (
                    rules,
                    kind,
                )
    untouched = [*bearer(secret), *kept]
    ask(GateMiddleware(app, gate=gate), scope_of(headers=untouched))
    assert seen[-1] is untouched


def test_many_headers_remote_user_are_removed_at_once() -> None:
    """However many there are: they are told by their names, and compared with no others."""

    class Line(tuple[bytes, bytes]):
        __slots__ = ()

        def __eq__(self, _: object) -> bool:
            raise AssertionError("twenty thousand lines would be compared with as many")

        __hash__ = tuple.__hash__

    scope = scope_of(
        headers=[Line((b"remote-user", str(number).encode())) for number in range(20_000)]
    )
    assert ask(GateMiddleware(hello, gate=Gate("sqlite://")), scope).status == 200


def test_what_becomes_of_remote_user_in_django_and_behind_a_bridge() -> None:
    """Django's ASGI requests and asgiref's bridge to WSGI have no HTTP_REMOTE_USER of a client."""
    gate = Gate("sqlite://")
    told: list[dict[str, Any]] = []

    async def django(scope: Any, receive: Any, send: Any) -> None:
        told.append(ASGIRequest(scope, io.BytesIO()).META)
        await hello(scope, receive, send)

    def bridged(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        told.append(environ)
        start_response("200 OK", [])
        return [b""]

    headers = [(b"remote-user", b"root"), (b"remote_user", b"root"), (b"x-forwarded-user", b"ann")]
    for app in (django, WsgiToAsgi(bridged)):  # type: ignore[no-untyped-call]
        assert ask(GateMiddleware(app, gate=gate), scope_of(headers=headers)).status == 200
        assert told[-1]["HTTP_X_FORWARDED_USER"] == "ann"
        assert not {"REMOTE_USER", "HTTP_REMOTE_USER"} & set(told[-1])
        assert ask(app, scope_of(headers=headers)).status == 200
        assert "HTTP_REMOTE_USER" in told[-1]  # as it is without the gate


def test_the_log_names_the_rule_and_not_the_path(caplog: pytest.LogCaptureFixture) -> None:
    """A path that a client chose may hold a secret; one record a denial."""
    caplog.set_level(logging.DEBUG, "faregate")
    gate = Gate("sqlite://")
    app = GateMiddleware(hello, gate=gate, rules={"/a/": "x", "/b": "x"})
    for path in ("/a/secret", "/b", "/c/secret", "/a//secret"):
        assert ask(app, scope_of(path=path)).status == 401
    assert ask(app, scope_of("websocket", path="/a/secret")).closed == 1008
    assert [record.getMessage().rpartition("route=")[2] for record in caplog.records] == [
        "'GET /a/'", "'GET /b'", "'GET -'", "'GET -'", "'WEBSOCKET /a/'",
    ]  # fmt: skip


def test_rules_that_cannot_be_meant_are_refused() -> None:
    """Wildcards, parameters, ambiguous paths, and what is no need."""
    gate = Gate("sqlite://")
    rules: Any
    for rules in (
        {"a": "x"}, {"": "x"}, {"/a/*": "x"}, {"/a/{id}": "x"}, {"/a/<id>": "x"}, {"/a//b": "x"}, {"/a/../b": "x"}, {"/a?b": "x"},
        {"/a%20b": "x"}, {"/a\\b": "x"}, {5: "x"}, {"/a": []}, {"/a": None}, {"/a": 5}, {"/a": "a b"}, {"/a": "docs:*"}, {"/a": ["x", 5]}, [("/a", "x")],
        {"/a": True}, {"/a": [PUBLIC]},
    ):  # fmt: skip
        with pytest.raises(InvalidInput):
            GateMiddleware(hello, gate=gate, rules=rules)
    with pytest.raises(InvalidInput, match="default"):
        GateMiddleware(hello, gate=gate, default="allow")  # type: ignore[arg-type]


def test_an_exact_rule_guards_its_path_with_a_slash_too() -> None:
    """An exact rule counts for its path with a final slash: some routers ignore the slash."""
    gate = Gate("sqlite://")
    app = GateMiddleware(
        hello,
        gate=gate,
        rules={"/": PUBLIC, "/admin": "admin", "/open": PUBLIC, "/own": "x", "/own/": PUBLIC},
    )
    answers = {
        path: ask(app, scope_of(path=path)).status
        for path in ("/admin", "/admin/", "/x/", "/open/", "/own/", "/adminx/")
    }
    assert answers == {
        "/admin": 401,
        "/admin/": 401,
        "/x/": 200,
        "/open/": 200,
        "/own/": 200,
        "/adminx/": 200,
    }
    closed = GateMiddleware(hello, gate=gate, rules={"/": "x", "/open": PUBLIC})
    assert ask(closed, scope_of(path="/open/")).status == 401


def test_a_credential_elsewhere_is_private() -> None:
    """A 2xx to a credential in the query is private, unless the view says something else."""
    gate = Gate("sqlite://", query=True)
    secret = gate.tokens.create(name="a").secret

    async def own(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("x", headers={"Cache-Control": "no-cache"})(scope, receive, send)

    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("x", 404)(scope, receive, send)

    told = [
        ask(
            GateMiddleware(app, gate=gate), scope_of(query_string=f"access_token={secret}".encode())
        ).headers
        for app in (hello, own, wrong)
    ]
    assert [headers.get("cache-control") for headers in told] == ["private", "no-cache", None]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_would_wait_is_done_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """The first look-up opens the database, in a worker thread; a known credential and a short look-up need none."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    secrets = [gate.tokens.create(name="a").secret for _ in range(3)]
    hops: list[int] = []
    original = to_thread.run_sync

    async def counted(*arguments: Any, **options: Any) -> Any:
        hops.append(1)
        return await original(*arguments, **options)

    monkeypatch.setattr(to_thread, "run_sync", counted)
    app = GateMiddleware(hello, gate=gate)
    for secret in (secrets[0], secrets[0], secrets[1], secrets[2]):
        assert ask(app, scope_of(headers=bearer(secret)), backend=backend).status == 200
    assert len(hops) == 1
    gate.tokens.deactivate(gate.verify(secrets[0]).id)
    assert (
        ask(app, scope_of(headers=bearer(secrets[0])), backend=backend).status == 200
    )  # identified as nobody
    assert len(hops) == 1
    gate.close()


def test_nothing_is_waited_for(tmp_path: Path) -> None:
    """With ``wait=False`` a lock that is held, or a database that is busy, is said to be in the way."""
    path = tmp_path / "gate.db"
    gate = Gate(f"sqlite:///{path}")
    secret = gate.tokens.create(name="a").secret
    texts = RequestValues([f"Bearer {secret}"], None)
    with pytest.raises(WouldWait):
        gate.requests.identify(texts, wait=False)
    gate.verify(secret)
    assert gate.requests.identify(texts, wait=False)[0].kind == "token"
    other = gate.tokens.create(name="b").secret
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with gate._records._lock:
            held.set()
            go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with pytest.raises(WouldWait):
        gate.requests.identify(RequestValues([f"Bearer {other}"], None), wait=False)
    go.set()
    thread.join()
    assert (
        gate.requests.identify(RequestValues([f"Bearer {other}"], None), wait=False)[0].kind
        == "token"
    )
    # Many changes are read in a thread, too.
    for _ in range(300):
        gate.tokens.update(gate.verify(other).id, name=str(time.monotonic_ns()))
    behind = Gate(f"sqlite:///{path}")
    behind.verify(secret)
    for number in range(300):
        gate.tokens.update(gate.verify(other).id, name=str(number))
    with pytest.raises(WouldWait):
        behind.requests.identify(texts, wait=False)
    assert behind.verify(secret).kind == "token"
    # Outside of WAL mode a writer stands in a reader's way.
    gate.close()
    behind.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    behind.verify(secret)
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(WouldWait):
        behind.requests.identify(texts, wait=False)
    connection.execute("ROLLBACK")
    connection.close()
    behind.close()
    gate.close()


LOCKER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(1.2)
connection.execute("ROLLBACK")
print("free", flush=True)
"""


@pytest.mark.processes
def test_the_event_loop_never_waits_for_a_writer(tmp_path: Path) -> None:
    """While another process holds the write lock for a second, requests are answered and the loop does not lag.

    So is the one that presents a new secret for the first time, of which there is something to write.
    """
    path = tmp_path / "gate.db"
    gate = Gate(f"sqlite:///{path}")
    secrets = [gate.tokens.create(name="a").secret for _ in range(400)]
    rotated = gate.tokens.rotate("self", by=gate.verify(secrets.pop())).secret
    share = gate.shares.create("x", scopes=["a"], expires_in=3600)
    app = Starlette(
        routes=[Mount("/auth", management(gate))],
        middleware=[Middleware(GateMiddleware, gate=gate)],
    )
    lags: list[float] = []
    presented: list[int] = []

    async def present() -> None:
        presented.append(
            (await send_to(app, scope_of(path="/nowhere", headers=bearer(rotated)))).status
        )

    async def probe(stop: anyio.Event) -> None:
        while not stop.is_set():
            begun = time.perf_counter()
            await anyio.sleep(0.005)
            lags.append(time.perf_counter() - begun - 0.005)

    async def run() -> tuple[float, int]:
        stop, done = anyio.Event(), 0
        locker = await anyio.to_thread.run_sync(
            lambda: subprocess.Popen(
                [sys.executable, "-c", LOCKER, str(path)], stdout=subprocess.PIPE
            )
        )
        assert locker.stdout is not None
        await anyio.to_thread.run_sync(locker.stdout.readline)
        redeem = scope_of(
            path=f"/auth/shares/{share.share.id}/redeem",
            method="POST",
            headers=[(b"content-type", b"application/json")],
        )
        async with anyio.create_task_group() as group:
            group.start_soon(probe, stop)
            begun = time.perf_counter()
            for _ in range(3):  # writers, which do wait, in threads
                group.start_soon(
                    send_to, app, dict(redeem), f'{{"secret": "{share.secret}"}}'.encode()
                )
            group.start_soon(present)
            while time.perf_counter() - begun < 1.0:
                secret = secrets[done % len(secrets)] if done % 3 else "fg_tok_junk"
                await send_to(app, scope_of(path="/nowhere", headers=bearer(secret)))
                done += 1
                await anyio.sleep(0.001)
            lag = max(lags)
            # By the application, and before its presentation could be written.
            assert presented == [404]
            assert gate._store.presented
            stop.set()
        locker.wait()
        locker.stdout.close()
        return lag, done

    lag, done = anyio.run(run)
    assert gate.shares.get(share.share.id).redemptions == 3
    assert done > 100
    assert lag < 0.25  # a busy machine pauses anybody; a wait for the lock would be a second
    gate.close()


def test_reasons_are_statuses_over_asgi(tmp_path: Path) -> None:
    """A store that is gone is 503 with Retry-After, over HTTP and WebSocket."""
    path = tmp_path / "gate.db"
    gate = Gate(f"sqlite:///{path}")
    secret = gate.tokens.create(name="a").secret
    gate.close()
    path.rename(tmp_path / "away")
    app = GateMiddleware(hello, gate=gate, rules={"/": AUTHENTICATED})
    answered = ask(app, scope_of(headers=bearer(secret)))
    assert (answered.status, answered.headers["retry-after"]) == (
        REASONS["store_unavailable"].status,
        "1",
    )
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    assert (
        ask(app, scope_of("websocket", headers=bearer(secret), extensions=extensions)).status == 503
    )
    (tmp_path / "away").rename(path)
    assert ask(app, scope_of(headers=bearer(secret))).status == 200
    gate.close()
