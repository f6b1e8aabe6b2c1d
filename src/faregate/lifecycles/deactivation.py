"""Closing tokens and opening them again: whose word counts, and what comes after a leak.

A token that leaked is closed with all that came from it: what it made, what it minted a secret of by rotation, and
what those made and minted. Whoever had the secret may have the secrets of all these, so none of them is activated
before a rotation has replaced its own.

Each of these is one step of a transaction, for an actor that reaches the token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from faregate.errors import Conflict, Denied, InvalidInput
from faregate.lifecycles.authority import Actor
from faregate.lifecycles.token_fields import Values, token_of
from faregate.model import Closed, Token

if TYPE_CHECKING:
    from faregate.stores.store import Change

REVOKED = "The refresh token was revoked, which is final. Create a new one."
LEAKED = "The token was closed as leaked. Rotate it with leaked=true, which leaves it deactivated; then activate it."
Switch = Callable[["Change", Actor, Values, "str | None", float], Token]


def deactivate(
    change: Change,
    actor: Actor,
    row: Values,
    reason: str | None,
    now: float,
    *,
    leaked: bool = False,
) -> Token:
    """Close a token. Of one that is closed nothing changes, unless this is an admin's and that was its owner's."""
    values = _closing(actor, row, reason, now, leaked=leaked)
    if not values:
        return token_of(row)
    return actor.amend(change, now, "token.deactivate", row, values, {"reason": reason})


def activate(change: Change, actor: Actor, row: Values, reason: str | None, now: float) -> Token:
    """Open a token again, for who closed it or an admin; else Denied. Conflict for one that was revoked or leaked."""
    if row["revoked_at"] is not None:
        raise Conflict(REVOKED)
    if not row["deactivated"]:
        return token_of(row)
    require_activation(actor, row)
    if row["leaked"]:
        raise Conflict(LEAKED)
    values = _switched(actor, reason, now, deactivated=False, by_admin=False)
    return actor.amend(change, now, "token.activate", row, values, {"reason": reason})


def require_activation(actor: Actor, row: Values) -> None:
    """Raise Denied unless an actor may open a deactivated token: an admin, or whoever closed it."""
    mine = row["deactivated_by"] == actor.key and not row["deactivated_by_admin"]
    if not (actor.admin or mine):
        raise Denied(
            "insufficient_scope",
            "Another actor deactivated this token; only that one or an admin can activate it.",
            record_id=actor.id,
        )


def close_descent(
    change: Change, actor: Actor, leaked: Values, reason: str | None, now: float
) -> Closed:
    """Close whatever comes from a leaked token, and end the graces of all of it; return what was closed.

    Access credentials are gone then, too, so that no activation brings them back.
    Whoever had the secret could have made all this, so it is not asked whether the actor reaches it.
    """
    line = change.lineage(leaked["id"])
    change.refresh.delete_access_of(line)
    change.refresh.forget_exchanges(line)
    change.tokens.end_graces(line)

    others = [row for row in change.tokens.of(line) if row["id"] != leaked["id"]]
    changes = [(row, _closing(actor, row, reason, now, leaked=True)) for row in others]
    tokens = [(row, values) for row, values in changes if values]
    for values in _distinct(values for _, values in tokens):
        alike = (row["id"] for row, its in tokens if its == values)
        change.tokens.update({**values, "updated_at": now}, *alike)

    shares = [row for row in change.shares.made_by(line) if row["revoked_at"] is None]
    change.shares.update({"revoked_at": now, "updated_at": now}, *(row["id"] for row in shares))

    details = {"reason": reason, "leaked": leaked["id"]}
    closed = [
        *(("token.deactivate", row) for row, _ in tokens),
        *(("share.revoke", row) for row in shares),
    ]
    change.enter(*(actor.entry(now, action, row, details) for action, row in closed))
    shut = tuple(row["id"] for row, values in tokens if "deactivated" in values)
    return Closed(shut, tuple(row["id"] for row in shares))


def check_leaked(leaked: object) -> bool:
    """Return whether a leak is told; InvalidInput for what is neither True nor False."""
    if not isinstance(leaked, bool):
        raise InvalidInput("leaked: true or false")
    return leaked


def _closing(actor: Actor, row: Values, reason: str | None, now: float, *, leaked: bool) -> Values:
    """Return the columns that closing a token changes, none where it is closed like that already."""
    values: Values = {"leaked": True} if leaked and not row["leaked"] else {}
    outranks = actor.outranks(row)
    if not row["deactivated"] or (outranks and not row["deactivated_by_admin"]):
        values |= _switched(actor, reason, now, deactivated=True, by_admin=outranks)
    return values


def _distinct(changes: Iterable[Values]) -> list[Values]:
    distinct: list[Values] = []
    for values in changes:
        if values not in distinct:
            distinct.append(values)
    return distinct


def _switched(
    actor: Actor, reason: str | None, now: float, *, deactivated: bool, by_admin: bool
) -> Values:
    """Return the columns that a deactivation or activation changes."""
    return {
        "deactivated": deactivated,
        "deactivated_updated_by": actor.name,
        "deactivated_updated_on": now,
        "deactivated_reason": reason,
        "deactivated_by_admin": by_admin,
        "deactivated_by": actor.key,
    }
