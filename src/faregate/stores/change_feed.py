"""The entries of the change feed, and the meaning of each action for a cache.

The law: every change of a record writes its entry in the same transaction. A cache drops the
record that an entry names, unless a table below says otherwise. So a new action is safe without
a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from faregate.model import ActorKind

Action = Literal[
    "token.create",
    "token.update",
    "token.rotate",
    "token.deactivate",
    "token.activate",
    "token.delete",
    "token.revoke",
    "token.reuse",
    "access.delete",
    "share.create",
    "share.update",
    "share.revoke",
    "share.redeem",
    "owner.change",
    "store.purge",
    "jwt.revoke",
    "jwt.revoke_subject",
]

OWNER_CHANGED: Action = "owner.change"
PURGED: Action = "store.purge"
JWT_REVOKED: Action = "jwt.revoke"
JWT_SUBJECT_REVOKED: Action = "jwt.revoke_subject"

# After these actions a credential that was unknown may be valid.
MINTING: frozenset[Action] = frozenset({"token.create", "token.rotate", "share.create"})

# These actions change nothing by which a request is judged.
HARMLESS: frozenset[Action] = frozenset({"share.redeem"})

# The subjects of these actions are no records, so their entries belong to no organization.
OF_THE_STORE: tuple[Action, ...] = (OWNER_CHANGED, PURGED, JWT_REVOKED, JWT_SUBJECT_REVOKED)


class Entry(NamedTuple):
    """Holds one entry of the change feed: ``actor`` did ``action`` to ``subject``.

    ``at`` is in epoch seconds. ``subject`` is the id of a record or of an owner, the digest of
    a revoked JWT's claims, or ``store``. ``details`` are encoded as JSON, and hold neither
    a credential nor its digest.

    ``actor`` is a name for people. ``actor_kind`` is the kind of the calling credential, and
    ``actor_id`` the id of its record. The kinds ``root``, ``application`` and ``cli`` have no
    record.
    """

    at: float
    actor: str | None
    action: Action
    subject: str
    org_id: str | None
    details: Any
    actor_kind: ActorKind | None = None
    actor_id: str | None = None
