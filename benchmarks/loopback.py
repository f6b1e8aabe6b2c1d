"""What a request costs a server in CPU time, over loopback: bare, and behind the gate, with a token that has an end.

A server of either kind runs beside the other, and both answer in turns over a connection that is kept open.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from flask import Flask
from frameworks import add_routes, flask_app, hello, view
from measure import Figure
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from faregate import Gate
from faregate_asgi import GateMiddleware
from faregate_flask import Faregate
from faregate_starlette import requires

STORE = "BENCH_STORE"
ROUNDS, REQUESTS = 40, 150
SERVERS = {
    "uvicorn": ("uvicorn --factory loopback:starlette_{} --log-level error --port {}", 1.15),
    "gunicorn": (
        "gunicorn loopback:flask_{}() --threads 1 --keep-alive 60 --log-level error -b 127.0.0.1:{}",
        1.20,
    ),
}


def measured() -> list[Figure]:
    """Return what a request costs each server, as a multiple of what the bare application costs it."""
    figures: list[Figure] = []
    for name, (command, bound) in SERVERS.items():
        with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
            store = f"sqlite:///{folder}/servers.db"
            with closing(Gate(store)) as gate:
                credential = gate.tokens.create(
                    name="bench", scopes=["docs:read"], expires_in=86_400.0
                ).secret
            clients = [
                Client(running, command, kind, store, credential) for kind in ("bare", "guarded")
            ]

            fastest = [float("inf")] * len(clients)
            for _ in range(ROUNDS):
                for index, client in enumerate(clients):
                    fastest[index] = min(fastest[index], client.cost())
        figures += [
            Figure(f"{name}, bare", fastest[0] * 1e6, "µs of CPU"),
            Figure(f"{name}, token with an end", fastest[1] / fastest[0], "× bare", bound),
        ]
    return figures


class Client:
    """A server of one kind, and a connection to it."""

    def __init__(
        self, running: ExitStack, command: str, kind: str, store: str, credential: str
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = [sys.executable, "-m", *command.format(kind, port).split()]
        environment = {**os.environ, STORE: store, "PYTHONPATH": str(Path(__file__).parent)}
        self._server = running.enter_context(subprocess.Popen(arguments, env=environment))  # noqa: S603  from above
        running.callback(self._server.terminate)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        running.callback(self._connection.close)
        self._headers = {"Authorization": f"Bearer {credential}"}
        self._wait()

    def cost(self) -> float:
        """Return the seconds of CPU that a request takes."""
        before = self._seconds()
        for _ in range(REQUESTS):
            self._ask()
        return (self._seconds() - before) / REQUESTS

    def _wait(self) -> None:
        until = time.monotonic() + 30
        while True:
            try:
                self._ask()
            except OSError:
                self._connection.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return

    def _ask(self) -> None:
        self._connection.request("GET", "/", headers=self._headers)
        answer = self._connection.getresponse()
        if (answer.status, answer.read()) != (200, b"hello"):
            raise AssertionError(answer.status)

    def _seconds(self) -> float:
        """Return the seconds that all threads of the server and of its workers have run."""
        workers = (
            Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children").read_text().split()
        )
        processes = [str(self._server.pid), *workers]
        tasks = [task for process in processes for task in Path(f"/proc/{process}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def starlette_bare() -> Starlette:
    """Return an application without a gate."""
    return Starlette(routes=[Route("/", view)])


def starlette_guarded() -> Starlette:
    """Return the application behind the gate of the store that the environment names."""
    gate = Middleware(GateMiddleware, gate=Gate(os.environ[STORE]))
    return Starlette(routes=[Route("/", requires("docs:read")(view))], middleware=[gate])


def flask_bare() -> Flask:
    """Return an application without a gate."""
    return flask_app(hello)


def flask_guarded() -> Flask:
    """Return the application behind the gate of the store that the environment names."""
    app = Flask("bench")
    app.config["FAREGATE_STORE"] = os.environ[STORE]
    add_routes(app, Faregate(app).requires("docs:read")(hello))
    return app
