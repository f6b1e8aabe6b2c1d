"""The lifecycle of shares: each rule once, whoever calls.

A share opens a set of objects until it expires. Its secret works directly as a bearer credential, or is
redeemed for a token that lives for minutes; both are judged by the share as it is now.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from hmac import compare_digest
from typing import TYPE_CHECKING, Unpack

import msgspec

from faregate.credentials.opaque import digest, kind_of, mint
from faregate.credentials.share_tokens import REDEEMED_LIFETIME, ShareTokens
from faregate.decision.compiled import covers
from faregate.errors import Denied, InvalidInput
from faregate.lifecycles.paging import fill, mark, read_mark
from faregate.lifecycles.share_fields import (
    SHARE_CHANGES,
    ShareChanges,
    ShareFields,
    blank_share_columns,
    check_share_change,
    given_share_columns,
    loosens,
    object_list,
    share_limits,
    share_of,
)
from faregate.lifecycles.token_fields import (
    check_times,
    check_unchanged,
    check_window,
    names_of,
    owner_of,
)
from faregate.model import IssuedShare, Page, Redeemed, Share
from faregate.stores.queries import Place, ShareQuery
from faregate.stores.stored_values import stored_texts
from faregate.values.names import check_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from faregate.lifecycles.authority import Actor, By
    from faregate.lifecycles.token_fields import Values
    from faregate.lifecycles.transactions import Transactions
    from faregate.policy import Policy
    from faregate.stores.store import Reading


_NEWEST = "-createdAt"  # the order of every list of shares


class Shares:
    """Creates, shows, changes, redeems and revokes shares of one store.

    Every method takes ``by``: nobody means root, a text is recorded and trusted, a Principal is judged by its
    scopes, its reach and what it covers. All raise InvalidInput for bad values, NotFound for a share that is
    not there or not reached, Denied where the actor may not, StoreUnavailable where the store cannot answer.
    """

    def __init__(
        self, transactions: Transactions, policy: Policy, tokens: ShareTokens, *, brand: str
    ) -> None:
        self._transactions = transactions
        self._policy = policy
        self._tokens = tokens
        self._brand = brand

    def create(
        self,
        object_id: str,
        object_ids: Sequence[str] = (),
        *,
        by: By = None,
        **details: Unpack[ShareFields],
    ) -> IssuedShare:
        """Share objects and return the share with its secret, which is shown here and never again.

        ``object_id`` and ``object_ids`` are what it opens, ``scopes`` for what; ``expires_at`` (an aware
        datetime, RFC 3339 or epoch seconds) or ``expires_in`` (a timedelta or seconds) is required. ``params``
        holds ``allowedCidrBlocks``, ``maxRedemptions``, ``attributes`` and, unless given beside it, ``scopes``.
        Networks that are left out are the maker's own. Denied ``insufficient_scope`` if the share would be
        wider than its maker, InvalidInput beyond the longest lifetime or the scopes of the gate's policy.
        """
        now = self._transactions.now()
        unknown = details.keys() - ShareFields.__optional_keys__
        if unknown:
            raise TypeError(f"a share has no member {', '.join(sorted(unknown))}")
        objects = object_list(object_id, object_ids)
        given = given_share_columns(details, now)
        if "scopes" not in given:
            raise InvalidInput("scopes: is required; name what the objects are shared for")
        if "expires_at" not in given:
            raise InvalidInput("expiresAt: is required (or expiresIn); a share has an end")
        check_times({**given, "not_before": None}, now)
        with self._transactions.changing(by, now) as (change, actor):
            actor.permit("share.create")
            values = {
                **blank_share_columns(now),
                "made_by": actor.maker,
                **actor.inherited,
                **given,
            }
            values["object_ids"] = msgspec.json.encode(objects).decode()
            record = share_limits(values)
            actor.require_cover(record)
            self._policy.check_expiry(now, record.expires_at)
            self._policy.check_grants(record.grants)
            secret = mint(self._brand, "shr")
            change.shares.add({**values, "digest": digest(secret)}, objects)
            change.enter(actor.entry(now, "share.create", values, {"objectIds": objects}))
            return IssuedShare(share_of(values, now), secret)

    def get(self, share_id: str, *, by: By = None) -> Share:
        """Return a share, dead or alive; its ``state`` tells which."""
        now = self._transactions.now()
        with self._transactions.reading(by, now) as (reading, actor):
            row = actor.find(reading, share_id, "share.get")
        return self._shown(row, now)

    def list(
        self,
        object_id: str | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        after: str | None = None,
        by: By = None,
    ) -> Page[Share]:
        """Return a page of the shares that the actor reaches, the newest first; only those of an object if named.

        ``after`` is the ``next`` of the page before. A page has at most ``limit`` shares, and fewer where they would
        weigh more than 4 MiB.
        """
        if object_id is not None:
            check_id(object_id, "objectId")
        check_window(limit, offset, after)
        place = None if after is None else read_mark(after, _NEWEST)
        now = self._transactions.now()
        with self._transactions.reading(by, now) as (reading, actor):
            actor.permit("share.list")
            found, total = reading.shares.list(
                ShareQuery(object_id, limit, offset, place), actor.reach
            )
            page, more = fill(found, partial(share_of, now=now), limit)
        rows = [row for row, _ in page]
        following = mark(_NEWEST, Place(rows[-1]["created_at"], rows[-1]["id"])) if more else None
        gone = {owner: self._transactions.gone(owner) for owner in set(map(owner_of, rows))}
        shown = tuple(share_of(row, now, gone=gone[owner_of(row)]) for row in rows)
        return Page(shown, total, limit, offset, following)

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
        now = self._transactions.now()
        unknown = members.keys() - SHARE_CHANGES
        if unknown:
            raise TypeError(f"of a share cannot be changed: {', '.join(sorted(unknown))}")
        fixed = unchanged or {}
        gone = False
        if (
            fixed.get("state") == "deactivated"
        ):  # which only the application can tell, before the transaction
            with self._transactions.reading(by, now) as (reading, actor):
                row = actor.find(reading, share_id, "share.update")
            gone = self._transactions.gone(owner_of(row))
        with self._transactions.changing(by, now) as (change, actor):
            before = actor.find(change, share_id, "share.update")
            given = given_share_columns(members, now, before)
            if fixed:
                check_unchanged(share_of(before, now, gone=gone), fixed)
            changed = {column: value for column, value in given.items() if value != before[column]}
            after = {**before, **changed, "updated_at": now} if changed else before
            if changed:
                check_share_change(before, after, now)
                later = share_limits(after)
                if loosens(before, after) or not covers(share_limits(before), later):
                    actor.require_cover(later)
                self._check_policy(before, after)
                change.shares.update({**changed, "updated_at": now}, before["id"])
                change.enter(
                    actor.entry(now, "share.update", after, {"members": names_of(changed)})
                )
        return self._shown(after, now)

    def revoke(self, share_id: str, *, by: By = None) -> Share:
        """Close the share for good, its secret and every token that was redeemed. Repeating it changes nothing."""
        now = self._transactions.now()
        with self._transactions.changing(by, now) as (change, actor):
            row = actor.find(change, share_id, "share.revoke")
            if row["revoked_at"] is None:
                values = {"revoked_at": now, "updated_at": now}
                change.shares.update(values, row["id"])
                change.enter(actor.entry(now, "share.revoke", row, {}))
                row = {**row, **values}
        return self._shown(row, now)

    def redeem(
        self, share_id: str, *, secret: str | None = None, address: str | None = None, by: By = None
    ) -> Redeemed:
        """Return a bearer token for the share's objects: 15 minutes at most, and never past the share's end.

        With ``secret``, whoever holds it; without, only who reaches the share and covers it. ``address`` is
        the client's, without a port. Denied: ``unknown_credential`` for a wrong secret and for an id that does
        not exist alike, then what is wrong with the share, and ``redemptions_exhausted``.
        """
        if (
            not isinstance(share_id, str)
            or not isinstance(secret, str | None)
            or not isinstance(address, str | None)
        ):
            raise InvalidInput("id, secret, address: expected texts")
        now = self._transactions.now()
        by = by if secret is None else None  # who has the secret need be nobody else
        # Judged twice: who is refused never waits for the write lock, nor keeps others from it.
        with self._transactions.reading(by, now) as (reading, actor):
            row = self._redeemable(reading, actor, share_id, secret, address)
        gone = self._transactions.gone(owner_of(row))
        _judge(row, gone, now, address)
        with self._transactions.changing(by, now) as (change, actor):
            row = self._redeemable(change, actor, share_id, secret, address)
            _judge(row, gone, now, address)
            if not change.shares.count_redemption(row["id"]):
                raise _exhausted(row, address)
            until = min(now + REDEEMED_LIFETIME, row["expires_at"])
            token, token_id = self._tokens.mint(row["id"], now, now + REDEEMED_LIFETIME)
            redeemer = actor if secret is None else self._transactions.actor_of(share_limits(row))
            change.enter(redeemer.entry(now, "share.redeem", row, {"jti": token_id}))
        return Redeemed(
            token, "Bearer", datetime.fromtimestamp(until, UTC), stored_texts(row["object_ids"])
        )

    def _redeemable(
        self, reading: Reading, actor: Actor, share_id: str, secret: str | None, address: str | None
    ) -> Values:
        """Return the columns of a share that is redeemed by its secret, or that the actor reaches and covers."""
        if secret is None:
            row = actor.find(reading, share_id, "share.redeem")
            actor.require_cover(share_limits(row))
            return row
        found = reading.shares.get(share_id) if kind_of(secret, self._brand) == "shr" else None
        if found is None or not compare_digest(found["digest"], digest(secret)):
            raise Denied("unknown_credential", address=address)
        return found

    def _check_policy(self, before: Values, after: Values) -> None:
        """Raise InvalidInput where what is changed is beyond the policy; what stays is not asked about."""
        if after["expires_at"] != before["expires_at"]:
            self._policy.check_expiry(after["created_at"], after["expires_at"])
        if after["scopes"] != before["scopes"]:
            self._policy.check_grants(share_limits(after).grants)

    def _shown(self, row: Values, now: float) -> Share:
        """Return a share in the state that it is in, now that no transaction keeps others waiting for the answer."""
        return share_of(row, now, gone=self._transactions.gone(owner_of(row)))


def _judge(row: Values, gone: bool, now: float, address: str | None) -> None:  # noqa: FBT001  one of four facts
    """Raise Denied unless a share may be redeemed from this address, once more."""
    record = share_limits(row).closed() if gone else share_limits(row)
    if not record.admits(now, address):
        raise record.refusal(now, address)
    if row["max_redemptions"] is not None and row["redemptions"] >= row["max_redemptions"]:
        raise _exhausted(row, address)


def _exhausted(row: Values, address: str | None) -> Denied:
    return Denied("redemptions_exhausted", record_id=row["id"], address=address)
