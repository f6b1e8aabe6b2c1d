"""The statements about tokens and their credentials, in a transaction.

The law of updates: a statement names the columns that it changes, so that a stale copy of a record
never brings a former value back.

A credential is stored as its digest. Its states::

                                    grace is over,
    CURRENT ── replaced, ──► GRACE ─ or is ended ──► deleted
       │       with a grace                             ▲
       └── replaced without a grace, or unseen ─────────┘

- A token has one current credential, and at most one in its grace.
- A rotation with a grace marks the new credential as unseen until it is first presented. If it is
  replaced before that, it is deleted, and the former credential keeps its grace.

The rows of ``descent`` say from which origins a token comes: the tokens that rotated it and, as a
tombstone of a deleted token, its maker. A tombstone lives as long as the token has descendants.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, exists, func, insert, or_, select, update

from faregate.stores.queries import ID, beginning, breadth
from faregate.stores.rows import (
    FAMILY,
    NO_FAMILY,
    Order,
    Rows,
    listing_of,
    owned,
    page_parameters,
    reached,
)
from faregate.stores.schema import descent, secrets, shares, tokens, unseen
from faregate.stores.sound_rows import first_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from sqlalchemy import BindParameter, ColumnElement

    from faregate.stores.queries import Beginning, Breadth, Reach, TokenQuery
    from faregate.stores.rows import Listing, Values

    Columns = Mapping[str, Any]

_CHILD = descent.alias()

_OF_TOKEN = secrets.c.token_id == bindparam("token")
_NOT_SUPERSEDED = secrets.c.superseded_at.is_(None)
_IS_CURRENT = _OF_TOKEN & (secrets.c.digest == bindparam("current")) & _NOT_SUPERSEDED

# The conditions of a list, by the names of the fields of TokenQuery.
_FILTERS: dict[str, ColumnElement[bool]] = {
    "owner_id": tokens.c.owner_id == bindparam("owner_id"),
    "type": tokens.c.type == bindparam("type"),
    "name": tokens.c.name == bindparam("name"),
    "deactivated": tokens.c.deactivated == bindparam("deactivated"),
    "expires_before": tokens.c.expires_at < bindparam("expires_before"),
}

# Frequent statements are built once: SQLAlchemy takes longer to build a statement than to run it.
_COUNT_LIVE = (
    select(func.count())
    .select_from(tokens)
    .where(owned(tokens, bindparam("owner_id"), bindparam("owner_idp_id")))
    .where(tokens.c.org_id.is_not_distinct_from(bindparam("org_id")))
    .where(or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > bindparam("now")))
    .where(tokens.c.revoked_at.is_(None))
)
_SELECT_CURRENT = select(secrets.c.digest).where(_OF_TOKEN, _NOT_SUPERSEDED)
_SELECT_HOLDER = (
    select(tokens)
    .join_from(tokens, secrets)
    .where(secrets.c.digest == bindparam("digest"), _OF_TOKEN, NO_FAMILY)
    .where(or_(_NOT_SUPERSEDED, secrets.c.superseded_at > bindparam("now")))
)

_INSERT_TOKEN = insert(tokens)
_UPDATE_TOKEN = (
    update(tokens)
    .where(tokens.c.id == bindparam("token"))
    .values({tokens.c.version: tokens.c.version + 1})
)
_SELECT_EDGE = select(descent).where(
    descent.c.id == bindparam("id"), descent.c.origin == bindparam("origin")
)
_INSERT_EDGE = insert(descent)

_INSERT_UNSEEN = insert(unseen)
_DELETE_UNSEEN = delete(unseen).where(unseen.c.digest == bindparam("digest"))

_INSERT_SECRET = insert(secrets)
_DELETE_CURRENT = delete(secrets).where(_IS_CURRENT)
_SUPERSEDE_CURRENT = update(secrets).where(_IS_CURRENT)
_DELETE_SUPERSEDED = delete(secrets).where(_OF_TOKEN, ~_NOT_SUPERSEDED)
_DELETE_OTHERS = delete(secrets).where(_OF_TOKEN, secrets.c.digest != bindparam("current"))


class TokenRows(Rows):
    """Reads and writes the rows of tokens and of their credentials in a transaction."""

    table = tokens

    def list(self, query: TokenQuery, reach: Reach | None) -> tuple[Iterator[Values], int]:
        """Return a page of the reached tokens that meet the query, and the number of them all."""
        filters = {name: value for name in _FILTERS if (value := getattr(query, name)) is not None}
        listing = _listing(
            breadth(reach), tuple(filters), query.sort, query.descending, beginning(query.after)
        )

        parameters = page_parameters(reach, query.limit, query.offset, query.after)
        return self.page(listing, filters | parameters)

    def count_of(self, owner: Columns, now: float) -> int:
        """Return the number of an owner's tokens that have neither expired nor been revoked.

        ``owner`` holds the owner's columns, ``now`` is in epoch seconds.
        """
        columns = {column: owner[column] for column in ("owner_id", "owner_idp_id", "org_id")}
        return self._connection.execute(_COUNT_LIVE, {**columns, "now": now}).scalar_one()

    def current_digest(self, token_id: str) -> bytes | None:
        """Return the digest of the current credential of a token, or None."""
        if not ID.fullmatch(token_id):
            return None
        return self._connection.execute(_SELECT_CURRENT, {"token": token_id}).scalar()

    def by_digest(self, digest: bytes, *, refresh: bool) -> tuple[Values, float | None] | None:
        """Return the columns of the token of a credential, and the end of the credential's grace.

        The end is in epoch seconds, and None for the current credential. ``refresh`` is the kind of
        the credential; a token of another kind is not returned.
        """
        statement = select(tokens, secrets.c.superseded_at).join_from(tokens, secrets)
        kind = FAMILY if refresh else NO_FAMILY
        row = first_of(self._connection.execute(statement.where(secrets.c.digest == digest, kind)))
        if row is None:
            return None
        return row, row.pop("superseded_at")

    def held(self, token_id: str, digest: bytes, now: float) -> Values | None:
        """Return the columns of a token if a credential of it is current or in its grace.

        A refresh token is never returned. ``now`` is in epoch seconds.
        """
        holder = {"token": token_id, "digest": digest, "now": now}
        return first_of(self._connection.execute(_SELECT_HOLDER, holder))

    def add(self, values: Values, digest: bytes) -> None:
        """Insert a token, and the digest of its current credential."""
        self._connection.execute(_INSERT_TOKEN, values)
        self._connection.execute(_INSERT_SECRET, {"digest": digest, "token_id": values["id"]})

    def update(self, values: Values, *token_ids: str) -> None:
        """Change the named columns of tokens, and increase their versions."""
        if token_ids:
            changes = [{**values, "token": token_id} for token_id in token_ids]
            self._connection.execute(_UPDATE_TOKEN, changes)

    def delete(self, token_id: str) -> None:
        """Delete a token and its credentials.

        If it made other records, a tombstone keeps its own maker.
        """
        digests = select(secrets.c.digest).where(secrets.c.token_id == token_id)
        self._connection.execute(delete(unseen).where(unseen.c.digest.in_(digests)))
        self._connection.execute(delete(secrets).where(secrets.c.token_id == token_id))

        select_maker = select(tokens.c.made_by).where(tokens.c.id == token_id)
        maker = self._connection.execute(select_maker).scalar()
        if maker is not None:
            self.add_origin(token_id, maker)

        # Without children nothing can come from it any more, so no tombstone is needed.
        childless = (descent.c.id == token_id) & ~_has_children(descent.c.id)
        self._connection.execute(delete(descent).where(childless))
        self._connection.execute(delete(tokens).where(tokens.c.id == token_id))

    def add_origin(self, token_id: str, origin: str) -> None:
        """Record the id of a token from which another token comes, unless it is recorded."""
        edge = {"id": token_id, "origin": origin}
        if self._connection.execute(_SELECT_EDGE, edge).first() is None:
            self._connection.execute(_INSERT_EDGE, edge)

    def forget_minters(self, token_id: str) -> None:
        """Delete the origins of a token, once all credentials that they minted are dead."""
        self._connection.execute(delete(descent).where(descent.c.id == token_id))

    def is_unseen(self, digest: bytes) -> bool:
        """Return True if a rotation made this credential, and it was never presented."""
        statement = select(unseen).where(unseen.c.digest == digest)
        return self._connection.execute(statement).first() is not None

    def mark_presented(self, digest: bytes) -> None:
        """Record that a credential was presented: it is no longer unseen."""
        self._connection.execute(_DELETE_UNSEEN, {"digest": digest})

    def replace_unseen(self, token_id: str, current: bytes, new: bytes) -> bool:
        """Replace the unseen current credential; return False if ``current`` is not current.

        It dies at once, and the credential before it keeps its grace.
        """
        deleted = self._connection.execute(_DELETE_CURRENT, {"token": token_id, "current": current})
        if deleted.rowcount != 1:
            return False

        self.mark_presented(current)
        self._connection.execute(_INSERT_SECRET, {"digest": new, "token_id": token_id})
        self._connection.execute(_INSERT_UNSEEN, {"digest": new})
        return True

    def replace_secret(
        self, token_id: str, current: bytes, new: bytes, superseded_at: float | None
    ) -> bool:
        """Replace the current credential; return False if ``current`` is not current.

        It dies at ``superseded_at``, in epoch seconds, or at once if that is None. An older
        credential in its grace dies at once.
        """
        replaced = {"token": token_id, "current": current}
        superseded = self._connection.execute(
            _SUPERSEDE_CURRENT, {**replaced, "superseded_at": superseded_at or 0.0}
        )
        if superseded.rowcount != 1:
            return False

        if superseded_at is None:
            self._connection.execute(_DELETE_SUPERSEDED, {"token": token_id})
        else:
            self._connection.execute(_DELETE_OTHERS, replaced)
        self.mark_presented(current)

        self._connection.execute(_INSERT_SECRET, {"digest": new, "token_id": token_id})
        if superseded_at is not None:
            self._connection.execute(_INSERT_UNSEEN, {"digest": new})
        return True

    def end_graces(self, token_ids: Sequence[str]) -> None:
        """Delete the superseded credentials of tokens, whose graces end now."""
        if token_ids:
            parameters = [{"token": token_id} for token_id in token_ids]
            self._connection.execute(_DELETE_SUPERSEDED, parameters)

    def delete_superseded(self, now: float, most: int) -> int:
        """Delete at most ``most`` credentials whose grace is over; return how many."""
        over = select(secrets.c.digest).where(secrets.c.superseded_at <= now).limit(most)
        return self._connection.execute(delete(secrets).where(secrets.c.digest.in_(over))).rowcount

    def delete_childless(self, most: int) -> int:
        """Delete tombstones without descendants, at most ``most`` tokens; return how many rows.

        The origins of a deleted tombstone may be childless now: call it again until it returns 0.
        """
        alive = exists().where(tokens.c.id == descent.c.id)
        childless = select(descent.c.id).where(~alive, ~_has_children(descent.c.id))
        ids = childless.distinct().limit(most)
        return self._connection.execute(delete(descent).where(descent.c.id.in_(ids))).rowcount

    def note_uses(self, uses: Sequence[tuple[str, float]]) -> None:
        """Move ``last_used_at`` of tokens forward, never back.

        ``uses`` are pairs of an id and an instant in epoch seconds. A use does not change the
        record, so the version stays and no entry is written.
        """
        at: BindParameter[float] = bindparam("at")
        earlier = tokens.c.last_used_at.is_(None) | (tokens.c.last_used_at < at)
        statement = update(tokens).where((tokens.c.id == bindparam("token")) & earlier)

        parameters = [{"token": token_id, "at": used_at} for token_id, used_at in uses]
        self._connection.execute(statement.values(last_used_at=at), parameters)


def _has_children(token_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition under which any record or tombstone comes from a token."""
    made = [exists().where(table.c.made_by == token_id) for table in (tokens.alias(), shares)]
    return or_(*made, exists().where(_CHILD.c.origin == token_id))


@lru_cache(maxsize=256)
def _listing(
    breadth: Breadth,
    filters: tuple[str, ...],
    sort: str,
    descending: bool,  # noqa: FBT001  a cache key has no keywords
    begins: Beginning,
) -> Listing:
    """Return the statements of a list with these filters, which are names of fields."""
    where = [reached(tokens, breadth), *(_FILTERS[name] for name in filters)]
    return listing_of(tokens, where, Order(tokens.c[sort], tokens.c.id, descending), begins)
