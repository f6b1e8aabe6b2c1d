"""The members of a share as callers give them, and the columns that they become; and the way back.

``params`` has the names of JSON in Python too. A member that is not known is refused: a misspelt limit
must not be kept in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast

import msgspec

from faregate.decision.compiled import CompiledCredential, compile_share
from faregate.errors import Conflict, InvalidInput
from faregate.lifecycles.token_fields import (
    Columns,
    Values,
    as_list,
    check_times,
    expires_column,
    network_columns,
    owner_of,
)
from faregate.model import Org, Share, ShareParams, State
from faregate.stores.stored_values import stored_networks, stored_texts
from faregate.values.identifiers import new_id
from faregate.values.instants import Instant, as_datetime
from faregate.values.names import check_id
from faregate.values.networks import Networks
from faregate.values.scopes import MAX_BYTES, MAX_SCOPES, check_scope
from faregate.values.strict_json import MAX_DEPTH

if TYPE_CHECKING:
    from datetime import timedelta

MAX_OBJECTS = 1000
MAX_OBJECT_BYTES = 512
MAX_ATTRIBUTES = 65_536  # bytes of their JSON
MAX_COUNT = 2**31 - 1


class Lifetime(TypedDict, total=False):
    """Until when: an instant or a span; a share always has an end."""

    expires_at: Instant
    expires_in: timedelta | float


class ShareFields(Lifetime, total=False):
    """What may be left out of a share; ``scopes`` may stand beside ``params`` or in it."""

    scopes: Sequence[str]
    params: Mapping[str, Any]


class ShareChanges(Lifetime, total=False):
    """What may be changed of a share: its end and, member by member, its ``params``."""

    params: Mapping[str, Any]


SHARE_CHANGES = ShareChanges.__optional_keys__


def object_list(object_id: object, object_ids: object) -> list[str]:
    """Return the objects of a share: the first one first, each once, in their order."""
    listed = as_list(object_ids, "objectIds", MAX_OBJECTS)
    given = [
        (object_id, "objectId"),
        *((one, f"objectIds[{index}]") for index, one in enumerate(listed)),
    ]
    objects = list(dict.fromkeys(_object(one, member) for one, member in given))
    if len(objects) > MAX_OBJECTS:
        raise InvalidInput(f"objectIds: at most {MAX_OBJECTS} objects")
    return objects


def given_share_columns(
    members: ShareFields | ShareChanges, now: float, stored: Columns | None = None
) -> Values:
    """Return the columns of the members that were given; InvalidInput names the member that cannot be taken.

    ``params`` is merged into those of ``stored`` (RFC 7396): null takes a member away.
    """
    values: Values = {}
    if members.keys() & {"expires_at", "expires_in"}:
        values["expires_at"] = expires_column(members, now)
        if values["expires_at"] is None:
            raise InvalidInput("expiresAt: a share has an end; give an instant")
    params = _params(members.get("params", {}))
    if "scopes" in members:
        if "scopes" in params:
            raise InvalidInput("scopes, params.scopes: give one of them")
        params = {**params, "scopes": members.get("scopes")}
    for member, value in params.items():
        values |= _READERS[member](value, stored)
    return values


def blank_share_columns(now: float) -> Values:
    """Return the columns of a new share that no caller gives."""
    return {
        "id": new_id(),
        "max_redemptions": None,
        "attributes": None,
        "redemptions": 0,
        "created_at": now,
        "updated_at": now,
        "revoked_at": None,
    }


def share_limits(columns: Columns, *, secret: bool = False) -> CompiledCredential:
    """Return the record that a share's columns amount to; for its ``secret``, which may be for redemption only."""
    return compile_share(
        record_id=columns["id"],
        shared_by=owner_of(columns),
        org=Org(columns["org_id"], columns["org_name"]),
        scopes=stored_texts(columns["scopes"]),
        object_ids=stored_texts(columns["object_ids"]),
        networks=stored_networks(
            columns["allowed_cidr_blocks"], columns["networks"], columns["id"]
        ),
        not_before=columns["not_before"],
        expires_at=columns["expires_at"] or 0.0,
        revoked=columns["revoked_at"] is not None,
        redeem_only=secret and columns["max_redemptions"] is not None,
    )


def share_of(columns: Columns, now: float, *, gone: bool = False) -> Share:
    """Return the share that has these columns, in the state that it is in now; ``gone`` is its maker's owner."""
    objects = stored_texts(columns["object_ids"])
    expired = (columns["expires_at"] or 0.0) <= now
    instants = ("created_at", "updated_at", "expires_at", "revoked_at")
    revoked = columns["revoked_at"] is not None
    state: State = (
        "deactivated" if gone else "revoked" if revoked else "expired" if expired else "live"
    )
    dates: Values = {column: as_datetime(columns[column]) for column in instants}
    return Share(
        **dates,
        id=columns["id"],
        object_id=next(iter(objects), ""),
        object_ids=objects,
        params=ShareParams(
            scopes=stored_texts(columns["scopes"]),
            allowed_cidr_blocks=stored_texts(columns["allowed_cidr_blocks"]),
            max_redemptions=columns["max_redemptions"],
            attributes=_stored_attributes(columns),
        ),
        redemptions=columns["redemptions"],
        state=state,
        org=Org(columns["org_id"], columns["org_name"]),
        made_by=columns["made_by"],
    )


