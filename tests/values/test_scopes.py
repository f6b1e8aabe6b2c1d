"""Grants, needs and covers: what is refused, and what is true of all of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate import ANY, Gate, InvalidInput, Org, Owner, Permission, Role, any_of, path
from faregate.decision.compiled import (
    CompiledCredential,
    compile_access,
    compile_share,
    compile_token,
    covers,
    excess_over,
)
from faregate.decision.principal import Principal
from faregate.model import AllowedScopes, PermissionGrant, RealmScopes
from faregate.values.grants import Granted, flat_list
from faregate.values.needs import AnyOf
from faregate.values.networks import Networks
from faregate.values.scopes import as_allowed_scopes, compile_grants

WORDS = st.sampled_from(["a", "b", "gate"])
SCOPES = st.one_of(
    st.lists(WORDS, min_size=1, max_size=3).map(":".join),
    st.lists(WORDS, min_size=1, max_size=2).map(lambda words: ":".join([*words, "*"])),
    st.just("*"),
)
RESOURCES = st.one_of(
    st.none(), st.just(["*"]), st.lists(st.sampled_from("xyz"), min_size=1, max_size=3)
)
PERMISSIONS = st.lists(
    st.fixed_dictionaries({"permissionId": st.sampled_from(["p", "q"]), "resources": RESOURCES}),
    max_size=3,
)
ROLES = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["r"]), "resource": st.sampled_from([None, "*", "x", "y"])}
    ),
    max_size=2,
)
REALMS = st.one_of(
    st.fixed_dictionaries({"permissions": PERMISSIONS, "roles": ROLES}),
    st.fixed_dictionaries({"allPermissions": st.just(value=True), "roles": ROLES}),
    st.fixed_dictionaries({"permissions": PERMISSIONS, "allRoles": st.just(value=True)}),
)
ALLOWED = st.fixed_dictionaries(
    {"generalScopes": st.lists(SCOPES, max_size=3), "organizationScopes": REALMS},
    optional={"servicesScopes": REALMS.map(lambda realm: [{"serviceDefinitionId": "s", **realm}])},
)
BLOCKS = st.lists(
    st.sampled_from(["10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "::/0", "::1"]),
    max_size=2,
)
TIMES = st.one_of(st.none(), st.sampled_from([10.0, 20.0, 30.0]))


@st.composite
def records(draw: st.DrawFn) -> CompiledCredential:
    """A live record of any scopes, networks, times, owner and organization: a token's, or a share's of some objects."""
    blocks = draw(BLOCKS)
    if draw(st.integers(0, 3)) == 0:
        return compile_share(
            record_id="s",
            shared_by=Owner(draw(st.sampled_from([None, "u1"]))),
            org=Org(draw(st.sampled_from([None, "o1"]))),
            scopes=[scope for scope in draw(st.lists(SCOPES, max_size=3)) if scope != "*"],
            object_ids=draw(st.lists(st.sampled_from("xyz"), min_size=1, max_size=2)),
            networks=Networks.parse(blocks, "x") if blocks else None,
            not_before=draw(TIMES),
            expires_at=draw(TIMES) or 35.0,
            revoked=False,
        )
    return compile_token(
        record_id="t",
        owner=Owner(draw(st.sampled_from([None, "u1"]))),
        org=Org(draw(st.sampled_from([None, "o1"]))),
        granted=granted(draw(ALLOWED)),
        networks=Networks.parse(blocks, "x") if blocks else None,
        not_before=draw(TIMES),
        expires_at=draw(TIMES),
    )


NEEDS = st.one_of(
    st.lists(WORDS, min_size=1, max_size=3).map(":".join),
    st.builds(Permission, st.sampled_from(["p", "q"]), st.sampled_from([None, "s"])),
    st.builds(Role, st.just("r"), st.sampled_from([None, "s"])),
    st.just(any_of("a:b", Permission("p"), Role("r", service="s"))),
)
REQUESTS = st.tuples(
    NEEDS,
    st.sampled_from([None, "x", "y", "z"]),
    st.sampled_from([None, "10.1.2.3", "10.200.0.1", "192.0.2.1", "::1", "2001:db8::1"]),
    st.sampled_from([5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0]),
)


def passes(record: CompiledCredential, request: tuple[Any, str | None, str | None, float]) -> bool:
    """Whether a request of this need, object, address and instant opens with this record."""
    need, on, address, now = request
    return record.admits(now, address) and Principal(record, address).allows(need, on=on)


@given(records())
def test_covers_is_reflexive(record: CompiledCredential) -> None:
    """Every record covers itself."""
    assert covers(record, record)


@given(records(), records(), records())
def test_covers_is_transitive(
    one: CompiledCredential, two: CompiledCredential, three: CompiledCredential
) -> None:
    """Who covers one that covers a third covers the third."""
    if covers(one, two) and covers(two, three):
        assert covers(one, three)


@given(records(), records(), REQUESTS)
def test_covers_is_true_to_requests(
    parent: CompiledCredential,
    child: CompiledCredential,
    request: tuple[Any, str | None, str | None, float],
) -> None:
    """What a covered record opens, the covering one opens; each refusal to cover is named."""
    if covers(parent, child):
        assert passes(parent, request) or not passes(child, request)
    else:
        assert excess_over(parent, child)


@given(records(), REQUESTS)
def test_copies_made_narrower_are_covered(
    record: CompiledCredential, request: tuple[Any, str | None, str | None, float]
) -> None:
    """A record without one of its grants, or with less time, is covered and opens nothing more."""
    for key in record.grants:
        grants = {name: value for name, value in record.grants.items() if name != key}
        fields = {name: getattr(record, name) for name in record.__struct_fields__}
        narrower = CompiledCredential(**{**fields, "granted": Granted.of(grants)})
        assert covers(record, narrower)
        assert passes(record, request) or not passes(narrower, request)


@given(ALLOWED, BLOCKS, TIMES, ALLOWED, BLOCKS, st.sampled_from([10.0, 20.0, 30.0]), REQUESTS)
def test_an_access_credential_passes_what_both_pass(
    family: dict[str, Any],
    blocks: list[str],
    ends: float | None,
    own: dict[str, Any],
    own_blocks: list[str],
    own_end: float,
    request: tuple[Any, str | None, str | None, float],
) -> None:
    """A request passes it exactly if it passes its family as that is now, and what it was given itself."""
    networks, own_networks = (
        Networks.parse(some, "x") if some else None for some in (blocks, own_blocks)
    )
    parent = record_of(family, networks=networks, expires_at=ends)
    alone = record_of(own, networks=own_networks, expires_at=own_end)
    access = compile_access(
        parent, granted=granted(own), networks=own_networks, expires_at=own_end, digest=b""
    )
    assert (parent.kind, access.kind, access.root) == ("token", "access", False)
    both = passes(msgspec.structs.replace(parent, kind="refresh"), request)
    both = both and passes(msgspec.structs.replace(alone, kind="refresh"), request)
    if isinstance(request[0], AnyOf):
        assert both or not passes(access, request)
    else:
        assert passes(access, request) == both


def granted(scopes: dict[str, Any]) -> Granted:
    """What scopes grant, ready to be judged."""
    return Granted.of(compile_grants(as_allowed_scopes(scopes)))


def record_of(scopes: dict[str, Any], **limits: Any) -> CompiledCredential:
    """A record of these scopes, of nobody and no organization unless given."""
    given = {
        "owner": Owner(),
        "org": Org(),
        "networks": None,
        "not_before": None,
        "expires_at": None,
        **limits,
    }
    return compile_token(record_id="t", granted=granted(scopes), **given)


@pytest.mark.parametrize(
    ("parent", "child", "wider"),
    [
        (["docs:*"], ["docs:read"], []),
        (["docs:*"], ["docs:read:*"], []),
        (["docs:*"], ["docs:*"], []),
        (["docs:*"], ["docs"], ["docs"]),
        (["docs:*"], ["*"], ["root", "*"]),
        (["docs:read"], ["docs:*"], ["docs:*"]),
        (["docs:read:*"], ["docs:*"], ["docs:*"]),
        (["a", "b"], ["b", "c"], ["c"]),
        (["*"], ["gate:admin", "x:*"], []),
        ([], [], []),
    ],
)
def test_covers_is_directional(parent: list[str], child: list[str], wider: list[str]) -> None:
    """What is wider is named."""
    assert (
        excess_over(record_of({"generalScopes": parent}), record_of({"generalScopes": child}))
        == wider
    )


def test_only_root_covers_root_and_every_organization() -> None:
    """The star of an owner or an organization covers no root and no other organization."""
    root, star = (
        record_of({"generalScopes": ["*"]}),
        record_of({"generalScopes": ["*"]}, owner=Owner("u1")),
    )
    theirs = record_of({"generalScopes": ["a"]}, org=Org("o1"))
    assert root.root
    assert not star.root
    assert covers(root, star)
    assert not covers(star, root)
    assert covers(root, theirs)
    assert not covers(star, theirs)
    assert not covers(record_of({"generalScopes": ["*"]}, org=Org("o2")), theirs)


def test_limits_are_compared() -> None:
    """A later expiry, an earlier start and other networks are each wider; no limit is the widest."""
    parent = record_of(
        {}, not_before=10.0, expires_at=20.0, networks=Networks.parse(["10.0.0.0/8"], "x")
    )
    assert (
        excess_over(
            parent,
            record_of(
                {}, not_before=10.0, expires_at=20.0, networks=Networks.parse(["10.1.0.0/16"], "x")
            ),
        )
        == []
    )
    assert excess_over(parent, record_of({})) == [
        "networks beyond its own",
        "a later expiry than its own",
        "an earlier start than its own",
    ]


@pytest.mark.parametrize(
    ("scopes", "member"),
    [
        ({"generalScopes": ["a b"]}, r"generalScopes\[0\]"),
        ({"generalScopes": [""]}, r"generalScopes\[0\]"),
        ({"generalScopes": ["caf\u00e9"]}, r"generalScopes\[0\]"),
        ({"generalScopes": ['a"b']}, r"generalScopes\[0\]"),
        ({"generalScopes": ["a\\b"]}, r"generalScopes\[0\]"),
        ({"generalScopes": ["a\n"]}, r"generalScopes\[0\]"),
        ({"generalScopes": ["ok", "a*"]}, r"generalScopes\[1\]"),
        ({"generalScopes": ["a:*:b"]}, "wrong place"),
        ({"generalScopes": ["*:a"]}, "wrong place"),
        ({"generalScopes": ["**"]}, "wrong place"),
        ({"generalScopes": ["a:**"]}, "wrong place"),
        ({"generalScopes": ["*:*"]}, "wrong place"),
        ({"generalScopes": ["x/permission:y"]}, "looks like"),
        ({"generalScopes": ["x/role:y"]}, "looks like"),
        ({"generalScopes": ["a" * 513]}, "512"),
        ({"generalScopes": [f"s{n}" for n in range(1001)]}, "at most 1000"),
        (
            {
                "organizationScopes": {
                    "allPermissions": True,
                    "permissions": [{"permissionId": "p"}],
                }
            },
            "contradicts",
        ),
        ({"organizationScopes": {"allRoles": True, "roles": [{"name": "r"}]}}, "contradicts"),
        (
            {"organizationScopes": {"permissions": [{"permissionId": "p", "resources": []}]}},
            "resources",
        ),
        (
            {
                "organizationScopes": {
                    "permissions": [{"permissionId": "p", "resources": ["*", "x"]}]
                }
            },
            "stands alone",
        ),
        (
            {"organizationScopes": {"permissions": [{"permissionId": "p", "resources": [""]}]}},
            "resources",
        ),
        ({"organizationScopes": {"permissions": [{"permissionId": "*"}]}}, "allPermissions"),
        ({"organizationScopes": {"permissions": [{"permissionId": ""}]}}, "permissionId"),
        ({"organizationScopes": {"roles": [{"name": "*"}]}}, "allRoles"),
        ({"organizationScopes": {"roles": [{"name": "r", "resource": ""}]}}, "resource"),
        ({"organizationScopes": {"keptInToken": ["SCOPES"]}}, "allowedScopes"),
        ({"servicesScopes": [{"serviceDefinitionId": "general"}]}, "realm"),
        ({"servicesScopes": [{"serviceDefinitionId": "organization"}]}, "realm"),
        ({"servicesScopes": [{"serviceDefinitionId": ""}]}, "serviceDefinitionId"),
        ({"servicesScopes": [{}]}, "serviceDefinitionId"),
        ({"generalScope": ["a"]}, "generalScope"),
        ({"generalScopes": "a"}, "generalScopes"),
        ({"organizationScopes": {"allPermissions": 1}}, "allPermissions"),
    ],
)
def test_contradictions_are_refused_and_name_the_member(
    scopes: dict[str, Any], member: str
) -> None:
    """A structure that could be read in two ways is written by nobody."""
    with pytest.raises(InvalidInput, match=member):
        compile_grants(as_allowed_scopes(scopes))


def test_flat_list_is_for_reading() -> None:
    """General scopes come first, the others under their realm, ids and resources percent-encoded."""
    scopes = {
        "generalScopes": ["docs:*", "a"],
        "organizationScopes": {
            "permissions": [{"permissionId": "e/d", "resources": ["x@y", "b"]}],
            "allRoles": True,
        },
        "servicesScopes": [{"serviceDefinitionId": "s:1", "roles": [{"name": "boss"}]}],
    }
    assert flat_list(compile_grants(as_allowed_scopes(scopes))) == (
        "docs:*",
        "a",
        "organization/role:*@*",
        "organization/permission:e%2Fd@b",
        "organization/permission:e%2Fd@x%40y",
        "s%3A1/role:boss@*",
    )


@pytest.mark.parametrize(
    "need", ["", "a b", "docs:*", "*", None, 5, ["a"], Permission(""), Role("r", service="general")]
)
def test_needs_are_refused_when_they_are_none(need: Any) -> None:
    """A need that nobody could meet, or that everybody could, is a mistake, never a pass."""
    gate = Gate("sqlite://")
    principal = gate.verify(gate.tokens.create(name="root", scopes=["*"]).secret)
    with pytest.raises((InvalidInput, TypeError)):
        principal.require(need)
    with pytest.raises((InvalidInput, TypeError)):
        principal.allows(need)


def test_any_of_nothing_is_refused() -> None:
    """There must be something to meet."""
    with pytest.raises(InvalidInput, match="at least one"):
        any_of()


@pytest.mark.parametrize("scopes", [["a:b"], ["a:*"], ["*"], []])
@pytest.mark.parametrize("owner", [Owner(), Owner("u1")])
def test_path_is_for_adapters(scopes: list[str], owner: Owner) -> None:
    """The core knows no routes: an unresolved parameter is a mistake, never a pass, whatever is granted."""
    gate = Gate("sqlite://", owner_rights=lambda _: AllowedScopes(general_scopes=("a:b",)))
    secret = gate.tokens.create(name="t", scopes=scopes, owner=owner).secret
    principal = gate.verify(secret)
    for call in (
        lambda: principal.require("a:b", on=path("doc_id")),
        lambda: principal.require("a:b", "a:b", on=path("doc_id")),
        lambda: principal.require(any_of("a:b", "c"), on=path("doc_id")),
        lambda: principal.allows("a:b", on=path("doc_id")),
        lambda: gate.explain(secret, needs="a:b", on=path("doc_id")),
        lambda: gate.explain(secret, on=path("doc_id")),
        lambda: gate.explain(None, needs="a:b", on=path("doc_id")),
    ):
        with pytest.raises(InvalidInput, match="doc_id"):
            call()


def test_allowed_objects() -> None:
    """Any, the named ones, or none."""
    gate = Gate("sqlite://")
    scopes = {
        "generalScopes": ["a"],
        "organizationScopes": {"permissions": [{"permissionId": "p", "resources": ["x", "y"]}]},
    }
    issued = gate.tokens.create(
        name="t", allowed_scopes=as_allowed_scopes(scopes), owner=Owner("u1")
    )
    principal = gate.verify(issued.secret)
    assert principal.allowed_objects("a") == ANY
    assert principal.allowed_objects(Permission("p")) == frozenset({"x", "y"})
    assert principal.allowed_objects(any_of("b", Permission("p"))) == frozenset({"x", "y"})
    assert principal.allowed_objects("b") == frozenset()
    assert (
        gate.verify(gate.tokens.create(name="root", scopes=["*"]).secret).allowed_objects(Role("r"))
        == ANY
    )


@pytest.mark.parametrize(
    "broken",
    [
        AllowedScopes(general_scopes="docs:read"),  # type: ignore[arg-type]
        AllowedScopes(organization_scopes=None),  # type: ignore[arg-type]
        AllowedScopes(organization_scopes=RealmScopes(all_permissions="no")),  # type: ignore[arg-type]
        AllowedScopes(organization_scopes=RealmScopes(kept_in_token=("FOO",))),  # type: ignore[arg-type]
        AllowedScopes(organization_scopes=RealmScopes(permissions=(PermissionGrant("\ud800"),))),
        5,
    ],
    ids=range(6),
)
def test_instances_are_checked_too(broken: Any) -> None:
    """What could not be read back is not written."""
    gate = Gate("sqlite://")
    with pytest.raises(InvalidInput):
        gate.tokens.create(name="t", allowed_scopes=broken)
    assert gate.tokens.list().total == 0


def test_a_list_of_resources_means_what_a_tuple_means() -> None:
    """As in JSON."""
    gate = Gate("sqlite://")
    any_one = AllowedScopes(
        organization_scopes=RealmScopes(permissions=[PermissionGrant("p", resources=["*"])])  # type: ignore[arg-type]
    )
    assert gate.verify(gate.tokens.create(name="t", allowed_scopes=any_one).secret).allows(
        Permission("p")
    )


def test_scopes_equal_after_a_round_trip() -> None:
    """What was written is what is read, with every member present."""
    allowed = AllowedScopes(general_scopes=("a",))
    gate = Gate("sqlite://")
    assert gate.tokens.create(name="t", allowed_scopes=allowed).token.allowed_scopes == allowed


FIRST = """
import sys, threading
from faregate.management import payloads
from faregate.fields.stored_values import stored_scopes
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(16)
scopes = b'{"organizationScopes": {"permissions": [{"permissionId": "p"}], "roles": [{"name": "r"}]}}'

def use():
    barrier.wait()
    for _ in range(50):
        stored_scopes(scopes, "x")
        payloads.read(b'{"name": "t", "owner": {"id": "u"}, "allowedScopes": ' + scopes + b"}", payloads.CreateToken)

threads = [threading.Thread(target=use) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.processes
def test_first_uses_at_once_end_no_process() -> None:
    """Whatever msgspec has to learn of a type was learnt before."""
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", FIRST], check=False).returncode == 0
