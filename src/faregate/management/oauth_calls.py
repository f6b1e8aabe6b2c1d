"""The OAuth operations, whose credential is in the form.

They are exchange (RFC 6749 sections 5 and 6), introspection (RFC 7662) and revocation (RFC 7009).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from faregate.credentials.answers import Answer
from faregate.errors import InvalidInput
from faregate.management.request import (
    JSON,
    InvalidRequest,
    InvalidScope,
    UnsupportedGrantType,
    answer_json,
)
from faregate.values.scopes import MAX_SCOPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faregate.gate import Gate
    from faregate.management.request import ManagementRequest


def exchange(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /token``. No caller is identified: the form holds the refresh credential."""
    form = request.form()
    if _required(form, "grant_type") != "refresh_token":
        raise UnsupportedGrantType("grant_type: not supported; use refresh_token")

    credential = _required(form, "refresh_token")
    scopes = None
    if "scope" in form:
        scopes = form["scope"].split(" ")

    try:
        exchanged = gate.tokens.exchange(credential, scopes, address=request.address(gate))
    except InvalidInput as error:
        raise InvalidScope(str(error)) from None
    return answer_json(exchanged, headers=[("Pragma", "no-cache")])


def introspect(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /introspect``."""
    form = request.form()
    credential = _required(form, "token")
    needs = [scope for scope in form.get("scope", "").split(" ") if scope]
    if len(needs) > MAX_SCOPES:
        raise InvalidRequest(f"scope: at most {MAX_SCOPES} scopes are allowed")

    introspected = gate.introspect(
        credential,
        needs=needs,
        on=form.get("on"),
        address=form.get("address"),
        refresh=form.get("token_type_hint") == "refresh_token",
        by=request.principal,
    )
    return answer_json(introspected)


def revoke(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``POST /revoke``, for the holder of a credential.

    The status is 200 even for an unknown credential (RFC 7009 section 2.2).
    """
    gate.revoke(_required(request.form(), "token"))
    return Answer(200, JSON, b"{}")


def _required(form: Mapping[str, str], name: str) -> str:
    if name not in form:
        raise InvalidRequest(f"{name}: is required")
    return form[name]
