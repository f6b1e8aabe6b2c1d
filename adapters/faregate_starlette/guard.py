"""The decorator that guards endpoints behind :class:`faregate_asgi.GateMiddleware`.

The middleware has identified the caller, and stored the authentication in the scope. A guard asks
its principal for the needs of the endpoint. :mod:`faregate_starlette.refusal` answers a denial.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket

from faregate import Denied, InvalidInput, Misconfigured
from faregate.adapters import apply_requires
from faregate.decision.principal import PathParameter
from faregate.rules import Authentication
from faregate_asgi.middleware import AUTHENTICATION
from faregate_asgi.translation import respond
from faregate_starlette.refusal import answer_denied, refuse, refuse_websocket

if TYPE_CHECKING:
    from faregate.values.needs import Need

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@overload
def requires(endpoint: Endpoint, /) -> Endpoint: ...
@overload
def requires(*needs: Need, on: object = None) -> Callable[[Endpoint], Endpoint]: ...
def requires(*needs: Any, on: object = None) -> Any:
    """Guard an endpoint: only requests pass whose principal meets all needs.

    Without needs, any valid credential passes. ``on`` is the object: a value, or ``path(…)`` for a
    parameter of the route. A missing parameter is an error, never a pass. An endpoint is a function
    or coroutine function that takes a request or a WebSocket, a method of an endpoint class, or an
    ``HTTPEndpoint`` or ``WebSocketEndpoint`` itself.

    A denial is raised as an HTTPException if the application has a handler of its own for it. Else
    it is answered with problem+json. A WebSocket is not accepted.

    >>> from starlette.applications import Starlette
    >>> from starlette.middleware import Middleware
    >>> from starlette.responses import PlainTextResponse
    >>> from starlette.routing import Route
    >>> from starlette.testclient import TestClient
    >>> from faregate_asgi import GateMiddleware
    >>> from faregate_starlette import requires

    >>> @requires("docs:read", on=path("doc_id"))
    ... def show(request):
    ...     return PlainTextResponse(request.user.identity)

    >>> routes = [Route("/docs/{doc_id}", show)]
    >>> app = Starlette(routes=routes, middleware=[Middleware(GateMiddleware, gate=gate)])
    >>> client = TestClient(app)
    >>> client.get("/docs/plan").status_code
    401
    >>> client.get("/docs/plan", headers={"Authorization": f"Bearer {secret}"}).text
    'ann'

    Raises InvalidInput for a value that is not a need, for ``on`` without needs, and for an
    endpoint of another kind.
    """
    return apply_requires(_guard, needs, on)


def _guard(endpoint: Any, needs: tuple[Need, ...], on: object) -> Any:
    if isinstance(endpoint, type):
        return _guard_class(cast("Any", endpoint), needs, on)
    if not (inspect.isroutine(endpoint) or isinstance(endpoint, partial)):
        raise InvalidInput(f"requires: {endpoint!r} is no function, coroutine or endpoint class")

    view = cast("Callable[..., Any]", endpoint)
    if inspect.iscoroutinefunction(view):
        return _guard_coroutine(view, needs, on)
    return _guard_function(view, needs, on)


def _guard_coroutine(
    view: Callable[..., Any], needs: tuple[Need, ...], on: object
) -> Callable[..., Any]:
    @wraps(view)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        connection = args[0] if args and type(args[0]) is Request else _connection(args, kwargs)
        authentication = connection.scope.get(AUTHENTICATION)
        try:
            # Most requests have a principal, and most guards no object: no further call is needed.
            if (
                type(authentication) is Authentication
                and authentication.principal is not None
                and on is None
            ):
                authentication.principal.require_all(needs)
            else:
                _judge(connection, needs, on)
            return await view(*args, **kwargs)
        except Denied as denied:
            if isinstance(connection, WebSocket):
                await refuse_websocket(connection, denied)
                return None
            return refuse(connection, denied)

    return guarded


def _guard_function(
    view: Callable[..., Any], needs: tuple[Need, ...], on: object
) -> Callable[..., Any]:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        connection = _connection(args, kwargs)
        try:
            _judge(connection, needs, on)
            return view(*args, **kwargs)
        except Denied as denied:
            return refuse(connection, denied)

    return guarded


def _guard_class(endpoint: Any, needs: tuple[Need, ...], on: object) -> Any:
    dispatch = getattr(endpoint, "dispatch", None)
    if not inspect.iscoroutinefunction(dispatch):
        raise InvalidInput(f"requires: {endpoint.__name__} is no HTTPEndpoint or WebSocketEndpoint")
    # In place: no name leads to the class without its guard.
    endpoint.dispatch = _guard_dispatch(dispatch, needs, on)
    return endpoint


def _guard_dispatch(
    dispatch: Callable[[Any], Any], needs: tuple[Need, ...], on: object
) -> Callable[[Any], Any]:
    @wraps(dispatch)
    async def guarded(endpoint: Any) -> None:
        connection: HTTPConnection[Any] = HTTPConnection(endpoint.scope)
        try:
            _judge(connection, needs, on)
            await dispatch(endpoint)
        except Denied as denied:
            if connection.scope["type"] == "websocket":
                answer = answer_denied(connection, denied)
                await respond(answer, endpoint.scope, endpoint.send)
            else:
                response = refuse(connection, denied)
                await response(endpoint.scope, endpoint.receive, endpoint.send)

    return guarded


def _connection(args: tuple[Any, ...], kwargs: dict[str, Any]) -> HTTPConnection[Any]:
    """Return the request or WebSocket among the arguments of an endpoint."""
    for value in (*args, *kwargs.values()):
        # A plain Request is the usual argument, and its type is faster to compare.
        if type(value) is Request or isinstance(value, HTTPConnection):
            return value  # pyright: ignore[reportUnknownVariableType]  its state may be of any type
    raise Misconfigured("@requires: the endpoint was called without a request or a WebSocket")


def _judge(connection: HTTPConnection[Any], needs: tuple[Need, ...], on: object) -> None:
    """Return if the connection's principal meets the needs; raise Denied otherwise."""
    authentication = connection.scope.get(AUTHENTICATION)
    if type(authentication) is not Authentication:
        raise Misconfigured(
            "@requires needs the middleware: "
            "Starlette(…, middleware=[Middleware(GateMiddleware, gate=gate)])"
        )
    principal = authentication.principal or authentication.identified()
    principal.require_all(needs, None if on is None else _resource(connection, on))


def _resource(connection: HTTPConnection[Any], on: object) -> object:
    """Return the object that ``on=`` of a guard names, with the route's parameter filled in."""
    if not isinstance(on, PathParameter):
        return on
    if on.name not in connection.path_params:
        raise Misconfigured(f"on=path({on.name!r}): the route has no such parameter")
    return connection.path_params[on.name]
