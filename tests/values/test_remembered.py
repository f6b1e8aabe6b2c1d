"""What is remembered for speed counts for what it was remembered of, and for no longer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from conftest import START, Clock, reason_of

from faregate import (
    ANY,
    AllowedScopes,
    Gate,
    InvalidInput,
    Org,
    Owner,
    Permission,
    PermissionGrant,
    RealmScopes,
    Role,
    any_of,
    path,
)
from faregate.values.grants import Granted
from faregate.values.needs import Need
from faregate.values.networks import Networks
from faregate.values.scopes import compile_grants
from faregate_asgi.translation import encode

Make = Callable[..., Gate]


def edits(*resources: str) -> AllowedScopes:
    """The permission to edit these resources."""
    return AllowedScopes(
        organization_scopes=RealmScopes(permissions=(PermissionGrant("edit", resources),))
    )


def test_what_a_need_reaches_is_remembered_for_the_same_scopes_alone(gate: Gate) -> None:
    """Records with equal scopes share the memory of a need's resources; records with other scopes have their own."""
    one, same, other = (
        gate.verify(gate.tokens.create(name="t", allowed_scopes=allowed).secret)
        for allowed in (edits("a", "b"), edits("a", "b"), edits("c"))
    )
    need = Permission("edit")
    for _ in range(2):  # the second time it is remembered
        for principal, opened in ((one, "ab"), (same, "ab"), (other, "c")):
            assert [on for on in "abc" if principal.allows(need, on=on)] == [*opened]
            assert [
                reason_of(lambda p=principal, on=on: p.require(need, on=on)) for on in "abc"
            ] == ["ok" if on in opened else "insufficient_scope" for on in "abc"]
            assert not principal.allows(need)
            assert not principal.allows(Role("edit"), on="a")
            assert not principal.allows(Permission("edit", "svc"), on="a")
    assert one.compiled.granted is same.compiled.granted
    assert one.compiled.granted is not other.compiled.granted


def test_what_is_remembered_is_bounded_by_changed_scopes(gate: Gate) -> None:
    """A token whose scopes are changed has the reach of those that it has now."""
    issued = gate.tokens.create(name="t", allowed_scopes=edits("a"))
    need = any_of(Permission("edit"), "docs:read")
    assert gate.verify(issued.secret).allows(need, on="a")
    gate.tokens.update(issued.token.id, allowed_scopes=edits("b"))
    assert [gate.verify(issued.secret).allows(need, on=on) for on in "ab"] == [False, True]


def test_needs_that_nothing_meets_are_remembered_as_one_set() -> None:
    """Whoever asks for many that are not granted fills no memory with sets of nothing."""
    granted = Granted.of(compile_grants(edits("a")))
    needs: list[Need] = [f"docs:{number}" for number in range(20)]
    needs += [any_of(*needs), Permission("read"), Role("r")]
    assert len({id(granted.reach(need)) for need in needs}) == 1


def test_root_shares_no_reach_with_who_has_the_same_scope(gate: Gate) -> None:
    """Root and an owned token with ``*`` share no memory: only root satisfies every need, whoever asks first."""
    root = gate.tokens.create(name="t", scopes=["*"])
    others = [
        gate.tokens.create(name="t", scopes=["*"], **whose)
        for whose in ({"owner": Owner("u1")}, {"org": Org("o1")})
    ]
    secrets = [root.secret, *(issued.secret for issued in others)]
    for order in (secrets, secrets[::-1]):
        for _ in range(2):
            for secret in order:
                principal = gate.verify(secret)
                assert principal.allows("docs:read")
                assert principal.allows(Permission("edit")) is (secret == root.secret)
                assert (principal.allowed_objects(Role("boss")) == ANY) is (secret == root.secret)


