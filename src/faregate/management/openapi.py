"""The OpenAPI 3.1 document of the HTTP API, made from its operations and from the structs of its JSON.

What is said here once is how they become a document; what they mean is in :mod:`faregate.management.descriptions`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from faregate.credentials.presented import QUERY_PARAMETER
from faregate.errors import REASONS, Conflict, InvalidInput, NotFound, PreconditionFailed
from faregate.management import payloads
from faregate.management.descriptions import (
    BODIES,
    ENUMERATIONS,
    LIKE,
    MEMBERS,
    PARAMETERS,
    READ_ONLY,
    SCHEMAS,
    STATUSES,
    TAGS,
)
from faregate.management.request import BodyTooLarge, InvalidRequest, NotForm, NotJson
from faregate.model import (
    AuditEntry,
    AuditPage,
    Batch,
    Exchanged,
    Introspected,
    Issued,
    Page,
    Redeemed,
    Share,
    Token,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from faregate.credentials.presented import CredentialResolver
    from faregate.management.operations import Operation

Json = dict[str, Any]

_ERROR_HEADERS = {
    401: (
        "WWW-Authenticate",
        "The challenge of RFC 6750.",
        'Bearer realm="faregate", error="invalid_token"',
    ),
    503: ("Retry-After", "The seconds to wait.", "1"),
}
_BODIES = (
    payloads.CreateToken,
    payloads.PutToken,
    payloads.PatchToken,
    payloads.RotateToken,
    payloads.DeactivateToken,
    payloads.ActivateToken,
    payloads.ManyTokens,
    payloads.CreateShare,
    payloads.PatchShare,
    payloads.RevokeShare,
    payloads.RedeemShare,
    payloads.TokenRequest,
    payloads.OneCredential,
    payloads.Inquiry,
)
_GIVEN: dict[Any, str] = {
    Issued: "IssuedToken",
    Page[Token]: "TokenPage",
    Page[Share]: "SharePage",
    Introspected: "Introspection",
    Exchanged: "TokenAnswer",
}
_REGISTERED: Json = {  # RFC 7662 section 2.2, and what is ours
    "active": {"type": "boolean"},
    "scope": {"type": "string"},
    "reason": {"type": "string"},
    **{name: {"type": "string"} for name in ("token_type", "sub", "username")},
    **{name: {"type": "integer"} for name in ("iat", "nbf", "exp")},
}
_SIGNED: Json = {  # of a JWT alone
    **{name: {"type": "string"} for name in ("iss", "jti")},
    "aud": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
}
_PASSWORD: Json = {  # as stock resource servers send it
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "For introspection alone: a token's secret as the password (RFC 7617), of any user.",
    }
}
_REFUSALS = (
    InvalidInput,
    InvalidRequest,
    NotFound,
    Conflict,
    PreconditionFailed,
    BodyTooLarge,
    NotJson,
    NotForm,
)
_ONE_END: Json = {"not": {"required": ["expiresAt", "expiresIn"]}}
_OF_TOKEN: Json = {"allOf": [{"not": {"required": ["scopes", "allowedScopes"]}}, _ONE_END]}
_SCOPED: Json = {"required": ["params"], "properties": {"params": {"required": ["scopes"]}}}
# What cannot be told by the types of single members: which of them go together. All of it is below ``allOf``:
# beside ``properties``, generators take ``anyOf`` and ``oneOf`` for a choice between other schemas.
_TOGETHER: dict[str, Json] = {
    **dict.fromkeys(("CreateToken", "PutToken", "PatchToken"), _OF_TOKEN),
    "CreateShare": {
        "allOf": [
            _ONE_END,
            {"anyOf": [{"required": ["expiresAt"]}, {"required": ["expiresIn"]}]},
            {"not": {**_SCOPED, "required": ["scopes", "params"]}},
            {"anyOf": [{"required": ["scopes"]}, _SCOPED]},
        ]
    },
    "PatchShare": _ONE_END,
}
# The keywords of JSON Schema that constrain values of a type.
_KEYWORDS: dict[str, frozenset[str]] = {
    "string": frozenset({"enum", "format", "maxLength", "minLength", "pattern"}),
    "array": frozenset({"items", "maxItems", "minItems"}),
    **dict.fromkeys(("integer", "number"), frozenset({"exclusiveMinimum", "maximum", "minimum"})),
}
_WORDS = frozenset({"description", "examples"})
_NOUNS = {
    "token": ("token", "tokens"),
    "share": ("share", "shares"),
    "audit": ("audit_entry", "audit_entries"),
}


def document(
    operations: Sequence[Operation],
    resolver: CredentialResolver,
    prefix: str,
    *,
    by_credential: bool,
) -> Json:
    """Return the document of an API that is mounted at ``prefix``.

    Its callers present a credential where ``resolver`` finds it, or, unless ``by_credential``, are known to the
    application otherwise.
    """
    schemes = _schemes(resolver) if by_credential else {}
    paths: dict[str, Json] = {}
    for operation in operations:
        told = _operation(operation, schemes)
        if operation.status == 201:
            told["responses"]["201"]["links"] = _links(operation, operations)
        paths.setdefault(operation.path, {})[operation.method.lower()] = told
    components: Json = {"schemas": _schemas()}
    if schemes:
        components["securitySchemes"] = {**schemes, **_PASSWORD} if "bearer" in schemes else schemes
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "faregate",
            "version": "1",
            "summary": "Tokens and shares of this application: issued, shown, changed, closed.",
            "description": "Instants are RFC 3339 with an offset, or epoch seconds. Errors are problem+json, RFC 9457.",
        },
        "servers": [{"url": prefix, "description": "Where this API is mounted."}],
        "tags": [{"name": name, "description": words} for name, words in TAGS.items()],
        "paths": paths,
        "components": components,
    }


def _operation(operation: Operation, schemes: Mapping[str, Json]) -> Json:
    about, _, _ = operation.call.partition(".")
    described: Json = {
        "operationId": _identifier(operation),
        "summary": operation.summary,
        "tags": [f"{about}s" if about in ("token", "share") else about],
        "responses": _responses(operation),
    }
    if operation.open:
        # Of a share that is redeemed by its id alone the caller presents a credential.
        described["security"] = (
            [*({name: []} for name in schemes), {}] if operation.call == "share.redeem" else []
        )
    elif schemes:
        password = _PASSWORD if operation.call == "token.introspect" and "bearer" in schemes else {}
        described["security"] = [{name: []} for name in (*schemes, *password)]
    if parameters := [
        *_path_parameters(operation),
        *_query_parameters(operation),
        *_header_parameters(operation),
    ]:
        described["parameters"] = parameters
    if operation.takes is not None:
        media = "application/x-www-form-urlencoded" if operation.form else "application/json"
        name = operation.takes.__name__
        content = {"schema": {"$ref": f"#/components/schemas/{name}"}, "example": BODIES[name]}
        described["requestBody"] = {
            "description": "What is sent."
            if not operation.optional
            else "What is sent, if anything.",
            "required": not operation.optional,
            "content": {media: content},
        }
    return described


def _identifier(operation: Operation) -> str:
    """Return the operation's name as that of a function: ``list_tokens``."""
    about, _, verb = operation.call.partition(".")
    if not verb:
        return f"get_{about}"
    one, many = _NOUNS[about]
    if verb == "update":  # in two ways
        verb = operation.method.lower()
    several = verb == "list" or verb.endswith("_many")
    return f"{verb.removesuffix('_many')}_{many if several else one}"


