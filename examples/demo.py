"""The main job, walked through over real HTTP: ``make demo``.

Starts the document service on a free port of the loopback address, with its tokens in a SQLite file, makes
the first token with the command line, and prints each request, its answer, and what that shows. Then the
service stays open until Ctrl-C; with ``DEMO_ONCE=1`` it ends, with 0 only if every answer was as it should be.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

HERE = Path(__file__).resolve().parent
TEN = "10.0.0.0/8"
PATIENCE = 30.0  # seconds for the service to answer for the first time


class Walk:
    """Speaks to the service and remembers whether every answer was the expected one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.failures = 0

    def step(
        self, shows: str, expected: int, method: str, path: str, token: str | None = None, body: object = None
    ) -> dict[str, Any]:
        """Send a request, print one line about it, and return the JSON of its answer."""
        status, answer = send(f"{self.url}{path}", method, token, body)
        code = answer.get("code", "")
        right = status == expected
        self.failures += not right
        mark = "ok  " if right else f"WRONG, expected {expected}:"
        print(f"{mark} {method + ' ' + shorten(path):<40} {status} {code:<22} {shows}")
        return answer

    def create(self, admin: str, shows: str, **members: object) -> dict[str, Any]:
        """Create a token over HTTP and return it, the secret with it."""
        return self.step(shows, 201, "POST", "/auth/tokens", admin, members)


def main() -> int:
    """Start the service, walk, and return the exit code."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
        environment = {**os.environ, "FAREGATE_STORE": f"sqlite:///{folder}/documents.db"}
        reserved.close()
        serve = [sys.executable, "-m", "flask", "--app", str(HERE / "flask_app.py"), "run", "--port", str(port)]
        with Path(folder, "service.log").open("wb") as log:
            service = subprocess.Popen(serve, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(service, url)
            print(f"The document service runs at {url}, its tokens in {folder}/documents.db\n")
            admin = first_token(environment)
            failures = walk(Walk(url), admin)
            print("\nEvery answer was as it should be." if not failures else f"\n{failures} answers were wrong.")
            if os.environ.get("DEMO_ONCE") != "1":
                stay(service, url, admin)
        finally:
            service.terminate()
            service.wait()
    return 1 if failures else 0


def first_token(environment: dict[str, str]) -> str:
    """Make the first token on the command line, as an operator would."""
    command = ["token", "create", "--name", "operator", "--scope", "*"]
    print(f"$ faregate {' '.join(command).replace('*', chr(39) + '*' + chr(39))}")
    made = subprocess.run(
        [sys.executable, "-m", "faregate", *command], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    print()
    return made.stdout.strip()


def walk(walk: Walk, admin: str) -> int:
    """Take every step and return how many answers were wrong."""
    plan = "/docs/plan"
    walk.step("without a token nobody gets in", 401, "GET", plan)
    reader = walk.create(admin, "a token that reads documents", name="reader", scopes=["docs:read"])
    walk.step("with the token it opens", 200, "GET", plan, reader["token"])
    walk.step("reading is not writing", 403, "PUT", plan, reader["token"], "Close it.")
    away = walk.create(
        admin, "one for another network", name="away", scopes=["docs:read"], allowedCidrBlocks=["10.0.0.0/8"]
    )
    walk.step("127.0.0.1 is not in 10.0.0.0/8", 403, "GET", plan, away["token"])
    itself = f"/auth/tokens/{reader['id']}"
    walk.step("an operator closes it", 200, "POST", f"{itself}/deactivate", admin, {"reason": "demo"})
    walk.step("the very next request is refused", 401, "GET", plan, reader["token"])
    walk.step("and opens it again", 200, "POST", f"{itself}/activate", admin)
    walk.step("it opens again", 200, "GET", plan, reader["token"])
    rotated = walk.step("a new secret, all else stays", 200, "POST", f"{itself}/rotate", admin)
    walk.step("the old secret is dead", 401, "GET", plan, reader["token"])
    walk.step("the new one opens", 200, "GET", plan, rotated["token"])
    brief = walk.create(admin, "one for a second", name="brief", scopes=["docs:read"], expiresIn=1)
    walk.step("inside its second it opens", 200, "GET", plan, brief["token"])
    time.sleep(1.1)
    walk.step("then it has expired", 401, "GET", plan, brief["token"])
    walk.step("the operator deletes the token", 204, "DELETE", itself, admin)
    walk.step("and it is gone", 401, "GET", plan, rotated["token"])
    return walk.failures


def stay(service: subprocess.Popen[bytes], url: str, admin: str) -> None:
    """Leave the service open for a person to try, until Ctrl-C."""
    print(f"\nThe service stays open. Try:\n  curl -i -H 'Authorization: Bearer {admin}' {url}/docs/plan")
    print(f"  curl -H 'Authorization: Bearer {admin}' {url}/auth/tokens\nCtrl-C ends it.")
    try:
        service.wait()
    except KeyboardInterrupt:
        print()


def send(url: str, method: str, token: str | None, body: object) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON of an answer; an empty mapping where it has none."""
    request = Request(url, method=method)  # noqa: S310  the URL is the loopback one made above
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    if body is not None:
        request.add_header("Content-Type", "application/json")
        request.data = json.dumps(body).encode()
    try:
        with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310  the URL is the loopback one made above
            return answer.status, json.loads(answer.read() or b"{}")
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"{}")


def wait_for(service: subprocess.Popen[bytes], url: str) -> None:
    """Return once the service answers; fail if it ends or does not begin."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and service.poll() is None:
        try:
            send(f"{url}/healthz", "GET", None, None)
        except URLError:
            time.sleep(0.05)
        else:
            return
    sys.exit("The service did not start.")


def shorten(path: str) -> str:
    """Return a path with the middle of a token's id left out, so that a line stays a line."""
    parts = path.split("/")
    return "/".join(part if len(part) < 30 else f"{part[:4]}…{part[-4:]}" for part in parts)


if __name__ == "__main__":
    sys.exit(main())
