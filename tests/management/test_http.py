"""The /tokens calls over HTTP: shapes, statuses, headers, and what bad input is told."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from asgi_client import AsWsgi
from conftest import Clock
from flask import Flask, request
from openapi_check import OPENAPI_CHECK
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from werkzeug.test import Client, TestResponse

from faregate import Gate, Issuer, Policy
from faregate.management.operations import OPERATIONS, PATHS
from faregate_asgi import GateMiddleware
from faregate_flask import Faregate
from faregate_starlette import management

TOKEN_FIELDS = [
    "id", "name", "description", "type", "scope", "allowedScopes", "allowedCidrBlocks", "createdAt", "updatedAt",
    "rotatedAt", "notBefore", "expiresAt", "lastUsedAt", "deactivated", "deactivatedUpdatedBy", "deactivatedUpdatedOn",
    "deactivatedReason", "leaked", "requireRotation", "revokedAt", "owner", "org", "madeBy", "metadata",
]  # fmt: skip


class Api:
    """The management API of an application, and credentials to call it with."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        framework: str = "flask",
        issuers: Sequence[Issuer] = (),
        policy: Policy = Policy(),  # noqa: B008  it cannot be changed
    ) -> None:
        if framework == "flask":
            app = Flask(__name__)
            app.config.update(
                {"FAREGATE_STORE": url, "FAREGATE_CLOCK": clock, "FAREGATE_ISSUERS": issuers}
            )
            app.config["FAREGATE_POLICY"] = policy
            faregate = Faregate(app)
            app.register_blueprint(faregate.management(), url_prefix="/auth")
            self.gate = faregate.gate
            self.client = Client(app, TestResponse)
        else:
            self.gate = Gate(url, clock=clock, issuers=issuers, policy=policy)
            starlette = Starlette(
                routes=[Mount("/auth", management(self.gate))],
                middleware=[Middleware(GateMiddleware, gate=self.gate)],
            )
            self.client = Client(AsWsgi(starlette), TestResponse)
        self.admin = self.gate.tokens.create(name="admin", scopes=["*"]).secret

    def call(
        self, method: str, path: str, body: object = None, secret: str | None = None, **options: Any
    ) -> TestResponse:
        """The answer to a call by the admin, or by another credential."""
        headers = {"Authorization": f"Bearer {secret or self.admin}", **options.pop("headers", {})}
        if body is not None:
            options["json"] = body
        answer = self.client.open(f"/auth{path}", method=method, headers=headers, **options)
        content_type = answer.headers.get("Content-Type", "")
        OPENAPI_CHECK.check(
            method, path.partition("?")[0], answer.status_code, content_type, answer.data
        )
        return answer

    def create(self, **members: Any) -> dict[str, Any]:
        """A new token, its secret with it."""
        answer = self.call("POST", "/tokens", {"name": "t", **members})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.get_json()
        return made

    def everything(self) -> list[Any]:
        """All that is stored: tokens, secrets, feed."""
        with self.gate._store.reading() as reading:
            ask = reading._connection.exec_driver_sql
            tables = ("faregate_tokens", "faregate_secrets", "faregate_feed", "faregate_sequence")
            return [ask(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables]


def flask_of(api: Api) -> Flask:
    """The Flask application of an API."""
    assert isinstance(api.client.application, Flask)
    return api.client.application


@pytest.fixture(params=["flask", "starlette"])
def api(request: pytest.FixtureRequest, store: str, clock: Clock) -> Iterator[Api]:
    """The API over a store in memory and over one on a file, in each framework."""
    made = Api(store, clock, request.param)
    yield made
    made.gate.close()


def problem(answer: TestResponse, status: int, code: str) -> str:
    """The detail of a problem, after a look at everything else in it."""
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), (
        answer.text
    )
    members = answer.get_json()
    assert set(members) == {"type", "title", "status", "detail", "code"}
    assert (members["status"], members["code"], members["type"]) == (
        status,
        code,
        f"urn:faregate:{code}",
    )
    assert answer.headers["Cache-Control"] == "no-store"
    return str(members["detail"])


