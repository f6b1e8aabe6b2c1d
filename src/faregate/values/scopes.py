"""Scopes that a record is given: their rules, and the grants that they compile into.

An :class:`~faregate.model.AllowedScopes` compiles, once per record, into a mapping ``(realm,
kind, name) -> resources``; :mod:`faregate.values.grants` says how it is judged.

The laws:

- A structure that contradicts itself is refused: all permissions and a list of them, a ``*`` beside
  other resources, an empty list of resources.
- A general scope is a wildcard as ``*`` or with a final ``:*``. A star has no other place.
- No permission or role is called ``*``. In the grants this name stands for all of a realm.
- The number and the size of scopes are limited when they are written. A stored record with more
  scopes goes on as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from faregate.errors import InvalidInput
from faregate.model import AllowedScopes
from faregate.values.grants import ANY, AnyResource, flat_list
from faregate.values.names import check_id
from faregate.values.needs import MAX_LENGTH, MAX_SEGMENTS, SCOPE_TOKEN, check_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faregate.model import RealmScopes
    from faregate.values.grants import Grants, Resources
    from faregate.values.needs import Key

MAX_SCOPES = 1000

# Of the scopes and their flat list as JSON: a record that is shown fits into a request.
MAX_BYTES = 393_216


def as_allowed_scopes(value: Any) -> AllowedScopes:
    """Return ``value`` as an AllowedScopes.

    ``value`` is an AllowedScopes, or a mapping of the shape of its JSON.

    Raises InvalidInput for any other value, and for too many scopes, as :func:`check_number`.
    """
    # An instance is converted too: nothing has checked the types of its members yet.
    try:
        allowed = msgspec.convert(msgspec.to_builtins(value), AllowedScopes)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidInput(f"allowedScopes: {error}") from None
    # A half surrogate, where msgspec encodes a text.
    except UnicodeEncodeError:
        raise InvalidInput("allowedScopes: a text cannot be written as UTF-8") from None

    check_number(allowed)
    return allowed


def check_number(allowed: AllowedScopes) -> None:
    """Raise InvalidInput for more than 1,000 scopes, services, permissions and roles together.

    A permission counts once for each of its resources.
    """
    number = len(allowed.general_scopes) + len(allowed.services_scopes)
    for realm in (allowed.organization_scopes, *allowed.services_scopes):
        number += len(realm.roles)
        number += sum(len(permission.resources or "*") for permission in realm.permissions)

    if number > MAX_SCOPES:
        raise InvalidInput(
            f"allowedScopes: at most {MAX_SCOPES} scopes, services, permissions with each of their "
            "resources, and roles"
        )


def check_size(allowed: AllowedScopes, grants: Grants) -> None:
    """Raise InvalidInput for more than 384 KiB of JSON: the scopes, and the flat list of them.

    In the flat list each grant repeats the names of its realm and kind.
    """
    import json  # noqa: PLC0415  only writers of scopes wait for the import

    # The size in ASCII, since JSON may be written like this.
    size = len(json.dumps((msgspec.to_builtins(allowed), flat_list(grants))))
    if size > MAX_BYTES:
        raise InvalidInput(
            f"allowedScopes: {size:,} bytes of JSON together with the flat list in scope; at most "
            f"{MAX_BYTES:,}"
        )


def check_scope(scope: object, member: str) -> str:
    """Return ``scope`` if it is a general scope that may be granted.

    Raises InvalidInput, naming ``member``, for a text that is no scope-token (RFC 6749 section
    3.3), more than 512 characters or 32 segments, a misplaced ``*``, and a text that looks like a
    permission or role.
    """
    if not isinstance(scope, str) or not SCOPE_TOKEN.fullmatch(scope):
        raise InvalidInput(
            f"{member}: {scope!r} is not a scope; use printable ASCII without space, quote or "
            "backslash"
        )
    if len(scope) > MAX_LENGTH or scope.count(":") >= MAX_SEGMENTS:
        raise InvalidInput(
            f"{member}: longer than {MAX_LENGTH} characters or {MAX_SEGMENTS} segments"
        )
    if scope != "*" and "*" in scope.removesuffix(":*"):
        raise InvalidInput(
            f"{member}: {scope!r} has its '*' in a wrong place; only '*' and a final ':*' are "
            "wildcards"
        )
    if "/permission:" in scope or "/role:" in scope:
        raise InvalidInput(
            f"{member}: {scope!r} looks like a permission or role; grant it in organizationScopes "
            "or servicesScopes"
        )
    return scope


def compile_grants(allowed: AllowedScopes) -> dict[Key, Resources]:
    """Return the grants of an AllowedScopes.

    Raises InvalidInput, naming the member, for scopes that break the laws of this module.
    """
    grants: dict[Key, Resources] = {}
    for key, resources in _entries(allowed):
        earlier = grants.get(key, frozenset[str]())
        if isinstance(earlier, AnyResource) or isinstance(resources, AnyResource):
            grants[key] = ANY
        else:
            grants[key] = earlier | resources
    return grants


def _entries(allowed: AllowedScopes) -> Iterator[tuple[Key, Resources]]:
    """Yield the key and the resources of each scope, checked; a key may come several times."""
    for index, scope in enumerate(allowed.general_scopes):
        name = check_scope(scope, f"allowedScopes.generalScopes[{index}]")
        yield ("general", "scope", name), ANY

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
                f"{member}: allPermissions contradicts a list of permissions; give either of them"
            )
        yield (realm, "permission", "*"), ANY

    if scopes.all_roles:
        if scopes.roles:
            raise InvalidInput(
                f"{member}: allRoles contradicts a list of roles; give either of them"
            )
        yield (realm, "role", "*"), ANY

    for index, permission in enumerate(scopes.permissions):
        place = f"{member}.permissions[{index}]"
        name = _check_grant(permission.permission_id, f"{place}.permissionId", "allPermissions")
        yield (realm, "permission", name), _resources(permission.resources, f"{place}.resources")

    for index, role in enumerate(scopes.roles):
        place = f"{member}.roles[{index}]"
        name = _check_grant(role.name, f"{place}.name", "allRoles")
        resource = None if role.resource is None else (role.resource,)
        yield (realm, "role", name), _resources(resource, f"{place}.resource")


def _check_grant(name: object, member: str, alternative: str) -> str:
    """Return the name of a permission or role; the ``alternative`` member grants all of them."""
    if name == "*":
        raise InvalidInput(f"{member}: '*' is not allowed; set {alternative} to true instead")
    return check_id(name, member)


def _resources(resources: tuple[str, ...] | None, member: str) -> Resources:
    if resources is None or resources == ("*",):
        return ANY

    if not resources:
        raise InvalidInput(
            f"{member}: an empty list grants nothing; leave it out to grant any resource"
        )
    if "*" in resources:
        raise InvalidInput(f"{member}: '*' grants any resource and stands alone")

    for resource in resources:
        check_id(resource, member)
    return frozenset(resources)
