"""A credential's record in the form in which requests are judged by it.

Everything that can be worked out before a request is worked out here, once: the interval in which the
record opens anything, its networks as ranges, its grants as a mapping.
"""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003  msgspec reads the annotation
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import msgspec

from faregate.errors import Denied
from faregate.model import AllowedScopes, Org, Owner
from faregate.values.grants import ANY, Granted, Grants, Resources, common_grants, lacking
from faregate.values.needs import Key, display
from faregate.values.networks import Networks, canonical
from faregate.values.scopes import compile_grants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from faregate.jwts.claims import Claims
    from faregate.values.identities import Identities


# The steps of a verification, in their order. From the third on they are about a record.
PRESENTED, WELL_FORMED, KNOWN, ALIVE, IN_TIME, NETWORK, ENOUGH = range(1, 8)


class Fault(NamedTuple):
    """What speaks against a credential: the step that it does not pass, and the reason."""

    step: int
    reason: str


class CompiledCredential(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a verified credential stands for, ready to be judged.

    ``opens`` and ``closes`` are epoch seconds; a dead record has an empty interval. ``networks`` is None
    where any address will do.
    The state behind the interval is kept to tell the reason of a refusal. ``digest`` is the credential's.
    A share is nobody's: its maker's owner is ``shared_by``, and ``redeem_only`` says that this credential of
    it opens nothing but its redemption. ``unseen`` is the new secret of a rotation until it is first presented.
    ``alias`` is the identity where the owner's id alone would name another one; see :mod:`faregate.values.identities`.
    An access credential is of its family's record, and opens what both open. A use of what is ``noted`` is written
    down. A JWT counts by the clock of its issuer, which may differ by ``leeway`` seconds, from ``issued_at`` on, for as
    long as its key is ``trusted`` (None: for good), and unless the store has one of ``revocations``.
    """

    kind: str
    id: str
    owner: Owner
    org: Org
    opens: float
    closes: float
    networks: Networks | None
    granted: Granted
    not_before: float
    expires_at: float
    superseded_at: float = inf
    deactivated: bool = False
    revoked: bool = False
    redeem_only: bool = False
    unseen: bool = False
    tracks_use: bool = False
    shared_by: Owner | None = None
    alias: str | None = None
    digest: bytes = b""
    leeway: float = 0.0
    issued_at: float | None = None
    trusted: Callable[[float], bool | None] | None = None
    revocations: tuple[str, ...] = ()

    @property
    def grants(self) -> dict[Key, Resources]:
        """What is granted: names, and the resources on which each is."""
        return self.granted.grants

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects of the change feed that are about this."""
        return self.revocations or (self.id,)

    @property
    def effective_owner(self) -> Owner:
        """The owner whose rights this depends on: its own, or, of a share, its maker's."""
        return self.shared_by or self.owner

    @property
    def root(self) -> bool:
        """Whether this is root (everything, everywhere): a token with ``*``, nobody's, of no organization."""
        everything = self.grants.get(("general", "scope", "*")) == ANY
        return everything and self.kind == "token" and self.owner.id is None and self.org.id is None

    @property
    def identity(self) -> str:
        """One name for whoever this is: the owner's, else ``<kind>:<id>``."""
        return self.alias or self.owner.id or f"{self.kind}:{self.id}"

    def admits(self, now: float, address: str | None) -> bool:
        """Tell whether this is alive, in time at ``now``, and open to ``address``."""
        return self.opens <= now < self.closes and (
            self.networks is None or self.networks.admit(address)
        )

    def named(self, identities: Identities) -> CompiledCredential:
        """Return this with its alias, if it needs one."""
        alias = identities.alias(self.kind, self.id, self.owner)
        return self if alias is None else msgspec.structs.replace(self, alias=alias)

    def closed(self) -> CompiledCredential:
        """Return this as it is once its owner is gone: deactivated."""
        return msgspec.structs.replace(self, deactivated=True, opens=inf, closes=-inf)

    def bounded(self, grants: Grants | None, gone: bool) -> CompiledCredential:  # noqa: FBT001  both are an owner's rights
        """Return this as far as its owner may now: within ``grants``, None for all; nothing once that one is gone."""
        if gone:
            return msgspec.structs.replace(self, granted=NOTHING, not_before=inf, expires_at=-inf)
        if grants is None:
            return self
        return msgspec.structs.replace(self, granted=Granted.of(common_grants(self.grants, grants)))

    def revoke(self) -> CompiledCredential:
        """Return this as it is once it is revoked."""
        return msgspec.structs.replace(self, revoked=True, opens=inf, closes=-inf)

    def refusal(self, now: float, address: str | None) -> Denied:
        """Return why this does not admit: the first fault decides."""
        fault = next(self.faults(now, address), Fault(ALIVE, "deactivated"))
        return Denied(fault.reason, record_id=self.id, address=address)

    def faults(self, now: float, address: str | None) -> Iterator[Fault]:
        """Yield all that speaks against a request at ``now`` from ``address``, in the order in which it counts."""
        if not now < self.superseded_at:
            yield Fault(KNOWN, "unknown_credential")
        if self.deactivated:
            yield Fault(ALIVE, "deactivated")
        if self.revoked:
            yield Fault(ALIVE, "revoked")
        if not now >= self.not_before - self.leeway:
            yield Fault(IN_TIME, "not_yet_valid")
        if not now < self.expires_at + self.leeway:
            yield Fault(IN_TIME, "expired")
        if self.redeem_only:
            yield Fault(IN_TIME, "redemption_required")
        if self.networks is not None and not self.networks.admit(address):
            unknown = address is None or canonical(address) is None
            yield Fault(NETWORK, "address_unknown" if unknown else "address_not_allowed")

    def __repr__(self) -> str:
        return f"Record({self.kind}:{self.id})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("kind", self.kind), ("id", self.id)]


def compile_token(
    *,
    kind: str = "token",
    record_id: str,
    owner: Owner,
    org: Org,
    granted: Granted,
    networks: Networks | None,
    not_before: float | None,
    expires_at: float | None,
    deactivated: bool = False,
    revoked: bool = False,
    superseded_at: float | None = None,
    unseen: bool = False,
    digest: bytes = b"",
) -> CompiledCredential:
    """Return the record of a token, or of one of kind ``refresh``."""
    opens = -inf if not_before is None else not_before
    expires = inf if expires_at is None else expires_at
    superseded = inf if superseded_at is None else superseded_at
    dead = deactivated or revoked
    return CompiledCredential(
        kind=kind,
        id=record_id,
        owner=owner,
        org=org,
        opens=inf if dead else opens,
        closes=-inf if dead else min(expires, superseded),
        networks=networks,
        granted=granted,
        deactivated=deactivated,
        revoked=revoked,
        not_before=opens,
        expires_at=expires,
        superseded_at=superseded,
        unseen=unseen,
        tracks_use=True,
        digest=digest,
    )


def compile_access(
    family: CompiledCredential,
    *,
    granted: Granted,
    networks: Networks | None,
    expires_at: float,
    digest: bytes,
) -> CompiledCredential:
    """Return the record of an access credential: what it and its family, as that is now, both open."""
    if granted is not family.granted:  # as it is where it was not asked to be narrower
        granted = Granted.of(common_grants(granted.grants, family.grants))
    if networks is None or family.networks is None:
        networks = networks or family.networks
    else:
        networks = networks.common(family.networks)
    return msgspec.structs.replace(
        family,
        kind="access",
        closes=min(family.closes, expires_at),
        networks=networks,
        granted=granted,
        expires_at=min(family.expires_at, expires_at),
        digest=digest,
    )


def compile_share(
    *,
    record_id: str,
    shared_by: Owner,
    org: Org,
    scopes: Iterable[str],
    object_ids: Iterable[str],
    networks: Networks | None,
    not_before: float | None,
    expires_at: float,
    revoked: bool,
    redeem_only: bool = False,
    digest: bytes = b"",
) -> CompiledCredential:
    """Compile a share's record: its general scopes, on its objects and nothing else."""
    opens = -inf if not_before is None else not_before
    closed = revoked or redeem_only
    objects = frozenset(object_ids)
    return CompiledCredential(
        kind="share",
        id=record_id,
        owner=Owner(),
        org=org,
        opens=inf if closed else opens,
        closes=-inf if closed else expires_at,
        networks=networks,
        granted=_on(objects, scopes),
        not_before=opens,
        expires_at=expires_at,
        revoked=revoked,
        redeem_only=redeem_only,
        shared_by=shared_by,
        digest=digest,
    )


def compile_redeemed(share: CompiledCredential, until: float, digest: bytes) -> CompiledCredential:
    """Return the record of a token that was redeemed from a share and ends at ``until``, or with the share.

    What the share opens is not copied: a share may be redeemed a thousand times.
    """
    expires = min(until, share.expires_at)
    return msgspec.structs.replace(
        share,
        opens=inf if share.revoked else share.not_before,
        closes=-inf if share.revoked else expires,
        expires_at=expires,
        redeem_only=False,
        digest=digest,
    )


def compile_jwt(
    claims: Claims, trusted: Callable[[float], bool | None] | None, digest: bytes
) -> CompiledCredential:
    """Return the record of an issuer's JWT, as long as it is not revoked: what it stands for is in its claims alone."""
    objects = claims.objects
    granted = _on_any(claims.scopes) if objects is None else _on(objects, claims.scopes)
    starts = [start for start in (claims.not_before, claims.issued_at) if start is not None]
    not_before = max(starts, default=-inf)
    return CompiledCredential(
        kind="jwt",
        id=claims.record_id,
        owner=Owner(claims.subject, idp_id=claims.issuer),
        org=Org(claims.org),
        opens=not_before - claims.leeway,
        closes=claims.expires_at + claims.leeway,
        networks=claims.networks,
        granted=granted,
        not_before=not_before,
        expires_at=claims.expires_at,
        digest=digest,
        leeway=claims.leeway,
        issued_at=claims.issued_at,
        trusted=trusted,
        revocations=claims.revocations,
    )


@lru_cache(maxsize=1024)
def _on_any(scopes: tuple[str, ...]) -> Granted:
    """Return general scopes on any resource: once for all the JWTs that have the same."""
    return _on(ANY, scopes)


def _on(resources: Resources, scopes: Iterable[str]) -> Granted:
    """Return general scopes on these resources."""
    return Granted.of({("general", "scope", scope): resources for scope in scopes})


NOTHING = _on(ANY, ())


def compile_session(owner: Owner, org: Org, allowed_scopes: AllowedScopes) -> CompiledCredential:
    """Return the record of somebody whom the application has logged in: without limits of network and time.

    Its id is no record's: whatever people are called, it begins as no identifier of a token or share does. Those whom
    different providers know by the same id have different ones.
    """
    names = (owner.id,) if owner.idp_id is None else (owner.idp_id, owner.id)
    return CompiledCredential(
        kind="session",
        id="session:" + "/".join(quote(name or "", safe="") for name in names),
        owner=owner,
        org=org,
        opens=-inf,
        closes=inf,
        networks=None,
        granted=Granted.of(compile_grants(allowed_scopes)),
        not_before=-inf,
        expires_at=inf,
    )


def covers(parent: CompiledCredential, child: CompiledCredential) -> bool:
    """Tell whether ``parent`` is at least as wide as ``child``.

    The subset test over grants, networks, time and organization: every request that ``child`` passes,
    ``parent`` passes too.
    """
    return not excess_over(parent, child)


def excess_over(parent: CompiledCredential, child: CompiledCredential) -> list[str]:
    """Return, in words, each way in which ``child`` is wider than ``parent``; empty means covered."""
    wider: list[str] = []
    if child.root and not parent.root:
        wider.append("root")
    if not parent.root:
        wider += [display(key) for key in lacking(parent.grants, child.grants)]
        if parent.org.id != child.org.id:
            wider.append("another organization")
    if parent.networks is not None and (
        child.networks is None or not parent.networks.covers(child.networks)
    ):
        wider.append("networks beyond its own")
    if child.expires_at > parent.expires_at:
        wider.append("a later expiry than its own")
    if child.not_before < parent.not_before:
        wider.append("an earlier start than its own")
    return wider
