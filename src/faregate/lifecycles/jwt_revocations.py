"""Revokes JWTs of trusted issuers, before their ``exp``.

The gate did not issue these tokens and stores none of them. So a revocation names a token by its
issuer and ``jti``, or all tokens of a subject up to an instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from faregate.decision.principal import Principal
from faregate.errors import InvalidInput
from faregate.jwts.claims import subject_key, token_key
from faregate.jwts.issuer import MOST_LEEWAY
from faregate.stores.change_feed import JWT_REVOKED, JWT_SUBJECT_REVOKED
from faregate.values.instants import parse_instant
from faregate.values.names import MAX_ID, abbreviated, check_id, check_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from faregate.lifecycles.authority import ActorName
    from faregate.lifecycles.transactions import Transactions
    from faregate.stores.change_feed import Action
    from faregate.values.instants import Instant


class JwtRevocations:
    """Revokes JWTs of a gate. A revocation counts as soon as its method has returned.

    ``issuer`` is the name of an issuer of the gate; a gate without issuers, as the command line's,
    takes any. ``by`` is the name that the change feed records: only the application revokes JWTs.
    Instants are aware datetimes, texts of RFC 3339 or epoch seconds.

    Every method raises InvalidInput, which changes nothing, and StoreUnavailable.
    """

    def __init__(self, transactions: Transactions, issuers: Sequence[str]) -> None:
        self._transactions = transactions
        self._issuers = list(issuers)

    def revoke(
        self, issuer: str, jti: str, *, until: Instant | None = None, by: ActorName = None
    ) -> None:
        """Revoke the token with this ``jti`` (RFC 7519 section 4.1.7).

        ``until`` is the ``exp`` of the token, or later. After it the revocation may be purged;
        without it, the revocation stays.

        >>> gate.jwts.revoke("https://login.example.com", "4f1c", until="2026-01-02T00:00:00Z")
        >>> gate.audit().items[-1].action
        'jwt.revoke'
        """
        key = token_key(self._check_issuer(issuer), check_id(jti, "jti"))
        self._enter(JWT_REVOKED, key, {"issuer": issuer, "jti": jti}, None, until, by)

    def revoke_subject(
        self,
        issuer: str,
        subject: str,
        *,
        before: Instant | None = None,
        until: Instant | None = None,
        by: ActorName = None,
    ) -> None:
        """Revoke every token of a subject that was issued at ``before`` or earlier.

        ``before`` is compared with ``iat`` (RFC 7519 section 4.1.6) and is now by default; a token
        without ``iat`` is revoked. An ``iat`` usually has whole seconds, so tokens of the same
        second are revoked. If the issuer's clock may be ahead, give a later instant than now.

        ``until`` is an instant after which all these tokens have expired. After it the revocation
        may be purged; without it, the revocation stays. Of two revocations of a subject, the later
        ``before`` and the later ``until`` count.

        >>> gate.jwts.revoke_subject("https://login.example.com", "ann", by="security")
        >>> entry = gate.audit().items[-1]
        >>> entry.action, entry.actor
        ('jwt.revoke_subject', 'security')
        """
        key = subject_key(self._check_issuer(issuer), check_name(subject, "subject", MAX_ID))
        last = self._transactions.now() if before is None else parse_instant(before, "before")
        details = {"issuer": issuer, "subject": subject, "before": last}
        self._enter(JWT_SUBJECT_REVOKED, key, details, last, until, by)

    def _enter(
        self,
        action: Action,
        key: str,
        details: Mapping[str, object],
        before: float | None,
        until: Instant | None,
        by: ActorName,
    ) -> None:
        """Write a revocation and its entry of the change feed."""
        if isinstance(by, Principal):
            raise InvalidInput("by: expected a name; only the application revokes JWTs")
        now = self._transactions.now()
        end = None if until is None else parse_instant(until, "until")

        # A JWT counts by its issuer's clock, and may live longer than its exp.
        if end is not None and end + MOST_LEEWAY <= now:
            raise InvalidInput("until: lies in the past; give the exp of the token, or omit it")

        with self._transactions.changing(by, now) as (change, actor):
            change.revocations.add(key, before, end)
            change.enter(actor.entry_about(now, action, key, None, {**details, "until": end}))

    def _check_issuer(self, issuer: str) -> str:
        if self._issuers and issuer not in self._issuers:
            raise InvalidInput(
                f"issuer: unknown to this gate; its issuers are {abbreviated(self._issuers)}"
            )
        return check_id(issuer, "issuer")
