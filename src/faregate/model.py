"""The values that records are made of.

They are frozen, and have no behaviour but their representation. Secrets do not appear in it.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  msgspec reads the annotations when it runs
from typing import Any, Generic, Literal, TypeVar

import msgspec

from faregate.errors import Reason  # noqa: TC001  msgspec reads the annotations

Kept = Literal["ROLES", "PERMISSIONS"]
State = Literal["live", "expired", "revoked", "deactivated"]
# The kinds of credentials that a request is judged by; a session is one of the application itself.
Kind = Literal["token", "refresh", "access", "share", "jwt", "session"]
# An actor without a credential is the application, by no name or by a name, or the command line.
ActorKind = Kind | Literal["root", "application", "cli"]


class Owner(msgspec.Struct, frozen=True, rename={"idp_id": "idpId"}, forbid_unknown_fields=True):
    """The owner of a token. A null ``id`` means no owner, and equals no other owner."""

    id: str | None = None
    name: str | None = None
    acct: str | None = None
    domain: str | None = None
    idp_id: str | None = None


class Org(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The organization of a record. A null ``id`` stands for all records without any."""

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
    """Everything that a token grants. :mod:`faregate.values.scopes` compiles it into grants."""

    general_scopes: tuple[str, ...] = ()
    organization_scopes: RealmScopes = RealmScopes()
    services_scopes: tuple[ServiceScopes, ...] = ()


# Made while one thread loads this module. Several threads that use a type of msgspec for the first
# time at once would end the process.
ALLOWED_SCOPES = msgspec.json.Decoder(AllowedScopes)


class Closed(msgspec.Struct, frozen=True):
    """The records that a leak closed beside the token: deactivated tokens, and revoked shares."""

    tokens: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The closed records, for people."""
        tokens = [f"token {token_id}" for token_id in self.tokens]
        shares = [f"share {share_id}" for share_id in self.shares]
        if not tokens and not shares:
            return "Nothing that came from it is open."
        return f"The records that came from it are closed: {', '.join(tokens + shares)}."


class Token(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The record of an API token, or of a family of refresh tokens.

    It never holds the credential, nor its digest. Instants are aware UTC datetimes. ``version``
    counts the changes of the record; ``last_used_at`` is written some seconds later and does not
    count. ``require_rotation`` and ``revoked_at`` are only for type REFRESH. A ``leaked`` token is
    not activated before a rotation has replaced its credential. ``metadata`` is the application's
    own. ``closed`` is no part of the record: only the answer to a call with ``leaked`` has it.
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
    """The answer to an exchange of a refresh token (RFC 6749 section 5.1), shown this once.

    ``access_token`` opens the general scopes ``scope`` from ``issued_at`` until ``expires_at``.
    ``refresh_token`` takes over from the exchanged one; None if that goes on.
    """

    access_token: str
    issued_at: datetime
    expires_at: datetime
    refresh_token: str | None
    scope: tuple[str, ...]

    def __repr__(self) -> str:
        shown = f"expires_at={self.expires_at!r}, scope={self.scope!r}"
        return f"Exchanged(access_token=<shown once>, {shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [
            ("access_token", "<shown once>"),
            ("expires_at", self.expires_at),
            ("scope", self.scope),
        ]


class Failure(msgspec.Struct, frozen=True):
    """The failure of a call for the record of this id."""

    id: str
    message: str


class Batch(msgspec.Struct, frozen=True):
    """The outcome of a call about many records: the ids that succeeded, and those that failed."""

    successes: tuple[str, ...]
    failures: tuple[Failure, ...]


class ShareParams(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The scopes and limits of a share.

    An empty list of networks allows every address; ``max_redemptions`` None is no limit.
    ``attributes`` are the application's own, a JSON object or None.
    """

    scopes: tuple[str, ...]
    allowed_cidr_blocks: tuple[str, ...]
    max_redemptions: int | None
    attributes: dict[str, Any] | None


class Share(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The record of a share, which opens a set of objects until it expires.

    It never holds the secret, nor its digest. ``object_id`` is the first of ``object_ids``, which
    never change. Instants are aware UTC datetimes.
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
    """The answer to a redemption: a bearer token for the share's objects, and its end."""

    token: str
    token_type: str
    expires_at: datetime
    object_ids: tuple[str, ...]

    def __repr__(self) -> str:
        shown = f"expires_at={self.expires_at!r}, object_ids={self.object_ids!r}"
        return f"Redeemed(token=<shown once>, {shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [
            ("token", "<shown once>"),
            ("expires_at", self.expires_at),
            ("object_ids", self.object_ids),
        ]


class Introspected(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a credential (RFC 7662). Callers who may not see more get ``active`` alone.

    ``reason`` says why the credential is not active. ``kind`` is ``token``, ``refresh``,
    ``access``, ``share`` or ``jwt``. ``record`` is the record of the credential; a JWT has none.
    ``scope`` holds the general scopes that it opens now: of a share on its objects, of a refresh
    token after an exchange. Instants are aware UTC datetimes.
    """

    active: bool
    reason: str | None = None
    kind: Kind | None = None
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
    """An entry of the change feed: the action of an actor on ``subject``, a record's id.

    ``actor`` is a name for people. ``actor_kind`` and ``actor_id`` identify the actor: the kind of
    its credential, and the id of the record (``jwt:<iss>/<sub>`` for a JWT). Without a record the
    kind is ``root``, ``application`` for a name given as ``by=``, or ``cli`` for the command line.
    ``sequence`` grows with each commit; ``org_id`` is the record's organization.
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
    """Entries in the order of their commits; ``more`` is True if newer entries follow the last."""

    items: tuple[AuditEntry, ...]
    limit: int
    more: bool


class Step(msgspec.Struct, frozen=True, rename="camel"):
    """A step of a verification. ``passed`` is None if it could not be checked.

    ``reason`` says why it is not passed, ``words`` tell the finding, and ``seen`` holds it as data.
    """

    number: int
    name: str
    passed: bool | None
    reason: Reason | None
    words: str
    seen: dict[str, Any]


class Explanation(msgspec.Struct, frozen=True):
    """The outcome of a request, with the reason and status of the first step that fails."""

    allowed: bool
    reason: Reason | None
    status: int | None
    steps: tuple[Step, ...]


class Purged(msgspec.Struct, frozen=True):
    """The numbers of removed rows.

    ``entries`` of the feed, ``secrets`` past their grace, ``makers``: tombstones without
    descendants, ``revocations`` of expired JWTs, and dead ``access`` tokens.
    """

    entries: int = 0
    secrets: int = 0
    makers: int = 0
    revocations: int = 0
    access: int = 0


Item = TypeVar("Item", bound=Token | Share)


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """A page of a list of ``total`` items.

    ``next`` is the value of ``after`` for the following page; None on the last page.
    """

    items: tuple[Item, ...]
    total: int
    limit: int
    offset: int
    next: str | None = None
