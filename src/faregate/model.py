"""The values that records are made of. Frozen, without behaviour beyond how they show themselves."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  msgspec reads the annotations when it runs
from typing import Any, Generic, Literal, TypeVar

import msgspec

Kept = Literal["ROLES", "PERMISSIONS"]
State = Literal["live", "expired", "revoked", "deactivated"]


class Owner(msgspec.Struct, frozen=True, rename={"idp_id": "idpId"}, forbid_unknown_fields=True):
    """Whose token it is. A null ``id`` means nobody's, and equals no other owner."""

    id: str | None = None
    name: str | None = None
    acct: str | None = None
    domain: str | None = None
    idp_id: str | None = None


class Org(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The organization of a record. A null ``id`` is the one organization of those that have none."""

    id: str | None = None
    name: str | None = None


class PermissionGrant(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A permission, on the named resources or, where ``resources`` is null or ``["*"]``, on any."""

    permission_id: str
    resources: tuple[str, ...] | None = None


class RoleGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A role, on one resource or, where ``resource`` is null or ``*``, on any."""

    name: str
    resource: str | None = None


class RealmScopes(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True
):
    """Permissions and roles of one realm: the organization, or a service."""

    all_permissions: bool = False
    all_roles: bool = False
    kept_in_token: tuple[Kept, ...] = ()
    permissions: tuple[PermissionGrant, ...] = ()
    roles: tuple[RoleGrant, ...] = ()


class ServiceScopes(
    RealmScopes, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True
):
    """Permissions and roles of the service with this id."""

    service_definition_id: str


class AllowedScopes(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True
):
    """Everything that a token grants. :mod:`faregate.values.scopes` says what it means."""

    general_scopes: tuple[str, ...] = ()
    organization_scopes: RealmScopes = RealmScopes()
    services_scopes: tuple[ServiceScopes, ...] = ()


# Made while one thread loads this: several that use a type of msgspec's for the first time at once end the process.
ALLOWED_SCOPES = msgspec.json.Decoder(AllowedScopes)


class Closed(msgspec.Struct, frozen=True):
    """What a leak closed beside the token itself: the ids of tokens that were deactivated, and of shares revoked."""

    tokens: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What was closed, for people."""
        ids = [*(f"token {one}" for one in self.tokens), *(f"share {one}" for one in self.shares)]
        return (
            f"What came from it is closed: {', '.join(ids)}."
            if ids
            else "Nothing that came from it is open."
        )


class Token(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The record behind an API token, or a family of refresh tokens. It never holds the credential, nor its digest.

    Instants are aware UTC datetimes. ``version`` counts the changes of the record; ``last_used_at`` is
    written behind and moves it not. ``require_rotation`` and ``revoked_at`` are of type REFRESH alone. ``leaked`` says
    that the token was closed as leaked: it is not activated before a rotation has replaced its credential.
    ``closed`` is no part of the record: it is set in the answer to a call with ``leaked`` alone.
    """

    id: str
    name: str
    description: str | None
    type: str
    scope: tuple[str, ...]
    allowed_scopes: AllowedScopes
    allowed_cidr_blocks: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    rotated_at: datetime | None
    not_before: datetime | None
    expires_at: datetime | None
    last_used_at: datetime | None
    deactivated: bool
    deactivated_updated_by: str | None
    deactivated_updated_on: datetime | None
    deactivated_reason: str | None
    leaked: bool
    require_rotation: bool | None
    revoked_at: datetime | None
    owner: Owner
    org: Org
    made_by: str | None
    version: int
    metadata: dict[str, Any] | None = None
    closed: Closed | None = None


class Issued(msgspec.Struct, frozen=True):
    """A token together with its credential, which is shown here and never again."""

    token: Token
    secret: str

    def __repr__(self) -> str:
        return f"Issued(token={self.token.id!r}, secret=<shown once>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("token", self.token.id), ("secret", "<shown once>")]


class Exchanged(msgspec.Struct, frozen=True, kw_only=True):
    """What exchanging a refresh credential answers (RFC 6749 section 5.1), shown here and never again.

    ``access_token`` is the access credential, which opens the general scopes ``scope`` from ``issued_at`` until
    ``expires_at``; ``refresh_token`` the refresh credential that takes over, None where the old one goes on.
    """

    access_token: str
    issued_at: datetime
    expires_at: datetime
    refresh_token: str | None
    scope: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Exchanged(access_token=<shown once>, expires_at={self.expires_at!r}, scope={self.scope!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [
            ("access_token", "<shown once>"),
            ("expires_at", self.expires_at),
            ("scope", self.scope),
        ]


class Failure(msgspec.Struct, frozen=True):
    """What could not be done to the record of this id, and why."""

    id: str
    message: str


class Batch(msgspec.Struct, frozen=True):
    """What became of a call about many records: the ids that it was done to, and the others."""

    successes: tuple[str, ...]
    failures: tuple[Failure, ...]


class ShareParams(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a share opens and how: scopes, networks (none: any), how often it may be redeemed (null: without end).

    ``attributes`` are the application's own, a JSON object or null.
    """

    scopes: tuple[str, ...]
    allowed_cidr_blocks: tuple[str, ...]
    max_redemptions: int | None
    attributes: dict[str, Any] | None


class Share(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The record that opens a set of objects until it expires. It never holds its secret, nor the digest.

    ``object_id`` is the first of ``object_ids``, which never change. Instants are aware UTC datetimes.
    """

    id: str
    object_id: str
    object_ids: tuple[str, ...]
    params: ShareParams
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    redemptions: int
    state: State
    org: Org
    made_by: str | None


class IssuedShare(msgspec.Struct, frozen=True):
    """A share together with its secret, which is shown here and never again."""

    share: Share
    secret: str

    def __repr__(self) -> str:
        return f"IssuedShare(share={self.share.id!r}, secret=<shown once>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("share", self.share.id), ("secret", "<shown once>")]


class Redeemed(msgspec.Struct, frozen=True, rename="camel"):
    """What a share's redemption answers: a bearer token for its objects, and until when it opens them."""

    token: str
    token_type: str
    expires_at: datetime
    object_ids: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Redeemed(token=<shown once>, expires_at={self.expires_at!r}, object_ids={self.object_ids!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [
            ("token", "<shown once>"),
            ("expires_at", self.expires_at),
            ("object_ids", self.object_ids),
        ]


class Introspected(msgspec.Struct, frozen=True, kw_only=True):
    """What is told about a credential (RFC 7662): nothing but ``active`` to who may not know more.

    ``reason`` is why it is not active, ``kind`` ``token``, ``refresh``, ``access``, ``share`` or ``jwt``. ``record`` is
    what is behind it, which is nothing of a JWT, and ``scope`` the general scopes that it opens now: those of a share
    on its objects alone, those of a refresh token once it is exchanged. Instants are aware UTC datetimes.
    """

    active: bool
    reason: str | None = None
    kind: str | None = None
    scope: tuple[str, ...] = ()
    subject: str | None = None
    username: str | None = None
    issued_at: datetime | None = None
    not_before: datetime | None = None
    expires_at: datetime | None = None
    issuer: str | None = None
    audience: tuple[str, ...] = ()
    token_id: str | None = None
    record: Token | Share | None = None


class AuditEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One change, as the change feed keeps it: what ``actor`` did to ``subject``, a record's id.

    ``actor`` is a name for people. Who it was, ``actor_kind`` and ``actor_id`` tell: the kind of the credential and the
    id of its record (of a JWT, ``jwt:<iss>/<sub>``); or ``root``, ``application`` for what ``by=`` named, ``cli`` for
    the command line, without a record. ``sequence`` grows with each commit; ``org_id`` is the record's organization.
    """

    sequence: int
    at: datetime
    actor: str | None
    action: str
    subject: str
    org_id: str | None
    details: Any
    actor_kind: str | None = None
    actor_id: str | None = None


class AuditPage(msgspec.Struct, frozen=True):
    """Entries in the order of their commits; ``more`` says that newer ones follow, after the last one's sequence."""

    items: tuple[AuditEntry, ...]
    limit: int
    more: bool


class Step(msgspec.Struct, frozen=True, rename="camel"):
    """One of the seven steps of a verification: whether it is passed, or None where it could not be looked at.

    ``reason`` is why it is not, ``words`` say what was found, and ``seen`` holds that as data.
    """

    number: int
    name: str
    passed: bool | None
    reason: str | None
    words: str
    seen: dict[str, Any]


class Explanation(msgspec.Struct, frozen=True):
    """What a request comes to, and why: ``reason`` and ``status`` of the first step that is not passed, else None."""

    allowed: bool
    reason: str | None
    status: int | None
    steps: tuple[Step, ...]


class Purged(msgspec.Struct, frozen=True):
    """How much was removed: entries of the feed, secrets past their grace, deleted makers of nothing that is left.

    And ``revocations`` of JWTs that have expired, and ``access`` credentials that are dead.
    """

    entries: int = 0
    secrets: int = 0
    makers: int = 0
    revocations: int = 0
    access: int = 0


Item = TypeVar("Item", bound=Token | Share)


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """One page of a list: ``items``, and how many there are in ``total``.

    ``next`` is what to give as ``after`` for the page that follows; None where this is the last one.
    """

    items: tuple[Item, ...]
    total: int
    limit: int
    offset: int
    next: str | None = None
