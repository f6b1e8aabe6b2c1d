"""Operations on shares: from the values of a request to the lifecycle, and back to an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faregate.fields.share_fields import SHARE_CHANGES
from faregate.management import payloads
from faregate.management.request import (
    NUMBER,
    TEXT,
    answer_json,
    answer_page,
    location,
    query_arguments,
)
from faregate.values.names import json_name

if TYPE_CHECKING:
    from faregate.credentials.answers import Answer
    from faregate.gate import Gate
    from faregate.management.request import ManagementRequest

LIST_PARAMETERS = {"objectId": TEXT, "limit": NUMBER, "offset": NUMBER, "after": TEXT}


def create(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /shares``."""
    body = request.json(payloads.CreateShare)
    issued = gate.shares.create(**payloads.given(body), by=request.principal)
    return answer_json(issued, 201, location(request, issued.share.id))


def list_(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``GET /shares``."""
    query = request.query(gate)
    arguments = query_arguments(query, LIST_PARAMETERS)
    page = gate.shares.list(**arguments, by=request.principal)
    return answer_page(page, request, query)


def get(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``GET /shares/{id}``."""
    return answer_json(gate.shares.get(request.record_id, by=request.principal))


def patch(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``PATCH /shares/{id}``."""
    given = payloads.given(request.json(payloads.PatchShare), "secret")
    changes: dict[str, Any] = {
        name: value for name, value in given.items() if name in SHARE_CHANGES
    }
    unchanged = {
        json_name(name): value for name, value in given.items() if name not in SHARE_CHANGES
    }

    share = gate.shares.update(
        request.record_id, unchanged=unchanged, by=request.principal, **changes
    )
    return answer_json(share)


def revoke(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /shares/{id}/revoke``."""
    # The body has no members yet; reading it refuses any.
    request.json(payloads.RevokeShare, optional=True)
    return answer_json(gate.shares.revoke(request.record_id, by=request.principal))


def redeem(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /shares/{id}/redeem``.

    The share's secret stands for the caller. Without it, the request must present a credential.
    """
    secret = request.json(payloads.RedeemShare, optional=True).secret
    if secret is None:
        request = request.authorized(gate, "share.redeem")

    redeemed = gate.shares.redeem(
        request.record_id, secret=secret, address=request.address(gate), by=request.principal
    )
    return request.with_gate_headers(gate, answer_json(redeemed))
