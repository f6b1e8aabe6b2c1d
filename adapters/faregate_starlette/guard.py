"""The decorator that guards endpoints, behind :class:`faregate_asgi.GateMiddleware`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

from faregate import Denied, InvalidInput, Misconfigured
from faregate.decision.principal import PathParameter
from faregate.rules import Authentication
from faregate.values.needs import Need, check_needs
from faregate_asgi.middleware import AUTHENTICATION
from faregate_asgi.translation import method, respond

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from faregate.credentials.answers import Answer

_FRAMEWORKS = ("starlette", "fastapi")
_WRAPPERS = (
    "sentry_sdk",
)  # put handlers of their own around all that there are, the framework's defaults among them
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@overload
def requires(endpoint: Endpoint, /) -> Endpoint: ...
@overload
def requires(*needs: Need, on: object = None) -> Callable[[Endpoint], Endpoint]: ...
def requires(*needs: Any, on: object = None) -> Any:
    """Let only requests through whose principal meets all needs; without needs, any valid credential.

    For functions and coroutines that take a request or a WebSocket, their methods in endpoint classes, and
    ``HTTPEndpoint`` and ``WebSocketEndpoint`` themselves: ``@requires``, ``@requires("docs:read")``,
    ``@requires("docs:read", on=path("doc_id"))``. ``on`` names the object: a value, or ``path(…)``, the route's
    parameter, whose absence is an error, never a pass. A denial is raised as an HTTPException where the
    application has a handler of its own for it, else answered with problem+json; a WebSocket is not accepted.
    """
    if len(needs) == 1 and callable(needs[0]) and on is None:
        return _guard(needs[0], (), None)
    checked = check_needs(needs)
    if on is not None and not checked:
        raise InvalidInput("requires: on= needs at least one need beside it")
    return partial(_guard, needs=checked, on=on)


def _guard(endpoint: Any, needs: tuple[Need, ...], on: object) -> Any:
    if isinstance(endpoint, type):
        return _guard_class(cast("Any", endpoint), needs, on)
    if not (inspect.isroutine(endpoint) or isinstance(endpoint, partial)):
        raise InvalidInput(f"requires: {endpoint!r} is no function, coroutine or endpoint class")
    view = cast("Callable[..., Any]", endpoint)
    return (
        _guard_coroutine(view, needs, on)
        if inspect.iscoroutinefunction(view)
        else _guard_function(view, needs, on)
    )


def _guard_coroutine(
    view: Callable[..., Any], needs: tuple[Need, ...], on: object
) -> Callable[..., Any]:
    @wraps(view)
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        connection = args[0] if args and type(args[0]) is Request else _connection(args, kwargs)
        authentication = connection.scope.get(AUTHENTICATION)
        try:
            if (
                type(authentication) is Authentication
                and authentication.principal is not None
                and on is None
            ):
                authentication.principal.require_all(
                    needs
                )  # as of most requests, and without a call more
            else:
                _judge(connection, needs, on)
            return await view(*args, **kwargs)
        except Denied as denied:
            if isinstance(connection, WebSocket):
                await _turn_away(connection, denied)
                return None
            return _refuse(connection, denied)

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
            return _refuse(connection, denied)

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
                await respond(_answer(connection, denied), endpoint.scope, endpoint.send)
            else:
                await _refuse(connection, denied)(endpoint.scope, endpoint.receive, endpoint.send)

    return guarded


def _connection(args: tuple[Any, ...], kwargs: dict[str, Any]) -> HTTPConnection[Any]:
    for value in (*args, *kwargs.values()):
        if type(value) is Request or isinstance(
            value, HTTPConnection
        ):  # the first is the usual one, and faster to tell
            return value  # pyright: ignore[reportUnknownVariableType]  the type of its state does not matter
    raise Misconfigured("@requires guards what takes a request or a WebSocket; this took neither")


def _judge(connection: HTTPConnection[Any], needs: tuple[Need, ...], on: object) -> None:
    """Let the connection pass, or raise Denied."""
    authentication = connection.scope.get(AUTHENTICATION)
    if type(authentication) is not Authentication:
        raise Misconfigured(
            "@requires needs the middleware: Starlette(…, middleware=[Middleware(GateMiddleware, gate=gate)])"
        )
    principal = authentication.principal or authentication.identified()
    principal.require_all(needs, None if on is None else _object(connection, on))


def _object(connection: HTTPConnection[Any], on: object) -> object:
    if not isinstance(on, PathParameter):
        return on
    if on.name not in connection.path_params:
        raise Misconfigured(f"on=path({on.name!r}): the route has no such parameter")
    return connection.path_params[on.name]


def _answer(connection: HTTPConnection[Any], denied: Denied) -> Answer:
    # The route as it was registered: a path that a client chose may hold anything.
    route = getattr(connection.scope.get("route"), "path", "-")
    authentication: Authentication = connection.scope[AUTHENTICATION]
    return authentication.gate.answer(denied, route=f"{method(connection.scope)} {route}")


async def _turn_away(websocket: WebSocket[Any], denied: Denied) -> None:
    """Refuse a WebSocket, or close one that was accepted before its guard was asked."""
    answer = _answer(websocket, denied)
    if websocket.application_state is WebSocketState.CONNECTED:
        await websocket.close(1008)
    elif websocket.application_state is WebSocketState.CONNECTING:  # else it is closed already
        await respond(answer, websocket.scope, websocket.send)


class _Refused(Exception):
    """What is told to the handler of the application, on its way there by way of :func:`_handle`."""

    def __init__(self, handler: Callable[..., Any] | None, told: Exception, answer: Answer) -> None:
        super().__init__()
        self.handler = handler
        self.told = told
        self.answer = answer


def _refuse(connection: HTTPConnection[Any], denied: Denied) -> Response:
    """Return the answer to a denial; raise it where the application has a handler of its own for it."""
    answer = _answer(connection, denied)
    by_class, by_status = connection.scope.get("starlette.exception_handlers", ({}, {}))
    told: Exception = denied
    handler = next(
        (
            by_class[kind]
            for kind in type(denied).__mro__
            if kind in by_class and issubclass(kind, Denied)
        ),
        None,
    )
    if handler is None:
        told = refusal = _refusal(denied, answer)
        handler = _handler(refusal, by_class, by_status)
        if _is_default(handler, refusal, connection):
            return Response(answer.body, answer.status, dict(answer.headers))

    by_class.setdefault(_Refused, _handle)
    raise _Refused(handler, told, answer)


def _is_default(
    handler: Callable[..., Any] | None, refusal: HTTPException, connection: HTTPConnection[Any]
) -> bool:
    """Tell whether nobody but the framework answers: in its own form, for which no application has asked."""
    if _package(handler) in _WRAPPERS:
        # What it is around is what the application has named, or the framework's. Of errors there is another handler.
        registered = getattr(connection.scope.get("app"), "exception_handlers", {})
        handler = _handler(
            refusal, {key: registered[key] for key in registered if key not in (500, Exception)}, {}
        )
    return handler is None or _package(handler) in _FRAMEWORKS


def _refusal(denied: Denied, answer: Answer) -> HTTPException:
    """Return a denial for the application's own exception handler; ``denied`` tells it what happened."""
    headers = {name: value for name, value in answer.headers if name != "Content-Type"}
    refusal = _refusal_class(sys.modules.get("fastapi"))(denied.status, denied.detail, headers)
    vars(refusal)["denied"] = denied
    return refusal


