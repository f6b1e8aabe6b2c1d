"""The traps that others fell into, by their numbers: those that are no row of a table and belong to no adapter."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from asgi_client import ask, scope_of
from conftest import START, Clock, reason_of
from flask import Flask
from werkzeug.test import Client, TestResponse

from faregate import AUTHENTICATED, Gate
from faregate_asgi import GateMiddleware as AsgiGateMiddleware
from faregate_flask import Faregate
from faregate_wsgi import GateMiddleware as WsgiGateMiddleware

HERE = Path(__file__).parent
NUMBERS = [1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 18, 19, 20]


@pytest.mark.parametrize("number", NUMBERS)
def test_each_trap_has_a_row_or_a_test_by_its_number(number: int) -> None:
    """So that nobody takes one away unawares."""
    named = rf"def test_trap_{number}_|name = \"trap {number}: "
    files = [*HERE.rglob("test_*.py"), *HERE.glob("cases/*.toml")]
    assert any(re.search(named, file.read_text()) for file in files)


@pytest.mark.parametrize("kind", ["token", "access", "share", "redeemed"])
def test_trap_6_no_verdict_is_cached_and_no_input_forgotten(
    make_gate: Callable[..., Gate], store: str, clock: Clock, kind: str
) -> None:
    """The same credential from the cache: by each address, scope, object and instant as if it were the first time."""
    gate = make_gate(store)
    blocks = ["10.0.0.0/8"]
    if kind == "token":
        secret = gate.tokens.create(
            name="a", scopes=["a"], allowed_cidr_blocks=blocks, expires_in=60
        ).secret
    elif kind == "access":
        family = gate.tokens.create(
            name="a", type="REFRESH", scopes=["a"], allowed_cidr_blocks=blocks, expires_in=60
        )
        secret = gate.tokens.exchange(family.secret, address="10.0.0.1").access_token
    else:
        made = gate.shares.create(
            "x", scopes=["a"], expires_in=60, params={"allowedCidrBlocks": blocks}
        )
        secret = made.secret
        if kind == "redeemed":
            secret = gate.shares.redeem(made.share.id, secret=secret, address="10.0.0.1").token

    def decided(address: str | None, need: str, on: str | None, now: float) -> str:
        clock.now = now
        return reason_of(lambda: gate.verify(secret, address=address).require(need, on=on))

    for _ in range(3):
        assert decided("10.0.0.1", "a", "x", START) == "ok"
        assert decided("10.255.0.1", "a", "x", START + 59.9) == "ok"
        assert decided("11.0.0.1", "a", "x", START) == "address_not_allowed"
        assert decided(None, "a", "x", START) == "address_unknown"
        assert decided("10.0.0.1", "b", "x", START) == "insufficient_scope"
        assert decided("10.0.0.1", "a", "y", START) == (
            "ok" if kind in ("token", "access") else "object_not_shared"
        )
        assert decided("10.0.0.1", "a", "x", START + 60) == "expired"


@pytest.mark.parametrize(
    "line", ["Bearer", "Bearer ", "bearer  ", "", " ", "Bearer\t", "Bearer =", "Basic"]
)
def test_trap_12_an_empty_value_matches_nothing(line: str) -> None:
    """An empty credential is refused, even if a record has the digest of the empty text."""
    from hashlib import sha256

    gate = Gate("sqlite://", query=True, header="X-API-Key")
    token = gate.tokens.create(name="a").token
    with gate._store.changing() as change:
        change._connection.exec_driver_sql(
            "UPDATE faregate_secrets SET digest = ?", (sha256(b"").digest(),)
        )
    app = AsgiGateMiddleware(show_asgi, gate=gate, rules={"/": AUTHENTICATED})
    assert ask(app, scope_of(headers=[(b"authorization", line.encode())])).status in (400, 401)
    assert ask(app, scope_of(query_string=b"access_token=")).status == 400
    assert ask(app, scope_of(headers=[(b"x-api-key", b"")])).status == 400
    assert reason_of(lambda: gate.verify("")) == "malformed_credential"
    assert gate.tokens.get(token.id) == token


async def show_asgi(scope: object, receive: object, send: Callable[..., object]) -> None:
    """Never asked."""
    raise AssertionError((scope, receive, send))


def test_trap_20_realms_are_quoted_by_every_adapter() -> None:
    """``realm="my api"``, as RFC 9110 section 11.5 has it, with what belongs to it in the same words."""
    flask = Flask(__name__)
    flask.config |= {"FAREGATE_STORE": "sqlite://", "FAREGATE_REALM": "my api"}
    faregate = Faregate(flask)
    flask.add_url_rule("/", "x", faregate.requires(lambda: "x"))
    gate = Gate("sqlite://", realm="my api")
    wsgi = WsgiGateMiddleware(flask.wsgi_app, gate=gate, rules={"/": AUTHENTICATED})
    asgi = AsgiGateMiddleware(show_asgi, gate=gate, rules={"/": AUTHENTICATED})
    for presented, wanted in (
        (None, 'Bearer realm="my api"'),
        ("Bearer a b", 'Bearer realm="my api", error="invalid_request"'),
        (
            "Bearer unknown",
            'Bearer realm="my api", error="invalid_token", error_description="The credential is not one that opens this gate."',
        ),
    ):
        headers = {"Authorization": presented} if presented else {}
        for app in (flask.wsgi_app, wsgi):
            assert (
                Client(app, TestResponse).get("/", headers=headers).headers["WWW-Authenticate"]
                == wanted
            )
        lines = [(b"authorization", presented.encode())] if presented else []
        assert ask(asgi, scope_of(headers=lines)).headers["www-authenticate"] == wanted
