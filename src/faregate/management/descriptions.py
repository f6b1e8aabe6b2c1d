"""What each schema, member and parameter of the HTTP API means, said once: for the OpenAPI document.

A name means the same wherever it stands; where it does not, ``Struct.name`` stands beside ``name`` and goes first, for
the structs that are :data:`LIKE` it too. Beside the words are an example and the constraints of JSON Schema that types
do not tell: each holds for the type that it can constrain, ``$ref`` and ``anyOf`` in place of that type.
"""

from __future__ import annotations

from typing import Any, get_args

from faregate.lifecycles.share_fields import MAX_COUNT, MAX_OBJECTS, SHARE_CHANGES
from faregate.lifecycles.token_fields import MAX_PAGE, TOKEN_FIELDS
from faregate.lifecycles.tokens import MAX_BATCH, SORTABLE, TYPES
from faregate.model import Kept, Share, State, Token
from faregate.values.names import MAX_ID, MAX_NAME, json_name
from faregate.values.scopes import MAX_SCOPES

_ID = "0198c2a4-7c1e-7d1b-9d3a-3f1c5c0f6a21"
_INSTANT = "2030-01-31T12:00:00Z"
_SECRET = "fg_tok_0123456789"  # noqa: S105  no secret


def _say(words: str, example: Any = None, **constraints: Any) -> dict[str, Any]:
    return {
        "description": words,
        **({} if example is None else {"examples": [example]}),
        **constraints,
    }


def _when(words: str, **constraints: Any) -> dict[str, Any]:
    return _say(words, _INSTANT, **{"format": "date-time", **constraints})


