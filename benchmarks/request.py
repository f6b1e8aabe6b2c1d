"""What the gate costs in front of Starlette, beside Starlette's own middleware with a dictionary.

Three applications with one route each answer the same request in turns in one process, without a socket: the
bare route; Starlette's ``AuthenticationMiddleware`` with a dictionary of SHA-256 digests behind its backend, and
its ``@requires``; the gate's middleware over a SQLite file, and its ``@requires``. The medians of the ratios to
the bare route count. Exits 1 if the gate costs more than Starlette's own.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from peers import Backend
from starlette.applications import Starlette
from starlette.authentication import requires as starlettes_requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from faregate import Gate
from faregate_asgi import GateMiddleware
from faregate_starlette import requires

if TYPE_CHECKING:
    from starlette.requests import Request

ROUNDS = 41
CALLS = 400


async def view(request: Request[Any]) -> PlainTextResponse:
    """Answer with a few bytes."""
    del request
    return PlainTextResponse("hello")


def main() -> int:
    """Print the figures and return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(f"sqlite:///{Path(folder) / 'gate.db'}")
        ratios = measure(gate)
        gate.close()
    for name, ratio in ratios.items():
        print(f"{name:32} {ratio:.2f} times the bare route")
    return 0 if ratios["faregate"] <= ratios["Starlette with a dictionary"] else 1


def measure(gate: Gate) -> dict[str, float]:
    """Return the median ratio of each guarded application to the bare one."""
    secret = gate.tokens.create(name="bench", scopes=["docs:read"]).secret
    known = {sha256(secret.encode()).digest(): ("bench", ["docs:read"])}
    bare = Starlette(routes=[Route("/", view)])
    guarded = {
        "Starlette with a dictionary": Starlette(
            routes=[Route("/", starlettes_requires(["authenticated", "docs:read"])(view))],
            middleware=[Middleware(AuthenticationMiddleware, backend=Backend(known))],
        ),
        "faregate": Starlette(
            routes=[Route("/", requires("docs:read")(view))], middleware=[Middleware(GateMiddleware, gate=gate)]
        ),
    }
    for app in (bare, *guarded.values()):
        run(app, secret)
    ratios: dict[str, list[float]] = {name: [] for name in guarded}
    for _ in range(ROUNDS):
        floor = run(bare, secret)
        for name, app in guarded.items():
            ratios[name].append(run(app, secret) / floor)
    return {name: median(measured) for name, measured in ratios.items()}


def run(app: Starlette, secret: str) -> float:
    """Return the seconds that one request takes."""
    return asyncio.run(answer(app, secret)) / CALLS


async def answer(app: Starlette, secret: str) -> float:
    """Send the same request again and again; return the seconds that took."""
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {secret}".encode()), (b"accept", b"*/*")]
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

    begun = time.perf_counter()
    for _ in range(CALLS):
        await app(dict(scope), receive, send)
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
