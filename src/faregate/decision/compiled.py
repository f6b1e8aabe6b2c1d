"""The form of a credential in which requests are judged.

Everything that can be worked out before a request is worked out here, once: the interval in which
the credential opens anything, its networks as ranges, its grants as a mapping.
"""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003  msgspec reads the annotation
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import msgspec

from faregate.errors import Denied
from faregate.model import AllowedScopes, Kind, Org, Owner
from faregate.values.grants import ANY, Granted, Grants, Resources, common_grants, lacking
from faregate.values.needs import Key, display
from faregate.values.networks import Networks, canonical
from faregate.values.scopes import compile_grants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from faregate.errors import Reason
    from faregate.jwts.claims import Claims
    from faregate.values.identities import Identities


# The steps of a verification, in their order. From KNOWN on they are about a record.
PRESENTED = 1
WELL_FORMED = 2
KNOWN = 3
ALIVE = 4
IN_TIME = 5
NETWORK = 6
ENOUGH = 7


class Fault(NamedTuple):
    """The step that a credential does not pass, and the reason of the denial."""

    step: int
    reason: Reason


class CompiledCredential(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A credential with everything that a judgement needs. All instants are UTC epoch seconds.

    Identity:

    - ``kind``: ``token``, ``refresh``, ``access``, ``share`` (the secret, or a redeemed token),
      ``jwt`` or ``session``.
    - ``id``: the record's id. An access credential has the id of its family's record.
    - ``digest``: the SHA-256 of the credential's text, its key in the cache.
    - ``owner``, ``org``: the owner and organization. The owner of a share is empty.
    - ``shared_by``: the owner of a share's maker; None for all other kinds.
    - ``alias``: the identity, where the owner's id alone would name another owner; see
      :mod:`faregate.values.identities`.

    Limits:

    - ``opens``, ``closes``: the interval in which the credential opens anything, the end excluded.
      It is empty for a dead credential.
    - ``networks``: the networks that may use it; None for any address.
    - ``granted``: the grants. An access credential has those that its family grants, too.

    State, kept beside the interval to find the reason of a denial:

    - ``not_before``, ``expires_at``: the validity period of the record or of the JWT's claims.
    - ``superseded_at``: the end of the grace after a rotation.
    - ``deactivated``, ``revoked``: whether the record is dead.
    - ``redeem_only``: whether the credential is a share's own, good for redemption alone.

    Uses:

    - ``tracks_use``: whether uses are recorded as ``lastUsedAt``.
    - ``unseen``: whether it is the new credential of a rotation that nobody has presented yet.

    JWTs alone:

    - ``leeway``: seconds by which the issuer's clock may differ.
    - ``issued_at``: the claim ``iat``. A revocation counts for the JWTs issued up to its instant.
    - ``trusted``: tells whether its key is still trusted at an instant; None for good.
    - ``revocations``: the subjects under which the store may have revoked it.
    """

    kind: Kind
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
        """The granted names, each with the resources on which it is granted."""
        return self.granted.grants

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects of change feed entries that concern this credential."""
        return self.revocations or (self.id,)

    @property
    def effective_owner(self) -> Owner:
        """The owner whose rights limit this credential: its own, or the maker of the share."""
        return self.shared_by or self.owner

    @property
    def root(self) -> bool:
        """Whether this is root: a token with ``*`` that has neither owner nor organization."""
        everything = self.grants.get(("general", "scope", "*")) == ANY
        return everything and self.kind == "token" and self.owner.id is None and self.org.id is None

    @property
    def identity(self) -> str:
        """The alias, else the owner's id, else ``<kind>:<id>``."""
        return self.alias or self.owner.id or f"{self.kind}:{self.id}"

    def admits(self, now: float, address: str | None) -> bool:
        """Return True if this is alive, in time at ``now``, and open to ``address``."""
        return self.opens <= now < self.closes and (
            self.networks is None or self.networks.admit(address)
        )

    def named(self, identities: Identities) -> CompiledCredential:
        """Return this with its alias, if it needs an alias."""
        alias = identities.alias(self.kind, self.id, self.owner)
        if alias is None:
            return self
        return msgspec.structs.replace(self, alias=alias)

    def closed(self) -> CompiledCredential:
        """Return this as deactivated, which it is once its owner is gone."""
        return msgspec.structs.replace(self, deactivated=True, opens=inf, closes=-inf)

    def bounded(self, grants: Grants | None, gone: bool) -> CompiledCredential:  # noqa: FBT001  both are an owner's rights
        """Return this within the rights of its owner.

        ``grants`` are the owner's, None for all. A ``gone`` owner's credential opens nothing.
        """
        if gone:
            return msgspec.structs.replace(self, granted=NOTHING, not_before=inf, expires_at=-inf)
        if grants is None:
            return self
        return msgspec.structs.replace(self, granted=Granted.of(common_grants(self.grants, grants)))

    def revoke(self) -> CompiledCredential:
        """Return this as revoked."""
        return msgspec.structs.replace(self, revoked=True, opens=inf, closes=-inf)

    def refusal(self, now: float, address: str | None) -> Denied:
        """Return the denial for the first fault of a request that is not admitted."""
        fault = next(self.faults(now, address), Fault(ALIVE, "deactivated"))
        return Denied(fault.reason, record_id=self.id, address=address)

    def faults(self, now: float, address: str | None) -> Iterator[Fault]:
        """Yield each fault of a request at ``now`` from ``address``, in the order of the steps."""
        # The comparisons are negated, so that NaN is a fault, too.
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
            if address is None or canonical(address) is None:
                yield Fault(NETWORK, "address_unknown")
            else:
                yield Fault(NETWORK, "address_not_allowed")

    def __repr__(self) -> str:
        return f"CompiledCredential({self.kind}:{self.id})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("kind", self.kind), ("id", self.id)]


def compile_token(
    *,
    kind: Kind = "token",
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
    """Return the compiled record of a token, or of a refresh token if ``kind`` is ``refresh``."""
    starts = -inf if not_before is None else not_before
    expires = inf if expires_at is None else expires_at
    superseded = inf if superseded_at is None else superseded_at

    # A secret that was replaced works until its grace is over.
    opens = starts
    closes = min(expires, superseded)
    if deactivated or revoked:
        opens = inf
        closes = -inf

    return CompiledCredential(
        kind=kind,
        id=record_id,
        owner=owner,
        org=org,
        opens=opens,
        closes=closes,
        networks=networks,
        granted=granted,
        deactivated=deactivated,
        revoked=revoked,
        not_before=starts,
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
    """Return the compiled access credential: it opens only as much as its family opens now."""
    # Most access credentials share the grants of their family, which need no intersection.
    if granted is not family.granted:
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
    """Return the compiled record of a share: its general scopes, on its objects alone."""
    starts = -inf if not_before is None else not_before
    objects = frozenset(object_ids)

    # A share that must be redeemed opens nothing by its own secret.
    opens = starts
    closes = expires_at
    if revoked or redeem_only:
        opens = inf
        closes = -inf

    return CompiledCredential(
        kind="share",
        id=record_id,
        owner=Owner(),
        org=org,
        opens=opens,
        closes=closes,
        networks=networks,
        granted=_on(objects, scopes),
        not_before=starts,
        expires_at=expires_at,
        revoked=revoked,
        redeem_only=redeem_only,
        shared_by=shared_by,
        digest=digest,
    )


def compile_redeemed(share: CompiledCredential, until: float, digest: bytes) -> CompiledCredential:
    """Return the compiled token of a redeemed share; it ends at ``until``, or with the share.

    The grants are the share's own and not copied: a share may be redeemed a thousand times.
    """
    expires = min(until, share.expires_at)

    opens = share.not_before
    closes = expires
    if share.revoked:
        opens = inf
        closes = -inf

    return msgspec.structs.replace(
        share,
        opens=opens,
        closes=closes,
        expires_at=expires,
        redeem_only=False,
        digest=digest,
    )


def compile_jwt(
    claims: Claims, trusted: Callable[[float], bool | None] | None, digest: bytes
) -> CompiledCredential:
    """Return the compiled claims of an issuer's JWT. Revocations are not looked up here."""
    if claims.objects is None:
        granted = _on_any(claims.scopes)
    else:
        granted = _on(claims.objects, claims.scopes)

    # A JWT is not valid before it was issued, whatever "nbf" says.
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
    """Return general scopes on any resource, shared by all JWTs with equal scopes."""
    return _on(ANY, scopes)


def _on(resources: Resources, scopes: Iterable[str]) -> Granted:
    """Return general scopes on these resources."""
    return Granted.of({("general", "scope", scope): resources for scope in scopes})


NOTHING = _on(ANY, ())


def compile_session(owner: Owner, org: Org, allowed_scopes: AllowedScopes) -> CompiledCredential:
    """Return the compiled session of a user whom the application has logged in.

    It has no limits of network and time. Its id starts with ``session:``, as the id of no record
    does, and names the provider, so that equal ids of two providers differ.
    """
    names = [owner.id]
    if owner.idp_id is not None:
        names.insert(0, owner.idp_id)
    quoted = [quote(name or "", safe="") for name in names]

    return CompiledCredential(
        kind="session",
        id="session:" + "/".join(quoted),
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
    """Return True if ``parent`` passes every request that ``child`` passes.

    Grants, networks, time and organization are compared as sets.
    """
    return not excess_over(parent, child)


def excess_over(parent: CompiledCredential, child: CompiledCredential) -> list[str]:
    """Return, in words, each limit in which ``child`` is wider than ``parent``."""
    excess: list[str] = []
    if child.root and not parent.root:
        excess.append("root")

    # Root has every grant in every organization. Its networks and its lifetime may be limited.
    if not parent.root:
        excess += [display(key) for key in lacking(parent.grants, child.grants)]
        if parent.org.id != child.org.id:
            excess.append("another organization")

    if parent.networks is not None and (
        child.networks is None or not parent.networks.covers(child.networks)
    ):
        excess.append("networks beyond its own")

    if child.expires_at > parent.expires_at:
        excess.append("a later expiry than its own")
    if child.not_before < parent.not_before:
        excess.append("an earlier start than its own")
    return excess
