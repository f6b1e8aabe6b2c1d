"""The operation that reads the audit feed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faregate.management.request import NUMBER, POSITION, TEXT, answer_feed, query_arguments

if TYPE_CHECKING:
    from faregate.credentials.answers import Answer
    from faregate.gate import Gate
    from faregate.management.request import ManagementRequest

LIST_PARAMETERS = {"since": POSITION, "subject": TEXT, "limit": NUMBER}


def list_(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``GET /audit``."""
    query = request.query(gate)
    arguments = query_arguments(query, LIST_PARAMETERS)
    page = gate.audit(**arguments, by=request.principal)
    return answer_feed(page, request, query)
