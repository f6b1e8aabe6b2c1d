"""Needs: scopes, permissions and roles that a route asks for.

The law: a need names one scope, permission or role, or several alternatives, and never a wildcard.
A need has no more segments than a scope that is granted.
"""

from __future__ import annotations

import re
from typing import cast
from urllib.parse import quote

import msgspec

from faregate.errors import InvalidInput
from faregate.values.names import check_id

Key = tuple[str, str, str]  # realm, kind, name

MAX_LENGTH = 512  # characters of a general scope
MAX_SEGMENTS = 32  # of a general scope; each segment costs a look-up when a need is judged

SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # the scope-token of RFC 6749 section 3.3


class Permission(msgspec.Struct, frozen=True):
    """The need for a permission of the organization, or of the service with the id ``service``."""

    id: str
    service: str | None = None


class Role(msgspec.Struct, frozen=True):
    """The need for a role of the organization, or of the service with the id ``service``."""

    name: str
    service: str | None = None


class AnyOf(msgspec.Struct, frozen=True):
    """The need for any of several alternatives; made by :func:`any_of`."""

    needs: tuple[Need, ...]


Need = str | Permission | Role | AnyOf


def any_of(*needs: Need) -> AnyOf:
    """Return a need that is met if any of ``needs`` is met.

    >>> any_of("docs:write", Role("editor")).needs
    ('docs:write', Role(name='editor', service=None))

    Raises InvalidInput if there are no needs, and for the reasons of :func:`check_needs`.
    """
    if not needs:
        raise InvalidInput("any_of: name at least one need")
    return AnyOf(check_needs(needs))


def check_needs(needs: tuple[object, ...]) -> tuple[Need, ...]:
    """Return ``needs`` unchanged if each of them is a need.

    Raises InvalidInput for a wildcard, a text that is no scope-token (RFC 6749 section 3.3), a
    scope with more than 32 segments, an impossible name, and any other type.
    """
    for need in needs:
        match need:
            case str() if not SCOPE_TOKEN.fullmatch(need):
                raise InvalidInput(f"need {need!r}: not a scope of RFC 6749 section 3.3")

            # A client may choose the text, so the error quotes its beginning only.
            case str() if need.count(":") >= MAX_SEGMENTS:
                raise InvalidInput(f"need {need[:64]!r}…: more than {MAX_SEGMENTS} segments")

            case str() if "*" in need:
                raise InvalidInput(
                    f"need {need!r}: wildcards are for grants only; name a single scope"
                )

            case Permission(id=str(name), service=service) | Role(name=str(name), service=service):
                check_id(name, "need")
                if service is not None:
                    check_service(service, "need")

            case str() | AnyOf():
                pass

            case _:
                raise InvalidInput(
                    f"need {need!r}: expected a scope, Permission(…), Role(…) or any_of(…)"
                )
    return cast("tuple[Need, ...]", needs)


def check_service(service: object, member: str) -> None:
    """Raise InvalidInput, naming ``member``, unless ``service`` can be the id of a service."""
    if check_id(service, member) in ("general", "organization", "*"):
        raise InvalidInput(
            f"{member}: {service!r} is the name of a realm; it cannot be a service's id"
        )


def describe(need: Need) -> str:
    """Return a need in words, for a caller whose credential does not meet it."""
    match need:
        case AnyOf(needs=needs):
            return " or ".join(map(describe, needs))
        case str():
            return need
        case _:
            return display(key_of(need))


def key_of(need: str | Permission | Role) -> Key:
    """Return the key under which grants are looked up for a need."""
    if isinstance(need, str):
        return ("general", "scope", need)
    if isinstance(need, Permission):
        return (need.service or "organization", "permission", need.id)
    return (need.service or "organization", "role", need.name)


def display(key: Key) -> str:
    """Return a key for people to read: a scope as it is, other names behind their realm and kind.

    >>> display(("organization", "role", "site editor"))
    'organization/role:site%20editor'
    """
    realm, kind, name = key
    if kind == "scope":
        return name

    # Only the wildcard is called "*"; a star within a name is quoted.
    if name != "*":
        name = quote(name, safe="")
    return f"{quote(realm, safe='')}/{kind}:{name}"