def test_creation(api: Api) -> None:
    """201, where it is, the record with every member, and the secret this once."""
    answer = api.call(
        "POST",
        "/tokens",
        {"name": "ci", "scopes": ["docs:read"], "expiresIn": 60, "owner": {"id": "u1"}},
    )
    assert answer.status_code == 201
    made = answer.get_json()
    assert list(made) == [*TOKEN_FIELDS, "token"]
    assert answer.headers["Location"] == f"/auth/tokens/{made['id']}"
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert made["createdAt"] == "1970-01-12T13:46:40Z"
    assert made["expiresAt"] == "1970-01-12T13:47:40Z"
    assert made["owner"] == {"id": "u1", "name": None, "acct": None, "domain": None, "idpId": None}
    assert made["org"] == {"id": None, "name": None}
    assert made["scope"] == ["docs:read"]
    assert made["allowedScopes"] == {
        "generalScopes": ["docs:read"],
        "organizationScopes": {
            "allPermissions": False,
            "allRoles": False,
            "keptInToken": [],
            "permissions": [],
            "roles": [],
        },
        "servicesScopes": [],
    }
    assert api.gate.verify(made["token"]).id == made["id"]


def test_reading(api: Api) -> None:
    """The record without the secret, by id and as self."""
    made = api.create(scopes=["gate:tokens:read"])
    for path, secret in ((f"/tokens/{made['id']}", None), ("/tokens/self", made["token"])):
        answer = api.call("GET", path, secret=secret)
        assert answer.status_code == 200
        assert answer.headers["ETag"] == '"1"'
        assert answer.get_json() == {name: made[name] for name in TOKEN_FIELDS}


def test_listing(api: Api) -> None:
    """Items, totals, and links to the neighbouring pages that keep the filters."""
    for number in range(5):
        api.create(name=f"t{number}")
    answer = api.call("GET", "/tokens?limit=2&offset=2&sort=name&type=API")
    page = answer.get_json()
    assert list(page) == ["items", "total", "limit", "offset"]
    assert ([item["name"] for item in page["items"]], page["total"]) == (["t1", "t2"], 6)
    assert all(list(item) == TOKEN_FIELDS for item in page["items"])
    assert re.sub(r"after=[\w-]+", "after=…", answer.headers["Link"]) == (
        '</auth/tokens?limit=2&sort=name&type=API&after=…>; rel="next", '
        '</auth/tokens?limit=2&sort=name&type=API&offset=0>; rel="prev"'
    )
    assert "Link" not in api.call("GET", "/tokens").headers
    expiring = api.create(name="brief", expiresIn=10)
    assert (
        api.call("GET", "/tokens?expiresBefore=1000011").get_json()["items"][0]["id"]
        == expiring["id"]
    )
    assert (
        api.call("GET", "/tokens?expiresBefore=1970-01-12T13:46:41Z&deactivated=false").get_json()[
            "total"
        ]
        == 0
    )


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("offset=-1", "offset"),
        ("offset=99999999999999999999", "offset"),
        ("deactivated=1", "deactivated"),
        ("deactivated=True", "deactivated"),
        ("expiresBefore=soon", "expiresBefore"),
        ("expiresBefore=2030-01-01T00:00:00", "expiresBefore"),
        ("type=api", "type"),
        ("sort=id", "sort"),
        ("sort=", "sort"),
        ("sort=name,type", "sort"),
        ("ownr=u1", "ownr"),
        ("access_token=x", "access_token"),
    ],
)
def test_bad_queries_name_the_parameter(api: Api, query: str, word: str) -> None:
    """A parameter that is misspelt or cannot be is not ignored."""
    assert problem(api.call("GET", f"/tokens?{query}"), 400, "invalid_input").startswith(f"{word}:")


