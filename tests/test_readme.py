"""The README is true: its Python runs as it stands, its shell commands do what they say."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asgi_client import ask, scope_of
from conftest import Clock
from flask import Flask
from identity_provider import jwks, token
from werkzeug.serving import make_server
from werkzeug.test import Client, TestResponse

from faregate import Denied
from faregate.errors import REASONS
from faregate.jwts.keys import read_set
from faregate.management.operations import OPERATIONS
from faregate_flask import Faregate

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
ARCHITECTURE = (ROOT / "docs/design/architecture.md").read_text()
SPECIFICATION = (ROOT / "docs/design/specification.md").read_text()
BLOCKS: dict[str, list[str]] = {
    language: re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    for language in ("python", "shell")
}


def run(source: str) -> dict[str, Any]:
    """Run a block statement by statement; where a comment promises a denial, there must be that one."""
    names: dict[str, Any] = {"__name__": "readme"}
    lines = source.split("\n")
    for statement in ast.parse(source).body:
        comment = lines[(statement.end_lineno or 1) - 1].partition("#")[2]
        promised = re.search(r'Denied: status (\d+), reason "(\w+)"', comment)
        code = compile(ast.Module([statement], []), "README.md", "exec")
        if promised is None:
            exec(code, names)  # noqa: S102  this project's own README
            continue
        with pytest.raises(Denied) as raised:
            exec(code, names)  # noqa: S102  this project's own README
        assert (raised.value.status, raised.value.reason) == (int(promised[1]), promised[2])
    return names


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, in an empty folder, with every denial that they promise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FAREGATE_SECRET", raising=False)
    assert len(BLOCKS["python"]) == 10
    blocks = [block for block in BLOCKS["python"] if "faregate.client" not in block]
    flask, starlette, wsgi, provider, share, refresh, python, rights, login = map(run, blocks)
    assert refresh["app"].test_client().get("/docs").status_code == 401
    assert flask["app"].test_client().get("/docs/plan").status_code == 401
    assert share["access"].object_ids == ("plan",)
    assert share["gate"].verify(share["gate"].tokens.create(name="a").secret).kind == "token"
    assert python["principal"].allows("docs:write") is False
    secret = starlette["gate"].tokens.create(name="a", scopes=["docs:read", "api:read"]).secret
    headers = [(b"authorization", f"Bearer {secret}".encode())]
    assert ask(starlette["app"], scope_of(path="/docs/plan")).status == 401
    answered = ask(starlette["app"], scope_of(path="/docs/plan", headers=headers))
    assert json.loads(answered.body)["document"] == "plan"
    client = Client(wsgi["application"], TestResponse)
    answers = [client.get(url).status_code for url in ("/healthz", "/api/x", "/other")]
    assert answers == [200, 401, 401]
    assert client.get("/api/x", headers={"Authorization": f"Bearer {secret}"}).text.startswith(
        "token:"
    )
    assert_opens_by_jwt(provider["app"])
    assert rights["users"] == {}
    browser = login["app"].test_client()
    assert browser.get("/settings/tokens").status_code == 401
    with browser.session_transaction() as cookie:
        cookie["user"] = "ann"
    assert browser.post("/settings/tokens", json={"name": "x"}).status_code == 403
    page = {"Origin": "https://app.example.com"}
    assert (
        browser.post(
            "/settings/tokens", json={"name": "x", "scopes": ["docs:read"]}, headers=page
        ).status_code
        == 201
    )
    assert (
        browser.get("/settings/tokens").get_json()["total"] == 2
    )  # the one of the block before is hers, too
    for names in (share, python, starlette, rights):
        names["gate"].close()


def test_the_client_of_refresh_tokens_works_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the application that is shown before it, on a socket."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    application, shown = (block for block in BLOCKS["python"] if "refresh_token" in block)
    app = run(application)["app"]
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        assert run(shown.replace("8000", str(server.port)))["answer"] == {"for": "ann"}
    finally:
        server.shutdown()
        server.server_close()
        app.extensions["faregate"].close()
    kept = tmp_path / ".config" / "docs" / "credential"
    assert kept.stat().st_mode & 0o777 == 0o600


def assert_opens_by_jwt(app: Flask) -> None:
    """Its route opens to a token of the issuer, once the keys are fetched."""
    gate, (given,) = app.extensions["faregate"], app.config["FAREGATE_ISSUERS"]
    made = token(time.time(), iss=given.issuer, aud=next(iter(given.audiences)))
    assert app.test_client().get("/docs").status_code == 401
    gate._issuers._trusts[0].keys._fetched = (
        read_set(jwks("rsa"), ["RS256"]),
        time.monotonic(),
        time.time(),
    )
    with app.test_client().get("/docs", headers={"Authorization": f"Bearer {made}"}) as answered:
        assert (answered.status_code, answered.get_json()) == (200, {"for": "alice"})
    gate.close()


def test_the_blocks_are_as_short_as_promised() -> None:
    """Ten lines each, those that only import or are blank not counted."""
    for block in BLOCKS["python"][:7]:
        lines = [
            line
            for line in block.splitlines()
            if line.strip() and not line.startswith(("from ", "import ", "    ", ")"))
        ]
        assert len(lines) <= 10


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="the README's commands use curl, which is not installed"
)
def test_shell_blocks_run(tmp_path: Path) -> None:
    """The first token, the application and two requests, then each management call, as a newcomer types them."""
    (tmp_path / "app.py").write_text(BLOCKS["python"][0])
    start, management = (block for block in BLOCKS["shell"] if "curl" in block)
    block = f"{start}echo; echo MANAGEMENT; {management}echo THE END\n"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shell = subprocess.Popen(
        ["sh", "-e", "-c", block.replace("8000", port)],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert shell.stdout is not None
        output = ""
        while "THE END" not in output:
            read = shell.stdout.read(1)
            assert read, output
            output += read
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate()
    assert '{"document":"plan","for":"' in output
    assert "401 UNAUTHORIZED" in output
    assert 'WWW-Authenticate: Bearer realm="faregate"' in output
    answers = list(
        map(
            json.loads,
            filter(None, output.partition("MANAGEMENT\n")[2].partition("THE END")[0].split("\n")),
        )
    )
    assert len(answers) == 17
    exchanged, introspected, revoked, audited = answers[-4:]
    assert exchanged["token_type"] == "Bearer"
    assert revoked == {}
    assert (introspected["active"], introspected["name"]) == (True, "leaked")
    assert audited["items"][-1]["action"] == "token.deactivate"
    assert json.loads((tmp_path / "openapi.json").read_text())["openapi"].startswith("3.1.")
    assert "<!doctype html>" in (tmp_path / "docs.html").read_text()[:20].lower()
    answers = answers[:-4]
    assert not [answer for answer in answers if "code" in answer or answer.get("failures")]
    assert answers[-1]["state"] == "revoked"
    twins = {"token.activate", "token.deactivate_many"}  # the other way round of what is shown
    for operation in OPERATIONS:
        path = operation.path.replace("{id}", "$ID")
        assert operation.call in twins or re.search(
            rf"\$AUTH{re.escape(path)}[ ?;\"\n]", management
        ), operation


def test_the_command_line_works_as_shown(tmp_path: Path) -> None:
    """Each line of the block, in an empty folder."""
    (block,) = (block for block in BLOCKS["shell"] if "faregate doctor" in block)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("FAREGATE_SECRET", None)
    done = subprocess.run(
        ["sh", "-e", "-x", "-c", block],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "The route opens." in done.stdout
    assert done.stdout.count("token.create") == done.stdout.count("share.create") == 1
    assert "Nothing is wrong." in done.stderr


def test_the_explained_403_is_what_is_printed(tmp_path: Path) -> None:
    """Line by line, but for the id."""
    shown = re.search(r"^The route does not open.*?(?=```)", README, re.DOTALL | re.MULTILINE)
    assert shown is not None
    clock = Clock(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp())
    app = Flask("x")
    app.config |= {"FAREGATE_STORE": f"sqlite:///{tmp_path / 'gate.db'}", "FAREGATE_CLOCK": clock}
    app.config["FAREGATE_TRUSTED_PROXIES"] = ["192.0.2.1"]
    gate = Faregate(app).gate
    end = datetime(2026, 4, 30, 12, tzinfo=UTC)
    made = gate.tokens.create(
        name="ci", scopes=["docs:read"], allowed_cidr_blocks=["10.0.0.0/8"], expires_at=end
    )
    command = "faregate check --peer 192.0.2.1 --forwarded 203.0.113.9 --scope docs:write"
    assert command in README
    asked = app.test_cli_runner().invoke(args=command.split(), input=made.secret)
    assert asked.stdout.replace(made.token.id, "019a\u2026") == shown[0]
    gate.close()


def test_commands_are_targets() -> None:
    """Each ``make`` command of the README is a target."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake (\w+)", README)) - {"and"} <= targets


