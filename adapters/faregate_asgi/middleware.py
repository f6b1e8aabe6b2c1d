"""The ASGI middleware."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread

from faregate import Denied, InvalidInput, Misconfigured
from faregate.rules import Rules
from faregate.stores.freshness import WouldWait
from faregate_asgi.translation import Reader, encode, method, path, raw_path, respond

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from faregate import Gate, Principal
    from faregate.rules import Default, Demand, Visit
    from faregate.scopes import Need, Resources
    from faregate_asgi.translation import Application, Message, Receive, Scope, Send

VISIT = "faregate.visit"


class GateMiddleware:
    """Lets only those requests and WebSockets through to ``app`` that ``gate`` admits, by ``rules`` for their paths.

    The application finds the principal in ``scope["user"]`` and what it may do in ``scope["auth"]``, as Starlette
    has them. ``rules`` and ``default`` are those of :class:`faregate.rules.Rules`; without rules everybody passes
    and is identified if possible. A Denied that the application raises before it answers, as by
    ``scope["user"].require(…)``, is answered here. ``lifespan`` passes untouched. The event loop waits for nothing
    longer than a look-up: whatever would, is done in a worker thread.
    """

    def __init__(
        self, app: Application, *, gate: Gate, rules: Mapping[str, Demand] | None = None, default: Default | None = None
    ) -> None:
        self._app = app
        self._gate = gate
        self._rules = Rules(rules, default)
        self._reader = Reader(gate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        if kind not in ("http", "websocket"):
            raise Misconfigured(f"The gate does not know what to do with {kind!r}, so it stays shut")
        wanted = path(scope)
        arguments = (self._gate, wanted, raw_path(scope), self._reader.texts(scope))
        try:
            try:
                visit = self._rules.enter(*arguments, wait=False)
            except WouldWait:
                visit = await to_thread.run_sync(partial(self._rules.enter, *arguments))
        except Denied as denied:
            route = f"{method(scope)} {self._rules.name(wanted)}"
            await respond(self._gate.answer(denied, route=route), scope, send)
            return
        scope[VISIT] = visit
        scope["user"] = visit.principal or Nobody(visit)
        scope["auth"] = Credentials(visit.principal)
        sending = Sending(visit, scope, send)
        try:
            await self._app(scope, receive, sending)
        except Denied as denied:  # of a principal that the application has asked itself
            if sending.started:
                raise
            await respond(self._gate.answer(denied, route=f"{method(scope)} -"), scope, send)


class Sending:
    """The ``send`` of a request that came in: adds what the gate has to tell, and knows when it is too late for it.

    Whoever takes the visit out of the scope tells it himself.
    """

    __slots__ = ("_announces", "_scope", "_send", "_visit", "started")

    def __init__(self, visit: Visit, scope: Scope, send: Send) -> None:
        self._visit = visit
        self._scope = scope
        self._send = send
        self._announces = visit.announces()
        self.started = False

    async def __call__(self, message: Message) -> None:
        """Send a message."""
        self.started = True
        if self._announces and message["type"] == "http.response.start" and VISIT in self._scope:
            headers = list(message.get("headers", ()))
            added = self._visit.additions(message["status"], (name.decode("latin-1") for name, _ in headers))
            message = {**message, "headers": headers + encode(added)}
        await self._send(message)


class Nobody:
    """Who was not identified, in the shape of Starlette's unauthenticated user, and of a principal that may nothing."""

    is_authenticated = False
    display_name = ""
    identity = ""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit

    @property
    def denied(self) -> Denied | None:
        """Why nobody was identified."""
        return self._visit.denied

    def require(self, *_: Need, on: object = None) -> None:
        """Raise Denied: why nobody was identified."""
        del on
        self._visit.identified()

    def allows(self, *_: Need, on: object = None) -> bool:
        """Tell that nothing is allowed."""
        del on
        return False

    def allowed_objects(self, need: Need) -> Resources:
        """Return no object."""
        del need
        return frozenset()


class Credentials:
    """What a principal may do, in the shape of Starlette's credentials: ``scopes`` to ask ``in`` for."""

    __slots__ = ("scopes",)

    def __init__(self, principal: Principal | None) -> None:
        self.scopes = Scopes(principal)


class Scopes:
    """The general scopes of a principal: a scope is in it if the principal meets the need for it.

    So wildcards count, and a share is in no scope, since no object was named. ``authenticated`` is in it for
    whoever was identified, by Starlette's convention.
    """

    __slots__ = ("_principal",)

    def __init__(self, principal: Principal | None) -> None:
        self._principal = principal

    def __contains__(self, scope: object) -> bool:
        if self._principal is None or not isinstance(scope, str):
            return False
        try:
            return scope == "authenticated" or self._principal.allows(scope)
        except InvalidInput:  # no scope that one could need, a wildcard for example
            return False

    def __iter__(self) -> Iterator[str]:
        if self._principal is not None:
            yield "authenticated"
            yield from sorted(self._principal.record.scopes)
