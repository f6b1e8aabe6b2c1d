"""Walks through the main job over real HTTP: ``make demo``.

The document service starts twice, on Flask and on Starlette, on free ports of the loopback address.
Both share a SQLite file. The first token is made on the command line, as an operator would.

Each step prints a request, its answer, and the rule that it shows:

1. tokens, in front of Flask;
2. shares, in front of Starlette;
3. a refresh token, in front of Flask;
4. an explanation of a refusal, on the command line.

Afterwards the services run until Ctrl-C. With ``DEMO_ONCE=1`` they stop at once. The exit code is 0
if every answer was as expected, else 1.
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
FLASK = ["flask", "--app", str(HERE / "flask_app.py"), "run", "--port", "{port}"]
STARLETTE = ["uvicorn", "--app-dir", str(HERE), "--port", "{port}", "starlette_app:app"]

PLAN = "/docs/plan"
BUDGET = "/docs/budget"
OTHER_NETWORK = "10.0.0.0/8"  # does not hold 127.0.0.1
PATIENCE = 30.0  # seconds for a service to start, or to answer


class Client:
    """Sends requests to a service, and counts the answers that differ from the expected."""

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
        """Send a request, print a line about it, and return the JSON of its answer.

        ``shows`` is the rule that the step shows, and ``expected`` the status of the answer.
        """
        status, answer = send(f"{self.url}{path}", method, token, body)
        code = answer.get("code") or answer.get("error", "")

        mark = "ok  "
        if status != expected:
            mark = f"WRONG, expected {expected}:"
            self.failures += 1

        request = f"{method} {shorten(path)}"
        print(f"{mark} {request:<42} {status} {code:<22} {shows}")
        return answer

    def create(self, admin: str, shows: str, **members: object) -> dict[str, Any]:
        """Create a token over HTTP, and return its record with the secret."""
        return self.step(shows, 201, "POST", "/auth/tokens", admin, members)

    def exchange(self, shows: str, expected: int, refresh_token: str) -> dict[str, Any]:
        """Exchange a refresh token for an access token and the next refresh token.

        The request is the form of RFC 6749, section 6.
        """
        form = urlencode({"grant_type": "refresh_token", "refresh_token": refresh_token}).encode()
        return self.step(shows, expected, "POST", "/auth/token", body=form)


def main() -> int:
    """Start the services, take every step, and return the exit code."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        environment = {**os.environ, "FAREGATE_STORE": f"sqlite:///{folder}/documents.db"}
        flask_url = stack.enter_context(service(FLASK, environment, folder))
        starlette_url = stack.enter_context(service(STARLETTE, environment, folder))

        print(f"The document service runs at {flask_url} (Flask) and {starlette_url} (Starlette).")
        print(f"Both keep their tokens and shares in {folder}/documents.db\n")
        admin = first_token(environment)
        failures = show_tokens(Client(flask_url), admin)

        print("\nAn operator shares a document by link, at the other service:\n")
        failures += show_shares(Client(starlette_url), admin)

        print("\nA user stays logged in, and their refresh token is stolen:\n")
        failures += show_refresh(Client(flask_url), admin)

        print("\nAn operator asks why a token is refused, and lists the last changes:\n")
        failures += show_diagnosis(environment)

        if failures:
            print(f"\n{failures} answers were wrong.")
        else:
            print("\nEvery answer was as it should be.")

        if os.environ.get("DEMO_ONCE") != "1":
            stay(flask_url, admin)

    return 1 if failures else 0


