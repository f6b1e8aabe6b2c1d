"""Who carries out a management call, and whom that reaches.

*Root* is the application itself, or a token with ``*`` that is nobody's and of no organization. An *admin*
holds ``gate:admin`` and reaches its organization. An *owner* reaches the records with its own
``(org.id, owner.idpId, owner.id)``, an ownerless credential itself and what it made. What is not reached
does not exist for the actor.
"""

from __future__ import annotations

import msgspec

from faregate.errors import Denied
from faregate.model import Org, Owner
from faregate.principal import Principal
from faregate.record import Record, beyond
from faregate.stores.reach import Reach
from faregate.texts import check_name

ADMIN = "gate:admin"
ROOT = "root"


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

    def outranks(self, owner_id: str | None, owner_idp_id: str | None, org_id: str | None) -> bool:
        """Whether this actor is above the owner of a record, so that its deactivation is not the owner's to undo.

        Root and admins are, unless they are that owner; a name that the application gave is, unless it is the
        owner's.
        """
        if self.record is None:
            return self.name == ROOT or self.name != owner_id
        mine = self.record
        same = (mine.owner.id, mine.owner.idp_id, mine.org.id) == (owner_id, owner_idp_id, org_id)
        return self.admin and not (same and owner_id is not None)

    @property
    def owner(self) -> Owner:
        """The owner of what this actor makes."""
        return Owner() if self.record is None else self.record.owner

    @property
    def org(self) -> Org:
        """The organization of what this actor makes."""
        return Org() if self.record is None else self.record.org

    def require(self, need: str) -> None:
        """Raise Denied unless the actor may make calls that need ``need``. ``gate:admin`` is no such need."""
        if self.record is not None:
            Principal(self.record).require(need)

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
