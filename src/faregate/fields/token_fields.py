"""The fields of a token: each is declared once, in :data:`TOKEN_FIELDS`.

CONTRIBUTING lists the steps of adding a field. Errors name a field by its name in JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003  users read the annotations
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from faregate.fields.field import (
    CIDR_SCHEMA,
    DATE_SCHEMA,
    NAME_SCHEMA,
    SCOPE_PATTERN,
    TEXT_PATTERN,
    Column,
    Columns,
    Field,
    Option,
    Row,
    SentInstant,
    as_list,
    columns_of,
    owner_of,
    read_expires_at,
    read_expires_in,
    read_networks,
    read_org,
    read_owner,
)
from faregate.fields.json_object import load_json_object, read_json_object
from faregate.fields.stored_values import stored_scopes, stored_texts
from faregate.model import AllowedScopes, Org, Owner, Token
from faregate.values.identifiers import new_id
from faregate.values.instants import Instant, as_datetime, parse_instant
from faregate.values.names import check_name, check_text
from faregate.values.scopes import (
    MAX_SCOPES,
    as_allowed_scopes,
    check_scope,
    check_size,
    compile_grants,
)

if TYPE_CHECKING:
    from datetime import timedelta

# A token of this type stands for a family of credentials. They are exchanged, and open nothing.
REFRESH = "REFRESH"
TYPES = ("API", REFRESH, "PROXY", "EXTENSION")
MAX_DESCRIPTION = 2000  # characters
MAX_METADATA = 16_384  # bytes of its JSON


class OptionalTokenFields(TypedDict, total=False):
    """The fields that a call may leave out. ``scopes`` is short for the general scopes."""

    description: str | None
    scopes: Sequence[str]
    allowed_scopes: AllowedScopes
    allowed_cidr_blocks: Sequence[str]
    expires_at: Instant | None
    expires_in: timedelta | float
    not_before: Instant | None
    require_rotation: bool | None
    owner: Owner
    org: Org
    metadata: Mapping[str, Any] | None


class TokenFields(OptionalTokenFields, total=False):
    """All fields of a token that a call may set."""

    name: str


def _read_name(value: Any, now: float, row: Row | None) -> Columns:
    del now, row
    return {"name": check_name(value, "name")}


def _read_description(value: Any, now: float, row: Row | None) -> Columns:
    del now, row
    text = None if value is None else check_text(value, "description", MAX_DESCRIPTION)
    return {"description": text}


def _read_scopes(value: Any, now: float, row: Row | None) -> Columns:
    del now, row
    return _scope_columns(general_scopes(value))


def _read_allowed_scopes(value: Any, now: float, row: Row | None) -> Columns:
    del now, row
    return _scope_columns(as_allowed_scopes(value))


def _scope_columns(allowed: AllowedScopes) -> Columns:
    check_size(allowed, compile_grants(allowed))
    return {"allowed_scopes": msgspec.json.encode(allowed).decode()}


def _read_networks(value: Any, now: float, row: Row | None) -> Columns:
    del now, row
    return read_networks(as_list(value, "allowedCidrBlocks"), "allowedCidrBlocks")


def _read_not_before(value: Any, now: float, row: Row | None) -> Columns:
    del now, row
    return {"not_before": None if value is None else parse_instant(value, "notBefore")}


def _read_require_rotation(value: Any, now: float, row: Row | None) -> Columns:
    # Whether it may be set depends on the type, and is checked with the whole record.
    del now, row
    return {"require_rotation": value}


def _read_metadata(value: Any, now: float, row: Row | None) -> Columns:
    del now
    return {"metadata": read_json_object(value, "metadata", row, "metadata", MAX_METADATA)}


TOKEN_FIELDS = (
    Field(
        "name", str, _read_name,
        "The purpose of the token.", "ci", NAME_SCHEMA,
        columns=(Column("name", "text", required=True),),
        required=True,
    ),
    Field(
        "description", str | None, _read_description,
        "A longer description.", "the build server",
        {"maxLength": MAX_DESCRIPTION, "pattern": TEXT_PATTERN},
        columns=(Column("description", "text"),),
        option=Option("--description", "text", "TEXT", "A description. An empty text removes it."),
    ),
    Field(
        "scopes", tuple[str, ...], _read_scopes,
        "Short for `allowedScopes.generalScopes`; give one of the two.", ["docs:read"],
        {"maxItems": MAX_SCOPES, "items": {"maxLength": 512, "pattern": SCOPE_PATTERN}},
        instead_of="allowed_scopes",
    ),
    Field(
        "allowed_scopes", AllowedScopes, _read_allowed_scopes,
        "Everything that the token grants.",
        columns=(Column("allowed_scopes", "text", required=True),),
    ),
    Field(
        "allowed_cidr_blocks", tuple[str, ...], _read_networks,
        "The networks from which the token may be used. An empty list allows every address. "
        "If left out at creation, the networks of the maker.", ["10.0.0.0/8"], CIDR_SCHEMA,
        columns=(Column("allowed_cidr_blocks", "text", required=True), Column("networks", "bytes")),
    ),
    Field(
        "expires_at", SentInstant, read_expires_at,
        "The instant from which the token is expired; null for never.", "2030-01-31T12:00:00Z",
        DATE_SCHEMA,
        columns=(Column("expires_at", "instant"),),
    ),
    Field(
        "expires_in", float, read_expires_in,
        "The seconds until the token expires, in place of `expiresAt`.", 3600,
        {"exclusiveMinimum": 0},
        instead_of="expires_at",
    ),
    Field(
        "not_before", SentInstant, _read_not_before,
        "The instant from which the token may be used; null for at once.", "2030-01-31T12:00:00Z",
        DATE_SCHEMA,
        columns=(Column("not_before", "instant"),),
        option=Option("--not-before", "instant", "INSTANT", "Start of validity; 'none': at once."),
    ),
    Field(
        "require_rotation", bool | None, _read_require_rotation,
        "Whether each exchange replaces the secret of a refresh token; null for other types.",
        example=True,
        columns=(Column("require_rotation", "boolean"),),
        option=Option(
            "--rotation/--no-rotation", "switch", None,
            "For type REFRESH: whether each exchange replaces the secret.",
        ),
    ),
    Field(
        "owner", Owner, read_owner,
        "The owner of the token. Only admins name another owner than their own.",
        columns=(
            Column("owner_id", "text"),
            Column("owner_name", "text"),
            Column("owner_acct", "text"),
            Column("owner_domain", "text"),
            Column("owner_idp_id", "text"),
        ),
    ),
    Field(
        "org", Org, read_org,
        "The organization of the token. Only root names another organization than its own.",
        columns=(Column("org_id", "text"), Column("org_name", "text")),
    ),
    Field(
        "metadata", dict[str, Any] | None, _read_metadata,
        "A JSON object of the application's own, at most 16 KiB. "
        "A change is merged into it (RFC 7396).",
        {"team": "build"},
        columns=(Column("metadata", "text"),),
        option=Option(
            "--metadata", "json", "JSON",
            "An object of the application's own, merged into the stored one; 'none' removes it.",
        ),
    ),
)  # fmt: skip
FIELD_NAMES = frozenset(field.name for field in TOKEN_FIELDS)


def given_columns(given: TokenFields, now: float, row: Row | None = None) -> Columns:
    """Return the columns of the fields that were given; ``row`` is the stored token in an update.

    Raises InvalidInput, which names the field, for a value that cannot be taken.
    """
    unknown = given.keys() - FIELD_NAMES
    if unknown:
        raise TypeError(f"a token has no field {', '.join(sorted(unknown))}")
    return columns_of(TOKEN_FIELDS, given, now, row)


def blank_columns(token_type: str, now: float) -> Columns:
    """Return the columns of a new token, before those that its maker and the caller give."""
    unset = (
        "description",
        "metadata",
        "rotated_at",
        "last_used_at",
        "deactivated_updated_by",
        "deactivated_updated_on",
        "deactivated_reason",
        "deactivated_by",
        "revoked_at",
    )
    return {
        **dict.fromkeys(unset),
        "require_rotation": True if token_type == REFRESH else None,
        "id": new_id(),
        "version": 1,
        "type": token_type,
        "allowed_scopes": msgspec.json.encode(AllowedScopes()).decode(),
        "created_at": now,
        "updated_at": now,
        "deactivated": False,
        "deactivated_by_admin": False,
        "leaked": False,
    }


def token_of(row: Row) -> Token:
    """Return the token of a row."""
    scopes = stored_scopes(row["allowed_scopes"], row["id"])
    # Every token has these, unless somebody broke them by hand.
    created_at: Any = as_datetime(row["created_at"])
    updated_at: Any = as_datetime(row["updated_at"])
    return Token(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        type=row["type"],
        scope=scopes.shown,
        allowed_scopes=scopes.allowed,
        allowed_cidr_blocks=stored_texts(row["allowed_cidr_blocks"]),
        created_at=created_at,
        updated_at=updated_at,
        rotated_at=as_datetime(row["rotated_at"]),
        not_before=as_datetime(row["not_before"]),
        expires_at=as_datetime(row["expires_at"]),
        last_used_at=as_datetime(row["last_used_at"]),
        deactivated=row["deactivated"],
        deactivated_updated_by=row["deactivated_updated_by"],
        deactivated_updated_on=as_datetime(row["deactivated_updated_on"]),
        deactivated_reason=row["deactivated_reason"],
        leaked=row["leaked"],
        require_rotation=row["require_rotation"],
        revoked_at=as_datetime(row["revoked_at"]),
        owner=owner_of(row),
        org=Org(row["org_id"], row["org_name"]),
        metadata=None if row["metadata"] is None else load_json_object(row["metadata"]),
        made_by=row["made_by"],
        version=row["version"],
    )


def general_scopes(value: Any) -> AllowedScopes:
    """Return the AllowedScopes of a list of general scopes."""
    listed = as_list(value, "scopes", MAX_SCOPES)
    scopes = (check_scope(scope, f"scopes[{index}]") for index, scope in enumerate(listed))
    return AllowedScopes(general_scopes=tuple(scopes))


def scopes_of(given: TokenFields) -> AllowedScopes:
    """Return the AllowedScopes of ``scopes`` or ``allowed_scopes``; empty if neither is given."""
    if "scopes" in given:
        return general_scopes(given["scopes"])
    if "allowed_scopes" in given:
        return as_allowed_scopes(given["allowed_scopes"])
    return AllowedScopes()
