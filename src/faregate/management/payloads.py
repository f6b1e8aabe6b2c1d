"""The JSON of the HTTP API: what bodies may hold, and how records are shown.

msgspec refuses shapes and types here; meanings are judged with the fields. Either way the refusal
names the member. The bodies that create and change records are derived from the declared fields.
"""

from __future__ import annotations

import re
from datetime import datetime
from math import ceil, floor
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType, defstruct

from faregate.errors import InvalidInput
from faregate.fields.field import SentInstant
from faregate.fields.share_fields import SHARE_FIELDS
from faregate.fields.token_fields import TOKEN_FIELDS
from faregate.model import (
    AllowedScopes,
    AuditPage,
    Batch,
    Exchanged,
    Explanation,
    Introspected,
    Issued,
    IssuedShare,
    Page,
    Purged,
    Redeemed,
    Share,
    Token,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from faregate.fields.field import Field

T = TypeVar("T")

Member = tuple[str, Any] | tuple[str, Any, Any]

# Members of records that a body never holds: a version is told in the ETag, and `closed` in one
# answer.
_NOT_SENT = frozenset({"version", "closed"})


def _body(name: str, members: Iterable[Member], doc: str) -> type[Struct]:
    """Return the type of a body with these members. Unknown ones are refused."""
    body = defstruct(
        name,
        list(members),
        module=__name__,
        rename="camel",
        forbid_unknown_fields=True,
        kw_only=True,
    )
    body.__doc__ = doc
    return body


def _settable(fields: Iterable[Field], *, creates: bool = False) -> list[Member]:
    """Return the members for declared fields; required ones are so in a body that ``creates``."""
    return [
        (field.name, field.sent)
        if creates and field.required
        else (field.name, field.sent | UnsetType, UNSET)
        for field in fields
    ]


def _read_only(record: type[Struct], fields: Iterable[Field]) -> list[Member]:
    """Return the members of a record that no call sets: a record that was read may be sent back."""
    settable = {field.name for field in fields}
    return [
        (member.name, _as_sent(member.type) | UnsetType, UNSET)
        for member in msgspec.structs.fields(record)
        if member.name not in settable | _NOT_SENT
    ]


def _as_sent(kind: Any) -> Any:
    """Return the type in which a member of this type may be sent back."""
    if datetime in (kind, *get_args(kind)):
        return SentInstant
    if kind == tuple[str, ...]:
        return list[str]
    return kind if isinstance(kind, type) or get_args(kind) else Any


_CREDENTIAL: Member = ("token", Any, UNSET)  # ignored: nobody sets a credential
_SENT_BACK: list[Member] = [*_settable(TOKEN_FIELDS), *_read_only(Token, TOKEN_FIELDS), _CREDENTIAL]
_TO_PUT = [(name, str) if name in ("id", "name") else (name, *rest) for name, *rest in _SENT_BACK]

CreateToken = _body(
    "CreateToken",
    [*_settable(TOKEN_FIELDS, creates=True), ("type", str, "API")],
    "The body of ``POST /tokens``.",
)
PatchToken = _body("PatchToken", _SENT_BACK, "The body of ``PATCH /tokens/{id}``.")
PutToken = _body(
    "PutToken", _TO_PUT, "The body of ``PUT /tokens/{id}``, which needs ``id`` and ``name``."
)


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


_SCOPES: Member = ("scopes", tuple[str, ...] | UnsetType, UNSET)
_PARAMS: Member = ("params", dict[str, Any] | UnsetType, UNSET)
_SECRET: Member = ("secret", Any, UNSET)  # ignored: nobody sets a credential

CreateShare = _body(
    "CreateShare",
    [
        ("object_id", str),
        ("object_ids", tuple[str, ...] | UnsetType, UNSET),
        *_settable(SHARE_FIELDS),
        _SCOPES,
        _PARAMS,
    ],
    "The body of ``POST /shares``.",
)
PatchShare = _body(
    "PatchShare",
    [
        *_settable(SHARE_FIELDS),
        _PARAMS,
        *(
            member
            for member in _read_only(Share, SHARE_FIELDS)
            if member[0] not in ("params", "org")
        ),
        ("org", dict[str, Any] | UnsetType, UNSET),
        _SECRET,
    ],
    "The body of ``PATCH /shares/{id}``.",
)


class RevokeShare(Struct, forbid_unknown_fields=True):
    """The body of ``POST /shares/{id}/revoke``: empty so far."""


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
    """The form of ``POST /introspect`` (RFC 7662); unknown parameters are ignored."""

    token: str
    token_type_hint: str | UnsetType = UNSET
    scope: str | UnsetType = UNSET
    on: str | UnsetType = UNSET
    address: str | UnsetType = UNSET

    def __repr__(self) -> str:
        return "Inquiry(token=<hidden>)"


_READ: tuple[type[Struct], ...] = (
    AllowedScopes,
    CreateToken,
    PutToken,
    PatchToken,
    RotateToken,
    DeactivateToken,
    ActivateToken,
    ManyTokens,
    CreateShare,
    PatchShare,
    RevokeShare,
    RedeemShare,
)
# Made while one thread loads this module: msgspec learns a type once.
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    body: msgspec.json.Decoder(body) for body in _READ
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
    """Return the JSON of an operation's answer. An issued credential is in it, this once."""
    return msgspec.json.encode(_members(shown))


def read(body: bytes, wanted: type[T]) -> T:
    """Return the body as ``wanted``; raise InvalidInput, which names the member and the reason."""
    try:
        decoded: T = _DECODERS[wanted].decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(_explain(str(error))) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The body is not JSON: {error}") from None
    return decoded


def given(body: Struct, *without: str) -> dict[str, Any]:
    """Return the members of a body that were given, by their names in Python."""
    values = {name: getattr(body, name) for name in body.__struct_fields__ if name not in without}
    return {name: value for name, value in values.items() if value is not UNSET}


def python_name(name: str) -> str:
    """Return the name in Python of a member."""
    return re.sub("[A-Z]", lambda capital: "_" + capital[0].lower(), name)


def _members(shown: Shown) -> dict[str, Any]:
    """Return every member of a record, null where empty."""
    match shown:
        case Page(items=items, total=total, limit=limit, offset=offset):
            listed = [_members(item) for item in items]
            return {"items": listed, "total": total, "limit": limit, "offset": offset}
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
            # A token's version is told in the ETag.
            members.pop("version", None)
            # Only the answer to a leak has it.
            if members.get("closed", ()) is None:
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
    """Return the members of RFC 7662 section 2.2, and those of the record where it may be shown."""
    if shown.kind is None:
        return {"active": shown.active}

    audience: Any = shown.audience or None
    if len(shown.audience) == 1:
        audience = shown.audience[0]
    registered = {
        "token_type": None if shown.kind == "refresh" else "Bearer",
        "sub": shown.subject,
        "username": shown.username,
        "iat": None if shown.issued_at is None else floor(shown.issued_at.timestamp()),
        "nbf": None if shown.not_before is None else ceil(shown.not_before.timestamp()),
        "exp": None if shown.expires_at is None else floor(shown.expires_at.timestamp()),
        "iss": shown.issuer,
        "aud": audience,
        "jti": shown.token_id,
        "reason": shown.reason,
    }
    return {
        "active": shown.active,
        "kind": shown.kind,
        **{name: value for name, value in registered.items() if value is not None},
        **({} if shown.record is None else _members(shown.record)),
        "scope": " ".join(shown.scope),
    }


def _explain(message: str) -> str:
    """Return msgspec's message with the member first: ``owner.id: expected str, got int``."""
    text, _, place = message.partition(" - at ")
    path = place.strip("`").removeprefix("$").removeprefix(".")
    prefix = f"{path}." if path else ""
    if missing := re.fullmatch(r"Object missing required field `(.+)`", text):
        return f"{prefix}{missing[1]}: is required"
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", text, re.DOTALL):
        return f"{prefix}{unknown[1][:64]}: no such member"
    words = text.replace("`", "")
    return f"{path or 'The body'}: {words[0].lower()}{words[1:]}"
