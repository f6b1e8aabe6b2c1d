"""Revocation of a credential by its holder (RFC 7009)."""

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
    """Closes the record of a credential for its holder, who needs no other right."""

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
        """Close the record of a credential, as :meth:`faregate.Gate.revoke` says."""
        if not isinstance(credential, str):
            raise InvalidInput("token: expected a text")

        kind = kind_of(credential, self._brand)
        if kind == "shr" or _JWT.fullmatch(credential):
            raise UnsupportedTokenType(
                "A share is revoked by its maker, not by its holder. A JWT ends by itself."
            )
        if kind == "rft":
            self._refresh_tokens.revoke(credential)
        if kind == "act":
            self._refresh_tokens.delete_access(credential)
        if kind == "tok":
            self._deactivate(credential)

    def _deactivate(self, credential: str) -> None:
        parsed = self._parser.read(credential)
        now = self._transactions.now()

        # Read first: an unknown credential must not wait for the write lock, nor keep others from it.
        with self._transactions.reading(None, now) as (reading, _):
            if reading.tokens.by_digest(parsed.digest, refresh=False) is None:
                return

        with self._transactions.changing(None, now) as (change, _):
            try:
                found = find_credential(change, parsed, now)
            except Denied:  # it was deleted meanwhile
                return
            # A dead credential has no rights left.
            if now < found.compiled.superseded_at and not found.compiled.deactivated:
                holder = self._transactions.actor_of(found.compiled)
                deactivate(change, holder, found.row, None, now)
