"""The rows of ``tests/cases`` that a client can send, over real servers on real sockets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from case_answers import FORGED, check_answer
from case_application import ROWS
from case_rows import Row, Scene
from real_servers import HANDSHAKE, exchange, serving

pytestmark = pytest.mark.processes

# Handshakes that uvicorn leaves without any answer, since it cannot read them.
UNANSWERED = {
    "presented: a control character",
    "presented: 8,193 characters",
    "presented: 8,193 characters where more are taken",
    "presented: more characters than are taken",
    "presented: 8,192 characters are text, unknown text",
}
# One of each interface always, another where `make test-servers` asks for it.
SERVERS = ["uvicorn", "gunicorn", *(["granian", "waitress"] if "SERVERS" in os.environ else [])]


@pytest.fixture(scope="module", params=SERVERS)
def case_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The address of a server with every row, its name, and what each row presents."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    with serving(request.param, "case_application", folder, SCENES_FOLDER=str(folder)) as address:
        exchange(
            address, "GET", "/0/", timeout=60
        )  # some listen before they have loaded the application
        yield address, request.param, json.loads((folder / "scenes.json").read_text())


def request_of(number: int, row: Row, told: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """The target and the header lines of a row's request."""
    target = f"/{number}{row.raw or quote(row.path)}" + (
        f"?{told['query']}" if told["query"] else ""
    )
    forwarded = row.gate.get("forwarded_header", "x-forwarded-for").title()
    headers = [(name.title(), value) for name, value in FORGED]
    headers += [("Authorization", line) for line in told["authorization"]]
    headers += [("X-Api-Key", line) for line in told["header"]]
    headers += [(forwarded, line) for line in row.forwarded]
    headers += [("Cookie", told["cookie"])] if told["cookie"] else []
    headers += [("Origin", row.origin)] if row.origin else []
    return target, headers


def test_servers_answer_as_the_rows_say(case_server: Any) -> None:
    """Each row as the core decides it. What a server itself calls a bad request never gets through."""
    address, _, scenes = case_server
    refused = []
    for number, (row, told) in enumerate(zip(ROWS, scenes, strict=True)):
        target, headers = request_of(number, row, told)
        status, sent, body = exchange(address, row.method, target, headers)
        scene = Scene(**{**told, "gate": None, "rules": None, "needs": ()})
        if status in (400, 431) and "problem+json" not in sent.get("content-type", ""):
            assert row.expect != "ok", row.name
            refused.append(row.name)
            continue
        try:
            check_answer(row, scene, status, sent, body)
        except AssertionError as error:
            raise AssertionError(row.name) from error
    assert len(ROWS) > 200
    assert len(refused) < 12, refused


def test_trap_2_handshakes_are_judged_as_the_rows_say(case_server: Any) -> None:
    """A WebSocket is opened exactly where the row says so; elsewhere the handshake is answered."""
    address, server, scenes = case_server
    if server not in ("uvicorn", "granian"):
        return
    for number, (row, told) in enumerate(zip(ROWS, scenes, strict=True)):
        if row.method != "GET" or row.name in UNANSWERED:
            continue
        target, headers = request_of(number, row, told)
        status, sent, body = exchange(address, "GET", target, [*HANDSHAKE, *headers])
        expect = row.websocket or row.expect
        assert (status == 101) == (expect == "ok"), (row.name, status, body)
        if status == 101:
            assert json.loads(body[2:].partition(b"}")[0] + b"}") == {
                "for": told["record_id"] if row.identified else None
            }
        elif "problem+json" in sent.get("content-type", ""):
            scene = Scene(**{**told, "gate": None, "rules": None, "needs": ()})
            check_answer(row, scene, status, sent, body, expect)
        else:
            assert status in (400, 403), (
                row.name
            )  # no word but "no" from a server that cannot answer a handshake
