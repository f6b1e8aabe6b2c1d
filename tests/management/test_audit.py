"""Reading the change feed: its order, its pages, and who sees what of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import START, Clock
from test_http import Api, problem

from faregate import Denied, Gate, InvalidInput, Org, Owner


def actions(gate: Gate, *arguments: Any, **filters: Any) -> list[tuple[int, str]]:
    """The sequence and action of each entry."""
    return [(one.sequence, one.action) for one in gate.audit(*arguments, **filters).items]


def test_entries_say_who_did_what_to_which_record(gate: Gate, clock: Clock) -> None:
    """With the instant by the gate's clock, the record's organization, and the details."""
    org = Org("o1", "One")
    ann = gate.tokens.create(
        name="ann", scopes=["gate:*", "a"], owner=Owner("ann"), org=org, by="setup"
    )
    clock.now += 5
    by = gate.verify(ann.secret)
    made = gate.tokens.create(name="ci", scopes=["a"], by=by).token
    gate.tokens.update(made.id, name="cd", description="d", by=by)
    share = gate.shares.create("x", ["y"], scopes=["a"], expires_in=60, by=by)
    gate.shares.redeem(share.share.id, secret=share.secret)
    gate.shares.update(share.share.id, params={"maxRedemptions": 5}, by=by)
    gate.tokens.deactivate(made.id, reason="lost")
    entries = gate.audit().items
    assert [(one.actor, one.action, one.subject) for one in entries] == [
        ("setup", "token.create", ann.token.id),
        ("ann", "token.create", made.id),
        ("ann", "token.update", made.id),
        ("ann", "share.create", share.share.id),
        (f"share:{share.share.id}", "share.redeem", share.share.id),
        ("ann", "share.update", share.share.id),
        ("root", "token.deactivate", made.id),
    ]
    assert {one.org_id for one in entries} == {"o1"}
    assert [one.sequence for one in entries] == list(range(1, 8))
    assert entries[0].at == datetime.fromtimestamp(START, UTC)
    assert entries[1].at == datetime.fromtimestamp(START + 5, UTC)
    assert entries[2].details == {"members": ["description", "name"]}
    assert entries[3].details == {"objectIds": ["x", "y"]}
    assert entries[5].details == {"members": ["maxRedemptions"]}
    assert entries[6].details["reason"] == "lost"
    assert not any(ann.secret in repr(one) or share.secret in repr(one) for one in entries)


def test_since_is_a_sequence_or_an_instant(gate: Gate, clock: Clock) -> None:
    """After the one, from the other on; without it the newest, in their order."""
    for number in range(5):
        clock.now = START + number
        gate.tokens.create(name=f"t{number}")
    numbers = [1, 2, 3, 4, 5]
    assert [one for one, _ in actions(gate)] == numbers
    assert [one for one, _ in actions(gate, limit=2)] == [4, 5]
    assert not gate.audit(limit=2).more
    assert [one for one, _ in actions(gate, 0)] == numbers
    assert [one for one, _ in actions(gate, 2)] == [3, 4, 5]
    assert actions(gate, 5) == actions(gate, 2**63 - 1) == []
    page = gate.audit(1, limit=3)
    assert ([one.sequence for one in page.items], page.more, page.limit) == ([2, 3, 4], True, 3)
    page = gate.audit(1, limit=4)
    assert ([one.sequence for one in page.items], page.more) == ([2, 3, 4, 5], False)
    for since in (
        datetime.fromtimestamp(START + 3, UTC),
        "1970-01-12T13:46:43Z",
        "1970-01-12T14:46:43+01:00",
    ):
        assert [one for one, _ in actions(gate, since)] == [4, 5]
    assert [one for one, _ in actions(gate, datetime.fromtimestamp(START, UTC), limit=2)] == [1, 2]


def test_one_record_alone(gate: Gate) -> None:
    """The newest of it, or those since."""
    first, second = (gate.tokens.create(name=name).token for name in "ab")
    for one in (first, second, first):
        gate.tokens.update(
            one.id, description=gate.tokens.get(one.id).id + str(gate.tokens.get(one.id).version)
        )
    gate.tokens.delete(first.id)
    assert [number for number, _ in actions(gate, subject=first.id)] == [1, 3, 5, 6]
    assert [number for number, _ in actions(gate, subject=first.id, limit=2)] == [5, 6]
    assert [number for number, _ in actions(gate, 3, subject=first.id)] == [5, 6]
    assert actions(gate, subject="nothing") == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"since": -1}, "since"), ({"since": 2**63}, "since"), ({"since": True}, "since"), ({"since": 1.5}, "since"), ({"since": "1"}, "since"),
        ({"since": datetime.fromisoformat("2030-01-01")}, "offset"), ({"since": "2030-01-01T00:00:00"}, "offset"), ({"limit": 0}, "limit"), ({"limit": 1001}, "limit"), ({"subject": ""}, "subject"),
        ({"subject": 5}, "subject"),
    ],
)  # fmt: skip
def test_bad_questions_are_told(gate: Gate, arguments: Any, words: str) -> None:
    """Each names what was wrong."""
    with pytest.raises(InvalidInput, match=words):
        gate.audit(**arguments)


def test_an_organization_sees_its_own_records(gate: Gate, clock: Clock) -> None:
    """Those without an organization are one of their own; what is about the store is root's alone."""
    admins = {
        org: gate.tokens.create(
            name="admin", scopes=["gate:*", "a"], owner=Owner("boss"), org=Org(org)
        ).secret
        for org in ("o1", "o2", None)
    }
    plain = gate.tokens.create(
        name="plain", scopes=["gate:tokens:*", "gate:shares:*"], org=Org("o1")
    ).secret
    root = gate.tokens.create(name="root", scopes=["*"]).secret
    gate.owner_changed(Owner("boss"))
    gate.tokens.deactivate(gate.verify(plain).id, by=gate.verify(admins["o1"]))
    gate.tokens.activate(gate.verify(admins["o2"]).id)
    gate.tokens.delete(gate.tokens.create(name="x", org=Org("o2")).token.id)
    for number in range(20):
        gate.tokens.create(name=f"t{number}", owner=Owner("u"), org=Org(f"o{number % 3}"))
    clock.now += 1
    assert gate.purge(0, by="keeper").entries > 20
    gate.tokens.create(name="last", org=Org("o1"))
    everything = gate.audit(0, limit=1000).items
    assert gate.audit(0, limit=1000, by=gate.verify(root)).items == everything
    assert {one.action for one in everything} == {"token.create", "store.purge"}
    gate.owner_changed(Owner("boss"))
    for org, secret in admins.items():
        seen = gate.audit(0, limit=1000, by=gate.verify(secret)).items
        about = {"store.purge", "owner.change"}
        assert list(seen) == [
            one for one in everything if one.org_id == org and one.action not in about
        ]
        assert gate.audit(0, subject="boss", by=gate.verify(secret)).items == ()
        assert gate.audit(subject="store", by=gate.verify(secret)).items == ()
    assert [one.action for one in gate.audit(subject="boss").items] == ["owner.change"]
    gate.tokens.activate(gate.tokens.list(name="plain").items[0].id)
    with pytest.raises(Denied, match="insufficient_scope"):
        gate.audit(by=gate.verify(plain))


