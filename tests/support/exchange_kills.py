"""Kills a server and its clients at every step of an exchange of refresh tokens.

``python exchange_kills.py <folder> <kills>`` serves an application on a socket. One client after
the other exchanges its refresh token, and uses the access token it gets. In turns, the server or
the client is killed with signal 9 at each step of an exchange: before a statement, before and
after the commit, before and after each write of the client. The killed process is started again
and must recover. At the end the script prints its counts as JSON.
:mod:`test_refresh_processes` runs it; ``make soak`` runs it for longer.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
from flask import Flask
from sqlalchemy import event
from sqlalchemy.engine import Engine
from werkzeug.serving import make_server

from faregate import Gate
from faregate.client import RefreshAuth
from faregate.client.token_endpoint import TokenEndpoint
from faregate.lifecycles.refresh_tokens import RefreshTokens
from faregate_flask import Faregate

FOLDER, KILLS = Path(sys.argv[1]), int(sys.argv[2])
STORE, KEPT, LOG, ORDER = (
    f"sqlite:///{FOLDER / 'gate.db'}",
    FOLDER / "kept",
    FOLDER / "log",
    FOLDER / "order",
)
SERVER_STEPS, CLIENT_STEPS = 16, 23  # more than there are: who lives through them is killed at none


class Steps:
    """Counts steps, and kills the process at the given step."""

    def __init__(self, last: int) -> None:
        self.left = last

    def __call__(self, *_: Any, **__: Any) -> None:
        """Count a step."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def watched(call: Callable[..., Any], step: Steps) -> Callable[..., Any]:
    """Return the call with a step before and a step after it."""

    def watching(*arguments: Any, **named: Any) -> Any:
        step()
        answer = call(*arguments, **named)
        step()
        return answer

    return watching


def serve(listener: socket.socket) -> None:
    """Serve until killed. The exchange that finds an order is killed at the ordered step."""
    app = Flask(__name__)
    app.config["FAREGATE_STORE"] = STORE
    faregate = Faregate(app)
    app.register_blueprint(faregate.management(), url_prefix="/auth")
    app.add_url_rule("/x", "x", faregate.requires("a")(lambda: "x"))
    step = Steps(0)
    for name in ("before_cursor_execute", "commit"):
        event.listen(Engine, name, step)
    exchange = RefreshTokens.exchange

    def exchanging(self: RefreshTokens, credential: str, *rest: Any) -> Any:
        if ORDER.exists():
            step.left = int(ORDER.read_text())
            ORDER.unlink()
        answer = exchange(self, credential, *rest)
        pair = [
            sha256(text.encode()).hexdigest() for text in (credential, str(answer.refresh_token))
        ]
        with LOG.open("a") as log:
            log.write(" ".join(pair) + "\n")
        step()
        step.left = 0
        return answer

    RefreshTokens.exchange = exchanging  # type: ignore[assignment,method-assign]
    make_server("127.0.0.1", 0, app, fd=listener.fileno()).serve_forever()


def visit(url: str, last: int) -> None:
    """Exchange the saved refresh token and use the answer; killed at the given step, if it is reached."""
    step = Steps(last)
    for name in ("open", "write", "fsync", "replace"):
        setattr(os, name, watched(getattr(os, name), step))
    TokenEndpoint._post = watched(TokenEndpoint._post, step)  # type: ignore[method-assign]
    auth = RefreshAuth(f"{url}/auth/token", KEPT)
    with httpx2.Client(auth=auth) as client:
        first = json.loads(KEPT.read_text())["access_token"]
        auth.access_token(rejected=first)
        client.get(f"{url}/x").raise_for_status()


def forked(call: Callable[..., None], *arguments: Any) -> int:
    """Start a process that makes the call; return its pid."""
    process = os.fork()
    if process == 0:
        try:
            call(*arguments)
        except BaseException as error:  # noqa: BLE001  whatever it was is told, and is a failure
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return process


def step_of(number: int, steps: int) -> int:
    """Return the step of a kill. Kills are spread evenly over the steps, from the last to the first."""
    return steps - number * steps // KILLS


def main() -> None:
    """Kill and restart in turns, and print the counts."""
    gate = Gate(STORE)
    made = gate.tokens.create(name="session", type="REFRESH", scopes=["a"])
    gate.close()
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    RefreshAuth(f"{url}/auth/token", KEPT).keep(made.secret)
    server = forked(serve, listener)
    killed, failed = {"server": 0, "client": 0}, 0
    for number in range(KILLS):
        at_server = number % 2 == 0
        if at_server:
            ORDER.write_text(str(step_of(number, SERVER_STEPS)))
        forked(visit, url, 0 if at_server else step_of(number, CLIENT_STEPS))
        while True:
            ended, status = os.wait()
            if ended != server:
                break
            killed["server"] += 1
            server = forked(serve, listener)
        if os.WIFSIGNALED(status):
            killed["client"] += 1
            _, status = os.waitpid(forked(visit, url, 0), 0)
        failed += status != 0
    os.kill(server, signal.SIGKILL)
    exchanges = [tuple(line.split()) for line in LOG.read_text().splitlines()]
    successors: dict[str, set[str]] = {}
    for presented, successor in exchanges:
        successors.setdefault(presented, set()).add(successor)
    with gate._store.reading() as reading:
        current = reading.tokens.current_digest(made.token.id)
        secrets = reading._connection.exec_driver_sql(
            "SELECT count(*) FROM faregate_secrets"
        ).scalar_one()
    kept = json.loads(KEPT.read_text())["refresh_token"]
    told = {
        "killed": killed,
        "failed": failed,
        "exchanges": len(exchanges),
        "repeated": len(exchanges) - len(set(exchanges)),
        "twins": sum(len(them) > 1 for them in successors.values()),
        "secrets": secrets,
        "in step": current is not None and current.hex() == sha256(kept.encode()).hexdigest(),
        "audit": [one.action for one in gate.audit().items],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