BAD_MEMBERS: list[tuple[str, object]] = [
    ("name", None), ("name", 5), ("name", ""), ("name", " "), ("name", "a" * 201), ("name", "a\u0007"), ("name", "\u202e"), ("name", []),
    ("description", 5), ("description", "a" * 2001), ("description", {}),
    ("scopes", None), ("scopes", "a"), ("scopes", [1]), ("scopes", ["a b"]), ("scopes", ["a*"]), ("scopes", {}), ("scopes", [None]),
    ("allowedScopes", None), ("allowedScopes", []), ("allowedScopes", "x"), ("allowedScopes", {"x": 1}),
    ("allowedScopes", {"generalScopes": "a"}), ("allowedScopes", {"generalScopes": ["x/role:y"]}),
    ("allowedScopes", {"organizationScopes": {"allPermissions": "yes"}}),
    ("allowedScopes", {"organizationScopes": {"permissions": [{"permissionId": "p", "resources": []}]}}),
    ("allowedScopes", {"organizationScopes": {"allRoles": True, "roles": [{"name": "r"}]}}),
    ("allowedScopes", {"organizationScopes": {"keptInToken": ["X"]}}),
    ("allowedScopes", {"servicesScopes": [{"permissions": []}]}),
    ("allowedScopes", {"servicesScopes": [{"serviceDefinitionId": "general"}]}),
    ("allowedCidrBlocks", None), ("allowedCidrBlocks", "10.0.0.0/8"), ("allowedCidrBlocks", [167772160]), ("allowedCidrBlocks", [None]),
    ("allowedCidrBlocks", ["10.0.0.1/8"]), ("allowedCidrBlocks", [["10.0.0.0", 8]]), ("allowedCidrBlocks", ["10.0.0.0/8"] * 10_001),
    ("expiresAt", "soon"), ("expiresAt", "2030-01-01"), ("expiresAt", "2030-01-01T00:00:00"), ("expiresAt", True), ("expiresAt", []),
    ("expiresAt", 1), ("expiresAt", -5), ("expiresAt", 1_900_000_000_000), ("expiresAt", "2500-01-01T00:00:00Z"),
    ("expiresIn", 0), ("expiresIn", -1), ("expiresIn", "60"), ("expiresIn", None), ("expiresIn", True), ("expiresIn", 1e200),
    ("notBefore", "x"), ("notBefore", {}), ("notBefore", 1e13),
    ("owner", None), ("owner", "u1"), ("owner", {"id": 5}), ("owner", {"id": ""}), ("owner", {"idp": "x"}), ("owner", {"name": "\n"}),
    ("org", None), ("org", {"id": []}), ("org", {"id": "a" * 513}), ("org", {"x": 1}),
    ("type", "refresh"), ("type", "nonsense"), ("type", None), ("type", 5),
    ("requireRotation", True), ("requireRotation", "x"),
    ("unknown", 1), ("Name", "x"), ("expires_at", 5),
]  # fmt: skip


@pytest.fixture(scope="module")
def unchanged() -> Iterator[tuple[Api, dict[str, Any]]]:
    """An API for tests that change nothing, and a token there."""
    made = Api("sqlite://", Clock())
    yield made, made.create(name="before")
    made.gate.close()


