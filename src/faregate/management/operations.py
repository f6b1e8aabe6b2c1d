"""Every operation of the HTTP API, declared once, and the steps that answer it.

A request goes through three functions, in this order::

    choose ──> begin ──> perform
      │          │          │
      │          │          └─ run the operation on the body, or refuse
      │          └─ identify the caller and authorize the call, or refuse
      └─ find the operation of the path for the method, or answer 204 or 405

The law: no body is read before :func:`begin` has let the caller through. The adapter reads it
between the last two steps, because only the adapter knows how its framework waits for a body.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from faregate.credentials.answers import Answer, answer_refusal, problem
from faregate.errors import Denied, InvalidInput, Refused
from faregate.management import audit_calls, oauth_calls, payloads, share_calls, token_calls
from faregate.management.docs_page import POLICY, page
from faregate.management.openapi import document
from faregate.management.request import JSON, BodyTooLarge
from faregate.model import (
    AuditPage,
    Batch,
    Exchanged,
    Introspected,
    Issued,
    IssuedShare,
    Page,
    Redeemed,
    Share,
    Token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from faregate.gate import Gate
    from faregate.management.request import ManagementRequest, QueryParameter

_KIB = 1024  # bytes
_MIB = 1024 * 1024  # bytes

# Limits of bodies.
_NONE = 0
_SMALL = 16 * _KIB
_LARGE = 1 * _MIB

# Characters that an ``error_description`` must not contain (RFC 6749 section 5.2).
_NOT_IN_DESCRIPTION = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


class Operation(NamedTuple):
    """One operation of the HTTP API.

    ``method``, ``path``
        The request that it answers. ``{id}`` in the path stands for the record's id.
    ``call``
        The lifecycle's name for the call. Unless the operation is open, it authorizes the caller.
    ``run``
        The function that answers.
    ``summary``
        A sentence for the OpenAPI document.
    ``takes``, ``form``, ``optional``
        The type of the body; whether it is a form instead of JSON; whether it may be left out.
    ``query``
        The parameters of the query.
    ``status``, ``gives``
        The status and the type of the answer.
    ``refuses``
        Error statuses beside those that every operation of its shape has.
    ``limit``
        The greatest length of the body in bytes; with 0, no body is read.
    ``open``
        Whether no caller is identified: the body holds the credential, or none is needed.
    ``oauth``
        Whether errors have the form of RFC 6749 section 5.2.
    """

    method: str
    path: str
    call: str
    run: Callable[[Gate, ManagementRequest], Answer]
    summary: str
    takes: type[msgspec.Struct] | None = None
    gives: Any = None
    query: Mapping[str, QueryParameter] = {}
    status: int = 200
    refuses: tuple[int, ...] = ()
    limit: int = _NONE
    optional: bool = False
    form: bool = False
    open: bool = False
    oauth: bool = False


# The documentation of the API itself


def _answer_document(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``GET /openapi.json``."""
    return Answer(200, JSON, msgspec.json.encode(_document(gate, request)))


def _answer_docs_page(gate: Gate, request: ManagementRequest) -> Answer:
    """Answer ``GET /docs``."""
    html = page(_document(gate, request))
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", POLICY),
        ("Cache-Control", "no-store"),
    ]
    return Answer(200, headers, html.encode())


def _document(gate: Gate, request: ManagementRequest) -> dict[str, Any]:
    prefix = request.path.rpartition("/")[0] or "/"
    return document(OPERATIONS, gate.requests.resolver, prefix, by_credential=request.login is None)


