"""Walking a list by its links: whole though it changes, in every order, and in pages that anybody can carry."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec
import pytest
from conftest import Clock
from test_http import Api, problem

from faregate import Gate, InvalidInput, Org, Owner
from faregate.lifecycles.paging import MAX_BYTES
from faregate.lifecycles.tokens import SORTABLE
from faregate.stores.queries import TokenQuery

OBJECTS = [
    f"{number:03}{'x' * 509}" for number in range(1000)
]  # a share of these weighs half a megabyte


@pytest.fixture(params=["flask", "starlette"])
def api(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Api]:
    """The API in each framework."""
    made = Api("sqlite://", clock, request.param)
    yield made
    made.gate.close()


def filled(gate: Gate, clock: Clock) -> None:
    """Tokens that are alike in every way in which they are sorted, or have nothing there."""
    for number in range(18):
        clock.now += number % 3 == 0
        made = gate.tokens.create(
            name=f"t{number % 4}",
            type=["API", "PROXY"][number % 2],
            owner=Owner(f"u{number}", name=[None, "Ann", "ann", "Ö"][number % 4]),
            org=Org(f"o{number}", name=[None, "Acme"][number % 2]),
            expires_at=[None, clock.now + 60 + number % 2][number % 3 > 0],
        )
        if number % 3 == 1:
            gate.verify(made.secret)
    gate._usage.flush()


def walked(gate: Gate, limit: int, **query: Any) -> list[str]:
    """The ids of a list, one page after the other."""
    page = gate.tokens.list(limit=limit, **query)
    found = [token.id for token in page.items]
    while page.next is not None:
        page = gate.tokens.list(limit=limit, after=page.next, **query)
        assert page.total == 18
        assert page.items
        found += [token.id for token in page.items]
    return found


@pytest.mark.parametrize("sort", [*SORTABLE, *(f"-{name}" for name in SORTABLE)])
def test_a_list_is_walked_in_every_order(store: str, clock: Clock, sort: str) -> None:
    """Each record once, in the order of the whole list, among equals and where there is nothing to sort by."""
    gate = Gate(store, clock=clock)
    filled(gate, clock)
    whole = [token.id for token in gate.tokens.list(sort=sort).items]
    assert len(set(whole)) == 18
    for limit in (1, 4, 17, 18, 19):
        assert walked(gate, limit, sort=sort) == whole
    by_offset = [
        gate.tokens.list(sort=sort, limit=1, offset=number).items[0].id for number in range(18)
    ]
    assert by_offset == whole
    assert gate.tokens.list(sort=sort, limit=4, offset=4).next is not None
    gate.close()


def test_a_list_that_the_walk_changes_is_walked_whole(api: Api) -> None:
    """Of what is closed, deleted and made on the way nothing is left out: a leaver's tokens are all closed."""
    made = {api.create(owner={"id": "u1"})["id"] for _ in range(11)}
    found: set[str] = set()
    path = "/tokens?owner=u1&deactivated=false&limit=3"
    while path:
        answer = api.call("GET", path)
        for number, token in enumerate(answer.get_json()["items"]):
            found.add(token["id"])
            if number % 2:
                api.call("DELETE", f"/tokens/{token['id']}")
            else:
                api.call("POST", f"/tokens/{token['id']}/deactivate")
        link = re.match(r'</auth([^>]*)>; rel="next"', answer.headers.get("Link", ""))
        path = "" if link is None else link[1]
    assert found == made


def test_shares_are_walked_too(store: str, clock: Clock) -> None:
    """Pages list the newest shares first, shares of the same instant included, also for a single object."""
    gate = Gate(store, clock=clock)
    for number in range(9):
        clock.now += number % 3 == 0
        gate.shares.create("x", [f"{number % 2}"], scopes=["a"], expires_in=3600)
    for object_id in (None, "x", "1"):
        whole = [share.id for share in gate.shares.list(object_id).items]
        page = gate.shares.list(object_id, limit=2)
        found = [share.id for share in page.items]
        while page.next is not None:
            page = gate.shares.list(object_id, limit=2, after=page.next)
            found += [share.id for share in page.items]
        assert found == whole
    gate.close()


def marked(*held: object) -> str:
    """A text as links have it, that holds this."""
    return urlsafe_b64encode(msgspec.json.encode(held)).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "after",
    [
        "", "x", "é", "a b", "a" * 5000, "AAAA", marked(), marked("-createdAt", 1.0), marked("-createdAt", 1.0, "x", 1), marked("-createdAt", "1", "x"),
        marked("-createdAt", {}, "x"), marked("-createdAt", [], "x"), marked("-createdAt", 1.0, ""), marked("-createdAt", 1.0, "ö"), marked("-createdAt", 1.0, 5),
        marked("-createdAt", 1.0, "x" * 65), marked("createdAt", 1.0, "x"), marked("name", "t", "x"), marked("id", "t", "x"),
        urlsafe_b64encode(b'["-createdAt",1e999,"x"]').rstrip(b"=").decode(), urlsafe_b64encode(b"[" * 3000).rstrip(b"=").decode(),
    ],
)  # fmt: skip
def test_what_is_no_mark_is_refused(api: Api, after: str) -> None:
    """400 for whatever no page has said, also for that of another order."""
    for path in ("/tokens", "/shares"):
        answer = api.client.get(
            f"/auth{path}",
            query_string={"after": after},
            headers={"Authorization": f"Bearer {api.admin}"},
        )
        assert "after" in problem(answer, 400, "invalid_input")


