"""Telling what a credential is worth to who may know (RFC 7662), and revoking one by itself (RFC 7009)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from faregate.credentials.opaque import kind_of
from faregate.credentials.parsing import JWT, REDEEMED, SHARE
from faregate.decision.compiled import KNOWN
from faregate.decision.principal import Principal
from faregate.errors import Denied, InvalidInput, StoreUnavailable, UnsupportedTokenType
from faregate.lifecycles.authority import Actor
from faregate.lifecycles.deactivation import deactivate
from faregate.lifecycles.find_credential import Inspected, inspect
from faregate.lifecycles.share_fields import share_of
from faregate.lifecycles.token_fields import token_of
from faregate.model import AllowedScopes, Introspected, PermissionGrant, RealmScopes, RoleGrant, ServiceScopes, Token
from faregate.values.instants import as_datetime
from faregate.values.scopes import AnyResource, common_grants, common_scopes, compile_grants, flat_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    from faregate.credentials.parsing import Reference, References
    from faregate.credentials.share_tokens import ShareTokens
    from faregate.decision.compiled import Record
    from faregate.decision.owner_rights import Rights
    from faregate.lifecycles.authority import By, Desk
    from faregate.lifecycles.refresh_tokens import Refresh
    from faregate.stores.store import Reading
    from faregate.values.scopes import Grants, Held, Need

_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_INACTIVE = Introspected(active=False)
Realm = TypeVar("Realm", bound=RealmScopes)


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

    def answer(self, record: Record, rights: Rights) -> str | None:
        """Return why a living credential does not open what is asked for, or None if it does."""
        if record.kind == "refresh" and not self.refresh:
            return "unknown_credential"  # as a route says: it opens nothing
        limited = record.kind == "share" or (record.kind == "jwt" and record.grants)  # to objects, or maybe so
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
        self, desk: Desk, references: References, share_tokens: ShareTokens, refresh: Refresh, *, brand: str
    ) -> None:
        self._desk = desk
        self._references = references
        self._issuer = share_tokens.issuer
        self._refresh = refresh
        self._brand = brand

    def introspect(
        self, credential: str, needs: tuple[Need, ...], *, on: str | None, address: str | None, refresh: bool, by: By
    ) -> Introspected:
        """Return whether a credential is active, and to who may know what it is; see :meth:`Gate.introspect`."""
        question = Question(needs, on, address, refresh)
        if not isinstance(credential, str):
            raise InvalidInput("token: expected a text")
        Actor.of(by).permit("token.introspect")
        reference = self._read(credential)  # while no transaction is open: an issuer's keys may have to be fetched
        now = self._desk.now()
        with self._desk.reading(by, now) as (reading, actor):
            actor.permit("token.introspect")
            try:
                found = None if reference is None else inspect(reading, reference, now)
            except StoreUnavailable:
                raise
            except Denied:
                found = None
            if found is None:
                return _INACTIVE
            at_home = actor.root or (actor.record is not None and actor.record.org.id == found.record.org.id)
            reached = _reaches(actor, reading, found)
        rights = self._desk.rights_of(found.record.behind)  # asked while no transaction is open
        record = found.record.closed() if rights.gone else found.record
        fault = next(record.faults(now, question.address), None)
        if fault is not None and fault.step == KNOWN:
            return _INACTIVE
        reason = question.answer(record, rights) if fault is None else fault.reason
        if not (at_home if reason is None else reached):
            return _INACTIVE
        return self._details(found, rights, now, question, reason=reason)

    def _read(self, credential: str) -> Reference | None:
        """Return what a credential names, None for what is none."""
        try:
            return self._references.read(credential)
        except StoreUnavailable:
            raise
        except Denied:
            return None

    def _details(
        self, found: Inspected, rights: Rights, now: float, question: Question, *, reason: str | None
    ) -> Introspected:
        record = found.record
        told = Introspected(
            active=reason is None,
            reason=reason,
            kind=record.kind,
            scope=question.scopes or common_scopes(_held(record, rights), question.on),
            subject=record.named(self._desk.identities).identity,
            username=record.owner.name,
            expires_at=as_datetime(min(record.expires_at, record.superseded_at)),
        )
        origin = self._origin(found, now, gone=rights.gone)
        if found.access is not None:
            grants = record.grants if rights.grants is None else common_grants(record.grants, rights.grants)
            origin["record"] = _as_kept(origin["record"], grants)
        return msgspec.structs.replace(told, **origin)

    def _origin(self, found: Inspected, now: float, *, gone: bool) -> dict[str, Any]:
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

    def revoke(self, credential: str) -> None:
        """Have a token closed by itself; see :meth:`Gate.revoke`."""
        if not isinstance(credential, str):
            raise InvalidInput("token: expected a text")
        kind = kind_of(credential, self._brand)
        if kind == "shr" or _JWT.fullmatch(credential):
            raise UnsupportedTokenType("Shares are revoked by who reaches them; a JWT ends by itself.")
        if kind == "rft":
            self._refresh.revoke(credential)
        if kind == "act":
            self._refresh.delete_access(credential)
        if kind != "tok":
            return
        reference, now = self._references.read(credential), self._desk.now()
        # Looked at twice: what is not there never waits for the write lock, nor keeps others from it.
        with self._desk.reading(None, now) as (reading, _):
            if reading.tokens.by_digest(reference.digest, refresh=False) is None:
                return
        with self._desk.changing(None, now) as (change, _):
            try:
                found = inspect(change, reference, now)
            except Denied:  # it was deleted this very moment
                return
            # A credential that is dead already has no word to say.
            if now < found.record.superseded_at and not found.record.deactivated:
                deactivate(change, self._desk.actor_of(found.record), found.row, None, now)


def _held(record: Record, rights: Rights) -> Held:
    """Return all that a need has to be met by: the record's grants, and what its owner may do now."""
    return (record.grants,) if rights.grants is None else (record.grants, rights.grants)


