"""The Flask extension: the gate of an application, and the decorator that guards its views."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload
from weakref import WeakSet

from flask import Flask, current_app, has_app_context, request
from werkzeug.local import LocalProxy

from faregate import Denied, Gate, InvalidInput, Misconfigured, Principal
from faregate.decision.principal import PathParameter
from faregate.values.needs import Need, check_needs
from faregate_flask.commands import command_group
from faregate_flask.management import management_blueprint
from faregate_flask.translation import identify, refusal
from faregate_flask.views import Views

if TYPE_CHECKING:
    from flask import Blueprint

    from faregate.adapters import RequestGate


from faregate_flask.management import Login

View = TypeVar("View", bound=Callable[..., Any])

SETTINGS = (
    "STORE",
    "BRAND",
    "REALM",
    "CLOCK",
    "TRUSTED_PROXIES",
    "FORWARDED_HEADER",
    "AUTHORIZATION",
    "QUERY",
    "HEADER",
    "COOKIE",
    "ORIGINS",
    "POLICY",
    "OWNER_RIGHTS",
    "OWNER_RIGHTS_TTL",
    "SECRET",
    "ISSUERS",
    "MAX_LENGTH",
    "REFRESH_RETRY_WINDOW",
)
_KEY = "faregate.principal"


def _current() -> Principal:
    principal = request.environ.get(_KEY)
    if principal is None:
        raise Misconfigured("There is no principal here: guard the view with @faregate.requires")
    return cast("Principal", principal)


current_principal = cast("Principal", LocalProxy(_current))


class Faregate:
    """Guards the views of Flask applications by the gate that ``FAREGATE_*`` configures.

    ``FAREGATE_STORE`` is required; the others are the arguments of :class:`faregate.Gate` in capitals.
    ``app.extensions["faregate"]`` is the gate of an application.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._gates: list[Gate] = []
        self._guarded: WeakSet[Callable[..., Any]] = WeakSet()
        self._views: list[Views] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make the application's gate. InvalidInput if a setting is missing, unknown, or cannot be."""
        prefix = "FAREGATE_"
        config = cast("dict[str, Any]", app.config)
        given = {
            key.removeprefix(prefix): value
            for key, value in config.items()
            if key.startswith(prefix)
        }
        if "STORE" not in given:
            raise InvalidInput(
                'FAREGATE_STORE: is required, such as app.config["FAREGATE_STORE"] = "sqlite:///gate.db"'
            )
        if unknown := sorted(given.keys() - set(SETTINGS)):
            names = ", ".join(prefix + name for name in unknown)
            raise InvalidInput(
                f"{names}: no such setting; there are {', '.join(prefix + name for name in SETTINGS)}"
            )
        settings = {name.lower(): value for name, value in given.items()}
        gate = Gate(**settings)
        self._gates.append(gate)
        views = (
            app.view_functions
            if isinstance(app.view_functions, Views)
            else Views(app.view_functions)
        )
        views.watch(self._guarded)
        app.view_functions = views
        self._views.append(views)
        app.extensions["faregate"] = gate
        app.register_error_handler(Denied, _answer_denied)
        app.cli.add_command(command_group(app, gate, settings))

    @property
    def gate(self) -> Gate:
        """The gate of the current application, or, outside of any, of the only one."""
        if has_app_context() and "faregate" in current_app.extensions:
            return cast("Gate", current_app.extensions["faregate"])
        if len(self._gates) == 1:
            return self._gates[0]
        raise Misconfigured(
            "Which gate? Work inside app.app_context(), or initialize exactly one application"
        )

    @overload
    def requires(self, view: View, /) -> View: ...
    @overload
    def requires(self, /, *needs: Need, on: object = None) -> Callable[[View], View]: ...
    def requires(self, /, *needs: Any, on: object = None) -> Any:
        """Let only requests through whose principal meets all needs; without needs, any valid credential.

        Stands under the route decorator, on functions and coroutines alike: ``@faregate.requires``,
        ``@faregate.requires("docs:read")``, ``@faregate.requires("docs:read", on=path("doc_id"))``. ``on`` names
        the object: a value, or ``path(…)``, the route's parameter, whose absence is an error, never a pass.
        """
        if len(needs) == 1 and callable(needs[0]) and on is None:
            return self._guard(needs[0], (), None)
        checked = check_needs(needs)
        if on is not None and not checked:
            raise InvalidInput("requires: on= needs at least one need beside it")
        return partial(self._guard, needs=checked, on=on)

    def management(self, principal: Login | None = None) -> Blueprint:
        """Return a blueprint with the calls of the HTTP API, to register under a prefix of your choice.

        Its callers present a credential; or, where your users log in otherwise, ``principal`` is a function of the
        request that returns who is logged in, as ``gate.session(…)`` makes it, or None. Unsafe methods then take an
        ``Origin`` of ``FAREGATE_ORIGINS``.
        """
        return management_blueprint(principal)

    def _guard(
        self, view: Callable[..., Any], needs: tuple[Need, ...], on: object
    ) -> Callable[..., Any]:
        asynchronous = iscoroutinefunction(view)

        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            app: Flask = _behind(current_app)
            environ: dict[str, Any] = _behind(request).environ
            gate: RequestGate = app.extensions["faregate"].requests
            try:
                principal = identify(gate, environ)
                principal.require_all(needs, None if on is None else _object(on))
                environ[_KEY] = principal
                return (
                    app.ensure_sync(view)(*args, **kwargs)
                    if asynchronous
                    else view(*args, **kwargs)
                )
            except Denied as denied:
                refused = refusal(gate, denied)
                if _has_own_handler(denied):
                    raise
                raise refused from denied

        below: Any = view
        while below is not None:
            with suppress(TypeError):  # a view that cannot be hashed cannot be watched
                self._guarded.add(below)
                for views in self._views:
                    views.shut(below)
            below = getattr(below, "__wrapped__", None)
        return guarded


def _behind(proxy: Any) -> Any:
    """Return the object behind a proxy: an attribute of the proxy costs as much as the whole check."""
    return proxy._get_current_object()  # noqa: SLF001  werkzeug documents the name


def _object(on: object) -> object:
    if not isinstance(on, PathParameter):
        return on
    parameters = request.view_args or {}
    if on.name not in parameters:
        raise Misconfigured(
            f"on=path({on.name!r}): the route {request.url_rule} has no such parameter"
        )
    return parameters[on.name]


def _has_own_handler(denied: Denied) -> bool:
    """Tell whether the application has a handler for Denied itself."""
    named = current_app.error_handler_spec
    found = (
        named[scope][None].get(kind)
        for kind in type(denied).__mro__
        for scope in (*request.blueprints, None)
        if scope in named and issubclass(kind, Denied)
    )
    return any(handler not in (None, _answer_denied) for handler in found)


def _answer_denied(denied: Denied) -> Any:
    """Answer a Denied that a view raised itself, as if its guard had."""
    return current_app.handle_http_exception(
        refusal(current_app.extensions["faregate"].requests, denied)
    )