def test_owners_rights_bound_what_is_remembered(make_gate: Make) -> None:
    """Both have to open a need, also one that was remembered before the application cut the rights."""
    allowed = [AllowedScopes(general_scopes=("*",))]
    gate = make_gate("sqlite://", owner_rights=lambda _: allowed[0], owner_rights_ttl=0)
    issued = gate.tokens.create(name="t", scopes=["docs:*", "docs:read"], owner=Owner("u1"))
    nobodys = gate.tokens.create(name="t", scopes=["docs:*"])
    for _ in range(2):
        assert gate.verify(issued.secret).allows("docs:read")
        assert gate.verify(nobodys.secret).allows("docs:read")
    allowed[0] = AllowedScopes(general_scopes=("docs:write",))
    assert [gate.verify(issued.secret).allows(f"docs:{verb}") for verb in ("read", "write")] == [
        False,
        True,
    ]
    assert (
        reason_of(lambda: gate.verify(issued.secret).require("docs:read")) == "insufficient_scope"
    )
    assert (
        reason_of(lambda: gate.verify(issued.secret).require_all(("docs:read",)))
        == "insufficient_scope"
    )


@pytest.mark.parametrize("scopes", [["docs:read"], ["docs:*"]])
def test_several_needs_are_all_to_be_met(gate: Gate, scopes: list[str]) -> None:
    """One that is at hand answers for no other."""
    principal = gate.verify(gate.tokens.create(name="t", scopes=scopes).secret)
    for _ in range(2):
        principal.require("docs:read")
        for needs in (("docs:read", "other"), ("other", "docs:read")):
            assert reason_of(lambda needs=needs: principal.require(*needs)) == "insufficient_scope"
            assert (
                reason_of(lambda needs=needs: principal.require_all(needs)) == "insufficient_scope"
            )
            assert not principal.allows(*needs)


def test_a_share_is_reached_on_its_objects_alone(gate: Gate) -> None:
    """By its secret and by a token of it, and its objects are copied for no need."""
    made = gate.shares.create("x", ["y"], scopes=["docs:*", "docs:read"], expires_in=60)
    redeemed = gate.shares.redeem(made.share.id, secret=made.secret).token
    for credential in (made.secret, redeemed) * 2:
        principal = gate.verify(credential)
        assert [principal.allows("docs:read", on=on) for on in ("x", "y", "z", None)] == [
            True,
            True,
            False,
            False,
        ]
        assert reason_of(lambda p=principal: p.require("docs:read", on="z")) == "object_not_shared"
        assert (
            principal.compiled.granted.reached["docs:read"]
            is principal.compiled.grants["general", "scope", "docs:*"]
        )


class Scope(StrEnum):
    """How applications like to write their scopes."""

    READ = "docs:read"
    WRITE = "docs:write"


@pytest.mark.parametrize("scopes", [["docs:read"], ["docs:*"], ["*"], ["other"]])
def test_what_is_no_need_is_refused_each_time(gate: Gate, scopes: list[str]) -> None:
    """A wildcard, an empty text, a value of another type, a parameter that nobody filled in: never a pass."""
    principal = gate.verify(gate.tokens.create(name="t", scopes=scopes).secret)
    wrong: list[Any] = [
        "docs:*",
        "*",
        "",
        " docs:read",
        "docs:réad",
        "\ud800",
        1,
        None,
        ["docs:read"],
        {"docs:read": 1},
    ]
    for _ in range(2):
        for need in wrong:
            for call in (principal.require, principal.allows):
                with pytest.raises(InvalidInput):
                    call(need)
        for asked in (principal.require, principal.allows):
            with pytest.raises(InvalidInput, match="doc_id"):
                asked("docs:read", on=path("doc_id"))
        with pytest.raises(InvalidInput, match="doc_id"):
            principal.require_all(("docs:read",), path("doc_id"))
        opened = scopes != ["other"]
        assert principal.allows(Scope.READ) is opened
        assert principal.allows(Scope.READ, Scope.WRITE) is (scopes in (["docs:*"], ["*"]))
        assert (reason_of(lambda: principal.require(Scope.READ)) == "ok") is opened


def test_needs_that_are_remembered_are_few_and_short() -> None:
    """Whoever may introspect chooses them."""
    granted = Granted.of(compile_grants(AllowedScopes(general_scopes=("docs:*",))))
    for number in range(1_000):
        assert None in granted.reach(f"docs:{number}")
        assert None not in granted.reach(f"other:{number}")
    assert len(granted.reached) <= 64
    assert None in granted.reach("docs:" + "x" * 80_000)
    assert max(len(need) for need in granted.reached if isinstance(need, str)) <= 512


