"""What the application says that an owner may do now is joined to whatever is his."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgi_client import scope_of, send_to
from conftest import START, Clock, reason_of

from faregate import (
    AllowedScopes,
    Denied,
    Gate,
    InvalidInput,
    Owner,
    Permission,
    StoreUnavailable,
    any_of,
)
from faregate.rules import Scopes
from faregate_asgi import GateMiddleware

Make = Callable[..., Gate]
U1, U2 = Owner("u1"), Owner("u2")


class Directory:
    """The application's own knowledge of its users."""

    def __init__(self, **rights: list[str] | None) -> None:
        self.rights: dict[str, Any] = dict(rights)
        self.asked: list[Owner] = []

    def __call__(self, owner: Owner) -> AllowedScopes | None:
        """What an owner may do now; None for who is gone."""
        self.asked.append(owner)
        rights = self.rights.get(str(owner.id))
        if isinstance(rights, Exception):
            raise rights
        return AllowedScopes(general_scopes=tuple(rights)) if isinstance(rights, list) else rights


def test_a_need_must_pass_both(make_gate: Make, store: str) -> None:
    """The token's grants and the owner's: on the fast path, with wildcards, on objects, one of several."""
    directory = Directory(u1=["docs:*", "gate:x", "c"])
    gate = make_gate(store, owner_rights=directory)
    permissions: Any = {
        "generalScopes": ["docs:read", "b", "c", "gate:*"],
        "organizationScopes": {"permissions": [{"permissionId": "p", "resources": ["x"]}]},
    }
    secret = gate.tokens.create(name="a", allowed_scopes=permissions, owner=U1).secret
    for principal in (gate.verify(secret), gate.verify(secret)):
        assert principal.allows("docs:read")
        assert principal.allows("gate:x")
        assert not principal.allows("docs:write")
        assert not principal.allows("b")
        assert reason_of(lambda principal=principal: principal.require("b")) == "insufficient_scope"
        assert not principal.allows("gate:y")
        assert not principal.allows(Permission("p"), on="x")
        assert not principal.allows(
            any_of("b", "docs:write")
        )  # one that only the token has, one that only he has
        assert principal.allows(any_of("b", "c"))
        assert principal.allowed_objects(Permission("p")) == frozenset()
        assert (
            principal.allowed_objects(any_of("docs:read", "b")).__class__.__name__ == "AnyResource"
        )
        with pytest.raises(Denied) as denied:
            principal.require("b", "docs:read")
        assert denied.value.scope == ("b",)
    assert directory.asked == [U1]
    assert list(Scopes(principal)) == ["authenticated", "c", "docs:read"]
    assert "b" not in Scopes(principal)


def test_resources_are_those_of_both(make_gate: Make) -> None:
    """A permission on x and y, of an owner who has it on y and z, is one on y."""

    def on(*resources: str) -> Any:
        return {
            "organizationScopes": {
                "permissions": [{"permissionId": "p", "resources": list(resources)}]
            }
        }

    gate = make_gate("sqlite://", owner_rights=lambda _: on("y", "z"))
    principal = gate.verify(
        gate.tokens.create(name="a", allowed_scopes=on("x", "y"), owner=U1).secret
    )
    assert principal.allowed_objects(Permission("p")) == frozenset({"y"})
    assert [principal.allows(Permission("p"), on=name) for name in "xyz"] == [False, True, False]


def test_what_is_nobodys_is_not_asked_about(make_gate: Make, store: str) -> None:
    """Nor is root."""
    directory = Directory()
    gate = make_gate(store, owner_rights=directory)
    root = gate.verify(gate.tokens.create(name="a", scopes=["*"]).secret)
    share = gate.shares.create("x", scopes=["a"], expires_in=60, by=root)
    assert gate.verify(share.secret).allows("a", on="x")
    assert root.compiled.root
    assert gate.shares.get(share.share.id).state == "live"
    assert directory.asked == []


