"""The /shares calls over HTTP, in each framework: shapes, statuses, and what bad input is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import START, Clock
from test_http import Api, problem

from faregate import Org, Owner

TOKEN_FIELDS = [
    "id", "objectId", "objectIds", "params", "createdAt", "updatedAt", "expiresAt", "revokedAt", "redemptions", "state",
    "org", "madeBy",
]  # fmt: skip


@pytest.fixture(params=["flask", "starlette"])
def api(request: pytest.FixtureRequest, store: str, clock: Clock) -> Iterator[Api]:
    """The API over a store in memory and over one on a file, in each framework."""
    made = Api(store, clock, request.param)
    yield made
    made.gate.close()


def share(api: Api, **members: Any) -> dict[str, Any]:
    """A new share, its secret with it."""
    answer = api.call(
        "POST", "/shares", {"objectId": "a", "scopes": ["docs:read"], "expiresIn": 60, **members}
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


def redeem(api: Api, share_id: str, **body: Any) -> Any:
    """The answer to a redemption that presents nothing but its body."""
    return api.client.post(f"/auth/shares/{share_id}/redeem", json=body)


def test_creation(api: Api) -> None:
    """201, where it is, every member, and the secret this once."""
    params = {"allowedCidrBlocks": ["127.0.0.1"], "maxRedemptions": 3, "attributes": {"x": None}}
    answer = api.call(
        "POST",
        "/shares",
        {
            "objectId": "a",
            "objectIds": ["b", "a"],
            "scopes": ["docs:read"],
            "expiresIn": 60,
            "params": params,
        },
    )
    made = answer.get_json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert answer.headers["Location"] == f"/auth/shares/{made['id']}"
    assert list(made) == [*TOKEN_FIELDS, "secret"]
    assert made["secret"].startswith("fg_shr_")
    assert (made["objectId"], made["objectIds"], made["state"], made["redemptions"]) == (
        "a",
        ["a", "b"],
        "live",
        0,
    )
    assert made["params"] == {
        **params,
        "allowedCidrBlocks": ["127.0.0.1/32"],
        "scopes": ["docs:read"],
    }
    assert (made["createdAt"], made["expiresAt"], made["revokedAt"]) == (
        "1970-01-12T13:46:40Z",
        "1970-01-12T13:47:40Z",
        None,
    )
    assert made["org"] == {"id": None, "name": None}
    shown = api.call("GET", f"/shares/{made['id']}").get_json()
    assert shown == {name: made[name] for name in TOKEN_FIELDS}
    bare = share(api)
    assert bare["params"] == {
        "scopes": ["docs:read"],
        "allowedCidrBlocks": [],
        "maxRedemptions": None,
        "attributes": None,
    }


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"objectId": 5}, "objectId"),
        ({"objectId": None}, "objectId"),
        ({"objectIds": "a"}, "objectIds"),
        ({"objectIds": ["a", 5]}, "objectIds[1]"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["*"]}, "scopes[0]"),
        ({"scopes": "a"}, "scopes"),
        ({"expiresAt": "1970-01-12T13:47:40"}, "expiresAt"),
        ({"expiresAt": 2_000_000}, "expiresAt, expiresIn"),
        ({"expiresIn": 0}, "expiresIn"),
        ({"expiresIn": "60"}, "expiresIn"),
        ({"params": {"scopes": ["a"]}}, "scopes, params.scopes"),
        ({"params": {"maxredemptions": 1}}, "params.maxredemptions"),
        ({"params": []}, "params"),
        ({"params": {"attributes": {"a": [[[]]] * 20_000}}}, "params.attributes"),
        ({"state": "live"}, "state"),
        ({"owner": {"id": "x"}}, "owner"),
        ({"notBefore": 5}, "notBefore"),
    ],
)
def test_bad_members_are_named_and_change_nothing(
    api: Api, members: dict[str, Any], word: str
) -> None:
    """400, the member, and no share."""
    body = {"objectId": "a", "scopes": ["docs:read"], "expiresIn": 60, **members}
    assert problem(api.call("POST", "/shares", body), 400, "invalid_input").startswith(word)
    assert api.call("GET", "/shares").get_json()["total"] == 0


def test_what_is_required_is_named(api: Api) -> None:
    """The object, the scopes, an end."""
    for body, word in (
        ({"scopes": ["a"], "expiresIn": 1}, "objectId: is required"),
        ({"objectId": "a", "expiresIn": 1}, "scopes: required"),
        ({"objectId": "a", "scopes": ["a"]}, "expiresAt: required"),
        ({"objectId": "a", "scopes": ["a"], "expiresAt": None}, "expiresAt: required for a share"),
    ):
        assert problem(api.call("POST", "/shares", body), 400, "invalid_input").startswith(word)


def test_redeeming(api: Api) -> None:
    """With the secret in the body and nothing else; Authorization is then not read."""
    made = share(api)
    answer = redeem(api, made["id"], secret=made["secret"])
    body = answer.get_json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert list(body) == ["token", "tokenType", "expiresAt", "objectIds"]
    assert (body["tokenType"], body["expiresAt"], body["objectIds"]) == (
        "Bearer",
        "1970-01-12T13:47:40Z",
        ["a"],
    )
    assert api.gate.verify(body["token"]).id == made["id"]
    junk = {"Authorization": "Bearer a, Bearer b"}
    path = f"/auth/shares/{made['id']}/redeem"
    assert api.client.post(path, json={"secret": made["secret"]}, headers=junk).status_code == 200
    assert api.call("GET", f"/shares/{made['id']}").get_json()["redemptions"] == 2


def test_redeeming_is_refused(api: Api, clock: Clock) -> None:
    """A wrong secret and an unknown id alike; without a secret it takes a credential that reaches and covers."""
    made, other = share(api), share(api)
    wrong = [
        (made["id"], other["secret"]),
        ("01a20702-e997-7227-a1c7-3807fb622d6c", made["secret"]),
        (made["id"], ""),
    ]
    answers = [redeem(api, share_id, secret=secret) for share_id, secret in wrong]
    assert len({answer.text for answer in answers}) == 1
    for answer in answers:
        problem(answer, 401, "unknown_credential")
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    path = f"/shares/{made['id']}/redeem"
    problem(redeem(api, made["id"]), 401, "missing_credential")
    problem(api.client.post(f"/auth{path}"), 401, "missing_credential")
    assert api.call("POST", path).status_code == 200
    weak = api.create(scopes=["gate:shares:read"], owner={"id": "u1"})["token"]
    problem(api.call("POST", path, secret=weak), 404, "not_found")
    admin = api.create(scopes=["gate:shares:read", "gate:admin"])["token"]
    problem(api.call("POST", path, secret=admin), 403, "insufficient_scope")
    problem(api.call("POST", path, secret=made["secret"]), 403, "insufficient_scope")
    problem(redeem(api, made["id"], secret=5), 400, "invalid_input")
    problem(redeem(api, made["id"], token="x"), 400, "invalid_input")
    problem(redeem(api, made["id"], secret="x" * 16_384), 413, "body_too_large")
    clock.now += 60
    problem(redeem(api, made["id"], secret=made["secret"]), 401, "expired")
    api.call("POST", f"/shares/{made['id']}/revoke")
    problem(redeem(api, made["id"], secret=made["secret"]), 401, "revoked")
    assert api.call("GET", f"/shares/{made['id']}").get_json()["redemptions"] == 1


def test_the_clients_address_counts(api: Api) -> None:
    """A share for other networks is not redeemed from here."""
    made = share(api, params={"allowedCidrBlocks": ["10.0.0.0/8"]})
    problem(redeem(api, made["id"], secret=made["secret"]), 403, "address_unknown")
    url = f"/auth/shares/{made['id']}/redeem"
    for address, status in (("10.0.0.1", 200), ("11.0.0.1", 403)):
        environ = {"REMOTE_ADDR": address}
        answer = api.client.post(url, json={"secret": made["secret"]}, environ_overrides=environ)
        assert answer.status_code == status


def test_updating(api: Api, clock: Clock) -> None:
    """The end, and params member by member; a record as it was read may be sent back."""
    made = share(api, params={"attributes": {"a": 1}})
    path = f"/shares/{made['id']}"
    clock.now += 90
    assert api.call("GET", path).get_json()["state"] == "expired"
    extended = api.call("PATCH", path, {"expiresIn": 60}).get_json()
    assert (extended["state"], extended["expiresAt"]) == ("live", "1970-01-12T13:49:10Z")
    changed = api.call(
        "PATCH", path, {"params": {"attributes": {"b": 2, "a": None}, "maxRedemptions": 5}}
    ).get_json()
    assert changed["params"] == {
        "scopes": ["docs:read"],
        "allowedCidrBlocks": [],
        "maxRedemptions": 5,
        "attributes": {"b": 2},
    }
    again = api.call("PATCH", path, {**changed, "secret": "whatever"})
    assert again.get_json() == changed
    for member, value in (
        ("id", "x"), ("objectId", "x"), ("objectIds", ["a", "b"]), ("createdAt", START + 5), ("updatedAt", None), ("revokedAt", 5),
        ("redemptions", 5), ("state", "revoked"), ("org", {"id": "x", "name": None}), ("madeBy", "x"),
    ):  # fmt: skip
        detail = problem(api.call("PATCH", path, {member: value}), 400, "invalid_input")
        assert detail.startswith(f"{member}: cannot be changed")
    problem(api.call("PATCH", path, {"scopes": ["x"]}), 400, "invalid_input")
    problem(api.call("PATCH", path, {"expiresAt": START}), 400, "invalid_input")
    problem(api.call("PATCH", "/shares/nothing", {}), 404, "not_found")
    assert api.call("GET", path).get_json() == changed


def test_revoking(api: Api) -> None:
    """200 each time; then nothing changes it any more."""
    made = share(api)
    path = f"/shares/{made['id']}"
    first = api.call("POST", f"{path}/revoke").get_json()
    assert (first["state"], first["revokedAt"]) == ("revoked", "1970-01-12T13:46:40Z")
    assert api.call("POST", f"{path}/revoke", {}).get_json() == first
    problem(api.call("PATCH", path, {"expiresIn": 120}), 409, "conflict")
    problem(api.call("POST", f"{path}/revoke", {"x": 1}), 400, "invalid_input")
    problem(api.call("POST", "/shares/nothing/revoke"), 404, "not_found")


def test_listing(api: Api, clock: Clock) -> None:
    """Of an object, in pages with links, newest first, and only of what the caller reaches."""
    for number in range(3):
        clock.now += 1
        share(api, objectId="ö/1" if number else "b")
    answer = api.call("GET", "/shares?objectId=%C3%B6%2F1&limit=1")
    page = answer.get_json()
    assert (page["total"], page["limit"], page["offset"], len(page["items"])) == (2, 1, 0, 1)
    following = re.fullmatch(
        r'</auth(/shares\?objectId=%C3%B6%2F1&limit=1&after=[\w-]+)>; rel="next"',
        answer.headers["Link"],
    )
    assert following is not None
    last = api.call("GET", following[1])
    assert (len(last.get_json()["items"]), last.headers.get("Link")) == (1, None)
    assert "secret" not in page["items"][0]
    assert api.call("GET", "/shares").get_json()["total"] == 3
    stranger = api.create(scopes=["gate:shares:read"])["token"]
    assert api.call("GET", "/shares", secret=stranger).get_json()["total"] == 0
    for query in ("limit=0", "limit=x", "sort=x", "objectId=a&objectId=b", "objectId="):
        problem(api.call("GET", f"/shares?{query}"), 400, "invalid_input")


def test_what_each_call_needs(api: Api) -> None:
    """Reading reads, writing writes; nobody shares more than he may."""
    made = share(api)
    reader = api.create(scopes=["gate:shares:read"])["token"]
    writer = api.create(scopes=["gate:shares:write", "docs:read"])["token"]
    none = api.create(scopes=["gate:tokens:*", "docs:*"])["token"]
    body = {"objectId": "a", "scopes": ["docs:read"], "expiresIn": 60}
    calls = [("POST", "/shares", body), ("GET", "/shares", None), ("GET", f"/shares/{made['id']}", None), ("PATCH", f"/shares/{made['id']}", {}),
             ("POST", f"/shares/{made['id']}/revoke", None)]  # fmt: skip
    found = {
        name: [
            api.call(method, path, sent, secret=secret).status_code for method, path, sent in calls
        ]
        for name, secret in (("reader", reader), ("writer", writer), ("none", none))
    }
    assert found == {
        "reader": [403, 200, 404, 403, 403],
        "writer": [201, 403, 403, 404, 404],
        "none": [403] * 5,
    }
    wider = {**body, "scopes": ["docs:read", "docs:write"]}
    answer = api.call("POST", "/shares", wider, secret=writer)
    assert "docs:write" in problem(answer, 403, "insufficient_scope")
    assert 'scope="docs:write"' in answer.headers["WWW-Authenticate"]


def test_organizations_are_strictly_apart(api: Api) -> None:
    """What another organization shares does not exist."""

    def token(org: str, *scopes: str) -> str:
        every = ["gate:shares:*", "docs:*", *scopes]
        return api.gate.tokens.create(
            name="x", scopes=every, owner=Owner(id="u1"), org=Org(id=org)
        ).secret

    mine, theirs = token("o1"), token("o2", "gate:admin")
    made = api.call(
        "POST", "/shares", {"objectId": "a", "scopes": ["docs:read"], "expiresIn": 60}, secret=mine
    ).get_json()
    assert made["org"] == {"id": "o1", "name": None}
    for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/revoke"), ("POST", "/redeem")):
        body: dict[str, Any] | None = {} if method == "PATCH" else None
        problem(
            api.call(method, f"/shares/{made['id']}{path}", body, secret=theirs), 404, "not_found"
        )
    assert api.call("GET", "/shares", secret=theirs).get_json()["total"] == 0
