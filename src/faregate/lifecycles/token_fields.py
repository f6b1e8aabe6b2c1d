"""The members of a token as callers give them, and the columns that they become; and the way back.

Whatever a caller may write is checked here, and every refusal names the member by its name in JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from faregate.decision.compiled import CompiledCredential, compile_access, compile_token
from faregate.errors import Conflict, InvalidInput
from faregate.model import AllowedScopes, Org, Owner, Share, Token
from faregate.stores.stored_values import stored_networks, stored_scopes, stored_texts
from faregate.values.identifiers import new_id
from faregate.values.instants import Instant, as_datetime, parse_instant, parse_span
from faregate.values.names import MAX_ID, MAX_NAME, check_name, check_text, json_name
from faregate.values.networks import Networks
from faregate.values.scopes import (
    MAX_SCOPES,
    as_allowed_scopes,
    check_scope,
    check_size,
    compile_grants,
)

if TYPE_CHECKING:
    from datetime import timedelta

Columns = Mapping[str, Any]
Values = dict[str, Any]


class OptionalTokenFields(TypedDict, total=False):
    """What may be left out of a token. ``scopes`` is short for ``allowed_scopes.general_scopes``."""

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


class TokenFields(OptionalTokenFields, total=False):
    """What may be given of a token."""

    name: str


TOKEN_FIELDS = TokenFields.__optional_keys__
REFRESH = "REFRESH"  # the type whose record is a family of credentials that are exchanged, and open nothing
MAX_PAGE = 1000


def given_columns(members: TokenFields, now: float) -> Values:  # noqa: C901  one member after the other
    """Return the columns of the members that were given; InvalidInput names the member that cannot be taken."""
    unknown = members.keys() - TOKEN_FIELDS
    if unknown:
        raise TypeError(f"a token has no member {', '.join(sorted(unknown))}")
    values: Values = {}
    if "name" in members:
        values["name"] = check_name(members["name"], "name")
    if "description" in members:
        text = members["description"]
        values["description"] = None if text is None else check_text(text, "description", 2000)
    if "scopes" in members or "allowed_scopes" in members:
        values["allowed_scopes"] = msgspec.json.encode(scopes_of(members)).decode()
    if "allowed_cidr_blocks" in members:
        blocks = as_list(members["allowed_cidr_blocks"], "allowedCidrBlocks")
        values |= network_columns(Networks.parse(blocks, "allowedCidrBlocks"))
    if "expires_at" in members or "expires_in" in members:
        values["expires_at"] = expires_column(members, now)
    if "not_before" in members:
        begins = members["not_before"]
        values["not_before"] = None if begins is None else parse_instant(begins, "notBefore")
    if "require_rotation" in members:
        values["require_rotation"] = members["require_rotation"]
    if "owner" in members:
        values |= owner_columns(_party(members["owner"], Owner, "owner"))
    if "org" in members:
        values |= org_columns(_party(members["org"], Org, "org"))
    return values


def blank_columns(token_type: str, now: float) -> Values:
    """Return the columns of a new token that no caller gives."""
    empty = (
        "description",
        "rotated_at",
        "last_used_at",
        "deactivated_updated_by",
        "deactivated_updated_on",
    )
    return {
        **dict.fromkeys((*empty, "deactivated_reason", "deactivated_by", "revoked_at")),
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


def owner_columns(owner: Owner) -> Values:
    """Return the columns of an owner."""
    return {
        "owner_id": owner.id,
        "owner_name": owner.name,
        "owner_acct": owner.acct,
        "owner_domain": owner.domain,
        "owner_idp_id": owner.idp_id,
    }


def names_of(columns: Iterable[str]) -> list[str]:
    """Return the names in JSON of the members that columns hold, for the audit."""
    split = [
        column.split("_", 1) if column.startswith(("owner_", "org_")) else [column]
        for column in columns
    ]
    # The packed form of the networks is no member of its own.
    return sorted(".".join(map(json_name, path)) for path in split if path != ["networks"])


def org_columns(org: Org) -> Values:
    """Return the columns of an organization."""
    return {"org_id": org.id, "org_name": org.name}


def keep_parties(given: Values, stored: Columns, *, update: bool) -> Values:
    """Return ``given`` with what a caller left out of an owner or an organization kept as it is stored.

    The same one with some members is that one with those members changed; only another id replaces it whole.
    In an update an id that is left out, or null, is the same: nobody becomes ownerless by leaving it out.
    """
    kept = dict(given)
    for party in ("owner", "org"):
        columns = [column for column in given if column.startswith(f"{party}_")]
        same = (stored[f"{party}_id"], None) if update else (stored[f"{party}_id"],)
        if columns and given[f"{party}_id"] in same:
            kept |= {column: stored[column] for column in columns if given[column] is None}
    return kept


def network_columns(networks: Networks | None) -> Values:
    """Return the columns of an allow-list; None and the empty set are no list."""
    blocks = networks.blocks if networks else ()
    packed = networks.packed() if networks and blocks else None
    return {"allowed_cidr_blocks": msgspec.json.encode(blocks).decode(), "networks": packed}


def limits_of(
    columns: Columns, digest: bytes = b"", superseded_at: float | None = None
) -> CompiledCredential:
    """Return the record that a token's columns amount to, for the credential of ``digest`` if that is named."""
    refresh = columns["type"] == REFRESH
    return compile_token(
        kind="refresh" if refresh else "token",
        record_id=columns["id"],
        owner=owner_of(columns),
        org=Org(columns["org_id"], columns["org_name"]),
        granted=stored_scopes(columns["allowed_scopes"], columns["id"]).granted,
        networks=stored_networks(
            columns["allowed_cidr_blocks"], columns["networks"], columns["id"]
        ),
        not_before=columns["not_before"],
        expires_at=columns["expires_at"] or 0.0
        if refresh
        else columns["expires_at"],  # which one always has
        deactivated=columns["deactivated"],
        revoked=columns["revoked_at"] is not None,
        superseded_at=superseded_at,
        digest=digest,
    )


