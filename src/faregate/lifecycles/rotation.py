"""Replaces the credential of a token. If two callers rotate at once, the first wins.

The states of a credential::

           rotate with a grace                 create, or rotate without a grace
                    |                                        |
                    v                                        v
              +----------+        first presentation    +---------+
              |  UNSEEN  | ---------------------------> | CURRENT |
              +----------+                              +---------+
                |     |        rotate with a grace        |     |
     rotate     |     +----------------+------------------+     |
     again, by  |                      v                        |  rotate
     the caller |                +----------+                   |  without a grace,
     in grace   |                | IN GRACE |                   |  or as leaked
                |                +----------+                   |
                |                      |  grace ends, next      |
                |                      |  rotation, or leak     |
                v                      v                        v
              +-------------------------------------------------+
              |                       DEAD                      |
              +-------------------------------------------------+

The law:

1. At most two credentials of a token live: the CURRENT or UNSEEN credential, and its predecessor
   IN GRACE.
2. A credential IN GRACE opens routes. It rotates only while its successor is UNSEEN: the successor
   dies, and the end of the grace stays. So, with a grace, a lost answer locks nobody out.
3. For a rotation by any other caller, an UNSEEN credential is a CURRENT credential.
4. If another rotation replaced the current credential after a caller was identified by it, the
   caller has lost: Conflict. A caller's own rotation may be repeated while its successor is UNSEEN.
5. The credential of a refresh token has no grace. Its rotation replaces the digest of the family,
   so that every credential of the family dies. Exchanges leave that digest as it is, and so do not
   disturb a rotation.

A rotation is one transaction: if the process dies before the commit, the old credential is still
current. If it dies after the commit, only the answer is lost: the credential IN GRACE rotates
again, and if there is none, another actor rotates the token.
"""

from __future__ import annotations

import threading
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from faregate.credentials.opaque import digest, family_digest, mint
from faregate.decision.principal import Principal
from faregate.errors import Conflict, InvalidInput
from faregate.fields.token_fields import REFRESH
from faregate.lifecycles.authority import SELF, By
from faregate.lifecycles.deactivation import LEAKED, REVOKED, close_lineage, require_activation
from faregate.model import Issued
from faregate.stores.compiled_rows import compile_token_row
from faregate.values.instants import parse_span

if TYPE_CHECKING:
    from datetime import timedelta

    from faregate.fields.field import Columns
    from faregate.lifecycles.authority import Actor
    from faregate.lifecycles.transactions import Transactions
    from faregate.stores.store import Change

MAX_GRACE = 7 * 86_400.0  # seconds
SELF_GRACE = 60.0  # seconds, by default, if a token rotates itself

_LOST = "Another rotation came first; only the current secret may rotate the token."

# A forgotten rotation costs a Conflict where a caller could have repeated it, and nothing more.
_REMEMBERED = 4096  # rotations


class _Caller(NamedTuple):
    """The identity of a caller: the ``id()`` of its principal, and its thread.

    Two requests may present one credential, so their digests are equal. Both principals exist
    before the first of them rotates, so their ``id()`` differs. The thread is added, because two
    threads may share a principal.
    """

    principal: int
    thread: int


class _Rotated(NamedTuple):
    """A rotation of this process: the digest of the new credential, and its caller.

    A repetition keeps the caller of the rotation that it repeats.
    """

    digest: bytes
    caller: _Caller


