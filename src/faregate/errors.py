"""The errors of the package, and the HTTP answer to each.

::

    FaregateError
    ├── Denied               the request is refused, with the status of its reason
    │   └── StoreUnavailable 503: the store cannot answer, so the gate stays shut
    ├── Refused              a management call cannot be carried out; the base of the next four
    ├── InvalidInput         400: a value cannot be taken; nothing was changed
    │   └── UnsupportedTokenType  a credential that its holder cannot revoke
    ├── NotFound             404: no such record, or none that the actor reaches
    ├── Conflict             409: the record's state forbids the call
    ├── PreconditionFailed   412: the record is no longer the version that was named
    └── Misconfigured        a mistake in the application's code, never in a request
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


Reason = Literal[
    "missing_credential",
    "malformed_credential",
    "multiple_credentials",
    "unknown_credential",
    "deactivated",
    "revoked",
    "not_yet_valid",
    "expired",
    "redemption_required",
    "redemptions_exhausted",
    "address_not_allowed",
    "address_unknown",
    "path_not_open",
    "origin_not_allowed",
    "insufficient_scope",
    "object_not_shared",
    "store_unavailable",
]


class Wording(NamedTuple):
    """The answer to a reason of denial.

    ``status`` is the HTTP status, ``error`` the code of RFC 6750 section 3.1, ``oauth`` that of RFC
    6749 section 5.2 at the token endpoint, ``retry_after`` the seconds after which the client may
    try again.
    """

    status: int
    error: str | None
    title: str
    detail: str
    oauth: str = "invalid_grant"
    retry_after: int | None = None


# To add a reason, name it above and word it here. Everything else follows: answers, the API's
# document, adapters. The words go into quoted strings of WWW-Authenticate as they stand, so they
# keep to the characters of RFC 6750 section 3: no quotation mark, no backslash, ASCII only.
REASONS: dict[Reason, Wording] = {
    "missing_credential": Wording(
        401,
        None,
        "Credential missing",
        "Send one credential as 'Authorization: Bearer <credential>'.",
    ),
    "malformed_credential": Wording(
        400,
        "invalid_request",
        "Credential malformed",
        "A credential is one token68 text and nothing else; "
        "in Authorization it comes after 'Bearer'.",
    ),
    "multiple_credentials": Wording(
        400,
        "invalid_request",
        "More than one credential",
        "Send exactly one credential, in one place.",
    ),
    "unknown_credential": Wording(
        401,
        "invalid_token",
        "Credential unknown",
        "The credential is not one that opens this gate.",
    ),
    "deactivated": Wording(
        401, "invalid_token", "Credential deactivated", "The credential was deactivated."
    ),
    "revoked": Wording(401, "invalid_token", "Credential revoked", "The credential was revoked."),
    "not_yet_valid": Wording(
        401, "invalid_token", "Credential not yet valid", "The credential is not valid yet."
    ),
    "expired": Wording(401, "invalid_token", "Credential expired", "The credential has expired."),
    "redemption_required": Wording(
        401,
        "invalid_token",
        "Redemption required",
        "The share limits its redemptions. Redeem its secret, and send the token of the answer.",
    ),
    "redemptions_exhausted": Wording(
        401,
        "invalid_token",
        "Redemptions exhausted",
        "The share has no redemptions left.",
    ),
    "address_not_allowed": Wording(
        403, None, "Address not allowed", "The credential may not be used from this address."
    ),
    "address_unknown": Wording(
        403,
        None,
        "Address unknown",
        "The credential is bound to networks and the client's address is not known.",
    ),
    "path_not_open": Wording(403, None, "Path not open", "No rule opens this path."),
    "origin_not_allowed": Wording(
        403,
        None,
        "Origin not allowed",
        "A change by a logged-in user counts only from a page of a configured origin.",
    ),
    "insufficient_scope": Wording(
        403,
        "insufficient_scope",
        "Scope insufficient",
        "The credential does not grant the scope that this request needs.",
        oauth="invalid_scope",
    ),
    "object_not_shared": Wording(
        403,
        "insufficient_scope",
        "Object not shared",
        "The share does not hold the object that this request needs.",
    ),
    "store_unavailable": Wording(
        503,
        None,
        "Store unavailable",
        "The credential cannot be checked now. Try again shortly.",
        oauth="temporarily_unavailable",
        retry_after=1,
    ),
}


_LONGEST = 2000  # characters of an error's words, which may quote what a client sent


class FaregateError(Exception):
    """The root of every error that this package raises on purpose."""


class Denied(FaregateError):
    """The request is refused.

    ``reason`` is one of :data:`REASONS`. ``status`` is the HTTP status to answer, ``error`` the
    code of RFC 6750 section 3.1 or None, ``detail`` a sentence for the caller, ``scope`` the
    general scopes that were missing, ``record_id`` the record that was refused, if it was found.
    ``why`` has more words for the operator of the gate; no caller sees them. No attribute ever
    holds the credential.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str | None = None,
        *,
        scope: Sequence[str] = (),
        record_id: str | None = None,
        address: str | None = None,
        why: str | None = None,
    ) -> None:
        known = REASONS[reason]
        self.reason: Reason = reason
        self.status = known.status
        self.error = known.error
        self.title = known.title
        self.oauth = known.oauth
        self.retry_after = known.retry_after
        self.detail = _brief(detail) if detail else known.detail
        self.scope = tuple(scope)
        self.record_id = record_id
        self.address = address
        self.why = why
        self.logged = False
        super().__init__(reason)

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class StoreUnavailable(Denied):
    """The store cannot answer. The cause is chained; the caller only learns to try again."""

    def __init__(self, why: str | None = None) -> None:
        super().__init__("store_unavailable", why=why)

    def __str__(self) -> str:
        return f"{self.reason}: {self.why or self.detail}"

    @property
    def cause(self) -> str:
        """The words of the store's own library, for its operator."""
        if self.why is not None:
            return self.why
        error = self.__cause__
        return str(getattr(error, "orig", error) or error or "it took too long")


class Refused(FaregateError):
    """A management call that cannot be carried out; the base of the classes below."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    oauth: ClassVar[str] = "invalid_request"  # the code of RFC 6749 section 5.2

    def __init__(self, words: str = "") -> None:
        super().__init__(_brief(words))


class InvalidInput(Refused, ValueError):
    """A value cannot be taken. The text names the member, the fault, and the way to mend it."""

    status = 400
    code = "invalid_input"
    title = "Input invalid"


class UnsupportedTokenType(InvalidInput):
    """The credential is of a kind that its holder cannot revoke (RFC 7009 section 2.2.1)."""

    code = "unsupported_token_type"
    oauth = "unsupported_token_type"
    title = "Token type not supported"


class NotFound(Refused, LookupError):
    """There is no such record, or the actor does not reach it: the two look alike."""

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(Refused):
    """The state of the record forbids the call."""

    status = 409
    code = "conflict"
    title = "Conflict"


class PreconditionFailed(Refused):
    """The record has changed since the version that the caller named (RFC 9110 section 13.1.1)."""

    status = 412
    code = "precondition_failed"
    title = "Precondition failed"


class WouldWait(Exception):
    """The answer would have to be waited for, and the caller asked for an answer without waiting.

    Only the gate and its adapters see it, so it is no FaregateError.
    """


class Misconfigured(FaregateError, RuntimeError):
    """The application guards a route in a way that cannot work.

    The answer is 500, never the view.
    """


def _brief(words: str) -> str:
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
