"""What is granted, what is needed, and when the one is enough for the other.

An :class:`AllowedScopes` compiles, once per record, into one mapping ``(realm, kind, name) -> resources``.
The realm is ``general``, ``organization`` or a service's id; the kind is ``scope``, ``permission`` or ``role``;
resources are a set or ANY. A name may be a wildcard: ``docs:*`` and ``*`` for general scopes, ``*`` for all
permissions or roles of a realm (no permission or role may itself be called ``*``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from faregate.errors import InvalidInput
from faregate.model import AllowedScopes, RealmScopes
from faregate.values.grants import ANY, AnyResource, Grants, Resources, flat_list
from faregate.values.names import check_id
from faregate.values.needs import MAX_LENGTH, MAX_SEGMENTS, SCOPE_TOKEN, Key, check_service

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SCOPES = 1000
MAX_BYTES = 393_216  # of all that is granted, in both forms of JSON: a record fits into a request as it is shown


def compile_grants(allowed: AllowedScopes) -> dict[Key, Resources]:
    """Return the grants of an AllowedScopes; InvalidInput names the member that contradicts the rules."""
    grants: dict[Key, Resources] = {}
    for key, resources in _entries(allowed):
        known = grants.get(key, frozenset[str]())
        grants[key] = (
            ANY
            if isinstance(known, AnyResource) or isinstance(resources, AnyResource)
            else known | resources
        )
    return grants


def check_number(allowed: AllowedScopes) -> None:
    """Raise InvalidInput for more grants than a record may be given; a permission counts once for each resource.

    For what is written: a record of before that has more goes on as it is.
    """
    realms = (allowed.organization_scopes, *allowed.services_scopes)
    entries = len(allowed.general_scopes) + len(allowed.services_scopes)
    for realm in realms:
        entries += len(realm.roles) + sum(
            len(permission.resources or "*") for permission in realm.permissions
        )
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


def _entries(allowed: AllowedScopes) -> Iterator[tuple[Key, Resources]]:
    for index, scope in enumerate(allowed.general_scopes):
        yield ("general", "scope", check_scope(scope, f"allowedScopes.generalScopes[{index}]")), ANY
    member = "allowedScopes.organizationScopes"
    yield from _realm_entries("organization", allowed.organization_scopes, member)
    for index, service in enumerate(allowed.services_scopes):
        member = f"allowedScopes.servicesScopes[{index}]"
        check_service(service.service_definition_id, f"{member}.serviceDefinitionId")
        yield from _realm_entries(service.service_definition_id, service, member)


def _realm_entries(realm: str, scopes: RealmScopes, member: str) -> Iterator[tuple[Key, Resources]]:
    if scopes.all_permissions:
        if scopes.permissions:
            raise InvalidInput(
                f"{member}: allPermissions contradicts a list of permissions; give one of them"
            )
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
        raise InvalidInput(
            f"{member}: an empty list grants nothing; leave it out to mean any resource"
        )
    if "*" in resources:
        raise InvalidInput(f"{member}: '*' means any resource and stands alone")
    for resource in resources:
        check_id(resource, member)
    return frozenset(resources)


def check_scope(scope: object, member: str) -> str:
    """Return ``scope`` if it may be granted, wildcards in their place; InvalidInput names ``member`` otherwise."""
    if not isinstance(scope, str) or not SCOPE_TOKEN.fullmatch(scope):
        raise InvalidInput(
            f"{member}: {scope!r} is no scope (printable ASCII without space, quote or backslash)"
        )
    if len(scope) > MAX_LENGTH or scope.count(":") >= MAX_SEGMENTS:
        raise InvalidInput(
            f"{member}: longer than {MAX_LENGTH} characters or {MAX_SEGMENTS} segments"
        )
    if "*" in (scope[:-2] if scope.endswith(":*") else "" if scope == "*" else scope):
        raise InvalidInput(
            f"{member}: {scope!r} has its '*' in a wrong place; only '*' and a final ':*' are wildcards"
        )
    if "/permission:" in scope or "/role:" in scope:
        raise InvalidInput(
            f"{member}: {scope!r} looks like a permission or role of a realm, which has members of its own"
        )
    return scope


def _check_name(name: object, member: str, instead: str) -> str:
    if name == "*":
        raise InvalidInput(f"{member}: '*' is no name; {instead}: true grants them all")
    return check_id(name, member)


def as_allowed_scopes(value: Any) -> AllowedScopes:
    """Return ``value``, an AllowedScopes or its JSON shape as a mapping, as an AllowedScopes of not too many grants."""
    try:
        # An instance is converted too: nothing has checked yet what its members are.
        allowed = msgspec.convert(msgspec.to_builtins(value), AllowedScopes)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidInput(f"allowedScopes: {error}") from None
    check_number(allowed)
    return allowed
