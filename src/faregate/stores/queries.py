"""The parameters of look-ups and lists, without SQLAlchemy.

The ``*_rows`` modules turn these values into statements. A form of a condition or of a page is a
short text, so that it can be the key under which a statement is cached.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

# The form of every stored id. A text of another form needs no look-up.
ID = re.compile(r"[\x21-\x7e]{1,64}")


class Reach(NamedTuple):
    """Holds the reach of one credential: the records that exist for its holder.

    The credential's own record is always reached. With ``whole_org`` all records of its
    organization are reached, else its owner's records there. A credential without an owner
    reaches the records that it made.
    """

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
    """Return the form of the condition of a reach; None reaches everything."""
    if reach is None:
        return EVERYTHING
    if reach.whole_org:
        return ORG
    if reach.owner_id is None:
        return MADE
    return OWNER


def bounds(reach: Reach | None) -> dict[str, Any]:
    """Return the parameters of the condition of a reach."""
    if reach is None:
        return {}
    return {
        "reach_id": reach.id,
        "reach_org_id": reach.org_id,
        "reach_owner_id": reach.owner_id,
        "reach_owner_idp_id": reach.owner_idp_id,
    }


class Place(NamedTuple):
    """Holds the place of a record in a list: its sort key, and its id among equal keys."""

    value: str | float | None
    id: str


Beginning = Literal["first", "after_nothing", "after_value"]
FIRST: Beginning = "first"
AFTER_NOTHING: Beginning = "after_nothing"
AFTER_VALUE: Beginning = "after_value"


def beginning(after: Place | None) -> Beginning:
    """Return the form of a page's beginning.

    A page begins with the first record, after a record without a sort key, or after a record with a
    sort key.
    """
    if after is None:
        return FIRST
    if after.value is None:
        return AFTER_NOTHING
    return AFTER_VALUE


class TokenQuery(NamedTuple):
    """Holds the filters, order and page of a list of tokens; None does not filter.

    ``expires_before`` is in epoch seconds, ``sort`` the name of a column.
    """

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
    """Holds the filter and page of a list of shares.

    Shares of ``object_id`` are listed, or all shares if it is None.
    """

    object_id: str | None = None
    limit: int = 100
    offset: int = 0
    after: Place | None = None


class FeedQuery(NamedTuple):
    """Holds the range of a list of feed entries.

    ``after`` is a sequence, exclusive. ``since`` is an instant in epoch seconds, inclusive. Without
    both, the newest entries are listed.
    """

    after: int | None = None
    since: float | None = None
    subject: str | None = None
    limit: int = 100

    @property
    def newest(self) -> bool:
        """Whether the newest entries are listed."""
        return self.after is None and self.since is None
