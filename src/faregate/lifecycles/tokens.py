"""The lifecycle of tokens: each rule once, whoever calls (Python, HTTP, the command line)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from faregate.credentials.opaque import digest, family_digest, mint
from faregate.decision.compiled import covers
from faregate.errors import (
    Conflict,
    Denied,
    InvalidInput,
    NotFound,
    PreconditionFailed,
    StoreUnavailable,
)
from faregate.lifecycles.deactivation import (
    REVOKED,
    activate,
    check_leaked,
    close_descent,
    deactivate,
)
from faregate.lifecycles.paging import fill, mark, read_mark
from faregate.lifecycles.refresh_tokens import LIFETIME
from faregate.lifecycles.rotation import Rotation
from faregate.lifecycles.token_fields import (
    REFRESH,
    OptionalTokenFields,
    TokenFields,
    Values,
    as_list,
    blank_columns,
    check_change_of_times,
    check_times,
    check_type,
    check_unchanged,
    check_window,
    given_columns,
    keep_parties,
    limits_of,
    loosens,
    names_of,
    org_columns,
    owner_columns,
    owner_of,
    token_of,
)
from faregate.model import Batch, Closed, Failure, Issued, Org, Owner, Page, Token
from faregate.stores.queries import Place, TokenQuery
from faregate.values.identifiers import is_id
from faregate.values.instants import Instant, parse_instant
from faregate.values.names import MAX_ID, MAX_NAME, check_id, check_name, check_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import Rights
    from faregate.lifecycles.authority import By, Call
    from faregate.lifecycles.deactivation import Switch
    from faregate.lifecycles.refresh_tokens import RefreshTokens
    from faregate.lifecycles.transactions import Transactions
    from faregate.model import Exchanged
    from faregate.policy import Policy
    from faregate.stores.store import Change

_OWNER, _ORG = tuple(owner_columns(Owner())), tuple(org_columns(Org()))
_OWNER_BUT_NAME = tuple(
    column for column in _OWNER if column != "owner_name"
)  # people may be renamed
TYPES = ("API", "REFRESH", "PROXY", "EXTENSION")
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
MAX_BATCH = 100


class Tokens:
    """Creates, shows, changes, rotates, deactivates and deletes tokens of one store.

    Every method takes ``by``: nobody means root, a text is recorded and trusted, a Principal is judged by its
    scopes, its reach and what it covers. All raise InvalidInput for bad values, NotFound for a token that is
    not there or not reached, Denied where the actor may not, StoreUnavailable where the store cannot answer.
    """

    def __init__(
        self, transactions: Transactions, policy: Policy, refresh: RefreshTokens, *, brand: str
    ) -> None:
        self._transactions = transactions
        self._policy = policy
        self._brand = brand
        self._refresh = refresh
        self._rotation = Rotation(transactions, brand=brand)

    def create(
        self,
        *,
        name: str,
        type: str = "API",  # noqa: A002  the member's name
        by: By = None,
        **details: Unpack[OptionalTokenFields],
    ) -> Issued:
        """Make a token and return it with its credential, which is shown here and never again.

        A limit that is left out (networks, expiry, start) is the maker's own; an empty list of networks
        allows every address, a null expiry never expires. ``expires_at`` is an aware datetime, an RFC 3339
        text or epoch seconds, ``expires_in`` a timedelta or seconds. A token of type REFRESH opens nothing but
        :meth:`exchange`, has an end (of 90 days, if neither maker nor policy give another), and is replaced in each
        exchange unless ``require_rotation`` is False. Denied ``insufficient_scope`` if the
        token would be wider than its maker, InvalidInput beyond the gate's policy, Conflict if its owner has as
        many tokens as the policy allows.
        """
        now = self._transactions.now()
        given = given_columns({"name": name, **details}, now)
        if type not in TYPES:
            raise InvalidInput(f"type: one of {', '.join(TYPES)}")
        with self._transactions.changing(by, now) as (change, actor):
            actor.permit("token.create")
            inherited = actor.inherited
            parties = keep_parties(given, inherited, update=False)
            if "owner_id" in given:
                self._transactions.identities.check(owner_of(parties))
            values: Values = {
                **blank_columns(type, now),
                "made_by": actor.maker,
                **inherited,
                **parties,
            }
            if "expires_at" not in given:
                usual = LIFETIME if type == REFRESH else None
                values["expires_at"] = self._policy.expiry(now, inherited["expires_at"], usual)
            check_type(values)
            check_times(values, now)
            self._policy.check_expiry(now, values["expires_at"])
            actor.require_parties(values, inherited, owner=_OWNER, org=_ORG)
            record = limits_of(values)
            actor.require_cover(record)
            self._policy.check_grants(record.grants)
            self._check_number(change, values, now)
            secret = mint(self._brand, "rft" if type == REFRESH else "tok")
            change.tokens.add(values, digest(secret))
            if type == REFRESH:
                change.refresh.found(values["id"], family_digest(secret))
            change.enter(actor.entry(now, "token.create", values, {"name": name, "type": type}))
            return Issued(token_of(values), secret)

    def get(self, token_id: str, *, by: By = None) -> Token:
        """Return a token. ``self`` stands for the token of the principal in ``by``."""
        with self._transactions.reading(by, self._transactions.now()) as (reading, actor):
            return token_of(actor.find(reading, token_id, "token.get"))

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
        after: str | None = None,
        by: By = None,
    ) -> Page[Token]:
        """Return a page of the tokens that the actor reaches and that meet every filter.

        ``owner`` is an owner's id; ``sort`` is a name of :data:`SORTABLE`, with ``-`` before it for descending.
        ``after`` is the ``next`` of a page in the same order: so a list is walked whole that is changed meanwhile. A
        page has at most ``limit`` tokens, and fewer where they would weigh more than 4 MiB.
        """
        column = SORTABLE.get(sort.removeprefix("-")) if isinstance(sort, str) else None
        if column is None:
            raise InvalidInput(
                f"sort: one of {', '.join(SORTABLE)}, with '-' before it for descending"
            )
        if type is not None and type not in TYPES:
            raise InvalidInput(f"type: one of {', '.join(TYPES)}")
        for member, text, longest in (("owner", owner, MAX_ID), ("name", name, MAX_NAME)):
            if text is not None:
                check_name(text, member, longest)
        check_window(limit, offset, after)
        place = None if after is None else read_mark(after, sort)
        before = None if expires_before is None else parse_instant(expires_before, "expiresBefore")
        descending = sort.startswith("-")
        query = TokenQuery(
            owner, type, name, deactivated, before, column, descending, limit, offset, place
        )
        with self._transactions.reading(by, self._transactions.now()) as (reading, actor):
            actor.permit("token.list")
            rows, total = reading.tokens.list(query, actor.reach)
            page, more = fill(rows, token_of, limit)
        following = mark(sort, Place(page[-1][0][column], page[-1][0]["id"])) if more else None
        return Page(tuple(token for _, token in page), total, limit, offset, following)

    def update(
        self,
        token_id: str,
        *,
        unchanged: Mapping[str, Any] | None = None,
        if_version: Sequence[int] | None = None,
        by: By = None,
        **members: Unpack[TokenFields],
    ) -> Token:
        """Change the members that are given and return the token; lists and scopes are replaced whole.

        Allowed if the record before covers the record after, else only to an actor who covers the latter; to him alone,
        too, is it to have a refresh token go on after an exchange that used to replace it.
        ``unchanged`` names members that cannot change (as in JSON), with the values that the caller believes
        in: InvalidInput if one differs, and for a change beyond the gate's policy. Conflict if the expiry of an
        expired token would change, or a new owner has as many tokens as the policy allows; PreconditionFailed if
        the token has none of the versions in ``if_version``.
        """
        now = self._transactions.now()
        given = given_columns(members, now)
        hands = self._hands(token_id, given, now, by)
        with self._transactions.changing(by, now) as (change, actor):
            before = actor.find(change, token_id, "token.update")
            if if_version is not None and before["version"] not in if_version:
                raise PreconditionFailed(
                    f"The token is at version {before['version']} now; read it again."
                )
            if unchanged:
                check_unchanged(token_of(before), unchanged)
            wanted = keep_parties(given, before, update=True)
            changed = {column: value for column, value in wanted.items() if value != before[column]}
            if not changed:
                return token_of(before)
            after = {**before, **changed, "updated_at": now}
            check_type(after)
            if before["revoked_at"] is not None:
                raise Conflict(REVOKED)
            check_change_of_times(before, after, now)
            actor.require_parties(after, before, owner=_OWNER_BUT_NAME, org=_ORG)
            if owner_of(after) != owner_of(before):
                self._transactions.identities.check(owner_of(after))
            earlier, later = limits_of(before), limits_of(after)
            if loosens(before, after) or not covers(earlier, later):
                actor.require_cover(later)
            # Beside that, what it opens now: a new owner may do more than the one before.
            if self._transactions.joins_rights and earlier.owner != later.owner:
                earlier, later = _in_hands(hands, earlier, later)
                if not covers(earlier, later):
                    actor.require_cover(later)
            self._check_policy(change, before, after, now)
            details = {"members": names_of(changed)}
            return actor.amend(change, now, "token.update", before, changed, details)

    def rotate(
        self,
        token_id: str,
        *,
        grace: timedelta | float | None = None,
        leaked: bool = False,
        by: By = None,
    ) -> Issued:
        """Give the token a new credential and return it; everything else stays.

        The old credential dies at once, or at the end of ``grace`` (0 to 7 days, never past the expiry; by default 0,
        and 60 s where a token rotates itself; of a refresh token always 0). In its grace it opens routes, and rotates
        only while the new one was never presented: that one dies unseen, the grace stays, and so the loss of an
        answer locks nobody out. ``leaked`` forces no grace, and closes what came from the token as
        :meth:`deactivate` does; whoever may activate a token that was closed as leaked rotates it so, and it stays
        deactivated. Conflict if the token is expired, deactivated or revoked, or another rotation came first.
        """
        return self._rotation.rotate(token_id, grace, leaked=check_leaked(leaked), by=by)

    def exchange(
        self, credential: str, scopes: Sequence[str] | None = None, *, address: str | None = None
    ) -> Exchanged:
        """Exchange a refresh credential for an access credential of 30 minutes, and for its own successor.

        ``scopes`` narrows the access credential to these general scopes, without permissions and roles; it never opens
        more than the refresh token then and at present. ``address`` is the client's, without a port. Where rotation is
        required, ``refresh_token`` takes over: for 30 seconds, until it is itself exchanged, the old one answers the
        same again. After that an old one revokes the whole family, for good. Denied, with the reason, for a credential
        that is unknown or dead, and ``insufficient_scope`` for scopes that it does not grant.
        """
        return self._refresh.exchange(credential, scopes, address)

    def deactivate(
        self, token_id: str, *, reason: str | None = None, leaked: bool = False, by: By = None
    ) -> Token:
        """Close the token until it is activated. Repeating it changes nothing, save that an admin's takes over.

        ``leaked`` closes whatever came from it, too: it deactivates every token that it made or rotated, revokes every
        share that it made, and goes on with what those made and rotated. All their graces end. The answer's ``closed``
        names them. None of them is activated before :meth:`rotate` with ``leaked`` has replaced its credential.
        Root closes so what came from a token that is deleted, too: NotFound says what that was.
        """
        _check_reason(reason)
        check_leaked(leaked)
        now = self._transactions.now()
        with self._transactions.changing(by, now) as (change, actor):
            gone = leaked and actor.root and is_id(token_id) and change.tokens.get(token_id) is None
            row = {"id": token_id} if gone else actor.find(change, token_id, "token.deactivate")
            closed = close_descent(change, actor, row, reason, now) if leaked else Closed()
            if not gone:
                token = deactivate(change, actor, row, reason, now, leaked=leaked)
                return msgspec.structs.replace(token, closed=closed) if leaked else token

        # Said when what came from it is closed, and that is committed.
        raise NotFound(f"There is no such token. {closed.words}")

    def activate(self, token_id: str, *, reason: str | None = None, by: By = None) -> Token:
        """Open a deactivated token again: only for who deactivated it, an admin, or root. Repeating changes nothing.

        Conflict for a token that was revoked, or was closed as leaked and not rotated since.
        """
        _check_reason(reason)
        now = self._transactions.now()
        with self._transactions.changing(by, now) as (change, actor):
            return activate(
                change, actor, actor.find(change, token_id, "token.activate"), reason, now
            )

    def deactivate_many(self, token_ids: Sequence[str], *, by: By = None) -> Batch:
        """Deactivate up to 100 tokens, each as :meth:`deactivate` would, and return which that was done to.

        What cannot be done to one is told with it, and hinders no other.
        """
        return self._many(token_ids, "token.deactivate_many", "token.deactivate", deactivate, by)

    def activate_many(self, token_ids: Sequence[str], *, by: By = None) -> Batch:
        """Activate up to 100 tokens, each as :meth:`activate` would, and return which that was done to."""
        return self._many(token_ids, "token.activate_many", "token.activate", activate, by)

    def delete(self, token_id: str, *, by: By = None) -> None:
        """Remove the token for good. Its credential is unknown from now on."""
        now = self._transactions.now()
        with self._transactions.changing(by, now) as (change, actor):
            row = actor.find(change, token_id, "token.delete")
            change.enter(actor.entry(now, "token.delete", row, {"name": row["name"]}))
            change.refresh.delete(row["id"])
            change.tokens.delete(row["id"])

    def _many(
        self, token_ids: Sequence[str], batch_call: Call, call: Call, switch: Switch, by: By
    ) -> Batch:
        ids = dict.fromkeys(
            check_id(one, f"ids[{n}]") for n, one in enumerate(as_list(token_ids, "ids", MAX_BATCH))
        )
        now = self._transactions.now()
        successes: list[str] = []
        failures: list[Failure] = []
        with self._transactions.changing(by, now) as (change, actor):
            actor.permit(batch_call)
            for token_id in ids:
                try:
                    switch(change, actor, actor.find(change, token_id, call), None, now)
                except (NotFound, Conflict, Denied) as error:  # raised before anything was changed
                    failures.append(
                        Failure(token_id, error.detail if isinstance(error, Denied) else str(error))
                    )
                else:
                    successes.append(token_id)
        return Batch(tuple(successes), tuple(failures))

    def _hands(self, token_id: str, given: Values, now: float, by: By) -> dict[Owner, Rights]:
        """Return what the owners before and after a change may do, where another one is named and rights are joined.

        The application is asked, which may take its time; so it is asked before the change's transaction.
        """
        if not self._transactions.joins_rights or not any(column in given for column in _OWNER):
            return {}
        with self._transactions.reading(by, now) as (reading, actor):
            before = actor.find(reading, token_id, "token.update")
        owners = {
            owner_of(before),
            owner_of({**before, **keep_parties(given, before, update=True)}),
        }
        return (
            {owner: self._transactions.rights_of(owner) for owner in owners}
            if len(owners) > 1
            else {}
        )

    def _check_policy(self, change: Change, before: Values, after: Values, now: float) -> None:
        """Raise InvalidInput or Conflict where what is changed is beyond the policy; what stays is not asked about."""
        if after["expires_at"] != before["expires_at"]:
            self._policy.check_expiry(after["created_at"], after["expires_at"])
        if after["allowed_scopes"] != before["allowed_scopes"]:
            self._policy.check_grants(limits_of(after).grants)
        if any(
            after[column] != before[column] for column in ("owner_id", "owner_idp_id", "org_id")
        ):
            self._check_number(change, after, now)

    def _check_number(self, change: Change, values: Values, now: float) -> None:
        most = self._policy.max_tokens_per_owner
        if (
            most is not None
            and values["owner_id"] is not None
            and change.tokens.count_of(values, now) >= most
        ):
            raise Conflict(
                f"owner: has {most} tokens, as many as the policy of this gate allows; delete one that is not needed"
            )


def _in_hands(
    hands: dict[Owner, Rights], earlier: CompiledCredential, later: CompiledCredential
) -> tuple[CompiledCredential, CompiledCredential]:
    """Return what a token opens before and after a change of its owner, with what each of them may do now."""
    try:
        return earlier.bounded(*hands[earlier.owner]), later.bounded(*hands[later.owner])
    except KeyError:  # somebody else has changed the owner meanwhile: ask again
        raise StoreUnavailable from None


def _check_reason(reason: object) -> None:
    if reason is not None:
        check_text(reason, "reason", 500)
