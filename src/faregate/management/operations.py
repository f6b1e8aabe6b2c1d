"""Every operation of the HTTP API, once: method, path, body, and the call of a lifecycle that it stands for.

An adapter finds the operation by its framework's routing, takes the principal and the values of :class:`Call`
out of the request, and hands on the answer of :func:`perform`. Nothing here knows a framework.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from faregate.bearer import Answer, refusal
from faregate.errors import Denied, InvalidInput, Refused
from faregate.management import wire
from faregate.members import MEMBERS
from faregate.model import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from faregate.gate import Gate
    from faregate.model import Issued
    from faregate.principal import Principal

MAX_BODY = 1024 * 1024


class BodyTooLarge(Refused):
    """The body is longer than any sound one."""

    status = 413
    code = "body_too_large"
    title = "Body too large"


class NotJson(Refused):
    """The body is declared to be something else than JSON."""

    status = 415
    code = "not_json"
    title = "Media type not supported"


class Call(NamedTuple):
    """The values of one request: who asks, and what an operation may read of it.

    ``route`` is the application's name of the route, for the log, ``path`` the path of the request with all
    prefixes, ``token_id`` the parameter of the route, ``query``
    the decoded pairs of the query string, ``read`` returns the body up to the given number of bytes.
    """

    principal: Principal
    route: str
    path: str
    token_id: str
    query: Sequence[tuple[str, str]]
    content_type: str
    if_match: str | None
    read: Callable[[int], bytes]


class Operation(NamedTuple):
    """One operation: ``path`` has ``{id}`` where the token's id stands, ``call`` is the lifecycle's name for it."""

    method: str
    path: str
    call: str
    run: Callable[[Gate, Call], Answer]


def perform(operation: Operation, gate: Gate, call: Call) -> Answer:
    """Return the answer to a call. What the caller may do is asked before its body is read."""
    try:
        gate.tokens.permit(operation.call, call.token_id, by=call.principal)
        return operation.run(gate, call)
    except Refused as refused:
        return refusal(refused)
    except Denied as denied:
        denied.address = call.principal.address
        return gate.answer(denied, route=call.route)


def _create(gate: Gate, call: Call) -> Answer:
    body = _body(call, wire.CreateToken)
    issued = gate.tokens.create(**wire.given(body, "require_rotation"), by=call.principal)
    return _shown(issued, 201, [("Location", f"{quote(call.path)}/{issued.token.id}")])


def _list(gate: Gate, call: Call) -> Answer:
    filters = _filters(call.query)
    page = gate.tokens.list(**filters, by=call.principal)
    links = [
        f'<{quote(call.path)}?{urlencode([*_without_offset(call.query), ("offset", offset)])}>; rel="{relation}"'
        for relation, offset, there in (
            ("next", page.offset + page.limit, page.offset + page.limit < page.total),
            ("prev", max(0, page.offset - page.limit), page.offset > 0),
        )
        if there
    ]
    return Answer(200, [*_JSON, *([("Link", ", ".join(links))] if links else [])], wire.show(page))


def _get(gate: Gate, call: Call) -> Answer:
    return _shown(gate.tokens.get(call.token_id, by=call.principal))


def _put(gate: Gate, call: Call) -> Answer:
    return _change(gate, call, _body(call, wire.PutToken))


def _patch(gate: Gate, call: Call) -> Answer:
    return _change(gate, call, _body(call, wire.PatchToken))


def _change(gate: Gate, call: Call, body: wire.ChangeToken) -> Answer:
    given = wire.given(body, "token")
    members: dict[str, Any] = {name: value for name, value in given.items() if name in MEMBERS}
    fixed = {wire.json_name(name): value for name, value in given.items() if name not in MEMBERS}
    if fixed.get("id") == call.token_id:
        del fixed["id"]  # the path's own, which may be "self"
    versions = _versions(call.if_match)
    token = gate.tokens.update(call.token_id, unchanged=fixed, if_version=versions, by=call.principal, **members)
    return _shown(token)


def _delete(gate: Gate, call: Call) -> Answer:
    gate.tokens.delete(call.token_id, by=call.principal)
    return Answer(204, [], b"")


def _rotate(gate: Gate, call: Call) -> Answer:
    body = _body(call, wire.RotateToken, optional=True)
    return _shown(gate.tokens.rotate(call.token_id, grace=body.grace, by=call.principal))


def _deactivate(gate: Gate, call: Call) -> Answer:
    body = _body(call, wire.SwitchToken, optional=True)
    return _shown(gate.tokens.deactivate(call.token_id, reason=body.reason, by=call.principal))


def _activate(gate: Gate, call: Call) -> Answer:
    body = _body(call, wire.SwitchToken, optional=True)
    return _shown(gate.tokens.activate(call.token_id, reason=body.reason, by=call.principal))


OPERATIONS = (
    Operation("POST", "/tokens", "create", _create),
    Operation("GET", "/tokens", "list", _list),
    Operation("GET", "/tokens/{id}", "get", _get),
    Operation("PUT", "/tokens/{id}", "update", _put),
    Operation("PATCH", "/tokens/{id}", "update", _patch),
    Operation("DELETE", "/tokens/{id}", "delete", _delete),
    Operation("POST", "/tokens/{id}/rotate", "rotate", _rotate),
    Operation("POST", "/tokens/{id}/deactivate", "deactivate", _deactivate),
    Operation("POST", "/tokens/{id}/activate", "activate", _activate),
)

_JSON = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]


def _shown(shown: Token | Issued, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    token = shown if isinstance(shown, Token) else shown.token
    return Answer(status, [*_JSON, ("ETag", f'"{token.version}"'), *headers], wire.show(shown))


def _body(call: Call, wanted: type[wire.T], *, optional: bool = False) -> wire.T:
    body = call.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise BodyTooLarge("The body is longer than a sound one could be.")
    if optional and not body:
        return wanted()
    if not re.fullmatch(r"application/json\s*(;.*)?", call.content_type, re.IGNORECASE):
        raise NotJson("Send the body as JSON, with 'Content-Type: application/json'.")
    return wire.read(body, wanted)


def _versions(if_match: str | None) -> list[int] | None:
    """Return the versions that ``If-Match`` names, None for any (RFC 9110 section 13.1.1)."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = (re.fullmatch(r'"([0-9]{1,9})"', tag.strip()) for tag in if_match.split(","))
    return [int(tag[1]) for tag in tags if tag]


def _filters(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    readers: dict[str, Callable[[str, str], Any]] = {
        "owner": _text,
        "type": _text,
        "name": _text,
        "deactivated": _boolean,
        "expiresBefore": _instant,
        "limit": _number,
        "offset": _number,
        "sort": _text,
    }
    filters: dict[str, Any] = {}
    for name, value in query:
        if name not in readers:
            raise InvalidInput(f"{name[:64]}: no such parameter; there are {', '.join(readers)}")
        if name in filters:
            raise InvalidInput(f"{name}: given more than once")
        filters[name] = readers[name](name, value)
    if "expiresBefore" in filters:
        filters["expires_before"] = filters.pop("expiresBefore")
    return filters


def _text(name: str, value: str) -> str:
    del name
    return value


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise InvalidInput(f"{name}: 'true' or 'false'")
    return value == "true"


def _number(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise InvalidInput(f"{name}: expected a whole number")
    return int(value)


def _instant(name: str, value: str) -> str | float:
    del name
    return float(value) if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,6})?", value) else value


def _without_offset(query: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in query if name != "offset"]
