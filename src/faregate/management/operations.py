"""Every operation of the HTTP API, once: method, path, and the call that answers it.

An adapter finds the operation by its framework's routing and takes the values of :class:`Call` out of the
request. Then :func:`begin` says whether the caller may make the call; only after that the adapter reads the
body, and :func:`perform` answers. Nothing here knows a framework, or how it waits for a body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from faregate.bearer import Answer, refusal
from faregate.errors import Denied, InvalidInput, Refused
from faregate.management import share_calls, token_calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from faregate.gate import Gate
    from faregate.management.call import Call

_NONE, _SMALL, _LARGE = 0, 16 * 1024, 1024 * 1024


class BodyTooLarge(Refused):
    """The body is longer than any sound one."""

    status = 413
    code = "body_too_large"
    title = "Body too large"


class Operation(NamedTuple):
    """One operation. ``path`` has ``{id}`` where the record's id stands, ``call`` is the lifecycle's name for it.

    ``limit`` is the length of its body in bytes, at most; 0 means that no body is read. Where the caller may be
    known by the body alone, ``open`` has the body read first.
    """

    method: str
    path: str
    call: str
    run: Callable[[Gate, Call], Answer]
    limit: int = _NONE
    open: bool = False


OPERATIONS = (
    Operation("POST", "/tokens", "token.create", token_calls.create, _LARGE),
    Operation("GET", "/tokens", "token.list", token_calls.list_),
    Operation("GET", "/tokens/{id}", "token.get", token_calls.get),
    Operation("PUT", "/tokens/{id}", "token.update", token_calls.put, _LARGE),
    Operation("PATCH", "/tokens/{id}", "token.update", token_calls.patch, _LARGE),
    Operation("DELETE", "/tokens/{id}", "token.delete", token_calls.delete),
    Operation("POST", "/tokens/{id}/rotate", "token.rotate", token_calls.rotate, _LARGE),
    Operation("POST", "/tokens/{id}/deactivate", "token.deactivate", token_calls.deactivate, _LARGE),
    Operation("POST", "/tokens/{id}/activate", "token.activate", token_calls.activate, _LARGE),
    Operation("POST", "/tokens/deactivate", "token.deactivate_many", token_calls.deactivate_many, _LARGE),
    Operation("POST", "/tokens/activate", "token.activate_many", token_calls.activate_many, _LARGE),
    Operation("POST", "/shares", "share.create", share_calls.create, _LARGE),
    Operation("GET", "/shares", "share.list", share_calls.list_),
    Operation("GET", "/shares/{id}", "share.get", share_calls.get),
    Operation("PATCH", "/shares/{id}", "share.update", share_calls.patch, _LARGE),
    Operation("POST", "/shares/{id}/revoke", "share.revoke", share_calls.revoke, _LARGE),
    Operation("POST", "/shares/{id}/redeem", "share.redeem", share_calls.redeem, _SMALL, open=True),
)


def begin(operation: Operation, gate: Gate, call: Call) -> Call | Answer:
    """Return the call with its caller, who may make it and whose body may be read; else the answer to refuse it."""
    if operation.open:
        return call
    try:
        return call.admitted(gate, operation.call)
    except (Refused, Denied) as error:
        return _refused(error, gate, call)


def perform(operation: Operation, gate: Gate, call: Call, body: bytes | None) -> Answer:
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
        answer = _refused(error, gate, call)
    return call.dressed(gate, answer)


def _refused(error: Refused | Denied, gate: Gate, call: Call) -> Answer:
    if isinstance(error, Refused):
        return refusal(error)
    error.address = call.address(gate)
    return gate.answer(error, route=call.route)
