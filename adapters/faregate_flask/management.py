"""The HTTP API as a blueprint: each operation of the core, mounted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from faregate import Denied, InvalidInput
from faregate.management.operations import OPERATIONS, Call, Operation, perform
from faregate_flask.translation import identify, respond, route

if TYPE_CHECKING:
    from faregate import Gate


def management_blueprint() -> Blueprint:
    """Return a new blueprint of every operation."""
    blueprint = Blueprint("faregate", __name__)
    for operation in OPERATIONS:
        rule = operation.path.replace("{id}", "<token_id>")
        endpoint = f"{operation.method.lower()}_{operation.call}"
        view = partial(_view, operation)
        blueprint.add_url_rule(rule, endpoint, view, methods=[operation.method])
    return blueprint


def _view(operation: Operation, token_id: str = "") -> Response:
    gate = cast("Gate", current_app.extensions["faregate"])
    try:
        principal = identify(gate)
    except Denied as denied:
        return respond(gate.answer(denied, route=route()))
    call = Call(
        principal=principal,
        route=route(),
        path=request.root_path + request.path,
        token_id=token_id,
        query=_query(gate),
        content_type=request.content_type or "",
        if_match=request.headers.get("If-Match"),
        read=_read,
    )
    return respond(perform(operation, gate, call))


def _query(gate: Gate) -> list[tuple[str, str]]:
    """Return the parameters of the query, without a credential that may be presented there."""
    pairs = request.args.items(multi=True)
    return [(name, value) for name, value in pairs if not (gate.bearer.query and name == "access_token")]


def _read(limit: int) -> bytes:
    """Return the body, even if the application has read it before; one byte too many where it is too long."""
    own = request.max_content_length
    request.max_content_length = limit if own is None else min(own, limit)
    try:
        body = request.get_data()
    except RequestEntityTooLarge:
        return bytes(limit)
    if not body and (request.content_length or "HTTP_TRANSFER_ENCODING" in request.environ):
        raise InvalidInput("The body was read before it came here; leave it to this API")
    return body
