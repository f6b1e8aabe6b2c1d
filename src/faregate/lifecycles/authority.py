"""Authority of actors: the calls that they may make, and the records that they reach.

Every rule about tokens, shares and their owners stands here, once for each.

===========  =====================================================================================
actor        reach
===========  =====================================================================================
root         Every record. The application, the command line, and a token with ``*`` that has
             neither owner nor organization.
admin        Every record of its organization. A credential that grants ``gate:admin``.
owner        The records with the same ``(org.id, owner.idpId, owner.id)``.
ownerless    Its own record, and the records that it made.
===========  =====================================================================================

A record outside of the reach does not exist for the actor. A call needs a scope of :data:`NEEDS`,
whatever the reach.

A principal is judged in the transaction of the call, by its record in this transaction. If the
credential was narrowed, deactivated or rotated after the request began, the call is refused.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from faregate.decision.compiled import excess_over
from faregate.decision.principal import Principal
from faregate.errors import Denied, InvalidInput, NotFound
from faregate.fields.field import network_columns, org_columns, owner_columns
from faregate.fields.token_fields import token_of
from faregate.model import ActorKind, Org, Owner
from faregate.stores.change_feed import Entry
from faregate.stores.queries import Reach
from faregate.values.grants import lacking, met
from faregate.values.identifiers import is_id
from faregate.values.identities import KINDS
from faregate.values.names import MAX_ID, abbreviated, check_name
from faregate.values.needs import display

if TYPE_CHECKING:
    from collections.abc import Iterable

    from faregate.decision.compiled import CompiledCredential
    from faregate.fields.field import Columns, Row
    from faregate.model import Token
    from faregate.stores.change_feed import Action
    from faregate.stores.store import Change, Reading


ADMIN = "gate:admin"
READ = "gate:tokens:read"
WRITE = "gate:tokens:write"
READ_SHARES = "gate:shares:read"
WRITE_SHARES = "gate:shares:write"

# Kinds of actors without a credential.
ROOT: Final = "root"
APPLICATION: Final = "application"
CLI: Final = "cli"

SELF = "self"

Call = Literal[
    "token.create",
    "token.get",
    "token.list",
    "token.update",
    "token.rotate",
    "token.deactivate",
    "token.activate",
    "token.delete",
    "token.deactivate_many",
    "token.activate_many",
    "token.introspect",
    "share.create",
    "share.get",
    "share.list",
    "share.update",
    "share.revoke",
    "share.redeem",
    "audit.list",
]


class CallNeed(NamedTuple):
    """The scope that a call needs, and the scope that it needs for the caller's own token."""

    scope: str
    own_scope: str | None


NEEDS: dict[Call, CallNeed] = {
    "token.create": CallNeed(WRITE, WRITE),
    "token.get": CallNeed(READ, None),
    "token.list": CallNeed(READ, READ),
    "token.update": CallNeed(WRITE, WRITE),
    "token.rotate": CallNeed(WRITE, None),
    "token.deactivate": CallNeed(WRITE, None),
    "token.activate": CallNeed(WRITE, WRITE),
    "token.delete": CallNeed(WRITE, None),
    "token.deactivate_many": CallNeed(WRITE, WRITE),
    "token.activate_many": CallNeed(WRITE, WRITE),
    "token.introspect": CallNeed(READ, READ),
    "share.create": CallNeed(WRITE_SHARES, WRITE_SHARES),
    "share.get": CallNeed(READ_SHARES, READ_SHARES),
    "share.list": CallNeed(READ_SHARES, READ_SHARES),
    "share.update": CallNeed(WRITE_SHARES, WRITE_SHARES),
    "share.revoke": CallNeed(WRITE_SHARES, WRITE_SHARES),
    "share.redeem": CallNeed(READ_SHARES, READ_SHARES),
    "audit.list": CallNeed(ADMIN, ADMIN),
}


class CommandLine(msgspec.Struct, frozen=True):
    """The command line as an actor. It is root under any name; the name is recorded."""

    name: str = CLI


ActorName = CommandLine | str | None  # an actor without a credential
By = Principal | ActorName