def _links(operation: Operation, operations: Sequence[Operation]) -> Json:
    """Return the operations about the record that this one creates."""
    below = [one for one in operations if one.path.startswith(f"{operation.path}/{{id}}")]
    return {
        _identifier(one): {
            "operationId": _identifier(one),
            "parameters": {"id": "$response.body#/id"},
            "description": one.summary,
        }
        for one in below
    }


def _path_parameters(operation: Operation) -> Iterable[Json]:
    place, parameter, _ = operation.path.partition("{id}")
    if parameter:
        told = PARAMETERS[place + parameter]
        schema = _bound({"type": "string"}, told)
        yield {"name": "id", "in": "path", "required": True, "schema": schema, **_parted(told)}


def _query_parameters(operation: Operation) -> Iterable[Json]:
    for name, reader in operation.query.items():
        told = PARAMETERS[name]
        yield {"name": name, "in": "query", "schema": _bound(reader.schema, told), **_parted(told)}


def _header_parameters(operation: Operation) -> Iterable[Json]:
    if 412 in operation.refuses:
        words = "Do it only if the record still has this `ETag`."
        yield {
            "name": "If-Match",
            "in": "header",
            "schema": {"type": "string"},
            "description": words,
            "example": '"1"',
        }


def _parted(told: Json) -> Json:
    """Return the words about a parameter, which stand beside its schema."""
    example = {"example": told["examples"][0]} if "examples" in told else {}
    return {"description": told["description"], **example}


