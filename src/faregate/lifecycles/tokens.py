"""The lifecycle of tokens, whoever calls: Python, HTTP, or the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from faregate.credentials.opaque import digest, family_digest, mint
from faregate.errors import (
    Conflict,
    Denied,
    InvalidInput,
    NotFound,
    PreconditionFailed,
    StoreUnavailable,
)
from faregate.fields.field import as_list, names_of, org_columns, owner_columns, owner_of
from faregate.fields.token_fields import (
    REFRESH,
    TYPES,
    OptionalTokenFields,
    TokenFields,
    blank_columns,
    given_columns,
    token_of,
)
from faregate.lifecycles.change_rules import (
    check_change_of_times,
    check_times,
    check_type,
    check_unchanged,
    keep_parties,
    require_covered_change,
    stops_rotation,
)
from faregate.lifecycles.deactivation import (
    REVOKED,
    activate,
    check_leaked,
    close_lineage,
    deactivate,
)
from faregate.lifecycles.paging import check_window, fill, mark, read_mark
from faregate.lifecycles.refresh_tokens import LIFETIME
from faregate.lifecycles.rotation import Rotation
from faregate.model import Batch, Failure, Issued, Org, Owner, Page, Token
from faregate.stores.compiled_rows import compile_token_row
from faregate.stores.queries import Place, TokenQuery
from faregate.values.identifiers import is_id
from faregate.values.instants import Instant, parse_instant
from faregate.values.names import MAX_ID, MAX_NAME, check_id, check_name, check_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import Rights
    from faregate.fields.field import Columns, Row
    from faregate.lifecycles.authority import Actor, By, Call
    from faregate.lifecycles.deactivation import Switch
    from faregate.lifecycles.refresh_tokens import RefreshTokens
    from faregate.lifecycles.transactions import Transactions
    from faregate.model import Exchanged
    from faregate.policy import Policy
    from faregate.stores.store import Change

_OWNER = tuple(owner_columns(Owner()))
_ORG = tuple(org_columns(Org()))
# People may be renamed: another name makes no other owner.
_OWNER_BUT_NAME = tuple(column for column in _OWNER if column != "owner_name")
# The columns by which the tokens of an owner are counted.
_COUNTED_BY = ("owner_id", "owner_idp_id", "org_id")

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
MAX_REASON = 500  # characters


class Tokens:
    """Creates, shows, changes, rotates, deactivates and deletes the tokens of one store.

    Every method takes ``by``: None is root, a text is recorded as a name and trusted, a Principal
    is judged by its scopes, its reach and its limits. Every method raises InvalidInput for bad
    values, NotFound for a token that does not exist or is not reached, Denied where the actor may
    not call, and StoreUnavailable where the store cannot answer.
    """

    def __init__(
        self,
        transactions: Transactions,
        policy: Policy,
        refresh_tokens: RefreshTokens,
        *,
        brand: str,
    ) -> None:
        self._transactions = transactions
        self._policy = policy
        self._brand = brand
        self._refresh_tokens = refresh_tokens
        self._rotation = Rotation(transactions, brand=brand)

    def create(
        self,
        *,
        name: str,
        type: str = "API",  # noqa: A002  the field's name
        by: By = None,
        **fields: Unpack[OptionalTokenFields],
    ) -> Issued:
        """Create a token and return it with its credential, which is shown here and never again.

        A limit that is left out (networks, expiry, start) is that of the maker. An empty list of
        networks allows every address; a null expiry never expires. ``expires_at`` is an aware
        datetime, a text of RFC 3339 or epoch seconds, ``expires_in`` a timedelta or seconds.

        A token of type REFRESH opens nothing itself: see :meth:`exchange`. It always expires, by
        default after 90 days, and each exchange replaces it unless ``require_rotation`` is False.

        Raises Denied ``insufficient_scope`` if the token would be wider than its maker,
        InvalidInput for fields beyond the gate's policy, Conflict if its owner has as many tokens
        as the policy allows.

        >>> issued = gate.tokens.create(name="ci", scopes=["docs:read"], expires_in=3600)
        >>> issued.token.scope
        ('docs:read',)
        >>> gate.verify(issued.secret).allows("docs:read")
        True
        """
        now = self._transactions.now()
        given = given_columns({"name": name, **fields}, now)
        if type not in TYPES:
            raise InvalidInput(f"type: one of {', '.join(TYPES)}")

        with self._transactions.changing(by, now) as (change, actor):
            actor.permit("token.create")
            inherited = actor.inherited
            columns = self._new_columns(actor, given, inherited, type, now)
            self._check_new(change, actor, columns, inherited, now)

            secret = mint(self._brand, "rft" if type == REFRESH else "tok")
            change.tokens.add(columns, digest(secret))
            if type == REFRESH:
                change.refresh.register_family(columns["id"], family_digest(secret))
            change.enter(actor.entry(now, "token.create", columns, {"name": name, "type": type}))
            return Issued(token_of(columns), secret)

    def get(self, token_id: str, *, by: By = None) -> Token:
        """Return a token. ``self`` stands for the token of the principal in ``by``.

        >>> gate.tokens.get(token.id).name == token.name
        True
        """
        with self._transactions.reading(by, self._transactions.now()) as (reading, actor):
            return token_of(actor.find(reading, token_id, "token.get"))

    def list(
        self,
        *,
        owner: str | None = None,
        type: str | None = None,  # noqa: A002  the field's name
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

        ``owner`` is an owner's id. ``sort`` is ``name``, ``createdAt``, ``updatedAt``,
        ``expiresAt``, ``lastUsedAt``, ``type``, ``owner.name`` or ``org.name``, with ``-`` before
        it for descending. ``after`` is the ``next`` of a page in the same order: so a list that
        changes meanwhile is walked whole. A page has at most ``limit`` tokens, and fewer if they
        would exceed 4 MiB.

        >>> gate.tokens.list(owner="ann", sort="name", limit=10).total
        2
        """
        column = SORTABLE.get(sort.removeprefix("-")) if isinstance(sort, str) else None
        if column is None:
            raise InvalidInput(
                f"sort: one of {', '.join(SORTABLE)}, with '-' before it for descending"
            )
        if type is not None and type not in TYPES:
            raise InvalidInput(f"type: one of {', '.join(TYPES)}")
        if owner is not None:
            check_name(owner, "owner", MAX_ID)
        if name is not None:
            check_name(name, "name", MAX_NAME)
        if deactivated is not None and not isinstance(deactivated, bool):
            raise InvalidInput("deactivated: true or false")
        check_window(limit, offset, after)

        place = None if after is None else read_mark(after, sort)
        before = None
        if expires_before is not None:
            before = parse_instant(expires_before, "expiresBefore")
        descending = sort.startswith("-")
        query = TokenQuery(
            owner, type, name, deactivated, before, column, descending, limit, offset, place
        )
        with self._transactions.reading(by, self._transactions.now()) as (reading, actor):
            actor.permit("token.list")
            rows, total = reading.tokens.list(query, actor.reach)
            page, more = fill(rows, token_of, limit)

        following = None
        if more:
            last, _ = page[-1]
            following = mark(sort, Place(last[column], last["id"]))
        return Page(tuple(token for _, token in page), total, limit, offset, following)

    def update(
        self,
        token_id: str,
        *,
        unchanged: Mapping[str, Any] | None = None,
        if_version: Sequence[int] | None = None,
        by: By = None,
        **fields: Unpack[TokenFields],
    ) -> Token:
        """Change the given fields of a token and return it. Lists and scopes are replaced whole.

        ``metadata`` is merged (RFC 7396). ``unchanged`` holds read-only fields as GET showed them,
        by their names in JSON. ``if_version`` are the versions that the change expects.

        A change that does not narrow the token needs an actor who covers the token after it. Raises
        InvalidInput for read-only fields that differ and for a change beyond the gate's policy,
        Conflict if an expired token would change its expiry or a new owner has as many tokens as
        the policy allows, PreconditionFailed if the token is at another version.

        >>> gate.tokens.update(token.id, description="nightly builds").description
        'nightly builds'
        """
        now = self._transactions.now()
        # What cannot be taken is refused before anything is read.
        given_columns(fields, now)
        expected = None if if_version is None else as_list(if_version, "ifVersion")
        rights = self._rights_of_owners(token_id, fields, now, by)

        with self._transactions.changing(by, now) as (change, actor):
            before = actor.find(change, token_id, "token.update")
            if expected is not None and before["version"] not in expected:
                raise PreconditionFailed(
                    f"The token is at version {before['version']} now; read it again."
                )
            if unchanged:
                check_unchanged(token_of(before), unchanged)

            wanted = keep_parties(given_columns(fields, now, before), before, update=True)
            changed = {column: value for column, value in wanted.items() if value != before[column]}
            if not changed:
                return token_of(before)

            after = {**before, **changed, "updated_at": now}
            self._check_update(change, actor, before, after, rights, now)
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

        The old credential dies at once, or at the end of ``grace``: a timedelta or seconds, at most
        7 days, never beyond the expiry. The default is 0, and 60 s for a token that rotates itself;
        a refresh token has no grace. During its grace the old credential opens routes. It rotates
        only while the new credential was never presented: then that dies, and the grace stays. So,
        with a grace, a lost answer locks nobody out.

        ``leaked`` forces no grace, and closes the lineage of the token as :meth:`deactivate` does.
        Whoever may activate a token that was closed as leaked rotates it so; it stays deactivated.
        Raises Conflict if the token is expired, deactivated or revoked, or another rotation came
        first.

        >>> gate.tokens.rotate(token.id).secret != secret
        True
        """
        return self._rotation.rotate(token_id, grace, leaked=check_leaked(leaked), by=by)

    def exchange(
        self, credential: str, scopes: Sequence[str] | None = None, *, address: str | None = None
    ) -> Exchanged:
        """Exchange a refresh token for an access token of 30 minutes, and for its own successor.

        ``scopes`` narrows the access token to these general scopes, without permissions and roles.
        It never opens more than the refresh token does, then and at present. ``address`` is the
        client's, without a port. Where rotation is required, ``refresh_token`` takes over. The old
        token gets the same answer again for the retry window, 30 seconds by default, until the
        successor is exchanged itself. Afterwards an old token revokes the whole family for good
        (RFC 9700 section 4.14).

        Raises Denied, with the reason, for a credential that is unknown or dead, and
        ``insufficient_scope`` for scopes that it does not grant.

        >>> refresh = gate.tokens.create(name="app", type="REFRESH", scopes=["docs:read"]).secret
        >>> exchanged = gate.tokens.exchange(refresh)
        >>> gate.verify(exchanged.access_token).allows("docs:read")
        True
        """
        return self._refresh_tokens.exchange(credential, scopes, address)

    def deactivate(
        self, token_id: str, *, reason: str | None = None, leaked: bool = False, by: By = None
    ) -> Token:
        """Deactivate the token until it is activated. A repetition changes nothing.

        An admin's deactivation takes over from the owner's. ``leaked`` closes the lineage of the
        token, too: every token that it made or rotated is deactivated, every share that it made is
        revoked, and the same holds for the lineage of those. All their graces end. ``closed`` in
        the answer names them. None of them is activated before :meth:`rotate` with ``leaked`` has
        replaced its credential.

        Root closes the lineage of a deleted token, too: the NotFound names what was closed.

        >>> gate.tokens.deactivate(token.id, reason="left the team").deactivated
        True
        """
        _check_reason(reason)
        check_leaked(leaked)
        now = self._transactions.now()
        with self._transactions.changing(by, now) as (change, actor):
            deleted = (
                leaked and actor.root and is_id(token_id) and change.tokens.get(token_id) is None
            )
            if not deleted:
                row = actor.find(change, token_id, "token.deactivate")
                if not leaked:
                    return deactivate(change, actor, row, reason, now)
                closed = close_lineage(change, actor, row, reason, now)
                token = deactivate(change, actor, row, reason, now, leaked=True)
                return msgspec.structs.replace(token, closed=closed)
            closed = close_lineage(change, actor, {"id": token_id}, reason, now)

        # Raised once the lineage is closed, and that is committed.
        raise NotFound(f"There is no such token. {closed.words}")

    def activate(self, token_id: str, *, reason: str | None = None, by: By = None) -> Token:
        """Activate a deactivated token again. A repetition changes nothing.

        Only the actor who deactivated it, an admin, or root may. Raises Conflict for a token that
        was revoked, or was closed as leaked and not rotated since.

        >>> gate.tokens.deactivate(token.id).deactivated
        True
        >>> gate.tokens.activate(token.id).deactivated
        False
        """
        _check_reason(reason)
        now = self._transactions.now()
        with self._transactions.changing(by, now) as (change, actor):
            row = actor.find(change, token_id, "token.activate")
            return activate(change, actor, row, reason, now)

    def deactivate_many(self, token_ids: Sequence[str], *, by: By = None) -> Batch:
        """Deactivate up to 100 tokens, each as :meth:`deactivate` does, and return the outcomes.

        A failure is told with the id of its token, and hinders no other.

        >>> gate.tokens.deactivate_many([token.id]).successes == (token.id,)
        True
        """
        return self._many(token_ids, "token.deactivate_many", "token.deactivate", deactivate, by)

    def activate_many(self, token_ids: Sequence[str], *, by: By = None) -> Batch:
        """Activate up to 100 tokens, each as :meth:`activate` does, and return the outcomes.

        >>> gate.tokens.activate_many([token.id]).failures
        ()
        """
        return self._many(token_ids, "token.activate_many", "token.activate", activate, by)

    def delete(self, token_id: str, *, by: By = None) -> None:
        """Delete the token for good. Its credential is unknown from now on.

        >>> gate.tokens.delete(token.id)
        >>> gate.tokens.list(name=token.name).total
        0
        """
        now = self._transactions.now()
        with self._transactions.changing(by, now) as (change, actor):
            row = actor.find(change, token_id, "token.delete")
            change.enter(actor.entry(now, "token.delete", row, {"name": row["name"]}))
            change.refresh.delete(row["id"])
            change.tokens.delete(row["id"])

    def _new_columns(
        self, actor: Actor, given: Columns, inherited: Row, token_type: str, now: float
    ) -> Columns:
        """Return the columns of a new token: given, inherited from its maker, or blank."""
        given = keep_parties(given, inherited, update=False)
        columns = {
            **blank_columns(token_type, now),
            "made_by": actor.maker,
            **inherited,
            **given,
        }
        if "expires_at" not in given:
            usual = LIFETIME if token_type == REFRESH else None
            columns["expires_at"] = self._policy.expiry(now, inherited["expires_at"], usual)
        if "owner_id" in given:
            self._transactions.identities.check(owner_of(columns))
        return columns

    def _check_new(
        self, change: Change, actor: Actor, columns: Columns, inherited: Row, now: float
    ) -> None:
        check_type(columns)
        check_times(columns, now)
        self._policy.check_expiry(now, columns["expires_at"])
        actor.require_parties(columns, inherited, owner=_OWNER, org=_ORG)

        compiled = compile_token_row(columns)
        actor.require_cover(compiled)
        self._policy.check_grants(compiled.grants)
        self._check_number(change, columns, now)

    def _check_update(
        self,
        change: Change,
        actor: Actor,
        before: Row,
        after: Columns,
        rights: Mapping[Owner, Rights],
        now: float,
    ) -> None:
        check_type(after)
        if before["revoked_at"] is not None:
            raise Conflict(REVOKED)
        check_change_of_times(before, after, now)
        actor.require_parties(after, before, owner=_OWNER_BUT_NAME, org=_ORG)
        if owner_of(after) != owner_of(before):
            self._transactions.identities.check(owner_of(after))

        earlier = compile_token_row(before)
        later = compile_token_row(after)
        require_covered_change(actor, earlier, later, loosens=stops_rotation(before, after))
        # A new owner may have more rights than the one before.
        if self._transactions.joins_rights and earlier.owner != later.owner:
            earlier = _within_rights(earlier, rights)
            later = _within_rights(later, rights)
            require_covered_change(actor, earlier, later, loosens=False)
        self._check_policy(change, before, after, now)

    def _check_policy(self, change: Change, before: Row, after: Columns, now: float) -> None:
        """Raise InvalidInput or Conflict for a change beyond the policy.

        Fields that stay are not judged.
        """
        if after["expires_at"] != before["expires_at"]:
            self._policy.check_expiry(after["created_at"], after["expires_at"])
        if after["allowed_scopes"] != before["allowed_scopes"]:
            self._policy.check_grants(compile_token_row(after).grants)
        if any(after[column] != before[column] for column in _COUNTED_BY):
            self._check_number(change, after, now)

    def _check_number(self, change: Change, columns: Columns, now: float) -> None:
        most = self._policy.max_tokens_per_owner
        if most is None or columns["owner_id"] is None:
            return
        if change.tokens.count_of(columns, now) >= most:
            raise Conflict(
                f"owner: has {most} tokens, as many as the policy of this gate allows; "
                "delete one that is not needed"
            )

    def _rights_of_owners(
        self, token_id: str, fields: TokenFields, now: float, by: By
    ) -> dict[Owner, Rights]:
        """Return the rights of the owners before and after a change, if it names another owner.

        The application is asked for them, and may take its time: so this comes before the
        transaction of the change.
        """
        if not self._transactions.joins_rights or "owner" not in fields:
            return {}

        with self._transactions.reading(by, now) as (reading, actor):
            before = actor.find(reading, token_id, "token.update")
        given = given_columns(fields, now, before)
        after = {**before, **keep_parties(given, before, update=True)}
        owners = {owner_of(before), owner_of(after)}
        if len(owners) == 1:
            return {}
        return {owner: self._transactions.rights_of(owner) for owner in owners}

    def _many(
        self, token_ids: Sequence[str], batch_call: Call, call: Call, switch: Switch, by: By
    ) -> Batch:
        listed = as_list(token_ids, "ids", MAX_BATCH)
        ids = dict.fromkeys(check_id(item, f"ids[{index}]") for index, item in enumerate(listed))

        now = self._transactions.now()
        successes: list[str] = []
        failures: list[Failure] = []
        with self._transactions.changing(by, now) as (change, actor):
            actor.permit(batch_call)
            for token_id in ids:
                try:
                    switch(change, actor, actor.find(change, token_id, call), None, now)
                # Raised before this token was changed, so the others may go on.
                except Denied as denied:
                    failures.append(Failure(token_id, denied.detail))
                except (NotFound, Conflict) as error:
                    failures.append(Failure(token_id, str(error)))
                else:
                    successes.append(token_id)
        return Batch(tuple(successes), tuple(failures))


def _within_rights(
    compiled: CompiledCredential, rights: Mapping[Owner, Rights]
) -> CompiledCredential:
    """Return a token within the rights that its owner has now."""
    try:
        return compiled.bounded(*rights[compiled.owner])
    except KeyError:
        # Another call has changed the owner meanwhile: the client tries again.
        raise StoreUnavailable from None


def _check_reason(reason: object) -> None:
    if reason is not None:
        check_text(reason, "reason", MAX_REASON)
