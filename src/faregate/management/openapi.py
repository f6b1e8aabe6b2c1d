"""The OpenAPI 3.1 document of the HTTP API.

It is derived from the table of operations and from the types of bodies and answers. This file
says how they become a document. Their descriptions are in :mod:`faregate.management.descriptions`;
a member, parameter or status without a description raises KeyError.
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

_REF = "#/components/schemas/"


def document(
    operations: Sequence[Operation],
    resolver: CredentialResolver,
    prefix: str,
    *,
    by_credential: bool,
) -> Json:
    """Return the document of an API that is mounted at ``prefix``.

    Callers present a credential in the places that ``resolver`` reads. With ``by_credential``
    False, the application's own login identifies them, and the document has no security schemes.
    """
    schemes: dict[str, Json] = {}
    if by_credential:
        schemes = _security_schemes(resolver)

    components: Json = {"schemas": _schemas()}
    if schemes:
        components["securitySchemes"] = {**schemes, **_client_password(schemes)}

    return {
        "openapi": "3.1.1",
        "info": {
            "title": "faregate",
            "version": "1",
            "summary": "Tokens and shares of this application: create, list, change, revoke.",
            "description": (
                "Instants are RFC 3339 with an offset, or epoch seconds. "
                "Errors are problem+json (RFC 9457)."
            ),
        },
        "servers": [{"url": prefix, "description": "The address at which this API is mounted."}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": _paths(operations, schemes),
        "components": components,
    }


# Operations

_NOUNS = {
    "token": ("token", "tokens"),
    "share": ("share", "shares"),
    "audit": ("audit_entry", "audit_entries"),
}


def _paths(operations: Sequence[Operation], schemes: Mapping[str, Json]) -> Json:
    paths: dict[str, Json] = {}
    for operation in operations:
        described = _operation(operation, schemes)
        if operation.status == 201:
            described["responses"]["201"]["links"] = _links(operation, operations)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return paths


def _operation(operation: Operation, schemes: Mapping[str, Json]) -> Json:
    described: Json = {
        "operationId": _identifier(operation),
        "summary": operation.summary,
        "tags": [_tag(operation)],
        "responses": _responses(operation),
    }

    # An empty list says that no credential is needed, so it differs from no list.
    if operation.open or schemes:
        described["security"] = _security(operation, schemes)

    parameters = [
        *_path_parameters(operation),
        *_query_parameters(operation),
        *_header_parameters(operation),
    ]
    if parameters:
        described["parameters"] = parameters

    if operation.takes is not None:
        described["requestBody"] = _request_body(operation, operation.takes)

    return described


def _tag(operation: Operation) -> str:
    subject, _, _ = operation.call.partition(".")
    if subject in ("token", "share"):
        return f"{subject}s"
    return subject


def _identifier(operation: Operation) -> str:
    """Return the name of an operation as a function, for example ``list_tokens``."""
    subject, _, verb = operation.call.partition(".")
    if not verb:
        return f"get_{subject}"

    singular, plural = _NOUNS[subject]
    if verb == "list":
        return f"list_{plural}"
    if verb.endswith("_many"):
        return f"{verb.removesuffix('_many')}_{plural}"

    # Two operations update a token: PUT and PATCH.
    if verb == "update":
        verb = operation.method.lower()
    return f"{verb}_{singular}"


def _links(creation: Operation, operations: Sequence[Operation]) -> Json:
    """Return links from an operation that creates a record to the operations on the record."""
    return {
        _identifier(operation): {
            "operationId": _identifier(operation),
            "parameters": {"id": "$response.body#/id"},
            "description": operation.summary,
        }
        for operation in operations
        if operation.path.startswith(f"{creation.path}/{{id}}")
    }


def _request_body(operation: Operation, body_type: type[msgspec.Struct]) -> Json:
    media_type = "application/json"
    if operation.form:
        media_type = "application/x-www-form-urlencoded"

    description = "The request body."
    if operation.optional:
        description = "The request body, which may be left out."

    name = body_type.__name__
    return {
        "description": description,
        "required": not operation.optional,
        "content": {media_type: {"schema": _ref(name), "example": BODIES[name]}},
    }


# Credentials

# Resource servers present a secret as the password of HTTP Basic, by default.
_CLIENT_PASSWORD: Json = {
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": (
            "Only for introspection: a token's secret as the password (RFC 7617), with any user."
        ),
    }
}


def _security_schemes(resolver: CredentialResolver) -> dict[str, Json]:
    """Return a scheme for each place in which a credential may be presented."""
    schemes: dict[str, Json] = {}
    if resolver.authorization:
        schemes["bearer"] = {
            "type": "http",
            "scheme": "bearer",
            "description": "A token's secret, as a bearer token (RFC 6750).",
        }
    if resolver.header is not None:
        schemes["header"] = _api_key("header", resolver.header, "header")
    if resolver.query:
        schemes["query"] = _api_key("query", QUERY_PARAMETER, "parameter of the query")
    if resolver.cookie is not None:
        schemes["cookie"] = _api_key("cookie", resolver.cookie, "cookie")
    return schemes


def _api_key(place: str, name: str, noun: str) -> Json:
    description = f"A token's secret, in this {noun}."
    return {"type": "apiKey", "in": place, "name": name, "description": description}


def _client_password(schemes: Mapping[str, Json]) -> Json:
    """Return the scheme for client passwords if the ``Authorization`` header is read."""
    if "bearer" in schemes:
        return _CLIENT_PASSWORD
    return {}


def _security(operation: Operation, schemes: Mapping[str, Json]) -> list[Json]:
    """Return the alternatives by which an operation identifies its caller."""
    alternatives: list[Json] = [{name: []} for name in schemes]
    if operation.call == "share.redeem":
        # The empty alternative: a share's secret in the body needs no caller.
        return [*alternatives, {}]
    if operation.open:
        return []
    if operation.call == "token.introspect":
        alternatives += [{name: []} for name in _client_password(schemes)]
    return alternatives


# Parameters


def _path_parameters(operation: Operation) -> Iterable[Json]:
    prefix, parameter, _ = operation.path.partition("{id}")
    if parameter:
        row = PARAMETERS[prefix + parameter]
        yield {
            "name": "id",
            "in": "path",
            "required": True,
            "schema": _constrained({"type": "string"}, row),
            **_parameter_words(row),
        }


def _query_parameters(operation: Operation) -> Iterable[Json]:
    for name, parameter in operation.query.items():
        row = PARAMETERS[name]
        yield {
            "name": name,
            "in": "query",
            "schema": _constrained(parameter.schema, row),
            **_parameter_words(row),
        }


def _header_parameters(operation: Operation) -> Iterable[Json]:
    if 412 in operation.refuses:
        yield {
            "name": "If-Match",
            "in": "header",
            "schema": {"type": "string"},
            "description": "Change the record only if its `ETag` is still this value.",
            "example": '"1"',
        }


def _parameter_words(row: Json) -> Json:
    """Return the description and the example of a parameter, which stand beside its schema."""
    words: Json = {"description": row["description"]}
    if "examples" in row:
        words["example"] = row["examples"][0]
    return words


# Answers

# Names of schemas for the results whose type has another name or none.
_RESULT_NAMES: dict[Any, str] = {
    Issued: "IssuedToken",
    Page[Token]: "TokenPage",
    Page[Share]: "SharePage",
    Introspected: "Introspection",
    Exchanged: "TokenAnswer",
}


def _responses(operation: Operation) -> Json:
    """Return the answers of an operation by their status."""
    success: Json = {"description": STATUSES[operation.status]}

    content = _content(operation)
    if content is not None:
        success["content"] = content

    headers = _headers(operation)
    if headers:
        success["headers"] = headers

    responses: Json = {str(operation.status): success}
    for status in _error_statuses(operation):
        responses[str(status)] = _error(status, operation)
    return dict(sorted(responses.items()))


def _content(operation: Operation) -> Json | None:
    """Return the body of a success by its media type, or None if it has no body."""
    if operation.call == "docs":
        return {"text/html": {"schema": {"type": "string"}}}
    if operation.gives is not None:
        return {"application/json": _result(operation.gives)}
    if operation.status != 204:
        return {"application/json": {"schema": {"type": "object"}}}
    return None


def _result(result_type: Any) -> Json:
    schema = _ref(_RESULT_NAMES.get(result_type) or result_type.__name__)
    example = _example(schema)

    # The example is an active credential, which has no reason for being inactive.
    if result_type is Introspected:
        del example["reason"]
    return {"schema": schema, "example": example}


def _headers(operation: Operation) -> Json:
    headers: Json = {}
    if operation.status == 201:
        headers["Location"] = _header(
            "The path of the new record.", "/auth/tokens/0198c2a4-7c1e-7d1b-9d3a-3f1c5c0f6a21"
        )
    if operation.gives in (Token, Issued):
        headers["ETag"] = _header("The version of the record, for `If-Match`.", '"1"')
    if operation.gives in (Page[Token], Page[Share], AuditPage):
        headers["Link"] = _header(
            "The neighbouring pages (RFC 8288).", '</auth/tokens?offset=100>; rel="next"'
        )
    return headers


def _header(description: str, example: str) -> Json:
    return {"description": description, "schema": {"type": "string"}, "example": example}


# Errors

_ERROR_HEADERS: dict[int, Json] = {
    401: {
        "WWW-Authenticate": _header(
            "The challenge (RFC 6750).", 'Bearer realm="faregate", error="invalid_token"'
        )
    },
    **{
        wording.status: {
            "Retry-After": _header("The number of seconds to wait.", str(wording.retry_after))
        }
        for wording in REASONS.values()
        if wording.retry_after is not None
    },
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


def _error_statuses(operation: Operation) -> list[int]:
    """Return the statuses with which an operation refuses."""
    if operation.call in ("openapi", "docs"):
        return []

    waits = {wording.status for wording in REASONS.values() if wording.retry_after is not None}
    statuses = {400, *waits, *operation.refuses}
    if operation.takes is not None:
        statuses.add(413)
    if "{id}" in operation.path:
        statuses.add(404)

    # OAuth errors have status 400 in their place.
    if not operation.oauth:
        statuses |= {401, 403}
        if operation.takes is not None:
            statuses.add(415)
    return sorted(statuses)


def _error(status: int, operation: Operation) -> Json:
    described = _oauth_error(status) if operation.oauth else _problem(status)
    if status in _ERROR_HEADERS:
        described["headers"] = _ERROR_HEADERS[status]
    return described


def _oauth_error(status: int) -> Json:
    """Return an error in the form of RFC 6749 section 5.2."""
    schema = _ref("OAuthError")
    content = {"schema": schema, "example": _example(schema)}
    return {"description": STATUSES[status], "content": {"application/json": content}}


def _problem(status: int) -> Json:
    """Return an error in the form of RFC 9457, with every ``code`` that has this status."""
    problems = _problems(status)
    codes = ", ".join(f"`{problem['code']}`" for problem in problems)
    content = {"schema": _ref("Problem"), "example": problems[0]}
    return {
        "description": f"{STATUSES[status]} Values of `code`: {codes}.",
        "content": {"application/problem+json": content},
    }


def _problems(status: int) -> list[Json]:
    """Return the body of each error with this status: denials, then refusals."""
    denials = [
        _problem_body(status, code, reason.title, reason.detail)
        for code, reason in REASONS.items()
        if reason.status == status
    ]
    refusals = [
        _problem_body(status, refusal.code, refusal.title, STATUSES[status])
        for refusal in _REFUSALS
        if refusal.status == status
    ]
    return denials + refusals


def _problem_body(status: int, code: str, title: str, detail: str) -> Json:
    return {
        "type": f"urn:faregate:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }


# Schemas

_BODY_TYPES = (
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
_RESULT_TYPES = (Token, Share, Redeemed, Batch, AuditEntry, AuditPage)

# Rules about several members, beyond the types of single members. They stand below ``allOf``:
# beside ``properties``, code generators read ``anyOf`` and ``oneOf`` as a choice of schemas.
_ONE_EXPIRY: Json = {"not": {"required": ["expiresAt", "expiresIn"]}}
_ONE_KIND_OF_SCOPES: Json = {"not": {"required": ["scopes", "allowedScopes"]}}
_TOKEN_RULES: Json = {"allOf": [_ONE_KIND_OF_SCOPES, _ONE_EXPIRY]}
_SCOPES_IN_PARAMS: Json = {
    "required": ["params"],
    "properties": {"params": {"required": ["scopes"]}},
}
_RULES: dict[str, Json] = {
    "CreateToken": _TOKEN_RULES,
    "PutToken": _TOKEN_RULES,
    "PatchToken": _TOKEN_RULES,
    "CreateShare": {
        "allOf": [
            _ONE_EXPIRY,
            {"anyOf": [{"required": ["expiresAt"]}, {"required": ["expiresIn"]}]},
            {"not": {**_SCOPES_IN_PARAMS, "required": ["scopes", "params"]}},
            {"anyOf": [{"required": ["scopes"]}, _SCOPES_IN_PARAMS]},
        ]
    },
    "PatchShare": _ONE_EXPIRY,
}

# The keywords of JSON Schema that constrain the values of each type.
_CONSTRAINTS: dict[str, frozenset[str]] = {
    "string": frozenset({"enum", "format", "maxLength", "minLength", "pattern"}),
    "array": frozenset({"items", "maxItems", "minItems"}),
    "integer": frozenset({"exclusiveMinimum", "maximum", "minimum"}),
    "number": frozenset({"exclusiveMinimum", "maximum", "minimum"}),
}
_ANNOTATIONS = frozenset({"description", "examples"})


@cache
def _schemas() -> Json:
    """Return the schemas of all bodies and answers, with the meaning of each member."""
    schemas = _struct_schemas()
    schemas |= _derived_schemas(schemas)

    for name, schema in schemas.items():
        schema.update(_RULES.get(name, {}), description=SCHEMAS[name])
        for member, property_ in schema.get("properties", {}).items():
            schema["properties"][member] = _member(name, member, property_)

    enumerations = {name: {"type": "string", **row} for name, row in ENUMERATIONS.items()}
    return dict(sorted({**schemas, **enumerations}.items()))


def _struct_schemas() -> Json:
    """Return the schemas that msgspec makes of the types, corrected where the JSON differs."""
    _, components = msgspec.json.schema_components(
        [*_BODY_TYPES, *_RESULT_TYPES], ref_template=f"{_REF}{{name}}"
    )
    # Through JSON and back: defaults that are tuples become lists.
    schemas: Json = msgspec.json.decode(msgspec.json.encode(components))

    # The version is in the ``ETag``.
    del schemas["Token"]["properties"]["version"]
    schemas["Token"]["required"].remove("version")

    schemas["ShareChange"] = _merge_patch(schemas["ShareParams"])
    for name in ("CreateShare", "PatchShare"):
        schemas[name]["properties"]["params"] = _ref("ShareChange")
    return schemas


def _derived_schemas(schemas: Json) -> Json:
    """Return the schemas of answers that no single type describes."""
    return {
        "IssuedToken": _extended(schemas["Token"], "token"),
        "IssuedShare": _extended(schemas["Share"], "secret"),
        "TokenPage": _page("Token"),
        "SharePage": _page("Share"),
        **_introspections(schemas),
        "TokenAnswer": _token_answer(),
        "Problem": _object(
            type="string", title="string", status="integer", detail="string", code="string"
        ),
        "OAuthError": _object(error="string", error_description="string"),
    }


def _token_answer() -> Json:
    """Return the schema of an exchange's answer (RFC 6749 section 5.1)."""
    schema = _object(
        access_token="string",  # noqa: S106  a type, no secret
        token_type="string",  # noqa: S106
        expires_in="integer",
        scope="string",
    )
    # Optional: a token without rotation has no successor.
    schema["properties"]["refresh_token"] = {"type": "string"}
    return schema


