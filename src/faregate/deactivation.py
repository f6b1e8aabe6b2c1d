"""Closing tokens and opening them again: whose word counts, and what comes after a leak.

Each of these is one step of a transaction, for an actor that reaches the token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from faregate.actors import Actor
from faregate.errors import Conflict, Denied, InvalidInput
from faregate.members import Values, token_of
from faregate.model import Token

if TYPE_CHECKING:
    from faregate.stores.sql import Change

REVOKED = "The refresh token was revoked, which is final. Create a new one."
Switch = Callable[["Change", Actor, Values, "str | None", float], Token]


def deactivate(change: Change, actor: Actor, row: Values, reason: str | None, now: float) -> Token:
    """Close a token. Of one that is closed nothing changes, unless this is an admin's and that was its owner's."""
    if row["deactivated"] and not _takes_over(actor, row):
        return token_of(row)
    values = _switched(actor, reason, now, deactivated=True, by_admin=actor.outranks(row))
    return actor.amend(change, now, "token.deactivate", row, values, {"reason": reason})


def activate(change: Change, actor: Actor, row: Values, reason: str | None, now: float) -> Token:
    """Open a token again, for who closed it or an admin; else Denied. Conflict for one that was revoked."""
    if row["revoked_at"] is not None:
        raise Conflict(REVOKED)
    if not row["deactivated"]:
        return token_of(row)
    mine = row["deactivated_updated_by"] == actor.name and not row["deactivated_by_admin"]
    if not (actor.admin or mine):
        raise Denied(
            "insufficient_scope",
            "Another actor deactivated this token; only that one or an admin can activate it.",
            record_id=actor.id,
        )
    values = _switched(actor, reason, now, deactivated=False, by_admin=False)
    return actor.amend(change, now, "token.activate", row, values, {"reason": reason})


def close_lineage(change: Change, actor: Actor, leaked: Values, reason: str | None, now: float) -> None:
    """Deactivate every token and revoke every share that a leaked token made, or one that it made, and so on.

    What was exchanged from them is gone, too, so that no activation brings it back.
    Whoever had the secret could have made them, so it is not asked whether the actor reaches them.
    """
    line = change.lineage(leaked["id"])
    change.refresh.delete_access_of(line)
    tokens = [row for row in change.tokens.made_by(line) if row["id"] != leaked["id"]]
    tokens = [row for row in tokens if not row["deactivated"] or _takes_over(actor, row)]
    for by_admin in (False, True):
        ids = [row["id"] for row in tokens if actor.outranks(row) is by_admin]
        change.tokens.update(_switched(actor, reason, now, deactivated=True, by_admin=by_admin), *ids)
    shares = [row for row in change.shares.made_by(line) if row["revoked_at"] is None]
    change.shares.update({"revoked_at": now, "updated_at": now}, *(row["id"] for row in shares))
    details = {"reason": reason, "leaked": leaked["id"]}
    closed = [*(("token.deactivate", row) for row in tokens), *(("share.revoke", row) for row in shares)]
    change.enter(*(actor.entry(now, action, row, details) for action, row in closed))


def check_leaked(leaked: object) -> bool:
    """Return whether a leak is told; InvalidInput for what is neither True nor False."""
    if not isinstance(leaked, bool):
        raise InvalidInput("leaked: true or false")
    return leaked


def _takes_over(actor: Actor, row: Values) -> bool:
    """Tell whether a deactivation by this actor counts beside the one that there is."""
    return actor.outranks(row) and not row["deactivated_by_admin"]


def _switched(actor: Actor, reason: str | None, now: float, *, deactivated: bool, by_admin: bool) -> Values:
    """Return the columns that a deactivation or activation changes."""
    return {
        "deactivated": deactivated,
        "deactivated_updated_by": actor.name,
        "deactivated_updated_on": now,
        "deactivated_reason": reason,
        "deactivated_by_admin": by_admin,
        "updated_at": now,
    }
