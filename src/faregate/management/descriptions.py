"""The words of the HTTP API's document: the meaning of each schema, member and parameter, once.

A name means the same wherever it stands. Where it does not, ``Struct.name`` stands beside ``name`` and
goes first, for the structs that are :data:`LIKE` it too. The words of a field come from its declaration.
Beside the words are an example, and the constraints of JSON Schema that types do not tell. Each holds for
the type that it can constrain; ``$ref`` and ``anyOf`` replace that type.
"""

from __future__ import annotations

from typing import Any, get_args

from faregate.fields.field import LINE_PATTERN, NAME_SCHEMA, TEXT_PATTERN, Field
from faregate.fields.share_fields import MAX_OBJECTS, PARAM_FIELDS, SHARE_CHANGES, SHARE_FIELDS
from faregate.fields.token_fields import FIELD_NAMES, TOKEN_FIELDS, TYPES
from faregate.lifecycles.paging import MAX_PAGE
from faregate.lifecycles.tokens import MAX_BATCH, MAX_REASON, SORTABLE
from faregate.model import Kept, Share, State, Token
from faregate.values.names import MAX_ID, json_name
from faregate.values.scopes import MAX_SCOPES

_ID = "0198c2a4-7c1e-7d1b-9d3a-3f1c5c0f6a21"
_INSTANT = "2030-01-31T12:00:00Z"
_SECRET = "fg_tok_0123456789"  # noqa: S105  no secret


def _say(words: str, example: Any = None, **constraints: Any) -> dict[str, Any]:
    examples = {} if example is None else {"examples": [example]}
    return {"description": words, **examples, **constraints}


def _when(words: str, **constraints: Any) -> dict[str, Any]:
    return _say(words, _INSTANT, **{"format": "date-time", **constraints})


