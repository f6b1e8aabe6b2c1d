"""The parts of a gate, put together.

This is loaded when the first gate is made: the libraries behind it take longer to load than the rest of the package,
and whoever imports the package alone does not wait for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from faregate.credentials.parsing import CredentialParser
from faregate.credentials.share_tokens import ShareTokens
from faregate.credentials.signing_secret import SigningSecret
from faregate.decision.owner_rights import OwnerRights
from faregate.errors import InvalidInput
from faregate.jwts.issuer import NEEDS_EXTRA, Issuer
from faregate.lifecycles.audit import Audit
from faregate.lifecycles.explain import Explainer
from faregate.lifecycles.introspection import Introspection
from faregate.lifecycles.jwt_revocations import JwtRevocations
from faregate.lifecycles.purge import Purge
from faregate.lifecycles.refresh_tokens import RefreshTokens
from faregate.lifecycles.self_revocation import SelfRevocation
from faregate.lifecycles.shares import Shares
from faregate.lifecycles.tokens import Tokens
from faregate.lifecycles.transactions import Transactions
from faregate.stores.record_cache import RecordCache
from faregate.stores.store import Store
from faregate.values.identities import Identities
from faregate.verification.usage import Usage
from faregate.verification.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from faregate.credentials.signing_secret import Secret
    from faregate.decision.owner_rights import Hook
    from faregate.jwts.reader import TrustedIssuers
    from faregate.policy import Policy
    from faregate.values.client_address import TrustedProxies


class Parts:
    """What a gate consists of; the arguments are those of :class:`faregate.Gate`."""

    def __init__(
        self,
        store: str,
        *,
        brand: str,
        clock: Callable[[], float],
        proxies: TrustedProxies,
        policy: Policy,
        owner_rights: Hook | None,
        owner_rights_ttl: float,
        secret: Secret | None,
        issuers: Sequence[Issuer],
        max_length: int,
        refresh_retry_window: timedelta | float,
    ) -> None:
        self.store = Store(store)
        rights = OwnerRights(owner_rights, owner_rights_ttl)
        identities = _identities(issuers)
        self.records = RecordCache(self.store, rights, identities)
        self.usage = Usage(self.store)
        self.issuers = _trusted(issuers, identities, policy, clock)

        theirs = [each for one in issuers for each in one.secrets]
        share_tokens = ShareTokens(SigningSecret(secret, self.store.database.path, theirs), brand)
        self.parser = CredentialParser(brand, share_tokens, self.issuers, max_length)
        self.verifier = Verifier(self.records, rights, self.usage, self.parser, clock)

        self.transactions = Transactions(self.store, rights, identities, clock)
        refresh = RefreshTokens(
            self.transactions, self.usage, brand=brand, window=refresh_retry_window
        )
        self.introspection = Introspection(self.transactions, self.parser, share_tokens)
        self.self_revocation = SelfRevocation(self.transactions, self.parser, refresh, brand=brand)
        self.explainer = Explainer(self.transactions, self.parser, proxies)
        self.audit = Audit(self.transactions)
        self.purge = Purge(self.transactions)
        self.tokens = Tokens(self.transactions, policy, refresh, brand=brand)
        self.shares = Shares(self.transactions, policy, share_tokens, brand=brand)
        self.jwts = JwtRevocations(self.transactions, [one.issuer for one in issuers])


def _identities(issuers: Sequence[Issuer]) -> Identities:
    if not isinstance(issuers, list | tuple) or not all(isinstance(one, Issuer) for one in issuers):
        raise InvalidInput("issuers: a list of faregate.Issuer")
    return Identities({issuer.issuer: issuer.name for issuer in issuers if issuer.name is not None})


def _trusted(
    issuers: Sequence[Issuer], identities: Identities, policy: Policy, clock: Callable[[], float]
) -> TrustedIssuers | None:
    """Return the reader of the issuers' tokens; None where there are none, and nothing of it need be loaded."""
    if not issuers:
        return None
    if policy.max_lifetime is None and any(one.manages for one in issuers):
        raise InvalidInput(
            "issuers: who manages by JWT makes what outlives it; bound that with Policy(max_lifetime=…)"
        )
    try:
        from faregate.jwts.reader import TrustedIssuers  # noqa: PLC0415
    except ImportError:
        raise InvalidInput(f"issuers: {NEEDS_EXTRA}") from None
    return TrustedIssuers(issuers, identities, clock)
