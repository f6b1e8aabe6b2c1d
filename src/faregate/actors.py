"""Who carries out a management call, and whom that reaches.

*Root* is the application itself, or a token with ``*`` that is nobody's and of no organization. An *admin*
holds ``gate:admin`` and reaches its organization. An *owner* reaches the records with its own
``(org.id, owner.idpId, owner.id)``, an ownerless credential itself and what it made. What is not reached
does not exist for the actor. Everything about who may do what to a token is said here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from faregate.errors import Denied, NotFound
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
READ = "gate:tokens:read"
WRITE = "gate:tokens:write"
ROOT = "root"
# The scope that each call demands, and the one that it demands of the token itself.
NEEDS: dict[str, tuple[str, str | None]] = {
    "create": (WRITE, WRITE),
    "get": (READ, None),
    "list": (READ, READ),
    "update": (WRITE, WRITE),
    "rotate": (WRITE, None),
    "deactivate": (WRITE, None),
    "activate": (WRITE, WRITE),
    "delete": (WRITE, None),
}


class Actor(msgspec.Struct, frozen=True):
    """Who acts: ``name`` is recorded; ``record`` is None for the application itself, which is root."""

    name: str
    record: Record | None = None

    @classmethod
    def of(cls, by: Principal | str | None) -> Actor:
        """Return the actor of ``by=``: nobody is root, a text is recorded and trusted, a principal is judged."""
        if isinstance(by, Principal):
            return cls(by.identity, by.record)
        if by is None:
            return cls(ROOT)
        return cls(check_name(by, "by"))

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

    def permit(self, call: str, token_id: str = "") -> bool:
        """Raise Denied unless the actor may make this call; tell whether it is about the actor's own token.

        ``gate:admin`` adds reach, and no calls.
        """
        itself = self.id is not None and token_id in ("self", self.id)
        need = NEEDS[call][itself]
        if self.record is not None and need is not None:
            Principal(self.record).require(need)
        return itself

    def find(self, reading: Reading, token_id: str, call: str) -> dict[str, Any]:
        """Return the columns of a token that the actor reaches, for a call that it may make.

        The scope comes first, then the reach: who may not call learns nothing.
        """
        itself = self.permit(call, token_id)
        row = reading.token(str(self.id) if itself else token_id, self.reach)
        if row is None:
            raise NotFound("There is no such token.")
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