def loosens(before: Columns, after: Columns) -> bool:
    """Tell whether a share could be redeemed more often after a change than before it."""
    most, now = before["max_redemptions"], after["max_redemptions"]
    return most is not None and (now is None or now > most)


def check_share_change(before: Columns, after: Columns, now: float) -> None:
    """Raise Conflict for a share that was revoked, InvalidInput for an end that lies in the past."""
    if before["revoked_at"] is not None:
        raise Conflict("The share was revoked, which is final. Create a new one.")
    if after["expires_at"] != before["expires_at"]:
        check_times(after, now)


def _params(params: object) -> Mapping[str, Any]:
    if not isinstance(params, Mapping):
        raise InvalidInput("params: expected an object")
    given = cast("Mapping[str, Any]", params)
    for member in given:
        if member not in _READERS:
            raise InvalidInput(
                f"params.{str(member)[:64]}: no such member; there are {', '.join(_READERS)}"
            )
    return given


def _object(value: object, member: str) -> str:
    text = check_id(value, member)
    if len(text.encode()) > MAX_OBJECT_BYTES:
        raise InvalidInput(f"{member}: at most {MAX_OBJECT_BYTES} bytes")
    return text


def _scopes(value: object, _: Columns | None) -> Values:
    scopes = list(
        dict.fromkeys(
            _scope(one, f"scopes[{n}]")
            for n, one in enumerate(as_list(value, "scopes", MAX_SCOPES))
        )
    )
    if not scopes:
        raise InvalidInput("scopes: name at least one; a share without a scope opens nothing")
    text = msgspec.json.encode(scopes).decode()
    if len(text) > MAX_BYTES:
        raise InvalidInput(f"scopes: {len(text):,} bytes, at most {MAX_BYTES:,}")
    return {"scopes": text}


def _scope(value: object, member: str) -> str:
    scope = check_scope(value, member)
    if scope == "*" or scope.startswith("gate:"):
        raise InvalidInput(
            f"{member}: {scope!r} cannot be shared; name what the objects are shared for"
        )
    return scope


def _networks(value: object, _: Columns | None) -> Values:
    blocks = [] if value is None else as_list(value, "params.allowedCidrBlocks")
    return network_columns(Networks.parse(blocks, "params.allowedCidrBlocks"))


def _max_redemptions(value: object, _: Columns | None) -> Values:
    count = value is None or (
        isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_COUNT
    )
    if not count:
        raise InvalidInput("params.maxRedemptions: a whole number from 1 on, or null for no limit")
    return {"max_redemptions": value}


def _attributes(value: object, stored: Columns | None) -> Values:
    if value is None:
        return {"attributes": None}
    if not isinstance(value, dict):
        raise InvalidInput("params.attributes: expected an object")
    given = cast("dict[str, Any]", value)
    _check_json(given, MAX_DEPTH)
    try:
        text = _json(given)
        before = None if stored is None else _stored_attributes(stored)
        if (
            stored is not None and _json(before) != text
        ):  # what was read may be put back, its nulls too
            text = _json(_merge(before, given))
        size = len(text.encode())
    except ValueError:
        raise InvalidInput(
            "params.attributes: not JSON; infinite numbers and half surrogates are none"
        ) from None
    if size > MAX_ATTRIBUTES:
        raise InvalidInput(f"params.attributes: at most {MAX_ATTRIBUTES} bytes of JSON")
    return {"attributes": text}


def _json(value: object) -> str:
    return json.dumps(
        value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True
    )


def _check_json(value: object, depth: int) -> None:
    """Raise InvalidInput for what JSON has no form for, and for what is nested deeper than anybody needs."""
    if depth == 0:
        raise InvalidInput(f"params.attributes: nested more than {MAX_DEPTH} deep")
    match value:
        case dict():
            members = cast("dict[object, object]", value)
            if not all(isinstance(name, str) for name in members):
                raise InvalidInput("params.attributes: the names of members are texts")
            for one in members.values():
                _check_json(one, depth - 1)
        case list() | tuple():
            for one in cast("Sequence[object]", value):
                _check_json(one, depth - 1)
        case str() | int() | float() | None:
            pass
        case _:
            raise InvalidInput(
                f"params.attributes: {type(value).__name__} is nothing that JSON has a form for"
            )


def _merge(target: Any, patch: Any) -> Any:
    """Return ``target`` with ``patch`` merged into it, as RFC 7396 section 2 says."""
    if not isinstance(patch, Mapping):
        return patch
    merged: dict[str, Any] = {}
    if isinstance(target, Mapping):
        merged.update(cast("Mapping[str, Any]", target))
    for name, value in cast("Mapping[str, Any]", patch).items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


def _stored_attributes(columns: Columns) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(columns["attributes"] or "null", type=dict[str, Any] | None)
    except (msgspec.MsgspecError, RecursionError):  # changed by hand
        return None


_READERS = {
    "scopes": _scopes,
    "allowedCidrBlocks": _networks,
    "maxRedemptions": _max_redemptions,
    "attributes": _attributes,
}