def test_a_mark_reaches_no_further(api: Api) -> None:
    """A forged page mark only chooses a position among the caller's own records."""
    theirs = api.create(owner={"id": "u1"})
    mine = api.create(owner={"id": "u2"}, scopes=["gate:tokens:read"])
    for value in (0.0, 1e12, None):
        for record_id in (theirs["id"], "!", "~"):
            query = f"/tokens?after={marked('-createdAt', value, record_id)}"
            found = api.call("GET", query, secret=mine["token"]).get_json()
            assert found["total"] == 1
            assert {one["id"] for one in found["items"]} <= {mine["id"]}
    with pytest.raises(InvalidInput, match="offset, after"):
        api.gate.tokens.list(offset=1, after=marked("-createdAt", 1.0, "x"))
    page = api.gate.tokens.list(limit=1)
    assert page.next is not None
    assert not any(
        secret[7:20] in page.next for secret in (api.admin, theirs["token"], mine["token"])
    )


def test_a_page_ends_at_four_megabytes(clock: Clock) -> None:
    """With what fits, and a link to the rest; what comes after is not read from the database."""
    api = Api("sqlite://", clock)
    for _ in range(20):
        api.gate.shares.create(OBJECTS[0], OBJECTS[1:], scopes=["a"], expires_in=3600)
    numbers, path = count(), "/shares?limit=1000"
    found: list[str] = []
    while path:
        next(numbers)
        answer = api.call("GET", path)
        assert len(answer.data) < MAX_BYTES + 1000
        found += [share["id"] for share in answer.get_json()["items"]]
        assert answer.get_json()["total"] == 20
        link = re.match(r'</auth([^>]*)>; rel="next"', answer.headers.get("Link", ""))
        path = "" if link is None else link[1]
    assert found == [
        share.id
        for number in range(20)
        for share in api.gate.shares.list(limit=1, offset=number).items
    ]
    assert next(numbers) == 3

    entries: list[int] = []
    path = "/audit?since=0&limit=1000"
    while path:
        answer = api.call("GET", path)
        assert len(answer.data) < MAX_BYTES + 1000
        entries += [entry["sequence"] for entry in answer.get_json()["items"]]
        link = re.match(r'</auth([^>]*)>; rel="next"', answer.headers.get("Link", ""))
        path = "" if link is None else link[1]
    assert entries == list(range(1, 22))
    newest = api.gate.audit(limit=1000)
    assert (newest.items[-1].sequence, newest.more, len(newest.items) < 20) == (21, False, True)
    api.gate.close()


def test_a_page_has_one_record_whatever_it_weighs(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody could walk past it."""
    monkeypatch.setattr("faregate.lifecycles.paging.MAX_BYTES", 10)
    gate = Gate("sqlite://", clock=clock)
    filled(gate, clock)
    assert len(gate.tokens.list().items) == 1
    assert len(walked(gate, 5)) == 18
    gate.close()


def test_rows_beyond_the_end_of_a_page_are_not_read(clock: Clock) -> None:
    """A few at a time are taken out of the database, not the thousand that were asked for."""
    gate = Gate("sqlite://", clock=clock)
    for number in range(60):
        gate.tokens.create(name=f"t{number}")
    statements: list[str] = []
    with gate._store.reading() as reading:
        connection: Any = reading._connection.connection.driver_connection
        connection.set_trace_callback(statements.append)
        rows, total = reading.tokens.list(TokenQuery(limit=1000), None)
        first = next(rows)
        connection.set_trace_callback(None)
    assert (total, first["name"]) == (60, "t0")
    assert sum(statement.count("allowed_scopes") for statement in statements) == 1
    gate.close()


def test_rows_are_read_in_growing_steps(clock: Clock) -> None:
    """Never more at once than were taken before, after the first few."""
    gate = Gate("sqlite://", clock=clock)
    for number in range(60):
        gate.tokens.create(name=f"t{number}")
    statements: list[str] = []
    with gate._store.reading() as reading:
        connection: Any = reading._connection.connection.driver_connection
        rows, _ = reading.tokens.list(TokenQuery(limit=1000), None)
        connection.set_trace_callback(statements.append)
        names = [row["name"] for row in rows]
        connection.set_trace_callback(None)
    assert names == [f"t{number}" for number in range(60)]
    # A statement takes a power of two of ids; what is missing in the last one is said again.
    assert [statement.partition(" IN (")[2].count(",") + 1 for statement in statements] == [
        16,
        16,
        32,
    ]
    gate.close()
