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

import pytest
from conftest import FUZZ, Clock
from openapi_check import OPENAPI_CHECK
from openapi_spec_validator import validate
from real_servers import serving
from test_http import Api

from faregate import Gate
from faregate.errors import REASONS
from faregate.management import descriptions
from faregate.management.docs_page import page
from faregate.management.openapi import document
from faregate.management.operations import OPERATIONS

DOCUMENT = OPENAPI_CHECK.document
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
        if name in ("properties", "schemas", "securitySchemes", "headers", "responses", "links"):
            yield from (
                f"{where}.{name}.{key}"
                for key, value in one.items()
                if not value.get("description")
            )
        if name == "parameters" and isinstance(one, list):
            yield from (f"{where}.{value['name']}" for value in one if not value.get("description"))
        if name not in ("example", "examples", "default", "allOf"):  # which says what goes together
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
        (name, one)
        for name, schema in DOCUMENT["components"]["schemas"].items()
        for one in schema.get("properties", ())
    }
    members = {member for _, member in properties}
    assert {*descriptions.SCHEMAS, *descriptions.ENUMERATIONS} == DOCUMENT["components"][
        "schemas"
    ].keys()
    assert {*descriptions.LIKE, *descriptions.LIKE.values()} <= descriptions.SCHEMAS.keys()
    for word in descriptions.MEMBERS:
        struct, _, member = word.rpartition(".")
        assert (struct, member) in properties if struct else member in members, word
    told = {name for operation in OPERATIONS for name in operation.query}
    assert set(descriptions.PARAMETERS) == told | {"/tokens/{id}", "/shares/{id}"}
    assert set(descriptions.TAGS) == {
        told["tags"][0] for item in DOCUMENT["paths"].values() for told in item.values()
    }
    identifiers = [
        told["operationId"] for item in DOCUMENT["paths"].values() for told in item.values()
    ]
    assert len(identifiers) == len(set(identifiers))


def test_a_word_that_is_missing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a member nor a parameter without a meaning becomes a document."""
    from faregate.management import openapi

    gate = Gate("sqlite://")
    lost: list[tuple[Any, Any]] = [
        (descriptions.MEMBERS, "leaked"),
        (descriptions.SCHEMAS, "Token"),
        (descriptions.PARAMETERS, "since"),
        (descriptions.BODIES, "RotateToken"),
        (descriptions.STATUSES, 409),
    ]
    for words, name in lost:
        monkeypatch.delitem(words, name)
        openapi._schemas.cache_clear()
        with pytest.raises(KeyError):
            document(OPERATIONS, gate.requests.resolver, "/", by_credential=True)
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
            for content in [
                *bodies,
                *(one.get("content", {}) for one in told["responses"].values()),
            ]:
                for one in content.values():
                    if "example" in one:
                        OPENAPI_CHECK.validator(one["schema"]).validate(one["example"])
                        checked += 1
            for one in told.get("parameters", ()):
                OPENAPI_CHECK.validator(one["schema"]).validate(one["example"])
    assert checked > 150


@pytest.mark.parametrize(
    "operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}"
)
def test_examples_are_accepted(api: Api, operation: Any) -> None:
    """Each request as it is exemplified does what it says, about a record that is there."""
    token = api.create(scopes=["gate:*"])
    share = api.call(
        "POST", "/shares", {"objectId": "a", "scopes": ["docs:read"], "expiresIn": 60}
    ).get_json()
    path = operation.path.replace(
        "{id}",
        share["id"]
        if "/shares" in operation.path
        else "self"
        if operation.method == "PUT"
        else token["id"],
    )
    told = DOCUMENT["paths"][operation.path][operation.method.lower()]
    sent: dict[str, Any] = {}
    if "requestBody" in told:
        ((media, content),) = told["requestBody"]["content"].items()
        example = content["example"]
        if "refresh_token" in example:
            example = example | {
                "refresh_token": api.create(type="REFRESH", scopes=["docs:read"])["token"]
            }
        sent = {"data": example} if "form" in media else {"json": example}
    parameters = {
        one["name"]: one["example"] for one in told.get("parameters", ()) if one["in"] == "query"
    }
    query = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in parameters.items()
    }
    headers = {
        "Authorization": f"Bearer {token['token'] if operation.method == 'PUT' else api.admin}"
    }
    answer = api.client.open(
        f"/auth{path}", method=operation.method, headers=headers, query_string=query, **sent
    )
    assert answer.status_code == operation.status, answer.text
    OPENAPI_CHECK.check(
        operation.method,
        path,
        answer.status_code,
        answer.headers.get("Content-Type", ""),
        answer.data,
    )


def test_places_of_the_credential_are_schemes() -> None:
    """Those that are switched on, and no others; behind a login there are none."""
    plain, every = (
        Gate("sqlite://"),
        Gate("sqlite://", query=True, header="X-API-Key", cookie="__Host-t"),
    )
    names = [
        document(OPERATIONS, gate.requests.resolver, "/", by_credential=True)["components"][
            "securitySchemes"
        ]
        for gate in (plain, every)
    ]
    assert list(names[0]) == ["bearer", "basic"]
    places = {(one.get("in"), one.get("name")) for one in names[1].values()}
    assert places == {
        (None, None),
        ("header", "X-API-Key"),
        ("query", "access_token"),
        ("cookie", "__Host-t"),
    }
    login = document(OPERATIONS, plain.requests.resolver, "/", by_credential=False)
    validate(login)
    assert "securitySchemes" not in login["components"]
    assert "security" not in login["paths"]["/tokens"]["get"]


def test_a_password_is_a_place_for_introspection_alone() -> None:
    """Stock resource servers send Basic there; no other call reads it."""
    told = DOCUMENT["paths"]
    asked = told["/introspect"]["post"]["security"]
    assert asked == [{"bearer": []}, {"basic": []}]
    others = [one for path, item in told.items() for one in item.values() if path != "/introspect"]
    assert not [one["operationId"] for one in others if {"basic": []} in one["security"]]


def test_a_proxys_line_is_no_place_of_the_credential() -> None:
    """Where ``Authorization`` is a proxy's, a client that sent its token there would not be let in."""
    gate = Gate("sqlite://", authorization=False, header="X-API-Key")
    told = document(OPERATIONS, gate.requests.resolver, "/", by_credential=True)
    validate(told)
    assert list(told["components"]["securitySchemes"]) == ["header"]
    assert told["paths"]["/introspect"]["post"]["security"] == [{"header": []}]


