"""The WSGI middleware beyond the rows: what the application is told, what is taken away, and what is passed on."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock
from real_servers import exchange, serving
from werkzeug.test import Client, EnvironBuilder, TestResponse

from faregate import AUTHENTICATED, PUBLIC, Denied, Gate, Owner
from faregate_wsgi import GateMiddleware


def show(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """An application that tells what it was told."""
    names = (
        "REMOTE_USER",
        "AUTH_TYPE",
        "HTTP_REMOTE_USER",
        "faregate.principal",
        "faregate.denied",
    )
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({name: str(environ[name]) for name in names if name in environ}).encode()]


def ask(app: Any, path: str = "/", secret: str | None = None, **environ: Any) -> TestResponse:
    """The answer to a request."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return Client(app, TestResponse).get(path, headers=headers, environ_overrides=environ)


def test_what_the_server_is_believed_to_say_is_the_gates() -> None:
    """REMOTE_USER and AUTH_TYPE are the gate's or are not there; a header Remote-User never is."""
    gate = Gate("sqlite://")
    secret = gate.tokens.create(name="a", owner=Owner(id="u1")).secret
    app = GateMiddleware(show, gate=gate)
    forged = {
        "REMOTE_USER": "root", "AUTH_TYPE": "Basic", "HTTP_REMOTE_USER": "root", "faregate.principal": "root", "faregate.denied": "x",
    }  # fmt: skip
    known = ask(app, secret=secret, **forged).get_json()
    assert (known["REMOTE_USER"], known["AUTH_TYPE"]) == ("u1", "Bearer")
    assert "HTTP_REMOTE_USER" not in known
    nobody = ask(app, **forged).get_json()
    assert set(nobody) == {"faregate.principal", "faregate.denied"}
    assert nobody["faregate.principal"] == "None"
    assert nobody["faregate.denied"].startswith("missing_credential")
    public = ask(GateMiddleware(show, gate=gate, rules={"/": PUBLIC}), **forged).get_json()
    assert "REMOTE_USER" not in public


@pytest.mark.parametrize("status", [402, 429, 499])
def test_a_denial_may_have_another_status(status: int) -> None:
    """Also one that has no name."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        denied = Denied("insufficient_scope", "Come back later.")
        denied.status, denied.error = status, None
        raise denied

    answer = ask(GateMiddleware(application, gate=Gate("sqlite://")))
    assert (answer.status_code, answer.get_json()["detail"]) == (status, "Come back later.")


def test_streams_are_passed_through() -> None:
    """A list, an iterator and a generator come as they are; what is open is closed."""
    gate = Gate("sqlite://")
    closed: list[str] = []
    yielded: list[int] = []

    class Stream:
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"

        def close(self) -> None:
            closed.append("stream")

    stream = Stream()

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return stream

    def generator(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            for number in range(3):
                yielded.append(number)
                yield b"%d" % number
        finally:
            closed.append("generator")

    def empty(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("204 No Content", [])
        yield from ()

    environ = EnvironBuilder("/").get_environ()
    assert GateMiddleware(application, gate=gate)(dict(environ), lambda *_: None) is stream
    answer: Any = GateMiddleware(generator, gate=gate)(dict(environ), lambda *_: None)
    assert yielded == [0]  # no further than it takes to know that it raises nothing
    chunks = iter(answer)
    assert [next(chunks), next(chunks)] == [b"0", b"1"]
    answer.close()
    assert closed == ["generator"]
    assert list(GateMiddleware(empty, gate=gate)(dict(environ), lambda *_: None)) == []


def test_trap_13_a_denial_of_the_application_is_answered() -> None:
    """A Denied from a function or a generator is its status with its challenge, never a 500."""
    gate = Gate("sqlite://")

    def function(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["faregate.principal"].require("docs:write", on="x")
        return show(environ, start_response)

    def generator(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        environ["faregate.principal"].require("docs:write")
        start_response("200 OK", [])
        yield b"x"

    def begun(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        environ["faregate.principal"].require("docs:write")
        return []

    secret = gate.tokens.create(name="a", scopes=["docs:read"]).secret
    for application in (function, generator):
        answer = ask(GateMiddleware(application, gate=gate), secret=secret)
        assert (answer.status_code, answer.get_json()["code"]) == (403, "insufficient_scope")
        assert (
            answer.headers["WWW-Authenticate"]
            == 'Bearer realm="faregate", error="insufficient_scope", scope="docs:write"'
        )

    told: list[Any] = []
    environ = {**EnvironBuilder("/").get_environ(), "HTTP_AUTHORIZATION": f"Bearer {secret}"}
    GateMiddleware(begun, gate=gate)(environ, lambda *arguments: told.append(arguments))
    assert [(arguments[0], len(arguments)) for arguments in told] == [
        ("200 OK", 2),
        ("403 Forbidden", 3),
    ]
    assert told[1][2][0] is Denied

    def sorry(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise environ["faregate.denied"]

    assert ask(GateMiddleware(sorry, gate=gate)).status_code == 401


def test_what_the_gate_has_to_tell_is_added() -> None:
    """Traps 15 and 20: the expiry, and private for a credential in the query; quoted realms."""
    gate = Gate("sqlite://", query=True, clock=Clock(), realm="my api")
    secret = gate.tokens.create(name="a", expires_in=60).secret
    app = GateMiddleware(show, gate=gate, rules={"/": AUTHENTICATED})
    answer = ask(app, f"/?access_token={secret}")
    assert answer.headers["Cache-Control"] == "private"
    assert answer.headers["Faregate-Token-Expires"] == "1970-01-12T13:47:40Z"
    assert ask(app).headers["WWW-Authenticate"] == 'Bearer realm="my api"'


def test_the_mount_point_itself_is_the_root() -> None:
    """An empty PATH_INFO is what routers take for "/"."""
    gate = Gate("sqlite://")
    app = GateMiddleware(show, gate=gate, rules={"/": AUTHENTICATED}, default="identify")
    environ = {**EnvironBuilder("/").get_environ(), "SCRIPT_NAME": "/app", "PATH_INFO": ""}
    told: list[str] = []
    app(dict(environ), lambda status, _: told.append(status))
    secret = gate.tokens.create(name="a").secret
    app(
        {**environ, "HTTP_AUTHORIZATION": f"Bearer {secret}"}, lambda status, _: told.append(status)
    )
    assert told == ["401 Unauthorized", "200 OK"]


def test_bytes_that_are_no_text_are_judged_all_the_same() -> None:
    """Paths, queries and headers of any bytes: no error, and no way in."""
    gate = Gate("sqlite://", query=True, cookie="__Host-fg", header="X-API-Key")
    app = GateMiddleware(show, gate=gate, rules={"/a": AUTHENTICATED})
    junk = bytes(range(128, 256)).decode("latin-1")
    for environ in (
        {"PATH_INFO": "/\xff\xfe"}, {"QUERY_STRING": f"access_token={junk}"}, {"HTTP_COOKIE": f"__Host-fg={junk}"}, {"HTTP_X_API_KEY": junk},
        {"HTTP_AUTHORIZATION": f"Bearer {junk}"}, {"QUERY_STRING": "%ff%fe=%&access_token=%ff"}, {"REMOTE_ADDR": junk},
        {"HTTP_X_FORWARDED_FOR": junk}, {"HTTP_ORIGIN": junk}, {"QUERY_STRING": "access_token=\ud800"},
    ):  # fmt: skip
        whole = {**EnvironBuilder("/a").get_environ(), **environ}
        told: list[str] = []
        app(whole, lambda status, _, told=told: told.append(status))
        assert told[0][:3] in ("400", "401", "403"), environ


APP = """
import os
from faregate import AUTHENTICATED, Gate
from faregate_wsgi import GateMiddleware

