"""The HTTP API as a blueprint: each operation of the core, mounted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

from flask import Blueprint, Request, Response, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from faregate.credentials.answers import Answer
from faregate.management.operations import METHODS, PATHS, Operation, begin, choose, perform
from faregate.management.request import ManagementRequest
from faregate_flask.translation import respond, route
from faregate_wsgi.translation import request_values

if TYPE_CHECKING:
    from faregate import Gate, Principal

Login = Callable[[Request], "Principal | Awaitable[Principal | None] | None"]


def management_blueprint(login: Login | None) -> Blueprint:
    """Return a new blueprint of every operation, whose callers ``login`` knows, or the gate by their credentials."""
    blueprint = Blueprint("faregate", __name__)
    for path, found in PATHS.items():
        rule = path.replace("{id}", "<record_id>")
        endpoint = rule.strip("/").replace("/", "_").replace(".", "_").replace("<record_id>", "one")
        view = partial(_view, found, login)
        blueprint.add_url_rule(
            rule, endpoint, view, methods=METHODS, provide_automatic_options=False
        )
    return blueprint


def _view(found: Mapping[str, Operation], login: Login | None, record_id: str = "") -> Response:
    operation = choose(found, request.method)
    if isinstance(operation, Answer):
        return respond(operation)
    gate = cast("Gate", current_app.extensions["faregate"])
    call = ManagementRequest(
        values=request_values(request.environ, gate.requests),
        route=route(),
        path=request.root_path + request.path,
        record_id=record_id,
        content_type=request.content_type or "",
        if_match=request.headers.get("If-Match"),
        login=partial(current_app.ensure_sync(login), request) if login is not None else None,
    )
    begun = begin(operation, gate, call)
    if isinstance(begun, Answer):
        return respond(begun)
    return respond(
        perform(operation, gate, begun, _read(operation.limit + 1) if operation.limit else b"")
    )


def _read(limit: int) -> bytes | None:
    """Return the body, even if the application has read it before; one byte too many where it is too long."""
    taken = "stream" in request.__dict__  # werkzeug keeps it there once somebody has asked for it
    own = request.max_content_length
    request.max_content_length = limit if own is None else min(own, limit)
    try:
        body = request.get_data()
    except RequestEntityTooLarge:
        return bytes(limit)
    if not body and (
        request.content_length or ("HTTP_TRANSFER_ENCODING" in request.environ and taken)
    ):
        return None
    return body
