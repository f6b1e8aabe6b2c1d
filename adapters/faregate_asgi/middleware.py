"""The ASGI middleware."""

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
    """Lets only those requests and WebSockets through to ``app`` that ``gate`` admits, by ``rules`` for their paths.

    The application finds the principal in ``scope["user"]`` and what it may do in ``scope["auth"]``, as Starlette
    has them; a header ``Remote-User`` of the client is removed. ``rules`` and ``default`` are those of
    :class:`faregate.rules.Rules`; without rules everybody passes and is identified if possible. A Denied that the
    application raises before it answers, as by ``scope["user"].require(…)``, is answered here. ``lifespan`` passes
    untouched, and times of last use are written before the server hears that the application has shut down. The event
    loop waits for nothing longer than a look-up: whatever would, is done in a worker thread.
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
        self._gate = gate
        self._requests = gate.requests
        self._rules = Rules(rules, default)
        self._reader = Reader(gate.requests)
        # On the way of each request, where a look-up of an attribute is worth sparing.
        self._open, self._peek = self._rules.open, gate.requests.peek

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            if kind != "lifespan":
                raise Misconfigured(
                    f"The gate does not know what to do with {kind!r}, so it stays shut"
                )
            await self._live(scope, receive, send)
            return
        try:
            authentication = self._at_hand(scope)
            if authentication is None:
                authentication = await self._enter(scope)
                scope["headers"] = [
                    line for line in scope["headers"] if line[0].lower() not in REMOTE_USER
                ]
        except Denied as denied:
            await respond(
                self._rules.answer(self._requests, denied, method(scope), path(scope)), scope, send
            )
            return
        scope[AUTHENTICATION] = scope["auth"] = authentication
        scope["user"] = authentication.principal or Nobody(authentication)
        if authentication.announces():
            send = _announcing(authentication, scope, send)
        try:
            await self._app(scope, receive, send)
        except Denied as denied:  # of a principal that the application has asked itself
            # Where an answer was begun, the server says that this comes too late.
            await respond(self._requests.answer(denied, route=f"{method(scope)} -"), scope, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application live its life, and write the times of last use at its end.

        After a signal servers end the process as soon as they hear of the end, before any finalizer could write.
        """
        told = False

        async def sending(message: Message) -> None:
            nonlocal told
            if message["type"] in _SHUT_DOWN:
                told = True
                await to_thread.run_sync(self._gate.flush)
            await send(message)

        await self._app(scope, receive, sending)
        if not told:  # it has returned without a word, which is the end, too
            await to_thread.run_sync(self._gate.flush)

    def _at_hand(self, scope: Scope) -> Authentication | None:
        """Return the visit of a request as most are: one line of ``Authorization``, and its principal is at hand.

        It names no user itself. None says nothing. Denied where the rule for its path refuses it.
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
            # Most names differ in their length, which costs next to nothing to see.
            elif len(name) == 11 and name.lower() in REMOTE_USER:
                return None
        if line is None:
            return None

        client = scope.get("client")
        principal = self._peek(line, client[0] if client else None)
        if principal is None:
            return None
        return (
            Authentication(self._requests, principal)
            if self._open
            else admit(self._requests, demand, principal)
        )

    async def _enter(self, scope: Scope) -> Authentication:
        """Return the visit of any request, or raise Denied."""
        arguments = (self._requests, path(scope), raw_path(scope), self._reader.values(scope))
        try:
            return self._rules.enter(*arguments, wait=False)
        except WouldWait:
            return await to_thread.run_sync(partial(self._rules.enter, *arguments))


def _announcing(authentication: Authentication, scope: Scope, send: Send) -> Send:
    """Return a ``send`` that adds what the gate has to tell, unless the visit was taken out of the scope."""

    def sending(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start" and AUTHENTICATION in scope:
            headers = list(message.get("headers", ()))
            added = authentication.additions(
                message["status"], [name.decode("latin-1") for name, _ in headers]
            )
            message = {**message, "headers": [*headers, *encode(added)]}
        return send(message)

    return sending


class Nobody:
    """Who was not identified, in the shape of Starlette's unauthenticated user, and of a principal that may nothing."""

    is_authenticated = False
    display_name = ""
    identity = ""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication

    @property
    def denied(self) -> Denied | None:
        """Why nobody was identified."""
        return self._authentication.denied

    def require(self, *_: Need, on: object = None) -> None:
        """Raise Denied: why nobody was identified."""
        del on
        self._authentication.identified()

    def allows(self, *_: Need, on: object = None) -> bool:
        """Tell that nothing is allowed."""
        del on
        return False

    def allowed_objects(self, need: Need) -> Resources:
        """Return no object."""
        del need
        return frozenset()