def access_limits(family: Columns, columns: Columns, digest: bytes) -> CompiledCredential:
    """Return the record that the columns of an access credential, and those of its family, amount to."""
    return compile_access(
        limits_of(family),
        granted=stored_scopes(columns["allowed_scopes"], family["id"]).granted,
        networks=stored_networks(columns["allowed_cidr_blocks"], columns["networks"], family["id"]),
        expires_at=columns["expires_at"],
        digest=digest,
    )


def token_of(columns: Columns) -> Token:
    """Return the token that has these columns."""
    scopes = stored_scopes(columns["allowed_scopes"], columns["id"])
    # Every token has them, save where somebody broke them by hand.
    created_at: Any = as_datetime(columns["created_at"])
    updated_at: Any = as_datetime(columns["updated_at"])
    return Token(
        id=columns["id"],
        name=columns["name"],
        description=columns["description"],
        type=columns["type"],
        scope=scopes.shown,
        allowed_scopes=scopes.allowed,
        allowed_cidr_blocks=stored_texts(columns["allowed_cidr_blocks"]),
        created_at=created_at,
        updated_at=updated_at,
        rotated_at=as_datetime(columns["rotated_at"]),
        not_before=as_datetime(columns["not_before"]),
        expires_at=as_datetime(columns["expires_at"]),
        last_used_at=as_datetime(columns["last_used_at"]),
        deactivated=columns["deactivated"],
        deactivated_updated_by=columns["deactivated_updated_by"],
        deactivated_updated_on=as_datetime(columns["deactivated_updated_on"]),
        deactivated_reason=columns["deactivated_reason"],
        leaked=columns["leaked"],
        require_rotation=columns["require_rotation"],
        revoked_at=as_datetime(columns["revoked_at"]),
        owner=owner_of(columns),
        org=Org(columns["org_id"], columns["org_name"]),
        made_by=columns["made_by"],
        version=columns["version"],
    )


def check_window(limit: object, offset: object, after: object = None) -> None:
    """Raise InvalidInput unless a list can begin at ``offset`` and hold ``limit`` records."""
    if not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"limit: 1 to {MAX_PAGE}")
    if not isinstance(offset, int) or not 0 <= offset < 2**63:
        raise InvalidInput("offset: 0 or more")
    if offset and after is not None:
        raise InvalidInput("offset, after: give one of them")


def loosens(before: Columns, after: Columns) -> bool:
    """Tell whether a refresh token that each exchange replaced would go on: then a thief of it is not seen."""
    return before["require_rotation"] is True and after["require_rotation"] is not True


def check_times(values: Columns, now: float) -> None:
    """Raise InvalidInput unless a token with these columns expires after ``now`` and after it starts."""
    expires, begins = values["expires_at"], values["not_before"]
    if expires is not None and expires <= now:
        raise InvalidInput("expiresAt: lies in the past")
    if expires is not None and begins is not None and expires <= begins:
        raise InvalidInput("expiresAt: must be after notBefore")


