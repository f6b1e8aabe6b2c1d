"""The ASGI middleware.

Its law: the event loop never waits for more than a look-up. A common request is admitted from the
cache, where it arrives. Every other request is identified without waiting if that is possible, and
else in a worker thread.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread

from faregate import Denied, Misconfigured
from faregate.errors import WouldWait
from faregate.rules import IDENTIFY, Authentication, Rules, admit
from faregate_asgi.translation import REMOTE_USER, Reader, encode, method, path, raw_path, respond

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from faregate import Gate
    from faregate.rules import Default, Demand
    from faregate.values.grants import Resources
    from faregate.values.needs import Need
    from faregate_asgi.translation import Application, Message, Receive, Scope, Send

AUTHENTICATION = "faregate.visit"
_SHUT_DOWN = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")


class GateMiddleware:
    """Passes those requests and WebSockets to ``app`` that ``gate`` admits.

    ``rules`` and ``default`` are those of :class:`faregate.rules.Rules`. Without rules every
    request passes, and its caller is identified if possible.

    The application finds the principal in ``scope["user"]`` and its scopes in ``scope["auth"]``, as
    Starlette has them. A header ``Remote-User`` of the client is removed. A Denied that the
    application raises before it answers, as by ``scope["user"].require(…)``, is answered here.
    ``lifespan`` passes untouched. Times of last use are written before the server hears of the
    shutdown.

    >>> from faregate import PUBLIC
    >>> from faregate_asgi import GateMiddleware
    >>> async def application(scope, receive, send):
    ...     scope["user"].require("docs:write")
    >>> rules = {"/healthz": PUBLIC, "/docs/": "docs:read"}
    >>> app = GateMiddleware(application, gate=gate, rules=rules)

    Raises InvalidInput for an invalid rule or default.
    """

    def __init__(
        self,
        app: Application,
        *,
        gate: Gate,
        rules: Mapping[str, Demand] | None = None,
        default: Default | None = None,
    ) -> None:
        self._app = app
        self._gate = gate.requests
        self._flush = gate.flush
        self._rules = Rules(rules, default)
        self._reader = Reader(gate.requests)
        # Each request needs both: a look-up of an attribute is worth sparing.
        self._open = self._rules.open
        self._peek = gate.requests.peek

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application answer it."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            if kind != "lifespan":
                raise Misconfigured(
                    f"ASGI scope {kind!r}: the gate admits http, websocket and lifespan only"
                )
            await self._run_lifespan(scope, receive, send)
            return

        try:
            authentication = self._admit_cached(scope)
            if authentication is None:
                authentication = await self._admit(scope)
                scope["headers"] = [
                    line for line in scope["headers"] if line[0].lower() not in REMOTE_USER
                ]
        except Denied as denied:
            answer = self._rules.answer(self._gate, denied, method(scope), path(scope))
            await respond(answer, scope, send)
            return

        scope[AUTHENTICATION] = scope["auth"] = authentication
        scope["user"] = authentication.principal or Nobody(authentication)
        if authentication.announces():
            send = _announcing_send(authentication, scope, send)

        try:
            await self._app(scope, receive, send)
        # The application itself has asked a principal.
        except Denied as denied:
            answer = self._gate.answer(denied, route=f"{method(scope)} -")
            # If the application had begun its answer, the server refuses this second start.
            await respond(answer, scope, send)

    async def _run_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application's lifespan, and write the times of last use at its end.

        After a signal, servers end the process as soon as they hear of the shutdown, before any
        finalizer could write.
        """
        flushed = False

        async def flushing_send(message: Message) -> None:
            nonlocal flushed
            if message["type"] in _SHUT_DOWN:
                flushed = True
                await to_thread.run_sync(self._flush)
            await send(message)

        await self._app(scope, receive, flushing_send)

        # An application may return without a message about its shutdown.
        if not flushed:
            await to_thread.run_sync(self._flush)

    def _admit_cached(self, scope: Scope) -> Authentication | None:
        """Fast path: return the authentication of a common request, or None.

        A common request has a single ``Authorization`` line, no header that names a user, and a
        cached principal. None is not a denial; call :meth:`_admit` then. Raises Denied if the
        path's rule refuses the principal.
        """
        demand = IDENTIFY if self._open else self._rules.demand(path(scope), raw_path(scope))
        if demand is None:
            return None

        line: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                if line is not None:
                    return None
                line = value
            # Most names differ in their length, which costs next to nothing to compare.
            elif len(name) == 11 and name.lower() in REMOTE_USER:
                return None
        if line is None:
            return None

        client = scope.get("client")
        principal = self._peek(line, client[0] if client else None)
        if principal is None:
            return None

        if self._open:
            authentication = Authentication(self._gate, principal)
        else:
            authentication = admit(self._gate, demand, principal)
        return authentication

    async def _admit(self, scope: Scope) -> Authentication:
        """Return the authentication of any request, or raise Denied."""
        arguments = (self._gate, path(scope), raw_path(scope), self._reader.values(scope))
        try:
            return self._rules.enter(*arguments, wait=False)
        except WouldWait:
            return await to_thread.run_sync(partial(self._rules.enter, *arguments))


def _announcing_send(authentication: Authentication, scope: Scope, send: Send) -> Send:
    """Return a ``send`` that adds the headers of the gate to the application's answer.

    It adds none after the authentication was taken out of ``scope``: an inner adapter has
    identified the caller anew, and answers for that.
    """

    def announcing_send(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start" and AUTHENTICATION in scope:
            headers = list(message.get("headers", ()))
            present = [name.decode("latin-1") for name, _ in headers]
            added = authentication.additions(message["status"], present)
            message = {**message, "headers": [*headers, *encode(added)]}
        return send(message)

    return announcing_send


class Nobody:
    """Stands for the user of a request without a principal.

    It has the attributes of Starlette's ``UnauthenticatedUser``, and those of a principal that
    grants nothing.
    """

    is_authenticated = False
    display_name = ""
    identity = ""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication

    @property
    def denied(self) -> Denied | None:
        """The reason why the request has no principal."""
        return self._authentication.denied

    def require(self, *_: Need, on: object = None) -> None:
        """Raise Denied with the reason why the request has no principal."""
        del on
        self._authentication.identified()

    def allows(self, *_: Need, on: object = None) -> bool:
        """Return False."""
        del on
        return False

    def allowed_objects(self, need: Need) -> Resources:
        """Return no object."""
        del need
        return frozenset()
