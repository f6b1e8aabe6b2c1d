"""Telling what a credential is worth to who may know (RFC 7662), and revoking one by itself (RFC 7009)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from faregate.credentials.parsing import JWT, REDEEMED, SHARE
from faregate.decision.compiled import KNOWN
from faregate.decision.principal import Principal
from faregate.errors import Denied, InvalidInput, StoreUnavailable
from faregate.lifecycles.authority import Actor
from faregate.lifecycles.find_credential import FoundCredential, find_credential
from faregate.lifecycles.share_fields import share_of
from faregate.lifecycles.token_fields import token_of
from faregate.model import Introspected, Token
from faregate.values.grants import common_grants, common_scopes, flat_list
from faregate.values.instants import as_datetime
from faregate.values.kept_scopes import as_scopes_of, kept_grants

if TYPE_CHECKING:
    from faregate.credentials.parsing import CredentialParser, ParsedCredential
    from faregate.credentials.share_tokens import ShareTokens
    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import Rights
    from faregate.lifecycles.authority import By
    from faregate.lifecycles.transactions import Transactions
    from faregate.stores.store import Reading
    from faregate.values.grants import Grants, Held
    from faregate.values.needs import Need

_INACTIVE = Introspected(active=False)


class Question(NamedTuple):
    """What a resource server asks: whether it may let a credential in. What it does not say counts as not met.

    ``needs``, ``on`` and ``address`` are those of its request; ``refresh`` says that it asks about a refresh token.
    """

    needs: tuple[Need, ...] = ()
    on: str | None = None
    address: str | None = None
    refresh: bool = False

    @property
    def scopes(self) -> tuple[str, ...]:
        """The general scopes that are asked for."""
        return tuple(need for need in self.needs if isinstance(need, str))

    def answer(self, record: CompiledCredential, rights: Rights) -> str | None:
        """Return why a living credential does not open what is asked for, or None if it does."""
        if record.kind == "refresh" and not self.refresh:
            return "unknown_credential"  # as a route says: it opens nothing
        limited = record.kind == "share" or (
            record.kind == "jwt" and record.grants
        )  # to objects, or maybe so
        if limited and not common_scopes(_held(record, rights), self.on):
            # A share that has the object is bounded by its owner's rights.
            elsewhere = record.kind == "share" and not common_scopes((record.grants,), self.on)
            return "object_not_shared" if elsewhere else "insufficient_scope"
        if self.needs:
            try:
                Principal(record, self.address, rights.grants).require(*self.needs, on=self.on)
            except Denied as denied:
                return denied.reason
        return None


class Introspection:
    """Answers what credentials are worth, and takes their own word that they are worth nothing any more."""

    def __init__(
        self, transactions: Transactions, parser: CredentialParser, share_tokens: ShareTokens
    ) -> None:
        self._transactions = transactions
        self._parser = parser
        self._issuer = share_tokens.issuer

    def introspect(
        self,
        credential: str,
        needs: tuple[Need, ...],
        *,
        on: str | None,
        address: str | None,
        refresh: bool,
        by: By,
    ) -> Introspected:
        """Return whether a credential is active, and to who may know what it is; see :meth:`Gate.introspect`."""
        question = Question(needs, on, address, refresh)
        if not isinstance(credential, str):
            raise InvalidInput("token: expected a text")
        Actor.of(by).permit("token.introspect")
        reference = self._read(
            credential
        )  # while no transaction is open: an issuer's keys may have to be fetched
        now = self._transactions.now()
        with self._transactions.reading(by, now) as (reading, actor):
            actor.permit("token.introspect")
            try:
                found = None if reference is None else find_credential(reading, reference, now)
            except StoreUnavailable:
                raise
            except Denied:
                found = None
            if found is None:
                return _INACTIVE
            at_home = actor.root or (
                actor.compiled is not None and actor.compiled.org.id == found.compiled.org.id
            )
            reached = _reaches(actor, reading, found)
        rights = self._transactions.rights_of(
            found.compiled.effective_owner
        )  # asked while no transaction is open
        record = found.compiled.closed() if rights.gone else found.compiled
        fault = next(record.faults(now, question.address), None)
        if fault is not None and fault.step == KNOWN:
            return _INACTIVE
        reason = question.answer(record, rights) if fault is None else fault.reason
        if not (at_home if reason is None else reached):
            return _INACTIVE
        return self._details(found, rights, now, question, reason=reason)

    def _read(self, credential: str) -> ParsedCredential | None:
        """Return what a credential names, None for what is none."""
        try:
            return self._parser.read(credential)
        except StoreUnavailable:
            raise
        except Denied:
            return None

    def _details(
        self,
        found: FoundCredential,
        rights: Rights,
        now: float,
        question: Question,
        *,
        reason: str | None,
    ) -> Introspected:
        record = found.compiled
        told = Introspected(
            active=reason is None,
            reason=reason,
            kind=record.kind,
            scope=question.scopes or common_scopes(_held(record, rights), question.on),
            subject=record.named(self._transactions.identities).identity,
            username=record.owner.name,
            expires_at=as_datetime(min(record.expires_at, record.superseded_at)),
        )
        origin = self._origin(found, now, gone=rights.gone)
        if found.access is not None:
            grants = (
                record.grants
                if rights.grants is None
                else common_grants(record.grants, rights.grants)
            )
            origin["record"] = _listing_kept(origin["record"], grants)
        return msgspec.structs.replace(told, **origin)

    def _origin(self, found: FoundCredential, now: float, *, gone: bool) -> dict[str, Any]:
        """Return what is told of who issued a credential and when: the token itself if it is a JWT, else its row."""
        (kind, _, signed, trusted), row = found.reference, found.row
        if trusted is not None:
            claims = trusted.claims
            return {
                "issued_at": as_datetime(claims.issued_at),
                "not_before": as_datetime(claims.not_before),
                "issuer": claims.issuer,
                "audience": claims.audience,
                "token_id": claims.token_id,
            }
        own: dict[str, Any] = {"issued_at": as_datetime(row["created_at"])}
        if signed is not None:
            issued_at = as_datetime(signed.issued_at)
            own = {"issued_at": issued_at, "issuer": self._issuer, "token_id": signed.token_id}
            own["audience"] = (self._issuer,)
        if found.access is not None:
            own = {"issued_at": as_datetime(found.access["created_at"])}
        record = share_of(row, now, gone=gone) if kind in (SHARE, REDEEMED) else token_of(row)
        return {**own, "not_before": as_datetime(row["not_before"]), "record": record}


def _held(record: CompiledCredential, rights: Rights) -> Held:
    """Return all that a need has to be met by: the record's grants, and what its owner may do now."""
    return (record.grants,) if rights.grants is None else (record.grants, rights.grants)


def _reaches(actor: Actor, reading: Reading, found: FoundCredential) -> bool:
    if (
        found.reference.kind == JWT
    ):  # it has no row, and is its owner's and its organization's all the same
        return actor.reaches(found.compiled)
    rows = reading.shares if found.reference.kind in (SHARE, REDEEMED) else reading.tokens
    return rows.get(found.compiled.id, actor.reach) is not None


def _listing_kept(family: Token, grants: Grants) -> Token:
    """Return the refresh token with the scopes that it keeps in its access credentials."""
    kept = kept_grants(family.allowed_scopes, grants)
    allowed = as_scopes_of(family.allowed_scopes, kept)
    return msgspec.structs.replace(family, allowed_scopes=allowed, scope=flat_list(kept))
