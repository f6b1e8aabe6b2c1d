"""Every operation of the HTTP API, once: method, path, input, output, and the call that answers it.

An adapter finds the operation by its framework's routing and takes the values of :class:`Call` out of the
request. Then :func:`begin` says whether the caller may make the call; only after that the adapter reads the
body, and :func:`perform` answers. Nothing here knows a framework, or how it waits for a body.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from faregate.credentials.answers import Answer, answer_refusal, problem
from faregate.errors import REASONS, Denied, InvalidInput, Refused
from faregate.management import audit_calls, oauth_calls, payloads, share_calls, token_calls
from faregate.management.docs_page import POLICY, page
from faregate.management.openapi import document
from faregate.management.request import JSON, OAUTH_ERRORS, BodyTooLarge
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
    from faregate.management.request import ManagementRequest, Reader

_UNSAID = re.compile(
    r"[^\x20\x21\x23-\x5b\x5d-\x7e]"
)  # what is in no description of RFC 6749 section 5.2
_NONE, _SMALL, _LARGE = 0, 16 * 1024, 1024 * 1024


class Operation(NamedTuple):
    """One operation. ``path`` has ``{id}`` where the record's id stands, ``call`` is the lifecycle's name for it.

    ``summary`` says what it does; ``takes`` is what its body holds, of JSON or of a ``form``, and ``optional`` says
    that there need be none; ``query`` are its parameters. ``gives`` is what it answers with ``status``; ``refuses``
    are statuses that not every such operation has. ``limit`` is the length of its body in bytes, at most; 0 means
    that no body is read. Where the caller may be known by the body alone, or by nobody, ``open`` has no credential
    asked first. ``oauth`` has errors told as RFC 6749 section 5.2 says.
    """

    method: str
    path: str
    call: str
    run: Callable[[Gate, ManagementRequest], Answer]
    summary: str
    takes: type[msgspec.Struct] | None = None
    gives: Any = None
    query: Mapping[str, Reader] = {}
    status: int = 200
    refuses: tuple[int, ...] = ()
    limit: int = _NONE
    optional: bool = False
    form: bool = False
    open: bool = False
    oauth: bool = False


def _describe(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``GET /openapi.json``."""
    return Answer(200, JSON, msgspec.json.encode(_document(gate, call)))


def _show(gate: Gate, call: ManagementRequest) -> Answer:
    """Answer ``GET /docs``."""
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", POLICY)]
    return Answer(
        200, [*headers, ("Cache-Control", "no-store")], page(_document(gate, call)).encode()
    )


def _document(gate: Gate, call: ManagementRequest) -> dict[str, Any]:
    return document(
        OPERATIONS,
        gate.requests.resolver,
        call.path.rpartition("/")[0] or "/",
        by_credential=call.login is None,
    )


OPERATIONS = (
    Operation(
        "POST", "/tokens", "token.create", token_calls.create, "Create a token; its secret is in the answer, this once",
        takes=payloads.CreateToken, gives=Issued, status=201, refuses=(409,), limit=_LARGE,
    ),
    Operation("GET", "/tokens", "token.list", token_calls.list_, "List the tokens that you reach",
              query=token_calls.FILTERS, gives=Page[Token]),
    Operation("GET", "/tokens/{id}", "token.get", token_calls.get, "Show a token", gives=Token),
    Operation(
        "PUT", "/tokens/{id}", "token.update", token_calls.put, "Change a token; what is left out stays",
        takes=payloads.PutToken, gives=Token, refuses=(409, 412), limit=_LARGE,
    ),
    Operation(
        "PATCH", "/tokens/{id}", "token.update", token_calls.patch, "Change some members of a token",
        takes=payloads.PatchToken, gives=Token, refuses=(409, 412), limit=_LARGE,
    ),
    Operation("DELETE", "/tokens/{id}", "token.delete", token_calls.delete, "Delete a token for good", status=204),
    Operation(
        "POST", "/tokens/{id}/rotate", "token.rotate", token_calls.rotate,
        "Replace a token's secret; the new one is in the answer, this once",
        takes=payloads.RotateToken, optional=True, gives=Issued, refuses=(409,), limit=_LARGE,
    ),
    Operation(
        "POST", "/tokens/{id}/deactivate", "token.deactivate", token_calls.deactivate, "Close a token until it is activated",
        takes=payloads.DeactivateToken, optional=True, gives=Token, limit=_LARGE,
    ),
    Operation(
        "POST", "/tokens/{id}/activate", "token.activate", token_calls.activate, "Open a deactivated token again",
        takes=payloads.ActivateToken, optional=True, gives=Token, refuses=(409,), limit=_LARGE,
    ),
    Operation(
        "POST", "/tokens/deactivate", "token.deactivate_many", token_calls.deactivate_many,
        "Close up to 100 tokens; what cannot be done to one hinders no other",
        takes=payloads.ManyTokens, gives=Batch, limit=_LARGE,
    ),
    Operation(
        "POST", "/tokens/activate", "token.activate_many", token_calls.activate_many,
        "Open up to 100 tokens; what cannot be done to one hinders no other",
        takes=payloads.ManyTokens, gives=Batch, limit=_LARGE,
    ),
    Operation(
        "POST", "/token", "token.exchange", oauth_calls.exchange,
        "Exchange a refresh token for an access token, and its own successor (RFC 6749)",
        takes=payloads.TokenRequest, form=True, gives=Exchanged, limit=_SMALL, open=True, oauth=True,
    ),
    Operation(
        "POST", "/introspect", "token.introspect", oauth_calls.introspect,
        "Tell whether a resource server may let a credential in (RFC 7662), and what it is",
        takes=payloads.Inquiry, form=True, gives=Introspected, limit=_LARGE,
    ),
    Operation(
        "POST", "/revoke", "token.revoke", oauth_calls.revoke,
        "Have a token closed by its own secret (RFC 7009)",
        takes=payloads.OneCredential, form=True, limit=_SMALL, open=True, oauth=True,
    ),
    Operation(
        "POST", "/shares", "share.create", share_calls.create, "Share objects; the secret is in the answer, this once",
        takes=payloads.CreateShare, gives=IssuedShare, status=201, limit=_LARGE,
    ),
    Operation("GET", "/shares", "share.list", share_calls.list_, "List the shares that you reach",
              query=share_calls.FILTERS, gives=Page[Share]),
    Operation("GET", "/shares/{id}", "share.get", share_calls.get, "Show a share, dead or alive", gives=Share),
    Operation(
        "PATCH", "/shares/{id}", "share.update", share_calls.patch,
        "Change the end of a share, or its params, which are merged (RFC 7396)",
        takes=payloads.PatchShare, gives=Share, refuses=(409,), limit=_LARGE,
    ),
    Operation(
        "POST", "/shares/{id}/revoke", "share.revoke", share_calls.revoke, "Close a share for good",
        takes=payloads.RevokeShare, optional=True, gives=Share, limit=_LARGE,
    ),
    Operation(
        "POST", "/shares/{id}/redeem", "share.redeem", share_calls.redeem,
        "Exchange a share's secret for a token of 15 minutes; without it, for who reaches and covers the share",
        takes=payloads.RedeemShare, optional=True, gives=Redeemed, limit=_SMALL, open=True,
    ),
    Operation("GET", "/audit", "audit.list", audit_calls.list_, "Show who changed what, in the order of the changes",
              query=audit_calls.FILTERS, gives=AuditPage),
    Operation("GET", "/openapi.json", "openapi", _describe, "This document", open=True),
    Operation("GET", "/docs", "docs", _show, "This document, for people", open=True),
)  # fmt: skip


