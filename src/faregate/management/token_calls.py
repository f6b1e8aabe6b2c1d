"""Operations on tokens: from the values of a request to the lifecycle, and back to an answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from faregate.credentials.answers import Answer
from faregate.fields.token_fields import FIELD_NAMES
from faregate.management import payloads
from faregate.management.request import (
    BOOLEAN,
    INSTANT,
    NUMBER,
    TEXT,
    answer_json,
    answer_page,
    location,
    query_arguments,
)
from faregate.model import Issued, Token
from faregate.values.names import json_name

if TYPE_CHECKING:
    from msgspec import Struct

    from faregate.credentials.answers import Headers
    from faregate.gate import Gate
    from faregate.management.request import ManagementRequest

LIST_PARAMETERS = {
    "owner": TEXT,
    "type": TEXT,
    "name": TEXT,
    "deactivated": BOOLEAN,
    "expiresBefore": INSTANT,
    "limit": NUMBER,
    "offset": NUMBER,
    "after": TEXT,
    "sort": TEXT,
}


def create(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /tokens``."""
    body = request.json(payloads.CreateToken)
    issued = gate.tokens.create(**payloads.given(body), by=request.principal)
    return _answer_token(issued, 201, location(request, issued.token.id))


def list_(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``GET /tokens``."""
    query = request.query(gate)
    arguments = query_arguments(query, LIST_PARAMETERS)
    page = gate.tokens.list(**arguments, by=request.principal)
    return answer_page(page, request, query)


def get(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``GET /tokens/{id}``."""
    token = gate.tokens.get(request.record_id, by=request.principal)
    return _answer_token(token)


def put(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``PUT /tokens/{id}``."""
    return _update(gate, request, request.json(payloads.PutToken))


def patch(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``PATCH /tokens/{id}``."""
    return _update(gate, request, request.json(payloads.PatchToken))


def delete(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``DELETE /tokens/{id}``."""
    gate.tokens.delete(request.record_id, by=request.principal)
    return Answer(204, [("Cache-Control", "no-store")], b"")


def rotate(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /tokens/{id}/rotate``."""
    body = request.json(payloads.RotateToken, optional=True)
    issued = gate.tokens.rotate(
        request.record_id, grace=body.grace, leaked=body.leaked, by=request.principal
    )
    return _answer_token(issued)


def deactivate(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /tokens/{id}/deactivate``."""
    body = request.json(payloads.DeactivateToken, optional=True)
    token = gate.tokens.deactivate(
        request.record_id, reason=body.reason, leaked=body.leaked, by=request.principal
    )
    return _answer_token(token)


def activate(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /tokens/{id}/activate``."""
    body = request.json(payloads.ActivateToken, optional=True)
    token = gate.tokens.activate(request.record_id, reason=body.reason, by=request.principal)
    return _answer_token(token)


def deactivate_many(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /tokens/deactivate``."""
    body = request.json(payloads.ManyTokens)
    return answer_json(gate.tokens.deactivate_many(body.ids, by=request.principal))


def activate_many(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /tokens/activate``."""
    body = request.json(payloads.ManyTokens)
    return answer_json(gate.tokens.activate_many(body.ids, by=request.principal))


def _update(gate: Gate, request: ManagementRequest, body: Struct) -> Answer:
    given = payloads.given(body, "token")
    changes: dict[str, Any] = {name: value for name, value in given.items() if name in FIELD_NAMES}
    unchanged = {json_name(name): value for name, value in given.items() if name not in FIELD_NAMES}

    # The path may say "self", so the body may as well.
    if unchanged.get("id") == request.record_id:
        del unchanged["id"]

    token = gate.tokens.update(
        request.record_id,
        unchanged=unchanged,
        if_version=_versions(request.if_match),
        by=request.principal,
        **changes,
    )
    return _answer_token(token)


def _answer_token(
    result: Token | Issued, status: int = 200, headers: Headers | None = None
) -> Answer:
    token = result if isinstance(result, Token) else result.token
    etag = ("ETag", f'"{token.version}"')
    return answer_json(result, status, [etag, *(headers or [])])


def _versions(if_match: str | None) -> list[int] | None:
    """Return the versions in ``If-Match``, or None for any version (RFC 9110 section 13.1.1)."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = (re.fullmatch(r'"([0-9]{1,9})"', tag.strip()) for tag in if_match.split(","))
    return [int(tag[1]) for tag in tags if tag]
