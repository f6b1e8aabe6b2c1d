"""Stock resource servers before the introspection of the management API: what they let in, though they ask no more."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from authlib.integrations.flask_oauth2 import ResourceProtector
from authlib.oauth2.rfc7662 import IntrospectTokenValidator
from conftest import Clock
from flask import Flask
from test_http import Api
from werkzeug.test import Client, TestResponse

from faregate import Org

ACME = Org("acme")


class Server:
    """A resource server by Authlib, which knows of a token what introspection tells it."""

    def __init__(self, api: Api, *, basic: bool) -> None:
        secret = api.gate.tokens.create(name="server", scopes=["gate:tokens:read"], org=ACME).secret
        password = base64.b64encode(f"server:{secret}".encode()).decode()
        headers = {"Authorization": f"Basic {password}" if basic else f"Bearer {secret}"}

        class Validator(IntrospectTokenValidator):  # type: ignore[misc]
            def introspect_token(self, token_string: str) -> Any:
                asked = {"token": token_string, "token_type_hint": "access_token"}
                return api.client.post("/auth/introspect", data=asked, headers=headers).get_json()

        guard = ResourceProtector()
        guard.register_token_validator(Validator())
        app = Flask(__name__)
        app.add_url_rule(
            "/docs/<doc_id>", "document", guard("docs:read")(lambda doc_id: {"id": doc_id})
        )
        self._client = Client(app, TestResponse)

    def status(self, credential: str) -> int:
        """What a request for a document is answered."""
        return self._client.get(
            "/docs/1", headers={"Authorization": f"Bearer {credential}"}
        ).status_code


@pytest.fixture(params=["flask", "starlette"])
def api(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Api]:
    """The API in each framework."""
    made = Api("sqlite://", clock, request.param)
    yield made
    made.gate.close()


@pytest.mark.parametrize("basic", [False, True], ids=["bearer", "basic"])
def test_a_stock_resource_server_lets_in_what_opens_everything_it_has(
    api: Api, *, basic: bool
) -> None:
    """A resource server that names neither object nor address accepts only unbound access tokens of its organization."""
    server, tokens = Server(api, basic=basic), api.gate.tokens
    sound = tokens.create(name="a", scopes=["docs:read", "gate:shares:write"], org=ACME)
    assert server.status(sound.secret) == 200
    assert server.status(tokens.create(name="a", scopes=["other"], org=ACME).secret) == 403
    share = api.gate.shares.create(
        "1", scopes=["docs:read"], expires_in=60, by=api.gate.verify(sound.secret)
    )
    refresh = tokens.create(name="r", type="REFRESH", scopes=["docs:read"], org=ACME)
    exchanged = tokens.exchange(refresh.secret)
    assert server.status(exchanged.access_token) == 200
    for bound in (
        share.secret, api.gate.shares.redeem(share.share.id, secret=share.secret).token, str(exchanged.refresh_token),
        tokens.create(name="a", scopes=["docs:read"], org=ACME, allowed_cidr_blocks=["10.0.0.0/8"]).secret,
        tokens.create(name="a", scopes=["docs:read"], org=Org("globex")).secret, tokens.create(name="a", scopes=["docs:read"]).secret, "junk",
    ):  # fmt: skip
        assert server.status(bound) == 401
    tokens.deactivate(sound.token.id)
    assert server.status(sound.secret) == 401
