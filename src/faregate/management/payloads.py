"""The JSON of the HTTP API: what bodies may hold, and how records are shown.

Shapes and types are refused here, by msgspec, and meanings in :mod:`faregate.lifecycles.token_fields`; either way the
refusal names the member.
"""

from __future__ import annotations

import re
from math import ceil, floor
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from faregate.errors import InvalidInput
from faregate.model import (
    AllowedScopes,
    AuditPage,
    Batch,
    Exchanged,
    Explanation,
    Introspected,
    Issued,
    IssuedShare,
    Org,
    Owner,
    Page,
    Purged,
    Redeemed,
    Share,
    Token,
)

T = TypeVar("T")

InstantIn = str | float | None


class TokenIn(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The members that a caller may set, at creation or later."""

    description: str | UnsetType | None = UNSET
    scopes: tuple[str, ...] | UnsetType = UNSET
    allowed_scopes: AllowedScopes | UnsetType = UNSET
    allowed_cidr_blocks: tuple[str, ...] | UnsetType = UNSET
    expires_at: InstantIn | UnsetType = UNSET
    expires_in: float | UnsetType = UNSET
    not_before: InstantIn | UnsetType = UNSET
    owner: Owner | UnsetType = UNSET
    org: Org | UnsetType = UNSET
    require_rotation: bool | UnsetType | None = UNSET


class CreateToken(TokenIn, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The body of ``POST /tokens``."""

    name: str
    type: str = "API"


class ChangeToken(TokenIn, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What the two bodies below share: a record as it was read may be sent back, changed or not."""

    type: str | UnsetType = UNSET
    scope: list[str] | UnsetType = UNSET
    created_at: InstantIn | UnsetType = UNSET
    updated_at: InstantIn | UnsetType = UNSET
    rotated_at: InstantIn | UnsetType = UNSET
    last_used_at: InstantIn | UnsetType = UNSET
    deactivated: bool | UnsetType = UNSET
    deactivated_updated_by: str | UnsetType | None = UNSET
    deactivated_updated_on: InstantIn | UnsetType = UNSET
    deactivated_reason: str | UnsetType | None = UNSET
    leaked: bool | UnsetType = UNSET
    made_by: str | UnsetType | None = UNSET
    revoked_at: InstantIn | UnsetType = UNSET
    token: Any = UNSET  # ignored: nobody sets a credential


class PatchToken(ChangeToken, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The body of ``PATCH /tokens/{id}``."""

    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class PutToken(ChangeToken, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The body of ``PUT /tokens/{id}``, which needs ``id`` and ``name``."""

    id: str
    name: str


class RotateToken(Struct, rename="camel", forbid_unknown_fields=True):
    """The body of ``POST /tokens/{id}/rotate``; ``grace`` in seconds."""

    grace: float | None = None
    leaked: bool = False


class ActivateToken(Struct, rename="camel", forbid_unknown_fields=True):
    """The body of ``POST /tokens/{id}/activate``."""

    reason: str | None = None


class DeactivateToken(ActivateToken, rename="camel", forbid_unknown_fields=True):
    """The body of ``POST /tokens/{id}/deactivate``."""

    leaked: bool = False


class ManyTokens(Struct, rename="camel", forbid_unknown_fields=True):
    """The body of ``POST /tokens/deactivate`` and ``/tokens/activate``."""

    ids: tuple[str, ...]


class CreateShare(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The body of ``POST /shares``. What ``params`` may hold is said in :mod:`faregate.lifecycles.share_fields`."""

    object_id: str
    object_ids: tuple[str, ...] | UnsetType = UNSET
    expires_at: InstantIn | UnsetType = UNSET
    expires_in: float | UnsetType = UNSET
    scopes: tuple[str, ...] | UnsetType = UNSET
    params: dict[str, Any] | UnsetType = UNSET


class PatchShare(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The body of ``PATCH /shares/{id}``: a record as it was read may be sent back, changed or not."""

    expires_at: InstantIn | UnsetType = UNSET
    expires_in: float | UnsetType = UNSET
    params: dict[str, Any] | UnsetType = UNSET
    id: str | UnsetType = UNSET
    object_id: str | UnsetType = UNSET
    object_ids: list[str] | UnsetType = UNSET
    created_at: InstantIn | UnsetType = UNSET
    updated_at: InstantIn | UnsetType = UNSET
    revoked_at: InstantIn | UnsetType = UNSET
    redemptions: int | UnsetType = UNSET
    state: str | UnsetType = UNSET
    org: dict[str, Any] | UnsetType = UNSET
    made_by: str | UnsetType | None = UNSET
    secret: Any = UNSET  # ignored: nobody sets a credential


class RevokeShare(Struct, forbid_unknown_fields=True):
    """The body of ``POST /shares/{id}/revoke``: nothing so far."""


class RedeemShare(Struct, forbid_unknown_fields=True):
    """The body of ``POST /shares/{id}/redeem``."""

    secret: str | None = None

    def __repr__(self) -> str:
        return "RedeemShare(secret=<hidden>)"


class TokenRequest(Struct):
    """The form of ``POST /token`` (RFC 6749 section 6); unknown parameters are ignored."""

    grant_type: str
    refresh_token: str
    scope: str | UnsetType = UNSET

    def __repr__(self) -> str:
        return "TokenRequest(refresh_token=<hidden>)"


class OneCredential(Struct):
    """The form of ``POST /revoke`` (RFC 7009); unknown parameters are ignored."""

    token: str
    token_type_hint: str | UnsetType = UNSET

    def __repr__(self) -> str:
        return "OneCredential(token=<hidden>)"


class Inquiry(Struct):
    """The form of ``POST /introspect`` (RFC 7662): a credential, and what it is to open; others are ignored."""

    token: str
    token_type_hint: str | UnsetType = UNSET
    scope: str | UnsetType = UNSET
    on: str | UnsetType = UNSET
    address: str | UnsetType = UNSET

    def __repr__(self) -> str:
        return "Inquiry(token=<hidden>)"


_TAKEN = (
    AllowedScopes, CreateToken, PutToken, PatchToken, RotateToken, DeactivateToken, ActivateToken, ManyTokens,
    CreateShare, PatchShare, RevokeShare, RedeemShare,
)  # fmt: skip
# Made while one thread loads this, as that of AllowedScopes.
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    one: msgspec.json.Decoder(one) for one in _TAKEN
}

Shown = (
    Token
    | Issued
    | Share
    | IssuedShare
    | Redeemed
    | Batch
    | Exchanged
    | Introspected
    | AuditPage
    | Explanation
    | Purged
    | Page[Any]
)


def show(shown: Shown) -> bytes:
    """Return the JSON of what an operation answers; of what was issued, with the credential, shown this once."""
    return msgspec.json.encode(_members(shown))


def read(body: bytes, wanted: type[T]) -> T:
    """Return the body as ``wanted``, or raise InvalidInput that names the member and the reason."""
    try:
        decoded: T = _DECODERS[wanted].decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(_explain(str(error))) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The body is not JSON: {error}") from None
    return decoded


def given(body: Struct, *without: str) -> dict[str, Any]:
    """Return the members of a body that were given, by their names in Python."""
    values = ((name, getattr(body, name)) for name in body.__struct_fields__ if name not in without)
    return {name: value for name, value in values if value is not UNSET}


def python_name(name: str) -> str:
    """Return the name in Python of a member."""
    return re.sub("[A-Z]", lambda capital: "_" + capital[0].lower(), name)


def _members(shown: Shown) -> dict[str, Any]:
    """Return every member of a record, null where empty; a token's version is told in the ``ETag``."""
    match shown:
        case Page(items=items, total=total, limit=limit, offset=offset):
            return {
                "items": [_members(one) for one in items],
                "total": total,
                "limit": limit,
                "offset": offset,
            }
        case Issued(token=token, secret=secret):
            return {**_members(token), "token": secret}
        case IssuedShare(share=share, secret=secret):
            return {**_members(share), "secret": secret}
        case Exchanged():
            return _exchanged(shown)
        case Introspected():
            return _introspection(shown)
        case _:
            members: dict[str, Any] = msgspec.to_builtins(shown)
            members.pop("version", None)
            if members.get("closed", ()) is None:  # it is of the answer to a leak alone
                del members["closed"]
            return members


def _exchanged(shown: Exchanged) -> dict[str, Any]:
    """Return the members of RFC 6749 section 5.1."""
    successor = {} if shown.refresh_token is None else {"refresh_token": shown.refresh_token}
    return {
        "access_token": shown.access_token,
        "token_type": "Bearer",
        "expires_in": floor((shown.expires_at - shown.issued_at).total_seconds()),
        **successor,
        "scope": " ".join(shown.scope),
    }


def _introspection(shown: Introspected) -> dict[str, Any]:
    """Return the members of RFC 7662 section 2.2, with those of the record beside them where it is told."""
    if shown.kind is None:
        return {"active": shown.active}
    registered = {
        "token_type": None if shown.kind == "refresh" else "Bearer",
        "sub": shown.subject,
        "username": shown.username,
        "iat": None if shown.issued_at is None else floor(shown.issued_at.timestamp()),
        "nbf": None if shown.not_before is None else ceil(shown.not_before.timestamp()),
        "exp": None if shown.expires_at is None else floor(shown.expires_at.timestamp()),
        "iss": shown.issuer,
        "aud": (shown.audience[0] if len(shown.audience) == 1 else shown.audience) or None,
        "jti": shown.token_id,
        "reason": shown.reason,
    }
    told = {name: value for name, value in registered.items() if value is not None}
    record = {} if shown.record is None else _members(shown.record)
    return {
        "active": shown.active,
        "kind": shown.kind,
        **told,
        **record,
        "scope": " ".join(shown.scope),
    }


def _explain(message: str) -> str:
    """Turn ``Expected `str`, got `int` - at `$.owner.id` `` into ``owner.id: expected str, got int``."""
    text, _, place = message.partition(" - at ")
    path = place.strip("`").removeprefix("$").removeprefix(".")
    if missing := re.fullmatch(r"Object missing required field `(.+)`", text):
        return f"{path + '.' if path else ''}{missing[1]}: is required"
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", text, re.DOTALL):
        return f"{path + '.' if path else ''}{unknown[1][:64]}: no such member"
    words = text.replace("`", "")
    return f"{path or 'The body'}: {words[0].lower()}{words[1:]}"