# By their paths; those of fixed words first, since a router takes the first that fits.
PATHS: dict[str, dict[str, Operation]] = {
    path: {operation.method: operation for operation in OPERATIONS if operation.path == path}
    for path in sorted(
        {operation.path for operation in OPERATIONS}, key=lambda path: ("{id}" in path, path)
    )
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def choose(found: Mapping[str, Operation], method: str) -> Operation | Answer:
    """Return the operation of a path's for this method; else the answer, which tells the others (RFC 9110 15.5.6)."""
    operation = found.get("GET" if method == "HEAD" else method)
    if operation is not None:
        return operation
    allowed = ", ".join([*found, *(["HEAD"] if "GET" in found else []), "OPTIONS"])
    if method == "OPTIONS":
        return Answer(204, [("Allow", allowed)], b"")
    return problem(
        405,
        "method_not_allowed",
        "Method not allowed",
        f"This path takes {allowed}.",
        [("Allow", allowed)],
    )


def begin(operation: Operation, gate: Gate, call: ManagementRequest) -> ManagementRequest | Answer:
    """Return the call with its caller, who may make it and whose body may be read; else the answer to refuse it."""
    if operation.open:
        return call
    try:
        return call.admitted(gate, operation.call)
    except (Refused, Denied) as error:
        return _refused(error, operation, gate, call)


def perform(
    operation: Operation, gate: Gate, call: ManagementRequest, body: bytes | None
) -> Answer:
    """Return the answer to a call that :func:`begin` has let through.

    ``body`` need not be read beyond one byte more than ``operation.limit``; None says that somebody else has
    read it before.
    """
    try:
        if body is None:
            raise InvalidInput("The body was read before it came here; leave it to this API")
        if len(body) > operation.limit:
            raise BodyTooLarge("The body is longer than a sound one could be.")
        answer = operation.run(gate, call._replace(body=body))
    except (Refused, Denied) as error:
        answer = _refused(error, operation, gate, call)
    return call.dressed(gate, answer)


def _refused(
    error: Refused | Denied, operation: Operation, gate: Gate, call: ManagementRequest
) -> Answer:
    if isinstance(error, Denied):
        error.address = call.address(gate)
        answer = gate.requests.answer(error, route=call.route)
    else:
        answer = answer_refusal(error)
    return _as_oauth(answer, str(error)) if operation.oauth else answer


def _as_oauth(answer: Answer, words: str) -> Answer:
    """Return an error in the form of RFC 6749 section 5.2, which knows few codes and, but for a reason, one status."""
    code = msgspec.json.decode(answer.body)["code"]
    status = answer.status if answer.status in (413, 503) else 400
    headers = [
        (name, value)
        for name, value in answer.headers
        if name not in ("Content-Type", "WWW-Authenticate")
    ]
    told = {
        "error": _oauth_error(code),
        "error_description": _UNSAID.sub("?", words.replace('"', "'")),
    }
    return Answer(
        status, [("Content-Type", "application/json"), *headers], msgspec.json.encode(told)
    )


def _oauth_error(code: str) -> str:
    if code in OAUTH_ERRORS:
        return code
    if code == "store_unavailable":
        return "temporarily_unavailable"
    if code == "insufficient_scope":
        return "invalid_scope"
    return "invalid_grant" if code in REASONS else "invalid_request"
