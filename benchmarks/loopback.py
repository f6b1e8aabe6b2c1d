"""Measures the CPU time of a request to a server over loopback.

A server of the bare application and a server of the same application behind the gate run at the
same time. Both answer in turns, over connections that are kept open. The token expires.
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
from frameworks import DAY, add_routes, flask_app, hello, view
from measure import Figure
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from faregate import Gate
from faregate_asgi import GateMiddleware
from faregate_flask import Faregate
from faregate_starlette import requires

STORE = "BENCH_STORE"
ROUNDS = 40
REQUESTS = 150  # in each round
PATIENCE = 30  # seconds for a server to start, or to answer

# Commands, with places for the kind of application and the port.
UVICORN = "uvicorn --factory loopback:starlette_{} --log-level error --port {}"
GUNICORN = (
    "gunicorn loopback:flask_{}() --threads 1 --keep-alive 60 --log-level error -b 127.0.0.1:{}"
)

# The bound is a multiple of the bare application.
SERVERS = {
    "uvicorn": (UVICORN, 1.15),
    "gunicorn": (GUNICORN, 1.20),
}


def servers() -> list[Figure]:
    """Return the CPU time of a guarded request to each server, as a multiple of a bare one."""
    figures: list[Figure] = []
    for name, (command, bound) in SERVERS.items():
        bare, guarded = _fastest(command)
        figures += [
            Figure(f"{name}, bare", bare * 1e6, "µs of CPU"),
            Figure(f"{name}, token with an end", guarded / bare, "× bare", bound),
        ]
    return figures


def _fastest(command: str) -> list[float]:
    """Return the seconds of CPU of a request to the bare and to the guarded application."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        store = f"sqlite:///{folder}/servers.db"
        with closing(Gate(store)) as gate:
            issued = gate.tokens.create(name="bench", scopes=["docs:read"], expires_in=DAY)

        clients = [
            Client(stack, command, kind, store, issued.secret) for kind in ("bare", "guarded")
        ]
        fastest = [float("inf")] * len(clients)
        for _ in range(ROUNDS):
            for index, client in enumerate(clients):
                fastest[index] = min(fastest[index], client.cost())

    return fastest


class Client:
    """Runs a server of one kind of application, and keeps a connection to it."""

    def __init__(
        self, stack: ExitStack, command: str, kind: str, store: str, credential: str
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        arguments = [sys.executable, "-m", *command.format(kind, port).split()]
        environment = {**os.environ, STORE: store, "PYTHONPATH": str(Path(__file__).parent)}
        self._server = stack.enter_context(subprocess.Popen(arguments, env=environment))  # noqa: S603  from above
        stack.callback(self._server.terminate)

        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        stack.callback(self._connection.close)
        self._headers = {"Authorization": f"Bearer {credential}"}
        self._wait()

    def cost(self) -> float:
        """Return the seconds of CPU that a request takes."""
        before = self._cpu_seconds()
        for _ in range(REQUESTS):
            self._request()
        return (self._cpu_seconds() - before) / REQUESTS

    def _wait(self) -> None:
        """Return once the server answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._request()
            except OSError:
                self._connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def _request(self) -> None:
        self._connection.request("GET", "/", headers=self._headers)
        response = self._connection.getresponse()
        if (response.status, response.read()) != (200, b"hello"):
            raise AssertionError(response.status)

    def _cpu_seconds(self) -> float:
        """Return the seconds that all threads of the server and of its workers have run."""
        server = str(self._server.pid)
        workers = Path(f"/proc/{server}/task/{server}/children").read_text().split()

        nanoseconds = 0
        for process in (server, *workers):
            for thread in Path(f"/proc/{process}/task").iterdir():
                nanoseconds += int((thread / "schedstat").read_text().split()[0])
        return nanoseconds / 1e9


def starlette_bare() -> Starlette:
    """Return a Starlette application without a gate."""
    return Starlette(routes=[Route("/", view)])


def starlette_guarded() -> Starlette:
    """Return the same application behind the gate of the store in ``BENCH_STORE``."""
    gate = Gate(os.environ[STORE])
    return Starlette(
        routes=[Route("/", requires("docs:read")(view))],
        middleware=[Middleware(GateMiddleware, gate=gate)],
    )


def flask_bare() -> Flask:
    """Return a Flask application without a gate."""
    return flask_app(hello)


def flask_guarded() -> Flask:
    """Return the same application behind the gate of the store in ``BENCH_STORE``."""
    app = Flask("bench")
    app.config["FAREGATE_STORE"] = os.environ[STORE]
    faregate = Faregate(app)
    add_routes(app, faregate.requires("docs:read")(hello))
    return app