@pytest.mark.parametrize(("member", "value"), BAD_MEMBERS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_bad_members_are_named_and_change_nothing(
    unchanged: tuple[Api, dict[str, Any]], method: str, member: str, value: object
) -> None:
    """A problem that begins with the member, and a store in which not one byte of data moved."""
    api, made = unchanged
    path = "/tokens" if method == "POST" else f"/tokens/{made['id']}"
    body = (
        {"id": made["id"], "name": "after", member: value}
        if method == "PUT"
        else {"name": "after", member: value}
    )
    before = api.everything()
    detail = problem(api.call(method, path, body), 400, "invalid_input")
    assert member in detail.split(":")[0], detail
    assert api.everything() == before


@pytest.mark.parametrize(
    "pair", [("scopes", ["a"], "allowedScopes", {}), ("expiresAt", 2e6, "expiresIn", 5)]
)
def test_two_names_for_one_thing_are_refused(api: Api, pair: tuple[str, Any, str, Any]) -> None:
    """Short and long form together could contradict each other."""
    detail = problem(
        api.call("POST", "/tokens", {"name": "x", pair[0]: pair[1], pair[2]: pair[3]}),
        400,
        "invalid_input",
    )
    assert pair[0] in detail
    assert pair[2] in detail


@pytest.mark.parametrize(
    ("data", "content_type", "status", "code"),
    [
        (b"", "application/json", 400, "invalid_input"),
        (b"{", "application/json", 400, "invalid_input"),
        (b"[]", "application/json", 400, "invalid_input"),
        (b"null", "application/json", 400, "invalid_input"),
        (b'"x"', "application/json", 400, "invalid_input"),
        (b"\xff\xfe{}", "application/json", 400, "invalid_input"),
        (b'{"name": "\\ud800"}', "application/json", 400, "invalid_input"),
        (b'{"name": NaN}', "application/json", 400, "invalid_input"),
        (b"[" * 100_000, "application/json", 400, "invalid_input"),
        (b'{"name": "x"}', "text/plain", 415, "not_json"),
        (b'{"name": "x"}', "", 415, "not_json"),
        (b"name=x", "application/x-www-form-urlencoded", 415, "not_json"),
        (b'{"name": "' + b"x" * 1024 * 1024 + b'"}', "application/json", 413, "body_too_large"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_bodies_that_are_none(
    api: Api, data: bytes, content_type: str, status: int, code: str
) -> None:
    """Not JSON, not an object, too long: a problem each, and nothing changes."""
    before = api.everything()
    problem(api.call("POST", "/tokens", data=data, content_type=content_type or None), status, code)
    assert api.everything() == before


def test_json_with_a_charset_is_json(api: Api) -> None:
    """A parameter of the media type does not matter."""
    answer = api.call(
        "POST", "/tokens", data=b'{"name": "x"}', content_type="application/json; charset=utf-8"
    )
    assert answer.status_code == 201


def test_the_body_is_read_only_after_the_caller_may_call(api: Api) -> None:
    """Who may not call learns nothing about bodies: 401 and 403 come before 400, 413 and 415."""
    weak = api.create()["token"]
    for secret, status in (("fg_tok_nonsense", 401), (weak, 403)):
        for data in (b"{", b"x" * 2 * 1024 * 1024):
            assert api.call("POST", "/tokens", secret=secret, data=data).status_code == status


def test_patch_changes_what_it_names(api: Api) -> None:
    """And PUT with the record as it was read changes nothing, not even the version."""
    made = api.create(
        scopes=["a"], allowedCidrBlocks=["10.0.0.0/8"], description="d", expiresIn=100
    )
    path = f"/tokens/{made['id']}"
    same = api.call("PUT", path, made)
    assert (same.status_code, same.headers["ETag"]) == (200, '"1"')
    changed = api.call(
        "PATCH", path, {"name": "new", "scopes": ["b"], "description": None, "expiresAt": None}
    )
    assert changed.status_code == 200
    assert changed.headers["ETag"] == '"2"'
    record = changed.get_json()
    assert (record["name"], record["scope"], record["description"], record["expiresAt"]) == (
        "new",
        ["b"],
        None,
        None,
    )
    assert record["allowedCidrBlocks"] == ["10.0.0.0/8"]
    assert api.call("GET", path).get_json() == record
    assert api.call("PATCH", path, {}).get_json() == record
    assert api.call("PATCH", path, {"allowedCidrBlocks": []}).get_json()["allowedCidrBlocks"] == []


def test_put_needs_id_and_name(api: Api) -> None:
    """And the id of the path."""
    made = api.create()
    path = f"/tokens/{made['id']}"
    assert problem(api.call("PUT", path, {"name": "x"}), 400, "invalid_input") == "id: is required"
    assert (
        problem(api.call("PUT", path, {"id": made["id"]}), 400, "invalid_input")
        == "name: is required"
    )
    assert problem(
        api.call("PUT", path, {"id": "x", "name": "x"}), 400, "invalid_input"
    ).startswith("id:")
    assert api.call("PUT", path, {"id": made["id"], "name": "x"}).get_json()["name"] == "x"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("id", "other"),
        ("type", "PROXY"),
        ("scope", ["b"]),
        ("scope", []),
        ("createdAt", "2020-01-01T00:00:00Z"),
        ("createdAt", 5),
        ("createdAt", None),
        ("updatedAt", 5),
        ("rotatedAt", 5),
        ("deactivated", True),
        ("deactivatedUpdatedBy", "me"),
        ("deactivatedUpdatedOn", 5),
        ("deactivatedReason", "x"),
        ("madeBy", "me"),
        ("madeBy", None),
        ("lastUsedAt", 2_000_000),
    ],
)
def test_what_cannot_be_changed_is_named(api: Api, member: str, value: object) -> None:
    """Sent as it is, it passes; sent otherwise, it is refused."""
    made = api.create(scopes=["a"])
    path = f"/tokens/{made['id']}"
    assert api.call("PATCH", path, {member: made[member]}).status_code == 200
    assert problem(
        api.call("PATCH", path, {member: value, "name": "x"}), 400, "invalid_input"
    ).startswith(f"{member}:")
    assert api.call("GET", path).get_json()["name"] == made["name"]


def test_token_is_ignored_on_input(api: Api) -> None:
    """Nobody sets a credential."""
    made = api.create()
    api.call("PATCH", f"/tokens/{made['id']}", {"token": "fg_tok_mine", "name": "x"})
    assert api.gate.verify(made["token"]).id == made["id"]


def test_instants_pass_in_every_form(api: Api) -> None:
    """A read-only instant may come back as seconds, or with another offset."""
    made = api.create()
    for same in (1_000_000, "1970-01-12T14:46:40+01:00", made["createdAt"]):
        assert api.call("PATCH", f"/tokens/{made['id']}", {"createdAt": same}).status_code == 200


def test_if_match(api: Api) -> None:
    """The version that was read, any of several, or any at all; weak and foreign tags never match."""
    made = api.create()
    path = f"/tokens/{made['id']}"
    for tag, status in (
        ('"1"', 200),
        ('"1"', 412),
        ('"9", "2"', 200),
        ("*", 200),
        ('W/"4"', 412),
        ('"x"', 412),
        ("4", 412),
    ):
        answer = api.call("PATCH", path, {"name": f"n{tag}"}, headers={"If-Match": tag})
        assert answer.status_code == status, tag
        if status == 412:
            problem(answer, 412, "precondition_failed")


def test_rotation(api: Api) -> None:
    """200 with the new secret; with grace both open; the body may be left out."""
    made = api.create()
    path = f"/tokens/{made['id']}/rotate"
    rotated = api.call("POST", path)
    assert list(rotated.get_json()) == [*TOKEN_FIELDS, "token"]
    assert rotated.headers["Cache-Control"] == "no-store"
    assert api.call("GET", "/tokens/self", secret=made["token"]).status_code == 401
    graced = api.call("POST", path, {"grace": 60}).get_json()
    for secret in (rotated.get_json()["token"], graced["token"]):
        assert api.call("GET", "/tokens/self", secret=secret).status_code == 200
    old = api.call("POST", "/tokens/self/rotate", {}, secret=rotated.get_json()["token"])
    problem(old, 409, "conflict")
    for grace in (-1, 604_801, "5", True, 1e300):
        assert problem(api.call("POST", path, {"grace": grace}), 400, "invalid_input").startswith(
            "grace"
        )
    assert problem(api.call("POST", path, {"graze": 5}), 400, "invalid_input").startswith("graze")


def test_deactivation_and_activation(api: Api) -> None:
    """200 with the record; the reason is kept; 401 for its credential in between."""
    made = api.create()
    path = f"/tokens/{made['id']}"
    closed = api.call("POST", f"{path}/deactivate", {"reason": "lost"}).get_json()
    assert (closed["deactivated"], closed["deactivatedReason"]) == (True, "lost")
    problem(api.call("GET", "/tokens/self", secret=made["token"]), 401, "deactivated")
    problem(api.call("POST", f"{path}/rotate"), 409, "conflict")
    assert api.call("POST", f"{path}/activate").get_json()["deactivated"] is False
    assert api.call("GET", "/tokens/self", secret=made["token"]).status_code == 200
    assert problem(
        api.call("POST", f"{path}/deactivate", {"reason": 5}), 400, "invalid_input"
    ).startswith("reason")
    assert problem(
        api.call("POST", f"{path}/deactivate", {"reason": "x" * 501}), 400, "invalid_input"
    ).startswith("reason")


def test_deletion(api: Api) -> None:
    """204 without a body, then 404, and 401 for its credential."""
    made = api.create()
    path = f"/tokens/{made['id']}"
    answer = api.call("DELETE", path)
    assert (answer.status_code, answer.data) == (204, b"")
    for method, suffix in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/rotate"),
        ("POST", "/deactivate"),
        ("POST", "/activate"),
    ):
        problem(api.call(method, path + suffix), 404, "not_found")
    problem(api.call("GET", "/tokens/self", secret=made["token"]), 401, "unknown_credential")


def test_self(api: Api) -> None:
    """Without any scope: read, rotate, deactivate and delete oneself, and nothing else."""
    made = api.create()
    secret = api.call("POST", "/tokens/self/rotate", {"grace": 0}, secret=made["token"]).get_json()[
        "token"
    ]
    assert api.call("GET", f"/tokens/{made['id']}", secret=secret).status_code == 200
    for method, path in (
        ("PATCH", "/tokens/self"),
        ("PUT", "/tokens/self"),
        ("POST", "/tokens/self/activate"),
        ("GET", "/tokens"),
    ):
        assert problem(api.call(method, path, secret=secret), 403, "insufficient_scope")
    other = api.create()
    problem(api.call("GET", f"/tokens/{other['id']}", secret=secret), 403, "insufficient_scope")
    assert api.call("POST", "/tokens/self/deactivate", secret=secret).status_code == 200
    problem(api.call("GET", "/tokens/self", secret=secret), 401, "deactivated")
    gone = api.create()
    assert api.call("DELETE", "/tokens/self", secret=gone["token"]).status_code == 204


def test_what_is_missing_is_named(api: Api) -> None:
    """403 with the scopes of the need, or the ways in which a child would be wider."""
    weak = api.create(scopes=["gate:tokens:write", "a"], expiresIn=100)["token"]
    answer = api.call("GET", "/tokens", secret=weak)
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="faregate", error="insufficient_scope", scope="gate:tokens:read"'
    )
    wider = api.call(
        "POST", "/tokens", {"name": "x", "scopes": ["a", "b"], "expiresAt": None}, secret=weak
    )
    detail = problem(wider, 403, "insufficient_scope")
    assert "b" in detail
    assert "a later expiry" in detail
    assert wider.headers["WWW-Authenticate"].endswith('scope="b"')


