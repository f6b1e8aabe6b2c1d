"""Translation from Flask's request to the core's values, and from the core's answers to Flask's.

A denial is raised as the HTTPException of its status, so that the application's own error handlers
see it. Without such a handler it answers for itself, with problem+json and the challenge of RFC
6750.
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
    principal = peek(environ, gate)
    elsewhere = False
    if principal is None:
        principal, elsewhere = gate.identify(request_values(environ, gate))

    # Most answers get no header, and so no function that runs after the request.
    if elsewhere or principal.compiled.expires_at < inf:
        after_this_request(partial(_add_headers, gate, principal, elsewhere))
    return principal


def respond(answer: Answer) -> Response:
    """Return the core's answer as Flask's."""
    response = Response(answer.body, answer.status, answer.headers)
    if not answer.body:
        # Flask sets a default even for an empty body.
        response.headers.remove("Content-Type")
    return response


def route() -> str:
    """Return the current request's route as it was registered.

    Its path is not used: a client may put anything there.
    """
    return f"{request.method} {request.url_rule or '-'}"


def _add_headers(
    gate: RequestGate,
    principal: Principal,
    elsewhere: bool,  # noqa: FBT001  partial() fills it in
    response: Response,
) -> Response:
    """Add the gate's headers to the answer of an admitted request."""
    added = gate.response_headers(
        principal,
        elsewhere=elsewhere,
        status=response.status_code,
        present=list(response.headers.keys()),
    )
    response.headers.extend(added)
    return response


class _Refusal(HTTPException):
    """Carries a denial through Flask; an application's handler finds it in ``denied``."""

    denied: Denied
    answer: Answer

    def get_response(self, *_: Any, **__: Any) -> Response:
        return respond(self.answer)


@cache
def _refusal_class(status: int) -> type[_Refusal]:
    """Return a subclass of werkzeug's exception of this status.

    Flask finds a handler for 403 by that class.
    """
    base = default_exceptions.get(status, HTTPException)
    return type(f"Refusal{status}", (_Refusal, base), {"code": status})


def refusal(gate: RequestGate, denied: Denied) -> HTTPException:
    """Return the exception that answers a denial of the current request, and log the denial."""
    exception = _refusal_class(denied.status)(denied.detail)
    exception.denied = denied
    exception.answer = gate.answer(denied, route=route())
    after_this_request(partial(_restore_headers, exception.answer))
    return exception


def _restore_headers(answer: Answer, response: Response) -> Response:
    """Add those headers of a denial that the application's handler left out.

    The handler writes the body, and a denial keeps its challenge.
    """
    if response.status_code == answer.status:
        for name, value in answer.headers:
            response.headers.setdefault(name, value)
    return response