def test_an_example_of_what_is_active_has_no_reason() -> None:
    """Why it is not active is told of the others."""
    told = DOCUMENT["paths"]["/introspect"]["post"]["responses"]["200"]["content"][
        "application/json"
    ]["example"]
    assert told["active"] is True
    assert "reason" not in told


SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATED = [
    (method, path, told)
    for path, item in DOCUMENT["paths"].items()
    for method, told in item.items()
]
PLACES = [
    *((f"{name}.{member}", member, one) for name, schema in SCHEMAS.items() for member, one in schema.get("properties", {}).items()),
    *((f"{told['operationId']}?{one['name']}", one["name"], one["schema"]) for _, _, told in OPERATED for one in told.get("parameters", ())),
]  # fmt: skip


def texts(schema: Any) -> list[Any]:
    """The schemas of texts among the alternatives of a schema, or of the items of a list."""
    if "anyOf" in schema:
        return [text for one in schema["anyOf"] for text in texts(one)]
    if schema.get("type") == "array":
        return texts(schema["items"])
    return [schema] if schema.get("type") == "string" else []


def test_every_instant_is_a_date_time() -> None:
    """In answers, in bodies and in parameters; numbers are those of epoch seconds."""
    instants = {
        where: schema
        for where, member, schema in PLACES
        if re.search("(At|On|Before)$|^(at|since)$", member)
    }
    assert len(instants) > 50
    formats = {
        where: {one.get("format") for one in texts(schema)} for where, schema in instants.items()
    }
    assert [where for where, told in formats.items() if told != {"date-time"}] == []


def test_ids_are_uuids_where_they_are() -> None:
    """Not the ids of owners, objects and organizations, nor what may name a JWT, an actor without a record or anything sent."""
    formats = {
        where: [one.get("format", one.get("const")) for one in texts(schema)]
        for where, _, schema in PLACES
    }
    own = {where for where, told in formats.items() if "uuid" in told}
    records = {
        f"{name}.id"
        for name in SCHEMAS
        if {"id", "madeBy"} <= SCHEMAS[name].get("properties", {}).keys()
    }
    parameters = {where for where, member, _ in PLACES if member == "id" and "?" in where}
    assert records >= {
        "Token.id",
        "Share.id",
        "PutToken.id",
        "PatchShare.id",
        "TokenIntrospection.id",
    }
    assert own == {
        *records,
        *parameters,
        "Batch.successes",
        "Closed.tokens",
        "Closed.shares",
        "ManyTokens.ids",
    }
    assert (
        formats["get_token?id"]
        == formats["PutToken.id"]
        == formats["Batch.successes"]
        == ["uuid", "self"]
    )
    assert formats["ManyTokens.ids"] == ["uuid", None]  # what is no id fails alone
    assert formats["get_share?id"] == formats["Token.id"] == ["uuid"]
    assert all(
        "self" not in told for where, told in formats.items() if re.search("[sS]hare", where)
    )


