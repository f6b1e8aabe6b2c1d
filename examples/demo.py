"""The main job, walked through over real HTTP: ``make demo``.

Starts the document service twice on free ports of the loopback address, on Flask and on Starlette, both over one
SQLite file, makes the first token with the command line, and prints each request, its answer, and what that
shows: tokens first, in front of Flask, then shares, in front of Starlette, then a refresh token, and at last why
somebody was refused.
Then the services stay open until Ctrl-C; with ``DEMO_ONCE=1`` they end, with 0 only if every answer was as it
should be.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Generator

HERE = Path(__file__).resolve().parent
TEN = "10.0.0.0/8"
PATIENCE = 30.0  # seconds for the service to answer for the first time


class Walk:
    """Speaks to the service and remembers whether every answer was the expected one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.failures = 0

    def step(
        self,
        shows: str,
        expected: int,
        method: str,
        path: str,
        token: str | None = None,
        body: object = None,
    ) -> dict[str, Any]:
        """Send a request, print one line about it, and return the JSON of its answer."""
        status, answer = send(f"{self.url}{path}", method, token, body)
        code = answer.get("code") or answer.get("error", "")
        right = status == expected
        self.failures += not right
        mark = "ok  " if right else f"WRONG, expected {expected}:"
        print(f"{mark} {method + ' ' + shorten(path):<42} {status} {code:<22} {shows}")
        return answer

    def exchange(self, shows: str, expected: int, refresh_token: str) -> dict[str, Any]:
        """Exchange a refresh token for an access token and the next refresh token, with a form of OAuth."""
        form = urlencode({"grant_type": "refresh_token", "refresh_token": refresh_token}).encode()
        return self.step(shows, expected, "POST", "/auth/token", body=form)

    def create(self, admin: str, shows: str, **members: object) -> dict[str, Any]:
        """Create a token over HTTP and return it, the secret with it."""
        return self.step(shows, 201, "POST", "/auth/tokens", admin, members)