def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]

gate = Gate(os.environ["STORE"], trusted_proxies=["127.0.0.1"])
wsgi = GateMiddleware(hello, gate=gate, rules={"/": AUTHENTICATED})
"""


@pytest.mark.processes
@pytest.mark.parametrize("server", ["gunicorn", "waitress"])
def test_trap_19_what_servers_make_of_two_lines(tmp_path: Path, server: str) -> None:
    """Two credentials are two, however a server joins them; lines of the forwarded header count from the right."""
    (tmp_path / "served.py").write_text(APP)
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)
    one, two = (
        gate.tokens.create(name="a", allowed_cidr_blocks=["10.0.0.0/8"]).secret for _ in range(2)
    )

    with serving(server, "served", tmp_path, STORE=store) as address:

        def status(*headers: tuple[str, str]) -> int:
            return exchange(address, "GET", "/a", headers)[0]

        mine, near = ("Authorization", f"Bearer {one}"), ("X-Forwarded-For", "10.0.0.1")
        assert status(mine, near) == 200
        assert status(mine, ("Authorization", f"Bearer {two}"), near) == 400
        assert status(mine, mine, near) == 400
        assert status(near) == 401
        assert status(mine) == 403
        assert status(mine, near, ("X-Forwarded-For", "192.0.2.1")) == 403  # traps 3 and 4
        assert status(mine, ("X-Forwarded-For", "192.0.2.1"), near) == 200
        assert status(mine, ("X-Forwarded-For", "10.0.0.1, 192.0.2.1")) == 403
        assert status(("Authorization", ""), near) == 401  # trap 12
        assert status(("Authorization", "Bearer "), near) == 400  # trap 12
    gate.close()


def test_an_application_may_raise_what_it_likes() -> None:
    """Other errors pass through, and so does a Denied once the answer has begun."""
    gate = Gate("sqlite://")

    def broken(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise KeyError

    with pytest.raises(KeyError):
        ask(GateMiddleware(broken, gate=gate))

    def late(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        raise Denied("insufficient_scope")

    environ = EnvironBuilder("/", input_stream=io.BytesIO()).get_environ()
    chunks = iter(GateMiddleware(late, gate=gate)(environ, lambda *_: None))
    assert next(chunks) == b"begun"
    with pytest.raises(Denied):
        next(chunks)