def enumerations(told: Any) -> Iterator[tuple[str, ...]]:
    """The enumerations in a document, each as often as it is there."""
    if isinstance(told, dict):
        if isinstance(told.get("enum"), list):
            yield tuple(sorted(told["enum"]))
        for name, one in told.items():
            yield from enumerations(one) if name not in ("example", "examples", "default") else ()
    for one in told if isinstance(told, list) else ():
        yield from enumerations(one)


def test_an_enumeration_is_written_once() -> None:
    """A client has one type for the type of a token, wherever it stands, and so on."""
    found = list(enumerations(DOCUMENT))
    assert sorted(found) == sorted(set(found))
    assert SCHEMAS["TokenType"]["enum"] == ["API", "REFRESH", "PROXY", "EXTENSION"]
    typed = {
        where
        for where, _, schema in PLACES
        if schema.get("$ref") == "#/components/schemas/TokenType"
    }
    assert {where for where, member, _ in PLACES if member == "type"} - typed == {"Problem.type"}
    stated = {where for where, member, _ in PLACES if member == "state"}
    assert {
        where
        for where, _, schema in PLACES
        if schema.get("$ref") == "#/components/schemas/ShareState"
    } == stated


TOKENS_OWN = {
    "id", "type", "scope", "createdAt", "updatedAt", "rotatedAt", "lastUsedAt", "deactivated", "deactivatedUpdatedBy",
    "deactivatedUpdatedOn", "deactivatedReason", "leaked", "madeBy", "revokedAt",
}  # fmt: skip
SHARES_OWN = {
    "id", "objectId", "objectIds", "createdAt", "updatedAt", "revokedAt", "redemptions", "state", "org", "madeBy",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("Token", TOKENS_OWN | {"closed"}),
        ("IssuedToken", TOKENS_OWN | {"closed", "token"}),
        ("PatchToken", TOKENS_OWN | {"token"}),
        ("PutToken", TOKENS_OWN - {"id"} | {"token"}),  # which needs the id of the path
        ("CreateToken", set()),
        ("Share", SHARES_OWN),
        ("IssuedShare", SHARES_OWN | {"secret"}),
        ("PatchShare", SHARES_OWN | {"secret"}),
        ("CreateShare", set()),
    ],
)
def test_members_that_no_change_changes_are_read_only(name: str, members: set[str]) -> None:
    """In records and in the bodies that change them."""
    assert {
        member for member, one in SCHEMAS[name]["properties"].items() if one.get("readOnly")
    } == members


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"scopes": ["a"], "expiresIn": 60}, True),
        ({"params": {"scopes": ["a"]}, "expiresIn": 60}, True),
        (
            {
                "scopes": ["a"],
                "params": {"maxRedemptions": None},
                "expiresAt": "2100-01-01T00:00:00Z",
            },
            True,
        ),
        ({"scopes": ["a"], "params": {"scopes": ["a"]}, "expiresIn": 60}, False),
        ({"params": {"scopes": None}, "expiresIn": 60}, False),
        ({"params": {}, "expiresIn": 60}, False),
        ({"expiresIn": 60}, False),
        ({"scopes": ["a"]}, False),
        ({"scopes": ["a"], "expiresIn": 60, "expiresAt": "2100-01-01T00:00:00Z"}, False),
    ],
)
def test_which_members_of_a_new_share_go_together(
    api: Api, body: dict[str, Any], fits: bool
) -> None:
    """The schema and the service agree, and none of it keeps the schema from being that of an object."""
    sent = {"objectId": "a", **body}
    schema = SCHEMAS["CreateShare"]
    assert (
        OPENAPI_CHECK.validator({"$ref": "#/components/schemas/CreateShare"}).is_valid(sent) == fits
    )
    assert (api.call("POST", "/shares", sent).status_code == 201) == fits
    assert schema["type"] == "object"
    assert schema.keys().isdisjoint({"oneOf", "anyOf"})