def test_organizations_are_strictly_apart(api: Api) -> None:
    """An admin of one sees a token of the other nowhere: 404 for every call, as for one that never was."""
    admin = api.create(scopes=["gate:*"], org={"id": "o1"}, owner={"id": "boss"})["token"]
    other = api.create(org={"id": "o2"})
    for token_id in (
        other["id"],
        "01a20176-e498-77ff-993c-82117441d525",
        "nonsense",
        "%2e%2e",
        "a" * 500,
    ):
        answers = [
            api.call("GET", f"/tokens/{token_id}", secret=admin),
            api.call("PATCH", f"/tokens/{token_id}", {"name": "x"}, secret=admin),
            api.call("PUT", f"/tokens/{token_id}", {"id": token_id, "name": "x"}, secret=admin),
            api.call("DELETE", f"/tokens/{token_id}", secret=admin),
            api.call("POST", f"/tokens/{token_id}/rotate", secret=admin),
            api.call("POST", f"/tokens/{token_id}/deactivate", secret=admin),
            api.call("POST", f"/tokens/{token_id}/activate", secret=admin),
        ]
        assert len({json.dumps(answer.get_json()) for answer in answers}) == 1
        assert {answer.status_code for answer in answers} == {404}


def test_the_prefix_of_the_application_is_kept(clock: Clock) -> None:
    """Location and Link lead to where the API is mounted, behind SCRIPT_NAME too."""
    api = Api("sqlite://", clock)
    environ = {"SCRIPT_NAME": "/app"}
    made = api.call("POST", "/tokens", {"name": "x"}, environ_overrides=environ)
    assert made.headers["Location"].startswith("/app/auth/tokens/")
    assert (
        "</app/auth/tokens?"
        in api.call("GET", "/tokens?limit=1", environ_overrides=environ).headers["Link"]
    )