def test_everything_of_who_is_gone_is_deactivated(
    make_gate: Make, store: str, clock: Clock
) -> None:
    """Tokens, shares, what was redeemed from them, management; and the reason comes before time and network."""
    directory = Directory(u1=["docs:read", "gate:*"])
    gate = make_gate(store, owner_rights=directory, owner_rights_ttl=0)
    token = gate.tokens.create(
        name="a",
        scopes=["docs:read", "gate:*"],
        owner=U1,
        allowed_cidr_blocks=["10.0.0.0/8"],
        expires_in=100,
    )
    by = gate.verify(token.secret, address="10.0.0.1")
    made = gate.shares.create(
        "x",
        scopes=["docs:read"],
        expires_in=60,
        params={"allowedCidrBlocks": ["10.0.0.0/8"]},
        by=by,
    )
    limited = gate.shares.create(
        "y",
        scopes=["docs:read"],
        expires_in=60,
        params={"allowedCidrBlocks": ["10.0.0.0/8"], "maxRedemptions": 5},
        by=by,
    )
    redeemed = gate.shares.redeem(made.share.id, secret=made.secret, address="10.0.0.1")
    directory.rights["u1"] = None
    for secret in (token.secret, made.secret, redeemed.token, limited.secret):
        for address in ("10.0.0.1", "192.0.2.1", None):
            assert reason_of(lambda s=secret, a=address: gate.verify(s, address=a)) == "deactivated"
    calls: list[Callable[[], object]] = [
        lambda: gate.tokens.get("self", by=by), lambda: gate.tokens.create(name="b", by=by), lambda: gate.tokens.rotate("self", by=by),
        lambda: gate.tokens.list(by=by), lambda: gate.shares.create("x", scopes=["docs:read"], expires_in=5, by=by),
        lambda: gate.shares.redeem(made.share.id, secret=made.secret, address="10.0.0.1"), lambda: gate.shares.get(made.share.id, by=by),
        lambda: gate.shares.redeem(limited.share.id, secret=limited.secret, address="10.0.0.1"),
    ]  # fmt: skip
    assert [reason_of(call) for call in calls] == ["deactivated"] * len(calls)
    assert gate.shares.get(made.share.id).state == "deactivated"
    assert {share.state for share in gate.shares.list().items} == {"deactivated"}
    assert (
        gate.shares.update(made.share.id, unchanged={"state": "deactivated"}, expires_in=90).state
        == "deactivated"
    )
    with pytest.raises(InvalidInput, match="state"):
        gate.shares.update(made.share.id, unchanged={"state": "revoked"})
    assert gate.shares.revoke(made.share.id).revoked_at is not None
    assert gate.shares.get(limited.share.id).redemptions == 0
    clock.now += 200
    assert reason_of(lambda: gate.verify(token.secret)) == "deactivated"
    directory.rights["u1"] = ["docs:read"]
    assert reason_of(lambda: gate.verify(token.secret)) == "expired"
    assert gate.tokens.get(token.token.id).deactivated is False


def test_a_share_opens_what_its_makers_owner_may_still_open(make_gate: Make, store: str) -> None:
    """Its scopes are bounded by his rights, as a token's are."""
    directory = Directory(u1=["docs:read", "gate:*"])
    gate = make_gate(store, owner_rights=directory, owner_rights_ttl=0)
    by = gate.verify(gate.tokens.create(name="a", scopes=["docs:read", "gate:*"], owner=U1).secret)
    made = gate.shares.create("x", scopes=["docs:read"], expires_in=60, by=by)
    redeemed = gate.shares.redeem(made.share.id, secret=made.secret)
    directory.rights["u1"] = ["other"]
    for secret in (made.secret, redeemed.token):
        principal = gate.verify(secret)
        assert (
            reason_of(lambda principal=principal: principal.require("docs:read", on="x"))
            == "insufficient_scope"
        )
        assert principal.allowed_objects("docs:read") == frozenset()


def test_a_child_is_never_wider_than_what_its_makers_owner_may_now(
    make_gate: Make, store: str
) -> None:
    """Records are bounded by the present rights of the maker's owner, and so are its calls, whatever its token grants."""
    directory = Directory(u1=["gate:*", "docs:read"], u2=["gate:*", "docs:*"])
    gate = make_gate(store, owner_rights=directory)
    wide = gate.tokens.create(name="a", scopes=["gate:*", "docs:*"], owner=U1)
    by = gate.verify(wide.secret)
    with pytest.raises(Denied, match=r"docs:\*") as denied:
        gate.tokens.create(name="b", scopes=["docs:*"], owner=U2, by=by)
    assert denied.value.scope == ("docs:*",)
    gate.tokens.create(name="b", scopes=["docs:read"], owner=U2, by=by)
    assert (
        reason_of(lambda: gate.shares.create("x", scopes=["docs:write"], expires_in=5, by=by))
        == "insufficient_scope"
    )
    other = gate.tokens.create(name="c", scopes=["docs:write"], owner=U1).token
    assert reason_of(lambda: gate.tokens.rotate(other.id, by=by)) == "insufficient_scope"
    directory.rights["u1"] = ["docs:*"]
    gate.owner_changed(U1)
    assert reason_of(lambda: gate.tokens.create(name="d", by=by)) == "insufficient_scope"
    assert gate.tokens.get("self", by=by).id == by.id


def test_nothing_wider_is_written_beside_a_new_owner(make_gate: Make, store: str) -> None:
    """A change of owner is refused if its scopes exceed the caller's, even if the new owner lacks them now: rights may grow."""
    directory = Directory(boss=["gate:*", "a"], u1=["a"], u2=["a"])
    gate = make_gate(store, owner_rights=directory, owner_rights_ttl=0)
    boss = gate.verify(
        gate.tokens.create(name="b", scopes=["gate:*", "a"], owner=Owner("boss")).secret
    )
    token = gate.tokens.create(name="t", scopes=["a"], owner=U1)
    change = lambda: gate.tokens.update(token.token.id, owner=U2, scopes=["a", "b"], by=boss)  # noqa: E731
    assert reason_of(change) == "insufficient_scope"
    gate.tokens.update(token.token.id, owner=U2, by=boss)
    directory.rights["u2"] = ["a", "b"]
    assert not gate.verify(token.secret).allows("b")


