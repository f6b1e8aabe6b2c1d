"""The fields of a share: each is declared once, in :data:`SHARE_FIELDS` or :data:`PARAM_FIELDS`.

The fields of ``params`` have the names of JSON in Python too. An unknown name is refused: a
misspelt limit must not be dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, cast

import msgspec

from faregate.errors import InvalidInput
from faregate.fields.field import (
    CIDR_SCHEMA,
    DATE_SCHEMA,
    Column,
    Columns,
    Field,
    Row,
    SentInstant,
    as_list,
    columns_of,
    read_expires_at,
    read_expires_in,
    read_networks,
)
from faregate.fields.json_object import load_json_object, read_json_object
from faregate.fields.stored_values import stored_texts
from faregate.model import Org, Share, ShareParams, State
from faregate.values.identifiers import new_id
from faregate.values.instants import Instant, as_datetime
from faregate.values.names import check_id
from faregate.values.scopes import MAX_BYTES, MAX_SCOPES, check_scope

if TYPE_CHECKING:
    from datetime import timedelta

MAX_OBJECTS = 1000
MAX_OBJECT_BYTES = 512
MAX_ATTRIBUTES = 65_536  # bytes of their JSON
MAX_COUNT = 2**31 - 1

# Neither everything nor a scope of the gate itself can be shared.
_SHARED_SCOPE_PATTERN = r"^(?!gate:|\*$)[\u0021\u0023-\u0029\u002b-\u005b\u005d-\u007e]+(:\*)?$"


class ShareEnd(TypedDict, total=False):
    """The end of a share: an instant, or a time from now on."""

    expires_at: Instant
    expires_in: timedelta | float


class ShareFields(ShareEnd, total=False):
    """The fields of a new share. ``scopes`` may stand beside ``params`` or in it."""

    scopes: Sequence[str]
    params: Mapping[str, Any]


class ShareChanges(ShareEnd, total=False):
    """The fields of a share that a call may change: its end, and ``params`` field by field."""

    params: Mapping[str, Any]


SHARE_CHANGES = ShareChanges.__optional_keys__


def _read_share_end(value: Any, now: float, row: Row | None) -> Columns:
    if value is None:
        raise InvalidInput("expiresAt: required for a share; null is not allowed")
    return read_expires_at(value, now, row)


def _read_scopes(value: Any, now: float, row: Row | None) -> Columns:
    del now, row
    listed = as_list(value, "scopes", MAX_SCOPES)
    scopes = dict.fromkeys(
        _check_shared_scope(scope, f"scopes[{index}]") for index, scope in enumerate(listed)
    )
    if not scopes:
        raise InvalidInput("scopes: name at least one; a share without a scope opens nothing")

    text = msgspec.json.encode(list(scopes)).decode()
    if len(text) > MAX_BYTES:
        raise InvalidInput(f"scopes: {len(text):,} bytes, at most {MAX_BYTES:,}")
    return {"scopes": text}


def _check_shared_scope(value: object, name: str) -> str:
    scope = check_scope(value, name)
    if scope == "*" or scope.startswith("gate:"):
        raise InvalidInput(
            f"{name}: {scope!r} cannot be shared; name what the objects are shared for"
        )
    return scope


def _read_networks(value: Any, now: float, row: Row | None) -> Columns:
    del now, row
    return read_networks(value, "params.allowedCidrBlocks")


def _read_max_redemptions(value: Any, now: float, row: Row | None) -> Columns:
    del now, row
    if value is not None and not _is_count(value):
        raise InvalidInput("params.maxRedemptions: a whole number from 1 on, or null for no limit")
    return {"max_redemptions": value}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_COUNT


def _read_attributes(value: Any, now: float, row: Row | None) -> Columns:
    del now
    text = read_json_object(value, "params.attributes", row, "attributes", MAX_ATTRIBUTES)
    return {"attributes": text}


_SHARED_SCOPES: dict[str, Any] = {
    "minItems": 1,
    "maxItems": MAX_SCOPES,
    "items": {"maxLength": 512, "pattern": _SHARED_SCOPE_PATTERN},
}
SHARE_FIELDS = (
    Field(
        "expires_at", SentInstant, _read_share_end,
        "The instant from which the share is expired.", "2030-01-31T12:00:00Z", DATE_SCHEMA,
        columns=(Column("expires_at", "instant", required=True),),
    ),
    Field(
        "expires_in", float, read_expires_in,
        "The seconds until the share expires, in place of `expiresAt`.", 3600,
        {"exclusiveMinimum": 0},
        instead_of="expires_at",
    ),
)  # fmt: skip
PARAM_FIELDS = (
    Field(
        "scopes", tuple[str, ...], _read_scopes,
        "The scopes that the objects are shared for.", ["docs:read"], _SHARED_SCOPES,
        columns=(Column("scopes", "text", required=True),),
    ),
    Field(
        "allowedCidrBlocks", tuple[str, ...], _read_networks,
        "The networks from which the share may be redeemed and used. An empty list allows every "
        "address. If left out at creation, the networks of the maker.", ["10.0.0.0/8"], CIDR_SCHEMA,
        columns=(Column("allowed_cidr_blocks", "text", required=True), Column("networks", "bytes")),
    ),
    Field(
        "maxRedemptions", int | None, _read_max_redemptions,
        "The number of redemptions that are allowed; null for no limit.", 5,
        {"minimum": 1, "maximum": MAX_COUNT},
        columns=(Column("max_redemptions", "integer"),),
    ),
    Field(
        "attributes", dict[str, Any] | None, _read_attributes,
        "A JSON object of the application's own, at most 64 KiB.", {"for": "Bob"},
        columns=(Column("attributes", "text"),),
    ),
)  # fmt: skip
_PARAM_NAMES = [field.name for field in PARAM_FIELDS]


def object_list(object_id: object, object_ids: object) -> list[str]:
    """Return the objects of a share: ``object_id`` first, each once, in their order."""
    listed = as_list(object_ids, "objectIds", MAX_OBJECTS)
    first = _check_object(object_id, "objectId")
    others = (_check_object(item, f"objectIds[{index}]") for index, item in enumerate(listed))
    objects = list(dict.fromkeys((first, *others)))
    if len(objects) > MAX_OBJECTS:
        raise InvalidInput(f"objectIds: at most {MAX_OBJECTS} objects")
    return objects


def given_share_columns(
    given: ShareFields | ShareChanges, now: float, row: Row | None = None
) -> Columns:
    """Return the columns of the fields that were given; ``row`` is the stored share in an update.

    ``params`` is merged into the stored params (RFC 7396): null removes a limit. Raises
    InvalidInput, which names the field, for a value that cannot be taken.
    """
    columns = columns_of(SHARE_FIELDS, given, now, row)
    params = _check_params(given.get("params", {}))
    if "scopes" in given:
        if "scopes" in params:
            raise InvalidInput("scopes, params.scopes: give one of them")
        params = {**params, "scopes": given.get("scopes")}
    return columns | columns_of(PARAM_FIELDS, params, now, row)


def blank_share_columns(now: float) -> Columns:
    """Return the columns of a new share, before those that its maker and the caller give."""
    return {
        "id": new_id(),
        "max_redemptions": None,
        "attributes": None,
        "redemptions": 0,
        "created_at": now,
        "updated_at": now,
        "revoked_at": None,
    }


def share_of(row: Row, now: float, *, gone: bool = False) -> Share:
    """Return the share of a row in its state at ``now``.

    ``gone`` says that the owner of its maker is gone.
    """
    objects = stored_texts(row["object_ids"])
    # Every share has these, unless somebody broke them by hand.
    instants: dict[str, Any] = {
        column: as_datetime(row[column])
        for column in ("created_at", "updated_at", "expires_at", "revoked_at")
    }
    return Share(
        **instants,
        id=row["id"],
        object_id=objects[0] if objects else "",
        object_ids=objects,
        params=ShareParams(
            scopes=stored_texts(row["scopes"]),
            allowed_cidr_blocks=stored_texts(row["allowed_cidr_blocks"]),
            max_redemptions=row["max_redemptions"],
            attributes=load_json_object(row["attributes"]),
        ),
        redemptions=row["redemptions"],
        state=_state_of(row, now, gone=gone),
        org=Org(row["org_id"], row["org_name"]),
        made_by=row["made_by"],
    )


def _state_of(row: Row, now: float, *, gone: bool) -> State:
    if gone:
        return "deactivated"
    if row["revoked_at"] is not None:
        return "revoked"
    if (row["expires_at"] or 0.0) <= now:
        return "expired"
    return "live"


def _check_params(params: object) -> Mapping[str, Any]:
    if not isinstance(params, Mapping):
        raise InvalidInput("params: expected an object")
    given = cast("Mapping[str, Any]", params)
    for name in given:
        if name not in _PARAM_NAMES:
            known = ", ".join(_PARAM_NAMES)
            raise InvalidInput(f"params.{str(name)[:64]}: no such member; there are {known}")
    return given


def _check_object(value: object, name: str) -> str:
    text = check_id(value, name)
    if len(text.encode()) > MAX_OBJECT_BYTES:
        raise InvalidInput(f"{name}: at most {MAX_OBJECT_BYTES} bytes")
    return text
