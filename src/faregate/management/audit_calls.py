"""The call that shows who changed what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faregate.management.request import NUMBER, PLACE, TEXT, audited, filters

if TYPE_CHECKING:
    from faregate.credentials.answers import Answer
    from faregate.gate import Gate
    from faregate.management.request import ManagementRequest

FILTERS = {"since": PLACE, "subject": TEXT, "limit": NUMBER}


def list_(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``GET /audit``."""
    query = call.query(gate)
    return audited(gate.audit(**filters(query, FILTERS), by=call.principal), call, query)
