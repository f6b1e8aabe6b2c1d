"""Token introspection for resource servers (RFC 7662).

A resource server asks whether a credential opens its resource. The answer depends on the caller:

- Details of an active credential are shown to its organization and to root.
- Details of an inactive credential, with the reason, are shown to callers who reach its record.
- Everybody else gets ``active`` alone, which is False.

No use of the credential is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from faregate.credentials.parsing import JWT, REDEEMED, SHARE
from faregate.decision.compiled import KNOWN
from faregate.decision.principal import Principal
from faregate.errors import Denied, InvalidInput, StoreUnavailable
from faregate.fields.share_fields import share_of
from faregate.fields.token_fields import token_of
from faregate.lifecycles.authority import Actor
from faregate.lifecycles.find_credential import FoundCredential, find_credential
from faregate.model import Introspected, Token
from faregate.values.grants import common_grants, common_scopes, flat_list
from faregate.values.instants import as_datetime
from faregate.values.kept_scopes import as_scopes_of, kept_grants

if TYPE_CHECKING:
    from faregate.credentials.parsing import CredentialParser, ParsedCredential
    from faregate.credentials.share_tokens import ShareTokens
    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import Rights
    from faregate.jwts.claims import Claims
    from faregate.lifecycles.authority import By, Call
    from faregate.lifecycles.transactions import Transactions
    from faregate.stores.store import Reading
    from faregate.values.grants import Grants, Held
    from faregate.values.needs import Need

_CALL: Call = "token.introspect"
_INACTIVE = Introspected(active=False)


class Question(NamedTuple):
    """The question of a resource server. A value that is left out counts as not met.

    ``needs``, ``on`` and ``address`` are those of the server's request. ``refresh`` is True if the
    server expects a refresh token.
    """

    needs: tuple[Need, ...] = ()
    on: str | None = None
    address: str | None = None
    refresh: bool = False

    @property
    def scopes(self) -> tuple[str, ...]:
        """The general scopes among the needs."""
        return tuple(need for need in self.needs if isinstance(need, str))

    def refusal(self, compiled: CompiledCredential, rights: Rights) -> str | None:
        """Return the reason why a live credential does not open the resource; None if it does."""
        # A route refuses a refresh token with this reason, too.
        if compiled.kind == "refresh" and not self.refresh:
            return "unknown_credential"

        # The grants of these kinds may be limited to objects.
        limited = compiled.kind == "share" or (compiled.kind == "jwt" and compiled.grants)
        if limited and not common_scopes(_held(compiled, rights), self.on):
            # A share that has the object is bounded by its owner's rights.
            if compiled.kind == "share" and not common_scopes((compiled.grants,), self.on):
                return "object_not_shared"
            return "insufficient_scope"

        if not self.needs:
            return None
        try:
            Principal(compiled, self.address, rights.grants).require(*self.needs, on=self.on)
        except Denied as denied:
            return denied.reason
        return None


class Introspection:
    """Introspects credentials for resource servers."""

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
        """Return whether a credential is active, with the details that ``by`` may see.

        The arguments are those of :meth:`faregate.Gate.introspect`.

        Raises Denied if ``by`` may not introspect.
        """
        question = Question(needs, on, address, refresh)
        if not isinstance(credential, str):
            raise InvalidInput("token: expected a text")

        # A caller without the scope must not have keys fetched. The transaction asks again.
        Actor.of(by).permit(_CALL)

        # Parsed before the transaction begins: an issuer's keys may have to be fetched.
        parsed = self._parse(credential)
        now = self._transactions.now()

        with self._transactions.reading(by, now) as (reading, actor):
            actor.permit(_CALL)
            target = _find(reading, parsed, now)
            if target is None:
                return _INACTIVE
            same_org = _same_org(actor, target.compiled)
            reached = _reaches(actor, reading, target)

        # The application is asked after the transaction has ended.
        rights = self._transactions.rights_of(target.compiled.effective_owner)
        compiled = target.compiled
        if rights.gone:
            compiled = compiled.closed()

        fault = next(compiled.faults(now, question.address), None)
        if fault is None:
            reason = question.refusal(compiled, rights)
        elif fault.step == KNOWN:
            return _INACTIVE
        else:
            reason = fault.reason

        visible = same_org if reason is None else reached
        if not visible:
            return _INACTIVE
        return self._details(target, rights, now, question, reason=reason)

    def _parse(self, credential: str) -> ParsedCredential | None:
        """Return the parsed credential; None for a text that is not a credential."""
        try:
            return self._parser.read(credential)
        # A store or issuer that cannot answer says nothing about the credential.
        except StoreUnavailable:
            raise
        except Denied:
            return None

    def _details(
        self,
        target: FoundCredential,
        rights: Rights,
        now: float,
        question: Question,
        *,
        reason: str | None,
    ) -> Introspected:
        """Return all details of a credential, which is active if ``reason`` is None."""
        compiled = target.compiled
        details = Introspected(
            active=reason is None,
            reason=reason,
            kind=compiled.kind,
            scope=question.scopes or common_scopes(_held(compiled, rights), question.on),
            subject=compiled.named(self._transactions.identities).identity,
            username=compiled.owner.name,
            expires_at=as_datetime(min(compiled.expires_at, compiled.superseded_at)),
        )

        trusted = target.parsed.trusted
        if trusted is not None:
            return msgspec.structs.replace(details, **_jwt_details(trusted.claims))

        details = msgspec.structs.replace(details, **self._record_details(target, now, rights))
        if target.access_row is None or not isinstance(details.record, Token):
            return details

        # An access credential shows its refresh token, with the scopes that the token keeps in it.
        grants = compiled.grants
        if rights.grants is not None:
            grants = common_grants(grants, rights.grants)
        family = _with_kept_scopes(details.record, grants)
        return msgspec.structs.replace(details, record=family)

    def _record_details(
        self, target: FoundCredential, now: float, rights: Rights
    ) -> dict[str, Any]:
        """Return the details of a credential that has a record: its origin, and the record."""
        row = target.row
        if target.parsed.kind in (SHARE, REDEEMED):
            record: Any = share_of(row, now, gone=rights.gone)
        else:
            record = token_of(row)

        details = {
            "issued_at": as_datetime(row["created_at"]),
            "not_before": as_datetime(row["not_before"]),
            "record": record,
        }
        if target.access_row is not None:
            details["issued_at"] = as_datetime(target.access_row["created_at"])

        signed = target.parsed.signed
        if signed is not None:
            details["issued_at"] = as_datetime(signed.issued_at)
            details["issuer"] = self._issuer
            details["audience"] = (self._issuer,)
            details["token_id"] = signed.token_id
        return details


def _find(reading: Reading, parsed: ParsedCredential | None, now: float) -> FoundCredential | None:
    """Return the credential in this transaction; None for an unknown credential."""
    if parsed is None:
        return None
    try:
        return find_credential(reading, parsed, now)
    except StoreUnavailable:
        raise
    except Denied:
        return None


def _same_org(actor: Actor, compiled: CompiledCredential) -> bool:
    """Return True if the credential is of the actor's organization. Root is in each of them."""
    if actor.root or actor.compiled is None:
        return True
    return actor.compiled.org.id == compiled.org.id


