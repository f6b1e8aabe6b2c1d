"""The management API behind the application's own login: who is logged in calls, from a configured origin, in JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgi_client import AsWsgi
from conftest import Clock, reason_of
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from test_http import problem
from werkzeug.test import Client, TestResponse

from faregate import (
    AllowedScopes,
    Denied,
    Gate,
    InvalidInput,
    Misconfigured,
    Org,
    Owner,
    Policy,
    Principal,
)
from faregate.decision.compiled import compile_session
from faregate_flask import Faregate
from faregate_starlette import management

ORIGIN = "https://app.example.com"
SCOPES = ["gate:tokens:*", "gate:shares:*", "docs:*"]


class Site:
    """An application whose users log in with a cookie, and whose management API asks who that is."""

    def __init__(self, framework: str, url: str, clock: Clock, **settings: Any) -> None:
        self.scopes = SCOPES
        settings = {"clock": clock, "origins": [ORIGIN], **settings}
        if framework == "flask":
            app = Flask(__name__)
            app.config.update(
                {f"FAREGATE_{name.upper()}": value for name, value in settings.items()},
                FAREGATE_STORE=url,
            )
            faregate = Faregate(app)
            app.register_blueprint(faregate.management(principal=self.login), url_prefix="/auth")
            app.register_blueprint(
                faregate.management(principal=self.login_later), url_prefix="/later", name="later"
            )
            self.gate = faregate.gate
            self.client = Client(app, TestResponse, use_cookies=False)
        else:
            self.gate = Gate(url, **settings)
            routes = [
                Mount("/auth", management(self.gate, principal=self.login)),
                Mount("/later", management(self.gate, principal=self.login_later)),
            ]
            self.client = Client(AsWsgi(Starlette(routes=routes)), TestResponse, use_cookies=False)

    def login(self, request: Any) -> Principal | None:
        """Who is logged in, by the cookie alone."""
        match request.cookies.get("session"):
            case None:
                return None
            case "broken":
                return 5  # type: ignore[return-value]
            case "denied":
                raise Denied("address_unknown")
            case name:
                owner, _, org = name.partition("@")
                return self.gate.session(Owner(owner), org=Org(org or None), scopes=self.scopes)

    async def login_later(self, request: Any) -> Principal | None:
        """The same, as a coroutine function."""
        await asyncio.sleep(0)
        return self.login(request)

    def call(
        self, method: str, path: str, body: object = None, who: str | None = "ann", **options: Any
    ) -> TestResponse:
        """An answer to what a page of the application sends."""
        headers = {"Origin": ORIGIN, **options.pop("headers", {})}
        if who is not None:
            headers["Cookie"] = f"session={who}"
        if body is not None:
            options["json"] = body
        headers = {name: value for name, value in headers.items() if value is not None}
        return self.client.open(
            options.pop("at", "/auth") + path, method=method, headers=headers, **options
        )


@pytest.fixture(params=["flask", "starlette"])
def make_site(
    request: pytest.FixtureRequest, store: str, clock: Clock
) -> Iterator[Callable[..., Site]]:
    """Make a site in each framework."""
    sites: list[Site] = []

    def make(**settings: Any) -> Site:
        sites.append(Site(request.param, store, clock, **settings))
        return sites[-1]

    yield make
    for site in sites:
        site.gate.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A site with one origin."""
    return make_site()


@pytest.mark.parametrize("at", ["/auth", "/later"])
def test_who_is_logged_in_makes_his_own(site: Site, at: str) -> None:
    """Records of a session get its owner and organization, and the session reaches only records of this owner."""
    answer = site.call(
        "POST", "/tokens", {"name": "ci", "scopes": ["docs:read"]}, who="ann@acme", at=at
    )
    assert answer.status_code == 201, answer.text
    made = answer.get_json()
    assert (made["owner"]["id"], made["org"]["id"], made["expiresAt"], made["madeBy"]) == (
        "ann",
        "acme",
        None,
        "session:ann",
    )
    assert site.gate.verify(made["token"]).allows("docs:read")
    assert site.call("GET", "/tokens", who="ann@acme", at=at).get_json()["total"] == 1
    for stranger in ("bob@acme", "ann", "ann@other"):
        assert site.call("GET", "/tokens", who=stranger, at=at).get_json()["total"] == 0
        problem(site.call("DELETE", f"/tokens/{made['id']}", who=stranger, at=at), 404, "not_found")
    closed = site.call("POST", f"/tokens/{made['id']}/deactivate", who="ann@acme", at=at).get_json()
    assert closed["deactivatedUpdatedBy"] == "ann"
    assert (
        site.call("POST", f"/tokens/{made['id']}/activate", who="ann@acme", at=at).status_code
        == 200
    )
    assert site.call("DELETE", f"/tokens/{made['id']}", who="ann@acme", at=at).status_code == 204


