"""Needs: scopes, permissions and roles that a route asks for."""

from __future__ import annotations

import re
from typing import cast
from urllib.parse import quote

import msgspec

from faregate.errors import InvalidInput
from faregate.values.names import check_id

Key = tuple[str, str, str]  # realm, kind, name

MAX_LENGTH = 512
MAX_SEGMENTS = 32  # each one is a look-up where a need or a child is judged

SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # the scope-token of RFC 6749 section 3.3


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
            case str() if not SCOPE_TOKEN.fullmatch(need):
                raise InvalidInput(f"need {need!r}: not a scope of RFC 6749 section 3.3")
            case str() if need.count(":") >= MAX_SEGMENTS:  # the text may come from a client
                raise InvalidInput(f"need {need[:64]!r}…: more than {MAX_SEGMENTS} segments")
            case str() if "*" in need:
                raise InvalidInput(
                    f"need {need!r}: a need names one scope; wildcards are for grants"
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


def describe(need: Need) -> str:
    """Return a need in words, for the one who lacks it."""
    match need:
        case AnyOf(needs=needs):
            return " or ".join(map(describe, needs))
        case str():
            return need
        case _:
            return display(key_of(need))


def display(key: Key) -> str:
    """Return one name of the grants as ``scope`` shows it: general scopes bare, others under their realm."""
    realm, kind, name = key
    return name if kind == "scope" else f"{quote(realm, safe='')}/{kind}:{_quote_name(name)}"


def key_of(need: str | Permission | Role) -> Key:
    """Return the name under which grants are looked up for a need."""
    if isinstance(need, str):
        return ("general", "scope", need)
    if isinstance(need, Permission):
        return (need.service or "organization", "permission", need.id)
    return (need.service or "organization", "role", need.name)


def check_service(service: object, member: str) -> None:
    """Raise InvalidInput unless ``service`` can be the id of a service."""
    if check_id(service, member) in ("general", "organization", "*"):
        raise InvalidInput(
            f"{member}: {service!r} is the name of a realm and cannot be a service's id"
        )


def _quote_name(name: str) -> str:
    return name if name == "*" else quote(name, safe="")
