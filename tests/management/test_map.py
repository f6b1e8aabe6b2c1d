"""The README's map of where fields and methods of other systems went: each row of it is walked over HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import START, Clock
from test_http import TOKEN_FIELDS, Api, problem

README = (Path(__file__).parent.parent.parent / "README.md").read_text()
TABLE = README.partition("## Where it went")[2].partition("\n## ")[0]
ROWS = [
    tuple(cell.strip() for cell in line.split("|")[1:3])
    for line in TABLE.splitlines()
    if line.startswith("| ")
][2:]
Walk = Callable[[Api], None]
WALKS: dict[tuple[str, str], Walk] = {}


def walks(system: str, member: str) -> Callable[[Walk], Walk]:
    """Enter a walk for a row of the map."""

    def enter(walk: Walk) -> Walk:
        WALKS[system, member] = walk
        return walk

    return enter


@pytest.fixture(params=["flask", "starlette"])
def api(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Api]:
    """The API in each framework."""
    made = Api("sqlite://", clock, request.param)
    yield made
    made.gate.close()


@pytest.mark.parametrize("row", sorted(set(ROWS)), ids=": ".join)
def test_each_row_is_walked(api: Api, row: tuple[str, str]) -> None:
    """By name: no row without a request."""
    WALKS[row](api)


def test_no_row_is_forgotten() -> None:
    """The map holds what is walked, and nothing else."""
    assert set(ROWS) == set(WALKS)
    assert len(ROWS) == len(set(ROWS)) == 23


def share(api: Api, **members: Any) -> dict[str, Any]:
    """A new share."""
    answer = api.call(
        "POST", "/shares", {"objectId": "a", "scopes": ["docs:read"], "expiresIn": 60, **members}
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


@walks("shares", "CreateShare(objectId, objectIds, expiresAt, params)")
def create_share(api: Api) -> None:
    """201 with the secret; the objects, the end and the parameters are those that were given."""
    params = {
        "scopes": ["docs:read"],
        "allowedCidrBlocks": ["10.0.0.0/8"],
        "maxRedemptions": 3,
        "attributes": {"for": "Bob"},
    }
    body = {
        "objectId": "a",
        "objectIds": ["b", "a"],
        "expiresAt": "1970-01-12T14:46:40Z",
        "params": params,
    }
    answer = api.call("POST", "/shares", body)
    made = answer.get_json()
    assert (answer.status_code, made["objectId"], made["objectIds"], made["params"]) == (
        201,
        "a",
        ["a", "b"],
        params,
    )
    assert (made["expiresAt"], made["secret"][:7]) == ("1970-01-12T14:46:40Z", "fg_shr_")


@walks("shares", "RedeemShareToken(shareId)")
def redeem_share(api: Api) -> None:
    """By the id alone for who reaches and covers it, with the secret for anybody; a token that opens the objects."""
    made = share(api)
    for body, secret in ((None, None), ({"secret": made["secret"]}, "nonsense")):
        answer = api.call("POST", f"/shares/{made['id']}/redeem", body, secret=secret)
        redeemed = answer.get_json()
        assert (answer.status_code, redeemed["tokenType"], redeemed["objectIds"]) == (
            200,
            "Bearer",
            ["a"],
        )
        assert redeemed["expiresAt"] == "1970-01-12T13:47:40Z"
        assert api.gate.verify(redeemed["token"]).allows("docs:read", on="a")


@walks("shares", "RevokeShare(shareId)")
def revoke_share(api: Api) -> None:
    """200, for good: neither the secret nor what was redeemed opens anything, nor can it be extended."""
    made = share(api)
    answer = api.call("POST", f"/shares/{made['id']}/revoke")
    assert (answer.status_code, answer.get_json()["state"]) == (200, "revoked")
    problem(
        api.call("POST", f"/shares/{made['id']}/redeem", {"secret": made["secret"]}), 401, "revoked"
    )
    problem(api.call("PATCH", f"/shares/{made['id']}", {"expiresIn": 90}), 409, "conflict")


@walks("shares", "ShareInfo(shareId)")
def share_info(api: Api) -> None:
    """The whole record, dead or alive."""
    made = share(api)
    secret = made.pop("secret")
    assert secret not in api.call("GET", f"/shares/{made['id']}").text
    assert api.call("GET", f"/shares/{made['id']}").get_json() == made
    api.call("POST", f"/shares/{made['id']}/revoke")
    assert api.call("GET", f"/shares/{made['id']}").get_json()["state"] == "revoked"


@walks("shares", "Shares(objectId, limit, offset, params)")
def shares(api: Api) -> None:
    """Those of an object, in pages of 100 unless told."""
    made = [share(api, objectIds=["b"])["id"] for _ in range(3)]
    share(api)
    page = api.call("GET", "/shares?objectId=b").get_json()
    assert (
        {item["id"] for item in page["items"]},
        page["total"],
        page["limit"],
        page["offset"],
    ) == (
        set(made),
        3,
        100,
        0,
    )
    page = api.call("GET", "/shares?objectId=b&limit=1&offset=1").get_json()
    assert ([item["id"] in made for item in page["items"]], page["limit"], page["offset"]) == (
        [True],
        1,
        1,
    )


@walks("shares", "UpdateShare(shareId, expiresAt, params)")
def update_share(api: Api) -> None:
    """The end, also of an expired one, and the parameters, merged."""
    made = share(api, params={"attributes": {"a": 1, "b": 2}})
    body = {"expiresAt": START + 90, "params": {"maxRedemptions": 5, "attributes": {"a": None}}}
    changed = api.call("PATCH", f"/shares/{made['id']}", body).get_json()
    assert (changed["expiresAt"], changed["params"]["maxRedemptions"]) == (
        "1970-01-12T13:48:10Z",
        5,
    )
    assert changed["params"]["attributes"] == {"b": 2}


@walks("token details", "acct, domain, idpId, userId, username")
def owner_members(api: Api) -> None:
    """The members of the owner, by which tokens are found."""
    owner = {"acct": "acme\\ann", "domain": "acme", "idpId": "ldap", "id": "u1", "name": "Ann"}
    made = api.create(owner=owner)
    assert made["owner"] == owner
    assert [item["id"] for item in api.call("GET", "/tokens?owner=u1").get_json()["items"]] == [
        made["id"]
    ]


@walks("token details", "allowedScopes and all below it")
def allowed_scopes(api: Api) -> None:
    """General, organization's and services' scopes: what was written is what is read, and what opens."""
    from faregate import Permission, Role, any_of

    realm = {
        "allPermissions": False, "allRoles": False, "keptInToken": ["ROLES", "PERMISSIONS"],
        "permissions": [{"permissionId": "edit", "resources": ["x", "y"]}, {"permissionId": "view", "resources": None}], "roles": [{"name": "boss", "resource": "x"}],
    }  # fmt: skip
    everything = {
        "allPermissions": True,
        "allRoles": True,
        "keptInToken": [],
        "permissions": [],
        "roles": [],
    }
    given = {
        "generalScopes": ["docs:*", "plain"], "organizationScopes": realm, "servicesScopes": [{**everything, "serviceDefinitionId": "billing"}],
    }  # fmt: skip
    made = api.create(allowedScopes=given)
    assert made["allowedScopes"] == given
    principal = api.gate.verify(made["token"])
    for need, on, met in (
        ("docs:read", None, True), ("docs", None, False), ("plain", "anything", True), (Permission("edit"), "x", True), (Permission("edit"), "z", False),
        (Permission("edit"), None, False), (Permission("view"), None, True), (Role("boss"), "x", True), (Role("boss"), None, False), (Role("boss"), "y", False),
        (Permission("pay", service="billing"), None, True), (Role("clerk", service="billing"), "z", True), (Permission("pay"), None, False),
        (any_of("nothing", Permission("edit")), "y", True), (any_of("nothing", Role("x")), "y", False),
    ):  # fmt: skip
        assert principal.allows(need, on=on) is met, need
    replaced = api.call(
        "PATCH", f"/tokens/{made['id']}", {"allowedScopes": {"generalScopes": ["one"]}}
    ).get_json()
    assert (replaced["scope"], replaced["allowedScopes"]["servicesScopes"]) == (["one"], [])
    for wrong, word in (
        ({"organizationScopes": {**realm, "allPermissions": True}}, "allPermissions"), ({"organizationScopes": {**realm, "allRoles": True}}, "allRoles"),
        ({"organizationScopes": {"permissions": [{"permissionId": "p", "resources": []}]}}, "resources"), ({"generalScopes": ["a/role:b"]}, "generalScopes"),
        ({"servicesScopes": [{"serviceDefinitionId": "organization"}]}, "serviceDefinitionId"), ({"organizationScopes": {"keptInToken": ["ALL"]}}, "keptInToken"),
    ):  # fmt: skip
        assert word in problem(
            api.call("PATCH", f"/tokens/{made['id']}", {"allowedScopes": wrong}),
            400,
            "invalid_input",
        )


@walks("token details", "createdAt, expiresAt, lastUsedAt")
def token_instants(api: Api) -> None:
    """RFC 3339 in UTC; epoch seconds are taken too, and the last use follows."""
    made = api.create(expiresAt=START + 60)
    assert (made["createdAt"], made["expiresAt"], made["lastUsedAt"]) == (
        "1970-01-12T13:46:40Z",
        "1970-01-12T13:47:40Z",
        None,
    )
    assert api.create(expiresAt="1970-01-12T15:47:40+02:00")["expiresAt"] == made["expiresAt"]
    api.gate.verify(made["token"])
    api.gate._usage.flush()
    assert (
        api.call("GET", f"/tokens/{made['id']}").get_json()["lastUsedAt"] == "1970-01-12T13:46:40Z"
    )


@walks("token details", "deactivated, deactivatedUpdatedBy, deactivatedUpdatedOn")
def deactivated(api: Api) -> None:
    """Who and when, of a deactivation and of an activation."""
    made = api.create()
    for call, state in (("deactivate", True), ("activate", False)):
        found = api.call("POST", f"/tokens/{made['id']}/{call}", {"reason": "why"}).get_json()
        assert (found["deactivated"], found["deactivatedReason"]) == (state, "why")
        assert found["deactivatedUpdatedOn"] == "1970-01-12T13:46:40Z"
        assert found["deactivatedUpdatedBy"].startswith("token:")
        assert (
            api.call("GET", f"/tokens?deactivated={str(state).lower()}&name=t").get_json()["total"]
            == 1
        )


@walks("token details", "orgId")
def org_id(api: Api) -> None:
    """The id of the organization."""
    assert api.create(org={"id": "acme"})["org"] == {"id": "acme", "name": None}


@walks("token details", "scope")
def scope(api: Api) -> None:
    """A flat list to read, and not to write."""
    made = api.create(
        allowedScopes={
            "generalScopes": ["a"],
            "organizationScopes": {"permissions": [{"permissionId": "p", "resources": ["x/y"]}]},
        }
    )
    assert made["scope"] == ["a", "organization/permission:p@x%2Fy"]
    assert "scope" in problem(
        api.call("PATCH", f"/tokens/{made['id']}", {"scope": ["b"]}), 400, "invalid_input"
    )


@walks("token details", "token")
def token_value(api: Api) -> None:
    """In the answers that mint it, and in no other."""
    made = api.create()
    rotated = api.call("POST", f"/tokens/{made['id']}/rotate").get_json()
    assert made["token"].startswith("fg_tok_")
    assert rotated["token"] not in (made["token"], None)
    for path in (f"/tokens/{made['id']}", "/tokens"):
        text = api.call("GET", path).text
        assert '"token"' not in text
        assert rotated["token"] not in text


@walks("token details", "tokenId, tokenName")
def token_id(api: Api) -> None:
    """The id and the name."""
    made = api.create(name="ci")
    found = api.call("GET", f"/tokens/{made['id']}").get_json()
    assert (found["id"], found["name"]) == (made["id"], "ci")


@walks("CIDR tokens", "create, list, get, update, delete, rotate, self")
def calls(api: Api) -> None:
    """Each call by id, and by ``self``."""
    for itself in (False, True):
        made = api.create(scopes=["gate:tokens:*"])
        path = "/tokens/self" if itself else f"/tokens/{made['id']}"
        caller = {"secret": made["token"]} if itself else {}
        assert made["id"] in [
            item["id"] for item in api.call("GET", "/tokens", **caller).get_json()["items"]
        ]
        assert api.call("GET", path, **caller).get_json()["id"] == made["id"]
        assert api.call("PATCH", path, {"name": "new"}, **caller).get_json()["name"] == "new"
        rotated = api.call("POST", f"{path}/rotate", {"grace": 0}, **caller).get_json()
        problem(api.call("GET", "/tokens/self", secret=made["token"]), 401, "unknown_credential")
        caller = {"secret": rotated["token"]} if itself else {}
        assert api.call("DELETE", path, **caller).status_code == 204
        problem(api.call("GET", "/tokens/self", secret=rotated["token"]), 401, "unknown_credential")


@walks("CIDR tokens", "allowed CIDR blocks (empty = all)")
def cidr_blocks(api: Api) -> None:
    """A list opens to its networks, an empty one to all."""
    made = api.create(allowedCidrBlocks=["10.0.0.0/8", "2001:db8::1"])
    assert made["allowedCidrBlocks"] == ["10.0.0.0/8", "2001:db8::1/128"]
    environ = {"REMOTE_ADDR": "10.1.1.1"}
    assert (
        api.call("GET", "/tokens/self", secret=made["token"], environ_overrides=environ).status_code
        == 200
    )
    elsewhere = {"REMOTE_ADDR": "192.0.2.1"}
    problem(
        api.call("GET", "/tokens/self", secret=made["token"], environ_overrides=elsewhere),
        403,
        "address_not_allowed",
    )
    assert (
        api.call("PATCH", f"/tokens/{made['id']}", {"allowedCidrBlocks": []}).get_json()[
            "allowedCidrBlocks"
        ]
        == []
    )
    assert api.call("GET", "/tokens/self", secret=made["token"]).status_code == 200


@walks(
    "CIDR tokens", "createdAt, updatedAt, rotatedAt, expiresAt (null), lastUsedAt, id, name, value"
)
def members(api: Api) -> None:
    """Always there, null where empty; the value is ``token``."""
    made = api.create()
    assert list(made) == [*TOKEN_FIELDS, "token"]
    assert (made["rotatedAt"], made["expiresAt"], made["lastUsedAt"], made["updatedAt"]) == (
        None,
        None,
        None,
        made["createdAt"],
    )
    assert (
        api.call("POST", f"/tokens/{made['id']}/rotate").get_json()["rotatedAt"]
        == "1970-01-12T13:46:40Z"
    )


@walks("CIDR tokens", "200, 204, 400, 403 (rotate), 404")
def statuses(api: Api) -> None:
    """The statuses, and 201 for what is made."""
    made = api.create(scopes=["docs:read"], owner={"id": "u1"})
    narrow = api.create(scopes=["gate:tokens:*"], owner={"id": "u1"})["token"]
    found = [
        api.call(method, path, body, secret=secret).status_code
        for method, path, body, secret in (
            ("POST", "/tokens", {"name": "x"}, None), ("GET", f"/tokens/{made['id']}", None, None), ("POST", "/tokens", {}, None),
            ("POST", f"/tokens/{made['id']}/rotate", None, narrow), ("DELETE", f"/tokens/{made['id']}", None, None), ("GET", f"/tokens/{made['id']}", None, None),
        )
    ]  # fmt: skip
    assert found == [201, 200, 400, 403, 204, 404]


@walks("token update", "PUT tokens/{id}: id, name required")
def put(api: Api) -> None:
    """Both are asked for; what is left out stays. ``PATCH`` asks for neither."""
    made = api.create(name="old", scopes=["a"], description="x")
    path = f"/tokens/{made['id']}"
    changed = api.call("PUT", path, {"id": made["id"], "name": "new"}).get_json()
    assert (changed["name"], changed["scope"], changed["description"]) == ("new", ["a"], "x")
    assert "name" in problem(api.call("PUT", path, {"id": made["id"]}), 400, "invalid_input")
    assert "id" in problem(api.call("PUT", path, {"name": "x"}), 400, "invalid_input")
    assert "id" in problem(
        api.call("PUT", path, {"id": "other", "name": "x"}), 400, "invalid_input"
    )
    assert api.call("PATCH", path, {"description": None}).get_json()["description"] is None
    stale = api.call("PATCH", path, {"name": "x"}, headers={"If-Match": '"1"'})
    problem(stale, 412, "precondition_failed")


@walks("token update", "token, expirationTimeUtc, requireRotation, type")
def token_update(api: Api) -> None:
    """``token`` is ignored, the expiry moves, and the type is for good."""
    made = api.create(type="PROXY", expiresIn=60)
    path = f"/tokens/{made['id']}"
    changed = api.call(
        "PATCH",
        path,
        {"token": "x", "expiresAt": START + 90, "requireRotation": None, "type": "PROXY"},
    ).get_json()
    assert (changed["expiresAt"], changed["requireRotation"], changed["type"]) == (
        "1970-01-12T13:48:10Z",
        None,
        "PROXY",
    )
    assert api.gate.verify(made["token"]).id == made["id"]
    assert "type" in problem(api.call("PATCH", path, {"type": "API"}), 400, "invalid_input")
    assert api.call("PATCH", path, {"expiresAt": None}).get_json()["expiresAt"] is None
    assert {api.create(type=kind)["type"] for kind in ("API", "PROXY", "EXTENSION")} == {
        "API",
        "PROXY",
        "EXTENSION",
    }


@walks("token update", "owner, username, userId, orgName, org")
def parties(api: Api) -> None:
    """An owner may change his name, and not who he is."""
    made = api.create(
        scopes=["gate:tokens:*"],
        owner={"id": "u1", "name": "Ann"},
        org={"id": "acme", "name": "Acme"},
    )
    changed = api.call(
        "PATCH", "/tokens/self", {"owner": {"id": "u1", "name": "Anne"}}, secret=made["token"]
    ).get_json()
    assert (changed["owner"]["name"], changed["org"]) == ("Anne", {"id": "acme", "name": "Acme"})
    for body in ({"owner": {"id": "u2"}}, {"org": {"name": "Other"}}, {"org": {"id": "other"}}):
        problem(
            api.call("PATCH", "/tokens/self", body, secret=made["token"]), 403, "insufficient_scope"
        )
    moved = api.call(
        "PATCH",
        f"/tokens/{made['id']}",
        {"owner": {"id": "u2"}, "org": {"id": "other", "name": "Other"}},
    ).get_json()
    assert (moved["owner"]["id"], moved["owner"]["name"], moved["org"]) == (
        "u2",
        None,
        {"id": "other", "name": "Other"},
    )


@walks("token update", "sorting and filtering limits")
def sorting(api: Api) -> None:
    """By these members, up and down; by no other, and by no filter that is not there."""
    api.create(
        name="b",
        type="PROXY",
        owner={"id": "u2", "name": "Bob"},
        org={"id": "o", "name": "B"},
        expiresIn=90,
    )
    api.create(
        name="a", owner={"id": "u1", "name": "Ann"}, org={"id": "o", "name": "A"}, expiresIn=60
    )
    for sort in (
        "name",
        "createdAt",
        "updatedAt",
        "expiresAt",
        "lastUsedAt",
        "type",
        "owner.name",
        "org.name",
    ):
        for query in (sort, f"-{sort}"):
            assert api.call("GET", f"/tokens?sort={query}").get_json()["total"] == 3
    names = {query: [item["name"] for item in api.call("GET", f"/tokens?sort={query}&expiresBefore={START + 100}").get_json()["items"]]
             for query in ("name", "-name", "expiresAt", "-owner.name", "org.name")}  # fmt: skip
    assert names == {
        "name": ["a", "b"],
        "-name": ["b", "a"],
        "expiresAt": ["a", "b"],
        "-owner.name": ["b", "a"],
        "org.name": ["a", "b"],
    }
    for sort in ("id", "token", "owner.id", "org.id", "scope", "Name", "--name", ""):
        assert "sort" in problem(api.call("GET", f"/tokens?sort={sort}"), 400, "invalid_input")
    assert "createdAt" in problem(api.call("GET", "/tokens?createdAt=5"), 400, "invalid_input")


@walks("token details", "details by value")
def by_value(api: Api) -> None:
    """The record's members beside those of RFC 7662, for who asks with the value itself."""
    made = api.create(
        name="n",
        owner={"id": "u", "name": "N", "acct": "a", "domain": "d", "idpId": "i"},
        org={"id": "o"},
        scopes=["a", "b"],
        expiresIn=60,
    )
    secret = made.pop("token")
    answer = api.client.post(
        "/auth/introspect", data={"token": secret}, headers={"Authorization": f"Bearer {api.admin}"}
    )
    assert answer.status_code == 200
    told = answer.get_json()
    assert told["active"] is True
    assert {**made, "scope": "a b"}.items() <= told.items()
    assert secret not in answer.text


def test_the_map_names_paths_that_there_are() -> None:
    """Each path in it is one of an operation."""
    from faregate.management.operations import OPERATIONS

    named = {
        tuple(pair.split(" "))
        for pair in re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[a-z/{}]+)", TABLE)
    }
    known = {(operation.method, operation.path) for operation in OPERATIONS}
    assert named
    assert named <= known
