"""The lifecycle of tokens: each rule once, whoever calls (Python, HTTP, the command line)."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Unpack

from faregate.actors import Actor, By
from faregate.credentials import digest, mint
from faregate.errors import Conflict, Denied, InvalidInput, PreconditionFailed
from faregate.instants import Instant, parse_instant, parse_span
from faregate.members import (
    Details,
    Members,
    Values,
    blank_columns,
    check_change_of_times,
    check_times,
    check_unchanged,
    check_window,
    given_columns,
    keep_parties,
    limits_of,
    network_columns,
    org_columns,
    owner_columns,
    token_of,
)
from faregate.model import Issued, Org, Owner, Page, Token
from faregate.principal import Principal
from faregate.record import covers
from faregate.stores.entry import Entry
from faregate.stores.reach import TokenQuery
from faregate.texts import check_name, check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from faregate.stores.sql import Change, Store

_ROTATED = "Another rotation came first; only the current secret can be rotated."
_REMEMBERED = 4096  # rotations; forgetting one costs nothing but the notice of a collision
_OWNER, _ORG = tuple(owner_columns(Owner())), tuple(org_columns(Org()))
_OWNER_BUT_NAME = tuple(column for column in _OWNER if column != "owner_name")  # people may be renamed
TYPES = ("API", "PROXY", "EXTENSION")
SORTABLE = {
    "name": "name",
    "createdAt": "created_at",
    "updatedAt": "updated_at",
    "expiresAt": "expires_at",
    "lastUsedAt": "last_used_at",
    "type": "type",
    "owner.name": "owner_name",
    "org.name": "org_name",
}
MAX_GRACE = 7 * 86_400.0
SELF_GRACE = 60.0


class Tokens:
    """Creates, shows, changes, rotates, deactivates and deletes tokens of one store.

    Every method takes ``by``: nobody means root, a text is recorded and trusted, a Principal is judged by its
    scopes, its reach and what it covers. All raise InvalidInput for bad values, NotFound for a token that is
    not there or not reached, Denied where the actor may not, StoreUnavailable where the store cannot answer.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float], brand: str) -> None:
        self._store = store
        self._clock = clock
        self._brand = brand
        self._rotated: dict[str, object] = {}  # which rotation was a token's last, by this process

    def _now(self) -> float:
        return round(self._clock(), 6)

    def create(
        self,
        *,
        name: str,
        type: str = "API",  # noqa: A002  the member's name
        by: By = None,
        **details: Unpack[Details],
    ) -> Issued:
        """Make a token and return it with its credential, which is shown here and never again.

        A limit that is left out (networks, expiry, start) is the maker's own; an empty list of networks
        allows every address, a null expiry never expires. ``expires_at`` is an aware datetime, an RFC 3339
        text or epoch seconds, ``expires_in`` a timedelta or seconds. Denied ``insufficient_scope`` if the
        token would be wider than its maker.
        """
        now = self._now()
        given = given_columns({"name": name, **details}, now)
        if type not in TYPES:
            raise InvalidInput(f"type: one of {', '.join(TYPES)}")
        with self._store.changing() as change:
            actor = Actor.now(by, change, now)
            actor.permit("token.create")
            inherited = _inherited(actor)
            parties = keep_parties(given, inherited, update=False)
            values = {**blank_columns(type, now), "made_by": actor.maker, **inherited, **parties}
            check_times(values, now)
            actor.require_parties(values, inherited, owner=_OWNER, org=_ORG)
            actor.require_cover(limits_of(values))
            secret = mint(self._brand, "tok")
            change.tokens.add(values, digest(secret))
            change.enter(_entry(now, actor, "token.create", values, {"name": name, "type": type}))
            return Issued(token_of(values), secret)

    def get(self, token_id: str, *, by: By = None) -> Token:
        """Return a token. ``self`` stands for the token of the principal in ``by``."""
        with self._store.reading() as reading:
            actor = Actor.now(by, reading, self._now())
            row = actor.find(reading, token_id, "token.get")
            return token_of(row)

    def list(
        self,
        *,
        owner: str | None = None,
        type: str | None = None,  # noqa: A002  the member's name
        name: str | None = None,
        deactivated: bool | None = None,
        expires_before: Instant | None = None,
        limit: int = 100,
        offset: int = 0,
        sort: str = "-createdAt",
        by: By = None,
    ) -> Page[Token]:
        """Return a page of the tokens that the actor reaches and that meet every filter.

        ``owner`` is an owner's id; ``sort`` is a name of :data:`SORTABLE`, with ``-`` before it for descending.
        """
        column = SORTABLE.get(sort.removeprefix("-")) if isinstance(sort, str) else None
        if column is None:
            raise InvalidInput(f"sort: one of {', '.join(SORTABLE)}, with '-' before it for descending")
        for member, text in (("owner", owner), ("type", type), ("name", name)):
            if text is not None:
                check_name(text, member)
        check_window(limit, offset)
        before = None if expires_before is None else parse_instant(expires_before, "expiresBefore")
        descending = sort.startswith("-")
        query = TokenQuery(owner, type, name, deactivated, before, column, descending, limit, offset)
        with self._store.reading() as reading:
            actor = Actor.now(by, reading, self._now())
            actor.permit("token.list")
            rows, total = reading.tokens.list(query, actor.reach)
        return Page(tuple(map(token_of, rows)), total, limit, offset)

    def update(
        self,
        token_id: str,
        *,
        unchanged: Mapping[str, Any] | None = None,
        if_version: Sequence[int] | None = None,
        by: By = None,
        **members: Unpack[Members],
    ) -> Token:
        """Change the members that are given and return the token; lists and scopes are replaced whole.

        Allowed if the record before covers the record after, else only to an actor who covers the latter.
        ``unchanged`` names members that cannot change (as in JSON), with the values that the caller believes
        in: InvalidInput if one differs. Conflict if the expiry of an expired token would change;
        PreconditionFailed if the token has none of the versions in ``if_version``.
        """
        now = self._now()
        given = given_columns(members, now)
        with self._store.changing() as change:
            actor = Actor.now(by, change, now)
            before = actor.find(change, token_id, "token.update")
            if if_version is not None and before["version"] not in if_version:
                raise PreconditionFailed(f"The token is at version {before['version']} now; read it again.")
            check_unchanged(token_of(before), unchanged or {})
            wanted = keep_parties(given, before, update=True)
            changed = {column: value for column, value in wanted.items() if value != before[column]}
            if not changed:
                return token_of(before)
            after = {**before, **changed, "updated_at": now}
            check_change_of_times(before, after, now)
            actor.require_parties(after, before, owner=_OWNER_BUT_NAME, org=_ORG)
            if not covers(limits_of(before), limits_of(after)):
                actor.require_cover(limits_of(after))
            details = {"members": sorted(changed)}
            return self._apply(change, actor, "token.update", after, {**changed, "updated_at": now}, details)

    def rotate(self, token_id: str, *, grace: timedelta | float | None = None, by: By = None) -> Issued:
        """Give the token a new credential and return it; everything else stays.

        The old credential dies at once, or at the end of ``grace`` (0 to 7 days, never past the expiry; by
        default 0, and 60 s where a token rotates itself). In its grace it opens routes but rotates nothing.
        Conflict if the token is expired or deactivated, or another rotation came first.
        """
        span = None if grace is None else parse_span(grace, "grace")
        if span is not None and span > MAX_GRACE:
            raise InvalidInput("grace: at most 7 days")
        seen = self._rotated.get(token_id)
        current = self._current(token_id, by)
        # Transactions of this process come one after the other, so the later of two rotations at once would
        # find the earlier one's secret and replace it: who began before that one ended has lost.
        if self._rotated.get(token_id) is not seen:
            raise Conflict(_ROTATED)
        return self._rotate(token_id, current, span, by)

    def deactivate(self, token_id: str, *, reason: str | None = None, by: By = None) -> Token:
        """Close the token until it is activated. Repeating it changes nothing, save that an admin's takes over."""
        _check_reason(reason)
        now = self._now()
        with self._store.changing() as change:
            actor = Actor.now(by, change, now)
            row = actor.find(change, token_id, "token.deactivate")
            if row["deactivated"] and (row["deactivated_by_admin"] or not actor.outranks(row)):
                return token_of(row)
            return self._set_deactivated(change, actor, row, reason, now, deactivated=True)

    def activate(self, token_id: str, *, reason: str | None = None, by: By = None) -> Token:
        """Open a deactivated token again: only for who deactivated it, an admin, or root. Repeating changes nothing."""
        _check_reason(reason)
        now = self._now()
        with self._store.changing() as change:
            actor = Actor.now(by, change, now)
            row = actor.find(change, token_id, "token.activate")
            if not row["deactivated"]:
                return token_of(row)
            mine = row["deactivated_updated_by"] == actor.name and not row["deactivated_by_admin"]
            if not (actor.admin or mine):
                raise Denied(
                    "insufficient_scope",
                    "Another actor deactivated this token; only that one or an admin can activate it.",
                    record_id=actor.id,
                )
            return self._set_deactivated(change, actor, row, reason, now, deactivated=False)

    def delete(self, token_id: str, *, by: By = None) -> None:
        """Remove the token for good. Its credential is unknown from now on."""
        now = self._now()
        with self._store.changing() as change:
            actor = Actor.now(by, change, now)
            row = actor.find(change, token_id, "token.delete")
            change.enter(_entry(now, actor, "token.delete", row, {"name": row["name"]}))
            change.tokens.delete(row["id"])

    def _rotate(self, token_id: str, current: bytes | None, span: float | None, by: By) -> Issued:
        """Replace the secret ``current``, or raise Conflict if that is no longer the token's."""
        now = self._now()
        with self._store.changing() as change:
            actor = Actor.now(by, change, now)
            row = actor.find(change, token_id, "token.rotate")
            itself = actor.id == row["id"]
            if not itself:
                actor.require_cover(limits_of(row))
            if row["deactivated"] or (row["expires_at"] is not None and row["expires_at"] <= now):
                raise Conflict("A deactivated or expired token cannot be rotated; activate or replace it.")
            span = (SELF_GRACE if itself else 0.0) if span is None else span
            ends = min(now + span, row["expires_at"] or now + span) if span else None
            secret = mint(self._brand, "tok")
            if current is None or not change.tokens.replace_secret(row["id"], current, digest(secret), ends):
                raise Conflict(_ROTATED)
            if len(self._rotated) >= _REMEMBERED:
                self._rotated.clear()
            self._rotated[row["id"]] = object()
            values = {"rotated_at": now, "updated_at": now}
            token = self._apply(change, actor, "token.rotate", {**row, **values}, values, {"grace": span})
            return Issued(token, secret)

    def _current(self, token_id: str, by: By) -> bytes | None:
        """Return the digest that a rotation by ``by`` replaces: its own if it is the token, else the current one.

        Raises as the rotation would: who may not rotate disturbs no other.
        """
        with self._store.reading() as reading:
            actor = Actor.now(by, reading, self._now())
            row = actor.find(reading, token_id, "token.rotate")
            if isinstance(by, Principal) and by.id == row["id"]:
                return by.record.digest
            actor.require_cover(limits_of(row))
            return reading.tokens.current_digest(row["id"])

    def _set_deactivated(
        self, change: Change, actor: Actor, row: Values, reason: str | None, now: float, *, deactivated: bool
    ) -> Token:
        values: Values = {
            "deactivated": deactivated,
            "deactivated_updated_by": actor.name,
            "deactivated_updated_on": now,
            "deactivated_reason": reason,
            "deactivated_by_admin": deactivated and actor.outranks(row),
            "updated_at": now,
        }
        action = "token.deactivate" if deactivated else "token.activate"
        return self._apply(change, actor, action, {**row, **values}, values, {"reason": reason})

    def _apply(
        self, change: Change, actor: Actor, action: str, after: Values, changed: Values, details: object
    ) -> Token:
        """Write the changed columns and the entry of the feed; return the token as it is then."""
        change.tokens.update(after["id"], changed)
        change.enter(_entry(changed["updated_at"], actor, action, after, details))
        return token_of({**after, "version": after["version"] + 1})


def _check_reason(reason: object) -> None:
    if reason is not None:
        check_text(reason, "reason", 500)


def _inherited(actor: Actor) -> Values:
    """Return the columns that are the maker's own where the caller gives no others."""
    maker = actor.record
    return {
        **network_columns(None if maker is None else maker.networks),
        "not_before": None if maker is None or maker.not_before == -inf else maker.not_before,
        "expires_at": None if maker is None or maker.expires_at == inf else maker.expires_at,
        **owner_columns(actor.owner),
        **org_columns(actor.org),
    }


def _entry(now: float, actor: Actor, action: str, values: Values, details: object) -> Entry:
    return Entry(now, actor.name, action, values["id"], values["org_id"], details)