# The table of operations, one row each: request and function, summary, types and limits.
OPERATIONS = (
    Operation(
        "POST", "/tokens", "token.create", token_calls.create,
        "Create a token; the secret is shown once",
        takes=payloads.CreateToken, gives=Issued, status=201, refuses=(409,), limit=_LARGE,
    ),
    Operation(
        "GET", "/tokens", "token.list", token_calls.list_,
        "List the tokens that the caller reaches",
        query=token_calls.LIST_PARAMETERS, gives=Page[Token],
    ),
    Operation(
        "GET", "/tokens/{id}", "token.get", token_calls.get,
        "Show a token",
        gives=Token,
    ),
    Operation(
        "PUT", "/tokens/{id}", "token.update", token_calls.put,
        "Change a token; omitted members keep their values",
        takes=payloads.PutToken, gives=Token, refuses=(409, 412), limit=_LARGE,
    ),
    Operation(
        "PATCH", "/tokens/{id}", "token.update", token_calls.patch,
        "Change some members of a token",
        takes=payloads.PatchToken, gives=Token, refuses=(409, 412), limit=_LARGE,
    ),
    Operation(
        "DELETE", "/tokens/{id}", "token.delete", token_calls.delete,
        "Delete a token permanently",
        status=204,
    ),
    Operation(
        "POST", "/tokens/{id}/rotate", "token.rotate", token_calls.rotate,
        "Replace a token's secret; the new secret is shown once",
        takes=payloads.RotateToken, optional=True, gives=Issued, refuses=(409,), limit=_LARGE,
    ),
    Operation(
        "POST", "/tokens/{id}/deactivate", "token.deactivate", token_calls.deactivate,
        "Deactivate a token until it is activated",
        takes=payloads.DeactivateToken, optional=True, gives=Token, limit=_LARGE,
    ),
    Operation(
        "POST", "/tokens/{id}/activate", "token.activate", token_calls.activate,
        "Activate a deactivated token",
        takes=payloads.ActivateToken, optional=True, gives=Token, refuses=(409,), limit=_LARGE,
    ),
    Operation(
        "POST", "/tokens/deactivate", "token.deactivate_many", token_calls.deactivate_many,
        "Deactivate up to 100 tokens; each succeeds or fails by itself",
        takes=payloads.ManyTokens, gives=Batch, limit=_LARGE,
    ),
    Operation(
        "POST", "/tokens/activate", "token.activate_many", token_calls.activate_many,
        "Activate up to 100 tokens; each succeeds or fails by itself",
        takes=payloads.ManyTokens, gives=Batch, limit=_LARGE,
    ),
    Operation(
        "POST", "/token", "token.exchange", oauth_calls.exchange,
        "Exchange a refresh token for an access token and its successor (RFC 6749)",
        takes=payloads.TokenRequest, form=True, gives=Exchanged, limit=_SMALL,
        open=True, oauth=True,
    ),
    Operation(
        "POST", "/introspect", "token.introspect", oauth_calls.introspect,
        "Introspect a credential (RFC 7662)",
        takes=payloads.Inquiry, form=True, gives=Introspected, limit=_LARGE,
    ),
    Operation(
        "POST", "/revoke", "token.revoke", oauth_calls.revoke,
        "Revoke a token by presenting its secret (RFC 7009)",
        takes=payloads.OneCredential, form=True, limit=_SMALL,
        open=True, oauth=True,
    ),
    Operation(
        "POST", "/shares", "share.create", share_calls.create,
        "Share objects; the secret is shown once",
        takes=payloads.CreateShare, gives=IssuedShare, status=201, limit=_LARGE,
    ),
    Operation(
        "GET", "/shares", "share.list", share_calls.list_,
        "List the shares that the caller reaches",
        query=share_calls.LIST_PARAMETERS, gives=Page[Share],
    ),
    Operation(
        "GET", "/shares/{id}", "share.get", share_calls.get,
        "Show a share, active or not",
        gives=Share,
    ),
    Operation(
        "PATCH", "/shares/{id}", "share.update", share_calls.patch,
        "Change the expiry of a share, or merge its params (RFC 7396)",
        takes=payloads.PatchShare, gives=Share, refuses=(409,), limit=_LARGE,
    ),
    Operation(
        "POST", "/shares/{id}/revoke", "share.revoke", share_calls.revoke,
        "Revoke a share permanently",
        takes=payloads.RevokeShare, optional=True, gives=Share, limit=_LARGE,
    ),
    Operation(
        "POST", "/shares/{id}/redeem", "share.redeem", share_calls.redeem,
        "Redeem a share for a token of 15 minutes, by its secret or as a caller who covers it",
        takes=payloads.RedeemShare, optional=True, gives=Redeemed, limit=_SMALL,
        open=True,
    ),
    Operation(
        "GET", "/audit", "audit.list", audit_calls.list_,
        "List changes and their actors, in the order of the changes",
        query=audit_calls.LIST_PARAMETERS, gives=AuditPage,
    ),
    Operation(
        "GET", "/openapi.json", "openapi", _answer_document,
        "Show this document as JSON",
        open=True,
    ),
    Operation(
        "GET", "/docs", "docs", _answer_docs_page,
        "Show this document as a page",
        open=True,
    ),
)  # fmt: skip