def _responses(operation: Operation) -> Json:
    done: Json = {"description": STATUSES[operation.status]}
    if operation.call == "docs":
        done["content"] = {"text/html": {"schema": {"type": "string"}}}
    elif operation.gives is not None:
        schema = {
            "$ref": f"#/components/schemas/{_GIVEN.get(operation.gives) or operation.gives.__name__}"
        }
        example = _example(schema)
        if operation.gives is Introspected:
            del example["reason"]  # which only an inactive one has
        done["content"] = {"application/json": {"schema": schema, "example": example}}
    elif operation.status != 204:
        done["content"] = {"application/json": {"schema": {"type": "object"}}}
    if headers := _headers(operation):
        done["headers"] = headers
    answers: Json = {str(operation.status): done}
    for status in _refusals(operation):
        answers[str(status)] = _problem(status, operation)
    return dict(sorted(answers.items()))


def _headers(operation: Operation) -> Json:
    headers: dict[str, tuple[str, str]] = {}
    if operation.status == 201:
        headers["Location"] = (
            "Where the new record is.",
            "/auth/tokens/0198c2a4-7c1e-7d1b-9d3a-3f1c5c0f6a21",
        )
    if operation.gives in (Token, Issued):
        headers["ETag"] = "The version of the record, for `If-Match`.", '"1"'
    if operation.gives in (Page[Token], Page[Share], AuditPage):
        headers["Link"] = (
            "The neighbouring pages (RFC 8288).",
            '</auth/tokens?offset=100>; rel="next"',
        )
    return {
        name: {"description": words, "schema": {"type": "string"}, "example": example}
        for name, (words, example) in headers.items()
    }


def _refusals(operation: Operation) -> list[int]:
    """Return the statuses with which an operation refuses."""
    if operation.call in ("openapi", "docs"):
        return []
    statuses = {400, 503, *operation.refuses}
    if operation.takes is not None:
        statuses.add(413)
    if not operation.oauth:
        statuses |= {401, 403} if operation.takes is None else {401, 403, 415}
    if "{id}" in operation.path:
        statuses.add(404)
    return sorted(statuses)


def _problem(status: int, operation: Operation) -> Json:
    media, schema = ("json", "OAuthError") if operation.oauth else ("problem+json", "Problem")
    words = STATUSES[status]
    if not operation.oauth:
        codes = [name for name, reason in REASONS.items() if reason.status == status]
        codes += [refusal.code for refusal in _REFUSALS if refusal.status == status]
        words += f" The `code` is one of {', '.join(f'`{code}`' for code in codes)}."
    reference = {"$ref": f"#/components/schemas/{schema}"}
    shown = {
        "schema": reference,
        "example": _example(reference) if operation.oauth else _problem_of(status),
    }
    told: Json = {"description": words, "content": {f"application/{media}": shown}}
    if status in _ERROR_HEADERS:
        name, meaning, example = _ERROR_HEADERS[status]
        told["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}, "example": example}
        }
    return told