def _named(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _declared(fields: tuple[Field, ...], prefix: str = "") -> dict[str, dict[str, Any]]:
    """Return the words of declared fields."""
    return {
        f"{prefix}{field.json_name}": _say(field.words, field.example, **field.schema)
        for field in fields
    }


_PARTY = {"minLength": 1, "maxLength": MAX_ID, "pattern": LINE_PATTERN}
_KEY = {"minLength": 1, "maxLength": MAX_ID, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
_UUID = {"type": "string", "format": "uuid"}
_TOKEN_ID = {"anyOf": [_UUID, {"type": "string", "const": "self"}]}
# A share always expires, so null is no end of it.
_END = [{"type": "string", "format": "date-time"}, {"type": "number"}]
_OPENED = _say(
    "The general scopes that were asked for; without any, those that the credential opens on the named "
    "object, or on any object. A space separates them.",
    "docs:read",
)
_INACTIVE = _say("The reason why the credential is not active.", "expired")
_SORTABLE = [*SORTABLE, *(f"-{name}" for name in SORTABLE)]
_TOKEN_WORDS = _declared(TOKEN_FIELDS)
_SHARE_WORDS = _declared(SHARE_FIELDS)
_PARAM_WORDS = _declared(PARAM_FIELDS, "ShareParams.")

MEMBERS: dict[str, dict[str, Any]] = {
    **_TOKEN_WORDS,
    # records
    "id": _say("The record's id.", _ID, format="uuid"),
    "PutToken.id": _say("The id in the path; `self` is the token that calls.", _ID, **_TOKEN_ID),
    "type": _say("A label. It is set at creation and never changes.", "API", **_named("TokenType")),
    "CreateToken.type": _say("A label. It never changes.", "API", **_named("TokenType")),
    "scope": _say("Everything that is granted as a flat list, to read only.", ["docs:read"]),
    "createdAt": _when("The instant of the creation."),
    "updatedAt": _when("The instant of the last change."),
    "rotatedAt": _when("The instant at which the secret was last replaced."),
    "lastUsedAt": _when("The instant of the last use, written some seconds later."),
    "deactivated": _say("Whether the token is closed until it is activated.", False),
    "deactivatedUpdatedBy": _say("The actor of the last deactivation or activation.", "u1"),
    "deactivatedUpdatedOn": _when("The instant of the last deactivation or activation."),
    "deactivatedReason": _say("The reason that the actor gave.", "found in a log"),
    "madeBy": _say("The id of the record that created this one, or the name of the actor.", _ID),
    "token": _say("The secret. It is shown in this answer and never again.", _SECRET),
    "PutToken.token": _say("Ignored: nobody sets a secret."),
    "PatchToken.token": _say("Ignored: nobody sets a secret."),
    # owners and organizations
    "Owner.id": _say("The owner's id; null means no owner.", "u1", **_PARTY),
    "Owner.name": _say("The owner's name for people.", "Ann", **NAME_SCHEMA),
    "acct": _say("The owner's account.", "ann@example.com", **_PARTY),
    "domain": _say("The owner's domain.", "example.com", **_PARTY),
    "idpId": _say(
        "The provider that knows the owner by this id.", "https://id.example.com", **_PARTY
    ),
    "Org.id": _say(
        "The organization's id; null is the organization of all records without one.", "acme", **_PARTY
    ),
    "Org.name": _say("The organization's name for people.", "Acme", **NAME_SCHEMA),
    # grants
    "generalScopes": {
        **_TOKEN_WORDS["scopes"],
        "description": "Scopes of RFC 6749. A final `:*` covers everything below; `*` covers everything.",
    },
    "organizationScopes": _say("Permissions and roles of the organization."),
    "servicesScopes": _say("Permissions and roles of services."),
    "allPermissions": _say("Whether all permissions are granted; then the list is empty.", False),
    "allRoles": _say("Whether all roles are granted; then the list is empty.", False),
    "keptInToken": _say(
        "The parts that introspection of an exchanged token lists.", [], items=_named("KeptInToken")
    ),
    "permissions": _say("The permissions that are granted.", maxItems=MAX_SCOPES),
    "roles": _say("The roles that are granted.", maxItems=MAX_SCOPES),
    "permissionId": _say("The permission.", "edit", **_KEY),
    "resources": _say(
        "The resources of the grant; null or `*` alone means any.", ["r1"],
        minItems=1, maxItems=MAX_SCOPES,
    ),
    "RoleGrant.name": _say("The role.", "boss", **_KEY),
    "resource": _say("The resource of the grant; null or `*` means any.", "r1", **_KEY),
    "serviceDefinitionId": _say("The service.", "billing", **_KEY),
    # arguments of calls
    "grace": _say(
        "The seconds for which the old secret stays open, 7 days at most.", 60,
        minimum=0, maximum=604_800,
    ),
    "leaked": _say("Leave no grace, and close the lineage of the token.", False),
    "Token.leaked": _say(
        "Whether the token was closed as leaked; then a rotation comes before its activation.", False
    ),
    "closed": _say("The records that a leak closed beside the token; only in the answer to `leaked`."),
    "tokens": _say("The ids of the tokens that were deactivated.", [_ID], items=_UUID),
    "shares": _say("The ids of the shares that were revoked.", [_ID], items=_UUID),
    "reason": _say(
        "The reason, for the record.", "found in a log", maxLength=MAX_REASON, pattern=TEXT_PATTERN
    ),
    "ids": _say(
        "The ids of the tokens; `self` is the token that calls. Any other text fails by itself.", [_ID],
        maxItems=MAX_BATCH, items={"anyOf": [_UUID, {"type": "string", **_KEY}]},
    ),
    # shares
    **_PARAM_WORDS,
    "Share.expiresAt": _SHARE_WORDS["expiresAt"],
    "CreateShare.expiresIn": _SHARE_WORDS["expiresIn"],
    "PatchShare.expiresIn": _SHARE_WORDS["expiresIn"],
    "objectId": _say("The first object that is shared.", "plan", **_KEY),
    "objectIds": _say("All objects that are shared.", ["plan"], maxItems=MAX_OBJECTS, items=_KEY),
    "CreateShare.expiresAt": _when(
        "The instant from which the share is expired; required, unless `expiresIn` is given.", anyOf=_END
    ),
    "CreateShare.scopes": {
        **_PARAM_WORDS["ShareParams.scopes"],
        "description": "The scopes that the objects are shared for; required here or in `params`.",
    },
    "PatchShare.expiresAt": _when("The new end.", anyOf=_END),
    "params": _say("The scopes and limits of the share."),
    "CreateShare.params": _say("The scopes and limits of the share; null is no limit."),
    "PatchShare.params": _say(
        "The scopes and limits to change (RFC 7396): what is left out stays, null removes a limit."
    ),
    "Share.org": _say("The organization of the maker.", **_named("Org")),
    "revokedAt": _when("The instant of the revocation."),
    "Token.revokedAt": _when(
        "The instant at which a refresh token was revoked for good; null for every other type."
    ),
    "redemptions": _say("The number of redemptions so far.", 0),
    "state": _say("The state of the share now.", "live", **_named("ShareState")),
    "secret": _say(
        "The share's secret. It is shown in this answer and never again.", "fg_shr_0123456789"
    ),
    "RedeemShare.secret": _say(
        "The share's secret; without it the caller must reach and cover the share.", "fg_shr_0123456789"
    ),
    "PatchShare.secret": _say("Ignored: nobody sets a secret."),
    "Redeemed.token": _say("The token that opens the objects.", "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"),
    "tokenType": _say("The scheme in which the token is presented.", "Bearer"),
    "Redeemed.expiresAt": _when("The end of the token, or of the share, whichever comes first."),
    # lists
    "items": _say("The records or entries."),
    "total": _say("The number of all records of the list.", 1),
    "limit": _say("The most items that are shown.", 100, minimum=1, maximum=MAX_PAGE),
    "offset": _say("The number of items before the first one shown.", 0, minimum=0),
    "successes": _say("The ids that succeeded, as they were sent.", [_ID], items=_TOKEN_ID),
    "failures": _say("The ids that failed, and why."),
    "message": _say("The reason of the failure.", "There is no such token."),
    "Failure.id": _say("The id as it was sent; it may be the id of no token.", _ID),
    # refresh tokens
    "grant_type": _say("Always `refresh_token`.", "refresh_token", enum=["refresh_token"]),
    "TokenRequest.refresh_token": _say("The refresh token.", "fg_rft_0123456789", minLength=1),
    "TokenRequest.scope": _say(
        "The scopes that the access token is narrowed to, separated by spaces; all if left out.",
        "docs:read",
    ),
    "access_token": _say("The access token.", "fg_act_0123456789"),
    "expires_in": _say("The seconds until the access token expires.", 1800),
    "refresh_token": _say(
        "The refresh token that takes over from the one that was sent; without it that one goes on.",
        "fg_rft_0123456789",
    ),
    "TokenAnswer.scope": _say("The general scopes that the access token opens now.", "docs:read"),
    # credentials that are asked about
    "OneCredential.token": _say("The credential.", _SECRET, minLength=1),
    "OneCredential.token_type_hint": _say("Ignored: a credential tells its own kind.", "access_token"),
    "Inquiry.token": _say("The credential.", _SECRET, minLength=1),
    "Inquiry.token_type_hint": _say(
        "`refresh_token` asks about a refresh token, which opens nothing itself.", "access_token"
    ),
    "Inquiry.scope": _say("The general scopes that are needed, separated by spaces.", "docs:read"),
    "Inquiry.on": _say("The object or resource of the need; any if left out.", "document 7"),
    "Inquiry.address": _say(
        "The client's address. Without it a credential with allowed networks is not active.", "192.0.2.1"
    ),
    "active": _say(
        "Whether a request with this credential may be let in. A value that the question leaves out "
        "counts as not met.", True,
    ),
    "kind": _say("The kind of the credential.", "token"),
    "ShareIntrospection.kind": _say("The kind of the credential.", "share"),
    "JwtIntrospection.kind": _say("The kind of the credential.", "jwt"),
    "TokenIntrospection.scope": _OPENED,
    "ShareIntrospection.scope": _OPENED,
    "JwtIntrospection.scope": _OPENED,
    "TokenIntrospection.reason": _INACTIVE,
    "ShareIntrospection.reason": _INACTIVE,
    "JwtIntrospection.reason": _INACTIVE,
    "token_type": _say("The scheme in which the credential is presented.", "Bearer"),
    "sub": _say("The owner's id; without an owner the kind and id of the record.", "u1"),
    "username": _say("The owner's name for people.", "Ann"),
    "iat": _say("The instant of issue, in epoch seconds.", 1_900_000_000),
    "nbf": _say("The instant from which it may be used, in epoch seconds.", 1_900_000_000),
    "exp": _say("The instant of expiry, in epoch seconds.", 1_900_003_600),
    "iss": _say("The issuer of a JWT.", "urn:faregate:fg"),
    "aud": _say("The audience of a JWT.", "urn:faregate:fg"),
    "jti": _say("The id of a JWT itself.", "8Kd0vQ"),
    # the audit
    "sequence": _say("The place of the entry: it grows with each commit.", 41),
    "at": _when("The instant of the change."),
    "actor": _say("The actor's name for people.", "u1"),
    "actorKind": _say(
        "The kind of the actor's credential; `root`, `application` or `cli` without a credential; null in "
        "entries of older versions.", "token",
    ),
    "actorId": _say("The id of the record of the actor's credential.", _ID),
    "action": _say("The kind of change.", "token.create"),
    "AuditEntry.subject": _say("The id of the changed record.", _ID),
    "orgId": _say("The organization of the record.", "acme"),
    "details": _say("Details of the change, by its action.", {"name": "ci", "type": "API"}),
    "more": _say("Whether newer entries follow.", False),
    "AuditPage.limit": _say("The number of entries that were asked for.", 100),
    # errors
    "Problem.type": _say("The code as a URN.", "urn:faregate:not_found", format="uri"),
    "title": _say("The kind of error.", "Not found"),
    "status": _say("The HTTP status.", 404),
    "detail": _say("The fault, and the way to mend it.", "There is no such token."),
    "code": _say("The reason, for programs.", "not_found"),
    "error": _say("The code of RFC 6749 section 5.2, or RFC 7009 section 2.2.1.", "invalid_request"),
    "error_description": _say("The fault.", "token: is required."),
}  # fmt: skip

# Structs whose members mean the same as another's, unless a row of their own says otherwise.
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

# Members of a record that no PUT or PATCH changes: a record that was read is sent back with them.
_TOKENS_OWN = {
    json_name(name) for name in (*Token.__struct_fields__, "token") if name not in FIELD_NAMES
}
_SHARES_OWN = {
    json_name(name) for name in (*Share.__struct_fields__, "secret") if name not in SHARE_CHANGES
}
READ_ONLY = {
    **dict.fromkeys(("Token", "IssuedToken", "PatchToken"), _TOKENS_OWN),
    "PutToken": _TOKENS_OWN - {"id"},
    **dict.fromkeys(("Share", "IssuedShare", "PatchShare"), _SHARES_OWN),
}

# Enumerations have names, so that generated clients have one type for each.
ENUMERATIONS: dict[str, dict[str, Any]] = {
    "TokenType": _say(
        "The type of a token; `REFRESH` is that of refresh tokens.", "API", enum=list(TYPES)
    ),
    "ShareState": _say("The state of a share.", "live", enum=list(get_args(State))),
    "KeptInToken": _say(
        "A part of a realm that introspection lists.", "ROLES", enum=list(get_args(Kept))
    ),
}

SCHEMAS: dict[str, str] = {
    "ActivateToken": "The reason of an activation.",
    "AllowedScopes": "Everything that a token grants.",
    "AuditEntry": "One change of a record, with its actor and instant.",
    "AuditPage": "Entries in the order of their commits; newer ones follow after the last `sequence`.",
    "BareIntrospection": "Whether a credential is active, for a caller who may not see more of it.",
    "Batch": "The outcome of a call about many tokens.",
    "Closed": "The records that a leak closed beside the token itself.",
    "CreateShare": "A new share: its objects, scopes, limits and end.",
    "CreateToken": "A new token.",
    "DeactivateToken": "The reason of a deactivation, and whether the token leaked.",
    "Failure": "The failure of a call for one token.",
    "Introspection": "The state of a credential; `kind` tells the shapes apart.",
    "Inquiry": "The form of a resource server: a credential, and the needs of a request. "
    "Unknown parameters are ignored.",
    "IssuedShare": "A share and its secret, shown this once.",
    "IssuedToken": "A token and its secret, shown this once.",
    "JwtIntrospection": "The state of a JWT of a trusted issuer.",
    "ManyTokens": "The tokens of the call.",
    "OAuthError": "An error (RFC 6749 section 5.2).",
    "OneCredential": "The form that revokes a credential (RFC 7009). Unknown parameters are ignored.",
    "Org": "An organization. A null `id` is the one organization of records without any.",
    "Owner": "The owner of a token. A null `id` means no owner, and equals no other owner.",
    "PatchShare": "Changes of a share. A record that was read may be sent back; its read-only members "
    "must be unchanged.",
    "PatchToken": "Changes of a token. A record that was read may be sent back; its read-only members "
    "must be unchanged.",
    "PermissionGrant": "A permission, on the named resources or on any.",
    "Problem": "An error (RFC 9457).",
    "PutToken": "Changes of a token, with its `id` and `name`; what is left out stays.",
    "RealmScopes": "Permissions and roles of one realm.",
    "RedeemShare": "The secret of the share, unless the caller's credential covers the share.",
    "Redeemed": "A bearer token for the objects of a share, and its end.",
    "RevokeShare": "Empty so far.",
    "RoleGrant": "A role, on one resource or on any.",
    "RotateToken": "The grace of the old secret, or that it leaked.",
    "ServiceScopes": "Permissions and roles of one service.",
    "Share": "The record of a share, which opens a set of objects until it expires.",
    "ShareChange": "The scopes and limits of a share that change.",
    "ShareIntrospection": "The state of a share, or of the JWT that it was redeemed for, and its record.",
    "ShareParams": "The scopes and limits of a share.",
    "SharePage": "One page of a list of shares.",
    "Token": "The record of a token, or of a family of refresh tokens. It never holds the secret.",
    "TokenAnswer": "An access token, and the successor of the refresh token, if there is one.",
    "TokenIntrospection": "The state of a token, refresh token or access token, and its record.",
    "TokenPage": "One page of a list of tokens.",
    "TokenRequest": "The form that exchanges a refresh token (RFC 6749 section 6). "
    "Unknown parameters are ignored.",
}

TAGS: dict[str, str] = {
    "tokens": "Tokens, and credentials that are asked about.",
    "shares": "Sets of objects that open to the holder of a secret.",
    "audit": "The changes of records, with their actors.",
    "openapi": "This document, for programs.",
    "docs": "This document, for people.",
}

PARAMETERS: dict[str, dict[str, Any]] = {
    "/tokens/{id}": _say("The token's id; `self` is the token that calls.", _ID, **_TOKEN_ID),
    "/shares/{id}": _say("The share's id.", _ID, **_UUID),
    "owner": _say("Only tokens of the owner with this id.", "u1", **_PARTY),
    "type": _say("Only tokens of this type.", "API", **_named("TokenType")),
    "name": _say("Only tokens of exactly this name.", "ci", **NAME_SCHEMA),
    "deactivated": _say("Only tokens that are deactivated, or that are not.", False),
    "expiresBefore": _when("Only tokens that expire before this instant."),
    "objectId": _say("Only shares that open this object.", "plan", **_KEY),
    "limit": _say("The most items to show; 100 if left out.", 10, minimum=1, maximum=MAX_PAGE),
    "offset": _say("The number of items to skip.", 0, minimum=0),
    "after": _say(
        "The place where the page begins, as the `Link` to the next page gives it.",
        "WyItY3JlYXRlZEF0IiwxLjAsIjEiXQ", maxLength=4096, pattern="^[A-Za-z0-9_-]+$",
    ),
    "sort": _say(
        "The member to sort by, with `-` before it for descending; `-createdAt` if left out.",
        "-createdAt", enum=_SORTABLE,
    ),
    "since": _say(
        "Entries after this sequence, or from this instant on; the newest ones if left out.", 0
    ),
    "subject": _say("Only entries about the record of this id.", _ID, **_KEY),
}  # fmt: skip

STATUSES: dict[int, str] = {
    200: "Done.",
    201: "Created. `Location` is the address of the new record.",
    204: "Done; there is nothing to show.",
    400: "A value cannot be taken; nothing was changed.",
    401: "The credential is missing, unknown, or opens nothing now.",
    403: "The credential does not allow this, or not from this address.",
    404: "There is no such record, or none that the caller reaches.",
    409: "The state of the records forbids this.",
    412: "The record is no longer the version of `If-Match`.",
    413: "The body is longer than this operation reads.",
    415: "The body is of another media type than this operation reads.",
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
    "ActivateToken": {"reason": "the wrong token"},
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
