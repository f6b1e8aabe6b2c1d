"""What each member and parameter of the HTTP API means, said once: for the OpenAPI document.

A name means the same wherever it stands; where it does not, ``Struct.name`` stands beside ``name`` and goes first. Beside
the words are an example and the constraints of JSON Schema that types do not tell.
"""

from __future__ import annotations

from typing import Any

from faregate.members import MAX_PAGE
from faregate.scopes import MAX_SCOPES
from faregate.share_members import MAX_OBJECTS
from faregate.texts import MAX_ID, MAX_NAME
from faregate.tokens import MAX_BATCH, SORTABLE, TYPES

_ID = "0198c2a4-7c1e-7d1b-9d3a-3f1c5c0f6a21"
_INSTANT = "2030-01-31T12:00:00Z"
_SECRET = "fg_tok_0123456789"  # noqa: S105  no secret


def _say(words: str, example: Any = None, **constraints: Any) -> dict[str, Any]:
    return {"description": words, **({} if example is None else {"examples": [example]}), **constraints}


# What faregate.texts and faregate.scopes take, as far as a pattern can say it.
_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
_LINES = r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
_SCOPE = r"^(\*|[\u0021\u0023-\u0029\u002b-\u005b\u005d-\u007e]+(:\*)?)$"
_NAME = {"minLength": 1, "maxLength": MAX_NAME, "pattern": _LINE}
_PARTY = {"minLength": 1, "maxLength": MAX_ID, "pattern": _LINE}
_KEY = {"minLength": 1, "maxLength": MAX_ID, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
_SCOPES: dict[str, Any] = {"maxItems": MAX_SCOPES, "items": {"maxLength": 512, "pattern": _SCOPE}}
_CIDR = {"maxItems": 10_000, "items": {"maxLength": 49, "pattern": r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"}}
_SORTABLE = [*SORTABLE, *(f"-{name}" for name in SORTABLE)]

MEMBERS: dict[str, dict[str, Any]] = {
    # records
    "id": _say("The record's id. `self` in a path is the token that calls.", _ID),
    "name": _say("What it is for.", "ci", **_NAME),
    "description": _say("More about it.", "the build server", maxLength=2000, pattern=_LINES),
    "type": _say("A label that is set at creation and never changes.", "API"),
    "CreateToken.type": _say("A label that is set now and never changes.", "API", enum=list(TYPES)),
    "scope": _say("Everything that is granted as a flat list, to read only.", ["docs:read"]),
    "scopes": _say("Short for `allowedScopes.generalScopes`; give one of the two.", ["docs:read"], **_SCOPES),
    "allowedScopes": _say("All that is granted."),
    "allowedCidrBlocks": _say(
        "The networks from which it may be used; an empty list allows every address, and what is left out at creation "
        "is the maker's own.", ["10.0.0.0/8"], **_CIDR,
    ),
    "createdAt": _say("When it was created.", _INSTANT),
    "updatedAt": _say("When it was changed last.", _INSTANT),
    "rotatedAt": _say("When its secret was replaced last.", _INSTANT),
    "notBefore": _say("From when on it may be used; null for at once.", _INSTANT),
    "expiresAt": _say("From then on it is expired; null for never. RFC 3339 with an offset, or epoch seconds.", _INSTANT),
    "expiresIn": _say("The seconds until it expires, in place of `expiresAt`.", 3600, exclusiveMinimum=0),
    "lastUsedAt": _say("When it was used last, written some seconds behind.", _INSTANT),
    "deactivated": _say("Whether it is closed until somebody activates it.", False),
    "deactivatedUpdatedBy": _say("Who deactivated or activated it last.", "u1"),
    "deactivatedUpdatedOn": _say("When it was deactivated or activated last.", _INSTANT),
    "deactivatedReason": _say("Why, in the words of who did.", "found in a log"),
    "requireRotation": _say("Whether each exchange replaces the secret of a refresh token; null for every other type."),
    "Token.requireRotation": _say("Whether each exchange replaces the secret of a refresh token; null for every other type.", True),
    "owner": _say("Whose it is; another owner than one's own is named by admins alone."),
    "org": _say("The organization; another than one's own is named by root alone."),
    "madeBy": _say("The id of the record, or the name, that made it.", _ID),
    "token": _say("The secret. It is shown in this answer and never again.", _SECRET),
    "PutToken.token": _say("Ignored: nobody sets a secret."),
    "PatchToken.token": _say("Ignored: nobody sets a secret."),
    # owners and organizations
    "Owner.id": _say("The owner's id; null means nobody.", "u1", **_PARTY),
    "Owner.name": _say("What people call the owner.", "Ann", **_NAME),
    "acct": _say("The owner's account.", "ann@example.com", **_PARTY),
    "domain": _say("The owner's domain.", "example.com", **_PARTY),
    "idpId": _say("The provider that knows the owner by this id.", "https://id.example.com", **_PARTY),
    "Org.id": _say("The organization's id; null is the organization of those that have none.", "acme", **_PARTY),
    "Org.name": _say("What people call the organization.", "Acme", **_NAME),
    # what is granted
    "generalScopes": _say("Scopes of RFC 6749; a final `:*` covers everything below, `*` all.", ["docs:read"], **_SCOPES),
    "organizationScopes": _say("Permissions and roles of the organization."),
    "servicesScopes": _say("Permissions and roles of services."),
    "allPermissions": _say("Whether all permissions are granted; then the list is empty.", False),
    "allRoles": _say("Whether all roles are granted; then the list is empty.", False),
    "keptInToken": _say("What introspecting an exchanged token lists.", []),
    "permissions": _say("The permissions that are granted.", maxItems=MAX_SCOPES),
    "roles": _say("The roles that are granted.", maxItems=MAX_SCOPES),
    "permissionId": _say("The permission.", "edit", **_KEY),
    "resources": _say("On which resources; null or `*` alone means any.", ["r1"], minItems=1, maxItems=MAX_SCOPES),
    "RoleGrant.name": _say("The role.", "boss", **_KEY),
    "resource": _say("On which resource; null or `*` means any.", "r1", **_KEY),
    "serviceDefinitionId": _say("The service.", "billing", **_KEY),
    # what callers say
    "grace": _say("The seconds that the old secret stays open, 7 days at most.", 60, minimum=0, maximum=604_800),
    "leaked": _say("Leave no grace, and close whatever came from the token.", False),
    "Token.leaked": _say("Whether it was closed as leaked; then a rotation comes before its activation.", False),
    "PutToken.leaked": _say("As it is."),
    "PatchToken.leaked": _say("As it is."),
    "closed": _say("What a leak closed beside the token; in the answer to `leaked` alone."),
    "tokens": _say("The tokens that were deactivated.", [_ID]),
    "shares": _say("The shares that were revoked.", [_ID]),
    "reason": _say("Why, for the record.", "found in a log", maxLength=500, pattern=_LINES),
    "ids": _say("The tokens.", [_ID], maxItems=MAX_BATCH, items=_KEY),
    # shares
    "objectId": _say("The first object that is shared.", "plan", **_KEY),
    "objectIds": _say("All objects that are shared.", ["plan"], maxItems=MAX_OBJECTS, items=_KEY),
    "Share.expiresAt": _say("From then on it is expired.", _INSTANT),
    "CreateShare.expiresAt": _say(
        "From then on it is expired; required, unless `expiresIn` is given.", _INSTANT,
        anyOf=[{"type": "string", "format": "date-time"}, {"type": "number"}],
    ),
    "CreateShare.scopes": _say("What the objects are shared for; required here or in `params`.", ["docs:read"], minItems=1, **_SCOPES),
    "PatchShare.expiresAt": _say(
        "The new end.", _INSTANT, anyOf=[{"type": "string", "format": "date-time"}, {"type": "number"}]
    ),
    "params": _say("What it opens and how."),
    "ShareParams.scopes": _say("What the objects are shared for.", ["docs:read"], minItems=1, **_SCOPES),
    "maxRedemptions": _say("How often it may be redeemed; null for without end.", 5, minimum=1),
    "attributes": _say("The application's own, a JSON object of 64 KiB.", {"for": "Bob"}),
    "revokedAt": _say("When it was revoked.", _INSTANT),
    "Token.revokedAt": _say("When a refresh token was revoked, for good; null for every other type.", _INSTANT),
    "PutToken.revokedAt": _say("As it is."),
    "PatchToken.revokedAt": _say("As it is."),
    "redemptions": _say("How often it was redeemed.", 0),
    "state": _say("What it is now.", "live"),
    "secret": _say("The share's secret. It is shown in this answer and never again.", "fg_shr_0123456789"),
    "RedeemShare.secret": _say("The share's secret; without it the caller must reach and cover the share.", "fg_shr_0123456789"),
    "PatchShare.secret": _say("Ignored: nobody sets a secret."),
    "Redeemed.token": _say("The token that opens the objects.", "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"),
    "tokenType": _say("How the token is presented.", "Bearer"),
    "Redeemed.expiresAt": _say("When the token expires, or the share, whichever comes first.", _INSTANT),
    # lists
    "items": _say("The records or entries."),
    "total": _say("How many there are in all.", 1),
    "limit": _say("How many are shown at most.", 100, minimum=1, maximum=MAX_PAGE),
    "offset": _say("After how many these begin.", 0, minimum=0),
    "successes": _say("The ids that it was done to.", [_ID]),
    "failures": _say("The others."),
    "message": _say("Why it could not be done to this one.", "There is no such token."),
    "Failure.id": _say("The token.", _ID),
    # refresh tokens
    "grant_type": _say("Always this.", "refresh_token", enum=["refresh_token"]),
    "TokenRequest.refresh_token": _say("The refresh token.", "fg_rft_0123456789", minLength=1),
    "TokenRequest.scope": _say("What the access token is narrowed to: scopes with a space between; left out, all.", "docs:read"),
    "access_token": _say("The access token.", "fg_act_0123456789"),
    "expires_in": _say("The seconds until the access token expires.", 1800),
    "refresh_token": _say("What takes over from the refresh token that was sent; without it that goes on.", "fg_rft_0123456789"),
    "TokenAnswer.scope": _say("The general scopes that the access token opens now.", "docs:read"),
    # credentials that are asked about
    "OneCredential.token": _say("The credential.", _SECRET, minLength=1),
    "OneCredential.token_type_hint": _say("Ignored: a credential tells its own kind.", "access_token"),
    "Inquiry.token": _say("The credential.", _SECRET, minLength=1),
    "Inquiry.token_type_hint": _say("`refresh_token` asks about a refresh token, which opens nothing itself.", "access_token"),
    "Inquiry.scope": _say("The general scopes that are needed, with a space between.", "docs:read"),
    "Inquiry.on": _say("The object or resource that they are needed on; left out, any.", "document 7"),
    "Inquiry.address": _say("The client's address; without it a credential that is bound to networks is not active.", "192.0.2.1"),
    "active": _say("Whether it may be let in for what is asked: all that a request is judged by, where what is not said counts as not met.", True),
    "kind": _say("What it stands for: `token`, `refresh`, `access`, `share` or `jwt`.", "token"),
    "Introspection.scope": _say("The general scopes that were asked for, else those that it opens on the object that was named, or on any.", "docs:read"),
    "Introspection.reason": _say("Why it is not active.", "expired"),
    "token_type": _say("How it is presented.", "Bearer"),
    "sub": _say("Whose it is: the owner's id, else its kind and id.", "u1"),
    "username": _say("What people call the owner.", "Ann"),
    "iat": _say("When it was made, in epoch seconds.", 1_900_000_000),
    "nbf": _say("From when on it may be used, in epoch seconds.", 1_900_000_000),
    "exp": _say("When it expires, in epoch seconds.", 1_900_003_600),
    "iss": _say("Who signed it, of a JWT.", "urn:faregate:fg"),
    "aud": _say("For whom it was signed, of a JWT.", "urn:faregate:fg"),
    "jti": _say("Its own id, of a JWT.", "8Kd0vQ"),
    # the audit
    "sequence": _say("The place of the entry: it grows with each commit.", 41),
    "at": _say("When it was done.", _INSTANT),
    "actor": _say("Who did it, by a name for people.", "u1"),
    "actorKind": _say(
        "The kind of the credential that did it; or `root`, `application` or `cli`, without a credential. Null in "
        "entries of older versions.", "token",
    ),
    "actorId": _say("The id of the credential's record.", _ID),
    "action": _say("What was done.", "token.create"),
    "AuditEntry.subject": _say("The id of the record that it was done to.", _ID),
    "orgId": _say("The organization of the record.", "acme"),
    "details": _say("More about it, by the action.", {"name": "ci", "type": "API"}),
    "more": _say("Whether newer entries follow.", False),
    "AuditPage.limit": _say("How many were asked for.", 100),
    # errors
    "Problem.type": _say("The code as a URN.", "urn:faregate:not_found", format="uri"),
    "title": _say("The kind of error.", "Not found"),
    "status": _say("The HTTP status.", 404),
    "detail": _say("What was wrong, and what to do.", "There is no such token."),
    "code": _say("The reason, for programs.", "not_found"),
    "error": _say("The code of RFC 6749 section 5.2, or RFC 7009 section 2.2.1.", "invalid_request"),
    "error_description": _say("What was wrong.", "token: is required."),
}  # fmt: skip

PARAMETERS: dict[str, dict[str, Any]] = {
    "owner": _say("Only those of this owner's id.", "u1", **_PARTY),
    "type": _say("Only those of this type.", "API", **_NAME),
    "name": _say("Only those of exactly this name.", "ci", **_NAME),
    "deactivated": _say("Only those that are, or are not.", False),
    "expiresBefore": _say("Only those that expire before this instant.", _INSTANT),
    "objectId": _say("Only those that open this object.", "plan", **_KEY),
    "limit": _say("How many to show at most; 100 if left out.", 10, minimum=1, maximum=MAX_PAGE),
    "offset": _say("After how many to begin.", 0, minimum=0),
    "after": _say("Where to begin, as the `Link` to the next page says.", "WyItY3JlYXRlZEF0IiwxLjAsIjEiXQ", maxLength=4096, pattern="^[A-Za-z0-9_-]+$"),
    "sort": _say("By which member, with `-` before it for descending; `-createdAt` if left out.", "-createdAt", enum=_SORTABLE),
    "since": _say("Entries after this sequence, or from this instant on; if left out, the newest ones.", 0),
    "subject": _say("Only those about the record of this id.", _ID, **_KEY),
}  # fmt: skip

STATUSES: dict[int, str] = {
    200: "Done.",
    201: "Created. `Location` says where it is.",
    204: "Done; there is nothing to show.",
    400: "What was sent cannot be taken; nothing was changed.",
    401: "The credential is missing, unknown, or does not open anything now.",
    403: "The credential does not allow this, or not from here.",
    404: "There is no such record, or none that you reach.",
    409: "The state of the records forbids this.",
    412: "The record is no longer the version of `If-Match`.",
    413: "The body is longer than a sound one.",
    415: "The body is of another media type than this takes.",
    503: "The store cannot answer now; try again after `Retry-After` seconds.",
}

BODIES: dict[str, dict[str, Any]] = {
    "CreateToken": {
        "name": "ci",
        "scopes": ["docs:read"],
        "allowedCidrBlocks": ["10.0.0.0/8"],
        "expiresIn": 3600,
        "owner": {"id": "u1"},
    },
    "PutToken": {"id": "self", "name": "ci 2", "description": "the build server"},
    "PatchToken": {"description": "the build server", "expiresAt": "2100-01-01T00:00:00Z"},
    "RotateToken": {"grace": 60},
    "DeactivateToken": {"reason": "found in a log", "leaked": True},
    "ActivateToken": {"reason": "it was another one"},
    "ManyTokens": {"ids": [_ID]},
    "CreateShare": {"objectId": "plan", "scopes": ["docs:read"], "expiresIn": 3600, "params": {"maxRedemptions": 5}},
    "PatchShare": {"expiresIn": 7200, "params": {"attributes": {"for": "Bob"}}},
    "RevokeShare": {},
    "RedeemShare": {},
    "TokenRequest": {"grant_type": "refresh_token", "refresh_token": "fg_rft_0123456789", "scope": "docs:read"},
    "OneCredential": {"token": _SECRET},
    "Inquiry": {"token": _SECRET, "scope": "docs:read"},
}