def test_shares_of_who_is_logged_in(site: Site) -> None:
    """Made, redeemed by id, and shared by him."""
    body = {"objectId": "x", "scopes": ["docs:read"], "expiresIn": 60}
    made = site.call("POST", "/shares", body).get_json()
    assert site.gate.verify(made["secret"]).shared_by == Owner("ann")
    assert site.call("POST", f"/shares/{made['id']}/redeem").status_code == 200
    problem(site.call("POST", f"/shares/{made['id']}/redeem", who="bob"), 404, "not_found")
    problem(site.call("POST", f"/shares/{made['id']}/redeem", who=None), 401, "missing_credential")
    assert (
        site.call(
            "POST", f"/shares/{made['id']}/redeem", {"secret": made["secret"]}, who=None
        ).status_code
        == 200
    )


@pytest.mark.parametrize(
    "origin",
    [None, "https://evil.example.com", "null", ORIGIN + "/", ORIGIN.upper(), f"{ORIGIN}, {ORIGIN}"],
)
def test_what_changes_something_comes_from_a_configured_origin(
    site: Site, origin: str | None
) -> None:
    """Reading does not ask; everything else does, with a body or without, and changes nothing."""
    made = site.call("POST", "/tokens", {"name": "ci"}).get_json()
    share = site.call(
        "POST", "/shares", {"objectId": "x", "scopes": ["docs:read"], "expiresIn": 60}
    ).get_json()
    headers = {"Origin": origin}
    for method, path, body in (
        ("POST", "/tokens", {"name": "x"}), ("PUT", f"/tokens/{made['id']}", {"id": made["id"], "name": "y"}), ("PATCH", f"/tokens/{made['id']}", {"name": "y"}),
        ("DELETE", f"/tokens/{made['id']}", None), ("POST", f"/tokens/{made['id']}/rotate", None), ("POST", f"/tokens/{made['id']}/deactivate", None),
        ("POST", f"/tokens/{made['id']}/activate", None), ("POST", "/tokens/deactivate", {"ids": [made["id"]]}), ("POST", "/tokens/activate", {"ids": [made["id"]]}),
        ("POST", "/shares", {}), ("PATCH", f"/shares/{share['id']}", {"expiresIn": 5}), ("POST", f"/shares/{share['id']}/revoke", None),
        ("POST", f"/shares/{share['id']}/redeem", None),
    ):  # fmt: skip
        problem(site.call(method, path, body, headers=headers), 403, "origin_not_allowed")
    assert site.call("GET", f"/tokens/{made['id']}", headers=headers).get_json() == {
        name: made[name] for name in made if name != "token"
    }
    assert site.call("GET", "/shares", headers=headers).get_json()["items"][0]["state"] == "live"


def test_without_origins_nothing_changes(make_site: Callable[..., Site]) -> None:
    """Not from anywhere; reading goes on."""
    site = make_site(origins=[])
    problem(site.call("POST", "/tokens", {"name": "x"}), 403, "origin_not_allowed")
    assert site.call("GET", "/tokens").get_json()["total"] == 0


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data; boundary=x",
        "",
        "application/jsonp",
    ],
)
def test_a_body_is_json(site: Site, content_type: str) -> None:
    """A form of another site could send anything else."""
    made = site.call("POST", "/tokens", {"name": "ci"}).get_json()
    for path in ("/tokens", f"/tokens/{made['id']}/rotate", "/tokens/deactivate"):
        problem(
            site.call("POST", path, data=b'{"name": "x"}', content_type=content_type),
            415,
            "not_json",
        )


def test_who_is_not_logged_in(site: Site) -> None:
    """401, and a denial that the login raises is answered; a credential of the gate's counts for nothing here."""
    assert "Log in" in problem(site.call("GET", "/tokens", who=None), 401, "missing_credential")
    problem(site.call("GET", "/tokens", who="denied"), 403, "address_unknown")
    root = site.gate.tokens.create(name="root", scopes=["*"]).secret
    problem(
        site.call("GET", "/tokens", who=None, headers={"Authorization": f"Bearer {root}"}),
        401,
        "missing_credential",
    )


