"""The HTTP API as an application to mount: each operation of the core, answered in a worker thread."""

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

_THREADS = 10
_LIMITER: RunVar[CapacityLimiter] = RunVar("faregate_management")


def management(gate: Gate, *, principal: Login | None = None) -> Router:
    """Return the calls of the HTTP API as an application, to mount under a prefix of your choice.

    The caller is identified here, whether a middleware stands before it or not: by a credential; or, where your
    users log in otherwise, by ``principal``, a function or coroutine function of the request that returns who is
    logged in, as ``gate.session(…)`` makes it, or None. Unsafe methods then take an ``Origin`` of ``origins``.
    """
    reader = Reader(gate.requests)
    routes = [
        Route(path, partial(_endpoint, found, gate, reader, principal), methods=METHODS, name=path)
        for path, found in PATHS.items()
    ]
    return Router(routes, redirect_slashes=False)


async def _endpoint(
    found: Mapping[str, Operation],
    gate: Gate,
    reader: Reader,
    login: Login | None,
    request: Request,
) -> Response:
    request.scope.pop(
        AUTHENTICATION, None
    )  # the caller is identified again, and told here what there is to tell
    operation = choose(found, request.method)
    if isinstance(operation, Answer):
        return _respond(operation)
    call = ManagementRequest(
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
        login=partial(_ask, login, request) if login is not None else None,
    )
    begun = await to_thread.run_sync(begin, operation, gate, call, limiter=_limiter())
    if isinstance(begun, Answer):
        return _respond(begun)
    try:
        # Read here, where a slow client keeps no thread waiting.
        body = await _read(request, operation.limit)
    except ClientDisconnect:
        return Response(status_code=400)  # which nobody receives
    return _respond(
        await to_thread.run_sync(perform, operation, gate, begun, body, limiter=_limiter())
    )


def _ask(login: Login, request: Request) -> Principal | None:
    """Return who is logged in, from the worker thread in which the call is answered."""
    found = login(request)
    return from_thread.run(_awaited, found) if isinstance(found, Awaitable) else found


async def _awaited(found: Awaitable[Principal | None]) -> Principal | None:
    return await found


def _limiter() -> CapacityLimiter:
    """Return the threads of this event loop for the HTTP API: its own, so that it keeps no view waiting."""
    try:
        return _LIMITER.get()
    except LookupError:
        limiter = CapacityLimiter(_THREADS)
        _LIMITER.set(limiter)
        return limiter


async def _read(request: Request, limit: int) -> bytes:
    """Return the body; of one that is longer than ``limit``, no more than shows that."""
    body = bytearray()
    if limit:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                break
    return bytes(body[: limit + 1])


def _respond(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers))
