"""Who carries out a management call, and whom that reaches.

*Root* is the application itself, or a token with ``*`` that is nobody's and of no organization. An *admin*
holds ``gate:admin`` and reaches its organization. An *owner* reaches the records with its own
``(org.id, owner.idpId, owner.id)``, an ownerless credential itself and what it made. What is not reached
does not exist for the actor. Everything about who may do what to a token or a share is said here.

A call by a principal is judged in the write's own transaction, on the record that its credential has at that
moment: what was narrowed, deactivated or rotated since the request began counts.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from faregate.decision.compiled import excess_over
from faregate.decision.principal import Principal
from faregate.errors import Denied, InvalidInput, NotFound
from faregate.lifecycles.token_fields import (
    network_columns,
    org_columns,
    owner_columns,
    token_of,
)
from faregate.model import Org, Owner
from faregate.stores.change_feed import Entry
from faregate.stores.queries import Reach
from faregate.values.grants import lacking, met
from faregate.values.identifiers import is_id
from faregate.values.identities import KINDS
from faregate.values.names import MAX_ID, abbreviated, check_name
from faregate.values.needs import display

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from faregate.decision.compiled import CompiledCredential
    from faregate.lifecycles.token_fields import Values
    from faregate.model import Token
    from faregate.stores.store import Change, Reading

    Columns = Mapping[str, Any]

ADMIN = "gate:admin"
READ, WRITE = "gate:tokens:read", "gate:tokens:write"
READ_SHARES, WRITE_SHARES = "gate:shares:read", "gate:shares:write"
ROOT, APPLICATION, CLI = "root", "application", "cli"  # kinds of actors without a credential
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
# The scope that each call demands, and the one that it demands of the token itself.
NEEDS: dict[Call, tuple[str, str | None]] = {
    "token.create": (WRITE, WRITE),
    "token.get": (READ, None),
    "token.list": (READ, READ),
    "token.update": (WRITE, WRITE),
    "token.rotate": (WRITE, None),
    "token.deactivate": (WRITE, None),
    "token.activate": (WRITE, WRITE),
    "token.delete": (WRITE, None),
    "token.deactivate_many": (WRITE, WRITE),
    "token.activate_many": (WRITE, WRITE),
    "token.introspect": (READ, READ),
    "share.create": (WRITE_SHARES, WRITE_SHARES),
    "share.get": (READ_SHARES, READ_SHARES),
    "share.list": (READ_SHARES, READ_SHARES),
    "share.update": (WRITE_SHARES, WRITE_SHARES),
    "share.revoke": (WRITE_SHARES, WRITE_SHARES),
    "share.redeem": (READ_SHARES, READ_SHARES),
    "audit.list": (ADMIN, ADMIN),
}


class CommandLine(msgspec.Struct, frozen=True):
    """Whoever uses the command line, under a name for the record. That is root, whatever the name."""

    name: str = CLI


ActorName = CommandLine | str | None  # who acts without a credential
By = Principal | ActorName


class Actor(msgspec.Struct, frozen=True):
    """Who acts. ``principal`` is None for the application itself, which is root.

    ``name`` is recorded for people. Two actors are the same by ``kind`` and record, never by their names.
    """

    name: str
    kind: str
    principal: Principal | None = None

    @classmethod
    def of(cls, by: By) -> Actor:
        """Return the actor of ``by=``: nobody is root, a text is recorded and trusted, a principal is judged."""
        match by:
            case None:
                return cls(ROOT, ROOT)
            case Principal():
                return cls(by.identity, by.kind, by)
            case CommandLine(name=name):
                return cls(check_name(name, "by", 2 * MAX_ID), CLI)
            case _:  # an identity may be two names
                return cls(check_name(by, "by", 2 * MAX_ID), APPLICATION)

    @property
    def compiled(self) -> CompiledCredential | None:
        """The record by which the actor is judged, if it is."""
        return None if self.principal is None else self.principal.compiled

    @property
    def id(self) -> str | None:
        """The id of the actor's record, if it has one."""
        return None if self.compiled is None else self.compiled.id

    @property
    def key(self) -> str:
        """Who this is, for comparison: its owner in its organization; of what is nobody's, its record."""
        mine = self.compiled
        if mine is None:
            return self.kind
        if mine.owner.id is None:
            return f"{mine.kind}:{mine.id}"
        return msgspec.json.encode((mine.org.id, mine.owner.idp_id, mine.owner.id)).decode()

    @property
    def maker(self) -> str | None:
        """What the records that it makes remember: its record's id, else its name, else nothing."""
        if self.id is not None or self.kind == ROOT:
            return self.id
        # A name that could be the id of a record gives that record no reach.
        could_be = is_id(self.name) or self.name.startswith(tuple(f"{kind}:" for kind in KINDS))
        return f"{self.kind}:{self.name}" if could_be else self.name

    @property
    def root(self) -> bool:
        """Whether everything is allowed and reached."""
        return self.compiled is None or self.compiled.root

    @property
    def admin(self) -> bool:
        """Whether every record of the organization is reached. Root is admin everywhere."""
        if self.principal is None:
            return True
        # Sessions often carry wildcards; only the scope itself makes an admin of whoever is logged in.
        named = self.principal.kind != "session" or ADMIN in self.principal.compiled.granted.scopes
        return named and self.principal.allows(ADMIN)

    @property
    def inherited(self) -> Values:
        """The columns of what it makes that are its own where the caller gives no others."""
        mine = self.compiled
        return {
            **network_columns(None if mine is None else mine.networks),
            "not_before": None if mine is None or mine.not_before == -inf else mine.not_before,
            "expires_at": None if mine is None or mine.expires_at == inf else mine.expires_at,
            **owner_columns(Owner() if mine is None else mine.owner),
            **org_columns(Org() if mine is None else mine.org),
        }

    @property
    def reach(self) -> Reach | None:
        """Which records exist for this actor; None for all."""
        mine = self.compiled
        if mine is None or mine.root:
            return None
        return Reach(mine.id, mine.org.id, mine.owner.id, mine.owner.idp_id, whole_org=self.admin)

    def reaches(self, record: CompiledCredential) -> bool:
        """Tell whether a record that is in no table exists for this actor, by the rule of the others."""
        mine = self.compiled
        if mine is None or mine.root:
            return True
        same_owner = (mine.owner.id, mine.owner.idp_id) == (record.owner.id, record.owner.idp_id)
        return mine.org.id == record.org.id and (
            self.admin or (same_owner and mine.owner.id is not None)
        )

    def outranks(self, token: Columns) -> bool:
        """Whether this actor is above the owner of a token, so that its deactivation is not the owner's to undo.

        The application is, whatever name it gives, and admins are, unless they are that owner.
        """
        if self.compiled is None:
            return True
        mine = self.compiled
        theirs = (token["owner_id"], token["owner_idp_id"], token["org_id"])
        same = (mine.owner.id, mine.owner.idp_id, mine.org.id) == theirs
        return self.admin and not (same and mine.owner.id is not None)

    def permit(self, call: Call, record_id: str = "") -> bool:
        """Raise Denied unless the actor may make this call; tell whether it is about the actor's own token.

        ``gate:admin`` adds reach, and no calls. Only a token is ``self``: for any other credential there is none, save
        that an access credential may read the record that it is of.
        """
        kind = None if self.compiled is None else self.compiled.kind
        itself = (
            kind in ("token", "access")
            and call.startswith("token.")
            and record_id in (SELF, self.id)
        )
        if kind not in (None, "token", "access") and record_id == SELF:
            raise NotFound("'self' is the token that calls; this credential is none.")
        if kind == "access" and itself and call != "token.get":
            raise Denied(
                "insufficient_scope",
                "An access credential may read the record of its refresh token, and change nothing of it.",
                record_id=self.id,
            )
        need = NEEDS[call][itself]
        if self.principal is not None and need is not None:
            self.principal.require(need)
            if need == ADMIN and not self.admin:
                words = f"A session is an admin only where {ADMIN} itself is named."
                raise Denied("insufficient_scope", words, scope=[ADMIN], record_id=self.id)
        return itself

    def find(self, reading: Reading, record_id: str, call: Call) -> dict[str, Any]:
        """Return the columns of a record that the actor reaches, for a call that it may make.

        The scope comes first, then the reach: who may not call learns nothing.
        """
        if not isinstance(record_id, str):
            raise InvalidInput("id: expected a text")
        itself = self.permit(call, record_id)
        kind = call.partition(".")[0]
        rows = reading.tokens if kind == "token" else reading.shares
        row = rows.get(str(self.id) if itself else record_id, self.reach)
        if row is None:
            raise NotFound(f"There is no such {kind}.")
        return row

    def require_parties(
        self, after: Columns, before: Columns, *, owner: Iterable[str], org: Iterable[str]
    ) -> None:
        """Raise Denied if another owner is named by less than an admin, or another organization by less than root.

        ``owner`` and ``org`` are the columns that make one.
        """
        if any(after[column] != before[column] for column in owner) and not self.admin:
            raise Denied(
                "insufficient_scope",
                "owner: only gate:admin names another owner.",
                record_id=self.id,
            )
        if any(after[column] != before[column] for column in org) and not self.root:
            raise Denied(
                "insufficient_scope",
                "org: only root names another organization.",
                record_id=self.id,
            )

    def require_cover(self, record: CompiledCredential) -> None:
        """Raise Denied, naming what is missing, if ``record`` is wider than the actor, or than its owner may now."""
        if self.principal is None:
            return
        wider = excess_over(self.principal.compiled, record)
        if self.principal.rights is not None:
            wider += [display(key) for key in lacking(self.principal.rights, record.grants)]
        if (
            self.principal.kind == "session"
            and not self.admin
            and met((record.grants,), ADMIN, None)
        ):
            wider.append(ADMIN)
        wider = list(dict.fromkeys(wider))
        if wider:
            raise Denied(
                "insufficient_scope",
                f"This would be wider than the credential that asks for it: {abbreviated(wider)}.",
                scope=[name for name in wider if ("general", "scope", name) in record.grants],
                record_id=self.id,
            )

    def entry(self, now: float, action: str, record: Columns, details: object) -> Entry:
        """Return the entry of the change feed that tells what this actor does to a record."""
        return self.entry_about(now, action, record["id"], record["org_id"], details)

    def entry_about(
        self, now: float, action: str, subject: str, org_id: str | None, details: object
    ) -> Entry:
        """Return the entry of the change feed that tells what this actor does to a subject that may be no record."""
        return Entry(now, self.name, action, subject, org_id, details, self.kind, self.id)

    def amend(
        self,
        change: Change,
        now: float,
        action: str,
        before: Columns,
        changed: Columns,
        details: object,
    ) -> Token:
        """Write the changed columns of a token and the entry of the feed; return the token as it is then."""
        values = {**changed, "updated_at": now}
        change.tokens.update(values, before["id"])
        after = {**before, **values, "version": before["version"] + 1}
        change.enter(self.entry(now, action, after, details))
        return token_of(after)
