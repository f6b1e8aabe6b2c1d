"""Every row of ``tests/cases``, against a real Flask application: the same answers, with their statuses."""

from __future__ import annotations

import pytest
from conftest import Clock
from flask import Flask
from table import Row, rows, stage

from faregate import path
from faregate.errors import REASONS
from faregate_flask import Faregate, current_principal


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_flask_answers_as_the_row_says(row: Row, kind: str, clock: Clock) -> None:
    """Status, reason and challenge are those of the row, before functions and coroutines."""
    app = Flask(__name__)
    settings = {name.upper(): value for name, value in row.gate.items()}
    app.config.update({"FAREGATE_STORE": "sqlite://", "FAREGATE_CLOCK": clock})
    app.config.update({f"FAREGATE_{name}": value for name, value in settings.items()})
    faregate = Faregate(app)
    scene = stage(row, faregate.gate, clock)

    def view(**_: str) -> dict[str, str]:
        return {"for": current_principal.id}

    async def coroutine(**_: str) -> dict[str, str]:
        return {"for": current_principal.id}

    inner = view if kind == "function" else coroutine
    rule, on = ("/guarded/<path:thing>", path("thing")) if row.on is not None else ("/guarded", None)
    guarded = faregate.requires(*scene.needs, on=on)(inner)
    app.add_url_rule(rule, "guarded", guarded, methods=["GET", "POST"])

    environ = {"REMOTE_ADDR": row.peer}
    joined = {
        "HTTP_AUTHORIZATION": scene.authorization,
        "HTTP_X_API_KEY": scene.header,
        f"HTTP_{row.gate.get('forwarded_header', 'x-forwarded-for').upper().replace('-', '_')}": row.forwarded,
        "HTTP_COOKIE": [scene.cookie] if scene.cookie else [],
        "HTTP_ORIGIN": [row.origin] if row.origin else [],
    }
    # A WSGI server joins the lines of one name (PEP 3333) and hands bytes on as Latin-1.
    environ |= {name: ", ".join(lines) for name, lines in joined.items() if lines}
    url = "/guarded" if row.on is None else f"/guarded/{row.on}"
    client = app.test_client(use_cookies=False)
    answer = client.open(url, method=row.method, query_string=scene.query, environ_overrides=environ)

    if row.expect == "ok":
        assert answer.status_code == 200, answer.get_data(as_text=True)
        assert answer.get_json() == {"for": scene.token_id}
        assert answer.headers.get("Cache-Control") == ("private" if row.private else None)
        return
    assert answer.status_code == REASONS[row.expect].status
    assert answer.content_type == "application/problem+json"
    problem = answer.get_json()
    assert problem["code"] == row.expect
    assert problem["type"] == f"urn:faregate:{row.expect}"
    assert problem["status"] == answer.status_code
    assert set(problem) == {"type", "title", "status", "detail", "code"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert ("WWW-Authenticate" in answer.headers) == (
        REASONS[row.expect].error is not None or answer.status_code == 401
    )
    if row.challenge is not None:
        assert answer.headers["WWW-Authenticate"] == row.challenge
