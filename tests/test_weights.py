"""How much a record may weigh: counted before it is parsed, on every way in; and what is heavier already goes on."""

from __future__ import annotations

from typing import Any

import msgspec
import provider
import pytest
from conftest import START, Clock, reason_of

from faregate import (
    AllowedScopes,
    Gate,
    InvalidInput,
    Owner,
    Permission,
    PermissionGrant,
    Policy,
    RealmScopes,
    RoleGrant,
)
from faregate.model import ServiceScopes
from faregate.stores.schema import tokens

BAD = "no scope"  # what is parsed is refused by another rule, and other words


def permissions(*resources: int) -> RealmScopes:
    """Permissions on so many resources each."""
    grants = [
        PermissionGrant(f"p{number}", tuple(f"r{one}" for one in range(count)) or None)
        for number, count in enumerate(resources)
    ]
    return RealmScopes(permissions=tuple(grants))


@pytest.mark.parametrize(
    "allowed",
    [
        AllowedScopes(general_scopes=(BAD,) * 1001),
        AllowedScopes(organization_scopes=permissions(100_000)),
        AllowedScopes(organization_scopes=permissions(500, 501)),
        AllowedScopes(general_scopes=("a",) * 500, organization_scopes=permissions(500, 0)),
        AllowedScopes(organization_scopes=RealmScopes(permissions=(PermissionGrant("", ("",) * 1001),))),
        AllowedScopes(organization_scopes=RealmScopes(roles=(RoleGrant("", ""),) * 1001)),
        AllowedScopes(services_scopes=(ServiceScopes(service_definition_id=""),) * 1001),
        AllowedScopes(
            services_scopes=tuple(
                ServiceScopes(service_definition_id=f"s{n}", roles=(RoleGrant("x"),)) for n in range(501)
            )
        ),
    ],
    ids=range(8),
)
def test_grants_are_counted_before_they_are_parsed(allowed: AllowedScopes) -> None:
    """A token, a session, a policy, what owners may: more than a thousand are refused, whatever else is wrong."""
    gate = Gate("sqlite://", owner_rights=lambda _: allowed)
    made = gate.tokens.create(name="t")
    for given in (allowed, msgspec.to_builtins(allowed)):
        for call in (
            lambda given=given: gate.tokens.create(name="t", allowed_scopes=given),
            lambda given=given: gate.tokens.update(made.token.id, allowed_scopes=given),
            lambda given=given: gate.session(Owner("u"), allowed_scopes=given),
            lambda given=given: Policy(allowed_scopes=given),
        ):
            with pytest.raises(InvalidInput, match="at most 1000"):
                call()
    owned = gate.tokens.create(name="t", owner=Owner("u"))
    assert reason_of(lambda: gate.verify(owned.secret)) == "store_unavailable"


def test_scopes_are_counted_before_they_are_parsed(clock: Clock) -> None:
    """Tokens, sessions, shares, exchanges, policies and JWTs."""
    gate = Gate("sqlite://", clock=clock, issuers=[provider.issuer()])
    scopes = [BAD] * 200_000
    refresh = gate.tokens.create(name="t", type="REFRESH")
    calls: list[Any] = [
        lambda: gate.tokens.create(name="t", scopes=scopes),
        lambda: gate.session(Owner("u"), scopes=scopes),
        lambda: gate.shares.create("x", scopes=scopes, expires_in=60),
        lambda: gate.shares.create("x", params={"scopes": scopes}, expires_in=60),
        lambda: gate.tokens.exchange(refresh.secret, scopes),
        lambda: Policy(allowed_scopes=scopes),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match="at most 1000"):
            call()
    text = provider.token(START, scope="a " * 1001)
    assert "more than 1000 scopes" in gate.explain(text).steps[2].words
    assert reason_of(lambda: gate.verify(provider.token(START, scope=" ".join(["a"] * 1000)))) == "ok"


def test_a_thousand_are_taken() -> None:
    """As a permission of a thousand resources, as a thousand roles of one, or as scopes."""
    gate = Gate("sqlite://")
    for allowed in (
        AllowedScopes(organization_scopes=permissions(1000)),
        AllowedScopes(organization_scopes=permissions(*[0] * 1000)),
        AllowedScopes(organization_scopes=RealmScopes(roles=tuple(RoleGrant(f"r{n}", "x") for n in range(1000)))),
        AllowedScopes(general_scopes=tuple(f"s{n}" for n in range(1000))),
    ):
        made = gate.tokens.create(name="t", allowed_scopes=allowed)
        assert (len(made.token.scope), made.token.allowed_scopes) == (1000, allowed)


def test_objects_of_a_jwt_are_counted(clock: Clock) -> None:
    """An application that names more than a thousand is at fault, and nobody gets in."""
    objects: list[str] = ["x"] * 1000
    gate = Gate("sqlite://", clock=clock, issuers=[provider.issuer(resources=lambda _: objects)])
    assert reason_of(lambda: gate.verify(provider.token(START))) == "ok"
    objects.append("y")
    assert reason_of(lambda: gate.verify(provider.token(START, jti="t2"))) == "store_unavailable"


def test_what_is_heavier_already_goes_on(store: str) -> None:
    """A record that was written before the bound opens what it opened, is shown, and may be changed otherwise."""
    gate = Gate(store)
    made = gate.tokens.create(name="t", allowed_scopes=AllowedScopes(organization_scopes=permissions(1)))
    heavy = AllowedScopes(organization_scopes=permissions(3000))
    with gate._store.changing() as change:
        change._connection.execute(tokens.update().values(allowed_scopes=msgspec.json.encode(heavy).decode()))
    principal = gate.verify(made.secret)
    assert principal.allows(Permission("p0"), on="r2999")
    assert len(gate.tokens.get(made.token.id).scope) == 3000
    assert gate.tokens.update(made.token.id, name="u").allowed_scopes == heavy
    assert gate.verify(gate.tokens.rotate(made.token.id).secret).allows(Permission("p0"), on="r2999")
    assert gate.tokens.list().items[0].allowed_scopes == heavy
    gate.close()
