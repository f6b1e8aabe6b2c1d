"""Telling what a credential is worth to who may know (RFC 7662), and revoking one by itself (RFC 7009)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from faregate.actors import Actor
from faregate.credentials import kind_of
from faregate.deactivation import deactivate
from faregate.errors import Denied, InvalidInput, StoreUnavailable, UnsupportedTokenType
from faregate.inspection import Inspected, inspect
from faregate.instants import as_datetime
from faregate.members import token_of
from faregate.model import Introspected
from faregate.principal import Principal
from faregate.record import KNOWN, NETWORK
from faregate.references import TOKEN
from faregate.scopes import common_scopes
from faregate.share_members import share_of

if TYPE_CHECKING:
    from faregate.actors import By, Desk
    from faregate.jwt import ShareTokens
    from faregate.owner_rights import Rights
    from faregate.references import References
    from faregate.stores.sql import Reading

_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_INACTIVE = Introspected(active=False)


class Introspection:
    """Answers what credentials are worth, and takes their own word that they are worth nothing any more."""

    def __init__(self, desk: Desk, references: References, share_tokens: ShareTokens, *, brand: str) -> None:
        self._desk = desk
        self._references = references
        self._issuer = share_tokens.issuer
        self._brand = brand

    def introspect(self, credential: str, *, by: By = None) -> Introspected:
        """Return whether a credential is active, and to who may know what it is; see :meth:`Gate.introspect`."""
        if not isinstance(credential, str):
            raise InvalidInput("token: expected a text")
        now = self._desk.now()
        with self._desk.reading(by, now) as (reading, actor):
            actor.permit("token.introspect")
            try:
                found = inspect(reading, self._references.read(credential), now)
            except StoreUnavailable:
                raise
            except Denied:
                return _INACTIVE
            at_home = actor.root or (actor.record is not None and actor.record.org.id == found.record.org.id)
            reached = _reaches(actor, reading, found)
        rights = self._desk.rights_of(found.record.behind)  # asked while no transaction is open
        record = found.record.closed() if rights.gone else found.record
        fault = next((fault for fault in record.faults(now, None) if fault.step < NETWORK), None)
        if fault is not None and fault.step == KNOWN:
            return _INACTIVE
        if not (at_home if fault is None else reached):
            return Introspected(active=fault is None)
        return self._details(found, rights, now, reason=None if fault is None else fault.reason)

    def _details(self, found: Inspected, rights: Rights, now: float, *, reason: str | None) -> Introspected:
        record, row, signed = found.record, found.row, found.reference.signed
        principal = Principal(record)
        held = (record.grants,) if rights.grants is None else (record.grants, rights.grants)
        return Introspected(
            active=reason is None,
            reason=reason,
            kind=record.kind,
            scope=common_scopes(held),
            subject=principal.identity,
            username=record.owner.name,
            issued_at=as_datetime(row["created_at"] if signed is None else signed.issued_at),
            not_before=as_datetime(row["not_before"]),
            expires_at=as_datetime(min(record.expires_at, record.superseded_at)),
            issuer=None if signed is None else self._issuer,
            token_id=None if signed is None else signed.token_id,
            record=token_of(row) if found.reference.kind == TOKEN else share_of(row, now, gone=rights.gone),
        )

    def revoke(self, credential: str) -> None:
        """Have a token deactivated by itself; see :meth:`Gate.revoke`."""
        if not isinstance(credential, str):
            raise InvalidInput("token: expected a text")
        kind = kind_of(credential, self._brand)
        if kind == "shr" or _JWT.fullmatch(credential):
            raise UnsupportedTokenType("Shares are revoked by who reaches them; a JWT ends by itself.")
        if kind != "tok":
            return
        reference, now = self._references.read(credential), self._desk.now()
        # Looked at twice: what is not there never waits for the write lock, nor keeps others from it.
        with self._desk.reading(None, now) as (reading, _):
            if reading.tokens.by_digest(reference.digest) is None:
                return
        with self._desk.changing(None, now) as (change, _):
            try:
                found = inspect(change, reference, now)
            except Denied:  # it was deleted this very moment
                return
            # A credential that is dead already has no word to say.
            if now < found.record.superseded_at and not found.record.deactivated:
                deactivate(change, Actor.of(Principal(found.record)), found.row, None, now)


def _reaches(actor: Actor, reading: Reading, found: Inspected) -> bool:
    rows = reading.tokens if found.reference.kind == TOKEN else reading.shares
    return rows.get(found.record.id, actor.reach) is not None
