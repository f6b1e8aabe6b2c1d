"""What the change feed keeps of a change: values that :mod:`faregate.stores.store` writes."""

from __future__ import annotations

from typing import Any, NamedTuple

OWNER_CHANGED = "owner.change"  # an entry about an owner by his id, not about a record
PURGED = "store.purge"
JWT_REVOKED, JWT_SUBJECT_REVOKED = (
    "jwt.revoke",
    "jwt.revoke_subject",
)  # about JWTs, which have no record
OF_THE_STORE = (
    OWNER_CHANGED,
    PURGED,
    JWT_REVOKED,
    JWT_SUBJECT_REVOKED,
)  # what is about no record, and so in no organization


class Entry(NamedTuple):
    """One entry of the change feed: what ``actor`` did to ``subject``. Never holds a credential or digest.

    ``actor`` is a name for people. ``actor_kind`` and ``actor_id`` tell who it was: the kind of the credential and the
    id of its record, or ``root``, ``application`` or ``cli``, which have no record.
    """

    at: float
    actor: str | None
    action: str
    subject: str
    org_id: str | None
    details: Any
    actor_kind: str | None = None
    actor_id: str | None = None
