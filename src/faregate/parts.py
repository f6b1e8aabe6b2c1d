"""Composition of a gate out of its parts.

This module is loaded when the first gate is made. Its libraries take longer to load than the rest
of the package, and an import of the package alone does not wait for them.
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
    """Holds the parts of a gate; the arguments are those of :class:`faregate.Gate`."""

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
        # The order is that of the layers: store, credentials, verification, lifecycles.
        self.store = Store(store)
        rights = OwnerRights(owner_rights, owner_rights_ttl)
        identities = _identities(issuers)
        self.records = RecordCache(self.store, rights, identities)
        self.usage = Usage(self.store)
        self.issuers = _trusted_issuers(issuers, identities, policy, clock)

        # A secret that an issuer knows may not sign tokens of the gate.
        issuer_secrets = [hmac for issuer in issuers for hmac in issuer.secrets]
        signing_secret = SigningSecret(secret, self.store.database.file, issuer_secrets)
        share_tokens = ShareTokens(signing_secret, brand)
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
        self.jwts = JwtRevocations(self.transactions, [issuer.issuer for issuer in issuers])


def _identities(issuers: Sequence[Issuer]) -> Identities:
    """Return the prefixes of identities by issuer. Raises InvalidInput for any other argument."""
    is_list = isinstance(issuers, list | tuple)
    if not is_list or not all(isinstance(issuer, Issuer) for issuer in issuers):
        raise InvalidInput("issuers: expected a list of faregate.Issuer")
    return Identities({issuer.issuer: issuer.name for issuer in issuers if issuer.name is not None})


def _trusted_issuers(
    issuers: Sequence[Issuer], identities: Identities, policy: Policy, clock: Callable[[], float]
) -> TrustedIssuers | None:
    """Return the reader of JWTs. None without issuers, so that its libraries are not loaded."""
    if not issuers:
        return None

    # A JWT has no row in the store whose end could bound the credentials that it makes.
    if policy.max_lifetime is None and any(issuer.manages for issuer in issuers):
        raise InvalidInput(
            "issuers: manages=True needs Policy(max_lifetime=…); "
            "credentials outlive the JWT that made them"
        )

    try:
        from faregate.jwts.reader import TrustedIssuers  # noqa: PLC0415
    except ImportError:
        raise InvalidInput(f"issuers: {NEEDS_EXTRA}") from None
    return TrustedIssuers(issuers, identities, clock)
