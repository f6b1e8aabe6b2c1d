"""The HTTP API as an application to mount.

Each operation of the core runs in a worker thread. The body is read on the event loop, where a slow
client keeps no thread waiting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from anyio import CapacityLimiter, from_thread, to_thread
from anyio.lowlevel import RunVar
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router

from faregate.credentials.answers import Answer
from faregate.credentials.presented import SAFE_METHODS
from faregate.management.operations import METHODS, PATHS, Operation, begin, choose, perform
from faregate.management.request import ManagementRequest
from faregate_asgi.middleware import AUTHENTICATION
from faregate_asgi.translation import Reader, query

if TYPE_CHECKING:
    from faregate import Gate, Principal

Login = Callable[[Request], "Principal | Awaitable[Principal | None] | None"]

_THREADS = 10  # for the HTTP API, on each event loop
_LIMITER: RunVar[CapacityLimiter] = RunVar("faregate_management")


def management(gate: Gate, *, principal: Login | None = None) -> Router:
    """Return the HTTP API as an application, to mount under a prefix of your choice.

    It identifies its callers itself, with or without a middleware before it. They present a
    credential. If your users log in otherwise, ``principal`` is a function or coroutine function of
    the request that returns the principal of the logged-in user, made by ``gate.session(…)``, or
    None. Unsafe methods then need an ``Origin`` of ``origins``.

    >>> from starlette.applications import Starlette
    >>> from starlette.routing import Mount
    >>> from starlette.testclient import TestClient
    >>> from faregate_starlette import management
    >>> app = Starlette(routes=[Mount("/admin", management(gate))])
    >>> TestClient(app).get("/admin/tokens").status_code
    401
    """
    reader = Reader(gate.requests)
    routes: list[Route] = []
    for path, operations in PATHS.items():
        endpoint = partial(_endpoint, operations, gate, reader, principal)
        routes.append(Route(path, endpoint, methods=METHODS, name=path))
    return Router(routes, redirect_slashes=False)


async def _endpoint(
    operations: Mapping[str, Operation],
    gate: Gate,
    reader: Reader,
    login: Login | None,
    request: Request,
) -> Response:
    """Answer a request to one path; ``operations`` are those of the path, by method."""
    # The caller is identified anew. With its own authentication still in the scope, a middleware
    # in front would add headers for another caller.
    request.scope.pop(AUTHENTICATION, None)

    operation = choose(operations, request.method)
    if isinstance(operation, Answer):
        return _respond(operation)

    values = _request_values(request, operation, reader, login)
    begun = await to_thread.run_sync(begin, operation, gate, values, limiter=_limiter())
    if isinstance(begun, Answer):
        return _respond(begun)

    try:
        body = await _read_body(request, operation.limit)
    except ClientDisconnect:
        # Nobody receives this answer.
        return Response(status_code=400)
    answer = await to_thread.run_sync(perform, operation, gate, begun, body, limiter=_limiter())
    return _respond(answer)


def _request_values(
    request: Request, operation: Operation, reader: Reader, login: Login | None
) -> ManagementRequest:
    """Return the values of a request to the HTTP API."""
    login_of_request = None
    if login is not None:
        login_of_request = partial(_log_in, login, request)
    return ManagementRequest(
        values=msgspec.structs.replace(
            reader.values(request.scope),
            query=query(request.scope),
            unsafe=operation.method not in SAFE_METHODS,
            origin=", ".join(request.headers.getlist("origin")) or None,
        ),
        route=f"{operation.method} {operation.path}",
        path=request.scope["path"],
        record_id=request.path_params.get("id", ""),
        content_type=request.headers.get("content-type", ""),
        if_match=", ".join(request.headers.getlist("if-match")) or None,
        login=login_of_request,
    )


def _log_in(login: Login, request: Request) -> Principal | None:
    """Return the principal of the logged-in user; called in the worker thread of the operation."""
    principal = login(request)
    if isinstance(principal, Awaitable):
        return from_thread.run(_await, principal)
    return principal


async def _await(principal: Awaitable[Principal | None]) -> Principal | None:
    return await principal


def _limiter() -> CapacityLimiter:
    """Return the limiter of this event loop's threads for the HTTP API.

    It is separate from that of views, so that the HTTP API keeps no view waiting.
    """
    try:
        return _LIMITER.get()
    except LookupError:
        limiter = CapacityLimiter(_THREADS)
        _LIMITER.set(limiter)
        return limiter


async def _read_body(request: Request, limit: int) -> bytes:
    """Return the body, at most ``limit`` bytes and a further byte that shows an excess."""
    body = bytearray()
    if limit:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                break
    return bytes(body[: limit + 1])


def _respond(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers))
