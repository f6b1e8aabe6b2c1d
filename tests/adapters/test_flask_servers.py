"""Flask behind a real server on a real socket: prefork workers, and headers as a server hands them on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from faregate import Gate

pytestmark = pytest.mark.processes

APP = """
import os
from flask import Flask
from faregate_flask import Faregate, current_principal

app = Flask(__name__)
app.config["FAREGATE_STORE"] = os.environ["FAREGATE_STORE"]
faregate = Faregate(app)
used = faregate.gate.tokens.create(name="before the fork")
faregate.gate.verify(used.secret)  # connections, caches and threads are open when the server forks

@app.get("/a")
@faregate.requires("docs:read")
def a():
    return {"for": current_principal.id, "worker": os.getpid()}
"""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run gunicorn with four preloaded workers, and yield its address."""
    (folder / "app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--preload",
        "--workers",
        "4",
        "--bind",
        f"127.0.0.1:{port}",
        "app:app",
    ]
    environment = {**os.environ, "FAREGATE_STORE": f"sqlite:///{folder / 'gate.db'}"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while (
            time.monotonic() < deadline and (folder / "log").read_text().count("Booting worker") < 4
        ):
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


def ask(address: str, *authorization: str) -> tuple[int, dict[str, Any]]:
    """Send one request on a connection of its own, a header line for each value; return status and JSON."""
    connection = HTTPConnection(address, timeout=30)
    connection.putrequest("GET", "/a")
    for value in authorization:
        connection.putheader("Authorization", value)
    connection.endheaders()
    with closing(connection), connection.getresponse() as answer:
        return answer.status, json.loads(answer.read())


def test_every_worker_sees_every_change_at_once(tmp_path: Path) -> None:
    """Gunicorn --preload, four workers, curl: after an acknowledged change no worker decides on the old state."""
    with serving(tmp_path) as address:
        gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
        workers: set[int] = set()
        issued = gate.tokens.create(name="a", scopes=["docs:read"])
        header = f"Bearer {issued.secret}"
        deadline = time.monotonic() + 30
        while len(workers) < 4 and time.monotonic() < deadline:
            status, answer = ask(address, header)
            assert (status, answer["for"]) == (200, issued.token.id)
            workers.add(answer["worker"])
        assert len(workers) == 4
        for _ in range(10):
            gate.tokens.deactivate(issued.token.id)
            assert [ask(address, header)[1].get("code") for _ in range(6)] == ["deactivated"] * 6
            gate.tokens.activate(issued.token.id)
            assert [ask(address, header)[0] for _ in range(6)] == [200] * 6
        gate.close()


def test_headers_as_a_server_hands_them_on(tmp_path: Path) -> None:
    """Two Authorization lines, joined by the server, are two credentials."""
    with serving(tmp_path) as address:
        gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
        one, two = (gate.tokens.create(name="a", scopes=["docs:read"]).secret for _ in range(2))
        assert ask(address)[1]["code"] == "missing_credential"
        assert ask(address, f"Bearer {one}")[0] == 200
        for second in (f"Bearer {two}", f"Bearer {one}", "Basic dGVzdDp0ZXN0"):
            status, answer = ask(address, f"Bearer {one}", second)
            assert status == 400
            assert answer.get("code", "multiple_credentials") == "multiple_credentials"
        gate.close()
