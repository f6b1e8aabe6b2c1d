"""From Flask's request to the values of the core, and from the core's answers to Flask's.

A denial is raised as the HTTPException of its status, so that the application's own error handlers see it;
where there is none, it answers for itself, with problem+json and the challenge of RFC 6750.
"""

from __future__ import annotations

from functools import cache, partial
from math import inf
from typing import TYPE_CHECKING, Any

from flask import Response, after_this_request, request
from werkzeug.exceptions import HTTPException, default_exceptions

from faregate_wsgi.translation import peek, request_values

if TYPE_CHECKING:
    from faregate import Denied, Principal
    from faregate.adapters import RequestGate
    from faregate.credentials.answers import Answer
    from faregate_wsgi.translation import Environ


def identify(gate: RequestGate, environ: Environ) -> Principal:
    """Return the principal of the current request, or raise Denied."""
    principal, elsewhere = peek(environ, gate), False
    if principal is None:
        principal, elsewhere = gate.identify(request_values(environ, gate))
    if elsewhere or principal.compiled.expires_at < inf:
        after_this_request(partial(_add, gate, principal, elsewhere))
    return principal


def respond(answer: Answer) -> Response:
    """Return the core's answer as Flask's."""
    response = Response(answer.body, answer.status, answer.headers)
    if not answer.body:
        response.headers.remove("Content-Type")  # Flask's default, for a body that is not there
    return response


def route() -> str:
    """Return the current request's route as it was registered: a path that a client chose may hold anything."""
    return f"{request.method} {request.url_rule or '-'}"


def _add(gate: RequestGate, principal: Principal, elsewhere: bool, response: Response) -> Response:  # noqa: FBT001  partial() fills it in
    """Add what the gate has to tell to the answer of an admitted request."""
    present = list(response.headers.keys())
    added = gate.response_headers(
        principal, elsewhere=elsewhere, status=response.status_code, present=present
    )
    response.headers.extend(added)
    return response


class _Refusal(HTTPException):
    """A denial on its way through Flask; ``denied`` tells an application's handler what happened."""

    denied: Denied
    answer: Answer

    def get_response(self, *_: Any, **__: Any) -> Response:
        return respond(self.answer)


@cache
def _refusal_of(status: int) -> type[_Refusal]:
    """Return a subclass of werkzeug's exception of this status: a handler for 403 is found by its class."""
    base = default_exceptions.get(status, HTTPException)
    return type(f"Refusal{status}", (_Refusal, base), {"code": status})


def refusal(gate: RequestGate, denied: Denied) -> HTTPException:
    """Return the exception that answers a denial of the current request, which is logged here."""
    exception = _refusal_of(denied.status)(denied.detail)
    exception.denied = denied
    exception.answer = gate.answer(denied, route=route())
    after_this_request(partial(_complete, exception.answer))
    return exception


def _complete(answer: Answer, response: Response) -> Response:
    """Add what a handler of the application's left away: it writes the body, and a refusal stays a refusal."""
    if response.status_code == answer.status:
        for name, value in answer.headers:
            response.headers.setdefault(name, value)
    return response
