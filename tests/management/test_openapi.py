"""The OpenAPI document: sound, complete, and true to the service in each framework."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from conftest import FUZZ, Clock
from described import DESCRIBED
from openapi_spec_validator import validate
from servers import serving
from test_http import Api

from faregate import Gate
from faregate.errors import REASONS
from faregate.management import vocabulary
from faregate.management.openapi import document
from faregate.management.operations import OPERATIONS
from faregate.management.viewer import page

DOCUMENT = DESCRIBED.document
HERE = Path(__file__).parent


@pytest.fixture(params=["flask", "starlette"])
def api(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Api]:
    """The API, in each framework."""
    made = Api("sqlite://", clock, request.param)
    yield made
    made.gate.close()


def described(told: Any, where: str = "") -> Iterator[str]:
    """The places of members, parameters and statuses that nothing is said of."""
    if isinstance(told, list):
        for number, one in enumerate(told):
            yield from described(one, f"{where}[{number}]")
    if not isinstance(told, dict):
        return
    for name, one in told.items():
        if name in ("properties", "schemas", "securitySchemes", "headers") or (name == "responses"):
            yield from (f"{where}.{name}.{key}" for key, value in one.items() if not value.get("description"))
        if name == "parameters":
            yield from (f"{where}.{value['name']}" for value in one if not value.get("description"))
        if name not in ("example", "examples", "default"):
            yield from described(one, f"{where}.{name}")


def test_it_is_sound(api: Api) -> None:
    """OpenAPI 3.1 in the eyes of its validator, without a credential, and the same in each framework."""
    answer = api.client.get("/auth/openapi.json")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    validate(answer.get_json())
    assert answer.get_json() == DOCUMENT
    assert answer.get_json()["servers"][0]["url"] == "/auth"


def test_it_is_complete() -> None:
    """Every operation, member, parameter, status and scheme, each with a word; nothing is said of what there is not."""
    named = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert named == {(operation.method, operation.path) for operation in OPERATIONS}
    assert list(described(DOCUMENT)) == []
    for item in DOCUMENT["paths"].values():
        for told in item.values():
            assert told["summary"]
            assert told["tags"]
            assert all(one.get("example") is not None for one in told.get("parameters", ()))
    properties = {
        (name, one) for name, schema in DOCUMENT["components"]["schemas"].items() for one in schema["properties"]
    }
    members = {member for _, member in properties}
    for word in vocabulary.MEMBERS:
        struct, _, member = word.rpartition(".")
        assert (struct, member) in properties if struct else member in members, word
    assert set(vocabulary.PARAMETERS) == {name for operation in OPERATIONS for name in operation.query}
    identifiers = [told["operationId"] for item in DOCUMENT["paths"].values() for told in item.values()]
    assert len(identifiers) == len(set(identifiers))


def test_a_word_that_is_missing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a member nor a parameter without a meaning becomes a document."""
    from faregate.management import openapi

    gate = Gate("sqlite://")
    lost: list[tuple[Any, Any]] = [
        (vocabulary.MEMBERS, "leaked"),
        (vocabulary.PARAMETERS, "since"),
        (vocabulary.BODIES, "RotateToken"),
        (vocabulary.STATUSES, 409),
    ]
    for words, name in lost:
        monkeypatch.delitem(words, name)
        openapi._schemas.cache_clear()
        with pytest.raises(KeyError):
            document(OPERATIONS, gate.bearer, "/", by_credential=True)
        monkeypatch.undo()
    openapi._schemas.cache_clear()


def test_every_reason_and_error_is_told() -> None:
    """At the status with which it is answered."""
    told = json.dumps(DOCUMENT["paths"])
    assert all(f"`{name}`" in told for name, reason in REASONS.items() if reason.status != 503)
    for code in (
        "invalid_input",
        "invalid_request",
        "not_found",
        "conflict",
        "precondition_failed",
        "body_too_large",
        "not_json",
        "not_form",
    ):
        assert f"`{code}`" in told


def test_examples_are_what_they_are_examples_of() -> None:
    """Each example of the document passes its schema."""
    checked = 0
    for item in DOCUMENT["paths"].values():
        for told in item.values():
            bodies = [told["requestBody"]["content"]] if "requestBody" in told else []
            for content in [*bodies, *(one.get("content", {}) for one in told["responses"].values())]:
                for one in content.values():
                    if "example" in one:
                        DESCRIBED.validator(one["schema"]).validate(one["example"])
                        checked += 1
            for one in told.get("parameters", ()):
                jsonschema_rs.Draft202012Validator(one["schema"], validate_formats=True).validate(one["example"])
    assert checked > 150


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")
def test_examples_are_accepted(api: Api, operation: Any) -> None:
    """Each request as it is exemplified does what it says, about a record that is there."""
    token = api.create(scopes=["gate:*"])
    share = api.call("POST", "/shares", {"objectId": "a", "scopes": ["docs:read"], "expiresIn": 60}).get_json()
    path = operation.path.replace(
        "{id}", share["id"] if "/shares" in operation.path else "self" if operation.method == "PUT" else token["id"]
    )
    told = DOCUMENT["paths"][operation.path][operation.method.lower()]
    sent: dict[str, Any] = {}
    if "requestBody" in told:
        ((media, content),) = told["requestBody"]["content"].items()
        example = content["example"]
        if "refresh_token" in example:
            example = example | {"refresh_token": api.create(type="REFRESH", scopes=["docs:read"])["token"]}
        sent = {"data": example} if "form" in media else {"json": example}
    parameters = {one["name"]: one["example"] for one in told.get("parameters", ()) if one["in"] == "query"}
    query = {name: str(value).lower() if isinstance(value, bool) else value for name, value in parameters.items()}
    headers = {"Authorization": f"Bearer {token['token'] if operation.method == 'PUT' else api.admin}"}
    answer = api.client.open(f"/auth{path}", method=operation.method, headers=headers, query_string=query, **sent)
    assert answer.status_code == operation.status, answer.text
    DESCRIBED.check(operation.method, path, answer.status_code, answer.headers.get("Content-Type", ""), answer.data)