@contextmanager
def service(command: list[str], environment: dict[str, str], folder: str) -> Generator[str]:
    """Run a service on a free port, and yield its URL once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]

    url = f"http://127.0.0.1:{port}"
    arguments = [sys.executable, "-m", *(word.format(port=port) for word in command)]
    with Path(folder, f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)

    try:
        wait_for(process, url)
        yield url
    finally:
        process.terminate()
        process.wait()


def first_token(environment: dict[str, str]) -> str:
    """Make the first token on the command line, and return its secret."""
    created = run(environment, "token", "create", "--name", "operator", "--scope", "*")
    print(created.stderr)
    return created.stdout.strip()


def show_tokens(client: Client, admin: str) -> int:
    """Create, deactivate, rotate and delete tokens; return the number of wrong answers."""
    client.step("without a token: refused", 401, "GET", PLAN)

    reader = client.create(
        admin, "a token that may read documents", name="reader", scopes=["docs:read"]
    )
    record = f"/auth/tokens/{reader['id']}"
    client.step("the token reads", 200, "GET", PLAN, reader["token"])
    client.step("reading is not writing", 403, "PUT", PLAN, reader["token"], "Close it.")

    away = client.create(
        admin,
        "a token for another network",
        name="away",
        scopes=["docs:read"],
        allowedCidrBlocks=[OTHER_NETWORK],
    )
    client.step(f"127.0.0.1 is not in {OTHER_NETWORK}", 403, "GET", PLAN, away["token"])

    # A change counts from the very next request.
    reason = {"reason": "demo"}
    client.step(
        "the operator deactivates the reader", 200, "POST", f"{record}/deactivate", admin, reason
    )
    client.step("the very next request is refused", 401, "GET", PLAN, reader["token"])
    client.step("and activates it again", 200, "POST", f"{record}/activate", admin)
    client.step("the token reads again", 200, "GET", PLAN, reader["token"])

    rotated = client.step("a new secret; the rest stays", 200, "POST", f"{record}/rotate", admin)
    client.step("the old secret is refused", 401, "GET", PLAN, reader["token"])
    client.step("the new secret reads", 200, "GET", PLAN, rotated["token"])

    brief = client.create(
        admin, "a token for a second", name="brief", scopes=["docs:read"], expiresIn=1
    )
    client.step("within the second it reads", 200, "GET", PLAN, brief["token"])
    time.sleep(1.1)
    client.step("then it has expired", 401, "GET", PLAN, brief["token"])

    client.step("the operator deletes the token", 204, "DELETE", record, admin)
    client.step("it is gone", 401, "GET", PLAN, rotated["token"])

    return client.failures


def show_shares(client: Client, admin: str) -> int:
    """Share a document, and redeem, extend and revoke the share; return the wrong answers."""
    members = {"objectId": "plan", "scopes": ["docs:read"], "expiresIn": 60}
    share = client.step(
        "the operator shares a document for a minute", 201, "POST", "/auth/shares", admin, members
    )
    record = f"/auth/shares/{share['id']}"
    secret = share["secret"]
    client.step("the secret opens the document", 200, "GET", PLAN, secret)
    client.step("also as a link", 200, "GET", f"{PLAN}?access_token={secret}")
    client.step("and no other document", 403, "GET", BUDGET, secret)

    redeemed = client.step(
        "the holder redeems the secret", 200, "POST", f"{record}/redeem", body={"secret": secret}
    )
    token = redeemed["token"]
    client.step("for a token that opens the document", 200, "GET", PLAN, token)
    client.step("and no other document", 403, "GET", BUDGET, token)
    client.step("a share cannot write", 403, "PUT", PLAN, token, "Close it.")
    client.step("nor can it share", 403, "POST", "/auth/shares", token, {})

    client.step("the operator extends the share", 200, "PATCH", record, admin, {"expiresIn": 3600})
    client.step("the secret still opens", 200, "GET", PLAN, secret)
    client.step("so does the redeemed token", 200, "GET", PLAN, token)

    client.step("the operator revokes the share", 200, "POST", f"{record}/revoke", admin)
    client.step("the very next request is refused", 401, "GET", PLAN, secret)
    client.step("with the redeemed token as well", 401, "GET", PLAN, token)

    once = client.step(
        "a share that can be redeemed once",
        201,
        "POST",
        "/auth/shares",
        admin,
        {**members, "params": {"maxRedemptions": 1}},
    )
    redeem = f"/auth/shares/{once['id']}/redeem"
    client.step("its secret opens nothing itself", 401, "GET", PLAN, once["secret"])
    client.step("it is redeemed once", 200, "POST", redeem, body={"secret": once["secret"]})
    client.step("but not twice", 401, "POST", redeem, body={"secret": once["secret"]})

    return client.failures


def show_refresh(client: Client, admin: str) -> int:
    """Exchange a refresh token, lose an answer, and steal a token; return the wrong answers."""
    login = client.create(
        admin, "a refresh token for a user", name="session", type="REFRESH", scopes=["docs:read"]
    )
    client.step("it opens nothing itself", 401, "GET", PLAN, login["token"])

    first = client.exchange("it is exchanged for half an hour", 200, login["token"])
    client.step("the access token reads", 200, "GET", PLAN, first["access_token"])

    # A client that lost the answer repeats the exchange. The use of its new token retires the old.
    repeated = client.exchange("a lost answer: the client asks again", 200, login["token"])
    client.exchange("the next refresh token takes over", 200, repeated["refresh_token"])

    client.exchange("the first is used once more: a theft", 400, login["token"])
    client.step("so the whole family is revoked", 401, "GET", PLAN, first["access_token"])

    return client.failures


def show_diagnosis(environment: dict[str, str]) -> int:
    """Explain a refusal and list the audit on the command line; return the wrong exit codes."""
    away = run(environment, "token", "create", "--name", "away", "--cidr", OTHER_NETWORK)
    print()

    check = ["check", "--address", "127.0.0.1", "--scope", "docs:read"]
    explanation = run(environment, *check, stdin=away.stdout)
    print(explanation.stdout)

    audit = run(environment, "audit", "--limit", "4")
    print(audit.stdout, end="")

    # A refusal exits with 1.
    return (explanation.returncode != 1) + (audit.returncode != 0)


def run(
    environment: dict[str, str], *words: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Print a command of ``faregate``, run it, and return its outcome."""
    print(f"$ faregate {shlex.join(words)}")
    arguments = [sys.executable, "-m", "faregate", *words]
    return subprocess.run(
        arguments, env=environment, check=False, capture_output=True, text=True, input=stdin
    )


