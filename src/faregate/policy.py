"""What an application demands of everything that its gate issues, beyond what each maker may."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from faregate.errors import InvalidInput
from faregate.model import AllowedScopes
from faregate.values.grants import lacking
from faregate.values.instants import parse_span
from faregate.values.names import abbreviated
from faregate.values.needs import display
from faregate.values.scopes import as_allowed_scopes, compile_grants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faregate.values.grants import Grants

Span = timedelta | float


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds for the tokens and shares of a gate, whoever makes or changes them, root included.

    ``max_lifetime`` and ``default_lifetime`` count from the creation, as a timedelta or in seconds. A token whose
    expiry is left out expires with its maker, after the default lifetime or after the longest one, whichever is
    first; ``require_expiry`` refuses one that never expires. ``max_tokens_per_owner`` counts the tokens of an owner
    that have not expired and were not revoked; those of nobody are not counted. ``allowed_scopes``, an AllowedScopes
    or a list of general scopes, is the widest that any token or share may grant. What exists already stays as it is
    until it is changed. Raises InvalidInput for bounds that cannot be.
    """

    max_lifetime: Span | None = None
    default_lifetime: Span | None = None
    require_expiry: bool = False
    max_tokens_per_owner: int | None = None
    allowed_scopes: AllowedScopes | Sequence[str] | None = None

    def __post_init__(self) -> None:
        longest, default = self._longest, _seconds(self.default_lifetime, "default_lifetime")
        if longest is not None and default is not None and default > longest:
            raise InvalidInput("policy: default_lifetime is longer than max_lifetime")
        if not isinstance(self.require_expiry, bool):
            raise InvalidInput("policy: require_expiry is True or False")
        most = self.max_tokens_per_owner
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            raise InvalidInput("policy: max_tokens_per_owner is a whole number from 1 on, or None")
        _ = self._grants

    def expiry(
        self, created: float, inherited: float | None, usual: float | None = None
    ) -> float | None:
        """Return the expiry of a token that is made without one: the earliest that maker and policy give.

        ``usual`` is the lifetime of its type, for which a default lifetime stands in.
        """
        default = _seconds(self.default_lifetime, "default_lifetime")
        spans = (self._longest, usual) if default is None else (default,)
        ends = [inherited, *(None if span is None else created + span for span in spans)]
        return min((end for end in ends if end is not None), default=None)

    def check_expiry(self, created: float, expires: float | None) -> None:
        """Raise InvalidInput for an expiry that is too late, or missing."""
        longest = self._longest
        if expires is None and (self.require_expiry or longest is not None):
            raise InvalidInput("expiresAt: is required by the policy of this gate")
        if expires is not None and longest is not None and expires > round(created + longest, 6):
            allowed = timedelta(seconds=longest)
            raise InvalidInput(
                f"expiresAt: the policy of this gate allows {allowed} from the creation on, no longer"
            )

    def check_grants(self, grants: Grants) -> None:
        """Raise InvalidInput, naming what is too much, for grants beyond the allowed scopes."""
        allowed = self._grants
        beyond = [] if allowed is None else [display(key) for key in lacking(allowed, grants)]
        if beyond:
            raise InvalidInput(
                f"scopes: the policy of this gate does not allow {abbreviated(beyond)}"
            )

    @property
    def _longest(self) -> float | None:
        return _seconds(self.max_lifetime, "max_lifetime")

    @property
    def _grants(self) -> Grants | None:
        allowed = self.allowed_scopes
        if allowed is None:
            return None
        if isinstance(allowed, list | tuple):
            allowed = AllowedScopes(general_scopes=tuple(allowed))
        return compile_grants(as_allowed_scopes(allowed))


def _seconds(span: Span | None, member: str) -> float | None:
    if span is None:
        return None
    seconds = parse_span(span, f"policy: {member}")
    if not seconds:
        raise InvalidInput(f"policy: {member} must be more than nothing")
    return seconds
