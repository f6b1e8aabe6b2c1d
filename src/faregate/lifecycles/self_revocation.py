"""Revocation of a credential by its holder (RFC 7009).

The credential itself is the proof: its holder needs no other right. An unknown credential is no
error (section 2.2).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from faregate.credentials.opaque import kind_of
from faregate.errors import Denied, InvalidInput, UnsupportedTokenType
from faregate.lifecycles.deactivation import deactivate
from faregate.lifecycles.find_credential import find_credential

if TYPE_CHECKING:
    from faregate.credentials.parsing import CredentialParser
    from faregate.lifecycles.refresh_tokens import RefreshTokens
    from faregate.lifecycles.transactions import Transactions

_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class SelfRevocation:
    """Closes the record of a credential for its holder."""

    def __init__(
        self,
        transactions: Transactions,
        parser: CredentialParser,
        refresh_tokens: RefreshTokens,
        *,
        brand: str,
    ) -> None:
        self._transactions = transactions
        self._parser = parser
        self._refresh_tokens = refresh_tokens
        self._brand = brand

    def revoke(self, credential: str) -> None:
        """Close the record of a credential; do nothing for an unknown credential.

        A token is deactivated. A refresh token is revoked for good, also by a retired secret of it.
        An access credential is deleted.

        Raises UnsupportedTokenType for a share and for a JWT.
        """
        if not isinstance(credential, str):
            raise InvalidInput("token: expected a text")

        kind = kind_of(credential, self._brand)
        if kind == "shr" or _JWT.fullmatch(credential):
            raise UnsupportedTokenType(
                "A share is revoked by its maker, not by its holder. A JWT ends by itself."
            )

        if kind == "tok":
            self._deactivate(credential)
        elif kind == "rft":
            self._refresh_tokens.revoke(credential)
        elif kind == "act":
            self._refresh_tokens.delete_access(credential)

    def _deactivate(self, credential: str) -> None:
        """Deactivate a token, for its holder as the actor."""
        parsed = self._parser.read(credential)
        now = self._transactions.now()

        # Read first, so that unknown credentials never take the write lock.
        with self._transactions.reading(None, now) as (reading, _):
            if reading.tokens.by_digest(parsed.digest, refresh=False) is None:
                return

        with self._transactions.changing(None, now) as (change, _):
            try:
                target = find_credential(change, parsed, now)
            except Denied:
                # The token was deleted after it was read.
                return

            # A superseded secret has no rights left. A closed token stays as it was closed.
            if now < target.compiled.superseded_at and not target.compiled.deactivated:
                holder = self._transactions.actor_of(target.compiled)
                deactivate(change, holder, target.row, None, now)
