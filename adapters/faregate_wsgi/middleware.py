"""The WSGI middleware.

Its law: the application sees only the gate's word about the caller. The keys of the environment
that name a user are removed, and set anew from the principal.
"""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from faregate import Denied
from faregate.rules import Rules, admit
from faregate_wsgi.translation import path, peek, raw_path, request_values

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from faregate import Gate
    from faregate.credentials.answers import Answer
    from faregate.rules import Authentication, Default, Demand
    from faregate_wsgi.translation import Environ

    StartResponse = Callable[..., Any]
    Application = Callable[..., Iterable[bytes]]

PRINCIPAL = "faregate.principal"
DENIED = "faregate.denied"
# Applications take these keys for the server's word about the caller. HTTP_REMOTE_USER is a header
# of the client, Remote-User or Remote_User. X-Forwarded-User, X-Remote-User and their like stay: no
# server turns them into REMOTE_USER, and they are between the application and the proxy that sets
# them.
_USER_KEYS = ("REMOTE_USER", "AUTH_TYPE", "HTTP_REMOTE_USER", PRINCIPAL, DENIED)

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class GateMiddleware:
    """Passes those requests to ``app`` that ``gate`` admits.

    ``rules`` and ``default`` are those of :class:`faregate.rules.Rules`. Without rules every
    request passes, and its caller is identified if possible.

    The application finds the principal in ``environ["faregate.principal"]``, or None there and the
    reason in ``environ["faregate.denied"]``. The identity of the principal is in ``REMOTE_USER``,
    beside ``AUTH_TYPE``; earlier values, and a header ``Remote-User``, are removed. A Denied that
    the application raises before it answers is answered here. Answers are passed on chunk by chunk.

    >>> from werkzeug.test import Client
    >>> from faregate_wsgi import GateMiddleware
    >>> def application(environ, start_response):
    ...     start_response("200 OK", [])
    ...     return [environ["REMOTE_USER"].encode()]
    >>> client = Client(GateMiddleware(application, gate=gate, rules={"/docs/": "docs:read"}))
    >>> client.get("/docs/plan").status_code
    401
    >>> client.get("/docs/plan", headers={"Authorization": f"Bearer {secret}"}).text
    'ann'

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
        self._rules = Rules(rules, default)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, or let the application answer it."""
        routed_path = path(environ)
        sent_path = raw_path(environ)
        try:
            demand = self._rules.demand(routed_path, sent_path)
            principal = None if demand is None else peek(environ, self._gate)
            if demand is not None and principal is not None:
                authentication = admit(self._gate, demand, principal)
            else:
                values = request_values(environ, self._gate)
                authentication = self._rules.enter(self._gate, routed_path, sent_path, values)
        except Denied as denied:
            method = environ["REQUEST_METHOD"]
            answer = self._rules.answer(self._gate, denied, method, routed_path)
            return _respond(answer, environ, start_response)

        for key in _USER_KEYS:
            if key in environ:
                del environ[key]
        principal = authentication.principal
        environ[PRINCIPAL] = principal
        environ[DENIED] = authentication.denied
        if principal is not None:
            environ["REMOTE_USER"] = principal.identity
            environ["AUTH_TYPE"] = "Bearer"

        announcing = _AnnouncingStart(authentication, start_response)
        try:
            return _run_to_first_chunk(self._app(environ, announcing))
        # The application has raised it, by asking a principal or by itself.
        except Denied as denied:
            answer = self._gate.answer(denied, route=f"{environ['REQUEST_METHOD']} -")
            if not announcing.begun:
                return _respond(answer, environ, start_response)
            # The server decides by exc_info whether a second start comes too late.
            return _respond(answer, environ, start_response, sys.exc_info())


class _StartedAnswer:
    """Iterates over the answer of a generator whose first chunk was taken already."""

    def __init__(self, first: bytes, rest: Generator[bytes]) -> None:
        self._first = first
        self._rest = rest

    def __iter__(self) -> Iterator[bytes]:
        yield self._first
        yield from self._rest

    def close(self) -> None:
        self._rest.close()


def _run_to_first_chunk(answer: Iterable[bytes]) -> Iterable[bytes]:
    """Return an answer whose application has run.

    A generator has not run at all before its first chunk is taken. So it is taken here, where a
    Denied can still be answered.
    """
    # Generators alone have this method, those of Cython included.
    if not hasattr(answer, "send"):
        return answer

    chunks = cast("Generator[bytes]", answer)
    try:
        return _StartedAnswer(next(chunks), chunks)
    except StopIteration:
        return ()


class _AnnouncingStart:
    """Wraps ``start_response`` of an admitted request, and adds the headers of the gate."""

    __slots__ = ("_authentication", "_start_response", "begun")

    def __init__(self, authentication: Authentication, start_response: StartResponse) -> None:
        self._authentication = authentication
        self._start_response = start_response
        self.begun = False

    def __call__(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        self.begun = True
        if self._authentication.announces():
            present = [name for name, _ in headers]
            added = self._authentication.additions(int(status[:3]), present)
            headers = [*headers, *added]
        return self._start_response(status, headers, *exc_info)


def _respond(
    answer: Answer, environ: Environ, start_response: StartResponse, *exc_info: Any
) -> Iterable[bytes]:
    status = f"{answer.status} {_PHRASES.get(answer.status, 'Denied')}"
    length = ("Content-Length", str(len(answer.body)))
    start_response(status, [*answer.headers, length], *exc_info)

    if environ["REQUEST_METHOD"] == "HEAD":
        return [b""]
    return [answer.body]
