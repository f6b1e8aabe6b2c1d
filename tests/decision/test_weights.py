"""How much a record may weigh: counted before it is parsed, on every way in; and what is heavier already goes on."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import identity_provider as provider
import msgspec
import pytest
from conftest import START, Clock, reason_of

from faregate import (
    AllowedScopes,
    Gate,
    InvalidInput,
    Org,
    Owner,
    Permission,
    PermissionGrant,
    Policy,
    Principal,
    RealmScopes,
    RoleGrant,
)
from faregate.decision.weight import RECORD, record_weight
from faregate.model import ServiceScopes
from faregate.stores import record_cache
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
        AllowedScopes(
            organization_scopes=RealmScopes(permissions=(PermissionGrant("", ("",) * 1001),))
        ),
        AllowedScopes(organization_scopes=RealmScopes(roles=(RoleGrant("", ""),) * 1001)),
        AllowedScopes(services_scopes=(ServiceScopes(service_definition_id=""),) * 1001),
        AllowedScopes(
            services_scopes=tuple(
                ServiceScopes(service_definition_id=f"s{n}", roles=(RoleGrant("x"),))
                for n in range(501)
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
    assert (
        reason_of(lambda: gate.verify(provider.token(START, scope=" ".join(["a"] * 1000)))) == "ok"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "allowed",
    [
        AllowedScopes(services_scopes=(ServiceScopes(service_definition_id="€" * 512, permissions=permissions(*[0] * 990).permissions),)),
        AllowedScopes(organization_scopes=RealmScopes(roles=tuple(RoleGrant(f"{n}" + "€" * 500, "€" * 512) for n in range(990)))),
        AllowedScopes(services_scopes=tuple(ServiceScopes(service_definition_id=f"{n}" + "€" * 500) for n in range(990))),
        AllowedScopes(general_scopes=tuple(f"{n:03}" + "s" * 500 for n in range(990))),
    ],
    ids=["a service before each permission", "roles and resources", "services of nothing", "scopes"],
)  # fmt: skip
def test_texts_are_weighed_as_they_are_shown(allowed: AllowedScopes) -> None:
    """A small body makes no record of megabytes, which could be neither listed nor put back."""
    gate = Gate("sqlite://")
    made = gate.tokens.create(name="t")
    for call in (
        lambda: gate.tokens.create(name="t", allowed_scopes=allowed),
        lambda: gate.tokens.update(made.token.id, allowed_scopes=allowed),
        lambda: gate.session(Owner("u"), allowed_scopes=allowed),
    ):
        with pytest.raises(InvalidInput, match=r"allowedScopes: [0-9,]+ bytes .* at most 393,216"):
            call()
    if allowed.general_scopes:
        for given in (
            {"scopes": allowed.general_scopes},
            {"params": {"scopes": list(allowed.general_scopes)}},
        ):
            with pytest.raises(InvalidInput, match=r"scopes: [0-9,]+ bytes, at most 393,216"):
                gate.shares.create("x", expires_in=60, **given)


def test_a_thousand_are_taken() -> None:
    """As a permission of a thousand resources, as a thousand roles of one, or as scopes."""
    gate = Gate("sqlite://")
    for allowed in (
        AllowedScopes(organization_scopes=permissions(1000)),
        AllowedScopes(organization_scopes=permissions(*[0] * 1000)),
        AllowedScopes(
            organization_scopes=RealmScopes(
                roles=tuple(RoleGrant(f"r{n}", "x") for n in range(1000))
            )
        ),
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
    made = gate.tokens.create(
        name="t", allowed_scopes=AllowedScopes(organization_scopes=permissions(1))
    )
    heavy = AllowedScopes(organization_scopes=permissions(3000))
    with gate._store.changing() as change:
        change._connection.execute(
            tokens.update().values(allowed_scopes=msgspec.json.encode(heavy).decode())
        )
    principal = gate.verify(made.secret)
    assert principal.allows(Permission("p0"), on="r2999")
    assert len(gate.tokens.get(made.token.id).scope) == 3000
    assert gate.tokens.update(made.token.id, name="u").allowed_scopes == heavy
    assert gate.verify(gate.tokens.rotate(made.token.id).secret).allows(
        Permission("p0"), on="r2999"
    )
    assert gate.tokens.list().items[0].allowed_scopes == heavy
    gate.close()


@pytest.mark.slow
def test_a_cached_record_weighs_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand networks push others out, the oldest first; small ones push nobody out."""
    monkeypatch.setattr(record_cache, "MAX_BYTES", 2_000_000)
    gate = Gate("sqlite://")
    filed = gate._records._records
    small = [gate.tokens.create(name="t", scopes=["a"]).secret for _ in range(200)]
    for secret in small:
        gate.verify(secret)
    assert len(filed.by_digest) == 200
    assert filed._weights.total < 1_000_000
    blocks = [f"10.{n // 250}.{n % 250}.0/25" for n in range(2000)]
    heavy = [gate.tokens.create(name="t", allowed_cidr_blocks=blocks).secret for _ in range(12)]
    for secret in heavy:
        gate.verify(secret, address="10.0.0.1")
        assert filed._weights.total <= record_cache.MAX_BYTES
    assert 2 < len(filed.by_digest) < 10
    assert gate.verify(small[0]).allows("a")
    assert gate.verify(heavy[0], address="10.0.0.1").kind == "token"