def test_places_of_the_credential_are_schemes() -> None:
    """Those that are switched on, and no others; behind a login there are none."""
    plain, every = Gate("sqlite://"), Gate("sqlite://", query=True, header="X-API-Key", cookie="__Host-t")
    names = [
        document(OPERATIONS, gate.bearer, "/", by_credential=True)["components"]["securitySchemes"]
        for gate in (plain, every)
    ]
    assert list(names[0]) == ["bearer"]
    places = {(one.get("in"), one.get("name")) for one in names[1].values()}
    assert places == {(None, None), ("header", "X-API-Key"), ("query", "access_token"), ("cookie", "__Host-t")}
    login = document(OPERATIONS, plain.bearer, "/", by_credential=False)
    validate(login)
    assert "securitySchemes" not in login["components"]
    assert "security" not in login["paths"]["/tokens"]["get"]


class Tags(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.links: set[str] = set()
        self.handlers: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """Remember a tag, what it links to, and what would run."""
        self.seen.add(tag)
        self.links |= {value for name, value in attrs if name in ("href", "src", "action")}
        self.handlers |= {name for name, _ in attrs if name.startswith("on") or name == "style"}


def test_the_page_shows_it_and_fetches_nothing(api: Api) -> None:
    """Every operation and shape; no script, nothing from elsewhere, and a policy that would allow neither."""
    answer = api.client.get("/auth/docs")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["Content-Security-Policy"]
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]{44}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        policy,
    )
    tags = Tags()
    tags.feed(answer.text)
    assert tags.seen.isdisjoint({"script", "img", "link", "iframe", "object", "form", "base"})
    assert tags.handlers == set()
    assert {link for link in tags.links if not link.startswith("#")} == {"openapi.json"}
    for name in (*DOCUMENT["paths"], *DOCUMENT["components"]["schemas"]):
        assert f"<code>{name}</code>" in answer.text
    anchors = {link[1:] for link in tags.links if link.startswith("#")}
    assert all(f"id='{anchor}'" in answer.text for anchor in anchors)


def test_the_page_escapes_what_it_shows() -> None:
    """Whatever a document holds, a prefix that a client has chosen among it, is text."""
    hostile = document(OPERATIONS, Gate("sqlite://").bearer, "/<script>'\"", by_credential=True)
    assert "<script" not in page(hostile)


FLASK = """
from flask import Flask
from faregate_flask import Faregate
wsgi = Flask(__name__)
wsgi.config["FAREGATE_STORE"] = {store!r}
faregate = Faregate(wsgi)
wsgi.register_blueprint(faregate.management(), url_prefix="/auth")
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.routing import Mount
from faregate import Gate
from faregate_starlette import management
asgi = Starlette(routes=[Mount("/auth", management(Gate({store!r})))])
"""
SERVERS = {"flask": ("waitress", FLASK), "starlette": ("uvicorn", STARLETTE)}
# A hook of schemathesis: a new root for each request, since a token may delete itself.
HOOKS = """
from urllib.parse import unquote
import schemathesis
from faregate import Gate
gate = Gate({store!r})

@schemathesis.auth(refresh_interval=None)
class Root:
    def get(self, case, context):
        return gate.tokens.create(name="root", scopes=["*"]).secret

    def set(self, case, data, context):
        case.headers = {{**(case.headers or {{}}), "Authorization": f"Bearer {{data}}"}}

@schemathesis.hook
def filter_case(context, case):  # a path with a line feed is in no Mount of Starlette's: the application answers it
    return "\\n" not in unquote(str((case.path_parameters or {{}}).get("id", "")))
"""


@pytest.mark.parametrize("framework", SERVERS)
def test_schemathesis_finds_no_disagreement(framework: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Between the document and the running service; ``make fuzz`` has a longer run.

    Left out is the check that whatever fits the schemas is accepted: what may be done depends on the records, too.
    """
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    if FUZZ == 1 and framework != "flask":
        pytest.skip("both answer alike, as other tests say; make fuzz asks both")
    seed = pytestconfig.getoption("--hypothesis-seed")
    server, source = SERVERS[framework]
    (tmp_path / "application.py").write_text(source.format(store=store))
    (tmp_path / "hooks.py").write_text(HOOKS.format(store=store))
    with serving(server, "application", tmp_path) as (host, port):
        command = [
            str(Path(sys.executable).parent / "schemathesis"), "run", f"http://{host}:{port}/auth/openapi.json",
            "--max-examples", str(4 * FUZZ if FUZZ > 1 else 2), "--exclude-checks", "positive_data_acceptance", "--continue-on-failure",
            *([] if FUZZ > 1 else ["--generation-deterministic"]), *(["--seed", seed] if seed else []),
        ]  # fmt: skip
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None
    assert int(tested[1]) == len(OPERATIONS) - 1  # the one that answers the document has been called by then
