"""Last uses outlive the SIGTERM of real servers, as far as these let the process see its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from real_servers import exchange, serving

from faregate import Gate

pytestmark = pytest.mark.processes

MODULE = """
import os, signal, sys
from faregate import AUTHENTICATED, Gate
import faregate_asgi, faregate_wsgi
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

gate = Gate(os.environ["STORE"])
rules = {"/": AUTHENTICATED}
routes = [Route("/", lambda request: PlainTextResponse("hello"))]
asgi = faregate_asgi.GateMiddleware(Starlette(routes=routes), gate=gate, rules=rules)
inside = Starlette(routes=routes, middleware=[Middleware(faregate_asgi.GateMiddleware, gate=gate, rules=rules)])


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


wsgi = faregate_wsgi.GateMiddleware(hello, gate=gate, rules=rules)
if os.environ.get("TERM_EXITS"):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
"""
GUNICORN = "gunicorn --bind 127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("uvicorn", {}),
        ("uvicorn --port {port} {module}:inside", {}),
        ("uvicorn --port {port} --workers 2 {module}:asgi", {}),
        ("granian", {}),
        (GUNICORN + " -k uvicorn_worker.UvicornWorker {module}:asgi", {}),
        ("hypercorn --bind 127.0.0.1:{port} {module}:asgi", {}),
        ("gunicorn", {}),
        (GUNICORN + " --preload -k gthread --threads 2 {module}:wsgi", {}),
        ("waitress", {"TERM_EXITS": "1"}),
    ],
)
def test_last_uses_outlive_sigterm(
    tmp_path: Path, command: str, environment: dict[str, Any]
) -> None:
    """The use of a request just before the signal is in the store when the server is gone."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(url)
    issued = gate.tokens.create(name="a")
    (tmp_path / "served.py").write_text(MODULE)
    with serving(command, "served", tmp_path, STORE=url, **environment) as address:
        status, _, _ = exchange(
            address, "GET", "/", [("Authorization", f"Bearer {issued.secret}")], timeout=60
        )
        assert status == 200
    assert gate.tokens.get(issued.token.id).last_used_at is not None
    gate.close()
