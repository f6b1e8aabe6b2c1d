"""Who carries out a management call, and whom that reaches.

*Root* is the application itself, or a token with ``*`` that is nobody's and of no organization. An *admin*
holds ``gate:admin`` and reaches its organization. An *owner* reaches the records with its own
``(org.id, owner.idpId, owner.id)``, an ownerless credential itself and what it made. What is not reached
does not exist for the actor. Everything about who may do what to a token or a share is said here.

A call by a principal is judged in the write's own transaction, on the record that its credential has at that
moment: what was narrowed, deactivated or rotated since the request began counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from faregate.errors import Denied, InvalidInput, NotFound
from faregate.members import limits_of
from faregate.model import Org, Owner
from faregate.principal import Principal
from faregate.record import Record, beyond
from faregate.stores.reach import Reach
from faregate.texts import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from faregate.stores.sql import Reading

    Columns = Mapping[str, Any]

ADMIN = "gate:admin"
READ, WRITE = "gate:tokens:read", "gate:tokens:write"
READ_SHARES, WRITE_SHARES = "gate:shares:read", "gate:shares:write"
ROOT = "root"
# The scope that each call demands, and the one that it demands of the token itself.
NEEDS: dict[str, tuple[str, str | None]] = {
    "token.create": (WRITE, WRITE),
    "token.get": (READ, None),
    "token.list": (READ, READ),
    "token.update": (WRITE, WRITE),
    "token.rotate": (WRITE, None),
    "token.deactivate": (WRITE, None),
    "token.activate": (WRITE, WRITE),
    "token.delete": (WRITE, None),
    "share.create": (WRITE_SHARES, WRITE_SHARES),
    "share.get": (READ_SHARES, READ_SHARES),
    "share.list": (READ_SHARES, READ_SHARES),
    "share.update": (WRITE_SHARES, WRITE_SHARES),
    "share.revoke": (WRITE_SHARES, WRITE_SHARES),
    "share.redeem": (READ_SHARES, READ_SHARES),
}
By = Principal | str | None


class Actor(msgspec.Struct, frozen=True):
    """Who acts: ``name`` is recorded; ``record`` is None for the application itself, which is root."""

    name: str
    record: Record | None = None

    @classmethod
    def of(cls, by: By) -> Actor:
        """Return the actor of ``by=``: nobody is root, a text is recorded and trusted, a principal is judged."""
        if isinstance(by, Principal):
            return cls(by.identity, by.record)
        if by is None:
            return cls(ROOT)
        return cls(check_name(by, "by"))

    @classmethod
    def now(cls, by: By, reading: Reading, now: float) -> Actor:
        """Return the actor of ``by``, a principal with the record that its token has now; Denied if it died."""
        if not isinstance(by, Principal) or by.kind != "token":
            return cls.of(by)
        row = reading.tokens.get(by.id)
        if row is None or not reading.tokens.has_secret(by.record.digest, now):
            raise Denied("unknown_credential", record_id=by.id, address=by.address)
        record = limits_of(row, digest=by.record.digest)
        if not record.admits(now, by.address):
            raise record.refusal(now, by.address)
        return cls.of(Principal(record, by.address))

    @property
    def id(self) -> str | None:
        """The id of the actor's record, if it has one."""
        return None if self.record is None else self.record.id

    @property
    def maker(self) -> str | None:
        """What the records that it makes remember: its record's id, else its name, else nothing."""
        return self.id or (None if self.name == ROOT else self.name)

    @property
    def root(self) -> bool:
        """Whether everything is allowed and reached."""
        return self.record is None or self.record.root

    @property
    def admin(self) -> bool:
        """Whether every record of the organization is reached. Root is admin everywhere."""
        return self.record is None or Principal(self.record).allows(ADMIN)

    def outranks(self, token: Columns) -> bool:
        """Whether this actor is above the owner of a token, so that its deactivation is not the owner's to undo.

        Root and admins are, unless they are that owner; a name that the application gave is, unless it is the
        owner's.
        """
        if self.record is None:
            return self.name == ROOT or self.name != token["owner_id"]
        mine = self.record
        theirs = (token["owner_id"], token["owner_idp_id"], token["org_id"])
        same = (mine.owner.id, mine.owner.idp_id, mine.org.id) == theirs
        return self.admin and not (same and mine.owner.id is not None)

    @property
    def owner(self) -> Owner:
        """The owner of what this actor makes."""
        return Owner() if self.record is None else self.record.owner

    @property
    def org(self) -> Org:
        """The organization of what this actor makes."""
        return Org() if self.record is None else self.record.org

    def permit(self, call: str, record_id: str = "") -> bool:
        """Raise Denied unless the actor may make this call; tell whether it is about the actor's own token.

        ``gate:admin`` adds reach, and no calls. Only a token is ``self``: for any other credential there is none.
        """
        kind = None if self.record is None else self.record.kind
        itself = kind == "token" and call.startswith("token.") and record_id in ("self", self.id)
        if kind not in (None, "token") and record_id == "self":
            raise NotFound("'self' is the token that calls; this credential is none.")
        need = NEEDS[call][itself]
        if self.record is not None and need is not None:
            Principal(self.record).require(need)
        return itself

    def find(self, reading: Reading, record_id: str, call: str) -> dict[str, Any]:
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

    def require_parties(self, after: Columns, before: Columns, *, owner: Iterable[str], org: Iterable[str]) -> None:
        """Raise Denied if another owner is named by less than an admin, or another organization by less than root.

        ``owner`` and ``org`` are the columns that make one.
        """
        if any(after[column] != before[column] for column in owner) and not self.admin:
            raise Denied("insufficient_scope", "owner: only gate:admin names another owner.", record_id=self.id)
        if any(after[column] != before[column] for column in org) and not self.root:
            raise Denied("insufficient_scope", "org: only root names another organization.", record_id=self.id)

    def require_cover(self, record: Record) -> None:
        """Raise Denied, naming what is missing, if ``record`` is wider than the actor."""
        wider = [] if self.record is None else beyond(self.record, record)
        if wider:
            raise Denied(
                "insufficient_scope",
                f"This would be wider than the credential that asks for it: {_some(wider)}.",
                scope=[name for name in wider if ("general", "scope", name) in record.grants],
                record_id=self.id,
            )

    @property
    def reach(self) -> Reach | None:
        """Which records exist for this actor; None for all."""
        if self.record is None or self.record.root:
            return None
        mine = self.record
        return Reach(mine.id, mine.org.id, mine.owner.id, mine.owner.idp_id, whole_org=self.admin)


def _some(names: list[str]) -> str:
    """Return the first names in words; nobody reads a thousand."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