@cache
def _refusal_class(fastapi: ModuleType | None) -> type[HTTPException]:
    """Return the exception of a refusal: where FastAPI is loaded it is one of its own, for whoever names that one."""
    base: Any = HTTPException if fastapi is None else fastapi.HTTPException
    return type("Refusal", (base,), {})


def _handler(
    refusal: HTTPException, by_class: Mapping[Any, Any], by_status: Mapping[int, Any]
) -> Callable[..., Any] | None:
    """Return the handler for a refusal, as Starlette would find it; None where there is none."""
    found = by_status.get(refusal.status_code)
    return found or next((by_class[one] for one in type(refusal).__mro__ if one in by_class), None)


def _package(handler: Callable[..., Any] | None) -> str:
    return str(getattr(handler, "__module__", "")).partition(".")[0]


async def _handle(request: Request, refused: Any) -> Response:
    """Have the application's handler answer, and add what it leaves away: a refusal stays a refusal."""
    response: Any
    if inspect.iscoroutinefunction(refused.handler):
        response = refused.handler(request, refused.told)
    else:
        response = await run_in_threadpool(refused.handler, request, refused.told)
    if inspect.isawaitable(response):
        response = await response
    if isinstance(response, Response) and response.status_code == refused.answer.status:
        for name, value in refused.answer.headers:
            response.headers.setdefault(name, value)
    return cast("Response", response)
