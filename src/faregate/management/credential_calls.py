"""The calls about a credential, which is in the body: introspection (RFC 7662) and revocation (RFC 7009)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faregate.bearer import Answer
from faregate.management.call import JSON, InvalidRequest, shown

if TYPE_CHECKING:
    from faregate.gate import Gate
    from faregate.management.call import Call


def introspect(gate: Gate, call: Call) -> Answer:
    """Answer ``POST /introspect``."""
    return shown(gate.introspect(_token(call), by=call.principal))


def revoke(gate: Gate, call: Call) -> Answer:
    """Answer ``POST /revoke``, for whoever has the credential: a 200 tells nothing about it (section 2.2)."""
    gate.revoke(_token(call))
    return Answer(200, JSON, b"{}")


def _token(call: Call) -> str:
    token = call.form().get("token")
    if token is None:
        raise InvalidRequest("token: is required.")
    return token