def _reaches(actor: Actor, reading: Reading, found: Inspected) -> bool:
    if found.reference.kind == JWT:  # it has no row, and is its owner's and its organization's all the same
        return actor.reaches(found.record)
    rows = reading.shares if found.reference.kind in (SHARE, REDEEMED) else reading.tokens
    return rows.get(found.record.id, actor.reach) is not None


def _as_kept(family: Token, grants: Grants) -> Token:
    """Return the token behind an access credential with what that opens now, as far as it is kept in the token."""
    allowed = family.allowed_scopes
    kept = msgspec.structs.replace(
        allowed,
        organization_scopes=_kept(allowed.organization_scopes),
        services_scopes=tuple(map(_kept, allowed.services_scopes)),
    )
    listed = common_grants(compile_grants(kept), grants)
    told = AllowedScopes(
        general_scopes=tuple(name for _, kind, name in listed if kind == "scope"),
        organization_scopes=_listed(allowed.organization_scopes, "organization", listed),
        services_scopes=tuple(_listed(one, one.service_definition_id, listed) for one in _united(allowed)),
    )
    return msgspec.structs.replace(family, allowed_scopes=told, scope=flat_list(listed))


def _kept(scopes: Realm) -> Realm:
    """Return what is kept of one realm: its permissions, its roles, both or neither."""
    if "PERMISSIONS" not in scopes.kept_in_token:
        scopes = msgspec.structs.replace(scopes, all_permissions=False, permissions=())
    if "ROLES" not in scopes.kept_in_token:
        scopes = msgspec.structs.replace(scopes, all_roles=False, roles=())
    return scopes


def _united(allowed: AllowedScopes) -> Iterable[ServiceScopes]:
    """Return each service once, with what is kept of any entry of it."""
    united: dict[str, ServiceScopes] = {}
    for one in allowed.services_scopes:
        known = united.get(one.service_definition_id, one)
        kept = tuple(dict.fromkeys(known.kept_in_token + one.kept_in_token))
        united[one.service_definition_id] = msgspec.structs.replace(one, kept_in_token=kept)
    return united.values()


def _listed(scopes: Realm, realm: str, grants: Grants) -> Realm:
    """Return the grants of one realm in its form, where all stands for each."""
    permissions, roles = _of(realm, "permission", grants), _of(realm, "role", grants)
    every_permission, every_role = "*" in permissions, "*" in roles
    each_permission = tuple(PermissionGrant(name, on) for name, on in permissions.items())
    each_role = tuple(RoleGrant(name, one) for name, on in roles.items() for one in on or (None,))
    return msgspec.structs.replace(
        scopes,
        all_permissions=every_permission,
        all_roles=every_role,
        permissions=() if every_permission else each_permission,
        roles=() if every_role else each_role,
    )


def _of(realm: str, kind: str, grants: Grants) -> dict[str, tuple[str, ...] | None]:
    """Return the grants of one realm and kind: by their names the resources, None for any."""
    return {
        name: None if isinstance(resources, AnyResource) else tuple(sorted(resources))
        for (whose, what, name), resources in grants.items()
        if (whose, what) == (realm, kind)
    }
