"""Transactions of management calls.

The credential of the caller was judged when the request began. Each transaction reads it again, so
that a credential that has died since is refused.

The application is asked about an owner's rights before the transaction begins, never in it: the
answer may take its time, and the application may use the gate to find it. The transaction then
confirms that the record still has the owner that was asked about.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

import msgspec

from faregate.decision.compiled import compile_session
from faregate.decision.principal import Principal
from faregate.errors import Denied, InvalidInput, StoreUnavailable
from faregate.fields.field import owner_of
from faregate.fields.token_fields import given_columns, scopes_of
from faregate.lifecycles.authority import Actor, By
from faregate.stores.change_feed import OWNER_CHANGED
from faregate.stores.compiled_rows import compile_access_row, compile_token_row

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import OwnerRights, Rights
    from faregate.fields.token_fields import TokenFields
    from faregate.model import AllowedScopes, Org, Owner
    from faregate.stores.store import Change, Reading, Store
    from faregate.values.identities import Identities


class Transactions:
    """Opens the transaction of a management call and re-reads the caller's credential in it.

    ``clock`` returns UTC epoch seconds.
    """

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
        """Return the time in epoch seconds, rounded to the microseconds that the store keeps."""
        return round(self._clock(), 6)

    @contextmanager
    def reading(self, by: By, now: float) -> Generator[tuple[Reading, Actor]]:
        """Open a transaction that reads; yield it and the actor of ``by``.

        Raises Denied if the credential of ``by`` is not valid any more.
        """
        owner_rights = self._ask_about(by)

        with self._store.reading() as reading:
            yield reading, self._actor(by, owner_rights, reading, now)

    @contextmanager
    def changing(self, by: By, now: float) -> Generator[tuple[Change, Actor]]:
        """Open a transaction that writes; yield it and the actor of ``by``.

        Raises Denied if the credential of ``by`` is not valid any more.
        """
        owner_rights = self._ask_about(by)

        with self._store.changing() as change:
            yield change, self._actor(by, owner_rights, change, now)

    def announce_owner(self, owner_id: str) -> None:
        """Have every process forget its answers about the rights of the owners with this id."""
        with self._store.changing() as change:
            change.enter(Actor.of(None).entry_about(self.now(), OWNER_CHANGED, owner_id, None, {}))

    def actor_of(self, compiled: CompiledCredential) -> Actor:
        """Return the holder of a credential as the actor of a call that needs no other right."""
        return Actor.of(Principal(compiled.named(self.identities)))

    @property
    def joins_rights(self) -> bool:
        """True if the application limits the rights of owners."""
        return self._owner_rights.limits

    def rights_of(self, owner: Owner) -> Rights:
        """Return the present rights of an owner. Not for use in a transaction.

        Raises StoreUnavailable if the application does not answer.
        """
        return self._owner_rights.ask(owner)

    def gone(self, owner: Owner) -> bool:
        """Return True if the application says that an owner is gone. As :meth:`rights_of`."""
        return self.rights_of(owner).gone

    def check_owner(self, asked: Owner, present: Owner) -> None:
        """Raise StoreUnavailable if the owner changed after the application was asked about it.

        The rights belong to the former owner, so the caller has to try again.
        """
        if self._owner_rights.limits and present != asked:
            raise StoreUnavailable

    def session(
        self,
        owner: Owner,
        org: Org,
        scopes: Sequence[str] | None,
        allowed_scopes: AllowedScopes | None,
    ) -> Principal:
        """Return the principal of a login to the application; see :meth:`faregate.Gate.session`.

        Raises InvalidInput for an owner without an id, and for scopes that a token may not have.
        """
        fields: TokenFields = {"owner": owner, "org": org}
        if scopes is not None:
            fields["scopes"] = scopes
        if allowed_scopes is not None:
            fields["allowed_scopes"] = allowed_scopes

        # For its checks alone: a session has no row.
        given_columns(fields, 0.0)
        if owner.id is None:
            raise InvalidInput("owner: an id is required for a session")
        self.identities.check(owner)

        return Principal(compile_session(owner, org, scopes_of(fields)).named(self.identities))

    def with_owner_rights(self, principal: Principal) -> Principal:
        """Return the principal with the present rights of its owner. Not for use in a transaction.

        Raises Denied ``deactivated`` if the owner is gone.
        """
        rights = self._owner_rights.ask(principal.compiled.effective_owner)
        if rights.gone:
            raise Denied("deactivated", record_id=principal.id, address=principal.address)
        return Principal(principal.compiled, principal.address, rights.grants)

    def _ask_about(self, by: By) -> tuple[Owner, Rights] | None:
        """Return the owner of the caller's record, and its present rights; None for no principal.

        The owner is read in a transaction that ends before the application is asked.
        """
        if not isinstance(by, Principal):
            return None

        owner = by.compiled.effective_owner
        if self._owner_rights.limits and by.kind in ("token", "access"):
            with self._store.reading() as reading:
                row = reading.tokens.get(by.id)
            if row is not None:
                owner = owner_of(row)
        return owner, self._owner_rights.ask(owner)

    def _actor(
        self, by: By, owner_rights: tuple[Owner, Rights] | None, reading: Reading, now: float
    ) -> Actor:
        """Return the actor of ``by`` as it is in this transaction; Denied if it is not valid."""
        if not isinstance(by, Principal) or owner_rights is None:
            return Actor.of(by)

        compiled = _reread(by, reading, now)
        owner, rights = owner_rights
        self.check_owner(owner, compiled.effective_owner)
        if rights.gone:
            compiled = compiled.closed()
        if not compiled.admits(now, by.address):
            raise compiled.refusal(now, by.address)

        if compiled.kind == "jwt":
            # A JWT proves the caller for minutes. The policy bounds the lifetime of new records.
            compiled = msgspec.structs.replace(compiled, not_before=-inf, expires_at=inf)
        return Actor.of(Principal(compiled.named(self.identities), by.address, rights.grants))


def _reread(by: Principal, reading: Reading, now: float) -> CompiledCredential:
    """Return the caller's credential as it is in this transaction; Denied if it is gone."""
    compiled = by.compiled

    if compiled.kind == "token":
        row = reading.tokens.held(by.id, compiled.digest, now)
        if row is None:
            raise Denied("unknown_credential", record_id=by.id, address=by.address)
        return compile_token_row(row, digest=compiled.digest)

    if compiled.kind == "access":
        rows = reading.refresh.by_access(compiled.digest)
        if rows is None:
            raise Denied("unknown_credential", record_id=by.id, address=by.address)
        return compile_access_row(*rows, compiled.digest)

    if compiled.kind == "jwt":
        return _reread_jwt(compiled, reading, now)

    # A share's rights never reach the management, and the application vouches for a session.
    if compiled.kind in ("share", "session"):
        return compiled

    # A refresh token opens the endpoint for tokens alone.
    raise Denied("unknown_credential", record_id=by.id, address=by.address)


def _reread_jwt(compiled: CompiledCredential, reading: Reading, now: float) -> CompiledCredential:
    """Return a JWT as it is in this transaction; Denied if its key is gone."""
    if compiled.trusted is not None:
        trusted = compiled.trusted(now)

        # The issuer's keys are too old to say whether this key is still among them.
        if trusted is None:
            raise StoreUnavailable
        if not trusted:
            raise Denied("unknown_credential", record_id=compiled.id)

    if reading.revocations.revoked(compiled.revocations, compiled.issued_at):
        return compiled.revoke()
    return compiled
