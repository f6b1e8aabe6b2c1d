"""The same request, with what is at hand asked first and without: one outcome, and the application sees the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from asgi_client import scope_of, send_to
from conftest import START, Clock
from flask import Flask
from werkzeug.test import create_environ, run_wsgi_app

from faregate import AUTHENTICATED, PUBLIC, AllowedScopes, Denied, Gate, Owner, any_of
from faregate.credentials.opaque import mint
from faregate_asgi import GateMiddleware as AsgiGateMiddleware
from faregate_flask import Faregate, current_principal
from faregate_wsgi import GateMiddleware as WsgiGateMiddleware

RULES: dict[str, Any] = {
    "/public": PUBLIC, "/any/": AUTHENTICATED, "/docs": "docs:read", "/docs/": ["docs:read", "docs:write"],
    "/docs/either": any_of("docs:write", "mail:read"), "/": "mail:read",
}  # fmt: skip
PATHS = (
    "/",
    "/public",
    "/any/x",
    "/docs",
    "/docs/",
    "/docs/either",
    "/docs/x;y",
    "/docs//x",
    "/d%6fcs",
    "/äö",
    "",
    "/app/docs",
)
PEERS = (
    None,
    "",
    "127.0.0.1",
    "10.0.0.1",
    "10.9.9.9",
    "::ffff:10.0.0.1",
    "10.0.0.1:80",
    "fe80::1%eth0",
    "unix:",
    "x",
)
USERS = ("remote-user", "Remote_User", "REMOTE-USER", "remote-name", "x-remote-user")
SETTINGS: list[dict[str, Any]] = [
    {},
    {"query": True},
    {"header": "x-key", "cookie": "__Host-key", "origins": ["https://a.example"]},
    {"trusted_proxies": ["10.0.0.0/8"]},
    {"max_length": 8192, "owner_rights": lambda owner: None if owner.id == "gone" else AllowedScopes(general_scopes=("docs:*",))},
]  # fmt: skip

Lines = list[tuple[str, str]]


def slowed(gate: Gate) -> Gate:
    """The gate, which is told nothing by what is at hand."""
    gate.requests.peek = gate.requests._peek = gate._peek = lambda *_: None  # type: ignore[method-assign, assignment]
    return gate


def credentials_of(gate: Gate) -> list[str]:
    """Credentials of each kind and state."""
    tokens, shares = gate.tokens, gate.shares
    made = [
        tokens.create(name="t", **members)
        for members in (
            {"scopes": ["docs:read"]},
            {"scopes": ["docs:*", "mail:read"], "owner": Owner("u1"), "expires_in": 3600},
            {"scopes": ["*"], "allowed_cidr_blocks": ["10.0.0.0/24", "fe80::/64"]},
            {"scopes": ["docs:read"], "owner": Owner("gone")},
            {"scopes": ["*"], "expires_in": 5},
            {"scopes": ["*"], "not_before": START + 5.0},
            {"scopes": ["*"]},
        )
    ]  # fmt: skip
    tokens.deactivate(made[-1].token.id)
    share = shares.create("x", ["y"], scopes=["docs:read"], expires_in=60)
    family = tokens.create(name="t", type="REFRESH", scopes=["docs:*"], expires_in=3600)
    return [
        *(issued.secret for issued in made),
        share.secret,
        shares.redeem(share.share.id, secret=share.secret).token,
        tokens.exchange(family.secret).access_token,
        family.secret,
        mint("fg", "tok"),
        "junk",
        "ä",
        "x" * 9000,
    ]


def lines_of(draw: random.Random, credentials: list[str]) -> Lines:
    """The headers of a request, of which most are as most requests are."""
    secret = draw.choice(credentials)
    presented = f"Bearer {secret}"
    odd = draw.random() < 0.3
    if odd:
        presented = draw.choice(
            (
                secret,
                f"bearer {secret}",
                f"Bearer  {secret}",
                f"Bearer {secret} ",
                f"Basic {secret}",
                "Bearer ",
            )
        )
    lines: Lines = [("authorization", presented)]
    if draw.random() < 0.15:
        lines.append(("authorization", f"Bearer {draw.choice(credentials)}"))
    if draw.random() < 0.1:
        lines = []
    if draw.random() < 0.3:
        lines.append((draw.choice(USERS), "root"))
    if draw.random() < 0.2:
        lines.append(
            draw.choice(
                (
                    ("x-key", secret),
                    ("cookie", f"__Host-key={secret}"),
                    ("x-forwarded-for", "10.9.9.9, 192.0.2.1"),
                )
            )
        )
    draw.shuffle(lines)
    return lines


def asgi_outcome(app: Any, seen: list[Any], scope: dict[str, Any]) -> Any:
    """What is answered, and what the application saw."""
    seen.clear()
    answered = asyncio.run(send_to(app, {**scope, "headers": [*scope["headers"]]}))
    return answered.messages, [*seen]


def wsgi_outcome(app: Any, seen: list[Any], environ: dict[str, Any]) -> Any:
    """What is answered, and what the application saw."""
    seen.clear()
    told: list[Any] = []
    body = b"".join(app(dict(environ), lambda status, headers, *_: told.append((status, headers))))
    return told, body, [*seen]


def flask_outcome(app: Any, seen: list[Any], environ: dict[str, Any]) -> Any:
    """What is answered, and what the view saw."""
    seen.clear()
    body, status, headers = run_wsgi_app(
        app, {**create_environ(), **environ, "SCRIPT_NAME": "", "PATH_INFO": "/"}
    )
    return b"".join(body), status, [*headers], [*seen]


def principal_of(user: Any) -> Any:
    """What tells a principal from another one."""
    reason = getattr(getattr(user, "denied", None), "reason", None)
    return reason or (user.kind, user.id, user.address, user.compiled.digest, user.rights)


class Apps:
    """An application behind one gate, by either protocol."""

    def __init__(self, gate: Gate, rules: dict[str, Any] | None, default: Any) -> None:
        self.seen: list[Any] = []
        settings: dict[str, Any] = {"gate": gate, "rules": rules, "default": default}
        self.asgi = AsgiGateMiddleware(self._asgi, **settings)
        self.wsgi = WsgiGateMiddleware(self._wsgi, **settings)

        self.flask = Flask(__name__)
        self.flask.config["FAREGATE_STORE"] = "sqlite://"
        extension = Faregate(self.flask)
        extension.gate.close()
        self.flask.extensions["faregate"] = gate
        guarded = extension.requires("docs:read", any_of("mail:read", "docs:read"))(self._view)
        self.flask.add_url_rule("/", "view", guarded, methods=["GET", "POST"])

    def _view(self) -> str:
        self.seen.append(principal_of(current_principal))
        return "hello"

    async def _asgi(self, scope: Any, receive: Any, send: Any) -> None:
        del receive
        self.seen += [
            principal_of(scope["user"]),
            sorted(scope["auth"].scopes),
            scope["headers"],
            sorted(scope),
        ]
        scope["user"].require("docs:read")
        if scope["type"] == "http":
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-type", b"text/plain")],
                }
            )
            await send({"type": "http.response.body", "body": b"hello"})
        else:
            await send({"type": "websocket.accept"})

    def _wsgi(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        principal, denied = environ["faregate.principal"], environ["faregate.denied"]
        rest = {name: value for name, value in environ.items() if not name.startswith("faregate.")}
        self.seen += [principal and principal_of(principal), denied and denied.reason, rest]
        if denied is not None:
            raise Denied(denied.reason)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]


@pytest.mark.parametrize(
    "settings", SETTINGS, ids=["plain", "query", "header", "proxies", "rights"]
)
@pytest.mark.parametrize(("default", "ruled"), [("deny", True), ("identify", True), (None, False)])
def test_what_is_at_hand_changes_no_outcome(
    tmp_path: Path, clock: Clock, settings: dict[str, Any], default: str | None, ruled: bool
) -> None:
    """The fast path gives the same answer, headers and application input as the full one, for every request."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    fast, slow = Gate(store, clock=clock, **settings), slowed(Gate(store, clock=clock, **settings))
    credentials = credentials_of(fast)
    sides = [Apps(gate, RULES if ruled else None, default) for gate in (fast, slow)]
    draw = random.Random(f"{default} {ruled} {sorted(settings)}")  # noqa: S311  the same each time
    hits, peek = [0], fast.requests.peek

    def counted(*arguments: Any) -> Any:
        principal = peek(*arguments)
        hits[0] += principal is not None
        return principal

    fast.requests.peek = counted  # type: ignore[method-assign, assignment]
    for turn in range(120):
        clock.now = START + turn / 12
        lines, peer, path = lines_of(draw, credentials), draw.choice(PEERS), draw.choice(PATHS)
        kind, root = draw.choice(("http", "http", "websocket")), draw.choice(("", "", "/app"))
        method = draw.choice(("GET", "HEAD", "POST"))
        query = f"access_token={draw.choice(credentials)}" if draw.random() < 0.1 else ""
        scope = scope_of(
            kind, path, root_path=root, query_string=query.encode(), client=peer if peer is None else (peer, 1),
            headers=[(name.encode(), value.encode("latin-1")) for name, value in lines],
            raw_path=draw.choice((b"", path.encode(), b"/%2e%2e/docs")), extensions=draw.choice(({}, {"websocket.http.response": {}})),
        )  # fmt: skip
        if kind == "http":
            scope["method"] = method
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "SCRIPT_NAME": root,
            "QUERY_STRING": query,
        }
        for name, value in lines:
            key = "HTTP_" + name.upper().replace("-", "_")
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        environ |= draw.choice(
            ({}, {"REMOTE_USER": "root"}, {"faregate.principal": "root", "AUTH_TYPE": "Basic"})
        )
        environ |= {} if peer is None else {"REMOTE_ADDR": peer}
        one, other = sides
        for _ in range(2):  # the second time it is at hand
            assert asgi_outcome(one.asgi, one.seen, scope) == asgi_outcome(
                other.asgi, other.seen, scope
            )
            assert wsgi_outcome(one.wsgi, one.seen, environ) == wsgi_outcome(
                other.wsgi, other.seen, environ
            )
            assert flask_outcome(one.flask, one.seen, environ) == flask_outcome(
                other.flask, other.seen, environ
            )
    assert (hits[0] > 0) is not bool(fast.requests.resolver.elsewhere or fast.requests.proxies.any)
    fast.close()
    slow.close()