def test_a_body_that_the_application_has_read_counts(clock: Clock) -> None:
    """What a before_request has taken is still there; what was consumed is missed, never taken for empty."""
    api = Api("sqlite://", clock)
    app = flask_of(api)
    taken: list[bytes] = []
    app.before_request(lambda: taken.append(request.get_data()))
    made = api.create()
    api.call("POST", f"/tokens/{made['id']}/rotate", {"grace": 60})
    assert api.gate.verify(made["token"]).id == made["id"]
    app.before_request_funcs[None] = [lambda: taken.append(request.stream.read())]
    detail = problem(
        api.call("POST", f"/tokens/{made['id']}/rotate", {"grace": 60}), 400, "invalid_input"
    )
    assert "was read before" in detail


def test_the_applications_own_limit_counts(clock: Clock) -> None:
    """A smaller MAX_CONTENT_LENGTH is a problem as ours is."""
    api = Api("sqlite://", clock)
    flask_of(api).config["MAX_CONTENT_LENGTH"] = 100
    problem(
        api.call("POST", "/tokens", {"name": "x", "description": "y" * 100}), 413, "body_too_large"
    )
    assert api.call("POST", "/tokens", {"name": "x"}).status_code == 201


def test_a_credential_in_the_query_is_no_parameter(clock: Clock) -> None:
    """The list can be called with it, and no link repeats it."""
    app = Flask(__name__)
    app.config.update(
        {"FAREGATE_STORE": "sqlite://", "FAREGATE_CLOCK": clock, "FAREGATE_QUERY": True}
    )
    faregate = Faregate(app)
    app.register_blueprint(faregate.management(), url_prefix="/auth")
    secrets = [faregate.gate.tokens.create(name="a", scopes=["*"]).secret for _ in range(2)]
    answer = app.test_client().get(f"/auth/tokens?limit=1&access_token={secrets[0]}")
    assert answer.status_code == 200
    assert re.fullmatch(r'</auth/tokens\?limit=1&after=[\w-]+>; rel="next"', answer.headers["Link"])


