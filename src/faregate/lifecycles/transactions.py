"""Transactions of management calls: each re-reads its caller, so that a credential that died meanwhile is refused."""

from __future__ import annotations

from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec

from faregate.decision.compiled import compile_session
from faregate.decision.principal import Principal
from faregate.errors import Denied, InvalidInput, StoreUnavailable
from faregate.lifecycles.authority import Actor, By
from faregate.lifecycles.token_fields import (
    access_limits,
    given_columns,
    limits_of,
    owner_of,
    scopes_of,
)
from faregate.stores.change_feed import OWNER_CHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import OwnerRights, Rights
    from faregate.lifecycles.token_fields import TokenFields
    from faregate.model import AllowedScopes, Org, Owner
    from faregate.stores.store import Change, Reading, Store
    from faregate.values.identities import Identities

    Columns = Mapping[str, Any]


class Transactions:
    """Where management calls are taken: each in one transaction, with its actor as that one is now."""

    def __init__(
        self,
        store: Store,
        owner_rights: OwnerRights,
        identities: Identities,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._owner_rights = owner_rights
        self.identities = identities
        self._clock = clock

    def now(self) -> float:
        """Return the instant, as exactly as instants are stored."""
        return round(self._clock(), 6)

    @contextmanager
    def reading(self, by: By, now: float) -> Generator[tuple[Reading, Actor]]:
        """Open a transaction that reads; Denied if the credential of ``by`` died."""
        asked = self._ask(by)
        with self._store.reading() as reading:
            yield reading, self._actor(by, asked, reading, now)

    @contextmanager
    def changing(self, by: By, now: float) -> Generator[tuple[Change, Actor]]:
        """Open a transaction that writes; Denied if the credential of ``by`` died."""
        asked = self._ask(by)
        with self._store.changing() as change:
            yield change, self._actor(by, asked, change, now)

    def announce_owner(self, owner_id: str) -> None:
        """Tell every process that owners of this id changed, which is for the application to say."""
        with self._store.changing() as change:
            change.enter(Actor.of(None).entry_about(self.now(), OWNER_CHANGED, owner_id, None, {}))

    def actor_of(self, record: CompiledCredential) -> Actor:
        """Return the actor whose credential has a record, for what holders do by their credential alone."""
        return Actor.of(Principal(record.named(self.identities)))

    @property
    def joins_rights(self) -> bool:
        """Whether the application says what owners may do."""
        return self._owner_rights.limits

    def rights_of(self, owner: Owner) -> Rights:
        """Return what the application says that an owner may do now. Not for use in a transaction."""
        return self._owner_rights.ask(owner)

    def gone(self, owner: Owner) -> bool:
        """Tell whether the application says that an owner is gone. Not for use in a transaction."""
        return self.rights_of(owner).gone

    def check_owner(self, asked: Owner, present: Owner) -> None:
        """Raise StoreUnavailable if what the application said was of somebody who is the owner no more: ask again."""
        if self._owner_rights.limits and present != asked:
            raise StoreUnavailable

    def session(
        self,
        owner: Owner,
        org: Org,
        scopes: Sequence[str] | None,
        allowed_scopes: AllowedScopes | None,
    ) -> Principal:
        """Return the principal of somebody whom the application has logged in; see :meth:`faregate.Gate.session`."""
        given: TokenFields = {"owner": owner, "org": org}
        if scopes is not None:
            given["scopes"] = scopes
        if allowed_scopes is not None:
            given["allowed_scopes"] = allowed_scopes
        given_columns(given, 0.0)
        if owner.id is None:
            raise InvalidInput("owner: somebody who is logged in has an id")
        self.identities.check(owner)
        return Principal(compile_session(owner, org, scopes_of(given)).named(self.identities))

    def joined(self, principal: Principal) -> Principal:
        """Return a principal with what its owner may do now; Denied if he is gone. Not for use in a transaction."""
        rights = self._owner_rights.ask(principal.compiled.effective_owner)
        if rights.gone:
            raise Denied("deactivated", record_id=principal.id, address=principal.address)
        return Principal(principal.compiled, principal.address, rights.grants)

    def _ask(self, by: By) -> tuple[Owner, Rights] | None:
        """Ask what the owner behind ``by`` may do now.

        The application may take its time, or use the gate itself: so it is asked before a transaction begins.
        """
        if not isinstance(by, Principal):
            return None
        owner = by.compiled.effective_owner
        if self._owner_rights.limits and by.kind in ("token", "access"):
            with self._store.reading() as reading:
                row = reading.tokens.get(by.id)
            owner = owner if row is None else owner_of(row)
        return owner, self._owner_rights.ask(owner)

    def _actor(
        self, by: By, asked: tuple[Owner, Rights] | None, reading: Reading, now: float
    ) -> Actor:
        if not isinstance(by, Principal) or asked is None:
            return Actor.of(by)
        record = by.compiled
        if by.kind == "token":
            row = reading.tokens.held(by.id, record.digest, now)
            if row is None:
                raise Denied("unknown_credential", record_id=by.id, address=by.address)
            record = limits_of(row, digest=record.digest)
        if by.kind == "access":
            found = reading.refresh.by_access(record.digest)
            if found is None:
                raise Denied("unknown_credential", record_id=by.id, address=by.address)
            record = access_limits(*found, record.digest)
        if record.kind == "jwt":
            record = _jwt_now(record, reading, now)
        owner, rights = asked
        self.check_owner(owner, record.effective_owner)
        if rights.gone:
            record = record.closed()
        if not record.admits(now, by.address):
            raise record.refusal(now, by.address)
        if record.kind == "jwt":
            # It proves who calls, for minutes; how long what he makes may live, is for the policy to say.
            record = msgspec.structs.replace(record, not_before=-inf, expires_at=inf)
        return Actor.of(Principal(record.named(self.identities), by.address, rights.grants))


def _jwt_now(record: CompiledCredential, reading: Reading, now: float) -> CompiledCredential:
    """Return the record of a JWT as it is in this transaction; Denied if its key is gone."""
    held = record.trusted is None or record.trusted(now)
    if held is None:
        raise StoreUnavailable  # the issuer's keys are too old to count
    if not held:
        raise Denied("unknown_credential", record_id=record.id)
    revoked = reading.revocations.revoked(record.revocations, record.issued_at)
    return record.revoke() if revoked else record