def test_a_login_that_answers_nonsense_is_a_mistake_of_the_application(site: Site) -> None:
    """500, never a way in."""
    if isinstance(site.client.application, Flask):
        assert site.call("GET", "/tokens", who="broken").status_code == 500
    else:
        with pytest.raises(Misconfigured, match="must return a Principal"):
            site.call("GET", "/tokens", who="broken")


def test_a_session_is_no_token(site: Site) -> None:
    """There is no self, and no root, whatever is granted."""
    site.scopes = ["*"]
    foreign = site.gate.tokens.create(name="x", scopes=["*"], owner=Owner("bob")).token
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/rotate"),
        ("POST", "/deactivate"),
        ("POST", "/activate"),
    ):
        body: dict[str, Any] | None = {} if method == "PATCH" else None
        detail = problem(site.call(method, f"/tokens/self{path}", body), 404, "not_found")
        assert "self" in detail
    problem(
        site.call("POST", "/tokens", {"name": "x", "org": {"id": "other"}}),
        403,
        "insufficient_scope",
    )
    problem(site.call("GET", "/tokens/session:ann"), 404, "not_found")
    problem(site.call("GET", f"/tokens/{foreign.id}"), 404, "not_found")  # gate:admin is not named
    site.scopes = ["docs:read"]
    problem(site.call("GET", "/tokens"), 403, "insufficient_scope")
    site.scopes = SCOPES
    problem(
        site.call("POST", "/tokens", {"name": "x", "scopes": ["other"]}), 403, "insufficient_scope"
    )


@pytest.mark.parametrize(
    "scopes", [["*"], ["gate:*"], ["*", "gate:*", "gate:tokens:*", "gate:shares:*"]]
)
def test_a_wildcard_makes_no_admin_of_a_session(site: Site, scopes: list[str]) -> None:
    """No reach, no audit, no other owner, no token that is an admin's; of one's own everything else."""
    theirs = site.gate.tokens.create(name="x", scopes=["*"], owner=Owner("bob")).token
    share = site.gate.shares.create("x", scopes=["docs:read"], expires_in=60).share
    mine = site.gate.tokens.create(name="x", scopes=["gate:*"], owner=Owner("ann")).token
    site.scopes = scopes
    for method, path, body in (
        ("GET", f"/tokens/{theirs.id}", None), ("DELETE", f"/tokens/{theirs.id}", None), ("PATCH", f"/tokens/{theirs.id}", {"name": "y"}),
        ("POST", f"/tokens/{theirs.id}/rotate", None), ("GET", f"/shares/{share.id}", None), ("POST", f"/shares/{share.id}/revoke", None),
    ):  # fmt: skip
        problem(site.call(method, path, body), 404, "not_found")
    assert [one["id"] for one in site.call("GET", "/tokens").get_json()["items"]] == [mine.id]
    assert "gate:admin" in problem(site.call("GET", "/audit"), 403, "insufficient_scope")
    problem(
        site.call("POST", "/tokens", {"name": "x", "owner": {"id": "bob"}}),
        403,
        "insufficient_scope",
    )
    for wide in ("gate:admin", "gate:*", "*"):
        if wide != "*" or "*" in scopes:
            assert "gate:admin" in problem(
                site.call("POST", "/tokens", {"name": "x", "scopes": [wide]}),
                403,
                "insufficient_scope",
            )
    problem(site.call("POST", f"/tokens/{mine.id}/rotate"), 403, "insufficient_scope")
    made = site.call("POST", "/tokens", {"name": "x", "scopes": ["gate:tokens:*"]}).get_json()
    problem(
        site.call("PATCH", f"/tokens/{made['id']}", {"scopes": ["gate:*"]}),
        403,
        "insufficient_scope",
    )
    assert site.call("POST", f"/tokens/{made['id']}/rotate").status_code == 200

    site.scopes = [*scopes, "gate:admin"]
    assert site.call("GET", f"/tokens/{theirs.id}").status_code == 200
    assert site.call("GET", "/audit").status_code == 200
    assert site.call("POST", "/tokens", {"name": "x", "scopes": ["gate:*"]}).status_code == 201


