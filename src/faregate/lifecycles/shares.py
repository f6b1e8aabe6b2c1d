"""The lifecycle of shares, whoever calls: Python, HTTP, or the command line.

A share opens a set of objects until it expires. Its secret works as a bearer credential, or is
redeemed for a token that lives for minutes. Both are judged by the share as it is now.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from hmac import compare_digest
from typing import TYPE_CHECKING, Unpack

import msgspec

from faregate.credentials.opaque import digest, kind_of, mint
from faregate.credentials.share_tokens import REDEEMED_LIFETIME, ShareTokens
from faregate.errors import Denied, InvalidInput
from faregate.fields.field import names_of, owner_of
from faregate.fields.share_fields import (
    SHARE_CHANGES,
    ShareChanges,
    ShareFields,
    blank_share_columns,
    given_share_columns,
    object_list,
    share_of,
)
from faregate.fields.stored_values import stored_texts
from faregate.lifecycles.change_rules import (
    allows_more_redemptions,
    check_change_of_share,
    check_times,
    check_unchanged,
    require_covered_change,
)
from faregate.lifecycles.paging import check_window, fill, mark, read_mark
from faregate.model import IssuedShare, Page, Redeemed, Share
from faregate.stores.compiled_rows import compile_share_row
from faregate.stores.queries import Place, ShareQuery
from faregate.values.names import check_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from faregate.fields.field import Columns, Row
    from faregate.lifecycles.authority import Actor, By, Call
    from faregate.lifecycles.transactions import Transactions
    from faregate.policy import Policy
    from faregate.stores.store import Reading

_NEWEST_FIRST = "-createdAt"  # the order of every list of shares


class Shares:
    """Creates, shows, changes, redeems and revokes the shares of one store.

    Every method takes ``by``: None is root, a text is recorded as a name and trusted, a Principal
    is judged by its scopes, its reach and its limits. Every method raises InvalidInput for bad
    values, NotFound for a share that does not exist or is not reached, Denied where the actor may
    not call, and StoreUnavailable where the store cannot answer.
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
        **fields: Unpack[ShareFields],
    ) -> IssuedShare:
        """Share objects and return the share with its secret, which is shown here and never again.

        ``object_id`` and ``object_ids`` are the objects, ``scopes`` the scopes that are granted on
        them. ``expires_at`` (an aware datetime, a text of RFC 3339 or epoch seconds) or
        ``expires_in`` (a timedelta or seconds) is required. ``params`` holds ``allowedCidrBlocks``,
        ``maxRedemptions``, ``attributes`` and, unless given beside it, ``scopes``. Networks that
        are left out are the maker's.

        Raises Denied ``insufficient_scope`` if the share would be wider than its maker,
        InvalidInput beyond the longest lifetime or the scopes of the gate's policy.

        >>> issued = gate.shares.create("report", scopes=["docs:read"], expires_in=3600)
        >>> gate.verify(issued.secret).allows("docs:read", on="report")
        True
        """
        now = self._transactions.now()
        unknown = fields.keys() - ShareFields.__optional_keys__
        if unknown:
            raise TypeError(f"a share has no field {', '.join(sorted(unknown))}")
        objects = object_list(object_id, object_ids)
        given = given_share_columns(fields, now)
        if "scopes" not in given:
            raise InvalidInput("scopes: required; name what the objects are shared for")
        if "expires_at" not in given:
            raise InvalidInput("expiresAt: required for a share (or expiresIn)")
        check_times({**given, "not_before": None}, now)

        with self._transactions.changing(by, now) as (change, actor):
            actor.permit("share.create")
            columns: Columns = {
                **blank_share_columns(now),
                "made_by": actor.maker,
                **actor.inherited,
                **given,
                "object_ids": msgspec.json.encode(objects).decode(),
            }
            compiled = compile_share_row(columns)
            actor.require_cover(compiled)
            self._policy.check_expiry(now, compiled.expires_at)
            self._policy.check_grants(compiled.grants)

            secret = mint(self._brand, "shr")
            change.shares.add({**columns, "digest": digest(secret)}, objects)
            change.enter(actor.entry(now, "share.create", columns, {"objectIds": objects}))
            return IssuedShare(share_of(columns, now), secret)

    def get(self, share_id: str, *, by: By = None) -> Share:
        """Return a share in any state; its ``state`` tells which.

        >>> gate.shares.get(share.id).state
        'live'
        """
        return self._current(share_id, "share.get", self._transactions.now(), by)

    def list(
        self,
        object_id: str | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        after: str | None = None,
        by: By = None,
    ) -> Page[Share]:
        """Return a page of the shares that the actor reaches, the newest first.

        ``object_id`` narrows the list to the shares of an object. ``after`` is the ``next`` of the
        page before. A page has at most ``limit`` shares, and fewer if they would exceed 4 MiB.

        >>> gate.shares.list(limit=10).total
        1
        """
        if object_id is not None:
            check_id(object_id, "objectId")
        check_window(limit, offset, after)
        place = None if after is None else read_mark(after, _NEWEST_FIRST)

        now = self._transactions.now()
        with self._transactions.reading(by, now) as (reading, actor):
            actor.permit("share.list")
            query = ShareQuery(object_id, limit, offset, place)
            found, total = reading.shares.list(query, actor.reach)
            page, more = fill(found, partial(share_of, now=now), limit)

        rows = [row for row, _ in page]
        following = None
        if more:
            following = mark(_NEWEST_FIRST, Place(rows[-1]["created_at"], rows[-1]["id"]))
        # The application is asked about owners now that no transaction is open.
        gone = {owner: self._transactions.gone(owner) for owner in set(map(owner_of, rows))}
        shares = tuple(share_of(row, now, gone=gone[owner_of(row)]) for row in rows)
        return Page(shares, total, limit, offset, following)

    def update(
        self,
        share_id: str,
        *,
        unchanged: Mapping[str, Any] | None = None,
        by: By = None,
        **fields: Unpack[ShareChanges],
    ) -> Share:
        """Change the end of a share, even of an expired share, or its ``params``, and return it.

        ``params`` is merged (RFC 7396). A change acts at once, on every token that was redeemed,
        too. ``unchanged`` holds read-only fields as GET showed them, by their names in JSON.

        A change that does not narrow the share needs an actor who covers the share after it. Raises
        InvalidInput for read-only fields that differ, Conflict if the share was revoked.

        >>> gate.shares.update(share.id, params={"maxRedemptions": 5}).params.max_redemptions
        5
        """
        now = self._transactions.now()
        unknown = fields.keys() - SHARE_CHANGES
        if unknown:
            raise TypeError(
                f"these fields of a share cannot be changed: {', '.join(sorted(unknown))}"
            )
        gone = False
        # The application alone knows this state, and is asked before the transaction.
        if isinstance(unchanged, Mapping) and unchanged.get("state") == "deactivated":
            gone = self._current(share_id, "share.update", now, by).state == "deactivated"

        with self._transactions.changing(by, now) as (change, actor):
            before = actor.find(change, share_id, "share.update")
            given = given_share_columns(fields, now, before)
            if unchanged:
                check_unchanged(share_of(before, now, gone=gone), unchanged)
            changed = {column: value for column, value in given.items() if value != before[column]}
            after = before
            if changed:
                after = {**before, **changed, "updated_at": now}
                self._check_update(actor, before, after, now)
                change.shares.update({**changed, "updated_at": now}, before["id"])
                details = {"members": names_of(changed)}
                change.enter(actor.entry(now, "share.update", after, details))
        return self._shown(after, now)

    def revoke(self, share_id: str, *, by: By = None) -> Share:
        """Revoke the share for good: its secret and every token that was redeemed.

        A repetition changes nothing.

        >>> gate.shares.revoke(share.id).state
        'revoked'
        """
        now = self._transactions.now()
        with self._transactions.changing(by, now) as (change, actor):
            row = actor.find(change, share_id, "share.revoke")
            if row["revoked_at"] is None:
                columns = {"revoked_at": now, "updated_at": now}
                change.shares.update(columns, row["id"])
                change.enter(actor.entry(now, "share.revoke", row, {}))
                row = {**row, **columns}
        return self._shown(row, now)

    def redeem(
        self, share_id: str, *, secret: str | None = None, address: str | None = None, by: By = None
    ) -> Redeemed:
        """Return a bearer token for the share's objects, for 15 minutes or until the share ends.

        The holder of ``secret`` may, without ``by``. Without a secret, only an actor who reaches
        the share and covers it. ``address`` is the client's, without a port.

        Raises Denied ``unknown_credential`` for a wrong secret and for an unknown id alike, then
        the reason why the share is closed, and ``redemptions_exhausted``.

        >>> redeemed = gate.shares.redeem(share.id, secret=share_secret)
        >>> gate.verify(redeemed.token).allows("docs:read", on="plan")
        True
        """
        texts = isinstance(share_id, str) and isinstance(secret, str | None)
        if not texts or not isinstance(address, str | None):
            raise InvalidInput("id, secret, address: expected texts")
        now = self._transactions.now()
        if secret is not None:
            by = None

        # Judged twice: a refused caller never waits for the write lock, nor keeps others from it.
        with self._transactions.reading(by, now) as (reading, actor):
            row = self._redeemable(reading, actor, share_id, secret, address)
        gone = self._transactions.gone(owner_of(row))
        _judge(row, now, address, gone=gone)

        with self._transactions.changing(by, now) as (change, actor):
            row = self._redeemable(change, actor, share_id, secret, address)
            _judge(row, now, address, gone=gone)
            if not change.shares.count_redemption(row["id"]):
                raise _exhausted(row, address)

            token, token_id = self._tokens.mint(row["id"], now, now + REDEEMED_LIFETIME)
            redeemer = actor
            if secret is not None:
                redeemer = self._transactions.actor_of(compile_share_row(row))
            change.enter(redeemer.entry(now, "share.redeem", row, {"jti": token_id}))

        until = datetime.fromtimestamp(min(now + REDEEMED_LIFETIME, row["expires_at"]), UTC)
        return Redeemed(token, "Bearer", until, stored_texts(row["object_ids"]))

    def _current(self, share_id: str, call: Call, now: float, by: By) -> Share:
        with self._transactions.reading(by, now) as (reading, actor):
            row = actor.find(reading, share_id, call)
        return self._shown(row, now)

    def _shown(self, row: Row, now: float) -> Share:
        """Return a share in its state. The application is asked about its maker's owner.

        No transaction may be open meanwhile: the answer may take its time.
        """
        return share_of(row, now, gone=self._transactions.gone(owner_of(row)))

    def _check_update(self, actor: Actor, before: Row, after: Row, now: float) -> None:
        check_change_of_share(before, after, now)
        loosens = allows_more_redemptions(before, after)
        earlier = compile_share_row(before)
        later = compile_share_row(after)
        require_covered_change(actor, earlier, later, loosens=loosens)

        # Fields that stay are not judged by the policy.
        if after["expires_at"] != before["expires_at"]:
            self._policy.check_expiry(after["created_at"], after["expires_at"])
        if after["scopes"] != before["scopes"]:
            self._policy.check_grants(later.grants)

    def _redeemable(
        self,
        reading: Reading,
        actor: Actor,
        share_id: str,
        secret: str | None,
        address: str | None,
    ) -> Columns:
        """Return the row of a share that its secret, or an actor who covers it, may redeem."""
        if secret is None:
            row = actor.find(reading, share_id, "share.redeem")
            actor.require_cover(compile_share_row(row))
            return row

        found = None
        if kind_of(secret, self._brand) == "shr":
            found = reading.shares.get(share_id)
        if found is None or not compare_digest(found["digest"], digest(secret)):
            raise Denied("unknown_credential", address=address)
        return found


def _judge(row: Row, now: float, address: str | None, *, gone: bool) -> None:
    """Raise Denied unless a share may be redeemed from this address once more."""
    compiled = compile_share_row(row)
    if gone:
        compiled = compiled.closed()
    if not compiled.admits(now, address):
        raise compiled.refusal(now, address)
    if row["max_redemptions"] is not None and row["redemptions"] >= row["max_redemptions"]:
        raise _exhausted(row, address)


def _exhausted(row: Row, address: str | None) -> Denied:
    return Denied("redemptions_exhausted", record_id=row["id"], address=address)
