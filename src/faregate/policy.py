"""Bounds that an application sets for everything that its gate issues.

They come on top of the bounds of each maker, whose tokens never grant more than the maker has.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003  msgspec reads the annotations
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
    from faregate.values.grants import Grants

Span = timedelta | float


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds the tokens and shares of a gate. They apply to every maker, root included.

    - ``max_lifetime``: the longest lifetime from the creation on, as a timedelta or in seconds.
    - ``default_lifetime``: the lifetime of a token without a given expiry, as a timedelta or in
      seconds. Without it the longest lifetime counts. The token expires with its maker, if that is
      earlier.
    - ``require_expiry``: refuses a token that never expires.
    - ``max_tokens_per_owner``: the number of tokens that an owner may have. Expired and revoked
      tokens are not counted, nor are tokens without an owner.
    - ``allowed_scopes``: the widest grants of a token or share, as AllowedScopes or a list of
      general scopes.

    An existing token or share stays as it is until it is changed.

    >>> strict = Gate("sqlite://", policy=Policy(allowed_scopes=["docs:*"]))
    >>> strict.tokens.create(name="deploy", scopes=["docs:read", "users:read"])
    Traceback (most recent call last):
    InvalidInput: scopes: the policy of this gate does not allow users:read

    Raises InvalidInput for invalid bounds.
    """

    max_lifetime: Span | None = None
    default_lifetime: Span | None = None
    require_expiry: bool = False
    max_tokens_per_owner: int | None = None
    allowed_scopes: AllowedScopes | Sequence[str] | None = None

    def __post_init__(self) -> None:
        longest = self._longest
        default = _seconds(self.default_lifetime, "default_lifetime")
        if longest is not None and default is not None and default > longest:
            raise InvalidInput("policy: default_lifetime is longer than max_lifetime")

        if not isinstance(self.require_expiry, bool):
            raise InvalidInput("policy: require_expiry is True or False")

        most = self.max_tokens_per_owner
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            raise InvalidInput("policy: max_tokens_per_owner is a whole number from 1 on, or None")

        # Compiled once now, so that invalid scopes are refused at the start.
        _ = self._grants

    def expiry(
        self, created: float, inherited: float | None, usual: float | None = None
    ) -> float | None:
        """Return the expiry of a token without a given expiry; None if it never expires.

        All instants are UTC epoch seconds, and the earliest expiry counts. ``created`` is the
        instant of its creation. ``inherited`` is the expiry of its maker, None if the maker never
        expires. ``usual`` is the lifetime of its type in seconds; a default lifetime replaces it.
        """
        default = _seconds(self.default_lifetime, "default_lifetime")
        spans = [default]
        if default is None:
            spans = [self._longest, usual]

        expiries = [created + span for span in spans if span is not None]
        if inherited is not None:
            expiries.append(inherited)
        return min(expiries, default=None)

    def check_expiry(self, created: float, expires: float | None) -> None:
        """Return if a token created at ``created`` may expire at ``expires``; None is never.

        Both are UTC epoch seconds. Raises InvalidInput otherwise.
        """
        longest = self._longest
        if expires is None and (self.require_expiry or longest is not None):
            raise InvalidInput("expiresAt: required by the policy of this gate")

        # Expiries have microseconds, so the bound is rounded to them, too.
        if expires is not None and longest is not None and expires > round(created + longest, 6):
            allowed = timedelta(seconds=longest)
            raise InvalidInput(
                f"expiresAt: at most {allowed} after the creation, by the policy of this gate"
            )

    def check_grants(self, grants: Grants) -> None:
        """Return if ``grants`` are within the allowed scopes; raise InvalidInput otherwise."""
        allowed = self._grants
        if allowed is None:
            return

        excess = [display(key) for key in lacking(allowed, grants)]
        if excess:
            words = abbreviated(excess)
            raise InvalidInput(f"scopes: the policy of this gate does not allow {words}")

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
    """Return a lifetime in seconds; raise InvalidInput for none or an invalid lifetime."""
    if span is None:
        return None

    seconds = parse_span(span, f"policy: {member}")
    if not seconds:
        raise InvalidInput(f"policy: {member} must be longer than 0 seconds")
    return seconds