def stay(url: str, admin: str) -> None:
    """Leave the services running until Ctrl-C, and print commands to try."""
    print("\nThe services keep running. Try:")
    print(f"  curl -i -H 'Authorization: Bearer {admin}' {url}/docs/plan")
    print(f"  curl -H 'Authorization: Bearer {admin}' {url}/auth/tokens")
    print("Ctrl-C stops them.")

    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()


def send(url: str, method: str, token: str | None, body: object) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON of an answer; an answer without a body is an empty mapping.

    A ``body`` of bytes is sent as a form, any other as JSON.
    """
    request = Request(url, method=method)  # noqa: S310  the URL is the loopback one made above
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")

    # urllib declares bytes as a form by itself.
    if isinstance(body, bytes):
        request.data = body
    elif body is not None:
        request.add_header("Content-Type", "application/json")
        request.data = json.dumps(body).encode()

    try:
        with urlopen(request, timeout=PATIENCE) as response:  # noqa: S310  the URL is the loopback one made above
            return response.status, json.loads(response.read() or b"{}")
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"{}")


def wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    """Return once the service answers; exit if it ends, or does not answer in time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            send(f"{url}/healthz", "GET", None, None)
        except URLError:
            time.sleep(0.05)
        else:
            return

    sys.exit("The service did not start.")


def shorten(path: str) -> str:
    """Return a path for print: long ids are shortened, and a secret is left out."""
    path, _, secret = path.partition("?access_token=")
    if secret:
        path = f"{path}?access_token=…"

    return "/".join(
        part if len(part) < 30 else f"{part[:4]}…{part[-4:]}" for part in path.split("/")
    )


if __name__ == "__main__":
    sys.exit(main())
