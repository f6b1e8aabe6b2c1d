"""The lifecycle of shares: each rule once, whoever calls.

A share opens a set of objects until it expires. Its secret works directly as a bearer credential, or is
redeemed for a token that lives for minutes; both are judged by the share as it is now.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hmac import compare_digest
from math import inf
from typing import TYPE_CHECKING, Unpack

import msgspec

from faregate.actors import Actor, By
from faregate.credentials import digest, kind_of, mint
from faregate.errors import Denied, InvalidInput
from faregate.jwt import REDEEMED_LIFETIME, ShareTokens
from faregate.members import check_times, check_unchanged, check_window, network_columns, org_columns, owner_columns
from faregate.model import IssuedShare, Page, Redeemed, Share
from faregate.record import covers, stored_texts
from faregate.share_members import (
    CHANGES,
    ShareChanges,
    ShareDetails,
    blank_share_columns,
    check_share_change,
    given_share_columns,
    loosens,
    object_list,
    share_limits,
    share_of,
)
from faregate.stores.entry import Entry
from faregate.stores.reach import ShareQuery
from faregate.texts import check_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from faregate.members import Values
    from faregate.stores.sql import Reading, Store


class Shares:
    """Creates, shows, changes, redeems and revokes shares of one store.

    Every method takes ``by``: nobody means root, a text is recorded and trusted, a Principal is judged by its
    scopes, its reach and what it covers. All raise InvalidInput for bad values, NotFound for a share that is
    not there or not reached, Denied where the actor may not, StoreUnavailable where the store cannot answer.
    """

    def __init__(self, store: Store, tokens: ShareTokens, *, clock: Callable[[], float], brand: str) -> None:
        self._store = store
        self._tokens = tokens
        self._clock = clock
        self._brand = brand

    def _now(self) -> float:
        return round(self._clock(), 6)

    def create(
        self, object_id: str, object_ids: Sequence[str] = (), *, by: By = None, **details: Unpack[ShareDetails]
    ) -> IssuedShare:
        """Share objects and return the share with its secret, which is shown here and never again.

        ``object_id`` and ``object_ids`` are what it opens, ``scopes`` for what; ``expires_at`` (an aware
        datetime, RFC 3339 or epoch seconds) or ``expires_in`` (a timedelta or seconds) is required. ``params``
        holds ``allowedCidrBlocks``, ``maxRedemptions``, ``attributes`` and, unless given beside it, ``scopes``.
        Networks that are left out are the maker's own. Denied ``insufficient_scope`` if the share would be
        wider than its maker.
        """
        now = self._now()
        unknown = details.keys() - ShareDetails.__optional_keys__
        if unknown:
            raise TypeError(f"a share has no member {', '.join(sorted(unknown))}")
        objects = object_list(object_id, object_ids)
        given = given_share_columns(details, now)
        if "scopes" not in given:
            raise InvalidInput("scopes: is required; name what the objects are shared for")
        if "expires_at" not in given:
            raise InvalidInput("expiresAt: is required (or expiresIn); a share has an end")
        check_times({**given, "not_before": None}, now)
        with self._store.changing() as change:
            actor = Actor.now(by, change, now)
            actor.permit("share.create")
            values = {**blank_share_columns(now), "made_by": actor.maker, **_inherited(actor), **given}
            values["object_ids"] = msgspec.json.encode(objects).decode()
            actor.require_cover(share_limits(values))
            secret = mint(self._brand, "shr")
            change.shares.add({**values, "digest": digest(secret)}, objects)
            change.enter(_entry(now, actor.name, "share.create", values, {"objectIds": objects}))
            return IssuedShare(share_of(values, now), secret)

    def get(self, share_id: str, *, by: By = None) -> Share:
        """Return a share, dead or alive; its ``state`` tells which."""
        now = self._now()
        with self._store.reading() as reading:
            row = Actor.now(by, reading, now).find(reading, share_id, "share.get")
            return share_of(row, now)

    def list(self, object_id: str | None = None, limit: int = 100, offset: int = 0, *, by: By = None) -> Page[Share]:
        """Return a page of the shares that the actor reaches, the newest first; only those of an object if named."""
        if object_id is not None:
            check_id(object_id, "objectId")
        check_window(limit, offset)
        now = self._now()
        with self._store.reading() as reading:
            actor = Actor.now(by, reading, now)
            actor.permit("share.list")
            rows, total = reading.shares.list(ShareQuery(object_id, limit, offset), actor.reach)
        return Page(tuple(share_of(row, now) for row in rows), total, limit, offset)

    def update(
        self,
        share_id: str,
        *,
        unchanged: Mapping[str, Any] | None = None,
        by: By = None,
        **members: Unpack[ShareChanges],
    ) -> Share:
        """Change the end of a share, also of an expired one, or its ``params``, which are merged (RFC 7396).

        What is changed acts at once, on every token that was redeemed too. Allowed if the share before covers
        the share after, else only to an actor who covers the latter. ``unchanged`` names members that cannot
        change (as in JSON), with the values that the caller believes in. Conflict if the share was revoked.
        """
        now = self._now()
        unknown = members.keys() - CHANGES
        if unknown:
            raise TypeError(f"of a share cannot be changed: {', '.join(sorted(unknown))}")
        with self._store.changing() as change:
            actor = Actor.now(by, change, now)
            before = actor.find(change, share_id, "share.update")
            given = given_share_columns(members, now, before)
            check_unchanged(share_of(before, now), unchanged or {})
            changed = {column: value for column, value in given.items() if value != before[column]}
            if not changed:
                return share_of(before, now)
            after = {**before, **changed, "updated_at": now}
            check_share_change(before, after, now)
            if loosens(before, after) or not covers(share_limits(before), share_limits(after)):
                actor.require_cover(share_limits(after))
            change.shares.update(before["id"], {**changed, "updated_at": now})
            change.enter(_entry(now, actor.name, "share.update", after, {"members": sorted(changed)}))
            return share_of(after, now)

    def revoke(self, share_id: str, *, by: By = None) -> Share:
        """Close the share for good, its secret and every token that was redeemed. Repeating it changes nothing."""
        now = self._now()
        with self._store.changing() as change:
            actor = Actor.now(by, change, now)
            row = actor.find(change, share_id, "share.revoke")
            if row["revoked_at"] is not None:
                return share_of(row, now)
            values = {"revoked_at": now, "updated_at": now}
            change.shares.update(row["id"], values)
            change.enter(_entry(now, actor.name, "share.revoke", row, {}))
            return share_of({**row, **values}, now)

    def redeem(
        self, share_id: str, *, secret: str | None = None, address: str | None = None, by: By = None
    ) -> Redeemed:
        """Return a bearer token for the share's objects: 15 minutes at most, and never past the share's end.

        With ``secret``, whoever holds it; without, only who reaches the share and covers it. ``address`` is
        the client's, without a port. Denied: ``unknown_credential`` for a wrong secret and for an id that does
        not exist alike, then what is wrong with the share, and ``redemptions_exhausted``.
        """
        if not isinstance(share_id, str) or not isinstance(secret, str | None) or not isinstance(address, str | None):
            raise InvalidInput("id, secret, address: expected texts")
        now = self._now()
        # Judged twice: who is refused never waits for the write lock, nor keeps others from it.
        with self._store.reading() as reading:
            row, _ = self._redeemable(reading, share_id, secret, address, by, now)
            if row["max_redemptions"] is not None and row["redemptions"] >= row["max_redemptions"]:
                raise Denied("redemptions_exhausted", record_id=row["id"], address=address)
        with self._store.changing() as change:
            row, actor = self._redeemable(change, share_id, secret, address, by, now)
            if not change.shares.count_redemption(row["id"]):
                raise Denied("redemptions_exhausted", record_id=row["id"], address=address)
            until = min(now + REDEEMED_LIFETIME, row["expires_at"])
            token, token_id = self._tokens.mint(row["id"], now, now + REDEEMED_LIFETIME)
            change.enter(_entry(now, actor, "share.redeem", row, {"jti": token_id}))
        return Redeemed(token, "Bearer", datetime.fromtimestamp(until, UTC), stored_texts(row["object_ids"]))

    def _redeemable(
        self, reading: Reading, share_id: str, secret: str | None, address: str | None, by: By, now: float
    ) -> tuple[Values, str]:
        """Return the columns of a share that may be redeemed, and the name of who redeems it; else raise Denied."""
        if secret is None:
            actor = Actor.now(by, reading, now)
            row = actor.find(reading, share_id, "share.redeem")
            actor.require_cover(share_limits(row))
            name = actor.name
        else:
            found = reading.shares.get(share_id) if kind_of(secret, self._brand) == "shr" else None
            if found is None or not compare_digest(found["digest"], digest(secret)):
                raise Denied("unknown_credential", address=address)
            row, name = found, f"share:{share_id}"
        record = share_limits(row)
        if not record.admits(now, address):
            raise record.refusal(now, address)
        return row, name


def _inherited(actor: Actor) -> Values:
    """Return the columns that are the maker's own where the caller gives no others."""
    maker = actor.record
    return {
        **network_columns(None if maker is None else maker.networks),
        "not_before": None if maker is None or maker.not_before == -inf else maker.not_before,
        **owner_columns(actor.owner),
        **org_columns(actor.org),
    }


def _entry(now: float, actor: str, action: str, values: Values, details: object) -> Entry:
    return Entry(now, actor, action, values["id"], values["org_id"], details)