def test_an_address_is_remembered_by_its_list_alone(gate: Gate) -> None:
    """Admitted addresses are remembered by their list. A changed list forgets them; lists compare without them."""
    issued = gate.tokens.create(name="t", allowed_cidr_blocks=["10.0.0.0/8", "2001:db8::/32"])
    spellings = ("10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:DB8::1%eth0")
    for address in spellings * 2:
        assert gate.verify(issued.secret, address=address).address == address
    outside: tuple[str | None, ...] = ("11.0.0.1", "10.0.0.1 ", "10.0.0.1:80", "", None)
    for other in outside * 2:
        assert reason_of(lambda other=other: gate.verify(issued.secret, address=other)) in (
            "address_not_allowed", "address_unknown",
        )  # fmt: skip
    networks = gate.verify(issued.secret, address="10.0.0.1").compiled.networks
    assert networks is not None
    assert networks.admitted == set(spellings)
    assert networks == Networks.parse(("10.0.0.0/8", "2001:db8::/32"), "x")
    assert len({networks, Networks.parse(("10.0.0.0/8", "2001:db8::/32"), "x")}) == 1

    gate.tokens.update(issued.token.id, allowed_cidr_blocks=["192.0.2.0/24"])
    assert [
        reason_of(lambda address=address: gate.verify(issued.secret, address=address))
        for address in spellings
    ] == ["address_not_allowed"] * len(spellings)


def test_addresses_that_are_remembered_are_few(gate: Gate) -> None:
    """However many a token is used from."""
    secret = gate.tokens.create(name="t", allowed_cidr_blocks=["10.0.0.0/8"]).secret
    for number in range(1_000):
        networks = gate.verify(
            secret, address=f"10.0.{number // 250}.{number % 250}"
        ).compiled.networks
        assert networks is not None
        assert 0 < len(networks.admitted) <= 64


def test_an_unknown_credential_is_looked_up_again_once_anybody_minted(
    tmp_path: Path, make_gate: Make
) -> None:
    """Also by another process, as another gate is one: what was unknown may be that credential."""
    one, two = (make_gate(f"sqlite:///{tmp_path / 'gate.db'}") for _ in range(2))
    issued = two.tokens.create(name="t")
    with sqlite3.connect(tmp_path / "gate.db") as connection:  # as it is before it is minted
        (row,) = connection.execute("SELECT * FROM faregate_secrets").fetchall()
        connection.execute("DELETE FROM faregate_secrets")
    connection.close()
    for _ in range(2):
        assert reason_of(lambda: one.verify(issued.secret)) == "unknown_credential"
    with sqlite3.connect(tmp_path / "gate.db") as connection:
        connection.execute("INSERT INTO faregate_secrets VALUES (?, ?, ?)", row)
    connection.close()
    two.tokens.create(name="other")
    assert one.verify(issued.secret).id == issued.token.id


def test_the_expiry_is_told_of_the_instant_that_counts(gate: Gate, clock: Clock) -> None:
    """A header is worded once for an instant; a token whose expiry was changed has another one."""
    issued = gate.tokens.create(name="t", expires_in=60)
    endless = gate.tokens.create(name="t")

    def told(secret: str, *present: str) -> dict[str, str]:
        principal = gate.verify(secret)
        return dict(
            gate.requests.response_headers(principal, elsewhere=False, status=200, present=present)
        )

    def worded(seconds: float) -> str:
        return f"{datetime.fromtimestamp(START + seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"

    for _ in range(2):
        assert told(issued.secret)["Faregate-Token-Expires"] == worded(60)
        assert told(endless.secret) == told(issued.secret, "FAREGATE-token-expires") == {}
    gate.tokens.update(issued.token.id, expires_in=90)
    assert told(issued.secret)["Faregate-Token-Expires"] == worded(90)
    sent = encode(
        gate.requests.response_headers(
            gate.verify(issued.secret), elsewhere=True, status=200, present=()
        )
    )
    assert (b"faregate-token-expires", worded(90).encode()) in sent
    assert (b"cache-control", b"private") in sent
    clock.now += 90
    assert reason_of(lambda: gate.verify(issued.secret)) == "expired"
