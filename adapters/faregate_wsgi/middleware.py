"""The WSGI middleware."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from faregate import Denied
from faregate.rules import Rules
from faregate_wsgi.translation import path, raw_path, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from faregate import Gate
    from faregate.bearer import Answer
    from faregate.rules import Default, Demand, Visit
    from faregate_wsgi.translation import Environ

    StartResponse = Callable[..., Any]
    Application = Callable[[Environ, StartResponse], Iterable[bytes]]

PRINCIPAL = "faregate.principal"
VISIT = "faregate.visit"
# What the application takes for the server's own word about who calls: only the gate's counts.
_OTHERS = ("REMOTE_USER", "AUTH_TYPE", "HTTP_REMOTE_USER", PRINCIPAL, VISIT)


class GateMiddleware:
    """Lets only those requests through to ``app`` that ``gate`` admits, by the ``rules`` for their paths.

    The application finds the principal in ``environ["faregate.principal"]``, None where there is none, and its
    identity in ``REMOTE_USER``, beside ``AUTH_TYPE``; whatever stood there before is removed, and so is a header
    ``Remote-User``. ``rules`` and ``default`` are those of :class:`faregate.rules.Rules`; without rules everybody
    passes and is identified if possible. Answers are passed on as they come.
    """

    def __init__(
        self, app: Application, *, gate: Gate, rules: Mapping[str, Demand] | None = None, default: Default | None = None
    ) -> None:
        self._app = app
        self._gate = gate
        self._rules = Rules(rules, default)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, or have the application answer it."""
        wanted = path(environ)
        try:
            visit = self._rules.enter(self._gate, wanted, raw_path(environ), texts(environ, self._gate))
        except Denied as denied:
            route = f"{environ['REQUEST_METHOD']} {self._rules.name(wanted)}"
            return _respond(self._gate.answer(denied, route=route), environ, start_response)
        for name in _OTHERS:
            environ.pop(name, None)
        environ[VISIT], environ[PRINCIPAL] = visit, visit.principal
        if visit.principal is not None:
            environ["REMOTE_USER"], environ["AUTH_TYPE"] = visit.principal.identity, "Bearer"
        return self._app(environ, _adding(visit, start_response) if visit.announces() else start_response)


def _adding(visit: Visit, start_response: StartResponse) -> StartResponse:
    """Return a ``start_response`` that adds what the gate has to tell."""

    def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        added = visit.additions(int(status[:3]), (name for name, _ in headers))
        return start_response(status, headers + added, *exc_info)

    return start


def _respond(answer: Answer, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    length = ("Content-Length", str(len(answer.body)))
    start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", [*answer.headers, length])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]
