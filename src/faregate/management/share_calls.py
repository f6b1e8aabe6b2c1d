"""The calls about shares: from a request's values to the lifecycle, and from its result to an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faregate.fields.share_fields import SHARE_CHANGES
from faregate.management import payloads
from faregate.management.request import NUMBER, TEXT, filters, listed, located, shown
from faregate.values.names import json_name

if TYPE_CHECKING:
    from faregate.credentials.answers import Answer
    from faregate.gate import Gate
    from faregate.management.request import ManagementRequest

FILTERS = {"objectId": TEXT, "limit": NUMBER, "offset": NUMBER, "after": TEXT}


def create(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /shares``."""
    issued = gate.shares.create(
        **payloads.given(call.read(payloads.CreateShare)), by=call.principal
    )
    return shown(issued, 201, located(call, issued.share.id))


def list_(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``GET /shares``."""
    query = call.query(gate)
    return listed(gate.shares.list(**filters(query, FILTERS), by=call.principal), call, query)


def get(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``GET /shares/{id}``."""
    return shown(gate.shares.get(call.record_id, by=call.principal))


def patch(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``PATCH /shares/{id}``."""
    given = payloads.given(call.read(payloads.PatchShare), "secret")
    members: dict[str, Any] = {
        name: value for name, value in given.items() if name in SHARE_CHANGES
    }
    fixed = {json_name(name): value for name, value in given.items() if name not in SHARE_CHANGES}
    return shown(gate.shares.update(call.record_id, unchanged=fixed, by=call.principal, **members))


def revoke(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /shares/{id}/revoke``."""
    call.read(payloads.RevokeShare, optional=True)
    return shown(gate.shares.revoke(call.record_id, by=call.principal))


def redeem(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /shares/{id}/redeem``. Only where the body holds no secret has the request to present a caller."""
    secret = call.read(payloads.RedeemShare, optional=True).secret
    caller = call if secret is not None else call.admitted(gate, "share.redeem")
    address = call.address(gate)
    redeemed = gate.shares.redeem(
        call.record_id, secret=secret, address=address, by=caller.principal
    )
    return caller.dressed(gate, shown(redeemed))
