"""The calls about a credential, which is in the body: exchange (RFC 6749), introspection (7662), revocation (7009)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faregate.credentials.answers import Answer
from faregate.errors import InvalidInput
from faregate.management.request import (
    JSON,
    InvalidRequest,
    InvalidScope,
    UnsupportedGrantType,
    shown,
)
from faregate.values.scopes import MAX_SCOPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faregate.gate import Gate
    from faregate.management.request import ManagementRequest


def exchange(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /token``, for whoever has the refresh credential (sections 5 and 6)."""
    form = call.form()
    if _parameter(form, "grant_type") != "refresh_token":
        raise UnsupportedGrantType("grant_type: refresh_token is the only one here.")
    credential = _parameter(form, "refresh_token")
    scopes = form["scope"].split(" ") if "scope" in form else None
    try:
        exchanged = gate.tokens.exchange(credential, scopes, address=call.address(gate))
    except InvalidInput as error:
        raise InvalidScope(str(error)) from None
    return shown(exchanged, headers=[("Pragma", "no-cache")])


def introspect(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /introspect``."""
    form = call.form()
    credential = _parameter(form, "token")
    needs = [scope for scope in form.get("scope", "").split(" ") if scope]
    if len(needs) > MAX_SCOPES:
        raise InvalidRequest(f"scope: at most {MAX_SCOPES} scopes.")
    told = gate.introspect(
        credential,
        needs=needs,
        on=form.get("on"),
        address=form.get("address"),
        refresh=form.get("token_type_hint") == "refresh_token",
        by=call.principal,
    )
    return shown(told)


def revoke(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``POST /revoke``, for whoever has the credential: a 200 tells nothing about it (section 2.2)."""
    gate.revoke(_parameter(call.form(), "token"))
    return Answer(200, JSON, b"{}")


def _parameter(form: Mapping[str, str], name: str) -> str:
    if name not in form:
        raise InvalidRequest(f"{name}: is required.")
    return form[name]