def test_a_token_rotates_itself_whatever_its_owner_may(make_gate: Make, store: str) -> None:
    """It gets no more than it had: what its owner lost stays lost."""
    gate = make_gate(store, owner_rights=Directory(u1=["docs:read"]))
    issued = gate.tokens.create(name="a", scopes=["docs:*"], owner=U1)
    rotated = gate.tokens.rotate("self", by=gate.verify(issued.secret))
    assert not gate.verify(rotated.secret).allows("docs:write")


def test_a_call_is_judged_by_the_rights_of_who_has_the_token_now(
    make_gate: Make, store: str
) -> None:
    """It may have been given away since the request began."""
    gate = make_gate(store, owner_rights=Directory(u1=["gate:*"], u2=["gate:tokens:read"]))
    by = gate.verify(gate.tokens.create(name="a", scopes=["gate:*"], owner=U1).secret)
    gate.tokens.update(by.id, owner=U2)
    assert reason_of(lambda: gate.tokens.create(name="b", by=by)) == "insufficient_scope"
    gate.tokens.update(by.id, owner=Owner("gone"))
    assert reason_of(lambda: gate.tokens.list(by=by)) == "deactivated"


def test_an_admin_whose_right_was_taken_is_none(make_gate: Make, store: str) -> None:
    """``gate:admin`` counts only as long as its owner has it."""
    directory = Directory(boss=["gate:*"])
    gate = make_gate(store, owner_rights=directory, owner_rights_ttl=0)
    token = gate.tokens.create(name="x", owner=U1).token
    directory.rights["u1"] = []
    admin = gate.verify(gate.tokens.create(name="a", scopes=["gate:*"], owner=Owner("boss")).secret)
    assert gate.tokens.get(token.id, by=admin).id == token.id
    directory.rights["boss"] = ["gate:tokens:*"]
    assert gate.tokens.list(by=admin).total == 1


def test_an_exchange_is_bounded_by_what_the_owner_may_now(make_gate: Make, store: str) -> None:
    """Requested and answered scopes are within the owner's rights. A deleted owner exchanges nothing, and no credential is spent."""
    directory = Directory(u1=["docs:*"])
    gate = make_gate(store, owner_rights=directory)
    made = gate.tokens.create(name="s", type="REFRESH", scopes=["docs:read", "b"], owner=U1)
    assert reason_of(lambda: gate.tokens.exchange(made.secret, ["b"])) == "insufficient_scope"
    answer = gate.tokens.exchange(made.secret)
    assert answer.scope == ("docs:read",)
    principal = gate.verify(answer.access_token)
    assert (principal.allows("docs:read"), principal.allows("b")) == (True, False)
    assert gate.introspect(answer.access_token).scope == ("docs:read",)
    assert gate.tokens.get("self", by=principal).id == made.token.id
    directory.rights["u1"] = None
    gate.owner_changed(U1)
    newest = str(answer.refresh_token)
    for call in (lambda: gate.tokens.exchange(newest), lambda: gate.verify(answer.access_token)):
        assert reason_of(call) == "deactivated"
    assert reason_of(lambda: gate.tokens.get("self", by=principal)) == "deactivated"
    directory.rights["u1"] = TimeoutError("no answer")
    gate.owner_changed(U1)
    assert reason_of(lambda: gate.tokens.exchange(newest)) == "store_unavailable"
    other = gate.tokens.create(name="s", type="REFRESH", owner=Owner("u2"))
    directory.rights["u2"] = []
    gate.tokens.exchange(str(gate.tokens.exchange(other.secret).refresh_token))
    directory.rights["u2"] = TimeoutError("no answer")
    gate.owner_changed(U2)
    assert (
        reason_of(lambda: gate.tokens.exchange(other.secret)) == "revoked"
    )  # whatever the application says
    directory.rights["u1"] = ["docs:*", "b"]
    gate.owner_changed(U1)
    assert gate.tokens.exchange(newest).scope == ("docs:read", "b")
    assert gate.verify(answer.access_token).allows(
        "b"
    )  # which it was given, and which he may again