def main() -> int:
    """Start the services, walk, and return the exit code."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        environment = {**os.environ, "FAREGATE_STORE": f"sqlite:///{folder}/documents.db"}
        flask = ["flask", "--app", str(HERE / "flask_app.py"), "run", "--port", "{port}"]
        starlette = ["uvicorn", "--app-dir", str(HERE), "--port", "{port}", "starlette_app:app"]
        first = running.enter_context(service(flask, environment, folder))
        second = running.enter_context(service(starlette, environment, folder))
        print(f"The document service runs at {first} (Flask) and {second} (Starlette),")
        print(f"the tokens and shares of both in {folder}/documents.db\n")
        admin = first_token(environment)
        failures = walk(Walk(first), admin)
        print("\nA document is shared by link, at the other service:\n")
        failures += walk_shares(Walk(second), admin)
        print("\nA user stays logged in, and his refresh token is stolen:\n")
        failures += walk_refresh(Walk(first), admin)
        print("\nThe operator asks why somebody does not get in, and what was done last:\n")
        failures += ask(environment)
        print(
            "\nEvery answer was as it should be."
            if not failures
            else f"\n{failures} answers were wrong."
        )
        if os.environ.get("DEMO_ONCE") != "1":
            stay(first, admin)
    return 1 if failures else 0


@contextmanager
def service(command: list[str], environment: dict[str, str], folder: str) -> Generator[str]:
    """Run a service on a free port, and yield its address once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    arguments = [sys.executable, "-m", *(word.format(port=port) for word in command)]
    with Path(folder, f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)
    try:
        wait_for(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def first_token(environment: dict[str, str]) -> str:
    """Make the first token on the command line, as an operator would."""
    made = command(environment, "token", "create", "--name", "operator", "--scope", "*")
    print(made.stderr)
    return made.stdout.strip()


def ask(environment: dict[str, str]) -> int:
    """Have a refusal explained and the audit shown, on the command line; return how many exit codes were wrong."""
    made = command(environment, "token", "create", "--name", "away", "--cidr", "10.0.0.0/8")
    print()
    told = command(
        environment, "check", "--address", "127.0.0.1", "--scope", "docs:read", stdin=made.stdout
    )
    print(told.stdout)
    seen = command(environment, "audit", "--limit", "4")
    print(seen.stdout, end="")
    return (told.returncode != 1) + (seen.returncode != 0)


def command(
    environment: dict[str, str], *words: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Print a command of ``faregate`` and run it."""
    print(f"$ faregate {shlex.join(words)}")
    program = [sys.executable, "-m", "faregate", *words]
    return subprocess.run(
        program, env=environment, check=False, capture_output=True, text=True, input=stdin
    )


def walk(walk: Walk, admin: str) -> int:
    """Take every step and return how many answers were wrong."""
    plan = "/docs/plan"
    walk.step("without a token nobody gets in", 401, "GET", plan)
    reader = walk.create(admin, "a token that reads documents", name="reader", scopes=["docs:read"])
    walk.step("with the token it opens", 200, "GET", plan, reader["token"])
    walk.step("reading is not writing", 403, "PUT", plan, reader["token"], "Close it.")
    away = walk.create(
        admin,
        "one for another network",
        name="away",
        scopes=["docs:read"],
        allowedCidrBlocks=["10.0.0.0/8"],
    )
    walk.step("127.0.0.1 is not in 10.0.0.0/8", 403, "GET", plan, away["token"])
    itself = f"/auth/tokens/{reader['id']}"
    walk.step(
        "an operator closes it", 200, "POST", f"{itself}/deactivate", admin, {"reason": "demo"}
    )
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


def walk_shares(walk: Walk, admin: str) -> int:
    """Share a document, redeem, extend and revoke the share; return how many answers were wrong."""
    plan, budget = "/docs/plan", "/docs/budget"
    share = walk.step(
        "the operator shares one document for a minute",
        201, "POST", "/auth/shares", admin, {"objectId": "plan", "scopes": ["docs:read"], "expiresIn": 60},
    )  # fmt: skip
    secret, itself = share["secret"], f"/auth/shares/{share['id']}"
    walk.step("its secret opens the document", 200, "GET", plan, secret)
    walk.step("as a link, too", 200, "GET", f"{plan}?access_token={secret}")
    walk.step("and no other one", 403, "GET", budget, secret)
    redeemed = walk.step(
        "whoever has the secret redeems it",
        200,
        "POST",
        f"{itself}/redeem",
        body={"secret": secret},
    )
    token = redeemed["token"]
    walk.step("for a token of minutes, which opens it", 200, "GET", plan, token)
    walk.step("and no other one", 403, "GET", budget, token)
    walk.step("a share does not write", 403, "PUT", plan, token, "Close it.")
    walk.step("nor does it share", 403, "POST", "/auth/shares", token, {})
    walk.step("the operator extends it", 200, "PATCH", itself, admin, {"expiresIn": 3600})
    walk.step("both go on", 200, "GET", plan, secret)
    walk.step("both go on", 200, "GET", plan, token)
    walk.step("and revokes it", 200, "POST", f"{itself}/revoke", admin)
    walk.step("the very next request is refused", 401, "GET", plan, secret)
    walk.step("with the redeemed token as well", 401, "GET", plan, token)
    once = walk.step(
        "another one, to be redeemed once",
        201, "POST", "/auth/shares", admin,
        {"objectId": "plan", "scopes": ["docs:read"], "expiresIn": 60, "params": {"maxRedemptions": 1}},
    )  # fmt: skip
    walk.step("its secret only redeems", 401, "GET", plan, once["secret"])
    redeem = f"/auth/shares/{once['id']}/redeem"
    walk.step("once", 200, "POST", redeem, body={"secret": once["secret"]})
    walk.step("and not twice", 401, "POST", redeem, body={"secret": once["secret"]})
    return walk.failures


def walk_refresh(walk: Walk, admin: str) -> int:
    """Exchange a refresh token, lose an answer, and use a stolen one; return how many answers were wrong."""
    plan = "/docs/plan"
    login = walk.create(
        admin, "a refresh token for a user", name="session", type="REFRESH", scopes=["docs:read"]
    )
    walk.step("it opens nothing itself", 401, "GET", plan, login["token"])
    first = walk.exchange("it is exchanged for half an hour", 200, login["token"])
    walk.step("with the access token it opens", 200, "GET", plan, first["access_token"])
    again = walk.exchange("an answer that was lost is asked for again", 200, login["token"])
    walk.exchange("the next one takes over", 200, again["refresh_token"])
    walk.exchange("the first one is retired: somebody stole it", 400, login["token"])
    walk.step("so all that came from it is closed", 401, "GET", plan, first["access_token"])
    return walk.failures


def stay(url: str, admin: str) -> None:
    """Leave the services open for a person to try, until Ctrl-C."""
    print(
        f"\nThe services stay open. Try:\n  curl -i -H 'Authorization: Bearer {admin}' {url}/docs/plan"
    )
    print(f"  curl -H 'Authorization: Bearer {admin}' {url}/auth/tokens\nCtrl-C ends it.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()


def send(url: str, method: str, token: str | None, body: object) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON of an answer; an empty mapping where it has none."""
    request = Request(url, method=method)  # noqa: S310  the URL is the loopback one made above
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    if isinstance(body, bytes):
        request.data = body  # a form, as urllib declares it
    elif body is not None:
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
    """Return a path with the middle of an id left out, and without a secret, so that a line stays a line."""
    path, _, secret = path.partition("?access_token=")
    parts = f"{path}?access_token=…".split("/") if secret else path.split("/")
    return "/".join(part if len(part) < 30 else f"{part[:4]}…{part[-4:]}" for part in parts)


if __name__ == "__main__":
    sys.exit(main())