def test_a_session_is_no_admin_beyond_its_owners_rights(make_site: Callable[..., Site]) -> None:
    """A session is an admin only if it names gate:admin and the rights of its owner cover gate:admin, also by a wildcard."""
    rights = ["*"]
    site = make_site(
        owner_rights=lambda _: AllowedScopes(general_scopes=tuple(rights)), owner_rights_ttl=0
    )
    for scopes, allowed, status in (
        (["gate:admin"], ["*"], 200), (["gate:admin"], ["gate:*"], 200), (["*"], ["gate:admin"], 403), (["gate:admin"], ["docs:*"], 403),
    ):  # fmt: skip
        site.scopes, rights[:] = scopes, allowed
        assert site.call("GET", "/audit").status_code == status


def test_rights_are_joined_before_the_body_is_read(make_site: Callable[..., Site]) -> None:
    """Whoever may not call is told so; no body of theirs is read, nor is its length found out."""
    rights: dict[str, AllowedScopes | None] = {
        "bob": None,
        "ann": AllowedScopes(general_scopes=("docs:read",)),
    }
    site = make_site(owner_rights=lambda owner: rights[str(owner.id)])
    long = {"data": b" " * (1024 * 1024 + 1), "content_type": "application/json"}
    for path in ("/tokens", "/shares", "/tokens/deactivate", "/introspect"):
        problem(site.call("POST", path, who="bob", **long), 401, "deactivated")
        problem(site.call("POST", path, who="ann", **long), 403, "insufficient_scope")


def test_the_policy_bounds_what_a_session_makes(make_site: Callable[..., Site]) -> None:
    """It has no end of its own, and would otherwise make tokens for ever."""
    site = make_site(
        policy=Policy(
            max_lifetime=timedelta(days=1), max_tokens_per_owner=1, allowed_scopes=["docs:read"]
        )
    )
    problem(site.call("POST", "/tokens", {"name": "x", "expiresIn": 86_401}), 400, "invalid_input")
    problem(
        site.call("POST", "/tokens", {"name": "x", "scopes": ["docs:write"]}), 400, "invalid_input"
    )
    problem(
        site.call(
            "POST", "/shares", {"objectId": "x", "scopes": ["docs:read"], "expiresIn": 86_401}
        ),
        400,
        "invalid_input",
    )
    assert (
        site.call("POST", "/tokens", {"name": "x"}).get_json()["expiresAt"]
        == "1970-01-13T13:46:40Z"
    )
    assert "has 1 tokens" in problem(site.call("POST", "/tokens", {"name": "x"}), 409, "conflict")


def test_the_rights_of_who_is_logged_in_are_joined(make_site: Callable[..., Site]) -> None:
    """As for tokens; who is gone is not let in, even while he is logged in."""
    rights: dict[str, list[str] | None] = {"ann": ["gate:tokens:*", "docs:read"], "bob": None}

    def hook(owner: Owner) -> AllowedScopes | None:
        found = rights[str(owner.id)]
        return None if found is None else AllowedScopes(general_scopes=tuple(found))

    site = make_site(owner_rights=hook)
    assert site.call("POST", "/tokens", {"name": "x", "scopes": ["docs:read"]}).status_code == 201
    problem(
        site.call("POST", "/tokens", {"name": "x", "scopes": ["docs:write"]}),
        403,
        "insufficient_scope",
    )
    problem(site.call("GET", "/shares"), 403, "insufficient_scope")
    problem(site.call("GET", "/tokens", who="bob"), 401, "deactivated")


def test_a_session_needs_somebody(clock: Clock) -> None:
    """An owner with an id, scopes once, and what is granted must be sound."""
    gate = Gate("sqlite://", clock=clock)
    session = gate.session(Owner("a b/c", name="Ann"), scopes=["a"])
    assert (session.kind, session.id, session.identity, session.display_name) == (
        "session",
        "session:a%20b%2Fc",
        "a b/c",
        "Ann",
    )
    assert (session.owner, session.org, session.shared_by) == (
        Owner("a b/c", name="Ann"),
        Org(),
        None,
    )
    for given in (
        {"owner": Owner()}, {"owner": "ann"}, {"owner": Owner("a\n")}, {"owner": Owner("a"), "org": "x"}, {"owner": Owner("a"), "scopes": "x"},
        {"owner": Owner("a"), "scopes": ["x y"]}, {"owner": Owner("a"), "scopes": ["x"], "allowed_scopes": AllowedScopes()}, {"owner": Owner("a"), "allowed_scopes": 5},
    ):  # fmt: skip
        with pytest.raises(InvalidInput):
            gate.session(**given)
    assert reason_of(lambda: gate.session(Owner("a")).require("x")) == "insufficient_scope"
    assert not compile_session(
        Owner(), Org(), AllowedScopes(general_scopes=("*",))
    ).root  # whoever makes one