def check_type(values: Columns) -> None:
    """Raise InvalidInput for what only a refresh token has, or must have: whether it is replaced, and an end."""
    rotated = values["require_rotation"]
    if values["type"] != REFRESH:
        if rotated is not None:
            raise InvalidInput("requireRotation: is of tokens of type REFRESH; leave it out")
        return
    if not isinstance(rotated, bool):
        raise InvalidInput("requireRotation: true or false")
    if values["expires_at"] is None:
        raise InvalidInput("expiresAt: a refresh token has an end; null is none")


def check_change_of_times(before: Columns, after: Columns, now: float) -> None:
    """Raise Conflict if the expiry of an expired token would change, InvalidInput if the new times cannot be."""
    if after["expires_at"] != before["expires_at"]:
        if before["expires_at"] is not None and before["expires_at"] <= now:
            raise Conflict(
                "The token has expired; its expiry cannot change any more. Create a new one."
            )
        check_times(after, now)
    elif after["not_before"] != before["not_before"]:
        check_times(after, -inf)  # an expiry that stays may lie in the past


def check_unchanged(record: Token | Share, believed: Mapping[str, Any]) -> None:
    """Raise InvalidInput if the caller would change what cannot be changed. ``believed`` has the names of JSON."""
    stored = msgspec.json.decode(msgspec.json.encode(record))
    for member, given in believed.items():
        value, known = given, stored[member]
        if member.endswith(("At", "On")) and value is not None:
            value = parse_instant(value, member)
            known = None if known is None else parse_instant(known, member)
        # These move by themselves: what was read some time ago was right when it was read.
        moved = member in ("lastUsedAt", "redemptions") and (
            value is None or (known is not None and value <= known)
        )
        if value != known and not moved:
            raise InvalidInput(f"{member}: cannot be changed; leave it out or send it as it is")


def owner_of(columns: Columns) -> Owner:
    """Return the owner that columns amount to."""
    return Owner(
        columns["owner_id"],
        columns["owner_name"],
        columns["owner_acct"],
        columns["owner_domain"],
        columns["owner_idp_id"],
    )


def scopes_of(members: TokenFields) -> AllowedScopes:
    """Return what ``scopes`` or ``allowed_scopes`` grants, or nothing where neither is given; InvalidInput for both."""
    if "scopes" in members and "allowed_scopes" in members:
        raise InvalidInput(
            "scopes, allowedScopes: scopes is short for generalScopes; give one of them"
        )
    allowed = AllowedScopes()
    if "scopes" in members:
        scopes = as_list(members["scopes"], "scopes", MAX_SCOPES)
        allowed = AllowedScopes(
            general_scopes=tuple(check_scope(one, f"scopes[{n}]") for n, one in enumerate(scopes))
        )
    elif "allowed_scopes" in members:
        allowed = as_allowed_scopes(members["allowed_scopes"])
    check_size(allowed, compile_grants(allowed))
    return allowed


def expires_column(members: Mapping[str, Any], now: float) -> float | None:
    """Return the expiry that ``expires_at`` or ``expires_in`` gives, None for never."""
    if "expires_at" in members and "expires_in" in members:
        raise InvalidInput("expiresAt, expiresIn: give one of them")
    if "expires_in" in members:
        span = parse_span(members["expires_in"], "expiresIn")
        if not span:
            raise InvalidInput("expiresIn: must be more than nothing")
        return parse_instant(now + span, "expiresIn")
    at = members.get("expires_at")
    return None if at is None else parse_instant(at, "expiresAt")


def _party(value: object, wanted: type[Owner | Org], member: str) -> Any:
    if not isinstance(value, wanted):
        raise InvalidInput(f"{member}: expected {wanted.__name__}(id=…)")
    for field in msgspec.structs.fields(wanted):
        text = getattr(value, field.name)
        longest = MAX_NAME if field.name == "name" else MAX_ID
        if text is not None:
            check_name(text, f"{member}.{field.encode_name}", longest)
    return value


def as_list(value: Any, member: str, most: int | None = None) -> list[Any]:
    """Return a list of what a caller gave as one; a text is none, though Python would take it apart.

    What stands in it twice is counted twice.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise InvalidInput(f"{member}: expected a list")
    if most is not None and len(value) > most:  # pyright: ignore[reportUnknownArgumentType]  as below
        raise InvalidInput(f"{member}: at most {most}")
    return list(value)  # pyright: ignore[reportUnknownArgumentType]  its items are checked one by one
