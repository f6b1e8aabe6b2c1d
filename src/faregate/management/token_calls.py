"""The calls about tokens: from a request's values to the lifecycle, and from its result to an answer."""

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
    filters,
    listed,
    located,
    shown,
)
from faregate.model import Issued, Token
from faregate.values.names import json_name

if TYPE_CHECKING:
    from msgspec import Struct

    from faregate.credentials.answers import Headers
    from faregate.gate import Gate
    from faregate.management.request import ManagementRequest

FILTERS = {
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


def create(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /tokens``."""
    body = call.read(payloads.CreateToken)
    issued = gate.tokens.create(**payloads.given(body), by=call.principal)
    return _shown(issued, 201, located(call, issued.token.id))


def list_(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``GET /tokens``."""
    query = call.query(gate)
    return listed(gate.tokens.list(**filters(query, FILTERS), by=call.principal), call, query)


def get(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``GET /tokens/{id}``."""
    return _shown(gate.tokens.get(call.record_id, by=call.principal))


def put(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``PUT /tokens/{id}``."""
    return _change(gate, call, call.read(payloads.PutToken))


def patch(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``PATCH /tokens/{id}``."""
    return _change(gate, call, call.read(payloads.PatchToken))


def delete(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``DELETE /tokens/{id}``."""
    gate.tokens.delete(call.record_id, by=call.principal)
    return Answer(204, [("Cache-Control", "no-store")], b"")


def rotate(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /tokens/{id}/rotate``."""
    body = call.read(payloads.RotateToken, optional=True)
    return _shown(
        gate.tokens.rotate(call.record_id, grace=body.grace, leaked=body.leaked, by=call.principal)
    )


def deactivate(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /tokens/{id}/deactivate``."""
    body = call.read(payloads.DeactivateToken, optional=True)
    done = gate.tokens.deactivate(
        call.record_id, reason=body.reason, leaked=body.leaked, by=call.principal
    )
    return _shown(done)


def activate(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /tokens/{id}/activate``."""
    body = call.read(payloads.ActivateToken, optional=True)
    return _shown(gate.tokens.activate(call.record_id, reason=body.reason, by=call.principal))


def deactivate_many(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /tokens/deactivate``."""
    return shown(gate.tokens.deactivate_many(call.read(payloads.ManyTokens).ids, by=call.principal))


def activate_many(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /tokens/activate``."""
    return shown(gate.tokens.activate_many(call.read(payloads.ManyTokens).ids, by=call.principal))


def _change(gate: Gate, call: ManagementRequest, body: Struct) -> Answer:
    given = payloads.given(body, "token")
    members: dict[str, Any] = {name: value for name, value in given.items() if name in FIELD_NAMES}
    fixed = {json_name(name): value for name, value in given.items() if name not in FIELD_NAMES}
    if fixed.get("id") == call.record_id:
        del fixed["id"]  # the path's own, which may be "self"
    versions = _versions(call.if_match)
    token = gate.tokens.update(
        call.record_id, unchanged=fixed, if_version=versions, by=call.principal, **members
    )
    return _shown(token)


def _shown(record: Token | Issued, status: int = 200, headers: Headers | None = None) -> Answer:
    token = record if isinstance(record, Token) else record.token
    return shown(record, status, [("ETag", f'"{token.version}"'), *(headers or [])])


def _versions(if_match: str | None) -> list[int] | None:
    """Return the versions that ``If-Match`` names, None for any (RFC 9110 section 13.1.1)."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = (re.fullmatch(r'"([0-9]{1,9})"', tag.strip()) for tag in if_match.split(","))
    return [int(tag[1]) for tag in tags if tag]