def _by_path(operations: tuple[Operation, ...]) -> dict[str, dict[str, Operation]]:
    """Return the operations by path and method, in the order in which a router must try them."""
    paths = {operation.path for operation in operations}

    # A router takes the first match, so ``/tokens/activate`` must precede ``/tokens/{id}``.
    ordered = sorted(paths, key=lambda path: ("{id}" in path, path))
    return {
        path: {operation.method: operation for operation in operations if operation.path == path}
        for path in ordered
    }


PATHS = _by_path(OPERATIONS)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


# The steps of a request


def choose(operations: Mapping[str, Operation], method: str) -> Operation | Answer:
    """Return the operation for a method, or the answer if there is none.

    ``operations`` are those of one path, by method. ``HEAD`` is answered as ``GET``, ``OPTIONS``
    with the allowed methods, any other method with status 405 (RFC 9110 section 15.5.6).
    """
    answered_as = "GET" if method == "HEAD" else method
    operation = operations.get(answered_as)
    if operation is not None:
        return operation

    methods = list(operations)
    if "GET" in operations:
        methods.append("HEAD")
    methods.append("OPTIONS")
    allowed = ", ".join(methods)

    headers = [("Allow", allowed)]
    if method == "OPTIONS":
        return Answer(204, headers, b"")
    return problem(
        405, "method_not_allowed", "Method not allowed", f"This path allows {allowed}.", headers
    )


def begin(
    operation: Operation, gate: Gate, request: ManagementRequest
) -> ManagementRequest | Answer:
    """Return the request with its authorized caller, or the answer that refuses it.

    The body may be read only after a request is returned.
    """
    if operation.open:
        return request

    try:
        return request.authorized(gate, operation.call)
    except (Refused, Denied) as error:
        return _refuse(error, operation, gate, request)


def perform(
    operation: Operation, gate: Gate, request: ManagementRequest, body: bytes | None
) -> Answer:
    """Return the answer to a request that :func:`begin` returned.

    ``body`` may be cut one byte after ``operation.limit``. It is None if the application had read
    it before, so that it is lost.
    """
    try:
        if body is None:
            raise InvalidInput("The body was read before this API could read it; leave it unread")
        if len(body) > operation.limit:
            raise BodyTooLarge(f"The body exceeds {_size(operation.limit)}.")
        answer = operation.run(gate, request._replace(body=body))
    except (Refused, Denied) as error:
        answer = _refuse(error, operation, gate, request)

    return request.with_gate_headers(gate, answer)


def _size(limit: int) -> str:
    """Return a number of bytes in words, as in ``1 MiB``."""
    if limit >= _MIB:
        return f"{limit // _MIB} MiB"
    return f"{limit // _KIB} KiB"


# Errors


def _refuse(
    error: Refused | Denied, operation: Operation, gate: Gate, request: ManagementRequest
) -> Answer:
    """Return the answer to an error; a denial is logged."""
    if isinstance(error, Denied):
        error.address = request.address(gate)
        answer = gate.requests.answer(error, route=request.route)
    else:
        answer = answer_refusal(error)

    if operation.oauth:
        return _as_oauth(answer, error)
    return answer


def _as_oauth(answer: Answer, error: Refused | Denied) -> Answer:
    """Return an error in the form of RFC 6749 section 5.2."""
    description = str(error).replace('"', "'")
    body = {
        "error": error.oauth,
        "error_description": _NOT_IN_DESCRIPTION.sub("?", description),
    }

    # OAuth clients expect 400, but some statuses tell them how to try again.
    retries = isinstance(error, Denied) and error.retry_after is not None
    status = 400
    if retries or answer.status == 413:
        status = answer.status

    # No credential was in a header, so none is asked for.
    headers = [
        (name, value)
        for name, value in answer.headers
        if name not in ("Content-Type", "WWW-Authenticate")
    ]
    return Answer(
        status, [("Content-Type", "application/json"), *headers], msgspec.json.encode(body)
    )