@pytest.mark.slow
def test_weights_are_as_exact_as_a_bound_needs() -> None:
    """Within a factor of two of what Python itself needs, for each kind of fat record."""
    gate = Gate("sqlite://")
    blocks = [f"2001:db8:{n:x}::/64" for n in range(10_000)]
    objects = [f"{n:04}{'ö' * 200}" for n in range(1000)]
    many = AllowedScopes(general_scopes=tuple(f"s{n}:{'x' * 180}" for n in range(1000)))
    share = gate.shares.create(objects[0], objects[1:], scopes=["a", "b"], expires_in=60)
    makers: list[Callable[[], Principal]] = [
        lambda: gate.verify(
            gate.tokens.create(name="t", allowed_cidr_blocks=blocks).secret, address="2001:db8:1::1"
        ),
        lambda: gate.verify(gate.tokens.create(name="t", allowed_scopes=many).secret),
        lambda: gate.verify(
            gate.tokens.create(
                name="t", allowed_scopes=AllowedScopes(organization_scopes=permissions(1000))
            ).secret
        ),
        lambda: gate.verify(share.secret),
    ]
    for make in makers:
        make()
        gate.close()
        gate._records.close()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            record = make().compiled
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert held / 2 < record_weight(record) < held * 2, (held, record_weight(record))


def test_what_is_shared_is_weighed_once() -> None:
    """A share's objects, whatever the number of its tokens; and nothing is weighed any more when it is dropped."""
    gate = Gate("sqlite://")
    weights = gate._records._records._weights
    objects = [f"{n:04}{'x' * 500}" for n in range(1000)]
    made = gate.shares.create(objects[0], objects[1:], scopes=["a"], expires_in=60)
    for number in range(50):
        gate.verify(gate.shares.redeem(made.share.id, secret=made.secret).token)
        assert weights.total < record_weight(gate._records._shares[made.share.id]) + (
            number + 1
        ) * (RECORD + 100)
    gate.shares.revoke(made.share.id)
    other = gate.tokens.create(name="t")
    gate.verify(other.secret)
    assert weights.total < 3 * RECORD
    gate.tokens.delete(other.token.id)
    gate.close()
    assert (weights.total, weights._holders) == (0, {})


@pytest.mark.slow
def test_shares_and_rights_at_hand_are_bounded() -> None:
    """Beside the records, too."""
    wide = AllowedScopes(general_scopes=tuple(f"s{n}:{'x' * 480}" for n in range(1000)))
    gate = Gate("sqlite://", owner_rights=lambda _: wide, owner_rights_ttl=600)
    objects = [f"{n:04}{'x' * 500}" for n in range(1000)]
    for number in range(40):
        gate.verify(gate.tokens.create(name="t", owner=Owner(f"u{number}")).secret)
        made = gate.shares.create(f"x{number}", objects[1:], scopes=["a"], expires_in=60)
        gate.verify(gate.shares.redeem(made.share.id, secret=made.secret).token)
    for cache in (gate._records._shares, gate._records._owner_rights._answers):
        assert 0 < len(cache) < 40
        assert cache.currsize <= cache.maxsize == 16 * 1024 * 1024


def test_whose_a_record_is_weighs_too() -> None:
    """Its owner's and organization's texts, in as many bytes as their characters take."""
    gate = Gate("sqlite://")
    weights = []
    for letter, length in (("a", 1), ("a", 512), ("\U0001f511", 512)):
        text = letter * length
        owner, org = Owner(text, acct=text, domain=text, idp_id=text), Org(text)
        made = gate.tokens.create(name="t", owner=owner, org=org)
        weights.append(record_weight(gate.verify(made.secret).compiled))
    assert weights[1] - weights[0] > 5 * 500
    assert weights[2] - weights[0] > 5 * 4 * 500