class Rotation:
    """Rotates the tokens of a store."""

    def __init__(self, transactions: Transactions, *, brand: str) -> None:
        self._transactions = transactions
        self._brand = brand
        self._last: dict[str, _Rotated] = {}  # by token, in this process

    def rotate(
        self, token_id: str, grace: timedelta | float | None, *, leaked: bool, by: By
    ) -> Issued:
        """Give a token a new credential; see :meth:`faregate.lifecycles.tokens.Tokens.rotate`."""
        span = None if grace is None else parse_span(grace, "grace")
        if span is not None and span > MAX_GRACE:
            raise InvalidInput("grace: at most 7 days")

        rotated_id = token_id
        if token_id == SELF and isinstance(by, Principal):
            rotated_id = by.id

        last = self._last.get(rotated_id)
        current = self._current(token_id, by)

        # Transactions of this process follow each other. Without this check, the second of two
        # simultaneous rotations would read the credential of the first, and replace it.
        if self._last.get(rotated_id) != last:
            raise Conflict(_LOST)
        return self._replace(token_id, current, span, by, leaked=leaked)

    def _current(self, token_id: str, by: By) -> bytes | None:
        """Return the digest that a rotation by ``by`` replaces: for a refresh token, its family's.

        Raises Conflict if the caller has lost to another rotation.
        """
        with self._transactions.reading(by, self._transactions.now()) as (reading, actor):
            row = actor.find(reading, token_id, "token.rotate")
            if row["type"] == REFRESH:
                return reading.refresh.digest_of(row["id"])
            current = reading.tokens.current_digest(row["id"])

        if isinstance(by, Principal) and by.id == row["id"]:
            was_current = by.compiled.superseded_at == inf
            if was_current and by.compiled.digest != current:
                # The caller's own rotation may be repeated: its answer may have been lost.
                last = self._last.get(by.id)
                if last is None or last.caller != _caller(by):
                    raise Conflict(_LOST)
        return current

    def _replace(
        self, token_id: str, current: bytes | None, span: float | None, by: By, *, leaked: bool
    ) -> Issued:
        """Replace the credential; raise Conflict if ``current`` was replaced meanwhile."""
        now = self._transactions.now()
        with self._transactions.changing(by, now) as (change, actor):
            row = actor.find(change, token_id, "token.rotate")
            _check_rotation(actor, row, span, now, leaked=leaked)

            replaced = _confirm(change, row, current)
            repeated = _repeats(actor, row, replaced)
            if repeated and not change.tokens.is_unseen(replaced):
                raise Conflict(_LOST)

            # A leak leaves no grace, so its rotation is never a mere repetition.
            repeated = repeated and not leaked
            details: Columns = {}
            if leaked:
                details["leaked"] = True

            secret = mint(self._brand, "rft" if row["type"] == REFRESH else "tok")
            if repeated:
                swapped = change.tokens.replace_unseen(row["id"], replaced, digest(secret))
            else:
                grace = _grace(actor, row, span, leaked=leaked)
                ends = _end_of_grace(row, grace, now)
                swapped = change.tokens.replace_secret(row["id"], replaced, digest(secret), ends)
                details["grace"] = grace
            if not swapped:
                raise Conflict(_LOST)
            if row["type"] == REFRESH:
                change.refresh.register_family(row["id"], family_digest(secret))

            closed = None
            if leaked:
                closed = close_lineage(change, actor, row, None, now)
            _record_minter(change, actor, row, leaked=leaked)

            # Before the commit: a caller who reads the new credential finds its rotation, too.
            self._remember(row["id"], digest(secret), by, repeated=repeated)

            values: Columns = {"rotated_at": now}
            if row["leaked"]:
                values["leaked"] = False
            token = actor.amend(change, now, "token.rotate", row, values, details)
            return Issued(msgspec.structs.replace(token, closed=closed), secret)

    def _remember(self, token_id: str, successor: bytes, by: By, *, repeated: bool) -> None:
        """Keep the last rotation of a token, so that callers who lost to it are told."""
        caller = _caller(by)
        last = self._last.get(token_id)
        if repeated and last is not None:
            caller = last.caller

        if len(self._last) >= _REMEMBERED:
            self._last.clear()
        self._last[token_id] = _Rotated(successor, caller)


def _caller(by: By) -> _Caller:
    return _Caller(id(by), threading.get_ident())


def _check_rotation(
    actor: Actor, row: Columns, span: float | None, now: float, *, leaked: bool
) -> None:
    """Raise Denied, InvalidInput or Conflict unless the actor may rotate the token as it is."""
    # The answer holds the new credential, so that rotating a wider token would widen the caller.
    if actor.id != row["id"]:
        actor.require_cover(compile_token_row(row))
    if row["type"] == REFRESH and span:
        raise InvalidInput("grace: not available for refresh tokens; leave it out")
    _check_alive(row, now, actor, leaked=leaked)


def _check_alive(row: Columns, now: float, actor: Actor, *, leaked: bool) -> None:
    """Raise Conflict for a token that cannot be rotated as it is.

    A token that was closed as leaked is rotated with ``leaked``. Raises Denied unless the actor may
    activate it.
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


def _confirm(change: Change, row: Columns, current: bytes | None) -> bytes:
    """Return the digest of the credential to replace; raise Conflict if a family was replaced."""
    if row["type"] == REFRESH:
        if change.refresh.digest_of(row["id"]) != current:
            raise Conflict(_LOST)
        current = change.tokens.current_digest(row["id"])
    if current is None:
        raise Conflict(_LOST)
    return current


def _repeats(actor: Actor, row: Columns, replaced: bytes) -> bool:
    """Return True if a token rotates itself by a credential that was replaced already."""
    compiled = actor.compiled
    return compiled is not None and compiled.id == row["id"] and compiled.digest != replaced


def _grace(actor: Actor, row: Columns, span: float | None, *, leaked: bool) -> float:
    """Return for how many seconds the replaced credential stays open."""
    if leaked:
        return 0.0
    if span is not None:
        return span
    return SELF_GRACE if actor.id == row["id"] else 0.0


def _end_of_grace(row: Columns, grace: float, now: float) -> float | None:
    """Return the end of a grace in epoch seconds, never after the expiry; None without a grace."""
    if not grace:
        return None
    return min(now + grace, row["expires_at"] or now + grace)


def _record_minter(change: Change, actor: Actor, row: Columns, *, leaked: bool) -> None:
    """Record the token whose holder knows the new credential, for the case that it leaks.

    After a leak the earlier minters are forgotten, since no credential that they know is left. But
    an actor of the token's own lineage may be the thief, and must not hide the credential's origin.
    """
    if leaked and actor.id not in change.lineage(row["id"]):
        change.tokens.forget_minters(row["id"])
    if actor.kind in ("token", "access") and actor.id != row["id"]:
        change.tokens.add_origin(row["id"], str(actor.id))
