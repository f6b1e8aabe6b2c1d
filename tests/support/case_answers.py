"""Writes the request of a row of ``tests/cases``, and checks the HTTP answer to it.

All adapters use the same check, so that all give the same answer to the same request.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from case_rows import Row, Scene

from faregate.errors import REASONS, Reason

# Headers by which a client could forge its identity. No application behind a gate may see them.
FORGED = [("remote-user", "root"), ("remote_user", "root")]


@contextmanager
def named(name: str) -> Iterator[None]:
    """Add the name of the row to failures in the block."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"of {name!r}")
        raise


def check_answer(
    row: Row, scene: Scene, status: int, headers: Mapping[str, str], body: bytes, expect: str = ""
) -> None:
    """Assert status, body, challenge and Cache-Control of the row."""
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
    """Return the header lines of a row's request as an ASGI server passes them, and forged ones."""
    forwarded = row.gate.get("forwarded_header", "x-forwarded-for")
    lines = [*FORGED]
    lines += [("authorization", line) for line in scene.authorization]
    lines += [("x-api-key", line) for line in scene.header]
    lines += [(forwarded, line) for line in row.forwarded]
    lines += [("cookie", scene.cookie)] if scene.cookie else []
    lines += [("origin", row.origin)] if row.origin else []
    return [(name.encode(), value.encode("latin-1")) for name, value in lines]


def check_unforged(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Assert that no header with a forged identity arrives."""
    assert [value for name, value in headers if b"remote" in name.lower()] == []


def wsgi_environ(row: Row, scene: Scene) -> dict[str, Any]:
    """Return a row's request as a WSGI environment; lines of the same name are joined (PEP 3333)."""
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