class Actor(msgspec.Struct, frozen=True):
    """The actor of a management call.

    ``name`` is recorded for people. ``kind`` is the credential's, or ``root``, ``application`` or
    ``cli``. ``principal`` is None for an actor without a credential, which is root.

    Actors are compared by :attr:`key`, never by their names.
    """

    name: str
    kind: ActorKind
    principal: Principal | None = None

    @classmethod
    def of(cls, by: By) -> Actor:
        """Return the actor that ``by=`` of a call names.

        None is root. A text is trusted and recorded. A principal is judged by its credential.

        Raises InvalidInput for a text that is not a name.
        """
        match by:
            case None:
                return cls(ROOT, ROOT)
            case Principal():
                return cls(by.identity, by.kind, by)
            # An identity may join two names: the provider's and the owner's.
            case CommandLine(name=name):
                return cls(check_name(name, "by", 2 * MAX_ID), CLI)
            case _:
                return cls(check_name(by, "by", 2 * MAX_ID), APPLICATION)

    @property
    def compiled(self) -> CompiledCredential | None:
        """The compiled credential by which the actor is judged; None without a credential."""
        if self.principal is None:
            return None
        return self.principal.compiled

    @property
    def id(self) -> str | None:
        """The id of the actor's record; None without a credential."""
        if self.principal is None:
            return None
        return self.principal.compiled.id

    @property
    def key(self) -> str:
        """The identity for comparisons: the owner in its organization, else the record or kind."""
        own = self.compiled
        if own is None:
            return self.kind
        if own.owner.id is None:
            return f"{own.kind}:{own.id}"
        return msgspec.json.encode((own.org.id, own.owner.idp_id, own.owner.id)).decode()

    @property
    def maker(self) -> str | None:
        """The maker that new records remember: the record's id, else the name; None for root."""
        if self.id is not None or self.kind == ROOT:
            return self.id

        # A record reaches the records that it made. A name in the form of its id must not add any.
        kinds = tuple(f"{kind}:" for kind in KINDS)
        if is_id(self.name) or self.name.startswith(kinds):
            return f"{self.kind}:{self.name}"
        return self.name

    @property
    def root(self) -> bool:
        """True if every call is allowed and every record is reached."""
        return self.compiled is None or self.compiled.root

    @property
    def admin(self) -> bool:
        """True if every record of the organization is reached. Root is admin everywhere."""
        if self.principal is None:
            return True

        # Sessions often carry wildcards, which are not meant to make every login an admin.
        scopes = self.principal.compiled.granted.scopes
        if self.principal.kind == "session" and ADMIN not in scopes:
            return False
        return self.principal.allows(ADMIN)

    @property
    def inherited(self) -> Columns:
        """The columns that a new record takes over from the actor if the caller gives no others."""
        own = self.compiled
        if own is None:
            return {
                **network_columns(None),
                "not_before": None,
                "expires_at": None,
                **owner_columns(Owner()),
                **org_columns(Org()),
            }

        return {
            **network_columns(own.networks),
            "not_before": _instant_column(own.not_before, unlimited=-inf),
            "expires_at": _instant_column(own.expires_at, unlimited=inf),
            **owner_columns(own.owner),
            **org_columns(own.org),
        }

    @property
    def reach(self) -> Reach | None:
        """The filter for the rows that exist for this actor; None for all rows."""
        own = self.compiled
        if own is None or own.root:
            return None
        return Reach(own.id, own.org.id, own.owner.id, own.owner.idp_id, whole_org=self.admin)

    def reaches(self, compiled: CompiledCredential) -> bool:
        """Return True if a credential without a row exists for this actor, by the rule of rows."""
        own = self.compiled
        if own is None or own.root:
            return True
        if own.org.id != compiled.org.id:
            return False
        if self.admin:
            return True
        if own.owner.id is None:
            return False

        owner = (own.owner.id, own.owner.idp_id)
        return owner == (compiled.owner.id, compiled.owner.idp_id)

    def outranks(self, token: Row) -> bool:
        """Return True if the owner of a token cannot undo a deactivation by this actor.

        This holds for actors without a credential, and for admins unless they are that owner.
        """
        own = self.compiled
        if own is None:
            return True
        if not self.admin:
            return False

        owner = (own.owner.id, own.owner.idp_id, own.org.id)
        token_owner = (token["owner_id"], token["owner_idp_id"], token["org_id"])
        return own.owner.id is None or owner != token_owner

    def permit(self, call: Call, record_id: str = "") -> bool:
        """Raise Denied unless the actor may make this call; return True if it is about itself.

        ``gate:admin`` extends the reach, but replaces no other scope. ``self`` as ``record_id``
        names the calling token. For an access credential it names the record of its refresh token,
        which the credential may only read.

        Raises Denied if the scope of the call is missing, and NotFound for ``self`` from a
        credential that is no token.
        """
        about_itself = self._names_itself(call, record_id)
        if about_itself and self.kind == "access" and call != "token.get":
            raise Denied(
                "insufficient_scope",
                "An access credential may read the record of its refresh token, but not change it.",
                record_id=self.id,
            )

        need = NEEDS[call].own_scope if about_itself else NEEDS[call].scope
        if self.principal is None or need is None:
            return about_itself

        self.principal.require(need)
        if need == ADMIN and not self.admin:
            raise Denied(
                "insufficient_scope",
                f"A session is an admin only if its scopes name {ADMIN} without a wildcard.",
                scope=[ADMIN],
                record_id=self.id,
            )
        return about_itself

    def _names_itself(self, call: Call, record_id: str) -> bool:
        """Return True if ``record_id`` names the calling token, by ``self`` or by its id."""
        own = self.compiled
        if own is None:
            return False
        if own.kind in ("token", "access"):
            return call.startswith("token.") and record_id in (SELF, own.id)
        if record_id == SELF:
            raise NotFound("'self' names the calling token; this credential is not a token.")
        return False

    def find(self, reading: Reading, record_id: str, call: Call) -> dict[str, Any]:
        """Return the columns of a record that the actor reaches, for a call that it may make.

        The scope is checked before the reach, so that a caller without the scope learns nothing
        about the record.

        Raises Denied if the scope is missing, and NotFound outside of the reach.
        """
        if not isinstance(record_id, str):
            raise InvalidInput("id: expected a text")

        about_itself = self.permit(call, record_id)
        if about_itself:
            record_id = str(self.id)

        kind = call.partition(".")[0]
        rows = reading.tokens if kind == "token" else reading.shares
        row = rows.get(record_id, self.reach)
        if row is None:
            raise NotFound(f"There is no such {kind}.")
        return row

    def require_parties(
        self, after: Row, before: Row, *, owner: Iterable[str], org: Iterable[str]
    ) -> None:
        """Raise Denied if ``after`` names an owner or organization that the actor may not name.

        Another owner than ``before`` needs an admin, another organization needs root. ``owner`` and
        ``org`` are the names of the columns that identify each.
        """
        if any(after[column] != before[column] for column in owner) and not self.admin:
            raise Denied(
                "insufficient_scope",
                "owner: another owner needs gate:admin.",
                record_id=self.id,
            )
        if any(after[column] != before[column] for column in org) and not self.root:
            raise Denied(
                "insufficient_scope",
                "org: another organization needs root.",
                record_id=self.id,
            )

    def require_cover(self, compiled: CompiledCredential) -> None:
        """Raise Denied if ``compiled`` is wider than the actor, or than the rights of its owner.

        The error names every excess.
        """
        if self.principal is None:
            return

        excess = excess_over(self.principal.compiled, compiled)
        if self.principal.rights is not None:
            excess += [display(key) for key in lacking(self.principal.rights, compiled.grants)]

        # A wildcard makes no session an admin, so it must not give gate:admin to a token either.
        plain_session = self.principal.kind == "session" and not self.admin
        if plain_session and met((compiled.grants,), ADMIN, None):
            excess.append(ADMIN)
        if not excess:
            return

        # The credential and its owner's rights may lack the same name.
        excess = list(dict.fromkeys(excess))
        raise Denied(
            "insufficient_scope",
            f"The result would be wider than the calling credential: {abbreviated(excess)}.",
            scope=[name for name in excess if ("general", "scope", name) in compiled.grants],
            record_id=self.id,
        )

    def entry(self, now: float, action: Action, record: Row, details: object) -> Entry:
        """Return the entry of the change feed for an action of this actor on a record."""
        return self.entry_about(now, action, record["id"], record["org_id"], details)

    def entry_about(
        self, now: float, action: Action, subject: str, org_id: str | None, details: object
    ) -> Entry:
        """Return the entry of the change feed for an action on a subject without a record."""
        return Entry(now, self.name, action, subject, org_id, details, self.kind, self.id)

    def amend(
        self,
        change: Change,
        now: float,
        action: Action,
        before: Row,
        changed: Row,
        details: object,
    ) -> Token:
        """Write the changed columns of a token and their entry of the feed; return the new token.

        ``now`` is in epoch seconds, ``before`` holds all columns of the stored row.
        """
        values = {**changed, "updated_at": now}
        change.tokens.update(values, before["id"])

        after = {**before, **values, "version": before["version"] + 1}
        change.enter(self.entry(now, action, after, details))
        return token_of(after)


def _instant_column(seconds: float, *, unlimited: float) -> float | None:
    """Return the column of an instant: None if it is ``unlimited``."""
    if seconds == unlimited:
        return None
    return seconds