def test_every_call_is_told() -> None:
    """Each operation of the HTTP API stands in the table."""
    table = README.partition("## Over HTTP")[2].partition("## ")[0]
    for operation in OPERATIONS:
        assert operation.method in table
        assert operation.path in table or operation.path.rpartition("/")[2] in table


def exists(name: str) -> bool:
    """Whether a name is a module or a room of the core, with or without its room, or an adapter."""
    path = name.replace(".", "/")
    folders = (ROOT / "src/faregate", ROOT / "src/faregate/stores", ROOT / "adapters")
    return any(
        (folder / f"{path}.py").exists() or (folder / path / "__init__.py").exists()
        for folder in folders
    )


def test_the_drawing_names_what_exists() -> None:
    """Modules and rooms of the drawing and of the table are there, and no room is missing."""
    section = README.partition("## How it is built")[2]
    drawing, table = section.split("```")[1:3]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]

    drawn = set(re.findall(r"\b[a-z]+\.[a-z_]+|\bfaregate_[a-z]+|\brules\b", drawing))
    told = {name for row in rows for name in re.findall(r"`([a-z_.]+)`", " ".join(row))}
    assert len(drawn) >= 15
    assert not [name for name in sorted(drawn | told) if not exists(name)]

    rooms = {path.parent.name for path in (ROOT / "src/faregate").glob("*/__init__.py")}
    rooms |= {path.parent.name for path in (ROOT / "adapters").glob("*/__init__.py")}
    assert rooms <= told