@pytest.mark.parametrize("framework", ["flask", "starlette"])
def test_over_http(clock: Clock, framework: str) -> None:
    """A page with ``Link`` to the next; what is wrong with a question is told by name."""
    api = Api("sqlite://", clock, framework)
    for number in range(4):
        api.create(name=f"t{number}", org={"id": "o1"})
    admin = api.create(name="admin", scopes=["gate:admin"], org={"id": "o1"}, owner={"id": "boss"})[
        "token"
    ]
    answer = api.call("GET", "/audit?since=1&limit=2")
    assert (answer.status_code, answer.get_json()["limit"], answer.get_json()["more"]) == (
        200,
        2,
        True,
    )
    assert [one["sequence"] for one in answer.get_json()["items"]] == [2, 3]
    first = answer.get_json()["items"][0]
    names = [
        "sequence",
        "at",
        "actor",
        "action",
        "subject",
        "orgId",
        "details",
        "actorKind",
        "actorId",
    ]
    assert list(first) == names
    assert (first["actorKind"], first["actorId"]) == ("token", api.gate.verify(api.admin).id)
    assert (first["at"], first["actor"], first["action"], first["orgId"]) == (
        "1970-01-12T13:46:40Z",
        f"token:{api.gate.verify(api.admin).id}",
        "token.create",
        "o1",
    )
    assert 'rel="next"' in answer.headers["Link"]
    assert "since=3" in answer.headers["Link"]
    assert "limit=2" in answer.headers["Link"]
    last = api.call("GET", "/audit?since=5&limit=2")
    assert [one["sequence"] for one in last.get_json()["items"]] == [6]
    assert "Link" not in last.headers
    seen = api.call("GET", "/audit", secret=admin).get_json()["items"]
    assert [one["sequence"] for one in seen] == [2, 3, 4, 5, 6]
    assert (
        api.call("GET", "/audit?since=1970-01-12T13:46:40Z").get_json()["items"][0]["sequence"] == 1
    )
    for query, words in (
        ("since=-1", "since"),
        ("since=x", "since"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("org=o1", "org"),
        ("since=1&since=2", "since"),
    ):
        assert words in problem(api.call("GET", f"/audit?{query}"), 400, "invalid_input")
    api.gate.close()
