"""The HTTP API as a blueprint with every operation of the core."""

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
    """Return a new blueprint with every operation.

    ``login`` identifies the callers; without it, the gate does by their credentials.
    """
    blueprint = Blueprint("faregate", __name__)
    for path, operations in PATHS.items():
        rule = path.replace("{id}", "<record_id>")
        endpoint = rule.strip("/").replace("/", "_").replace(".", "_").replace("<record_id>", "one")
        view = partial(_view, operations, login)
        # The core answers OPTIONS itself, as it does every other method.
        blueprint.add_url_rule(
            rule, endpoint, view, methods=METHODS, provide_automatic_options=False
        )
    return blueprint


def _view(
    operations: Mapping[str, Operation], login: Login | None, record_id: str = ""
) -> Response:
    """Answer a request to one path; ``operations`` are those of the path, by method."""
    operation = choose(operations, request.method)
    if isinstance(operation, Answer):
        return respond(operation)

    gate = cast("Gate", current_app.extensions["faregate"])
    login_of_request = None
    if login is not None:
        login_of_request = partial(current_app.ensure_sync(login), request)
    values = ManagementRequest(
        values=request_values(request.environ, gate.requests),
        route=route(),
        path=request.root_path + request.path,
        record_id=record_id,
        content_type=request.content_type or "",
        if_match=request.headers.get("If-Match"),
        login=login_of_request,
    )

    begun = begin(operation, gate, values)
    if isinstance(begun, Answer):
        return respond(begun)

    body: bytes | None = b""
    if operation.limit:
        body = _read_body(operation.limit + 1)
    return respond(perform(operation, gate, begun, body))


def _read_body(limit: int) -> bytes | None:
    """Return the body, at most ``limit`` bytes; None if the application has consumed the stream.

    A longer body is returned as ``limit`` zero bytes, of which the length alone counts.
    """
    # werkzeug caches the stream there once the application has asked for it.
    stream_taken = "stream" in request.__dict__
    own_limit = request.max_content_length
    request.max_content_length = limit if own_limit is None else min(own_limit, limit)
    try:
        body = request.get_data()
    except RequestEntityTooLarge:
        return bytes(limit)

    if body:
        return body
    # A body was announced, and none is left. A chunked body may also be empty from the start.
    chunked = "HTTP_TRANSFER_ENCODING" in request.environ
    if request.content_length or (chunked and stream_taken):
        return None
    return body