def test_put_to_self_names_self(api: Api) -> None:
    """The id of the path is the path's, whichever way it is written."""
    writer = api.create(scopes=["gate:tokens:write"])
    for own in ("self", writer["id"]):
        answer = api.call("PUT", "/tokens/self", {"id": own, "name": "new"}, secret=writer["token"])
        assert answer.status_code == 200


def test_a_reason_is_judged_even_where_nothing_changes(api: Api) -> None:
    """Bad input is bad input."""
    made = api.create()
    for call in ("activate", "deactivate", "deactivate"):
        answer = api.call("POST", f"/tokens/{made['id']}/{call}", {"reason": "x" * 501})
        assert problem(answer, 400, "invalid_input").startswith("reason:")


def test_a_thousand_missing_scopes_are_told_in_few_words(api: Api) -> None:
    """And compared in little time, under the write lock."""
    weak = api.create(scopes=["gate:tokens:write"])["token"]
    scopes = [":".join(["a"] * 30) + f":{number}" for number in range(1000)]
    begun = time.monotonic()
    detail = problem(
        api.call("POST", "/tokens", {"name": "x", "scopes": scopes}, secret=weak),
        403,
        "insufficient_scope",
    )
    assert time.monotonic() - begun < 2
    assert len(detail) < 3000
    assert problem(
        api.call("POST", "/tokens", {"name": "x", "scopes": [":" * 32]}), 400, "invalid_input"
    )


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_told_which_there_are(api: Api, path: str) -> None:
    """Other methods get 405 with ``Allow`` and a problem before authentication. OPTIONS answers 204 with ``Allow``, and HEAD like GET."""
    known = [operation.method for operation in OPERATIONS if operation.path == path]
    allowed = {*known, "OPTIONS", *(["HEAD"] if "GET" in known else [])}
    url = "/auth" + path.replace("{id}", "x")
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
        answer = api.client.open(url, method=method)
        if method in known:
            assert answer.status_code in {200, 400, 401, 415}
            continue
        assert problem(answer, 405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(", ")) == allowed
        assert "WWW-Authenticate" not in answer.headers
    answer = api.client.open(url, method="OPTIONS")
    assert (answer.status_code, set(answer.headers["Allow"].split(", ")), answer.data) == (
        204,
        allowed,
        b"",
    )
    if "GET" in known:
        got, head = (
            api.client.open(url, method=method, headers={"Authorization": f"Bearer {api.admin}"})
            for method in ("GET", "HEAD")
        )
        assert (head.status_code, head.headers["Content-Type"]) == (
            got.status_code,
            got.headers["Content-Type"],
        )