def test_a_refresh_token_that_changes_hands_in_an_exchange_is_asked_about_again(
    make_gate: Make, store: str
) -> None:
    """The answer about one owner is not taken for another's."""
    handed: list[Owner] = []

    def rights(owner: Owner) -> AllowedScopes:
        if owner == U1 and not handed:
            handed.append(owner)
            gate.tokens.update(made.token.id, owner=U2)
        return AllowedScopes(general_scopes=("a",) if owner == U1 else ())

    gate = make_gate(store, owner_rights=rights, owner_rights_ttl=0)
    made = gate.tokens.create(name="s", type="REFRESH", scopes=["a"], owner=U1)
    assert reason_of(lambda: gate.tokens.exchange(made.secret)) == "store_unavailable"
    answer = gate.tokens.exchange(made.secret)
    assert answer.scope == ()
    assert not gate.verify(answer.access_token).allows("a")


# What happens to a family while an exchange is on its way, and what that comes to.
MEANWHILE: dict[str, tuple[Callable[[Gate, str], object], str]] = {
    "deactivated": (lambda gate, family: gate.tokens.deactivate(family), "deactivated"),
    "narrowed": (
        lambda gate, family: gate.tokens.update(family, scopes=["b"]),
        "insufficient_scope",
    ),
    "moved": (
        lambda gate, family: gate.tokens.update(family, allowed_cidr_blocks=["192.0.2.1"]),
        "address_not_allowed",
    ),
    "put off": (
        lambda gate, family: gate.tokens.update(family, not_before=START + 1),
        "not_yet_valid",
    ),
    "deleted": (lambda gate, family: gate.tokens.delete(family), "unknown_credential"),
    "rotated": (lambda gate, family: gate.tokens.rotate(family), "unknown_credential"),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_an_exchange_is_judged_when_it_is_written(make_gate: Make, store: str, what: str) -> None:
    """What happens after its first look, as while the application is asked about the owner, counts; nothing is spent."""
    happens, reason = MEANWHILE[what]
    coming: list[str] = []

    def rights(_: Owner) -> AllowedScopes:
        if coming:
            happens(gate, coming.pop())
        return AllowedScopes(general_scopes=("a", "b"))

    gate = make_gate(store, owner_rights=rights, owner_rights_ttl=0)
    made = gate.tokens.create(name="s", type="REFRESH", scopes=["a", "b"], owner=U1)
    coming.append(made.token.id)
    assert (
        reason_of(lambda: gate.tokens.exchange(made.secret, ["a"], address="198.51.100.1"))
        == reason
    )
    with gate._store.reading() as reading:
        for table in ("exchanges", "access"):
            assert (
                reading._connection.exec_driver_sql(
                    f"SELECT count(*) FROM faregate_{table}"
                ).scalar_one()
                == 0
            )


def test_the_answer_is_kept_for_a_while(
    make_gate: Make, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five seconds by default; then it is asked anew."""
    now = [1000.0]
    monkeypatch.setattr("faregate.decision.owner_rights.monotonic", lambda: now[0])
    directory = Directory(u1=["a"])
    gate = make_gate(store, owner_rights=directory)
    secret = gate.tokens.create(name="a", scopes=["a"], owner=U1).secret
    for _ in range(3):
        assert gate.verify(secret).allows("a")
    assert len(directory.asked) == 1
    directory.rights["u1"] = []
    now[0] += 4.99
    assert gate.verify(secret).allows("a")
    now[0] += 0.01
    assert not gate.verify(secret).allows("a")
    assert len(directory.asked) == 2


def test_with_a_ttl_of_nothing_it_is_asked_each_time(make_gate: Make, store: str) -> None:
    """For each request, once."""
    directory = Directory(u1=["a"])
    gate = make_gate(store, owner_rights=directory, owner_rights_ttl=0)
    secret = gate.tokens.create(name="a", scopes=["a"], owner=U1).secret
    for _ in range(3):
        gate.verify(secret)
    assert len(directory.asked) == 3


def test_a_changed_owner_counts_at_once(make_gate: Make, tmp_path: Path) -> None:
    """In every gate on the file, without waiting; and only he is asked about anew."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    directory = Directory(u1=["a"], u2=["a"])
    here, there = (make_gate(url, owner_rights=directory, owner_rights_ttl=1e6) for _ in range(2))
    one, two = (
        here.tokens.create(name="a", scopes=["a"], owner=owner).secret for owner in (U1, U2)
    )
    for gate in (here, there):
        assert gate.verify(one).allows("a")
        assert gate.verify(two).allows("a")
    directory.rights = {"u1": None, "u2": None}
    here.owner_changed(U1)
    for gate in (here, there):
        assert reason_of(lambda gate=gate: gate.verify(one)) == "deactivated"
        assert gate.verify(two).allows("a")
    with here._store.reading() as reading:
        last = reading._connection.exec_driver_sql(
            "SELECT action, subject FROM faregate_feed ORDER BY sequence DESC LIMIT 1"
        )
        assert last.fetchall() == [("owner.change", "u1")]
    for wrong in (Owner(), "u1", None):
        with pytest.raises(InvalidInput, match="owner"):
            here.owner_changed(wrong)  # type: ignore[arg-type]


def test_an_answer_from_before_a_change_is_not_kept(make_gate: Make) -> None:
    """Who was asked while the owner changed may have answered with what was."""
    answered, changed = threading.Event(), threading.Event()
    rights = ["a"]

    def hook(owner: Owner) -> AllowedScopes:
        del owner
        answer = AllowedScopes(general_scopes=tuple(rights))
        if not answered.is_set():
            answered.set()
            assert changed.wait(10)
        return answer

    gate = make_gate("sqlite://", owner_rights=hook, owner_rights_ttl=1e6)
    secret = gate.tokens.create(name="a", scopes=["a"], owner=U1).secret
    other = gate.tokens.create(name="b").secret
    slow = threading.Thread(target=lambda: gate.verify(secret))
    slow.start()
    assert answered.wait(10)
    rights.clear()
    gate.owner_changed(U1)
    gate.verify(other)  # reads the feed
    changed.set()
    slow.join()
    assert not gate.verify(secret).allows("a")


@pytest.mark.parametrize(
    "failure",
    [
        TimeoutError(),
        RuntimeError("the directory is down"),
        5,
        ["a"],
        {"x": 1},
        True,
        AllowedScopes(general_scopes=("a b",)),
    ],
)
def test_whatever_goes_wrong_shuts_the_gate(make_gate: Make, store: str, failure: Any) -> None:
    """503, for routes and for management; what was answered is not kept. An owner whom nothing limits passes."""

    def hook(owner: Owner) -> Any:
        del owner
        if isinstance(failure, Exception):
            raise failure
        return failure

    gate = make_gate(store, owner_rights=hook)
    secret = gate.tokens.create(name="a", scopes=["*"], owner=U1).secret
    free = gate.tokens.create(name="b", scopes=["*"]).secret
    for _ in range(2):
        with pytest.raises(StoreUnavailable) as raised:
            gate.verify(secret)
        assert raised.value.__cause__ is not None
    with pytest.raises(StoreUnavailable):
        gate.requests.with_owner_rights(gate.session(U1))
    assert gate.verify(free).allows("a")


def test_another_owner_of_the_same_id_is_another(make_gate: Make) -> None:
    """Of another provider, or with another domain: each is asked about for himself."""
    asked: list[Owner] = []

    def hook(owner: Owner) -> AllowedScopes:
        asked.append(owner)
        return AllowedScopes(general_scopes=("a",) if owner.idp_id is None else ())

    gate = make_gate("sqlite://", owner_rights=hook)
    owners = [
        Owner("u1"),
        Owner("u1", idp_id="x"),
        *(Owner("u1", domain=str(number)) for number in range(40)),
    ]
    secrets = [gate.tokens.create(name="a", scopes=["a"], owner=owner).secret for owner in owners]
    for _ in range(2):
        assert [gate.verify(secret).allows("a") for secret in secrets[:3]] == [True, False, True]
    assert asked == owners[:3]
    for secret in secrets:
        gate.verify(secret)
    assert len(gate._verifier._owner_rights._answers["u1"]) <= 16


def test_an_event_loop_does_not_wait_for_the_answer(make_gate: Make) -> None:
    """It is asked in a worker thread, and at hand after that."""

    def hook(owner: Owner) -> AllowedScopes:
        del owner
        time.sleep(0.3)
        threads.append(threading.get_ident())
        return AllowedScopes(general_scopes=("a",))

    threads: list[int] = []
    gate = make_gate("sqlite://", owner_rights=hook)
    secret = gate.tokens.create(name="a", scopes=["a"], owner=U1).secret

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["user"].require("a")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guarded = GateMiddleware(app, gate=gate)
    headers = [(b"authorization", f"Bearer {secret}".encode())]

    async def main() -> tuple[int, float]:
        longest = 0.0
        asking = asyncio.create_task(send_to(guarded, scope_of(headers=headers)))
        while not asking.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)
        assert (await send_to(guarded, scope_of(headers=headers))).status == 204
        return (await asking).status, longest

    status, longest = asyncio.run(main())
    assert status == 204
    assert longest < 0.2
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_the_application_is_asked_while_no_lock_is_held(make_gate: Make, store: str) -> None:
    """The ``owner_rights`` hook runs without the store's lock in every call, so it may use the gate."""
    gates: list[Gate] = []
    free: list[bool] = []

    def try_lock() -> None:
        free.append(gates[0]._store.lock.acquire(timeout=1))
        if free[-1]:
            gates[0]._store.lock.release()

    def hook(owner: Owner) -> AllowedScopes | None:
        locks = threading.Thread(target=try_lock)
        locks.start()
        locks.join()
        return AllowedScopes(general_scopes=("*",)) if owner.id == "u1" else None

    gates.append(make_gate(store, owner_rights=hook, owner_rights_ttl=0))
    gate = gates[0]
    by = gate.verify(gate.tokens.create(name="a", scopes=["gate:*", "a"], owner=U1).secret)
    made = gate.shares.create("x", scopes=["a"], expires_in=60, by=by)
    gate.shares.redeem(made.share.id, by=by)
    with pytest.raises(InvalidInput, match="state"):
        gate.shares.update(made.share.id, unchanged={"state": "deactivated"}, expires_in=90, by=by)
    gate.tokens.rotate(gate.tokens.create(name="b", by=by).token.id, by=by)
    gate.tokens.update(by.id, owner=U2)
    assert reason_of(lambda: gate.tokens.list(by=by)) == "deactivated"
    assert len(free) > 8
    assert all(free)


def test_a_share_that_changes_while_the_application_is_asked_is_not_overwritten(
    make_gate: Make, store: str, clock: Clock
) -> None:
    """Read-only fields are compared with the row that the change finds."""
    gates: list[Gate] = []
    gone: list[bool] = []

    def hook(owner: Owner) -> AllowedScopes | None:
        del owner
        if gone == [True]:
            gone.append(True)
            clock.now += 1
            gates[0].shares.update(made.share.id, params={"maxRedemptions": 1})
        return None if gone else AllowedScopes(general_scopes=("*",))

    gate = make_gate(store, owner_rights=hook, owner_rights_ttl=0)
    gates.append(gate)
    by = gate.verify(gate.tokens.create(name="a", scopes=["gate:*", "a"], owner=U1).secret)
    made = gate.shares.create("x", scopes=["a"], params={"maxRedemptions": 5}, expires_in=60, by=by)
    gone.append(True)
    with pytest.raises(InvalidInput, match="updatedAt"):
        gate.shares.update(
            made.share.id,
            unchanged={"state": "deactivated", "updatedAt": made.share.updated_at},
            params={"maxRedemptions": 5},
        )
    assert gate.shares.get(made.share.id).params.max_redemptions == 1


def test_what_a_changed_owner_may_counts_for_every_call(make_gate: Make, tmp_path: Path) -> None:
    """Sessions and redemptions, too, in another gate that no request has told yet."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    directory = Directory(u1=["a", "gate:*"])
    here, there = (make_gate(url, owner_rights=directory, owner_rights_ttl=1e6) for _ in range(2))
    by = here.verify(here.tokens.create(name="a", scopes=["a", "gate:*"], owner=U1).secret)
    made = here.shares.create("x", scopes=["a"], expires_in=60, by=by)
    there.verify(made.secret)
    directory.rights["u1"] = None
    here.owner_changed(U1)
    assert reason_of(lambda: there.requests.with_owner_rights(there.session(U1))) == "deactivated"
    assert (
        reason_of(lambda: there.shares.redeem(made.share.id, secret=made.secret)) == "deactivated"
    )
    assert there.shares.get(made.share.id).state == "deactivated"
    assert there.shares.get(made.share.id).redemptions == 0


def test_a_hook_may_ask_the_gate(make_gate: Make, store: str) -> None:
    """It holds no lock while it asks."""
    gates: list[Gate] = []

    def hook(owner: Owner) -> AllowedScopes:
        del owner
        return AllowedScopes(general_scopes=("gate:*",) if gates[0].tokens.list().total else ())

    gates.append(make_gate(store, owner_rights=hook, owner_rights_ttl=0))
    by = gates[0].verify(gates[0].tokens.create(name="a", scopes=["gate:*"], owner=U1).secret)
    assert gates[0].tokens.create(name="b", by=by).token.owner == U1
    made = gates[0].shares.create(
        "x",
        scopes=["a"],
        expires_in=60,
        by=gates[0].verify(gates[0].tokens.create(name="c", scopes=["*"]).secret),
    )
    assert gates[0].shares.list(by=by).total == 1
    assert (
        gates[0].shares.update(made.share.id, expires_in=90, unchanged={"state": "live"}).state
        == "live"
    )


def test_settings_that_cannot_be_are_refused() -> None:
    """No function, a coroutine function, a span that is none."""

    async def coroutine(owner: Owner) -> None:
        del owner

    for hook in (5, coroutine):
        with pytest.raises(InvalidInput, match="owner_rights"):
            Gate("sqlite://", owner_rights=hook)  # type: ignore[arg-type]
    for ttl in (-1, "5", None, float("nan")):
        with pytest.raises(InvalidInput, match="owner_rights_ttl"):
            Gate("sqlite://", owner_rights=lambda _: None, owner_rights_ttl=ttl)  # type: ignore[arg-type]


CHILD = """
import sys
from faregate import AllowedScopes, Denied, Gate, Owner
from pathlib import Path

def hook(owner):
    text = Path(sys.argv[2]).read_text()
    return AllowedScopes(general_scopes=("a",)) if text == "in" else None

gate = Gate(sys.argv[1], owner_rights=hook, owner_rights_ttl=1000)
for line in sys.stdin:
    try:
        gate.verify(line.strip())
        print("ok", flush=True)
    except Denied as denied:
        print(denied.reason, flush=True)
"""


@pytest.mark.processes
def test_a_changed_owner_counts_in_another_process(tmp_path: Path) -> None:
    """By the next request, fifty times back and forth."""
    url, told = f"sqlite:///{tmp_path / 'gate.db'}", tmp_path / "told"
    told.write_text("in")
    gate = Gate(url)
    secret = gate.tokens.create(name="a", scopes=["a"], owner=U1).secret
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for number in range(50):
            print(secret, file=other.stdin, flush=True)
            assert other.stdout.readline().strip() == ("deactivated" if number % 2 else "ok")
            told.write_text("in" if number % 2 else "gone")
            gate.owner_changed(U1)
        other.stdin.close()
    gate.close()


class Hands:
    """A gate whose owners' rights are a dictionary, an admin, and a token of the admin's own."""

    def __init__(self, make_gate: Callable[..., Gate]) -> None:
        self.rights: dict[str, Any] = {
            "boss": ["docs:*", "gate:*"],
            "ann": ["docs:*"],
            "bob": ["other"],
        }
        self.gate = make_gate("sqlite://", owner_rights=self.may, owner_rights_ttl=0)
        scopes = ["docs:*", "gate:*"]
        self.admin = self.gate.tokens.create(name="admin", scopes=scopes, owner=Owner("boss"))
        self.token = self.gate.tokens.create(name="t", scopes=["docs:read"], owner=Owner("boss"))

    def may(self, owner: Owner) -> AllowedScopes | None:
        """What an owner may do."""
        scopes = self.rights.get(str(owner.id))
        return None if scopes is None else AllowedScopes(general_scopes=tuple(scopes))

    def hand(self, token_id: str, owner: Owner, **members: Any) -> str:
        """What comes of the admin's naming another owner."""
        by = self.gate.verify(self.admin.secret)
        return reason_of(lambda: self.gate.tokens.update(token_id, owner=owner, by=by, **members))


def test_no_rights_are_borrowed_by_naming_another_owner(make_gate: Callable[..., Gate]) -> None:
    """An admin with reduced rights gains nothing by handing a token of their own to an owner with more."""
    hands = Hands(make_gate)
    hands.rights["boss"] = ["gate:*"]
    before = hands.gate.tokens.get(hands.token.token.id)
    assert hands.hand(hands.token.token.id, Owner("ann")) == "insufficient_scope"
    assert hands.hand(hands.admin.token.id, Owner("ann")) == "insufficient_scope"
    assert hands.gate.tokens.get(hands.token.token.id) == before
    assert hands.hand(hands.token.token.id, Owner("bob")) == "ok"
    assert not hands.gate.verify(hands.token.secret).allows("docs:read")


def test_what_both_owners_may_is_handed_on(make_gate: Callable[..., Gate]) -> None:
    """The admin's own rights are asked only where the token would open more than before."""
    hands = Hands(make_gate)
    token = hands.gate.tokens.create(name="t", scopes=["docs:read"], owner=Owner("ann")).token
    hands.rights |= {"boss": ["gate:*"], "eve": ["docs:*", "more"]}
    assert hands.hand(token.id, Owner("eve")) == "ok"
    assert hands.hand(token.id, Owner("bob")) == "ok"
    assert hands.hand(token.id, Owner("eve")) == "insufficient_scope"
    hands.rights["boss"] = ["gate:*", "docs:*"]
    assert hands.hand(token.id, Owner("eve")) == "ok"


def test_scopes_and_owner_change_together(make_gate: Callable[..., Gate]) -> None:
    """Each side is what the token opens with the rights of its owner then: narrowing by one hides no widening by the other."""
    hands = Hands(make_gate)
    hands.rights |= {"ann": ["a"], "eve": ["b"], "boss": ["gate:*"]}
    token = hands.gate.tokens.create(name="t", scopes=["a", "b"], owner=Owner("ann")).token
    assert hands.hand(token.id, Owner("eve"), scopes=["b"]) == "insufficient_scope"
    assert hands.hand(token.id, Owner("eve"), scopes=["a"]) == "ok"


def test_nobody_brings_a_gone_owners_token_back_without_covering_it(
    make_gate: Callable[..., Gate],
) -> None:
    """Not even one without scopes, for longer than the admin has himself."""
    hands = Hands(make_gate)
    token = hands.gate.tokens.create(name="t", scopes=["docs:read"], owner=Owner("ann"))
    plain = hands.gate.tokens.create(name="p", owner=Owner("ann"))
    hands.rights |= {"boss": ["gate:*"], "eve": ["docs:*"]}
    del hands.rights["ann"]
    assert hands.hand(token.token.id, Owner("eve")) == "insufficient_scope"
    hands.gate.tokens.update(hands.admin.token.id, expires_in=60)
    assert hands.hand(plain.token.id, Owner("eve")) == "insufficient_scope"
    for one in (token, plain):
        assert reason_of(lambda one=one: hands.gate.verify(one.secret)) == "deactivated"
    assert hands.hand(token.token.id, Owner("gone")) == "ok"


def test_another_provider_is_another_owner(make_gate: Callable[..., Gate]) -> None:
    """And so is any other member by which the application may tell people apart."""
    gate = make_gate("sqlite://", owner_rights_ttl=0, owner_rights=lambda owner: AllowedScopes(
        general_scopes=("gate:*", *(["docs:*"] if owner.idp_id or owner.name else []))
    ))  # fmt: skip
    admin = gate.tokens.create(name="admin", scopes=["docs:*", "gate:*"], owner=Owner("ann"))
    by = gate.verify(admin.secret)
    for owner in (Owner("ann", idp_id="x"), Owner("ann", name="Ann")):
        assert (
            reason_of(lambda owner=owner: gate.tokens.update("self", owner=owner, by=by))
            == "insufficient_scope"
        )


def test_an_owner_who_changes_meanwhile_is_asked_about_again(
    make_gate: Callable[..., Gate],
) -> None:
    """Rights of somebody who is the owner no more decide nothing: the call is to be repeated."""
    hands = Hands(make_gate)
    token = hands.gate.tokens.create(name="t", scopes=["docs:read"], owner=Owner("ann")).token
    hands.rights["eve"] = ["docs:*"]
    asked: list[str] = []

    def may(owner: Owner) -> AllowedScopes | None:
        if owner.id == "eve" and not asked:
            asked.append("eve")
            hands.gate.tokens.update(token.id, owner=Owner("bob"))
        return Hands.may(hands, owner)

    hands.gate._transactions._owner_rights._hook = may
    assert hands.hand(token.id, Owner("eve")) == "store_unavailable"
    assert hands.gate.tokens.get(token.id).owner == Owner("bob")


def test_who_names_no_other_owner_asks_nothing(make_gate: Callable[..., Gate]) -> None:
    """A record that is written back as it is, or without an owner, depends on no answer of the application."""
    hands = Hands(make_gate)

    def down(owner: Owner) -> AllowedScopes | None:
        raise TimeoutError(owner.id)

    hands.gate._transactions._owner_rights._hook = down
    token = hands.token.token
    assert hands.gate.tokens.update(token.id, name="n", owner=token.owner).name == "n"
    assert (
        reason_of(lambda: hands.gate.tokens.update(token.id, owner=Owner("ann")))
        == "store_unavailable"
    )


def test_a_share_stays_its_makers_owners(make_gate: Callable[..., Gate]) -> None:
    """Handing on the token that made it makes the share neither wider nor alive again."""
    hands = Hands(make_gate)
    by = hands.gate.verify(hands.admin.secret)
    share = hands.gate.shares.create("x", scopes=["docs:read"], expires_in=60, by=by)
    hands.rights["boss"] = ["gate:*"]
    hands.gate.tokens.update(hands.admin.token.id, owner=Owner("ann"))
    assert not hands.gate.verify(share.secret).allows("docs:read", on="x")
    del hands.rights["boss"]
    assert reason_of(lambda: hands.gate.verify(share.secret)) == "deactivated"


@pytest.mark.parametrize(
    "renamed", [Owner("ann", name="Ann"), Owner("ann", acct="a"), Owner("bob")]
)
def test_naming_an_owner_hides_no_widening(make_gate: Callable[..., Gate], renamed: Owner) -> None:
    """What is written has to be covered as well, though the owner may use nothing of it at present."""
    hands = Hands(make_gate)
    hands.rights |= {"boss": ["gate:*", "a"], "ann": ["a"], "bob": ["a"]}
    token = hands.gate.tokens.create(
        name="t", scopes=["a", "gate:tokens:write"], owner=Owner("ann")
    )
    wider = {"scopes": ["*"]}
    assert hands.hand(token.token.id, renamed, **wider) == "insufficient_scope"
    by = hands.gate.verify(token.secret)
    assert (
        reason_of(lambda: hands.gate.tokens.update("self", owner=renamed, by=by, **wider))  # type: ignore[arg-type]
        == "insufficient_scope"
    )


@pytest.mark.parametrize("wider", [{"scopes": ["b"]}, {"expires_at": None}, {"not_before": None}])
def test_nobody_widens_what_goes_from_one_who_is_gone_to_another(
    make_gate: Callable[..., Gate], wider: Any
) -> None:
    """It opens nothing now, and may once somebody is called so."""
    hands = Hands(make_gate)
    token = hands.gate.tokens.create(
        name="t", owner=Owner("ghost"), scopes=["a"], not_before=START, expires_in=60
    )
    hands.gate.tokens.update(hands.admin.token.id, expires_in=50, not_before=START)
    assert hands.hand(token.token.id, Owner("ghost2"), **wider) == "insufficient_scope"
    assert hands.hand(token.token.id, Owner("ghost2")) == "ok"
