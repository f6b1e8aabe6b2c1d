"""Every row of ``tests/cases``, against a bare WSGI application behind the middleware."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.validate import validator

import pytest
from case_answers import check_answer, wsgi_environ
from case_rows import Row, Scene, rows, stage
from conftest import Clock

from faregate import Gate
from faregate_wsgi import GateMiddleware


def application_of(row: Row, scene: Scene) -> Any:
    """An application that tells who asks; where a rule cannot name the object, it asks the principal itself."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        principal = environ["faregate.principal"]
        if row.on is not None:
            if principal is None:
                raise environ["faregate.denied"]
            principal.require(*scene.needs, on=row.on)
        assert "HTTP_REMOTE_USER" not in environ
        assert environ.get("REMOTE_USER") == (principal.identity if principal else None)
        assert environ.get("AUTH_TYPE") == ("Bearer" if principal else None)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [
            json.dumps({"for": principal.id if principal else None}).encode()
            if row.method != "HEAD"
            else b""
        ]

    return application


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_wsgi_answers_as_the_row_says(row: Row, clock: Clock) -> None:
    """Status, reason and challenge are those of the row, and PEP 3333 is kept."""
    gate = Gate("sqlite://", clock=clock, **row.gate)
    scene = stage(row, gate, clock)
    app = GateMiddleware(
        application_of(row, scene), gate=gate, rules=scene.rules, default=row.default
    )
    sent: list[Any] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        del exc_info
        sent[:] = [int(status[:3]), dict(headers)]
        return lambda _: None

    version: dict[str, Any] = {
        "wsgi.version": (1, 0), "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(), "wsgi.multithread": False,
        "wsgi.multiprocess": False, "wsgi.run_once": False, "SERVER_PROTOCOL": "HTTP/1.1",
    }  # fmt: skip
    answer = validator(app)({**version, **wsgi_environ(row, scene)}, start_response)
    body = b"".join(answer)
    answer.close()  # type: ignore[attr-defined]
    check_answer(row, scene, sent[0], sent[1], body)
