"""The WSGI middleware."""

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
# What the application takes for the server's own word about who calls: only the gate's counts. HTTP_REMOTE_USER is a
# client's header, Remote-User or Remote_User. X-Forwarded-User, X-Remote-User and the like become nobody's
# REMOTE_USER: they are between the application and the proxy that sets them.
_OTHERS = ("REMOTE_USER", "AUTH_TYPE", "HTTP_REMOTE_USER", PRINCIPAL, DENIED)


_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class GateMiddleware:
    """Lets only those requests through to ``app`` that ``gate`` admits, by the ``rules`` for their paths.

    The application finds the principal in ``environ["faregate.principal"]``, None where there is none, and its
    identity in ``REMOTE_USER``, beside ``AUTH_TYPE``; whatever stood there before is removed, and so is a header
    ``Remote-User``. ``environ["faregate.denied"]`` says why there is no principal. A Denied that the application
    raises before it answers is answered here. ``rules`` and ``default`` are those of
    :class:`faregate.rules.Rules`; without rules everybody passes and is identified if possible. Answers are passed
    on as they come.
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
        """Answer a request, or have the application answer it."""
        wanted, sent = path(environ), raw_path(environ)
        try:
            demand = self._rules.demand(wanted, sent)
            principal = None if demand is None else peek(environ, self._gate)
            if demand is not None and principal is not None:
                authentication = admit(self._gate, demand, principal)
            else:
                authentication = self._rules.enter(
                    self._gate, wanted, sent, request_values(environ, self._gate)
                )
        except Denied as denied:
            answer = self._rules.answer(self._gate, denied, environ["REQUEST_METHOD"], wanted)
            return _respond(answer, environ, start_response)
        for name in _OTHERS:
            if name in environ:
                del environ[name]
        principal = authentication.principal
        environ[PRINCIPAL], environ[DENIED] = principal, authentication.denied
        if principal is not None:
            environ["REMOTE_USER"], environ["AUTH_TYPE"] = principal.identity, "Bearer"
        starting = _Starting(authentication, start_response)
        try:
            return _begun(self._app(environ, starting))
        except Denied as denied:  # of a principal that the application has asked itself
            answer = self._gate.answer(denied, route=f"{environ['REQUEST_METHOD']} -")
            # Where an answer was begun, the server knows from exc_info whether it is too late for another one.
            return _respond(
                answer, environ, start_response, *([sys.exc_info()] if starting.begun else [])
            )


class _Begun:
    """The answer of a generator that was brought to its first chunk, since only then it has run at all."""

    def __init__(self, first: bytes, rest: Generator[bytes]) -> None:
        self._first = first
        self._rest = rest

    def __iter__(self) -> Iterator[bytes]:
        yield self._first
        yield from self._rest

    def close(self) -> None:
        self._rest.close()


def _begun(answer: Iterable[bytes]) -> Iterable[bytes]:
    """Return an answer whose application has run so far that it has raised what it had to raise."""
    if not hasattr(answer, "send"):  # as generators alone have it, also those of Cython
        return answer
    chunks = cast("Generator[bytes]", answer)
    try:
        return _Begun(next(chunks), chunks)
    except StopIteration:
        return ()


class _Starting:
    """The ``start_response`` of a request that came in: adds what the gate has to tell."""

    __slots__ = ("_authentication", "_start_response", "begun")

    def __init__(self, authentication: Authentication, start_response: StartResponse) -> None:
        self._authentication = authentication
        self._start_response = start_response
        self.begun = False

    def __call__(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        self.begun = True
        if self._authentication.announces():
            headers = [
                *headers,
                *self._authentication.additions(int(status[:3]), [name for name, _ in headers]),
            ]
        return self._start_response(status, headers, *exc_info)


def _respond(
    answer: Answer, environ: Environ, start_response: StartResponse, *exc_info: Any
) -> Iterable[bytes]:
    length = ("Content-Length", str(len(answer.body)))
    start_response(
        f"{answer.status} {_PHRASES.get(answer.status, 'Denied')}",
        [*answer.headers, length],
        *exc_info,
    )
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]
