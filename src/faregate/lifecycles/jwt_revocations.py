"""Revoking JWTs of trusted issuers, which the gate did not make and whose end it cannot bring forward otherwise."""

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
    from collections.abc import Sequence

    from faregate.lifecycles.authority import ActorName
    from faregate.lifecycles.transactions import Transactions
    from faregate.values.instants import Instant


class JwtRevocations:
    """Revokes JWTs of one gate. Every method returns after its commit, and counts from then on.

    ``issuer`` is the name of one of the gate's issuers; a gate that has none, as that of the command line, takes any.
    ``by`` is a name for the record: only the application itself revokes JWTs. Instants are aware datetimes, texts of
    RFC 3339 or epoch seconds. Raises InvalidInput, which changes nothing, and StoreUnavailable.
    """

    def __init__(self, transactions: Transactions, issuers: Sequence[str]) -> None:
        self._transactions = transactions
        self._issuers = list(issuers)

    def revoke(
        self, issuer: str, jti: str, *, until: Instant | None = None, by: ActorName = None
    ) -> None:
        """Revoke the token with this ``jti``.

        ``until`` is its ``exp``, or later: after that the revocation may be forgotten. Without it, it never is.
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
        """Revoke every token of this subject with an ``iat`` not after ``before``, by default now, or without one.

        An ``iat`` has whole seconds, as a rule: what was issued in the very second is revoked. Where the issuer's clock
        may be ahead, and that counts, give a later instant than now. ``until`` is one after which all of them have
        expired, and the revocation may be forgotten; without it, it never is. An earlier revocation stays: the later of
        both instants count.
        """
        key = subject_key(self._check_issuer(issuer), check_name(subject, "subject", MAX_ID))
        last = self._transactions.now() if before is None else parse_instant(before, "before")
        self._enter(
            JWT_SUBJECT_REVOKED,
            key,
            {"issuer": issuer, "subject": subject, "before": last},
            last,
            until,
            by,
        )

    def _enter(
        self,
        action: str,
        key: str,
        details: dict[str, object],
        before: float | None,
        until: Instant | None,
        by: ActorName,
    ) -> None:
        if isinstance(by, Principal):
            raise InvalidInput(
                "by: a name for the record; only the application itself revokes JWTs"
            )
        now = self._transactions.now()
        end = None if until is None else parse_instant(until, "until")
        if end is not None and end + MOST_LEEWAY <= now:
            raise InvalidInput(
                "until: lies in the past; give the exp of the token, or leave it out"
            )
        with self._transactions.changing(by, now) as (change, actor):
            change.revocations.add(key, before, end)
            change.enter(actor.entry_about(now, action, key, None, {**details, "until": end}))

    def _check_issuer(self, issuer: str) -> str:
        if self._issuers and issuer not in self._issuers:
            raise InvalidInput(
                f"issuer: none of those of this gate, which are {abbreviated(self._issuers)}"
            )
        return check_id(issuer, "issuer")
