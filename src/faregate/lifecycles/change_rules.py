"""The rules that a new or changed record must respect, whoever makes it."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec

from faregate.decision.compiled import covers
from faregate.errors import Conflict, InvalidInput
from faregate.fields.token_fields import REFRESH
from faregate.values.instants import parse_instant

if TYPE_CHECKING:
    from faregate.decision.compiled import CompiledCredential
    from faregate.fields.field import Columns, Row
    from faregate.lifecycles.authority import Actor
    from faregate.model import Share, Token

# These move by themselves: a value that was read some time ago was right when it was read.
_MOVING = frozenset({"lastUsedAt", "redemptions"})


def keep_parties(given: Columns, stored: Row, *, update: bool) -> Columns:
    """Return ``given``, with omitted parts of an owner or organization as they are stored.

    An owner given with the stored id is merged into the stored owner; a different id replaces it.
    The same holds for an organization. In an ``update`` an id that is left out, or null, is the
    stored id: a record does not become ownerless by an omission.
    """
    merged = dict(given)
    for party in ("owner", "org"):
        columns = [column for column in given if column.startswith(f"{party}_")]
        same_ids = [stored[f"{party}_id"]]
        if update:
            same_ids.append(None)
        if columns and given[f"{party}_id"] in same_ids:
            merged |= {column: stored[column] for column in columns if given[column] is None}
    return merged


def check_times(columns: Row, now: float) -> None:
    """Raise InvalidInput unless a record expires after ``now`` and after it starts."""
    expires = columns["expires_at"]
    begins = columns["not_before"]
    if expires is not None and expires <= now:
        raise InvalidInput("expiresAt: lies in the past")
    if expires is not None and begins is not None and expires <= begins:
        raise InvalidInput("expiresAt: must be after notBefore")


def check_type(columns: Row) -> None:
    """Raise InvalidInput unless a token has the fields of its type."""
    rotates = columns["require_rotation"]
    if columns["type"] != REFRESH:
        if rotates is not None:
            raise InvalidInput("requireRotation: only for type REFRESH; leave it out")
        return
    if not isinstance(rotates, bool):
        raise InvalidInput("requireRotation: true or false")
    if columns["expires_at"] is None:
        raise InvalidInput("expiresAt: required for type REFRESH; null is not allowed")


def check_change_of_times(before: Row, after: Row, now: float) -> None:
    """Raise Conflict for a new expiry of an expired token, InvalidInput for bad times."""
    if after["expires_at"] != before["expires_at"]:
        if before["expires_at"] is not None and before["expires_at"] <= now:
            raise Conflict(
                "The token has expired; its expiry cannot change any more. Create a new one."
            )
        check_times(after, now)
    elif after["not_before"] != before["not_before"]:
        # An expiry that stays may lie in the past.
        check_times(after, -inf)


def check_change_of_share(before: Row, after: Row, now: float) -> None:
    """Raise Conflict for a revoked share, InvalidInput for an end in the past."""
    if before["revoked_at"] is not None:
        raise Conflict("The share was revoked, which is final. Create a new one.")
    if after["expires_at"] != before["expires_at"]:
        check_times(after, now)


def stops_rotation(before: Row, after: Row) -> bool:
    """Return True if a change turns rotation off: then a stolen token is no longer detected."""
    return before["require_rotation"] is True and after["require_rotation"] is not True


def allows_more_redemptions(before: Row, after: Row) -> bool:
    """Return True if a share could be redeemed more often after a change than before it."""
    most = before["max_redemptions"]
    limit = after["max_redemptions"]
    return most is not None and (limit is None or limit > most)


def require_covered_change(
    actor: Actor, before: CompiledCredential, after: CompiledCredential, *, loosens: bool
) -> None:
    """Raise Denied unless a change narrows a record, or its actor covers the record after it.

    ``loosens`` says that the change widens the record in a way that its limits do not show.
    """
    if loosens or not covers(before, after):
        actor.require_cover(after)


def check_unchanged(record: Token | Share, sent: Mapping[str, Any]) -> None:
    """Raise InvalidInput if a read-only member was sent with another value than GET shows.

    ``sent`` has the names of JSON. Instants are compared as instants, however they are written.
    """
    # Python callers are not all type-checked.
    if not isinstance(sent, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput("unchanged: expected a mapping of names in JSON to values")
    shown = msgspec.json.decode(msgspec.json.encode(record))
    for name, value in sent.items():
        if name not in shown:
            raise InvalidInput(f"unchanged: {name!r} is no field of this record")
        given = value
        known = shown[name]
        if name.endswith(("At", "On")):
            given = None if value is None else parse_instant(value, name)
            known = None if known is None else parse_instant(known, name)

        was_so = name in _MOVING and (given is None or (known is not None and given <= known))
        if given != known and not was_so:
            raise InvalidInput(f"{name}: cannot be changed; leave it out or send it as it is")
