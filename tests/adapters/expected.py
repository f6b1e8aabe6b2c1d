"""What the answer to a row of ``tests/cases`` has to look like, whoever gives it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from table import Row, Scene

from faregate.errors import REASONS, Reason

# What a client may send for an application to take it for somebody else; no application behind a gate sees it.
FORGED = [("remote-user", "root"), ("remote_user", "root")]


@contextmanager
def named(name: str) -> Iterator[None]:
    """Have what fails in here say of what it did."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"of {name!r}")
        raise


def check_answer(
    row: Row, scene: Scene, status: int, headers: Mapping[str, str], body: bytes, expect: str = ""
) -> None:
    """Status, body, challenge and Cache-Control are those of the row."""
    expect = expect or row.expect
    sent = {name.lower(): value for name, value in headers.items()}
    if expect == "ok":
        assert status == 200, body
        if row.method != "HEAD":
            assert json.loads(body) == {"for": scene.record_id if row.identified else None}
        assert sent.get("cache-control") == ("private" if row.private else None)
        return
    wording = REASONS[cast("Reason", expect)]
    assert status == wording.status, body
    assert sent["content-type"] == "application/problem+json"
    assert sent["cache-control"] == "no-store"
    assert ("www-authenticate" in sent) == (wording.error is not None or status == 401)
    if row.challenge is not None and expect == row.expect:
        assert sent["www-authenticate"] == row.challenge
    if row.method == "HEAD":
        return
    problem: dict[str, Any] = json.loads(body)
    assert set(problem) == {"type", "title", "status", "detail", "code"}
    assert (problem["code"], problem["status"]) == (expect, status)
    assert problem["type"] == f"urn:faregate:{expect}"


def asgi_headers(row: Row, scene: Scene) -> list[tuple[bytes, bytes]]:
    """The header lines of a row's request, each on its own, as an ASGI server hands them on, and forged ones."""
    forwarded = row.gate.get("forwarded_header", "x-forwarded-for")
    lines = [*FORGED]
    lines += [("authorization", line) for line in scene.authorization]
    lines += [("x-api-key", line) for line in scene.header]
    lines += [(forwarded, line) for line in row.forwarded]
    lines += [("cookie", scene.cookie)] if scene.cookie else []
    lines += [("origin", row.origin)] if row.origin else []
    return [(name.encode(), value.encode("latin-1")) for name, value in lines]


def check_unforged(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """No header tells an ASGI application who asks."""
    assert [value for name, value in headers if b"remote" in name.lower()] == []


def wsgi_environ(row: Row, scene: Scene) -> dict[str, Any]:
    """The same in a WSGI environment: lines of one name are joined (PEP 3333)."""
    environ: dict[str, str] = {}
    for name, value in asgi_headers(row, scene):
        key = "HTTP_" + name.decode().upper().replace("-", "_")
        environ[key] = (
            f"{environ[key]}, {value.decode('latin-1')}"
            if key in environ
            else value.decode("latin-1")
        )
    path = row.path.removeprefix(row.root).encode().decode("latin-1")
    return {
        **environ, "REMOTE_ADDR": row.peer, "REQUEST_METHOD": row.method, "QUERY_STRING": scene.query, "SCRIPT_NAME": row.root,
        "PATH_INFO": path, "REQUEST_URI": (row.raw or row.path) + (f"?{scene.query}" if scene.query else ""),
        "wsgi.url_scheme": "http", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
    }  # fmt: skip
