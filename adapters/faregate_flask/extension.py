"""The Flask extension: the gate of an application, and the decorator that guards its views.

Its law: a view that was guarded anywhere is reached through its guard alone. Routes that lead past
the guard answer 500, see :mod:`faregate_flask.views`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload
from weakref import WeakSet

from flask import Flask, current_app, has_app_context, request
from werkzeug.local import LocalProxy

from faregate import Denied, Gate, InvalidInput, Misconfigured, Principal
from faregate.adapters import apply_requires
from faregate.decision.principal import PathParameter
from faregate_flask.commands import command_group
from faregate_flask.management import management_blueprint
from faregate_flask.translation import identify, refusal
from faregate_flask.views import Views

if TYPE_CHECKING:
    from flask import Blueprint

    from faregate.adapters import RequestGate
    from faregate.values.needs import Need
    from faregate_flask.management import Login

View = TypeVar("View", bound=Callable[..., Any])

PREFIX = "FAREGATE_"
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


def _current_principal() -> Principal:
    """Return the principal of the current request, which its guard has stored."""
    principal = request.environ.get(_KEY)
    if principal is None:
        raise Misconfigured("No principal here: guard the view with @faregate.requires")
    return cast("Principal", principal)


#: The principal of the current request, in a view under ``@faregate.requires``. Elsewhere its use
#: raises Misconfigured.
current_principal = cast("Principal", LocalProxy(_current_principal))


class Faregate:
    """Guards the views of Flask applications by the gate that ``FAREGATE_*`` configures.

    ``FAREGATE_STORE`` is required; the others are the arguments of :class:`faregate.Gate` in
    capitals. ``app.extensions["faregate"]`` is the gate of an application.

    >>> from flask import Flask
    >>> from faregate_flask import Faregate, current_principal
    >>> app = Flask("docs")
    >>> app.config["FAREGATE_STORE"] = "sqlite://"
    >>> faregate = Faregate(app)

    >>> @app.get("/me")
    ... @faregate.requires
    ... def me():
    ...     return current_principal.identity

    >>> issued = faregate.gate.tokens.create(name="laptop", owner=Owner(id="ann"))
    >>> headers = {"Authorization": f"Bearer {issued.secret}"}
    >>> app.test_client().get("/me", headers=headers).text
    'ann'
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._gates: list[Gate] = []
        # The functions that have a guard somewhere, and the views of all applications.
        self._guarded: WeakSet[Callable[..., Any]] = WeakSet()
        self._views: list[Views] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Create the application's gate, and register its error handler and its commands.

        >>> from flask import Flask
        >>> from faregate_flask import Faregate
        >>> faregate = Faregate()
        >>> app = Flask("docs")
        >>> app.config["FAREGATE_STORE"] = "sqlite://"
        >>> faregate.init_app(app)

        Raises InvalidInput if a setting is missing, unknown or invalid.
        """
        settings = _read_settings(cast("dict[str, Any]", app.config))
        gate = Gate(**settings)
        self._gates.append(gate)

        # A second extension of the same application shares the views of the first.
        views: Any = app.view_functions
        if not isinstance(views, Views):
            views = Views(views)
        views.watch(self._guarded)
        app.view_functions = views
        self._views.append(views)

        app.extensions["faregate"] = gate
        app.register_error_handler(Denied, _answer_denied)
        app.cli.add_command(command_group(app, gate, settings))

    @property
    def gate(self) -> Gate:
        """The gate of the current application; outside of any application, the only gate."""
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
        """Guard a view: only requests pass whose principal meets all needs.

        Without needs, any valid credential passes. ``on`` is the object: a value, or ``path(…)``
        for a parameter of the route. A missing parameter is an error, never a pass. The decorator
        stands below the route decorator, on functions and coroutines alike.

        >>> from flask import Flask
        >>> from faregate_flask import Faregate
        >>> app = Flask("docs")
        >>> app.config["FAREGATE_STORE"] = "sqlite://"
        >>> faregate = Faregate(app)

        >>> @app.get("/docs/<doc_id>")
        ... @faregate.requires("docs:read", on=path("doc_id"))
        ... def show(doc_id):
        ...     return {"id": doc_id}

        >>> app.test_client().get("/docs/plan").status_code
        401

        Raises InvalidInput for a value that is not a need, and for ``on`` without needs.
        """
        return apply_requires(self._guard, needs, on)

    def management(self, principal: Login | None = None) -> Blueprint:
        """Return a blueprint with the HTTP API, to register under a prefix of your choice.

        Its callers present a credential. If your users log in otherwise, ``principal`` is a
        function of the request that returns the principal of the logged-in user, made by
        ``gate.session(…)``, or None. Unsafe methods then need an ``Origin`` of
        ``FAREGATE_ORIGINS``.

        >>> from flask import Flask
        >>> from faregate_flask import Faregate
        >>> app = Flask("docs")
        >>> app.config["FAREGATE_STORE"] = "sqlite://"
        >>> faregate = Faregate(app)
        >>> app.register_blueprint(faregate.management(), url_prefix="/admin")
        >>> app.test_client().get("/admin/tokens").status_code
        401
        """
        return management_blueprint(principal)

    def _guard(
        self, view: Callable[..., Any], needs: tuple[Need, ...], on: object
    ) -> Callable[..., Any]:
        asynchronous = iscoroutinefunction(view)

        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            app: Flask = _without_proxy(current_app)
            environ: dict[str, Any] = _without_proxy(request).environ
            gate: RequestGate = app.extensions["faregate"].requests
            try:
                principal = identify(gate, environ)
                principal.require_all(needs, None if on is None else _resource(on))
                environ[_KEY] = principal
                if asynchronous:
                    return app.ensure_sync(view)(*args, **kwargs)
                return view(*args, **kwargs)
            except Denied as denied:
                refused = refusal(gate, denied)
                if _has_own_handler(denied):
                    raise
                raise refused from denied

        self._shut_routes_past_guard(view)
        return guarded

    def _shut_routes_past_guard(self, view: Callable[..., Any]) -> None:
        """Watch a guarded view and the functions that it wraps, and shut their present routes."""
        function: Any = view
        while function is not None:
            # A function without a hash cannot be watched.
            with suppress(TypeError):
                self._guarded.add(function)
                for views in self._views:
                    views.shut(function)
            function = getattr(function, "__wrapped__", None)


def _read_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of an application's gate."""
    given = {
        key.removeprefix(PREFIX): value for key, value in config.items() if key.startswith(PREFIX)
    }
    if "STORE" not in given:
        raise InvalidInput(
            'FAREGATE_STORE: required; set app.config["FAREGATE_STORE"] = "sqlite:///gate.db"'
        )

    unknown = sorted(given.keys() - set(SETTINGS))
    if unknown:
        unknown_names = ", ".join(PREFIX + name for name in unknown)
        known_names = ", ".join(PREFIX + name for name in SETTINGS)
        raise InvalidInput(f"{unknown_names}: no such setting; use {known_names}")
    return {name.lower(): value for name, value in given.items()}


