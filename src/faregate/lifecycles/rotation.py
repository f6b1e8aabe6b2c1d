"""Replacing a token's credential: of two at once one wins, and an answer that was lost locks nobody out."""

from __future__ import annotations

import threading
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from faregate.credentials.opaque import digest, family_digest, mint
from faregate.decision.principal import Principal
from faregate.errors import Conflict, InvalidInput
from faregate.lifecycles.authority import SELF, By
from faregate.lifecycles.deactivation import LEAKED, REVOKED, close_descent, require_activation
from faregate.lifecycles.token_fields import REFRESH, Values, limits_of
from faregate.model import Issued
from faregate.values.instants import parse_span

if TYPE_CHECKING:
    from datetime import timedelta

    from faregate.lifecycles.authority import Actor
    from faregate.lifecycles.transactions import Transactions
    from faregate.stores.store import Change

MAX_GRACE = 7 * 86_400.0
SELF_GRACE = 60.0

_LOST = "Another rotation came first; only the current secret can be rotated."
# A principal and a thread. Whoever was identified before a rotation was there together with that one's principal, so
# no other has its ``id``.
_Caller = tuple[int, int]

_REMEMBERED = 4096  # rotations; forgetting one costs nothing but the notice of a collision


class _Done(NamedTuple):
    """A rotation of this process: the digest of the new credential, and who replaced the one that has its grace now."""

    digest: bytes
    caller: _Caller


class Rotation:
    """Rotates the tokens of one store."""

    def __init__(self, transactions: Transactions, *, brand: str) -> None:
        self._transactions = transactions
        self._brand = brand
        self._last: dict[str, _Done] = {}  # by token, in this process

    def rotate(
        self, token_id: str, grace: timedelta | float | None, *, leaked: bool, by: By
    ) -> Issued:
        """Give a token a new credential, as :meth:`faregate.lifecycles.tokens.Tokens.rotate` says."""
        span = None if grace is None else parse_span(grace, "grace")
        if span is not None and span > MAX_GRACE:
            raise InvalidInput("grace: at most 7 days")
        own = by.id if token_id == SELF and isinstance(by, Principal) else token_id
        seen = self._last.get(own)
        current = self._current(token_id, by)
        # Transactions of this process come one after the other, so the later of two rotations at once would
        # find the earlier one's secret and replace it: who began before that one ended has lost.
        if self._last.get(own) != seen:
            raise Conflict(_LOST)
        return self._replace(token_id, current, span, by, leaked=leaked)

    def _current(self, token_id: str, by: By) -> bytes | None:
        """Return the digest that a rotation by ``by`` replaces: of a family, what its credentials have in common.

        Exchanges, which may come at any time, leave that as it is, and so the rotation goes through.
        A credential that was current when the request was identified, and is not now, has lost to another rotation,
        unless that was this caller's own: then its answer may be what was lost.
        """
        with self._transactions.reading(by, self._transactions.now()) as (reading, actor):
            row = actor.find(reading, token_id, "token.rotate")
            if row["type"] == REFRESH:
                return reading.refresh.line(row["id"])
            current = reading.tokens.current_digest(row["id"])
        if isinstance(by, Principal) and by.id == row["id"]:
            last = self._last.get(by.id)
            replaced = by.compiled.digest != current and by.compiled.superseded_at == inf
            if replaced and (last is None or last.caller != _caller(by)):
                raise Conflict(_LOST)
        return current

    def _replace(
        self, token_id: str, current: bytes | None, span: float | None, by: By, *, leaked: bool
    ) -> Issued:
        """Replace the credential, or raise Conflict if what was ``current`` is so no longer."""
        now = self._transactions.now()
        with self._transactions.changing(by, now) as (change, actor):
            row = actor.find(change, token_id, "token.rotate")
            itself = actor.id == row["id"]
            if not itself:
                actor.require_cover(limits_of(row))
            refresh = row["type"] == REFRESH
            if refresh and span:
                raise InvalidInput("grace: a refresh token has none; it is replaced at once")
            _check_alive(row, now, actor, leaked=leaked)
            if refresh:
                still = change.refresh.line(row["id"]) == current
                current = change.tokens.current_digest(row["id"]) if still else None
            again = itself and actor.compiled is not None and actor.compiled.digest != current
            if current is None or (again and not change.tokens.is_unseen(current)):
                raise Conflict(_LOST)
            secret = mint(self._brand, "rft" if refresh else "tok")
            details: Values = {"leaked": True} if leaked else {}
            if again and not leaked:
                swapped = change.tokens.replace_unseen(row["id"], current, digest(secret))
            else:
                span = 0.0 if leaked else SELF_GRACE if itself and span is None else span or 0.0
                ends = min(now + span, row["expires_at"] or now + span) if span else None
                swapped = change.tokens.replace_secret(row["id"], current, digest(secret), ends)
                details |= {"grace": span}
            if not swapped:
                raise Conflict(_LOST)
            if refresh:
                change.refresh.found(row["id"], family_digest(secret))
            closed = close_descent(change, actor, row, None, now) if leaked else None
            _keep_minter(change, actor, row, leaked=leaked)
            last = self._last.get(row["id"]) if again and not leaked else None
            if len(self._last) >= _REMEMBERED:
                self._last.clear()
            # Before the commit: whoever finds the new credential finds this, too.
            self._last[row["id"]] = _Done(digest(secret), last.caller if last else _caller(by))
            values = {"rotated_at": now, "leaked": False} if row["leaked"] else {"rotated_at": now}
            token = actor.amend(change, now, "token.rotate", row, values, details)
            return Issued(msgspec.structs.replace(token, closed=closed), secret)


def _caller(by: By) -> _Caller:
    return id(by), threading.get_ident()


def _keep_minter(change: Change, actor: Actor, row: Values, *, leaked: bool) -> None:
    """Keep whose credential knows the new one, for the case that it leaks; after a leak nobody's knows an older one.

    Whoever comes from the token itself may be the thief, who would wipe out where the secret came from.
    """
    if leaked and actor.id not in change.lineage(row["id"]):
        change.tokens.forget_minters(row["id"])
    if actor.kind in ("token", "access") and actor.id != row["id"]:
        change.tokens.descend(row["id"], str(actor.id))


def _check_alive(row: Values, now: float, actor: Actor, *, leaked: bool) -> None:
    """Raise Conflict for a token that cannot be rotated as it is.

    One that was closed as leaked is rotated with ``leaked``, by whoever may activate it; else Denied.
    """
    if row["revoked_at"] is not None:
        raise Conflict(REVOKED)
    if row["expires_at"] is not None and row["expires_at"] <= now:
        raise Conflict("An expired token cannot be rotated; replace it.")
    if not row["deactivated"]:
        return
    if not row["leaked"]:
        raise Conflict("A deactivated token cannot be rotated; activate or replace it.")
    if not leaked:
        raise Conflict(LEAKED)
    require_activation(actor, row)
