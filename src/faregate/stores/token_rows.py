"""The statements about tokens and their secrets, inside a transaction of :mod:`faregate.stores.store`.

Updates are partial: a statement names the columns that it changes, so that no stale copy brings anything back.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, exists, func, insert, or_, select, update

from faregate.stores.queries import ID, beginning, breadth
from faregate.stores.rows import FAMILY, Order, Rows, listing_of, owned, page_parameters, reached
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

# The statements of what happens often. They are made once, since SQLAlchemy takes longer to make one than to run it.
_OF_TOKEN = secrets.c.token_id == bindparam("token")
_NOT_SUPERSEDED = secrets.c.superseded_at.is_(None)
_IS_CURRENT = _OF_TOKEN & (secrets.c.digest == bindparam("current")) & _NOT_SUPERSEDED

# By the names that a query has for them.
_FILTERS: dict[str, ColumnElement[bool]] = {
    "owner_id": tokens.c.owner_id == bindparam("owner_id"),
    "type": tokens.c.type == bindparam("type"),
    "name": tokens.c.name == bindparam("name"),
    "deactivated": tokens.c.deactivated == bindparam("deactivated"),
    "expires_before": tokens.c.expires_at < bindparam("expires_before"),
}
_COUNT_ALIVE = (
    select(func.count())
    .select_from(tokens)
    .where(owned(tokens, bindparam("owner_id"), bindparam("owner_idp_id")))
    .where(tokens.c.org_id.is_not_distinct_from(bindparam("org_id")))
    .where(or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > bindparam("now")))
    .where(tokens.c.revoked_at.is_(None))
)
_SELECT_CURRENT = select(secrets.c.digest).where(_OF_TOKEN, _NOT_SUPERSEDED)
_SELECT_HELD = (
    select(tokens)
    .join_from(tokens, secrets)
    .where(secrets.c.digest == bindparam("digest"), _OF_TOKEN, ~FAMILY)
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
    """The rows of tokens, as one transaction sees and changes them."""

    table = tokens

    def list(self, query: TokenQuery, reach: Reach | None) -> tuple[Iterator[Values], int]:
        """Return one page of the tokens that are reached and meet the query, and how many there are in all."""
        filters = {name: value for name in _FILTERS if (value := getattr(query, name)) is not None}
        listing = _listing(
            breadth(reach), tuple(filters), query.sort, query.descending, beginning(query.after)
        )
        return self.page(
            listing, filters | page_parameters(reach, query.limit, query.offset, query.after)
        )

    def count_of(self, owner: Columns, now: float) -> int:
        """Return how many tokens an owner has that have neither expired nor been revoked.

        ``owner`` holds the columns that say whose.
        """
        whose = {column: owner[column] for column in ("owner_id", "owner_idp_id", "org_id")}
        return self._connection.execute(_COUNT_ALIVE, {**whose, "now": now}).scalar_one()

    def current_digest(self, token_id: str) -> bytes | None:
        """Return the digest of a token's current credential: the one that no rotation has superseded."""
        if not ID.fullmatch(token_id):
            return None
        return self._connection.execute(_SELECT_CURRENT, {"token": token_id}).scalar()

    def by_digest(self, digest: bytes, *, refresh: bool) -> tuple[Values, float | None] | None:
        """Return the columns of the token whose credential has this digest, and when that was or will be superseded.

        ``refresh`` says whether the credential is of a refresh token: of another kind than its record it is nothing.
        """
        wanted = select(tokens, secrets.c.superseded_at).join_from(tokens, secrets)
        wanted = wanted.where(secrets.c.digest == digest, FAMILY if refresh else ~FAMILY)
        values = first_of(self._connection.execute(wanted))
        return None if values is None else (values, values.pop("superseded_at"))

    def held(self, token_id: str, digest: bytes, now: float) -> Values | None:
        """Return the columns of a token that is no refresh token, if a credential is one of its live ones."""
        holder = {"token": token_id, "digest": digest, "now": now}
        return first_of(self._connection.execute(_SELECT_HELD, holder))

    def add(self, values: Values, digest: bytes) -> None:
        """Insert a token and the digest of its credential."""
        self._connection.execute(_INSERT_TOKEN, values)
        self._connection.execute(_INSERT_SECRET, {"digest": digest, "token_id": values["id"]})

    def update(self, values: Values, *token_ids: str) -> None:
        """Change the named columns of tokens and count their versions up."""
        if token_ids:
            changes = [{**values, "token": token_id} for token_id in token_ids]
            self._connection.execute(_UPDATE_TOKEN, changes)

    def delete(self, token_id: str) -> None:
        """Remove a token and its credentials. Where it comes from is kept for as long as others come from it."""
        mine = select(secrets.c.digest).where(secrets.c.token_id == token_id)
        self._connection.execute(delete(unseen).where(unseen.c.digest.in_(mine)))
        self._connection.execute(delete(secrets).where(secrets.c.token_id == token_id))

        maker = self._connection.execute(
            select(tokens.c.made_by).where(tokens.c.id == token_id)
        ).scalar()
        if maker is not None:
            self.add_origin(token_id, maker)
        childless = (descent.c.id == token_id) & ~_has_children(descent.c.id)
        self._connection.execute(delete(descent).where(childless))
        self._connection.execute(delete(tokens).where(tokens.c.id == token_id))

    def add_origin(self, token_id: str, origin: str) -> None:
        """Keep that a token comes from another one: it minted a secret of it, or, of a token that is gone, made it."""
        edge = {"id": token_id, "origin": origin}
        if self._connection.execute(_SELECT_EDGE, edge).first() is None:
            self._connection.execute(_INSERT_EDGE, edge)

    def forget_minters(self, token_id: str) -> None:
        """Forget who minted secrets of a token that lives: none of those opens anything any more."""
        self._connection.execute(delete(descent).where(descent.c.id == token_id))

    def is_unseen(self, digest: bytes) -> bool:
        """Tell whether a credential is a rotation's new one that nobody has presented yet."""
        return (
            self._connection.execute(select(unseen).where(unseen.c.digest == digest)).first()
            is not None
        )

    def mark_presented(self, digest: bytes) -> None:
        """Note that a credential was presented."""
        self._connection.execute(_DELETE_UNSEEN, {"digest": digest})

    def replace_unseen(self, token_id: str, current: bytes, new: bytes) -> bool:
        """Make ``new`` the token's credential if ``current`` still is it; say whether that was so.

        The current one dies, and the one before it keeps its grace.
        """
        swapped = self._connection.execute(_DELETE_CURRENT, {"token": token_id, "current": current})
        if swapped.rowcount != 1:
            return False
        self.mark_presented(current)
        self._connection.execute(_INSERT_SECRET, {"digest": new, "token_id": token_id})
        self._connection.execute(_INSERT_UNSEEN, {"digest": new})
        return True

    def replace_secret(
        self, token_id: str, current: bytes, new: bytes, superseded_at: float | None
    ) -> bool:
        """Make ``new`` the token's credential if ``current`` still is it; say whether that was so.

        The old one dies at once, or at ``superseded_at``; any older one dies now.
        """
        replaced = {"token": token_id, "current": current}
        swapped = self._connection.execute(
            _SUPERSEDE_CURRENT, {**replaced, "superseded_at": superseded_at or 0.0}
        )
        if swapped.rowcount != 1:
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
        """Remove the credentials of tokens that a rotation has superseded."""
        if token_ids:
            self._connection.execute(
                _DELETE_SUPERSEDED, [{"token": token_id} for token_id in token_ids]
            )

    def delete_superseded(self, now: float, most: int) -> int:
        """Remove credentials whose grace is over, so many at most; return how many there were."""
        over = select(secrets.c.digest).where(secrets.c.superseded_at <= now).limit(most)
        return self._connection.execute(delete(secrets).where(secrets.c.digest.in_(over))).rowcount

    def delete_childless(self, most: int) -> int:
        """Forget where tokens came from that are gone, as nothing does that comes from them; return how many."""
        alive = exists().where(tokens.c.id == descent.c.id)
        some = (
            select(descent.c.id).where(~alive, ~_has_children(descent.c.id)).distinct().limit(most)
        )
        return self._connection.execute(delete(descent).where(descent.c.id.in_(some))).rowcount

    def note_uses(self, uses: Sequence[tuple[str, float]]) -> None:
        """Move ``last_used_at`` forward, never back; no version, no entry: it is no change of the record."""
        at: BindParameter[float] = bindparam("at")
        earlier = tokens.c.last_used_at.is_(None) | (tokens.c.last_used_at < at)
        moved = (
            update(tokens)
            .where((tokens.c.id == bindparam("token")) & earlier)
            .values(last_used_at=at)
        )
        self._connection.execute(
            moved, [{"token": token_id, "at": used_at} for token_id, used_at in uses]
        )


def _has_children(token_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the rule of whether anything comes from a token."""
    made = (exists().where(table.c.made_by == token_id) for table in (tokens.alias(), shares))
    return or_(*made, exists().where(_CHILD.c.origin == token_id))


@lru_cache(maxsize=256)
def _listing(
    breadth: Breadth,
    filters: tuple[str, ...],
    sort: str,
    descending: bool,  # noqa: FBT001  one of what a list is told by
    begins: Beginning,
) -> Listing:
    """Return the statements of a list that is narrowed by some filters."""
    where = [reached(tokens, breadth), *(_FILTERS[name] for name in filters)]
    return listing_of(tokens, where, Order(tokens.c[sort], tokens.c.id, descending), begins)