def _without_proxy(proxy: Any) -> Any:
    """Return the object of a proxy: an attribute of the proxy costs as much as the whole check."""
    return proxy._get_current_object()  # noqa: SLF001  werkzeug documents the name


def _resource(on: object) -> object:
    """Return the object that ``on=`` of a guard names, with the route's parameter filled in."""
    if not isinstance(on, PathParameter):
        return on
    parameters = request.view_args or {}
    if on.name not in parameters:
        raise Misconfigured(
            f"on=path({on.name!r}): the route {request.url_rule} has no such parameter"
        )
    return parameters[on.name]


def _has_own_handler(denied: Denied) -> bool:
    """Return True if the application has a handler for Denied itself."""
    handlers_by_scope = current_app.error_handler_spec
    handlers = (
        handlers_by_scope[scope][None].get(kind)
        for kind in type(denied).__mro__
        if issubclass(kind, Denied)
        for scope in (*request.blueprints, None)
        if scope in handlers_by_scope
    )
    return any(handler not in (None, _answer_denied) for handler in handlers)


def _answer_denied(denied: Denied) -> Any:
    """Answer a Denied that a view raised itself, as its guard would have answered."""
    gate: RequestGate = current_app.extensions["faregate"].requests
    return current_app.handle_http_exception(refusal(gate, denied))