def _reaches(actor: Actor, reading: Reading, target: FoundCredential) -> bool:
    """Return True if the actor reaches the record of a credential."""
    # A JWT has no row. It belongs to its owner and organization by the same rule.
    if target.parsed.kind == JWT:
        return actor.reaches(target.compiled)

    is_share = target.parsed.kind in (SHARE, REDEEMED)
    rows = reading.shares if is_share else reading.tokens
    return rows.get(target.compiled.id, actor.reach) is not None


def _held(compiled: CompiledCredential, rights: Rights) -> Held:
    """Return the grants that must all meet a need: the credential's, and its owner's if limited."""
    if rights.grants is None:
        return (compiled.grants,)
    return compiled.grants, rights.grants


def _jwt_details(claims: Claims) -> dict[str, Any]:
    """Return the details of a JWT, which are its claims: it has no record."""
    return {
        "issued_at": as_datetime(claims.issued_at),
        "not_before": as_datetime(claims.not_before),
        "issuer": claims.issuer,
        "audience": claims.audience,
        "token_id": claims.token_id,
    }


def _with_kept_scopes(family: Token, grants: Grants) -> Token:
    """Return a refresh token with the scopes that it keeps in its access credentials."""
    kept_in_token = kept_grants(family.allowed_scopes, grants)
    allowed_scopes = as_scopes_of(family.allowed_scopes, kept_in_token)
    return msgspec.structs.replace(
        family, allowed_scopes=allowed_scopes, scope=flat_list(kept_in_token)
    )
