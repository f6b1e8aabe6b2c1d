"""What is granted, what is needed, and when the one is enough for the other.

An :class:`AllowedScopes` compiles, once per record, into one mapping ``(realm, kind, name) -> resources``.
The realm is ``general``, ``organization`` or a service's id; the kind is ``scope``, ``permission`` or ``role``;
resources are a set or ANY. A name may be a wildcard: ``docs:*`` and ``*`` for general scopes, ``*`` for all
permissions or roles of a realm (no permission or role may itself be called ``*``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast
from urllib.parse import quote

import msgspec

from faregate.errors import InvalidInput
from faregate.model import AllowedScopes, RealmScopes
from faregate.values.names import check_id

MAX_SCOPES = 1000
MAX_BYTES = 393_216  # of all that is granted, in both forms of JSON: a record fits into a request as it is shown
MAX_LENGTH = 512
MAX_SEGMENTS = 32  # each one is a look-up where a need or a child is judged
_REMEMBERED = 64  # needs whose resources are remembered beside the grants


class AnyResource(msgspec.Struct, frozen=True):
    """Every resource or object there is, and none in particular: None is in it, too."""

    def __contains__(self, resource: str | None) -> bool:
        return True

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = AnyResource()
Resources = frozenset[str] | AnyResource
_NONE: Final[Resources] = frozenset()  # always the same one: Python makes each empty set anew, of 216 bytes
Key = tuple[str, str, str]
Grants = Mapping[Key, Resources]
Held = tuple[Grants, ...]  # what must all be wide enough: a credential's grants, and its owner's

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # the scope-token of RFC 6749 section 3.3


class Permission(msgspec.Struct, frozen=True):
    """The need for a permission, of the organization or of a service."""

    id: str
    service: str | None = None


class Role(msgspec.Struct, frozen=True):
    """The need for a role, of the organization or of a service."""

    name: str
    service: str | None = None


class AnyOf(msgspec.Struct, frozen=True):
    """The need for one of several; made by :func:`any_of`."""

    needs: tuple[Need, ...]


Need = str | Permission | Role | AnyOf


class Granted(msgspec.Struct, frozen=True, eq=False):
    """What a credential grants, ready to be judged. Records that were given the same share one.

    ``scopes`` are the general scopes that are granted by their own name on any resource. ``reached`` remembers on which
    resources a few needs are met, since routes ask for the same ones again and again; it holds no verdict.
    """

    grants: dict[Key, Resources]
    scopes: frozenset[str]
    reached: dict[Need, Resources] = msgspec.field(default_factory=dict[Need, Resources])

    @classmethod
    def of(cls, grants: dict[Key, Resources]) -> Granted:
        """Return grants, ready to be judged."""
        scopes = (
            name
            for (_, kind, name), resources in grants.items()
            if kind == "scope" and "*" not in name and isinstance(resources, AnyResource)
        )
        return cls(grants, frozenset(scopes))

    def reach(self, need: Need) -> Resources:
        """Return the resources on which a need is met. The need has been checked."""
        known = self.reached.get(need)
        if known is None:
            known = reached_by((self.grants,), need)

            # A need may come from a caller of the introspection, so neither number nor length is left to him.
            if not isinstance(need, str) or len(need) <= MAX_LENGTH:
                if len(self.reached) >= _REMEMBERED:
                    self.reached.clear()
                self.reached[need] = known
        return known


def any_of(*needs: Need) -> AnyOf:
    """Return the need that is met when one of ``needs`` is. InvalidInput if there is none to meet."""
    if not needs:
        raise InvalidInput("any_of: name at least one need")
    return AnyOf(check_needs(needs))


def check_needs(needs: tuple[object, ...]) -> tuple[Need, ...]:
    """Return ``needs`` if each is one; raise InvalidInput for wildcards, empty texts and other types.

    A need has no more segments than a scope that is granted.
    """
    for need in needs:
        match need:
            case str() if not _SCOPE.fullmatch(need):
                raise InvalidInput(f"need {need!r}: not a scope of RFC 6749 section 3.3")
            case str() if need.count(":") >= MAX_SEGMENTS:  # the text may come from a client
                raise InvalidInput(f"need {need[:64]!r}…: more than {MAX_SEGMENTS} segments")
            case str() if "*" in need:
                raise InvalidInput(f"need {need!r}: a need names one scope; wildcards are for grants")
            case Permission(id=str(name), service=service) | Role(name=str(name), service=service):
                check_id(name, "need")
                if service is not None:
                    _check_service(service, "need")
            case str() | AnyOf():
                pass
            case _:
                raise InvalidInput(f"need {need!r}: expected a scope, Permission(…), Role(…) or any_of(…)")
    return cast("tuple[Need, ...]", needs)


def compile_grants(allowed: AllowedScopes) -> dict[Key, Resources]:
    """Return the grants of an AllowedScopes; InvalidInput names the member that contradicts the rules."""
    grants: dict[Key, Resources] = {}
    for key, resources in _entries(allowed):
        known = grants.get(key, frozenset[str]())
        grants[key] = ANY if isinstance(known, AnyResource) or isinstance(resources, AnyResource) else known | resources
    return grants


def check_number(allowed: AllowedScopes) -> None:
    """Raise InvalidInput for more grants than a record may be given; a permission counts once for each resource.

    For what is written: a record of before that has more goes on as it is.
    """
    realms = (allowed.organization_scopes, *allowed.services_scopes)
    entries = len(allowed.general_scopes) + len(allowed.services_scopes)
    for realm in realms:
        entries += len(realm.roles) + sum(len(permission.resources or "*") for permission in realm.permissions)
    if entries > MAX_SCOPES:
        raise InvalidInput(
            f"allowedScopes: at most {MAX_SCOPES} scopes, services, permissions with each of their resources, and roles"
        )


def check_size(allowed: AllowedScopes, grants: Grants) -> None:
    """Raise InvalidInput for more text than a record may be given: what was given and the flat list that shows it.

    For what is written, as :func:`check_number`. In the flat list each grant repeats the names above it, and JSON may
    be written in ASCII.
    """
    import json  # noqa: PLC0415  only who writes scopes waits for it

    size = len(json.dumps((msgspec.to_builtins(allowed), flat_list(grants))))
    if size > MAX_BYTES:
        raise InvalidInput(
            f"allowedScopes: {size:,} bytes of JSON, with the list that shows them flat; at most {MAX_BYTES:,}"
        )


def met(held: Held, need: Need, on: str | None) -> bool:
    """Tell whether all of ``held`` meet ``need`` on the resource ``on``; None asks for a grant on any resource.

    One of several needs is met where all of them meet that same one.
    """
    if isinstance(need, AnyOf):
        return any(met(held, one, on) for one in need.needs)
    key = _key_of(need)
    return all(on in resources_of(grants, key) for grants in held)


def reached_by(held: Held, need: Need) -> Resources:
    """Return the resources on which all of ``held`` meet ``need``."""
    if not isinstance(need, AnyOf):
        common: Resources = ANY
        for grants in held:
            common = _both(common, resources_of(grants, _key_of(need)))
        return common
    reached = _NONE
    for one in need.needs:
        reached = _either(reached, reached_by(held, one))
    return reached


def granting(grants: Grants, need: Need, on: str | None) -> str | None:
    """Return the name of one grant that meets a need on a resource, as ``scope`` shows it; None if there is none."""
    if isinstance(need, AnyOf):
        return next((name for one in need.needs if (name := granting(grants, one, on)) is not None), None)
    realm, kind, wanted = _key_of(need)
    for name in _covering((realm, kind, wanted)):
        resources = grants.get((realm, kind, name), frozenset[str]())
        if isinstance(resources, AnyResource):
            return _listed((realm, kind, name), resources)[0]
        if on is not None and on in resources:
            return _listed((realm, kind, name), frozenset({on}))[0]
    return None


def resources_of(grants: Grants, key: Key) -> Resources:
    """Return the resources that ``grants`` open for one name, itself possibly a wildcard."""
    reached = _NONE
    for name in _covering(key):
        reached = _either(reached, grants.get((key[0], key[1], name), _NONE))
    return reached


def lacking(parent: Grants, child: Grants) -> list[Key]:
    """Return the names that ``child`` grants beyond ``parent``; empty means that parent covers child."""
    lacks: list[Key] = []
    for key, wanted in child.items():
        held = resources_of(parent, key)
        if not isinstance(held, AnyResource) and (isinstance(wanted, AnyResource) or not wanted <= held):
            lacks.append(key)
    return lacks


def common_grants(one: Grants, other: Grants) -> dict[Key, Resources]:
    """Return what two grant alike: a need is met by it where both meet it.

    Of two names that open the same need one covers the other, so the narrower of them stands for both.
    """
    common: dict[Key, Resources] = {}
    for narrower, wider in ((one, other), (other, one)):
        for key, resources in narrower.items():
            both = _both(resources, resources_of(wider, key))
            known = common.get(key, frozenset[str]())
            if isinstance(both, AnyResource) or isinstance(known, AnyResource):
                common[key] = ANY
            elif both:
                common[key] = known | both
    return common


def missing_scopes(held: Held, needs: tuple[Need, ...], on: str | None) -> list[str]:
    """Return the general scopes among the needs that are not met, for ``scope=`` of RFC 6750 section 3."""
    missing: dict[str, None] = {}
    for need in needs:
        if met(held, need, on):
            continue
        if isinstance(need, AnyOf):
            missing.update(dict.fromkeys(missing_scopes(held, need.needs, on)))
        elif isinstance(need, str):
            missing[need] = None
    return list(missing)


def common_scopes(held: Held, on: str | None = None) -> tuple[str, ...]:
    """Return the general scopes, wildcards among them, that all of ``held`` grant on ``on``; None is any resource."""
    keys = dict.fromkeys(key for grants in held for key in grants if key[1] == "scope")
    return tuple(key[2] for key in keys if all(on in resources_of(grants, key) for grants in held))


def describe(need: Need) -> str:
    """Return a need in words, for the one who lacks it."""
    match need:
        case AnyOf(needs=needs):
            return " or ".join(map(describe, needs))
        case str():
            return need
        case _:
            return display(_key_of(need))


def display(key: Key) -> str:
    """Return one name of the grants as ``scope`` shows it: general scopes bare, others under their realm."""
    realm, kind, name = key
    return name if kind == "scope" else f"{quote(realm, safe='')}/{kind}:{_quote_name(name)}"


def flat_list(grants: Grants) -> tuple[str, ...]:
    """Return the read-only ``scope`` of a record: for people to read, never parsed to decide."""
    return tuple(name for key, resources in grants.items() for name in _listed(key, resources))


def _listed(key: Key, resources: Resources) -> list[str]:
    if key[1] == "scope":
        return [display(key)]
    if isinstance(resources, AnyResource):
        return [f"{display(key)}@*"]
    return [f"{display(key)}@{quote(resource, safe='')}" for resource in sorted(resources)]


def _either(one: Resources, other: Resources) -> Resources:
    """Return the resources of both. The objects of a share may be many: a set that holds the other is not copied."""
    if isinstance(one, AnyResource) or isinstance(other, AnyResource):
        return ANY
    if other <= one:
        return one
    return other if one <= other else one | other


def _both(one: Resources, other: Resources) -> Resources:
    if isinstance(one, AnyResource) or isinstance(other, AnyResource):
        return other if isinstance(one, AnyResource) else one
    return one & other


def _key_of(need: str | Permission | Role) -> Key:
    if isinstance(need, str):
        return ("general", "scope", need)
    if isinstance(need, Permission):
        return (need.service or "organization", "permission", need.id)
    return (need.service or "organization", "role", need.name)


def _covering(key: Key) -> Iterator[str]:
    """Yield the names whose grant opens this one: itself, then each wildcard above it."""
    yield key[2]
    if key[1] == "scope":
        parts = key[2].split(":")
        for length in range(len(parts) - 1, 0, -1):
            yield ":".join(parts[:length]) + ":*"
    yield "*"


def _entries(allowed: AllowedScopes) -> Iterator[tuple[Key, Resources]]:
    for index, scope in enumerate(allowed.general_scopes):
        yield ("general", "scope", check_scope(scope, f"allowedScopes.generalScopes[{index}]")), ANY
    member = "allowedScopes.organizationScopes"
    yield from _realm_entries("organization", allowed.organization_scopes, member)
    for index, service in enumerate(allowed.services_scopes):
        member = f"allowedScopes.servicesScopes[{index}]"
        _check_service(service.service_definition_id, f"{member}.serviceDefinitionId")
        yield from _realm_entries(service.service_definition_id, service, member)


def _realm_entries(realm: str, scopes: RealmScopes, member: str) -> Iterator[tuple[Key, Resources]]:
    if scopes.all_permissions:
        if scopes.permissions:
            raise InvalidInput(f"{member}: allPermissions contradicts a list of permissions; give one of them")
        yield (realm, "permission", "*"), ANY
    if scopes.all_roles:
        if scopes.roles:
            raise InvalidInput(f"{member}: allRoles contradicts a list of roles; give one of them")
        yield (realm, "role", "*"), ANY
    for index, permission in enumerate(scopes.permissions):
        place = f"{member}.permissions[{index}]"
        name = _check_name(permission.permission_id, f"{place}.permissionId", "allPermissions")
        yield (realm, "permission", name), _resources(permission.resources, f"{place}.resources")
    for index, role in enumerate(scopes.roles):
        place = f"{member}.roles[{index}]"
        name = _check_name(role.name, f"{place}.name", "allRoles")
        resource = None if role.resource is None else (role.resource,)
        yield (realm, "role", name), _resources(resource, f"{place}.resource")


def _resources(resources: tuple[str, ...] | None, member: str) -> Resources:
    if resources is None or resources == ("*",):
        return ANY
    if not resources:
        raise InvalidInput(f"{member}: an empty list grants nothing; leave it out to mean any resource")
    if "*" in resources:
        raise InvalidInput(f"{member}: '*' means any resource and stands alone")
    for resource in resources:
        check_id(resource, member)
    return frozenset(resources)


def check_scope(scope: object, member: str) -> str:
    """Return ``scope`` if it may be granted, wildcards in their place; InvalidInput names ``member`` otherwise."""
    if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
        raise InvalidInput(f"{member}: {scope!r} is no scope (printable ASCII without space, quote or backslash)")
    if len(scope) > MAX_LENGTH or scope.count(":") >= MAX_SEGMENTS:
        raise InvalidInput(f"{member}: longer than {MAX_LENGTH} characters or {MAX_SEGMENTS} segments")
    if "*" in (scope[:-2] if scope.endswith(":*") else "" if scope == "*" else scope):
        raise InvalidInput(f"{member}: {scope!r} has its '*' in a wrong place; only '*' and a final ':*' are wildcards")
    if "/permission:" in scope or "/role:" in scope:
        raise InvalidInput(
            f"{member}: {scope!r} looks like a permission or role of a realm, which has members of its own"
        )
    return scope


def _check_name(name: object, member: str, instead: str) -> str:
    if name == "*":
        raise InvalidInput(f"{member}: '*' is no name; {instead}: true grants them all")
    return check_id(name, member)


def _check_service(service: object, member: str) -> None:
    if check_id(service, member) in ("general", "organization", "*"):
        raise InvalidInput(f"{member}: {service!r} is the name of a realm and cannot be a service's id")


def _quote_name(name: str) -> str:
    return name if name == "*" else quote(name, safe="")


def as_allowed_scopes(value: Any) -> AllowedScopes:
    """Return ``value``, an AllowedScopes or its JSON shape as a mapping, as an AllowedScopes of not too many grants."""
    try:
        # An instance is converted too: nothing has checked yet what its members are.
        allowed = msgspec.convert(msgspec.to_builtins(value), AllowedScopes)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidInput(f"allowedScopes: {error}") from None
    check_number(allowed)
    return allowed
