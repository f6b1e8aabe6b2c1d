"""The scopes that introspection lists for an exchanged credential: the scopes kept in the token.

The law: ``keptInToken`` of a realm keeps its permissions, its roles, both or neither. General
scopes are always kept. The list shows no more than the credential grants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from faregate.model import AllowedScopes, PermissionGrant, RealmScopes, RoleGrant
from faregate.values.grants import AnyResource, common_grants
from faregate.values.scopes import compile_grants

if TYPE_CHECKING:
    from collections.abc import Iterable

    from faregate.model import ServiceScopes
    from faregate.values.grants import Grants, Resources
    from faregate.values.needs import Key

Realm = TypeVar("Realm", bound=RealmScopes)


def kept_grants(allowed: AllowedScopes, grants: Grants) -> dict[Key, Resources]:
    """Return the part of ``grants`` that ``allowed`` keeps in the token."""
    kept = msgspec.structs.replace(
        allowed,
        organization_scopes=_kept_of(allowed.organization_scopes),
        services_scopes=tuple(map(_kept_of, allowed.services_scopes)),
    )
    return common_grants(compile_grants(kept), grants)


def as_scopes_of(allowed: AllowedScopes, grants: Grants) -> AllowedScopes:
    """Return ``grants`` in the form of ``allowed``, realm by realm."""
    return AllowedScopes(
        general_scopes=tuple(name for _, kind, name in grants if kind == "scope"),
        organization_scopes=_realm_of(allowed.organization_scopes, "organization", grants),
        services_scopes=tuple(
            _realm_of(service, service.service_definition_id, grants)
            for service in _united_services(allowed)
        ),
    )


def _kept_of(realm: Realm) -> Realm:
    """Return a realm without the permissions and roles that it does not keep in the token."""
    if "PERMISSIONS" not in realm.kept_in_token:
        realm = msgspec.structs.replace(realm, all_permissions=False, permissions=())
    if "ROLES" not in realm.kept_in_token:
        realm = msgspec.structs.replace(realm, all_roles=False, roles=())
    return realm


def _united_services(allowed: AllowedScopes) -> Iterable[ServiceScopes]:
    """Return each service once. Its ``keptInToken`` is the union of all its entries'."""
    united: dict[str, ServiceScopes] = {}
    for service in allowed.services_scopes:
        known = united.get(service.service_definition_id, service)
        kept = tuple(dict.fromkeys(known.kept_in_token + service.kept_in_token))
        united[service.service_definition_id] = msgspec.structs.replace(service, kept_in_token=kept)
    return united.values()


def _realm_of(realm: Realm, name: str, grants: Grants) -> Realm:
    """Return the grants of a realm. ``*`` among them stands for all of their kind."""
    permissions = _named_grants(name, "permission", grants)
    roles = _named_grants(name, "role", grants)
    listed_permissions = tuple(
        PermissionGrant(permission, resources) for permission, resources in permissions.items()
    )
    listed_roles = tuple(
        RoleGrant(role, resource)
        for role, resources in roles.items()
        for resource in resources or (None,)
    )

    all_permissions = "*" in permissions
    if all_permissions:
        listed_permissions = ()

    all_roles = "*" in roles
    if all_roles:
        listed_roles = ()

    return msgspec.structs.replace(
        realm,
        all_permissions=all_permissions,
        all_roles=all_roles,
        permissions=listed_permissions,
        roles=listed_roles,
    )


def _named_grants(realm: str, kind: str, grants: Grants) -> dict[str, tuple[str, ...] | None]:
    """Return the resources of each name of a realm and kind; None for any resource."""
    return {
        name: None if isinstance(resources, AnyResource) else tuple(sorted(resources))
        for (its_realm, its_kind, name), resources in grants.items()
        if (its_realm, its_kind) == (realm, kind)
    }
