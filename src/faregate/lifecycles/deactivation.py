"""Deactivates and activates tokens, and closes the lineage of a token that leaked.

The lineage of a token is the token itself, every token that it made or rotated, and the lineages of
these. A thief of its credential may hold the credentials of the whole lineage. So after a leak, no
token of the lineage is activated before a rotation with ``leaked`` has replaced its credential.

The law:

1. A deactivation by an admin or the application outranks a deactivation by the owner.
2. Only the actor of the deactivation, or an admin, activates the token.
3. A revoked family stays revoked. A leaked token is rotated before it is activated.

Each function is a step of a transaction, for an actor that reaches the token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from faregate.errors import Conflict, Denied, InvalidInput
from faregate.fields.field import Columns
from faregate.fields.token_fields import token_of
from faregate.lifecycles.authority import Actor
from faregate.model import Closed, Token

if TYPE_CHECKING:
    from faregate.stores.store import Change

REVOKED = "The refresh token was revoked, which is final. Create a new one."
LEAKED = (
    "The token was closed as leaked. "
    "Rotate it with leaked=true, which leaves it deactivated; then activate it."
)

Switch = Callable[["Change", Actor, Columns, "str | None", float], Token]


def deactivate(
    change: Change,
    actor: Actor,
    row: Columns,
    reason: str | None,
    now: float,
    *,
    leaked: bool = False,
) -> Token:
    """Deactivate a token and return it.

    A repetition changes nothing, with two exceptions: ``leaked`` is added, and an actor above the
    owner takes over the owner's deactivation.
    """
    values = _closing(actor, row, reason, now, leaked=leaked)
    if not values:
        return token_of(row)
    return actor.amend(change, now, "token.deactivate", row, values, {"reason": reason})


def activate(change: Change, actor: Actor, row: Columns, reason: str | None, now: float) -> Token:
    """Activate a deactivated token and return it. A repetition changes nothing.

    Raises Denied unless the actor deactivated the token or is an admin, Conflict for a token that
    was revoked or leaked.
    """
    if row["revoked_at"] is not None:
        raise Conflict(REVOKED)
    if not row["deactivated"]:
        return token_of(row)

    require_activation(actor, row)
    if row["leaked"]:
        raise Conflict(LEAKED)

    values = _switch_columns(actor, reason, now, deactivated=False, by_admin=False)
    return actor.amend(change, now, "token.activate", row, values, {"reason": reason})


def require_activation(actor: Actor, row: Columns) -> None:
    """Raise Denied unless the actor deactivated the token, or is an admin."""
    same_actor = row["deactivated_by"] == actor.key and not row["deactivated_by_admin"]
    if not (actor.admin or same_actor):
        raise Denied(
            "insufficient_scope",
            "Another actor deactivated this token; only that actor or an admin can activate it.",
            record_id=actor.id,
        )


def close_lineage(
    change: Change, actor: Actor, leaked: Columns, reason: str | None, now: float
) -> Closed:
    """Close the lineage of a leaked token, and return the ids of its tokens and shares.

    The leaked token itself loses its graces and access credentials alone; the caller deactivates or
    rotates it. The actor need not reach the records of the lineage, since a thief of the credential
    could have made all of them.
    """
    lineage = change.lineage(leaked["id"])

    # Deleted, so that no activation brings them back.
    change.refresh.delete_access_of(lineage)
    change.refresh.forget_exchanges(lineage)
    change.tokens.end_graces(lineage)

    # Tokens that are closed as leaked already have nothing to change.
    closings: list[tuple[Columns, Columns]] = []
    for row in change.tokens.by_ids(lineage):
        if row["id"] == leaked["id"]:
            continue
        values = _closing(actor, row, reason, now, leaked=True)
        if values:
            closings.append((row, values))
    _write_closings(change, closings, now)

    shares = [row for row in change.shares.made_by(lineage) if row["revoked_at"] is None]
    share_ids = tuple(row["id"] for row in shares)
    change.shares.update({"revoked_at": now, "updated_at": now}, *share_ids)

    details = {"reason": reason, "leaked": leaked["id"]}
    entries = [actor.entry(now, "token.deactivate", row, details) for row, _ in closings]
    entries += [actor.entry(now, "share.revoke", row, details) for row in shares]
    change.enter(*entries)

    # A token that was deactivated before is not named again.
    token_ids = tuple(row["id"] for row, values in closings if "deactivated" in values)
    return Closed(token_ids, share_ids)


def check_leaked(leaked: object) -> bool:
    """Return ``leaked``; raise InvalidInput unless it is True or False."""
    if not isinstance(leaked, bool):
        raise InvalidInput("leaked: true or false")
    return leaked


def _closing(
    actor: Actor, row: Columns, reason: str | None, now: float, *, leaked: bool
) -> Columns:
    """Return the columns that a deactivation changes; none if the token is closed like that."""
    values: Columns = {}
    if leaked and not row["leaked"]:
        values["leaked"] = True

    outranks = actor.outranks(row)
    if not row["deactivated"] or (outranks and not row["deactivated_by_admin"]):
        values |= _switch_columns(actor, reason, now, deactivated=True, by_admin=outranks)
    return values


def _write_closings(
    change: Change, closings: Sequence[tuple[Columns, Columns]], now: float
) -> None:
    """Write the changed columns of tokens; tokens that change alike are written together."""
    groups: list[tuple[Columns, list[str]]] = []
    for row, values in closings:
        for group_values, token_ids in groups:
            if group_values == values:
                token_ids.append(row["id"])
                break
        else:
            groups.append((values, [row["id"]]))

    for values, token_ids in groups:
        change.tokens.update({**values, "updated_at": now}, *token_ids)


def _switch_columns(
    actor: Actor, reason: str | None, now: float, *, deactivated: bool, by_admin: bool
) -> Columns:
    """Return the columns that a deactivation or an activation changes."""
    return {
        "deactivated": deactivated,
        "deactivated_updated_by": actor.name,
        "deactivated_updated_on": now,
        "deactivated_reason": reason,
        "deactivated_by_admin": by_admin,
        "deactivated_by": actor.key,
    }