def _named(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


# What faregate.texts and faregate.scopes take, as far as a pattern can say it.
_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
_LINES = (
    r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
)
_SCOPE = r"^(\*|[\u0021\u0023-\u0029\u002b-\u005b\u005d-\u007e]+(:\*)?)$"
_SHARED = r"^(?!gate:|\*$)[\u0021\u0023-\u0029\u002b-\u005b\u005d-\u007e]+(:\*)?$"  # neither all nor the gate's own
_NAME = {"minLength": 1, "maxLength": MAX_NAME, "pattern": _LINE}
_PARTY = {"minLength": 1, "maxLength": MAX_ID, "pattern": _LINE}
_KEY = {"minLength": 1, "maxLength": MAX_ID, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
_SCOPES: dict[str, Any] = {"maxItems": MAX_SCOPES, "items": {"maxLength": 512, "pattern": _SCOPE}}
_SHARED_SCOPES: dict[str, Any] = {
    "minItems": 1,
    "maxItems": MAX_SCOPES,
    "items": {"maxLength": 512, "pattern": _SHARED},
}
_CIDR = {
    "maxItems": 10_000,
    "items": {"maxLength": 49, "pattern": r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"},
}
_UUID = {"type": "string", "format": "uuid"}
_TOKEN_ID = {"anyOf": [_UUID, {"type": "string", "const": "self"}]}
_END = [
    {"type": "string", "format": "date-time"},
    {"type": "number"},
]  # of a share, which always has one
_SAID = _say(
    "The general scopes that were asked for, else those that it opens on the object that was named, or on any; a space between them.",
    "docs:read",
)
_INACTIVE = _say("Why it is not active.", "expired")
_SORTABLE = [*SORTABLE, *(f"-{name}" for name in SORTABLE)]

MEMBERS: dict[str, dict[str, Any]] = {
    # records
    "id": _say("The record's id.", _ID, format="uuid"),
    "PutToken.id": _say("The id in the path; `self` is the token that calls.", _ID, **_TOKEN_ID),
    "name": _say("What it is for.", "ci", **_NAME),
    "description": _say("More about it.", "the build server", maxLength=2000, pattern=_LINES),
    "type": _say("A label that is set at creation and never changes.", "API", **_named("TokenType")),
    "CreateToken.type": _say("A label that is set now and never changes.", "API", **_named("TokenType")),
    "scope": _say("Everything that is granted as a flat list, to read only.", ["docs:read"]),
    "scopes": _say("Short for `allowedScopes.generalScopes`; give one of the two.", ["docs:read"], **_SCOPES),
    "allowedScopes": _say("All that is granted."),
    "allowedCidrBlocks": _say(
        "The networks from which it may be used; an empty list allows every address, and what is left out at creation "
        "is the maker's own.", ["10.0.0.0/8"], **_CIDR,
    ),
    "createdAt": _when("When it was created."),
    "updatedAt": _when("When it was changed last."),
    "rotatedAt": _when("When its secret was replaced last."),
    "notBefore": _when("From when on it may be used; null for at once."),
    "expiresAt": _when("From then on it is expired; null for never."),
    "expiresIn": _say("The seconds until it expires, in place of `expiresAt`.", 3600, exclusiveMinimum=0),
    "lastUsedAt": _when("When it was used last, written some seconds behind."),
    "deactivated": _say("Whether it is closed until somebody activates it.", False),
    "deactivatedUpdatedBy": _say("Who deactivated or activated it last.", "u1"),
    "deactivatedUpdatedOn": _when("When it was deactivated or activated last."),
    "deactivatedReason": _say("Why, in the words of who did.", "found in a log"),
    "requireRotation": _say("Whether each exchange replaces the secret of a refresh token; null for every other type.", True),
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
    "keptInToken": _say("What introspecting an exchanged token lists.", [], items=_named("KeptInToken")),
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
    "closed": _say("What a leak closed beside the token; in the answer to `leaked` alone."),
    "tokens": _say("The ids of the tokens that were deactivated.", [_ID], items=_UUID),
    "shares": _say("The ids of the shares that were revoked.", [_ID], items=_UUID),
    "reason": _say("Why, for the record.", "found in a log", maxLength=500, pattern=_LINES),
    "ids": _say(
        "The ids of the tokens, `self` for the token that calls; any other text fails alone.", [_ID],
        maxItems=MAX_BATCH, items={"anyOf": [_UUID, {"type": "string", **_KEY}]},
    ),
    # shares
    "objectId": _say("The first object that is shared.", "plan", **_KEY),
    "objectIds": _say("All objects that are shared.", ["plan"], maxItems=MAX_OBJECTS, items=_KEY),
    "Share.expiresAt": _when("From then on it is expired."),
    "CreateShare.expiresAt": _when("From then on it is expired; required, unless `expiresIn` is given.", anyOf=_END),
    "CreateShare.scopes": _say("What the objects are shared for; required here or in `params`.", ["docs:read"], **_SHARED_SCOPES),
    "PatchShare.expiresAt": _when("The new end.", anyOf=_END),
    "params": _say("What it opens and how."),
    "CreateShare.params": _say("How it opens the objects; of its members null is no limit."),
    "PatchShare.params": _say("What changes of how it opens the objects (RFC 7396): what is left out stays, null takes a limit away."),
    "ShareParams.scopes": _say("What the objects are shared for.", ["docs:read"], **_SHARED_SCOPES),
    "ShareParams.allowedCidrBlocks": _say(
        "The networks from which it may be redeemed and used; an empty list allows every address, and what is left out at "
        "creation is the maker's own.", ["10.0.0.0/8"], **_CIDR,
    ),
    "ShareParams.maxRedemptions": _say("How often it may be redeemed; null for without end.", 5, minimum=1, maximum=MAX_COUNT),
    "Share.org": _say("The organization of the maker.", **_named("Org")),
    "attributes": _say("The application's own, a JSON object of 64 KiB.", {"for": "Bob"}),
    "revokedAt": _when("When it was revoked."),
    "Token.revokedAt": _when("When a refresh token was revoked, for good; null for every other type."),
    "redemptions": _say("How often it was redeemed.", 0),
    "state": _say("What it is now.", "live", **_named("ShareState")),
    "secret": _say("The share's secret. It is shown in this answer and never again.", "fg_shr_0123456789"),
    "RedeemShare.secret": _say("The share's secret; without it the caller must reach and cover the share.", "fg_shr_0123456789"),
    "PatchShare.secret": _say("Ignored: nobody sets a secret."),
    "Redeemed.token": _say("The token that opens the objects.", "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"),
    "tokenType": _say("How the token is presented.", "Bearer"),
    "Redeemed.expiresAt": _when("When the token expires, or the share, whichever comes first."),
    # lists
    "items": _say("The records or entries."),
    "total": _say("How many there are in all.", 1),
    "limit": _say("How many are shown at most.", 100, minimum=1, maximum=MAX_PAGE),
    "offset": _say("After how many these begin.", 0, minimum=0),
    "successes": _say("The ids that it was done to, as they were sent.", [_ID], items=_TOKEN_ID),
    "failures": _say("The others."),
    "message": _say("Why it could not be done to this one.", "There is no such token."),
    "Failure.id": _say("The id as it was sent, which may be none of a token's.", _ID),
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
    "kind": _say("What it stands for.", "token"),
    "ShareIntrospection.kind": _say("What it stands for.", "share"),
    "JwtIntrospection.kind": _say("What it stands for.", "jwt"),
    "TokenIntrospection.scope": _SAID,
    "ShareIntrospection.scope": _SAID,
    "JwtIntrospection.scope": _SAID,
    "TokenIntrospection.reason": _INACTIVE,
    "ShareIntrospection.reason": _INACTIVE,
    "JwtIntrospection.reason": _INACTIVE,
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
    "at": _when("When it was done."),
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

# Whose members mean the same as another's, unless a row of their own says otherwise.
LIKE = {
    "IssuedToken": "Token",
    "PutToken": "Token",
    "PatchToken": "Token",
    "TokenIntrospection": "Token",
    "IssuedShare": "Share",
    "PatchShare": "Share",
    "ShareIntrospection": "Share",
    "ShareChange": "ShareParams",
}

# Members of a record that no PUT or PATCH changes: a record that was read is sent back with them as they are.
_TOKENS_OWN = {
    json_name(name) for name in (*Token.__struct_fields__, "token") if name not in TOKEN_FIELDS
}
_SHARES_OWN = {
    json_name(name) for name in (*Share.__struct_fields__, "secret") if name not in SHARE_CHANGES
}
READ_ONLY = {
    **dict.fromkeys(("Token", "IssuedToken", "PatchToken"), _TOKENS_OWN),
    "PutToken": _TOKENS_OWN - {"id"},
    **dict.fromkeys(("Share", "IssuedShare", "PatchShare"), _SHARES_OWN),
}

# Enumerations have names, so that clients have one type for each.
ENUMERATIONS: dict[str, dict[str, Any]] = {
    "TokenType": _say(
        "The type of a token; `REFRESH` is that of refresh tokens.", "API", enum=list(TYPES)
    ),
    "ShareState": _say("The state of a share.", "live", enum=list(get_args(State))),
    "KeptInToken": _say("What of a realm introspection lists.", "ROLES", enum=list(get_args(Kept))),
}

SCHEMAS: dict[str, str] = {
    "ActivateToken": "Why a token is activated.",
    "AllowedScopes": "Everything that a token grants.",
    "AuditEntry": "One change: who did what to which record, and when.",
    "AuditPage": "Entries in the order of their commits; newer ones follow after the `sequence` of the last one.",
    "BareIntrospection": "Whether a credential is active, for a caller who may know no more of it.",
    "Batch": "What became of a call about many tokens.",
    "Closed": "What a leak closed beside the token itself.",
    "CreateShare": "A new share: of which objects, for what, and until when.",
    "CreateToken": "A new token.",
    "DeactivateToken": "Why a token is deactivated, and whether it leaked.",
    "Failure": "What could not be done to one token, and why.",
    "Introspection": "What a credential is worth, by what it is; `kind` tells the shapes apart.",
    "Inquiry": "The form that a resource server asks with: a credential, and what it is to open; unknown parameters are ignored.",
    "IssuedShare": "A share and its secret, shown this once.",
    "IssuedToken": "A token and its secret, shown this once.",
    "JwtIntrospection": "What a JWT of a trusted issuer is worth.",
    "ManyTokens": "The tokens that it is about.",
    "OAuthError": "An error (RFC 6749 section 5.2).",
    "OneCredential": "The form that a credential is revoked with (RFC 7009); unknown parameters are ignored.",
    "Org": "An organization. A null `id` is the one organization of records that have none.",
    "Owner": "The owner of a token. A null `id` means nobody, and equals no other owner.",
    "PatchShare": "Changes of a share. A record that was read may be sent back; its read-only members have to be as they are.",
    "PatchToken": "Changes of a token. A record that was read may be sent back; its read-only members have to be as they are.",
    "PermissionGrant": "A permission, on the named resources or on any.",
    "Problem": "An error (RFC 9457).",
    "PutToken": "Changes of a token, with its `id` and `name`; what is left out stays.",
    "RealmScopes": "Permissions and roles of one realm.",
    "RedeemShare": "The secret of the share, if the caller has no credential that covers it.",
    "Redeemed": "A bearer token for the objects of a share, and until when it opens them.",
    "RevokeShare": "Nothing so far.",
    "RoleGrant": "A role, on one resource or on any.",
    "RotateToken": "How long the old secret stays open, or that it leaked.",
    "ServiceScopes": "Permissions and roles of one service.",
    "Share": "The record of a share, which opens a set of objects until it expires.",
    "ShareChange": "How a share opens its objects, as far as it is given.",
    "ShareIntrospection": "What a share is worth, or the JWT that it was redeemed for: beside that, its record.",
    "ShareParams": "For what, from where and how often a share opens its objects.",
    "SharePage": "One page of a list of shares.",
    "Token": "The record of a token, or of a family of refresh tokens. It never holds the secret.",
    "TokenAnswer": "An access token, and what takes over from the refresh token that was sent, if anything.",
    "TokenIntrospection": "What a token is worth, a refresh token or an access token: beside that, its record.",
    "TokenPage": "One page of a list of tokens.",
    "TokenRequest": "The form that a refresh token is exchanged with (RFC 6749 section 6); unknown parameters are ignored.",
}  # fmt: skip

TAGS: dict[str, str] = {
    "tokens": "Tokens, and credentials that are asked about.",
    "shares": "Sets of objects that open to the holder of a secret.",
    "audit": "Who changed what, and when.",
    "openapi": "This document, for programs.",
    "docs": "This document, for people.",
}

PARAMETERS: dict[str, dict[str, Any]] = {
    "/tokens/{id}": _say("The token's id; `self` is the token that calls.", _ID, **_TOKEN_ID),
    "/shares/{id}": _say("The share's id.", _ID, **_UUID),
    "owner": _say("Only those of this owner's id.", "u1", **_PARTY),
    "type": _say("Only those of this type.", "API", **_named("TokenType")),
    "name": _say("Only those of exactly this name.", "ci", **_NAME),
    "deactivated": _say("Only those that are, or are not.", False),
    "expiresBefore": _when("Only those that expire before this instant."),
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
    "CreateShare": {
        "objectId": "plan",
        "scopes": ["docs:read"],
        "expiresIn": 3600,
        "params": {"maxRedemptions": 5},
    },
    "PatchShare": {"expiresIn": 7200, "params": {"attributes": {"for": "Bob"}}},
    "RevokeShare": {},
    "RedeemShare": {},
    "TokenRequest": {
        "grant_type": "refresh_token",
        "refresh_token": "fg_rft_0123456789",
        "scope": "docs:read",
    },
    "OneCredential": {"token": _SECRET},
    "Inquiry": {"token": _SECRET, "scope": "docs:read"},
}