def test_operations_are_named_as_functions() -> None:
    """By what they do, and to what: so does a generated client call them."""
    names = {f"{method.upper()} {path}": told["operationId"] for method, path, told in OPERATED}
    assert names == {
        "POST /tokens": "create_token",
        "GET /tokens": "list_tokens",
        "GET /tokens/{id}": "get_token",
        "PUT /tokens/{id}": "put_token",
        "PATCH /tokens/{id}": "patch_token",
        "DELETE /tokens/{id}": "delete_token",
        "POST /tokens/{id}/rotate": "rotate_token",
        "POST /tokens/{id}/deactivate": "deactivate_token",
        "POST /tokens/{id}/activate": "activate_token",
        "POST /tokens/deactivate": "deactivate_tokens",
        "POST /tokens/activate": "activate_tokens",
        "POST /token": "exchange_token",
        "POST /introspect": "introspect_token",
        "POST /revoke": "revoke_token",
        "POST /shares": "create_share",
        "GET /shares": "list_shares",
        "GET /shares/{id}": "get_share",
        "PATCH /shares/{id}": "patch_share",
        "POST /shares/{id}/revoke": "revoke_share",
        "POST /shares/{id}/redeem": "redeem_share",
        "GET /audit": "list_audit_entries",
        "GET /openapi.json": "get_openapi",
        "GET /docs": "get_docs",
    }


def test_a_new_record_links_to_what_is_done_to_it() -> None:
    """Each operation about one record takes the id of the answer that created it."""
    for kind in ("token", "share"):
        links = DOCUMENT["paths"][f"/{kind}s"]["post"]["responses"]["201"]["links"]
        below = {
            told["operationId"] for _, path, told in OPERATED if path.startswith(f"/{kind}s/{{id}}")
        }
        assert {one["operationId"] for one in links.values()} == below
        assert all(one["parameters"] == {"id": "$response.body#/id"} for one in links.values())


def test_what_introspection_tells_has_a_shape_for_each_kind() -> None:
    """The schema has a shape for each kind of credential, and one for callers without access; each answer fits one shape."""
    shapes = [one["$ref"].rpartition("/")[2] for one in SCHEMAS["Introspection"]["oneOf"]]
    told = {shape: SCHEMAS[shape]["properties"] for shape in shapes}
    kinds = {shape: members["kind"]["enum"] for shape, members in told.items() if "kind" in members}
    assert kinds == {
        "TokenIntrospection": ["token", "refresh", "access"],
        "ShareIntrospection": ["share"],
        "JwtIntrospection": ["jwt"],
    }
    assert told["BareIntrospection"].keys() == {"active"}
    assert {"objectIds", "iss"} <= told["ShareIntrospection"].keys()
    assert told["TokenIntrospection"].keys().isdisjoint({"objectIds", "iss", "token"})
    assert told["JwtIntrospection"].keys().isdisjoint({"objectIds", "id"})


