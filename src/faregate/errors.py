"""What can go wrong, and the answer that each error asks for.

::

    FaregateError
    ├── Denied               the request is refused: 400, 401, 403 or 503, by its reason
    │   └── StoreUnavailable 503: the store cannot answer, so the gate stays shut
    ├── InvalidInput         400: a value that cannot be taken; nothing was changed
    │   └── UnsupportedTokenType  a credential that its holder cannot revoke
    ├── NotFound             404: no such record, or none that the actor reaches
    ├── Conflict             409: the record's state forbids the call
    ├── PreconditionFailed   412: the record is no longer the version that was named
    └── Misconfigured        a mistake in the application's code, never in a request
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Reason(NamedTuple):
    """How one reason of denial is answered: RFC 9110 status, RFC 6750 section 3.1 code, and words."""

    status: int
    error: str | None
    title: str
    detail: str


# The words go into quoted strings of WWW-Authenticate as they stand, so they keep to the
# characters of RFC 6750 section 3: no quotation mark, no backslash, ASCII only.
REASONS = {
    "missing_credential": Reason(
        401,
        None,
        "Credential missing",
        "Send one credential as 'Authorization: Bearer <credential>'.",
    ),
    "malformed_credential": Reason(
        400,
        "invalid_request",
        "Credential malformed",
        "A credential is one token68 text and nothing else; in Authorization it comes after 'Bearer'.",
    ),
    "multiple_credentials": Reason(
        400,
        "invalid_request",
        "More than one credential",
        "Send exactly one credential, in one place.",
    ),
    "unknown_credential": Reason(
        401,
        "invalid_token",
        "Credential unknown",
        "The credential is not one that opens this gate.",
    ),
    "deactivated": Reason(
        401, "invalid_token", "Credential deactivated", "The credential was deactivated."
    ),
    "revoked": Reason(401, "invalid_token", "Credential revoked", "The credential was revoked."),
    "not_yet_valid": Reason(
        401, "invalid_token", "Credential not yet valid", "The credential is not valid yet."
    ),
    "expired": Reason(401, "invalid_token", "Credential expired", "The credential has expired."),
    "redemption_required": Reason(
        401,
        "invalid_token",
        "Redemption required",
        "The share is limited to a number of redemptions. Redeem its secret and send the token that this answers.",
    ),
    "redemptions_exhausted": Reason(
        401,
        "invalid_token",
        "Redemptions exhausted",
        "The share was redeemed as often as it may be.",
    ),
    "address_not_allowed": Reason(
        403, None, "Address not allowed", "The credential may not be used from this address."
    ),
    "address_unknown": Reason(
        403,
        None,
        "Address unknown",
        "The credential is bound to networks and the client's address is not known.",
    ),
    "path_not_open": Reason(403, None, "Path not open", "No rule opens this path."),
    "origin_not_allowed": Reason(
        403,
        None,
        "Origin not allowed",
        "Whoever is logged in by a session changes something only from a page of a configured origin.",
    ),
    "insufficient_scope": Reason(
        403,
        "insufficient_scope",
        "Scope insufficient",
        "The credential does not grant what this needs.",
    ),
    "object_not_shared": Reason(
        403,
        "insufficient_scope",
        "Object not shared",
        "The share does not hold the object that this needs.",
    ),
    "store_unavailable": Reason(
        503, None, "Store unavailable", "The credential cannot be checked now. Try again shortly."
    ),
}


_LONGEST = 2000  # characters of an error's words, whatever was sent that they quote


class FaregateError(Exception):
    """The root of every error that this package raises on purpose."""


class Denied(FaregateError):
    """The request is refused.

    ``reason`` is one of :data:`REASONS`, ``status`` the HTTP status to answer, ``error`` the code of
    RFC 6750 section 3.1 or None, ``detail`` a sentence for the caller, ``scope`` the general scopes
    that were missing, ``record_id`` the record that was refused, where one was found, ``why`` more words for who
    looks after the gate, which no caller is told. No attribute ever holds the credential.
    """

    def __init__(
        self,
        reason: str,
        detail: str | None = None,
        *,
        scope: Sequence[str] = (),
        record_id: str | None = None,
        address: str | None = None,
        why: str | None = None,
    ) -> None:
        known = REASONS[reason]
        self.reason = reason
        self.status = known.status
        self.error = known.error
        self.title = known.title
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
    """The store cannot answer. The cause is chained; the caller is only told to try again."""

    def __init__(self, why: str | None = None) -> None:
        super().__init__("store_unavailable", why=why)

    def __str__(self) -> str:
        return f"{self.reason}: {self.why or self.detail}"

    @property
    def cause(self) -> str:
        """What the store's own library said, for people who look after it."""
        if self.why is not None:
            return self.why
        error = self.__cause__
        return str(getattr(error, "orig", error) or error or "it took too long")


class Refused(FaregateError):
    """A management call that cannot be carried out; the base of the four below."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, words: str = "") -> None:
        super().__init__(_brief(words))


class InvalidInput(Refused, ValueError):
    """A value that cannot be taken. The text names the member and says what to do."""

    status = 400
    code = "invalid_input"
    title = "Input invalid"


class UnsupportedTokenType(InvalidInput):
    """The credential is of a kind that its holder cannot revoke (RFC 7009 section 2.2.1)."""

    code = "unsupported_token_type"
    title = "Token type not supported"


class NotFound(Refused, LookupError):
    """There is no such record, or the actor does not reach it: the two look alike."""

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(Refused):
    """The state that the record is in forbids the call."""

    status = 409
    code = "conflict"
    title = "Conflict"


class PreconditionFailed(Refused):
    """The record has changed since the version that the caller named (RFC 9110 section 13.1.1)."""

    status = 412
    code = "precondition_failed"
    title = "Precondition failed"


class WouldWait(Exception):
    """The answer is not at hand: something has to be waited for, which the caller did not want.

    Between the gate and its adapters alone, so it is no FaregateError.
    """


class Misconfigured(FaregateError, RuntimeError):
    """The application guards something in a way that cannot work; answered 500, never opened."""


def _brief(words: str) -> str:
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