def _problem_of(status: int) -> Json:
    """Return an error of this status, as it is answered."""
    named = [(name, one.title, one.detail) for name, one in REASONS.items() if one.status == status]
    named += [(one.code, one.title, STATUSES[status]) for one in _REFUSALS if one.status == status]
    code, title, detail = named[0]
    return {
        "type": f"urn:faregate:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }


def _schemes(resolver: CredentialResolver) -> dict[str, Json]:
    """Return the places where a credential may be presented."""
    schemes: dict[str, Json] = {}
    if resolver.authorization:
        words = "A token's secret, as RFC 6750 says."
        schemes["bearer"] = {"type": "http", "scheme": "bearer", "description": words}
    places = (
        ("header", resolver.header),
        ("query", QUERY_PARAMETER if resolver.query else None),
        ("cookie", resolver.cookie),
    )
    for place, name in places:
        if name is not None:
            words = f"A token's secret, in this {'parameter of the query' if place == 'query' else place}."
            schemes[place] = {"type": "apiKey", "in": place, "name": name, "description": words}
    return schemes


@cache
def _schemas() -> Json:
    """Return the schemas of all that is taken and given, each member with its meaning."""
    given = (Token, Share, Redeemed, Batch, AuditEntry, AuditPage)
    _, found = msgspec.json.schema_components(
        [*_BODIES, *given], ref_template="#/components/schemas/{name}"
    )
    schemas: Json = msgspec.json.decode(
        msgspec.json.encode(found)
    )  # whose defaults are lists, and no tuples
    del schemas["Token"]["properties"]["version"]
    schemas["Token"]["required"].remove("version")
    schemas["ShareChange"] = _changes(schemas["ShareParams"])
    for name in ("CreateShare", "PatchShare"):
        schemas[name]["properties"]["params"] = {"$ref": "#/components/schemas/ShareChange"}
    schemas["IssuedToken"] = _with(schemas["Token"], token="string")  # noqa: S106
    schemas["IssuedShare"] = _with(schemas["Share"], secret="string")  # noqa: S106
    schemas["TokenPage"] = _page("Token")
    schemas["SharePage"] = _page("Share")
    schemas |= _introspections(schemas)
    answer = _object(
        access_token="string",
        token_type="string",
        expires_in="integer",
        scope="string",  # noqa: S106
    )
    answer["properties"]["refresh_token"] = {"type": "string"}
    schemas["TokenAnswer"] = answer
    schemas["Problem"] = _object(
        type="string", title="string", status="integer", detail="string", code="string"
    )
    schemas["OAuthError"] = _object(error="string", error_description="string")
    for name, schema in schemas.items():
        schema.update(_TOGETHER.get(name, {}), description=SCHEMAS[name])
        for member, property_ in schema.get("properties", {}).items():
            schema["properties"][member] = _meaning(name, member, property_)
    named = {name: {"type": "string", **told} for name, told in ENUMERATIONS.items()}
    return dict(sorted({**schemas, **named}.items()))


def _meaning(struct: str, member: str, schema: Json) -> Json:
    """Return the schema of a member with its words, example and constraints."""
    rows = (f"{struct}.{member}", f"{LIKE.get(struct)}.{member}", member)
    told = next((MEMBERS[row] for row in rows if row in MEMBERS), None)
    if told is None:
        raise KeyError(f"{struct}.{member}")
    own = {"readOnly": True} if member in READ_ONLY.get(struct, ()) else {}
    return {**_bound(schema, told), **{name: told[name] for name in told if name in _WORDS}, **own}


def _bound(schema: Json, told: Json) -> Json:
    """Return a schema with constraints, each at the type that it is about."""
    kind = schema.get("type", "string" if "enum" in schema else "")
    if "anyOf" in told and (kind or "anyOf" in schema):
        return {"anyOf": told["anyOf"]}
    if "anyOf" in schema:
        return {**schema, "anyOf": [_bound(one, told) for one in schema["anyOf"]]}
    if "$ref" in told and kind in ("string", "object"):
        kept = {"default": schema["default"]} if "default" in schema else {}
        return {"$ref": told["$ref"], **kept}
    bounds = {name: told[name] for name in told if name in _KEYWORDS.get(kind, ())}
    if "items" in bounds:
        bounds["items"] = _bound(schema["items"], bounds["items"])
    return {**schema, **bounds}


def _with(schema: Json, **members: str) -> Json:
    """Return a record's schema with a member more."""
    more = {name: {"type": kind} for name, kind in members.items()}
    properties = {**schema["properties"], **more}
    return {"type": "object", "properties": properties, "required": [*schema["required"], *more]}


def _object(**members: str) -> Json:
    properties = {name: {"type": kind} for name, kind in members.items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _page(item: str) -> Json:
    page = _object(total="integer", limit="integer", offset="integer")
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{item}"}}
    return {
        **page,
        "properties": {"items": items, **page["properties"]},
        "required": ["items", *page["required"]],
    }


def _changes(schema: Json) -> Json:
    """Return the schema of a merge patch (RFC 7396): each member may be left out or null, but for the scopes."""
    properties = {
        name: one if name == "scopes" or "anyOf" in one else {"anyOf": [one, {"type": "null"}]}
        for name, one in schema["properties"].items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _introspections(schemas: Json) -> Json:
    """Return what introspection tells: by kind the members of RFC 7662, and those of the record beside them."""
    token, share = schemas["Token"], schemas["Share"]
    told = {
        "TokenIntrospection": _introspection(["token", "refresh", "access"], token, _REGISTERED),
        "ShareIntrospection": _introspection(["share"], share, {**_REGISTERED, **_SIGNED}),
        "JwtIntrospection": _introspection(["jwt"], {}, {**_REGISTERED, **_SIGNED}),
        "BareIntrospection": {**_object(active="boolean"), "additionalProperties": False},
    }
    return {
        **told,
        "Introspection": {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in told]},
    }


def _introspection(kinds: list[str], record: Json, registered: Json) -> Json:
    """Return the schema of what is told of credentials of these kinds."""
    kind = {"kind": {"type": "string", "enum": kinds}}
    properties = {**record.get("properties", {}), **registered, **kind}
    required = dict.fromkeys(["active", "kind", "scope", *record.get("required", ())])
    return {"type": "object", "properties": properties, "required": list(required)}


def _example(schema: Json) -> Any:
    """Return an example of what a schema describes, put together from those of its members."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return _example(_schemas()[schema["$ref"].rpartition("/")[2]])
    if "oneOf" in schema:
        return _example(schema["oneOf"][0])
    if "properties" in schema:
        return {name: _example(one) for name, one in schema["properties"].items()}
    if schema.get("type") == "array":
        return [_example(schema["items"])]
    return None
