"""Tokens closed and opened many at a time, and leaks told, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Clock
from test_http import Api, problem


@pytest.fixture(params=["flask", "starlette"])
def api(request: pytest.FixtureRequest, store: str, clock: Clock) -> Iterator[Api]:
    """The API over a store in memory and over one on a file, in each framework."""
    made = Api(store, clock, request.param)
    yield made
    made.gate.close()


def writer(api: Api, **members: Any) -> dict[str, Any]:
    """A token that may write tokens."""
    return api.create(scopes=["gate:tokens:*"], **members)


def test_what_can_be_done_is_done(api: Api) -> None:
    """The rest is told, each with its reason, in the order that was asked; once each."""
    owner = {"id": "u1"}
    mine, other, third = (api.create(owner=owner)["id"] for _ in range(3))
    foreign = api.create(owner={"id": "u2"})["id"]
    caller = writer(api, owner=owner)["token"]
    api.call("POST", f"/tokens/{third}/deactivate")
    answer = api.call(
        "POST",
        "/tokens/deactivate",
        {"ids": [mine, foreign, "nothing", other, mine]},
        secret=caller,
    )
    assert (answer.status_code, answer.get_json()) == (
        200,
        {
            "successes": [mine, other],
            "failures": [
                {"id": foreign, "message": "There is no such token."},
                {"id": "nothing", "message": "There is no such token."},
            ],
        },
    )
    assert [
        api.call("GET", f"/tokens/{one}").get_json()["deactivated"]
        for one in (mine, other, foreign)
    ] == [
        True,
        True,
        False,
    ]
    found = api.call(
        "POST", "/tokens/activate", {"ids": [mine, third, other]}, secret=caller
    ).get_json()
    assert found["successes"] == [mine, other]
    assert [
        (failure["id"], "Another actor" in failure["message"]) for failure in found["failures"]
    ] == [(third, True)]
    assert api.call("GET", f"/tokens/{third}").get_json()["deactivated"]


def test_a_caller_among_them(api: Api) -> None:
    """It is judged once, when the call begins; ``self`` is it."""
    caller = writer(api, owner={"id": "u1"})
    other = api.create(owner={"id": "u1"})["id"]
    answer = api.call(
        "POST", "/tokens/deactivate", {"ids": ["self", caller["id"], other]}, secret=caller["token"]
    )
    assert answer.get_json() == {"successes": ["self", caller["id"], other], "failures": []}
    assert api.call("GET", f"/tokens/{caller['id']}").get_json()["deactivated"]
    problem(
        api.call("POST", "/tokens/activate", {"ids": ["self"]}, secret=caller["token"]),
        401,
        "deactivated",
    )


def test_what_may_be_asked(api: Api) -> None:
    """Up to a hundred ids, texts all; nothing at all is no mistake. It takes the scope, for oneself too."""
    assert api.call("POST", "/tokens/deactivate", {"ids": []}).get_json() == {
        "successes": [],
        "failures": [],
    }
    assert (
        len(
            api.call("POST", "/tokens/activate", {"ids": [str(n) for n in range(100)]}).get_json()[
                "failures"
            ]
        )
        == 100
    )
    before = api.everything()
    for body, word in (
        ({"ids": [str(n) for n in range(101)]}, "ids"), ({"ids": ["x"] * 101}, "ids"), ({"ids": "abc"}, "ids"), ({"ids": [5]}, "ids[0]"), ({"ids": None}, "ids"), ({}, "ids"), ({"ids": [""]}, "ids[0]"),
        ({"ids": ["a\u0000"]}, "ids[0]"), ({"ids": [], "leaked": True}, "leaked"), ({"ids": [], "reason": "x"}, "reason"),
    ):  # fmt: skip
        for call in ("deactivate", "activate"):
            assert problem(
                api.call("POST", f"/tokens/{call}", body), 400, "invalid_input"
            ).startswith(f"{word}:")
    plain = api.create()
    before = api.everything()
    for call in ("deactivate", "activate"):
        problem(
            api.call("POST", f"/tokens/{call}", {"ids": ["self"]}, secret=plain["token"]),
            403,
            "insufficient_scope",
        )
        problem(
            api.call("POST", f"/tokens/{call}", data=b"{}", content_type="text/plain"),
            415,
            "not_json",
        )
    assert api.everything() == before


def test_a_leak_is_told(api: Api) -> None:
    """On rotation and on deactivation; not on activation, where it means nothing."""
    maker = writer(api)
    child = api.call("POST", "/tokens", {"name": "child"}, secret=maker["token"]).get_json()
    rotated = api.call(
        "POST", "/tokens/self/rotate", {"leaked": True, "grace": 60}, secret=maker["token"]
    ).get_json()
    problem(api.call("GET", "/tokens/self", secret=maker["token"]), 401, "unknown_credential")
    problem(api.call("GET", "/tokens/self", secret=child["token"]), 401, "deactivated")
    second = api.call("POST", "/tokens", {"name": "child"}, secret=rotated["token"]).get_json()
    answer = api.call(
        "POST", f"/tokens/{maker['id']}/deactivate", {"leaked": True, "reason": "in a log"}
    )
    assert answer.get_json()["deactivatedReason"] == "in a log"
    problem(api.call("GET", "/tokens/self", secret=second["token"]), 401, "deactivated")
    for call, body in (
        ("rotate", {"leaked": 1}),
        ("rotate", {"leaked": None}),
        ("deactivate", {"leaked": "yes"}),
        ("activate", {"leaked": True}),
    ):
        detail = problem(
            api.call("POST", f"/tokens/{maker['id']}/{call}", body), 400, "invalid_input"
        )
        assert detail.startswith("leaked:")


def test_a_lost_answer(api: Api) -> None:
    """Asked again with the old credential, the answer holds another new one; once that was used, 409."""
    first = api.create()["token"]
    lost = api.call("POST", "/tokens/self/rotate", secret=first).get_json()["token"]
    again = api.call("POST", "/tokens/self/rotate", secret=first).get_json()["token"]
    problem(api.call("POST", "/tokens/self/rotate", secret=lost), 401, "unknown_credential")
    assert api.call("GET", "/tokens/self", secret=first).status_code == 200
    assert api.call("GET", "/tokens/self", secret=again).status_code == 200
    assert "only the current secret" in problem(
        api.call("POST", "/tokens/self/rotate", secret=first), 409, "conflict"
    )
    assert api.call("POST", "/tokens/self/rotate", secret=again).status_code == 200