def _page(item: str) -> Json:
    """Return the schema of a page of a list."""
    page = _object(total="integer", limit="integer", offset="integer")
    items = {"type": "array", "items": _ref(item)}
    return {
        **page,
        "properties": {"items": items, **page["properties"]},
        "required": ["items", *page["required"]],
    }


def _merge_patch(schema: Json) -> Json:
    """Return the schema of a merge patch (RFC 7396).

    Each member may be left out or null, except for the scopes, which cannot be removed.
    """
    properties: Json = {}
    for name, property_ in schema["properties"].items():
        if name == "scopes" or "anyOf" in property_:
            properties[name] = property_
        else:
            properties[name] = {"anyOf": [property_, {"type": "null"}]}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _ref(name: str) -> Json:
    return {"$ref": f"{_REF}{name}"}


def _object(**members: str) -> Json:
    """Return the schema of an object that has these members, given by their types."""
    properties = {name: {"type": type_} for name, type_ in members.items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _extended(schema: Json, member: str) -> Json:
    """Return the schema of a record with one more member, a string."""
    return {
        "type": "object",
        "properties": {**schema["properties"], member: {"type": "string"}},
        "required": [*schema["required"], member],
    }


# Introspection

# Members of RFC 7662 section 2.2, and the reason of an inactive credential.
_INTROSPECTION_MEMBERS: Json = {
    "active": {"type": "boolean"},
    "scope": {"type": "string"},
    "reason": {"type": "string"},
    "token_type": {"type": "string"},
    "sub": {"type": "string"},
    "username": {"type": "string"},
    "iat": {"type": "integer"},
    "nbf": {"type": "integer"},
    "exp": {"type": "integer"},
}

# Members that only a JWT has.
_JWT_MEMBERS: Json = {
    "iss": {"type": "string"},
    "jti": {"type": "string"},
    "aud": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
}


def _introspections(schemas: Json) -> Json:
    """Return the schemas of introspection: one for each kind of credential, and their choice."""
    signed = {**_INTROSPECTION_MEMBERS, **_JWT_MEMBERS}
    kinds = {
        "TokenIntrospection": _introspection(
            ["token", "refresh", "access"], schemas["Token"], _INTROSPECTION_MEMBERS
        ),
        "ShareIntrospection": _introspection(["share"], schemas["Share"], signed),
        "JwtIntrospection": _introspection(["jwt"], {}, signed),
        "BareIntrospection": {**_object(active="boolean"), "additionalProperties": False},
    }
    return {**kinds, "Introspection": {"oneOf": [_ref(name) for name in kinds]}}


def _introspection(kinds: list[str], record: Json, registered: Json) -> Json:
    """Return the schema for credentials of these kinds: their record and registered members."""
    properties = {
        **record.get("properties", {}),
        **registered,
        "kind": {"type": "string", "enum": kinds},
    }
    # The keys of a dict: names without repetition, in their order.
    required = dict.fromkeys(["active", "kind", "scope", *record.get("required", ())])
    return {"type": "object", "properties": properties, "required": list(required)}


# Descriptions and constraints


def _member(struct: str, member: str, schema: Json) -> Json:
    """Return the schema of a member with its description, examples and constraints."""
    row = _row(struct, member)
    annotations = {name: row[name] for name in row if name in _ANNOTATIONS}
    described = {**_constrained(schema, row), **annotations}
    if member in READ_ONLY.get(struct, ()):
        described["readOnly"] = True
    return described


def _row(struct: str, member: str) -> Json:
    """Return the row about a member: for its own struct, a similar struct, or any struct."""
    for name in (f"{struct}.{member}", f"{LIKE.get(struct)}.{member}", member):
        if name in MEMBERS:
            return MEMBERS[name]
    raise KeyError(f"{struct}.{member}")


def _constrained(schema: Json, row: Json) -> Json:
    """Return a schema with the constraints of a row, each at the type that it constrains."""
    kind = schema.get("type", "")
    if not kind and "enum" in schema:
        kind = "string"

    if "anyOf" in row and (kind or "anyOf" in schema):
        return {"anyOf": row["anyOf"]}
    if "anyOf" in schema:
        return {**schema, "anyOf": [_constrained(choice, row) for choice in schema["anyOf"]]}
    if "$ref" in row and kind in ("string", "object"):
        return _named(schema, row)

    constraints = {name: row[name] for name in row if name in _CONSTRAINTS.get(kind, ())}
    if "items" in constraints:
        constraints["items"] = _constrained(schema["items"], constraints["items"])
    return {**schema, **constraints}


def _named(schema: Json, row: Json) -> Json:
    """Return a reference to the named schema of a row, with the default of the replaced schema."""
    reference: Json = {"$ref": row["$ref"]}
    if "default" in schema:
        reference["default"] = schema["default"]
    return reference


# Examples


def _example(schema: Json) -> Any:
    """Return an example of a schema, composed of the examples of its members."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return _example(_schemas()[schema["$ref"].removeprefix(_REF)])
    if "oneOf" in schema:
        return _example(schema["oneOf"][0])
    if "properties" in schema:
        return {name: _example(property_) for name, property_ in schema["properties"].items()}
    if schema.get("type") == "array":
        return [_example(schema["items"])]
    return None