def test_the_rooms_stand_in_the_order_of_the_layers() -> None:
    """The table of rooms, and that of the architecture, have the layers that import-linter checks."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (one["layers"] for one in settings["contracts"] if one["type"] == "layers")
    order = [set(re.findall(r"[a-z_]+", layer.replace("faregate.", ""))) for layer in layers]

    rows = re.findall(r"^\| \d+ \| (.*) \|$", ARCHITECTURE, re.MULTILINE)
    assert [set(re.findall(r"`([a-z_]+)`", row)) for row in rows] == order

    table = README.partition("## How it is built")[2]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    ranks = [
        next(rank for rank, layer in enumerate(order) if name in layer)
        for cell in first
        for name in re.findall(r"`([a-z_]+)`", cell)
    ]
    assert ranks == sorted(ranks)


def test_the_architecture_names_what_exists() -> None:
    """Each dotted name of a room, and each path, in the page about the architecture and for contributors."""
    rooms = {path.parent.name for path in (ROOT / "src/faregate").glob("*/__init__.py")}
    for page in (ARCHITECTURE, CONTRIBUTING):
        names = re.findall(r"`([a-z]+(?:\.[a-z_]+)+)", page)
        modules = {name for name in names if name.partition(".")[0] in rooms}
        for name in modules:
            # A third part is a name in the module.
            assert exists(".".join(name.split(".")[:2])) or exists(name), name

        paths = re.findall(
            r"`((?:src|adapters|tests|stores|lifecycles|management|fields)/[a-z0-9_/.]+)`", page
        )
        for path in paths:
            assert (ROOT / path).exists() or (ROOT / "src/faregate" / path).exists(), path
    assert "stores.record_cache" in ARCHITECTURE


def test_every_reason_is_specified() -> None:
    """The specification's table of answers has each reason, with its status."""
    table = SPECIFICATION.partition("### Answers")[2].partition("### ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    told = {name: int(row[2]) for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert told == {name: wording.status for name, wording in REASONS.items()}
