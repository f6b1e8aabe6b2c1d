"""Clients that generators make of the OpenAPI document, used against the service; and linters of such documents.

They need packages of npm beside those of the tests: ``make test-clients`` installs what it can, and runs this.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_check import OPENAPI_CHECK
from real_servers import serving
from test_openapi import FLASK

from faregate import Gate

PLACE = os.environ.get("CLIENTS")  # where npm has installed the packages of tests/management/npm
pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(PLACE is None, reason="make test-clients makes the clients"),
]
NODE = Path(PLACE or "", "node_modules")
BIN = Path(sys.executable).parent

PYTHON = """
import datetime
import sys
from uuid import UUID

from faregate_client import AuthenticatedClient
from faregate_client.api.audit import list_audit_entries
from faregate_client.api.shares import create_share, patch_share, redeem_share
from faregate_client.api.tokens import (
    create_token, deactivate_tokens, exchange_token, get_token, introspect_token, list_tokens, patch_token, put_token, rotate_token,
)
from faregate_client.models import (
    AuditPage, BareIntrospection, Batch, CreateShare, CreateToken, Inquiry, IssuedShare, IssuedToken, ManyTokens, PatchShare,
    PatchToken, Problem, PutToken, Redeemed, RotateToken, Share, ShareChange, ShareIntrospection, ShareState, Token, TokenAnswer,
    TokenIntrospection, TokenPage, TokenRequest, TokenRequestGrantType, TokenType,
)

address, secret = sys.argv[1:]
client = AuthenticatedClient(base_url=address, token=secret, raise_on_unexpected_status=True)
end = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)

made = create_token.sync(client=client, body=CreateToken(name="ci", scopes=["docs:read"], expires_at=end))
assert isinstance(made, IssuedToken), made
record_id: UUID = made.id
assert isinstance(record_id, UUID)
assert (made.type_, made.expires_at) == (TokenType.API, end)
assert isinstance(made.created_at, datetime.datetime)

changed = patch_token.sync(made.id, client=client, body=PatchToken(description="the build server"))
assert isinstance(changed, Token), changed
assert changed.description == "the build server"
kept = put_token.sync(made.id, client=client, body=PutToken.from_dict(changed.to_dict()))  # as it was read
assert isinstance(kept, Token), kept
assert kept.created_at == made.created_at
rotated = rotate_token.sync(made.id, client=client, body=RotateToken(grace=60))
assert isinstance(rotated, IssuedToken), rotated
assert isinstance(rotated.rotated_at, datetime.datetime)
shown = get_token.sync("self", client=client)
assert isinstance(shown, Token), shown
page = list_tokens.sync(client=client, type_=TokenType.API, expires_before=end + datetime.timedelta(days=1))
assert isinstance(page, TokenPage), page
assert [one.id for one in page.items] == [made.id]

share = create_share.sync(client=client, body=CreateShare(object_id="plan", expires_at=end, params=ShareChange(scopes=["docs:read"])))
assert isinstance(share, IssuedShare), share
longer = patch_share.sync(share.id, client=client, body=PatchShare(params=ShareChange(max_redemptions=5)))
assert isinstance(longer, Share), longer
assert (longer.state, longer.params.max_redemptions) == (ShareState.LIVE, 5)
redeemed = redeem_share.sync(share.id, client=client)
assert isinstance(redeemed, Redeemed), redeemed
assert isinstance(redeemed.expires_at, datetime.datetime)

session = create_token.sync(client=client, body=CreateToken(name="session", type_=TokenType.REFRESH, scopes=["docs:read"]))
assert isinstance(session, IssuedToken), session
form = TokenRequest(grant_type=TokenRequestGrantType.REFRESH_TOKEN, refresh_token=session.token)
answer = exchange_token.sync(client=client, body=form)
assert isinstance(answer, TokenAnswer), answer

for credential, shape in (
    (rotated.token, TokenIntrospection),
    (answer.access_token, TokenIntrospection),
    (share.secret, ShareIntrospection),
    (redeemed.token, ShareIntrospection),
    ("unknown", BareIntrospection),
):
    told = introspect_token.sync(client=client, body=Inquiry(token=credential))
    assert type(told) is shape, (credential, told)

batch = deactivate_tokens.sync(client=client, body=ManyTokens(ids=[made.id]))
assert isinstance(batch, Batch), batch
assert batch.successes == [made.id]
audited = list_audit_entries.sync(client=client, since=0)
assert isinstance(audited, AuditPage), audited
assert isinstance(audited.items[0].at, datetime.datetime)
problem = get_token.sync(UUID(int=0), client=client)
assert isinstance(problem, Problem), problem
assert problem.code == "not_found"
"""

TYPESCRIPT = """
import { deepStrictEqual as equal, ok } from "node:assert";
import createClient from "openapi-fetch";
import type { components, operations, paths } from "./schema.js";