def words(told: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every description and summary of a document, and where it stands."""
    for name, one in (
        told.items()
        if isinstance(told, dict)
        else enumerate(told)
        if isinstance(told, list)
        else ()
    ):
        if name in ("description", "summary") and isinstance(one, str):
            yield where, one
        if name not in ("example", "examples", "default"):
            yield from words(one, f"{where}.{name}")


def test_descriptions_are_for_callers_in_any_language() -> None:
    """They name no module, no member as Python does, and no markup of docstrings; each is one line."""
    known = {member for _, member, _ in PLACES} | set(REASONS)
    told = list(words(DOCUMENT))
    for where, one in told:
        assert not re.search(r"faregate|:\w+:`|``|datetime|\n|gate\.", one), where
        for name in re.findall("`([a-z]+(?:_[a-z]+)+)`", one):
            assert name in known or ".responses." in where, where


@pytest.mark.parametrize(
    ("place", "part"),
    [
        ("ShareChange.scopes", "objects are shared for"),
        ("ShareChange.allowedCidrBlocks", "redeemed"),
        ("ShareParams.allowedCidrBlocks", "redeemed"),
        ("IssuedShare.expiresAt", "The instant from which the share is expired."),
        ("ShareIntrospection.expiresAt", "The instant from which the share is expired."),
        ("IssuedToken.leaked", "Whether the token was closed as leaked"),
        ("PutToken.leaked", "Whether the token was closed as leaked"),
        ("TokenIntrospection.leaked", "Whether the token was closed as leaked"),
        ("RotateToken.leaked", "close the lineage of the token"),
        ("TokenIntrospection.scope", "on the named object"),
        ("IssuedToken.revokedAt", "refresh token"),
        ("ShareIntrospection.revokedAt", "The instant of the revocation."),
    ],
)
def test_a_description_is_about_its_member(place: str, part: str) -> None:
    """Whichever other member has the same name."""
    name, _, member = place.partition(".")
    assert part in SCHEMAS[name]["properties"][member]["description"]


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
    hostile = document(
        OPERATIONS, Gate("sqlite://").requests.resolver, "/<script>'\"", by_credential=True
    )
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
# What records begin as; an operation that a link leads to makes up what it sends.
MADE = {{
    "/tokens": {{"name": "made", "scopes": ["docs:read"]}},
    "/shares": {{"objectId": "plan", "scopes": ["docs:read"], "expiresIn": 3600}},
}}

@schemathesis.auth(refresh_interval=None)
class Root:
    def get(self, case, context):
        return gate.tokens.create(name="root", scopes=["*"]).secret

    def set(self, case, data, context):
        case.headers = {{**(case.headers or {{}}), "Authorization": f"Bearer {{data}}"}}

@schemathesis.hook
def before_call(context, case, kwargs):  # what no schema tells: PUT repeats the id of its path, a refresh token is exchanged once
    if not isinstance(case.body, dict) or not case.meta.generation.mode.is_positive:
        return
    if case.method == "PUT":
        case.body["id"] = case.path_parameters["id"]
    if case.meta.phase.name.value == "stateful" and case.path in MADE:
        case.body = dict(MADE[case.path])
    if case.path == "/token":
        case.body["refresh_token"] = gate.tokens.create(name="session", type="REFRESH", scopes=["docs:read"]).secret

@schemathesis.hook
def after_call(context, case, response):
    with open("answered", "a") as answered:
        print(case.operation.label, response.status_code, case.meta.phase.name.value, file=answered)

@schemathesis.hook
def filter_case(context, case):  # a path with a line feed is in no Mount of Starlette's: the application answers it
    return "\\n" not in unquote(str((case.path_parameters or {{}}).get("id", "")))
"""

# Links are those of the document, and no guesses. An ETag that is out of date may be noticed before a body that is wrong.
SETTINGS = """
[phases.stateful.inference]
algorithms = []
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415]
"""


def schemathesis(framework: str, folder: Path, *arguments: str) -> tuple[str, set[str]]:
    """Run schemathesis on an application of a framework; return what it says, and what was answered in which phase."""
    store = f"sqlite:///{folder / 'gate.db'}"
    server, source = SERVERS[framework]
    (folder / "application.py").write_text(source.format(store=store))
    (folder / "hooks.py").write_text(HOOKS.format(store=store))
    (folder / "schemathesis.toml").write_text(SETTINGS)
    with serving(server, "application", folder) as (host, port):
        command = [
            str(Path(sys.executable).parent / "schemathesis"), "run", f"http://{host}:{port}/auth/openapi.json",
            "--exclude-checks", "positive_data_acceptance", "--continue-on-failure", *arguments,
            *([] if FUZZ > 1 else ["--generation-deterministic"]),
        ]  # fmt: skip
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(folder)}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout, set((folder / "answered").read_text().splitlines())


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("framework", SERVERS)
def test_schemathesis_finds_no_disagreement(
    framework: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Between the document and the running service; ``make fuzz`` has a longer run, at every bound of every member.

    Left out is the check that whatever fits the schemas is accepted: what may be done depends on the records, too.
    """
    if FUZZ == 1 and framework != "flask":
        pytest.skip("both answer alike, as other tests say; make fuzz asks both")
    seed = pytestconfig.getoption("--hypothesis-seed")
    limits = (
        ["--max-examples", str(4 * FUZZ)]
        if FUZZ > 1
        else ["--max-examples", "2", "--phases", "fuzzing"]
    )
    told, _ = schemathesis(framework, tmp_path, *limits, *(["--seed", seed] if seed else []))
    tested = re.search(r"Tested: (\d+)", told)
    assert tested is not None
    assert (
        int(tested[1]) == len(OPERATIONS) - 1
    )  # the one that answers the document has been called by then


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(FUZZ == 1, reason="make fuzz walks from what was made to its changes")
def test_schemathesis_changes_what_it_has_made(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """By the links of the document, from a record to what is done to it: with bodies that are made up, and accepted."""
    seed = pytestconfig.getoption("--hypothesis-seed")
    names = (
        "create_token",
        "patch_token",
        "put_token",
        "rotate_token",
        "create_share",
        "patch_share",
        "redeem_share",
    )
    limits = ["--phases", "stateful", "--mode", "positive", "--max-examples", str(5 * FUZZ)]
    chosen = [part for name in names for part in ("--include-operation-id", name)]
    _, answered = schemathesis(
        "flask", tmp_path, *limits, *chosen, *(["--seed", seed] if seed else [])
    )
    assert answered >= {
        "PATCH /tokens/{id} 200 stateful",
        "PUT /tokens/{id} 200 stateful",
        "POST /tokens/{id}/rotate 200 stateful",
        "PATCH /shares/{id} 200 stateful",
        "POST /shares/{id}/redeem 200 stateful",
    }
