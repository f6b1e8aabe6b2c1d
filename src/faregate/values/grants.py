"""Grants, and the resources on which they meet a need: the algebra of every kind of credential.

Grants map ``(realm, kind, name)`` to the resources on which the name is granted. The realm is
``general``, ``organization`` or a service's id. The kind is ``scope``, ``permission`` or ``role``.

The laws:

- A name is covered by itself and by the wildcards above it. ``docs:read`` is covered by ``docs:*``
  and ``*``; a permission or role is covered by the ``*`` of its realm and kind.
- A need is met on the resources of every name that covers it, taken together.
- A need of several alternatives is met where one of them is met.
- If several grants are held together, each of them must meet the need.
- ``ANY`` contains every resource. A need without a resource is met by ``ANY`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from faregate.values.needs import MAX_LENGTH, AnyOf, Key, Need, display, key_of

_REMEMBERED = 64  # needs whose resources are remembered beside the grants


class AnyResource(msgspec.Struct, frozen=True):
    """Contains every resource or object, and None for no resource in particular."""

    def __contains__(self, resource: str | None) -> bool:
        return True

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = AnyResource()

Resources = frozenset[str] | AnyResource
Grants = Mapping[Key, Resources]
Held = tuple[Grants, ...]  # grants that must all meet a need: a credential's, and its owner's

# A shared empty set: Python makes each empty set anew, of 216 bytes.
_NONE: Final[Resources] = frozenset()


class Granted(msgspec.Struct, frozen=True, eq=False):
    """The grants of a credential, ready to be judged. Records with equal grants share it.

    ``scopes`` are the general scopes that are granted by their own name on any resource.
    ``reached`` remembers the resources on which a few needs are met, since routes ask for the same
    needs again and again. It holds no verdict.
    """

    grants: dict[Key, Resources]
    scopes: frozenset[str]
    reached: dict[Need, Resources] = msgspec.field(default_factory=dict[Need, Resources])

    @classmethod
    def of(cls, grants: dict[Key, Resources]) -> Granted:
        """Return ``grants``, ready to be judged."""
        scopes = (
            name
            for (_, kind, name), resources in grants.items()
            if kind == "scope" and "*" not in name and isinstance(resources, AnyResource)
        )
        return cls(grants, frozenset(scopes))

    def reach(self, need: Need) -> Resources:
        """Return the resources on which a need is met. The need must have been checked."""
        resources = self.reached.get(need)
        if resources is None:
            resources = reached_by((self.grants,), need)

            # A caller of the introspection may choose the need. So the number and the length of the
            # remembered needs are bounded.
            if not isinstance(need, str) or len(need) <= MAX_LENGTH:
                if len(self.reached) >= _REMEMBERED:
                    self.reached.clear()
                self.reached[need] = resources
        return resources


def met(held: Held, need: Need, on: str | None) -> bool:
    """Return True if all of ``held`` meet ``need`` on the resource ``on``.

    If ``on`` is None, only grants on any resource meet the need. All of ``held`` must meet the same
    alternative of :func:`~faregate.values.needs.any_of`.
    """
    if isinstance(need, AnyOf):
        return any(met(held, alternative, on) for alternative in need.needs)

    key = key_of(need)
    return all(on in resources_of(grants, key) for grants in held)


def reached_by(held: Held, need: Need) -> Resources:
    """Return the resources on which all of ``held`` meet ``need``."""
    if isinstance(need, AnyOf):
        reached = _NONE
        for alternative in need.needs:
            reached = _union(reached, reached_by(held, alternative))
        return reached

    common: Resources = ANY
    for grants in held:
        common = _intersection(common, resources_of(grants, key_of(need)))
    return common


def resources_of(grants: Grants, key: Key) -> Resources:
    """Return the resources on which ``grants`` cover a name, itself possibly a wildcard."""
    reached = _NONE
    for name in _covering_names(key):
        reached = _union(reached, grants.get((key[0], key[1], name), _NONE))
    return reached


def granting(grants: Grants, need: Need, on: str | None) -> str | None:
    """Return a grant that meets ``need`` on the resource ``on``, in the form of the flat list.

    None if no grant meets it.
    """
    if isinstance(need, AnyOf):
        for alternative in need.needs:
            grant = granting(grants, alternative, on)
            if grant is not None:
                return grant
        return None

    realm, kind, wanted = key_of(need)
    for name in _covering_names((realm, kind, wanted)):
        resources = grants.get((realm, kind, name), _NONE)
        if isinstance(resources, AnyResource):
            return _listed((realm, kind, name), resources)[0]
        if on is not None and on in resources:
            return _listed((realm, kind, name), frozenset({on}))[0]
    return None


def lacking(parent: Grants, child: Grants) -> list[Key]:
    """Return the names that ``child`` grants beyond ``parent``; empty if the parent covers it."""
    lacks: list[Key] = []
    for key, wanted in child.items():
        held = resources_of(parent, key)
        if isinstance(held, AnyResource):
            continue
        if isinstance(wanted, AnyResource) or not wanted <= held:
            lacks.append(key)
    return lacks


def common_grants(left: Grants, right: Grants) -> dict[Key, Resources]:
    """Return the grants that ``left`` and ``right`` have in common.

    The result meets a need where both meet it. If two names cover the same need, the wider name
    covers the narrower name. So the narrower name stands for both.
    """
    common: dict[Key, Resources] = {}
    for narrower, wider in ((left, right), (right, left)):
        for key, resources in narrower.items():
            shared = _intersection(resources, resources_of(wider, key))
            earlier = common.get(key, _NONE)
            if isinstance(shared, AnyResource) or isinstance(earlier, AnyResource):
                common[key] = ANY
            elif shared:
                common[key] = earlier | shared
    return common


def missing_scopes(held: Held, needs: tuple[Need, ...], on: str | None) -> list[str]:
    """Return the general scopes of unmet needs, for the ``scope=`` of RFC 6750 section 3.

    ``on`` is the resource, as for :func:`met`.
    """
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
    """Return the general scopes, with wildcards, that all of ``held`` grant on the resource ``on``.

    If ``on`` is None, the scopes that are granted on any resource.
    """
    keys = dict.fromkeys(key for grants in held for key in grants if key[1] == "scope")
    return tuple(key[2] for key in keys if all(on in resources_of(grants, key) for grants in held))


def flat_list(grants: Grants) -> tuple[str, ...]:
    """Return the read-only ``scope`` of a record: for people to read, never parsed to decide.

    >>> flat_list({("organization", "permission", "edit"): frozenset({"doc/7"})})
    ('organization/permission:edit@doc%2F7',)
    """
    return tuple(entry for key, resources in grants.items() for entry in _listed(key, resources))


def _listed(key: Key, resources: Resources) -> list[str]:
    """Return the entries of the flat list for a name."""
    if key[1] == "scope":
        return [display(key)]
    if isinstance(resources, AnyResource):
        return [f"{display(key)}@*"]
    return [f"{display(key)}@{quote(resource, safe='')}" for resource in sorted(resources)]


def _union(left: Resources, right: Resources) -> Resources:
    """Return the resources of either. A superset is not copied: a share may have many objects."""
    if isinstance(left, AnyResource) or isinstance(right, AnyResource):
        return ANY
    if right <= left:
        return left
    if left <= right:
        return right
    return left | right


def _intersection(left: Resources, right: Resources) -> Resources:
    if isinstance(left, AnyResource):
        return right
    if isinstance(right, AnyResource):
        return left
    return left & right


def _covering_names(key: Key) -> Iterator[str]:
    """Yield the names that cover a name: itself, then each wildcard above it."""
    yield key[2]
    if key[1] == "scope":
        segments = key[2].split(":")
        for length in range(len(segments) - 1, 0, -1):
            yield ":".join(segments[:length]) + ":*"
    yield "*"
