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
    from faregate_asgi.translation import Application, Message, Receive, Scope, Send

VISIT = "faregate.visit"


class GateMiddleware:
    """Lets only those requests and WebSockets through to ``app`` that ``gate`` admits, by ``rules`` for their paths.

    The application finds the principal in ``scope["user"]`` and what it may do in ``scope["auth"]``, as Starlette
    has them. ``rules`` and ``default`` are those of :class:`faregate.rules.Rules`; without rules everybody passes
    and is identified if possible. ``lifespan`` passes untouched. The event loop waits for nothing longer than a
    look-up: whatever would, is done in a worker thread.
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
        scope["user"] = visit.principal or NOBODY
        scope["auth"] = Credentials(visit.principal)
        await self._app(scope, receive, _adding(visit, send) if visit.announces() else send)


class Nobody:
    """Who was not identified, in the shape of Starlette's unauthenticated user."""

    is_authenticated = False
    display_name = ""
    identity = ""


NOBODY = Nobody()


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


def _adding(visit: Visit, send: Send) -> Send:
    """Return a ``send`` that adds what the gate has to tell."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            added = visit.additions(message["status"], (name.decode("latin-1") for name, _ in headers))
            message = {**message, "headers": headers + encode(added)}
        await send(message)

    return sending
