"""Grants, and whether they meet a need: one algebra for every kind of credential."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote

import msgspec

from faregate.values.needs import MAX_LENGTH, AnyOf, Key, Need, display, key_of

_REMEMBERED = 64  # needs whose resources are remembered beside the grants


class AnyResource(msgspec.Struct, frozen=True):
    """Every resource or object there is, and none in particular: None is in it, too."""

    def __contains__(self, resource: str | None) -> bool:
        return True

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = AnyResource()


Resources = frozenset[str] | AnyResource


_NONE: Final[Resources] = (
    frozenset()
)  # always the same one: Python makes each empty set anew, of 216 bytes


Grants = Mapping[Key, Resources]


Held = tuple[Grants, ...]  # what must all be wide enough: a credential's grants, and its owner's


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


def met(held: Held, need: Need, on: str | None) -> bool:
    """Tell whether all of ``held`` meet ``need`` on the resource ``on``; None asks for a grant on any resource.

    One of several needs is met where all of them meet that same one.
    """
    if isinstance(need, AnyOf):
        return any(met(held, one, on) for one in need.needs)
    key = key_of(need)
    return all(on in resources_of(grants, key) for grants in held)


def reached_by(held: Held, need: Need) -> Resources:
    """Return the resources on which all of ``held`` meet ``need``."""
    if not isinstance(need, AnyOf):
        common: Resources = ANY
        for grants in held:
            common = _both(common, resources_of(grants, key_of(need)))
        return common
    reached = _NONE
    for one in need.needs:
        reached = _either(reached, reached_by(held, one))
    return reached


def granting(grants: Grants, need: Need, on: str | None) -> str | None:
    """Return the name of one grant that meets a need on a resource, as ``scope`` shows it; None if there is none."""
    if isinstance(need, AnyOf):
        return next(
            (name for one in need.needs if (name := granting(grants, one, on)) is not None), None
        )
    realm, kind, wanted = key_of(need)
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
        if not isinstance(held, AnyResource) and (
            isinstance(wanted, AnyResource) or not wanted <= held
        ):
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


def _covering(key: Key) -> Iterator[str]:
    """Yield the names whose grant opens this one: itself, then each wildcard above it."""
    yield key[2]
    if key[1] == "scope":
        parts = key[2].split(":")
        for length in range(len(parts) - 1, 0, -1):
            yield ":".join(parts[:length]) + ":*"
    yield "*"
