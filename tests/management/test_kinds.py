"""Kinds never mix: every cell of ``tests/cases/kinds.toml``, over HTTP in each framework."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asgi_client import AsWsgi
from conftest import START, Clock, reason_of
from flask import Flask, jsonify
from identity_provider import issuer, token
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from werkzeug.test import Client, TestResponse

from faregate import Gate, Org, Owner, Policy, path
from faregate_asgi import GateMiddleware
from faregate_flask import Faregate
from faregate_starlette import management, requires

TABLE = tomllib.loads((Path(__file__).parent.parent / "cases" / "kinds.toml").read_text())
SCOPES = ["docs:read", "gate:tokens:read", "gate:tokens:write", "gate:shares:write"]
POLICY = Policy(max_lifetime=90 * 86_400)


class Place(msgspec.Struct, forbid_unknown_fields=True):
    """One place, what each kind of credential is answered there, and what becomes of those that change something."""

    name: str
    call: str
    expect: list[str]
    json: dict[str, Any] | None = None
    form: dict[str, str] | None = None
    by: str = "itself"
    header: bool = False
    then: dict[str, str] = {}


PLACES = msgspec.convert(TABLE["place"], list[Place])


class World:
    """An application of a framework, and a credential of each kind."""

    def __init__(self, framework: str) -> None:
        clock, issuers = Clock(), [issuer(manages=True, org_claim="tenant")]
        if framework == "flask":
            app = Flask(__name__)
            app.config |= {
                "FAREGATE_STORE": "sqlite://", "FAREGATE_CLOCK": clock, "FAREGATE_ISSUERS": issuers, "FAREGATE_POLICY": POLICY,
            }  # fmt: skip
            faregate = Faregate(app)
            app.register_blueprint(faregate.management(), url_prefix="/auth")
            app.get("/docs/<doc>")(
                faregate.requires("docs:read", on=path("doc"))(lambda **_: jsonify({}))
            )
            app.add_url_rule("/all", "all", faregate.requires("docs:read")(lambda: jsonify({})))
            self.gate, self.client = faregate.gate, Client(app, TestResponse)
        else:
            self.gate = Gate("sqlite://", clock=clock, issuers=issuers, policy=POLICY)

            def view(request: Request) -> JSONResponse:
                return JSONResponse({})

            routes = [
                Route("/docs/{doc}", requires("docs:read", on=path("doc"))(view)),
                Route("/all", requires("docs:read")(view)),
                Mount("/auth", management(self.gate)),
            ]
            starlette = Starlette(
                routes=routes, middleware=[Middleware(GateMiddleware, gate=self.gate)]
            )
            self.client = Client(AsWsgi(starlette), TestResponse)
        self.root = self._made(scopes=["*"]).secret
        who: dict[str, Any] = {"scopes": SCOPES, "owner": Owner("u1"), "org": Org("acme")}
        api, family, other = (
            self._made(**who),
            self._made(type="REFRESH", **who),
            self._made(type="REFRESH", **who),
        )
        share = self.gate.shares.create(
            "x", scopes=["docs:read"], expires_in=600, by=self.gate.verify(api.secret)
        )
        current = self.gate.tokens.exchange(family.secret)
        second = self.gate.tokens.exchange(
            str(self.gate.tokens.exchange(other.secret).refresh_token)
        )
        scope = " ".join(SCOPES)
        self.credentials = {
            "tok": api.secret, "rft": str(current.refresh_token), "retired": other.secret, "act": current.access_token, "shr": share.secret,
            "share-jwt": self.gate.shares.redeem(share.share.id, secret=share.secret).token,
            "jwt": token(START, sub="u1", tenant="acme", scope=scope), "foreign": token(START, key="other", sub="u1", scope=scope), "junk": "junk",
        }  # fmt: skip
        self.ids = {"tok": api.token.id, "act": family.token.id}
        self.share = share.share.id
        # What tells the fate of each: a bearer itself, a refresh credential its family's access credential.
        self.bearers = {
            **self.credentials,
            "rft": current.access_token,
            "retired": second.access_token,
        }

    def _made(self, **members: Any) -> Any:
        return self.gate.tokens.create(name="x", expires_in=3600, **members)

    def answer(self, place: Place, kind: str) -> str:
        """What a credential is answered, in the words of the table."""
        credential = self.credentials[kind]
        method, url = place.call.split()
        in_body = "{credential}" in json.dumps([place.json, place.form])
        presented = (
            self.root if place.by == "root" else credential if place.header or not in_body else None
        )
        texts = {
            "{credential}": credential,
            "{share}": self.share,
            "{id}": self.ids.get(kind, self.ids["tok"]),
        }
        if kind == "jwt" and "{id}" in url:
            texts["{id}"] = "self"
        sent: dict[str, Any] = {}
        if place.json is not None:
            sent["json"] = {
                name: texts.get(value, value) if isinstance(value, str) else value
                for name, value in place.json.items()
            }
        if place.form is not None:
            sent["data"] = {name: texts.get(value, value) for name, value in place.form.items()}
        for name in ("{share}", "{id}"):
            url = url.replace(name, texts[name])
        headers = {"Authorization": f"Bearer {presented}"} if presented else {}
        answer = self.client.open(url, method=method, headers=headers, **sent)
        told = answer.get_json(silent=True) or {}
        if "introspect" in url and answer.status_code == 200:
            return f"200={told['kind'] if told['active'] else 'inactive'}"
        refusal = told.get("code") or told.get("error")
        return (
            f"{answer.status_code}={refusal}"
            if answer.status_code >= 400
            else str(answer.status_code)
        )

    def fate(self, kind: str) -> str:
        """What has become of a credential: the reason for which it does not open, or ``ok``."""
        return reason_of(lambda: self.gate.verify(self.bearers[kind]))


@pytest.mark.parametrize("framework", ["flask", "starlette"])
@pytest.mark.parametrize("kind", TABLE["kinds"])
def test_each_kind_is_accepted_where_it_belongs(kind: str, framework: str) -> None:
    """And nowhere else; and where it has no place, nothing comes of it."""
    found: dict[str, tuple[str, str]] = {}
    expected: dict[str, tuple[str, str]] = {}
    world = World(framework)
    for place in PLACES:
        before = world.fate(kind)
        found[place.name] = answer, _ = world.answer(place, kind), world.fate(kind)
        expected[place.name] = (
            place.expect[TABLE["kinds"].index(kind)],
            place.then.get(kind, before),
        )
        if kind in place.then or (answer.startswith("2") and not place.call.startswith("GET")):
            world.gate.close()
            world = World(framework)  # as it was, for the next place
    assert found == expected


def test_every_kind_has_an_answer_in_every_place() -> None:
    """The table has no holes."""
    assert all(len(place.expect) == len(TABLE["kinds"]) for place in PLACES)
