"""Which records exist for whoever asks: values that :mod:`faregate.stores.store` turns into a condition."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

ID = re.compile(r"[\x21-\x7e]{1,64}")  # what an identifier could be; anything else is found nowhere


class Reach(NamedTuple):
    """The reach of one credential: itself, and in its organization all records, its owner's, or what it made."""

    id: str
    org_id: str | None
    owner_id: str | None
    owner_idp_id: str | None
    whole_org: bool


Breadth = Literal["everything", "org", "owner", "made"]
EVERYTHING: Breadth = "everything"
ORG: Breadth = "org"
OWNER: Breadth = "owner"
MADE: Breadth = "made"


def breadth(reach: Reach | None) -> Breadth:
    """Return which records a reach holds beside the credential itself: the form of the condition."""
    if reach is None:
        return EVERYTHING
    if reach.whole_org:
        return ORG
    return MADE if reach.owner_id is None else OWNER


def bounds(reach: Reach | None) -> dict[str, Any]:
    """Return the parameters of the condition."""
    if reach is None:
        return {}
    return {
        "reach_id": reach.id,
        "reach_org_id": reach.org_id,
        "reach_owner_id": reach.owner_id,
        "reach_owner_idp_id": reach.owner_idp_id,
    }


class Place(NamedTuple):
    """The place of a record in a list: its sort key, and the id that tells it from others of the same key."""

    value: str | float | None
    id: str


Beginning = Literal["first", "after_nothing", "after_value"]
FIRST: Beginning = "first"
AFTER_NOTHING: Beginning = "after_nothing"
AFTER_VALUE: Beginning = "after_value"


def beginning(after: Place | None) -> Beginning:
    """Return where a page begins: at the first record, or after one that has no sort key, or some."""
    if after is None:
        return FIRST
    return AFTER_NOTHING if after.value is None else AFTER_VALUE


class TokenQuery(NamedTuple):
    """What a list of tokens is narrowed to, and how it is ordered; None narrows nothing."""

    owner_id: str | None = None
    type: str | None = None
    name: str | None = None
    deactivated: bool | None = None
    expires_before: float | None = None
    sort: str = "created_at"
    descending: bool = True
    limit: int = 100
    offset: int = 0
    after: Place | None = None


class ShareQuery(NamedTuple):
    """What a list of shares is narrowed to: those that hold an object, or None for all."""

    object_id: str | None = None
    limit: int = 100
    offset: int = 0
    after: Place | None = None


class FeedQuery(NamedTuple):
    """Which entries are wanted: after a sequence, from an instant on, or, where both are None, the newest."""

    after: int | None = None
    since: float | None = None
    subject: str | None = None
    limit: int = 100

    @property
    def newest(self) -> bool:
        """Whether the newest are wanted."""
        return self.after is None and self.since is None