def test_refusals_are_short_whatever_was_sent(api: Api) -> None:
    """Headers that any client and proxy reads, and a body that nobody minds: the words of a refusal are cut."""
    maker = api.create(scopes=["gate:tokens:*", "gate:shares:*"])["token"]
    scopes = [f"s{number}:{'x' * 180}" for number in range(1000)]
    permissions = [{"permissionId": f"{number}{'ö' * 500}"} for number in range(60)]
    for path, body, status in (
        ("/tokens", {"name": "t", "scopes": scopes}, 403),
        (
            "/tokens",
            {"name": "t", "allowedScopes": {"organizationScopes": {"permissions": permissions}}},
            403,
        ),
        ("/shares", {"objectId": "x", "expiresIn": 60, "scopes": scopes}, 403),
        ("/tokens", {"name": "t", "scopes": ["ö" * 100_000]}, 400),
        ("/tokens", {"name": "t", "type": "x" * 900_000}, 400),
        ("/tokens", {"name": "t", "x" * 900_000: 1}, 400),
        ("/tokens", {"name": "t", "allowedCidrBlocks": ["x" * 900_000]}, 400),
        (
            "/shares",
            {"objectId": "x", "expiresIn": 60, "scopes": ["a"], "params": {"x" * 900_000: 1}},
            400,
        ),
    ):
        answer = api.call("POST", path, body, secret=maker)
        assert answer.status_code == status
        assert len(str(answer.headers)) < 4096
        assert len(answer.data) < 10_000
    answer = api.call(
        "POST", "/token", data={"grant_type": "x" * 7000, "refresh_token": "x" * 7000}
    )
    assert (answer.status_code, len(answer.data) < 10_000) == (400, True)
