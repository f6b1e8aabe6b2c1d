"""Every row of ``tests/cases``, against a real Flask application: the same answers, with their statuses."""

from __future__ import annotations

from typing import Any

import pytest
from case_answers import check_answer, named, wsgi_environ
from case_rows import Row, rows, stage
from conftest import Clock
from flask import Flask, request

from faregate import path
from faregate_flask import Faregate, current_principal
from faregate_wsgi import GateMiddleware


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_flask_answers_as_the_row_says(row: Row, clock: Clock) -> None:
    """Status, reason and challenge are those of the row, before functions and coroutines."""
    app = Flask(__name__)
    settings = {name.upper(): value for name, value in row.gate.items()}
    app.config.update({"FAREGATE_STORE": "sqlite://", "FAREGATE_CLOCK": clock})
    app.config.update({f"FAREGATE_{name}": value for name, value in settings.items()})
    faregate = Faregate(app)
    scene = stage(row, faregate.gate, clock)

    def unguarded(**_: str) -> dict[str, str | None]:
        principal = request.environ["faregate.principal"]
        assert request.remote_user == (principal.identity if principal else None)
        assert "Remote-User" not in request.headers
        return {"for": principal.id if principal else None}

    def view(**_: str) -> dict[str, str]:
        assert (
            request.remote_user is None
        )  # without the middleware a header is a header, and nobody's word
        return {"for": current_principal.id}

    async def coroutine(**_: str) -> dict[str, str]:
        assert request.remote_user is None
        return {"for": current_principal.id}

    by_rules = row.rules is not None
    rule, on = ("/guarded/<path:thing>", path("thing")) if row.on is not None else (row.path, None)
    if by_rules:
        # Flask behind the WSGI middleware, which judges the rules.
        app.wsgi_app = GateMiddleware(  # type: ignore[method-assign]
            app.wsgi_app, gate=faregate.gate, rules=scene.rules, default=row.default
        )
        rule = "/<path:thing>"
        app.add_url_rule("/", "root", unguarded, methods=["GET", "POST"])
    app.add_url_rule(rule, "guarded", unguarded, methods=["GET", "POST", "OPTIONS"])
    environ = wsgi_environ(row, scene)
    if row.on is not None:
        environ |= {"PATH_INFO": f"/guarded/{row.on}", "REQUEST_URI": f"/guarded/{row.on}"}
    guard = faregate.requires(*scene.needs, on=on)
    inners: list[Any] = [unguarded] if by_rules else [guard(view), guard(coroutine)]
    for inner in inners:
        app.view_functions["guarded"] = inner
        scene.forget()
        with named(inner.__name__):
            answer = app.test_client(use_cookies=False).open(environ_overrides=environ)
            check_answer(row, scene, answer.status_code, dict(answer.headers), answer.get_data())
