"""``POST /token`` over HTTP, in each framework: the answers of RFC 6749 sections 5.1 and 5.2; and what is told of an access token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Clock, reason_of
from openapi_check import OPENAPI_CHECK
from test_http import Api
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from faregate import AllowedScopes, Permission, Role, StoreUnavailable
from faregate.stores.store import Store


@pytest.fixture(params=["flask", "starlette"])
def api(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Api]:
    """The API in each framework."""
    made = Api("sqlite://", clock, request.param)
    yield made
    made.gate.close()


def ask(api: Api, form: Any, **options: Any) -> TestResponse:
    """The answer to a form."""
    answer = api.client.post("/auth/token", data=form, **options)
    OPENAPI_CHECK.check(
        "POST", "/token", answer.status_code, answer.headers.get("Content-Type", ""), answer.data
    )
    assert answer.headers["Cache-Control"] == "no-store"
    return answer


def grant(secret: str, **more: str) -> dict[str, str]:
    """The form that exchanges a refresh token."""
    return {"grant_type": "refresh_token", "refresh_token": secret, **more}


def test_an_answer_has_the_members_of_the_rfc(api: Api) -> None:
    """And no others; what is asked for besides is ignored."""
    secret = api.create(type="REFRESH", scopes=["docs:*", "a"], expiresIn=86400)["token"]
    answer = ask(api, grant(secret, client_id="x", other="y"))
    members = answer.get_json()
    assert (answer.status_code, answer.content_type, answer.headers["Pragma"]) == (
        200,
        "application/json",
        "no-cache",
    )
    assert list(members) == ["access_token", "token_type", "expires_in", "refresh_token", "scope"]
    assert (members["token_type"], members["expires_in"], members["scope"]) == (
        "Bearer",
        1800,
        "docs:* a",
    )
    assert members["access_token"].startswith("fg_act_")
    assert members["refresh_token"].startswith("fg_rft_")
    assert "WWW-Authenticate" not in answer.headers


def test_scopes_and_what_is_left_of_the_family_are_told(api: Api) -> None:
    """The scope is that of the access token; it lasts no longer than its family; without rotation nothing takes over."""
    secret = api.create(
        type="REFRESH", scopes=["docs:*", "a"], expiresIn=90.7, requireRotation=False
    )["token"]
    members = ask(api, grant(secret, scope="docs:read a docs:read")).get_json()
    assert list(members) == ["access_token", "token_type", "expires_in", "scope"]
    assert (members["expires_in"], members["scope"]) == (90, "docs:read a")
    assert (
        ask(api, grant(secret, scope="")).get_json()["scope"] == "docs:* a"
    )  # one without a value is left out
    nothing = api.create(type="REFRESH")["token"]
    assert ask(api, grant(nothing)).get_json()["scope"] == ""


@pytest.mark.parametrize(
    ("form", "error", "word"),
    [
        ({"x": "y"}, "invalid_request", "grant_type"),
        ({"refresh_token": "{secret}"}, "invalid_request", "grant_type"),
        ({"grant_type": "", "refresh_token": "{secret}"}, "invalid_request", "grant_type"),
        (
            {"grant_type": "password", "refresh_token": "{secret}"},
            "unsupported_grant_type",
            "refresh_token",
        ),
        ({"grant_type": "refresh_token"}, "invalid_request", "refresh_token"),
        ({"grant_type": "refresh_token", "refresh_token": ""}, "invalid_request", "refresh_token"),
        (
            {"grant_type": ["refresh_token", "refresh_token"], "refresh_token": "{secret}"},
            "invalid_request",
            "once",
        ),
        (
            {"grant_type": "refresh_token", "refresh_token": ["{secret}", "{secret}"]},
            "invalid_request",
            "once",
        ),
        (
            {"grant_type": "refresh_token", "refresh_token": "{secret}", "x": ["1", "2"]},
            "invalid_request",
            "once",
        ),
        (
            {"grant_type": "refresh_token", "refresh_token": "{secret}", "scope": "b"},
            "invalid_scope",
            "b",
        ),
        (
            {"grant_type": "refresh_token", "refresh_token": "{secret}", "scope": 'a"'},
            "invalid_scope",
            "scope",
        ),
        (
            {"grant_type": "refresh_token", "refresh_token": "{secret}", "scope": "\u00e9\\"},
            "invalid_scope",
            "scope",
        ),
        (
            {"grant_type": "refresh_token", "refresh_token": "{secret}", "scope": "a  a"},
            "invalid_scope",
            "scope",
        ),
        (
            {"grant_type": "refresh_token", "refresh_token": "fg_rft_junk"},
            "invalid_grant",
            "unknown",
        ),
        ({"grant_type": "refresh_token", "refresh_token": "a b"}, "invalid_grant", "malformed"),
        ({"grant_type": "refresh_token", "refresh_token": "\x00é"}, "invalid_grant", "malformed"),
    ],
)
def test_refusals_have_the_codes_of_the_rfc(
    api: Api, form: dict[str, Any], error: str, word: str
) -> None:
    """400 with a word on what was wrong; and nothing is spent."""
    secret = api.create(type="REFRESH", scopes=["a"])["token"]
    filled = MultiDict(
        (name, value.replace("{secret}", secret))
        for name, values in form.items()
        for value in (values if isinstance(values, list) else [values])
    )
    before = api.everything()
    answer = ask(api, filled)
    told = answer.get_json()
    assert (answer.status_code, list(told), told["error"]) == (
        400,
        ["error", "error_description"],
        error,
    )
    assert word in told["error_description"]
    assert "WWW-Authenticate" not in answer.headers
    assert re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]+", told["error_description"])
    assert secret not in answer.text
    assert api.everything() == before
    assert ask(api, grant(secret)).status_code == 200


def test_other_bodies_and_methods_are_refused(api: Api) -> None:
    """JSON, what is too long, and what is no request for it."""
    secret = api.create(type="REFRESH")["token"]
    json = api.client.post("/auth/token", json=grant(secret))
    assert (json.status_code, json.get_json()["error"]) == (400, "invalid_request")
    long = ask(api, grant(secret, other="x" * 20_000))
    assert (long.status_code, long.get_json()["error"]) == (413, "invalid_request")
    assert api.client.get("/auth/token").status_code == 405
    query = api.client.post("/auth/token", query_string=grant(secret))
    assert query.status_code == 400


def test_whoever_has_the_credential_is_asked_for_nothing_else(api: Api) -> None:
    """What is in the header is not read, be it what it may."""
    for header in ("Bearer junk", f"Bearer {api.admin}", "Basic eDp5", "Bearer a, Bearer b"):
        secret = api.create(type="REFRESH")["token"]
        assert ask(api, grant(secret), headers={"Authorization": header}).status_code == 200


def test_the_clients_address_is_judged(api: Api) -> None:
    """By the networks of the refresh token."""
    made = api.create(type="REFRESH", allowedCidrBlocks=["192.0.2.0/24"])
    refused = ask(api, grant(made["token"]), environ_base={"REMOTE_ADDR": "198.51.100.1"})
    assert (refused.status_code, refused.get_json()["error"]) == (400, "invalid_grant")
    assert "address" in refused.get_json()["error_description"]
    assert (
        ask(api, grant(made["token"]), environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 200
    )


def test_a_store_that_cannot_answer_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says when to come again."""
    secret = api.create(type="REFRESH")["token"]

    def fail(_: Store) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(Store, "changing", fail)
        answer = ask(api, grant(secret))
    assert (answer.status_code, answer.get_json()["error"]) == (503, "temporarily_unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert ask(api, grant(secret)).status_code == 200


def test_members_of_a_refresh_token(api: Api) -> None:
    """Whether it is replaced, which can be changed, and whether it was revoked, which cannot."""
    made = api.create(type="REFRESH")
    assert (made["type"], made["requireRotation"], made["revokedAt"]) == ("REFRESH", True, None)
    assert made["expiresAt"] == "1970-04-12T13:46:40Z"
    path = f"/tokens/{made['id']}"
    changed = api.call("PATCH", path, {"requireRotation": False, "revokedAt": None}).get_json()
    assert changed["requireRotation"] is False
    assert api.call("PUT", path, {**changed, "name": "y"}).get_json()["name"] == "y"
    for body in ({"requireRotation": None}, {"expiresAt": None}, {"type": "API"}, {"revokedAt": 5}):
        assert api.call("PATCH", path, body).status_code == 400
    assert (
        api.call("PATCH", f"/tokens/{api.create()['id']}", {"requireRotation": True}).status_code
        == 400
    )
    assert [one["id"] for one in api.call("GET", "/tokens?type=REFRESH").get_json()["items"]] == [
        made["id"]
    ]
    api.client.post("/auth/revoke", data={"token": made["token"]})
    revoked = api.call("GET", path).get_json()
    assert (revoked["revokedAt"], revoked["deactivated"]) == ("1970-01-12T13:46:40Z", False)
    for action in ("rotate", "activate"):
        assert api.call("POST", f"{path}/{action}").status_code == 409
    assert api.call("PATCH", path, {"name": "z"}).status_code == 409


EDIT = {"permissionId": "edit", "resources": ["x"]}
REALM = {"permissions": [EDIT], "roles": [{"name": "boss", "resource": None}]}


@pytest.mark.parametrize(
    ("kept", "listed"),
    [
        ([], []),
        (["PERMISSIONS"], ["organization/permission:edit@x", "s/permission:edit@x"]),
        (["ROLES"], ["organization/role:boss@*", "s/role:boss@*"]),
        (["ROLES", "PERMISSIONS"], [
            "organization/permission:edit@x", "organization/role:boss@*", "s/permission:edit@x", "s/role:boss@*",
        ]),
    ],
)  # fmt: skip
def test_what_is_kept_in_the_token_is_listed(api: Api, kept: list[str], listed: list[str]) -> None:
    """Of an access token, and never decides what it may do."""
    realm = {**REALM, "keptInToken": kept}
    allowed = {
        "generalScopes": ["a"],
        "organizationScopes": realm,
        "servicesScopes": [{**realm, "serviceDefinitionId": "s"}],
    }
    made = api.create(type="REFRESH", allowedScopes=allowed)
    access = ask(api, grant(made["token"])).get_json()["access_token"]
    told = api.client.post(
        "/auth/introspect", data={"token": access}, headers={"Authorization": f"Bearer {api.admin}"}
    )
    members = told.get_json()
    assert (members["active"], members["kind"], members["scope"], members["id"]) == (
        True,
        "access",
        "a",
        made["id"],
    )
    realms = [
        members["allowedScopes"]["organizationScopes"],
        *members["allowedScopes"]["servicesScopes"],
    ]
    assert [bool(one["permissions"]) for one in realms] == ["PERMISSIONS" in kept] * 2
    assert [bool(one["roles"]) for one in realms] == ["ROLES" in kept] * 2
    record = api.gate.introspect(access).record
    assert record is not None
    assert sorted(record.scope) == sorted(["a", *listed])  # type: ignore[union-attr]
    principal = api.gate.verify(access)
    principal.require(Permission("edit"), Permission("edit", service="s"), Role("boss"), on="x")
    assert not principal.allows(Permission("edit"), on="y")


def test_what_is_listed_is_what_is_open_now(api: Api) -> None:
    """Introspection lists present scopes: no later additions to the family, no removed ones."""
    realm = {"allPermissions": True, "allRoles": True, "keptInToken": ["PERMISSIONS", "ROLES"]}
    made = api.create(type="REFRESH", allowedScopes={"organizationScopes": realm})
    access = ask(api, grant(made["token"])).get_json()["access_token"]

    def listed() -> AllowedScopes:
        record = api.gate.introspect(access).record
        assert record is not None
        return record.allowed_scopes  # type: ignore[union-attr]

    assert (
        listed().organization_scopes.all_permissions,
        listed().organization_scopes.all_roles,
    ) == (True, True)
    narrower = {**REALM, "keptInToken": ["PERMISSIONS", "ROLES"]}
    api.call(
        "PATCH",
        f"/tokens/{made['id']}",
        {"allowedScopes": {"generalScopes": ["new"], "organizationScopes": narrower}},
    )
    now = listed()
    assert (now.general_scopes, now.organization_scopes.all_permissions) == ((), False)
    assert [one.permission_id for one in now.organization_scopes.permissions] == ["edit"]
    assert [one.name for one in now.organization_scopes.roles] == ["boss"]


def test_a_service_that_is_named_twice_is_listed_once(api: Api) -> None:
    """Entries of one service are merged with the kept members of both; all permissions of one entry win over a list."""
    keeps: dict[str, Any] = {"keptInToken": ["PERMISSIONS"]}
    hides = {"permissions": [{"permissionId": "hidden"}]}
    for entries, listed in (
        ([hides, {**keeps, **REALM}], ["s/permission:edit@x"]),
        ([{**keeps, "permissions": [EDIT]}, {**keeps, "permissions": [{**EDIT, "resources": ["y"]}]}], ["s/permission:edit@x", "s/permission:edit@y"]),
        ([{**keeps, "allPermissions": True}, {**keeps, "permissions": [EDIT]}], ["s/permission:*@*", "s/permission:edit@x"]),
        ([{"allPermissions": True}, {**keeps, "permissions": [EDIT]}], ["s/permission:edit@x"]),
    ):  # fmt: skip
        services = [{"serviceDefinitionId": "s", **one} for one in entries]
        made = api.create(type="REFRESH", allowedScopes={"servicesScopes": services})
        access = ask(api, grant(made["token"])).get_json()["access_token"]
        headers = {"Authorization": f"Bearer {api.admin}"}
        told = api.client.post(
            "/auth/introspect", data={"token": access}, headers=headers
        ).get_json()
        assert told["active"] is True
        record: Any = api.gate.introspect(access).record
        assert sorted(record.scope) == listed
        (service,) = told["allowedScopes"]["servicesScopes"]
        assert (service["keptInToken"], service["allPermissions"]) == (
            ["PERMISSIONS"],
            "s/permission:*@*" in listed,
        )
        assert bool(service["permissions"]) is not service["allPermissions"]


def test_much_in_common_is_told_as_well(api: Api) -> None:
    """What two lists of a thousand scopes have in common may be more than one list can hold."""
    narrow, wide = (
        [f"a:{number}" for number in range(500)],
        [f"b:{number}" for number in range(900)],
    )
    made = api.create(type="REFRESH", scopes=[*narrow, "b:*"])
    access = ask(api, grant(made["token"])).get_json()["access_token"]
    api.gate.tokens.update(made["id"], scopes=["a:*", *wide])
    told = api.gate.introspect(access)
    assert sorted(told.scope) == sorted([*narrow, *wide])
    assert sorted(told.record.scope) == sorted([*narrow, *wide])  # type: ignore[union-attr]


def test_introspection_of_a_refresh_token_says_that_it_is_one(api: Api) -> None:
    """It is active while it may be exchanged, of no type that is presented, and nothing is spent by asking."""
    made = api.create(type="REFRESH", scopes=["a"], owner={"id": "u1"})
    headers = {"Authorization": f"Bearer {api.admin}"}

    def told(token: str) -> Any:
        asked = {"token": token, "token_type_hint": "refresh_token"}
        return api.client.post("/auth/introspect", data=asked, headers=headers).get_json()

    members = told(made["token"])
    assert (members["active"], members["kind"], members["sub"], "token_type" in members) == (
        True,
        "refresh",
        "u1",
        False,
    )
    answer = ask(api, grant(made["token"])).get_json()
    assert told(made["token"]) == {"active": False}
    access = told(answer["access_token"])
    assert (access["token_type"], access["exp"], access["expiresAt"]) == (
        "Bearer",
        1_001_800,
        made["expiresAt"],
    )
    assert reason_of(lambda: api.gate.tokens.exchange(made["token"])) == "ok"
    api.call("POST", f"/tokens/{made['id']}/deactivate")
    assert [told(answer[name])["reason"] for name in ("access_token", "refresh_token")] == [
        "deactivated"
    ] * 2