type Schemas = components["schemas"];
const [address, secret] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${secret}` };
const client = createClient<paths>({ baseUrl: address, headers });
function given<T>(answer: { data?: T; error?: unknown }): T {
  ok(answer.data, JSON.stringify(answer.error));
  return answer.data;
}

const body: Schemas["CreateToken"] = { name: "ci", scopes: ["docs:read"], type: "API", expiresAt: "2100-01-01T00:00:00Z" };
const made = given(await client.POST("/tokens", { body }));
const type: Schemas["TokenType"] = made.type;
equal(type, "API");
const params = { path: { id: made.id } };
const changed = given(await client.PATCH("/tokens/{id}", { params, body: { description: "the build server" } }));
const kept = given(await client.PUT("/tokens/{id}", { params, body: changed })); // as it was read
equal(kept.createdAt, made.createdAt);
const rotated = given(await client.POST("/tokens/{id}/rotate", { params, body: { grace: 60, leaked: false } }));
ok(rotated.rotatedAt);
const query: operations["list_tokens"]["parameters"]["query"] = { type: "API", sort: "-createdAt" };
ok(given(await client.GET("/tokens", { params: { query } })).items.length > 0);

const wanted: Schemas["CreateShare"] = { objectId: "plan", expiresIn: 3600, params: { scopes: ["docs:read"] } };
const share = given(await client.POST("/shares", { body: wanted }));
const state: Schemas["ShareState"] = share.state;
equal(state, "live");
const told = given(
  await client.POST("/introspect", {
    body: { token: share.secret },
    headers: { "Content-Type": "application/x-www-form-urlencoded" },
  }),
);
ok("kind" in told && told.kind === "share");
equal(told.objectIds, ["plan"]); // a member of this kind alone
const missing = await client.GET("/tokens/{id}", { params: { path: { id: "00000000-0000-0000-0000-000000000000" } } });
equal(missing.error?.code, "not_found");

// @ts-expect-error  there is no such type
const other: Schemas["TokenType"] = "OTHER";
// @ts-expect-error  what no change changes is not set
changed.createdAt = "2030-01-31T12:00:00Z";
// @ts-expect-error  a share is of an object
const none: Schemas["CreateShare"] = { expiresIn: 3600 };
void [other, none];
"""


def run(folder: Path, *command: str | Path) -> None:
    """Run a command in a folder, and fail with what it said unless it succeeds."""
    path = os.pathsep.join([str(BIN), str(NODE / ".bin"), os.environ["PATH"]])
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a client is made: the document is there."""
    (tmp_path / "openapi.json").write_text(json.dumps(OPENAPI_CHECK.document))
    return tmp_path


@pytest.fixture
def service(folder: Path) -> Iterator[tuple[str, str]]:
    """The address of a running service, and the secret of a token that is root."""
    store = f"sqlite:///{folder / 'gate.db'}"
    gate = Gate(store)
    secret = gate.tokens.create(name="root", scopes=["*"]).secret
    gate.close()
    (folder / "application.py").write_text(FLASK.format(store=store))
    with serving("waitress", "application", folder) as (host, port):
        yield f"http://{host}:{port}/auth", secret


def needs(program: str) -> None:
    """Skip a test, and say so, where npm has not installed a program."""
    if not (NODE / ".bin" / program).exists():
        pytest.skip(f"{program} is not installed; make test-clients says why")


def test_openapi_python_client_makes_a_client(folder: Path, service: tuple[str, str]) -> None:
    """Complete, without a warning, with types that mypy holds the use of it to."""
    run(
        folder, BIN / "openapi-python-client", "generate", "--path", "openapi.json", "--output-path", "faregate_client",
        "--meta", "none", "--fail-on-warning",
    )  # fmt: skip
    (folder / "client.py").write_text(PYTHON)
    run(folder, BIN / "mypy", "--strict", "--follow-imports", "silent", "client.py")
    run(folder, sys.executable, "client.py", *service)


def test_openapi_typescript_makes_a_client(folder: Path, service: tuple[str, str]) -> None:
    """With types that the compiler holds the use of it to."""
    needs("openapi-typescript")
    (folder / "node_modules").symlink_to(NODE)
    (folder / "package.json").write_text('{"type": "module"}')
    run(folder, "openapi-typescript", "openapi.json", "--output", "schema.ts")
    (folder / "client.ts").write_text(TYPESCRIPT)
    run(
        folder,
        "tsc",
        "--strict",
        "--module",
        "nodenext",
        "--target",
        "es2022",
        "--skipLibCheck",
        "client.ts",
    )
    run(folder, shutil.which("node") or "node", "client.js", *service)


def test_redocly_finds_no_error(folder: Path) -> None:
    """By its recommended rules."""
    needs("redocly")
    run(folder, "redocly", "lint", "openapi.json")


def test_spectral_finds_no_error(folder: Path) -> None:
    """By its rules for OpenAPI."""
    needs("spectral")
    (folder / "ruleset.json").write_text('{"extends": ["spectral:oas"]}')
    run(
        folder,
        "spectral",
        "lint",
        "openapi.json",
        "--ruleset",
        "ruleset.json",
        "--fail-severity",
        "error",
    )
