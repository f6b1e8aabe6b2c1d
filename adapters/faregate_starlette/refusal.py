"""The answer to a denial in a guarded endpoint.

The law: an application that has a handler for the denial writes the answer, and the gate adds its
headers. Without a handler, the gate answers. Handlers are tried in this order:

1. a handler for Denied, or for a class of it, gets the denial itself;
2. a handler for the status, or for HTTPException, gets an HTTPException with ``denied``;
3. the default handler of a framework counts as no handler.

An exception that is raised in an endpoint is handled by Starlette, which looks for a handler by the
class of the exception. So a denial on its way to the application's handler is a :class:`_Refused`,
whose own handler calls that of the application.
"""

from __future__ import annotations

import inspect
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from faregate import Denied
from faregate_asgi.middleware import AUTHENTICATION
from faregate_asgi.translation import method, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from starlette.requests import HTTPConnection, Request

    from faregate.credentials.answers import Answer
    from faregate.rules import Authentication

    Handler = Callable[..., Any]

_FRAMEWORKS = ("starlette", "fastapi")
# Packages that wrap every handler in a function of their own, those of the framework included.
_WRAPPERS = ("sentry_sdk",)


def answer_denied(connection: HTTPConnection[Any], denied: Denied) -> Answer:
    """Return the core's answer to a denial, and log the denial."""
    # The route as it was registered: a client may put anything in a path.
    route = getattr(connection.scope.get("route"), "path", "-")
    authentication: Authentication = connection.scope[AUTHENTICATION]
    return authentication.gate.answer(denied, route=f"{method(connection.scope)} {route}")


async def refuse_websocket(websocket: WebSocket[Any], denied: Denied) -> None:
    """Deny a handshake, or close a WebSocket that was accepted before the denial."""
    answer = answer_denied(websocket, denied)
    if websocket.application_state is WebSocketState.CONNECTED:
        # 1008 is a policy violation (RFC 6455 section 7.4.1).
        await websocket.close(1008)
    elif websocket.application_state is WebSocketState.CONNECTING:
        await respond(answer, websocket.scope, websocket.send)


class _Refused(Exception):
    """Carries a denial to the application's handler, by way of :func:`_handle`.

    ``exception`` is the argument of that handler, ``answer`` the core's answer.
    """

    def __init__(self, handler: Handler | None, exception: Exception, answer: Answer) -> None:
        super().__init__()
        self.handler = handler
        self.exception = exception
        self.answer = answer


def refuse(connection: HTTPConnection[Any], denied: Denied) -> Response:
    """Return the gate's answer to a denial; raise it if the application has its own handler."""
    answer = answer_denied(connection, denied)
    by_class, by_status = connection.scope.get("starlette.exception_handlers", ({}, {}))

    exception: Exception = denied
    handler = _denied_handler(denied, by_class)
    if handler is None:
        exception = refusal = _refusal(denied, answer)
        handler = _http_handler(refusal, by_class, by_status)
        if _is_default(handler, refusal, connection):
            return Response(answer.body, answer.status, dict(answer.headers))

    by_class.setdefault(_Refused, _handle)
    raise _Refused(handler, exception, answer)


def _denied_handler(denied: Denied, by_class: Mapping[Any, Any]) -> Handler | None:
    """Return the application's handler for Denied itself, or None."""
    for kind in type(denied).__mro__:
        if kind in by_class and issubclass(kind, Denied):
            return cast("Handler", by_class[kind])
    return None


def _http_handler(
    refusal: HTTPException, by_class: Mapping[Any, Any], by_status: Mapping[int, Any]
) -> Handler | None:
    """Return the handler that Starlette would choose for an HTTPException, or None."""
    handler = by_status.get(refusal.status_code)
    if handler:
        return cast("Handler", handler)
    for kind in type(refusal).__mro__:
        if kind in by_class:
            return cast("Handler", by_class[kind])
    return None


def _is_default(
    handler: Handler | None, refusal: HTTPException, connection: HTTPConnection[Any]
) -> bool:
    """Return True if no handler is the application's own.

    The framework's default would answer in a form that no application has asked for.
    """
    if _package(handler) in _WRAPPERS:
        # A wrapper hides the origin of its handler, which the application's own table still shows.
        # Starlette keeps the handlers of server errors elsewhere.
        registered = getattr(connection.scope.get("app"), "exception_handlers", {})
        own_handlers = {key: registered[key] for key in registered if key not in (500, Exception)}
        handler = _http_handler(refusal, own_handlers, {})
    return handler is None or _package(handler) in _FRAMEWORKS


def _package(handler: Handler | None) -> str:
    """Return the name of the package that defines a handler."""
    return str(getattr(handler, "__module__", "")).partition(".")[0]


def _refusal(denied: Denied, answer: Answer) -> HTTPException:
    """Return a denial as an HTTPException, with the denial itself in ``denied``."""
    headers = {name: value for name, value in answer.headers if name != "Content-Type"}
    refusal = _refusal_class(sys.modules.get("fastapi"))(denied.status, denied.detail, headers)
    vars(refusal)["denied"] = denied
    return refusal


@cache
def _refusal_class(fastapi: ModuleType | None) -> type[HTTPException]:
    """Return the class of refusals.

    Applications of FastAPI name its own HTTPException in their handlers, so it is the base once
    FastAPI is loaded.
    """
    base: Any = HTTPException if fastapi is None else fastapi.HTTPException
    return type("Refusal", (base,), {})


async def _handle(request: Request, refused: Any) -> Response:
    """Return the answer of the application's handler, with the headers that it left out.

    The handler writes the body, and a denial keeps its challenge.
    """
    response: Any
    if inspect.iscoroutinefunction(refused.handler):
        response = refused.handler(request, refused.exception)
    else:
        response = await run_in_threadpool(refused.handler, request, refused.exception)
    if inspect.isawaitable(response):
        response = await response

    if isinstance(response, Response) and response.status_code == refused.answer.status:
        for name, value in refused.answer.headers:
            response.headers.setdefault(name, value)
    return cast("Response", response)
