"""Random calls of several principals in several organizations, against a small model that shares no code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from conftest import FUZZ, START, Clock
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lifecycle_model import (
    ADDRESSES,
    BLOCKS,
    COMMAND_LINE,
    EVERYTHING,
    FOREVER,
    GENERAL,
    GRANTS,
    NEEDS,
    ROOT,
    SCOPES,
    TEXT,
    Child,
    Entry,
    Limits,
    Refusal,
    Share,
    Token,
    World,
    opened,
)
from lifecycle_model import Owner as Person

from faregate import (
    AllowedScopes,
    Conflict,
    Denied,
    Gate,
    InvalidInput,
    NotFound,
    Org,
    Owner,
    Permission,
    Principal,
    Role,
    UnsupportedTokenType,
)
from faregate.lifecycles.authority import CommandLine
from faregate.model import PermissionGrant, RealmScopes, RoleGrant, ServiceScopes

READ, WRITE = "gate:tokens:read", "gate:tokens:write"
READ_SHARES, WRITE_SHARES = "gate:shares:read", "gate:shares:write"
OUTSIDE = {ROOT: None, TEXT: TEXT[0], COMMAND_LINE: CommandLine(COMMAND_LINE[0])}
PEOPLE: tuple[Person, ...] = (("boss", None), ("u1", None), ("u1", "p1"), ("u2", "p1"))
RIGHTS = (
    EVERYTHING,
    EVERYTHING,
    ("gate:*", "a:*"),
    ("gate:tokens:*", "gate:shares:*", "a:r", "edit@r1", "svc/boss"),
    ("gate:tokens:write", "a:*", "b", "edit"),
    None,
)

grants = st.sampled_from([(), (), ("edit",), ("edit@r1",), ("edit@r1", "edit@r2"), ("every permission", "svc/boss@r1"), ("svc/boss",), ("every svc/role",)])  # fmt: skip
general = st.lists(st.sampled_from(SCOPES), max_size=4, unique=True).map(tuple)
scope_lists = st.builds(lambda some, others: (*some, *others), general, grants)
people = st.sampled_from([None, None, *PEOPLE])
organizations = st.sampled_from([None, None, None, "o1", "o2"])
plain_scopes = st.lists(
    st.sampled_from(["a:r", "a:w", "a:*", "b"]), min_size=1, max_size=2, unique=True
).map(tuple)
block_lists = st.lists(st.sampled_from(sorted(BLOCKS)), max_size=2, unique=True).map(tuple)
spans = st.sampled_from([30.0, 100.0, 1000.0, FOREVER])
numbers = st.integers(
    0, 59
)  # which record, and who calls: from APPLICATION on the application itself
APPLICATION = 50
addresses = st.sampled_from(ADDRESSES[:2])


def allowed(scopes: tuple[str, ...]) -> AllowedScopes:
    """The scopes of a token as the gate takes them."""
    named = [
        (text.partition("@")[0], text.partition("@")[2] or None)
        for text in scopes
        if text in GRANTS
    ]
    edits = tuple(PermissionGrant(name, on and (on,)) for name, on in named if name == "edit")
    roles = tuple(RoleGrant("boss", on) for name, on in named if name == "svc/boss")
    service = ServiceScopes(
        service_definition_id="svc", all_roles="every svc/role" in scopes, roles=roles
    )
    return AllowedScopes(
        general_scopes=tuple(text for text in scopes if text not in GRANTS),
        organization_scopes=RealmScopes(
            all_permissions="every permission" in scopes, permissions=edits
        ),
        services_scopes=(service,),
    )


def asked(need: str) -> tuple[Any, str | None]:
    """A need of the small universe as an application asks for it, and on which resource."""
    if need in GENERAL:
        return need, None
    name, _, on = need.partition("@")
    service, slash, role = name.rpartition("/")
    return Role(role, service) if slash else Permission(name), on or None


def owner_of(person: Person | None) -> Owner:
    """The owner that a person is to the gate."""
    return Owner() if person is None else Owner(person[0], idp_id=person[1])


def named(person: Person | None, own: Person | None) -> Person | None:
    """The owner whom a call means: where none is named, or the same id and no provider, the same as before."""
    same = person is None or (own is not None and person == (own[0], None))
    return own if same else person


class Lifecycles(RuleBasedStateMachine):
    """The gate, and the model of it; each call is made to both, and both must answer alike."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        # Only what the gate is told of counts before this: it asks anew when an owner changed, and not by itself.
        self.gate = Gate(
            "sqlite://", clock=self.clock, owner_rights=self.rights, owner_rights_ttl=3600
        )
        self.world = World(START)
        self.secrets: list[str] = []
        self.refreshing: list[str] = []  # every refresh credential there ever was
        self.compared = self.sequence = 0  # how much of the audit was compared with the model's log

    def teardown(self) -> None:
        """Close the gate."""
        self.gate.close()

    def rights(self, owner: Owner) -> AllowedScopes | None:
        """What the application says that an owner may do now."""
        scopes = self.world.rights.get((str(owner.id), owner.idp_id), EVERYTHING)
        return None if scopes is None else allowed(scopes)

    # What is drawn: a caller, and what it is about.

    def pick(self, things: dict[str, Any], number: int) -> Any:
        """One of them, or nothing."""
        return list(things.values())[number % len(things)] if things else None

    def secret_of(self, number: int, *, old: bool) -> str | None:
        """The credential of a caller; None is the application itself, under one name or another."""
        self.world.outside = list(OUTSIDE)[number % 3]
        token: Token | None = self.pick(self.world.tokens, number)
        if number >= APPLICATION or token is None:
            return None
        if token.children:
            return list(token.children)[-1]
        return (old and token.old) or token.current

    def verify(self, secret: str, address: str) -> Principal | str:
        """The principal of a credential, or why there is none."""
        try:
            return self.gate.verify(secret, address=address)
        except Denied as denied:
            return denied.reason

    def both(
        self,
        secret: str | None,
        address: str,
        model: Callable[[Token | None], Any],
        real: Callable[[Any], Any],
    ) -> Any:
        """Make a call to the model and to the gate; they agree on what comes of it. Return what the gate answered."""
        answer, told, found = None, "ok", "ok"
        try:
            actor = None if secret is None else self.world.actor(secret, address)
        except Refusal as refusal:
            actor, told = None, str(refusal)
        by: Any = OUTSIDE[self.world.outside] if secret is None else self.verify(secret, address)
        refused = secret is not None and isinstance(by, str)
        assert told == (by if refused else "ok")
        if refused:
            self.world.outside = ROOT
            return None
        outcome: Any = None
        try:
            outcome = model(actor)
        except Refusal as refusal:
            told = str(refusal)
        try:
            answer = real(by)
        except Denied as denied:
            found = denied.reason
        except NotFound:
            found = "missing"
        except Conflict:
            found = "conflict"
        except InvalidInput:
            found = "invalid"
        assert found == told
        if found == "ok" and callable(outcome):
            outcome(answer)
        self.world.outside = ROOT
        return answer

    @initialize()
    def begin(self) -> None:
        """Root, and admins and users in two organizations, one of whom may less than his token says."""
        self.world.rights["u1", "p1"] = RIGHTS[3]
        some: tuple[tuple[Person | None, str | None, tuple[str, ...]], ...] = (
            (None, None, ("*",)), (("boss", None), "o1", ("gate:*", "a:*", "edit", "svc/boss")),
            (("u1", "p1"), "o1", ("gate:tokens:*", "gate:shares:read", "gate:shares:write", "a:*", "edit@r1")),
            (("u1", None), "o2", ("gate:*", "*", "every permission")), (None, "o1", ("gate:tokens:write", "gate:shares:write", "b")),
        )  # fmt: skip
        for owner, org, scopes in some:
            issued = self.gate.tokens.create(
                name="x", allowed_scopes=allowed(scopes), owner=owner_of(owner), org=Org(org)
            )
            self.add(issued, None, owner, org, scopes, (), FOREVER)

    @rule(whose=st.sampled_from(PEOPLE), rights=st.sampled_from(RIGHTS))
    def change_rights(self, whose: Person, rights: tuple[str, ...] | None) -> None:
        """What an owner may do is changed, or the owner is gone or back, and the gate is told."""
        self.world.rights[whose] = rights
        self.gate.owner_changed(owner_of(whose))
        self.world.log.append([(*ROOT, None, "owner.change", whose[0], None)])

    def add(
        self,
        issued: Any,
        maker: str | None,
        owner: Person | None,
        org: str | None,
        scopes: Any,
        blocks: Any,
        expires: float,
        kind: str = "token",
        by: Token | None = None,
    ) -> None:
        """Enter a new token into the model."""
        token = Token(
            issued.token.id, maker, owner, org, scopes, blocks, expires, issued.secret, kind=kind
        )
        if kind == "refresh":
            self.refreshing.append(issued.secret)
        self.world.tokens[token.id] = token
        self.world.origins[token.id] = set() if maker is None else {maker}
        self.world.tell(by, "token.create", token)
        self.secrets.append(issued.secret)

    @rule(who=numbers, old=st.booleans(), address=addresses, scopes=scope_lists, blocks=st.none() | block_lists, span=st.none() | spans,
          owner=people, org=organizations, refresh=st.booleans())  # fmt: skip
    def create(
        self,
        who: int,
        old: bool,
        address: str,
        scopes: Any,
        blocks: Any,
        span: float | None,
        owner: Person | None,
        org: str | None,
        refresh: bool,
    ) -> None:
        """A token, or a refresh token with an end, is made: never wider than its maker, for another owner by an admin, elsewhere by root."""
        given: dict[str, Any] = {
            "allowed_scopes": allowed(scopes),
            "type": "REFRESH" if refresh else "API",
        }
        if blocks is not None:
            given["allowed_cidr_blocks"] = blocks
        if span is not None:
            given["expires_at"] = None if span == FOREVER else self.clock.now + span
        if owner is not None:
            given["owner"] = owner_of(owner)
        if org is not None:
            given["org"] = Org(org)

        def model(actor: Token | None) -> Any:
            self.world.demand(actor, WRITE)
            own = (
                (None, None, (), FOREVER)
                if actor is None
                else (actor.owner, actor.org, actor.blocks, actor.expires)
            )
            whose, where = named(owner, own[0]), org or own[1]
            nets = own[2] if blocks is None else blocks
            ends = own[3] if span is None else self.world.now + span
            if refresh and span is None:
                ends = min(ends, self.world.now + 90 * 86_400)
            if refresh and ends == FOREVER:
                raise Refusal("invalid")
            if actor is not None and (
                (whose != own[0] and not actor.admin) or (where != own[1] and not actor.root)
            ):
                raise Refusal("insufficient_scope")
            root = "*" in scopes and whose is None and where is None and not refresh
            self.world.cover(actor, Limits(opened(scopes), nets, ends, where, root))
            kind = "refresh" if refresh else "token"
            return lambda issued: self.add(
                issued,
                None if actor is None else actor.id,
                whose,
                where,
                scopes,
                nets,
                ends,
                kind,
                actor,
            )

        self.both(
            self.secret_of(who, old=old),
            address,
            model,
            lambda by: self.gate.tokens.create(name="x", by=by, **given),
        )

    @rule(who=numbers, old=st.booleans(), address=addresses, what=numbers, itself=st.booleans(), scopes=st.none() | scope_lists,
          blocks=st.none() | st.none() | block_lists, span=st.none() | st.none() | spans, owner=people, org=organizations)  # fmt: skip
    def update(  # noqa: C901  the rules, one after the other
        self,
        who: int,
        old: bool,
        address: str,
        what: int,
        itself: bool,
        scopes: Any,
        blocks: Any,
        span: float | None,
        owner: Person | None,
        org: str | None,
    ) -> None:
        """A token is changed: to what it covered itself, or what the caller covers; and so it is in other hands."""
        given: dict[str, Any] = {}
        if owner is not None:
            given["owner"] = owner_of(owner)
        if org is not None:
            given["org"] = Org(org)
        if scopes is not None:
            given["allowed_scopes"] = allowed(scopes)
        if blocks is not None:
            given["allowed_cidr_blocks"] = blocks
        if span is not None:
            given["expires_at"] = None if span == FOREVER else self.clock.now + span
        secret = self.secret_of(who, old=old)
        target = self.pick(self.world.tokens, who if itself else what)

        def model(actor: Token | None) -> Any:
            self.world.find(actor, target, WRITE)
            after = replace(
                target, owner=named(owner, target.owner), org=org or target.org, scopes=target.scopes if scopes is None else scopes,
                blocks=target.blocks if blocks is None else blocks, expires=target.expires if span is None else self.world.now + span,
            )  # fmt: skip
            if after == target:
                return None  # another order is another list, which people read
            if target.kind == "refresh" and after.expires == FOREVER:
                raise Refusal("invalid")
            if target.revoked:
                raise Refusal("conflict")
            if after.expires != target.expires and target.expires <= self.world.now:
                raise Refusal("conflict")
            handed = after.owner != target.owner
            if actor is not None and (
                (handed and not actor.admin) or (after.org != target.org and not actor.root)
            ):
                raise Refusal("insufficient_scope")
            if not target.limits.cover(after.limits):
                self.world.cover(actor, after.limits)
            earlier, later = (self.world.in_hands(one.limits, one.owner) for one in (target, after))
            if handed and not earlier.cover(later):
                self.world.cover(actor, later)

            def change(_: Any) -> None:
                target.owner, target.org = after.owner, after.org
                target.scopes, target.blocks, target.expires = (
                    after.scopes,
                    after.blocks,
                    after.expires,
                )
                self.world.tell(actor, "token.update", target)

            return change

        self.both(
            secret,
            address,
            model,
            lambda by: self.gate.tokens.update(target.id if target else "x", by=by, **given),
        )

    @rule(
        who=st.integers(0, 4),
        address=addresses,
        what=numbers,
        itself=st.booleans(),
        owner=st.sampled_from(PEOPLE),
    )
    def hand_over(self, who: int, address: str, what: int, itself: bool, owner: Person) -> None:
        """Whose rights were cut gives a token, or his own, to somebody who may more, and no one gains by it."""
        giver: Token = self.pick(self.world.tokens, who)
        if giver.owner is not None:
            self.change_rights(whose=giver.owner, rights=("gate:*", "a:*"))
        kept: Any = {"scopes": None, "blocks": None, "span": None, "org": None}
        self.update(
            who=who, old=False, address=address, what=what, itself=itself, owner=owner, **kept
        )
        self.present(client=address)

    @rule(
        who=numbers,
        old=st.booleans(),
        address=addresses,
        what=numbers,
        itself=st.booleans(),
        grace=st.sampled_from([None, 0.0, 60.0, 500.0]),
        leaked=st.integers(0, 2),
    )
    def rotate(  # noqa: C901  the rules, one after the other
        self,
        who: int,
        old: bool,
        address: str,
        what: int,
        itself: bool,
        grace: float | None,
        leaked: int,
    ) -> None:
        """A token gets a new secret; the old one has its grace, and may repeat this while the new one was not seen."""
        leak = leaked == 0
        secret = self.secret_of(who, old=old)
        target = self.pick(self.world.tokens, who if itself else what)

        def model(actor: Token | None) -> Any:  # noqa: C901  as above
            self.world.find(actor, target, WRITE, free=True)
            own = actor is not None and actor.id == target.id
            if not own:
                self.world.cover(actor, target.limits)
            refresh = target.kind == "refresh"
            if refresh and grace:
                raise Refusal("invalid")
            if (
                target.revoked
                or target.expires <= self.world.now
                or (target.closed and not (target.leaked and leak))
            ):
                raise Refusal("conflict")
            if target.closed and not self.world.may_activate(actor, target):
                raise Refusal("insufficient_scope")
            again = own and secret != target.current
            if again and not target.unseen:
                raise Refusal("conflict")

            def change(issued: Any) -> None:
                span = 0.0 if leak else 60.0 if own and grace is None else grace or 0.0
                if not again or leak:
                    target.old, target.until = (
                        (target.current, min(self.world.now + span, target.expires))
                        if span
                        else (None, 0.0)
                    )
                target.current, target.unseen = issued.secret, bool(target.old)
                target.retired, target.last = set(), None
                self.secrets.append(issued.secret)
                if refresh:
                    self.refreshing.append(issued.secret)
                self.world.tell(actor, "token.rotate", target)
                if leak:
                    target.leaked = False
                    self.close_line(actor, target, issued.token)
                    if actor is None or actor.id not in self.world.line(
                        target
                    ):  # who may be the thief
                        self.world.origins[target.id] &= {
                            target.maker
                        }  # nobody else minted what still opens it
                if actor is not None and not own:
                    self.world.origins[target.id].add(actor.id)

            return change

        self.both(
            secret,
            address,
            model,
            lambda by: self.gate.tokens.rotate(
                target.id if target else "x", grace=grace, leaked=leak, by=by
            ),
        )

    @precondition(lambda self: len(self.world.tokens) < APPLICATION)
    @rule(
        who=st.integers(0, 4),
        address=addresses,
        refresh=st.booleans(),
        grace=st.sampled_from([0.0, 500.0]),
        again=st.sampled_from([None, 0, 1]),
        back=st.booleans(),
    )
    def leak_what_minted(
        self, who: int, address: str, refresh: bool, grace: float, again: int | None, back: bool
    ) -> None:
        """A token mints a secret of another one that it did not make, and leaks: then that one is closed with it."""
        minter: Token = self.pick(self.world.tokens, who)
        about: Any = {"old": False, "address": address}
        limits: Any = {"scopes": (WRITE,), "blocks": minter.blocks, "span": 30.0}
        self.create(
            who=APPLICATION, owner=minter.owner, org=minter.org, refresh=refresh, **limits, **about
        )
        what, other = list(self.world.tokens).index(minter.id), len(self.world.tokens) - 1
        self.rotate(
            who=who, what=other, itself=False, grace=0.0 if refresh else grace, leaked=1, **about
        )
        if refresh:
            self.exchange(which=0, client=address, scopes=None)
        if (
            again is not None
        ):  # somebody else mints the next one: after a leak nobody knows the one before
            self.rotate(who=APPLICATION, what=other, itself=False, grace=0.0, leaked=again, **about)
        self.deactivate(who=APPLICATION, what=what, itself=False, leaked=0, **about)
        self.present(client=address)
        for leaked in (what, other) if back else ():
            self.rotate(who=APPLICATION, what=leaked, itself=False, grace=None, leaked=0, **about)
            self.activate(who=APPLICATION, what=leaked, **about)

    def close_line(self, actor: Token | None, leaked: Token, answer: Any) -> None:
        """Close what came from a token that leaked, at once with what was done to itself; the answer names it."""
        tokens, shares, told = self.world.close_line(actor, leaked)
        assert (set(answer.closed.tokens), set(answer.closed.shares)) == (tokens, shares)
        self.world.log[-1] += told

    @rule(
        who=numbers,
        old=st.booleans(),
        address=addresses,
        what=numbers,
        itself=st.booleans(),
        leaked=st.integers(0, 2),
    )
    def deactivate(
        self, who: int, old: bool, address: str, what: int, itself: bool, leaked: int
    ) -> None:
        """A token is closed, and where it leaked whatever came from it."""
        leak = leaked == 0
        target = self.pick(self.world.tokens, who if itself else what)

        def model(actor: Token | None) -> Any:
            self.world.find(actor, target, WRITE, free=True)

            def change(answer: Any) -> None:
                self.world.log.append(self.world.close(actor, target, leaked=leak)[1])
                if leak:
                    self.close_line(actor, target, answer)

            return change

        call = self.gate.tokens.deactivate
        self.both(
            self.secret_of(who, old=old),
            address,
            model,
            lambda by: call(target.id if target else "x", leaked=leak, by=by),
        )

    @rule(who=numbers, old=st.booleans(), address=addresses, what=numbers)
    def activate(self, who: int, old: bool, address: str, what: int) -> None:
        """A token is opened by who closed it, or by an admin; after a leak not before it has another secret."""
        target = self.pick(self.world.tokens, what)

        def model(actor: Token | None) -> Any:
            self.world.find(actor, target, WRITE)
            if target.revoked:
                raise Refusal("conflict")
            if not target.closed:
                return None
            if not self.world.may_activate(actor, target):
                raise Refusal("insufficient_scope")
            if target.leaked:
                raise Refusal("conflict")

            def change(_: Any) -> None:
                target.closed = target.by_admin = False
                self.world.tell(actor, "token.activate", target)

            return change

        self.both(
            self.secret_of(who, old=old),
            address,
            model,
            lambda by: self.gate.tokens.activate(target.id if target else "x", by=by),
        )

    @rule(who=numbers, old=st.booleans(), address=addresses, first=numbers, second=numbers)
    def deactivate_many(self, who: int, old: bool, address: str, first: int, second: int) -> None:
        """Two tokens are closed at a time; one that cannot be hinders the other in nothing."""
        targets: dict[str, Token] = {
            one.id: one
            for one in (self.pick(self.world.tokens, first), self.pick(self.world.tokens, second))
            if one
        }

        def model(actor: Token | None) -> Any:
            self.world.demand(actor, WRITE)
            itself = actor.id if actor is not None and actor.kind == "access" else None
            reached = [
                one
                for one in targets.values()
                if actor is None or (actor.reaches(one) and one.id != itself)
            ]

            def change(batch: Any) -> None:
                for target in reached:
                    self.world.log.append(self.world.close(actor, target)[1])
                assert batch.successes == tuple(target.id for target in reached)
                assert len(batch.failures) == len(targets) - len(reached)

            return change

        self.both(
            self.secret_of(who, old=old),
            address,
            model,
            lambda by: self.gate.tokens.deactivate_many(list(targets), by=by),
        )

    @precondition(lambda self: self.refreshing)
    @rule(
        which=st.integers(0, 5) | numbers,
        client=st.sampled_from(ADDRESSES[:2]),
        scopes=st.none() | st.none() | general,
    )
    def exchange(self, which: int, client: str, scopes: Any) -> None:
        """A refresh credential, of late or of old, is exchanged: once for its successor, then again for the same."""
        secret = self.refreshing[-1 - which % len(self.refreshing)]

        def model(_: Token | None) -> Any:
            family = self.world.exchange(secret, scopes, client)

            def change(answer: Any) -> None:
                if secret in family.retired:
                    assert answer.refresh_token == family.current
                elif family.rotates:
                    assert answer.refresh_token not in (None, *self.refreshing)
                    family.retired.add(secret)
                    family.current, family.last = (
                        answer.refresh_token,
                        (secret, self.world.now + 30),
                    )
                    self.refreshing.append(family.current)
                    self.secrets.append(family.current)
                else:
                    assert answer.refresh_token is None
                    family.last = None
                narrowed = family.scopes if scopes is None else scopes
                ends = min(self.world.now + 1800, family.expires)
                family.children[answer.access_token] = Child(narrowed, family.blocks, ends)
                self.secrets.append(answer.access_token)

            return change

        self.both(
            None, client, model, lambda _: self.gate.tokens.exchange(secret, scopes, address=client)
        )

    @precondition(lambda self: self.refreshing)
    @rule(what=numbers, rotates=st.booleans())
    def switch_rotation(self, what: int, rotates: bool) -> None:
        """Root says whether exchanges replace a refresh token."""
        target = self.pick(
            {one.id: one for one in self.world.tokens.values() if one.kind == "refresh"}, what
        )

        def model(_: Token | None) -> Any:
            if target is None:
                raise Refusal("missing")
            if target.rotates == rotates:
                return None
            if target.revoked:
                raise Refusal("conflict")

            def change(_: Any) -> None:
                target.rotates = rotates
                self.world.tell(None, "token.update", target)

            return change

        self.both(
            None,
            "",
            model,
            lambda _: self.gate.tokens.update(
                target.id if target else "x", require_rotation=rotates
            ),
        )

    @precondition(lambda self: len(self.world.tokens) > 5)
    @rule(who=numbers, address=addresses, what=numbers)
    def delete(self, who: int, address: str, what: int) -> None:
        """A token is removed, for good."""
        target = self.pick(self.world.tokens, what)

        def model(actor: Token | None) -> Any:
            self.world.find(actor, target, WRITE, free=True)

            def change(_: Any) -> None:
                self.world.tell(actor, "token.delete", target)
                del self.world.tokens[target.id]

            return change

        self.both(
            self.secret_of(who, old=False),
            address,
            model,
            lambda by: self.gate.tokens.delete(target.id, by=by),
        )

    @rule(
        who=numbers,
        address=addresses,
        scopes=plain_scopes,
        blocks=st.none() | block_lists,
        span=st.sampled_from([30.0, 100.0, 1000.0]),
        most=st.sampled_from([None, None, 1]),
    )
    def share(
        self, who: int, address: str, scopes: Any, blocks: Any, span: float, most: int | None
    ) -> None:
        """Objects are shared: never wider than by who shares them."""
        params: dict[str, Any] = {"maxRedemptions": most}
        if blocks is not None:
            params["allowedCidrBlocks"] = blocks

        def model(actor: Token | None) -> Any:
            self.world.demand(actor, WRITE_SHARES)
            nets = (() if actor is None else actor.blocks) if blocks is None else blocks
            org = None if actor is None else actor.org
            self.world.cover(actor, Limits(opened(scopes), nets, self.world.now + span, org))

            def change(issued: Any) -> None:
                maker, owner = (None, None) if actor is None else (actor.id, actor.owner)
                ends = self.world.now + span
                share = Share(
                    issued.share.id, maker, owner, org, scopes, nets, ends, issued.secret, most
                )
                self.world.shares[share.id] = share
                self.world.tell(actor, "share.create", share)
                self.secrets.append(issued.secret)

            return change

        self.both(
            self.secret_of(who, old=False),
            address,
            model,
            lambda by: self.gate.shares.create(
                "x", scopes=scopes, expires_in=span, params=params, by=by
            ),
        )

    @precondition(lambda self: self.world.shares)
    @rule(
        who=numbers,
        address=addresses,
        what=numbers,
        scopes=st.none() | plain_scopes,
        span=st.none() | st.sampled_from([30.0, 100.0, 1000.0]),
        most=st.sampled_from([0, None, 1, 2]),
    )
    def update_share(
        self, who: int, address: str, what: int, scopes: Any, span: float | None, most: int | None
    ) -> None:
        """A share is changed: to what it covered itself, or what the caller covers; never once it was revoked."""
        target = self.pick(self.world.shares, what)
        params = {
            name: value
            for name, value, given in (
                ("scopes", scopes, scopes is not None),
                ("maxRedemptions", most, most != 0),
            )
            if given
        }
        given: dict[str, Any] = {} if span is None else {"expires_in": span}

        def model(actor: Token | None) -> Any:
            self.world.find(actor, target, WRITE_SHARES)
            after = replace(
                target,
                scopes=scopes or target.scopes,
                expires=target.expires if span is None else self.world.now + span,
                most=target.most if most == 0 else most,
            )
            if after == target:
                return None
            if target.revoked:
                raise Refusal("conflict")
            more = target.most is not None and (after.most is None or after.most > target.most)
            if more or not target.limits.cover(after.limits):
                self.world.cover(actor, after.limits)

            def change(_: Any) -> None:
                target.scopes, target.expires, target.most = after.scopes, after.expires, after.most
                self.world.tell(actor, "share.update", target)

            return change

        self.both(
            self.secret_of(who, old=False),
            address,
            model,
            lambda by: self.gate.shares.update(target.id, params=params, by=by, **given),
        )

    @precondition(lambda self: self.world.shares)
    @rule(who=numbers, address=addresses, what=numbers)
    def revoke(self, who: int, address: str, what: int) -> None:
        """A share is closed, for good."""
        target = self.pick(self.world.shares, what)

        def model(actor: Token | None) -> Any:
            self.world.find(actor, target, WRITE_SHARES)

            def change(_: Any) -> None:
                if not target.revoked:
                    self.world.tell(actor, "share.revoke", target)
                target.revoked = True

            return change

        self.both(
            self.secret_of(who, old=False),
            address,
            model,
            lambda by: self.gate.shares.revoke(target.id, by=by),
        )

    @precondition(lambda self: self.world.shares)
    @rule(
        who=numbers,
        address=addresses,
        client=st.sampled_from(ADDRESSES),
        what=numbers,
        by_secret=st.booleans(),
    )
    def redeem(self, who: int, address: str, client: str, what: int, by_secret: bool) -> None:
        """A share is redeemed by who has its secret, or who reaches and covers it."""
        target: Share = self.pick(self.world.shares, what)

        def model(actor: Token | None) -> Any:
            if not by_secret:
                self.world.find(actor, target, READ_SHARES)
                self.world.cover(actor, target.limits)
            most, target.most = target.most, None
            reason = self.world.judge(target.secret, client)
            target.most = most
            if reason != "ok":
                raise Refusal(reason)
            if most is not None and target.redemptions >= most:
                raise Refusal("redemptions_exhausted")

            def change(redeemed: Any) -> None:
                target.redemptions += 1
                target.redeemed[redeemed.token] = self.world.now + 900
                self.secrets.append(redeemed.token)
                self.world.tell(target if by_secret else actor, "share.redeem", target)

            return change

        secret = {"secret": target.secret} if by_secret else {}
        caller = None if by_secret else self.secret_of(who, old=False)
        self.both(
            caller,
            address,
            model,
            lambda by: self.gate.shares.redeem(target.id, address=client, by=by, **secret),
        )

    @rule(span=st.sampled_from([1.0, 20.0, 60.0, 200.0]))
    def wait(self, span: float) -> None:
        """Time passes."""
        self.clock.now += span
        self.world.now += span

    # What must hold at any time.

    @rule(client=st.sampled_from(ADDRESSES))
    def present(self, client: str) -> None:
        """Every credential there ever was is judged alike, and opens exactly what the model says."""
        for secret in self.secrets:
            told = self.world.judge(secret, client)
            principal = self.verify(secret, client)
            assert told == (principal if isinstance(principal, str) else "ok")
            if isinstance(principal, str):
                continue
            record = self.world.behind(secret)
            assert record is not None
            assert record.id == principal.id
            if isinstance(record, Token):
                token = self.world.acting(record, secret)
                assert (principal.kind, principal.owner) == (token.kind, owner_of(token.owner))
                for need in NEEDS:
                    wanted, on = asked(need)
                    assert principal.allows(wanted, on=on) == (need in token.grants)
                    if on is None:
                        assert principal.allows(wanted, on="x") == (need in token.grants)
                continue
            for need in NEEDS:
                wanted, on = asked(need)
                assert not principal.allows(wanted, on=on)
                reached = opened(record.scopes) & self.world.may(record.owner)
                assert principal.allows(wanted, on="x") == (need in reached and on is None)
                assert not principal.allows(wanted, on="y")

    @rule(who=numbers, address=addresses, client=st.sampled_from(ADDRESSES))
    def ask(self, who: int, address: str, client: str) -> None:
        """Who asks about credentials learns what a request would get, as far as he may, and nothing is noted of it."""
        for secret in self.secrets:
            reason = self.world.look(secret, client)
            explained = self.gate.explain(secret, address=client)
            assert (explained.reason or "ok", explained.allowed) == (reason, reason == "ok")

        def model(actor: Token | None) -> Any:
            self.world.demand(actor, READ)
            return None

        caller = self.secret_of(who, old=False)
        by = OUTSIDE[self.world.outside] if caller is None else self.verify(caller, address)
        if (
            self.both(caller, address, model, lambda by: self.gate.introspect("nothing", by=by))
            is None
        ):
            return
        actor = None if caller is None else self.world.actor(caller, address)
        for secret in self.secrets:
            record, reason = self.world.behind(secret), self.world.look(secret, client)
            if isinstance(record, Token) and secret == record.current and record.kind == "refresh":
                reason = self.world.standing(record, secret, client)
            shared = "x" if isinstance(record, Share) else None
            if isinstance(record, Share) and reason == "ok":
                opened = self.world.in_hands(record.limits, record.owner).grants
                reason = (
                    "ok" if opened else "insufficient_scope"
                )  # else its owner may nothing of it any more
            told = self.gate.introspect(secret, by=by, address=client, on=shared, refresh=True)
            known = record is not None and reason != "unknown_credential"
            assert not told.active or reason == "ok"
            home = actor is None or actor.root or (record is not None and actor.org == record.org)
            reached = actor is None or (record is not None and actor.reaches(record))
            assert told.active == (known and reason == "ok" and home)
            if shared is not None and reason == "ok":  # that of nothing in particular opens nothing
                assert not self.gate.introspect(secret, by=by, address=client).active
            if known and record is not None and (home if reason == "ok" else reached):
                assert told.record is not None
                assert told.record.id == record.id
                assert told.reason == (None if told.active else reason)
            else:
                assert (told.record, told.reason) == (None, None)

    @rule(number=numbers)
    def revoke_itself(self, number: int) -> None:
        """Whoever has a token's secret closes it, unless it is dead; a share's secret does not."""
        secret = self.secrets[number % len(self.secrets)]
        record = self.world.behind(secret)
        families = [one for one in self.world.tokens.values() if one.kind == "refresh"]
        family = next((one for one in families if secret in (one.current, *one.retired)), None)
        if family is not None:
            self.gate.revoke(secret)
            if not family.revoked and not family.leaked:
                family.revoked, family.last = True, None
                self.world.tell(family, "token.revoke", family)
        elif isinstance(record, Token) and secret in record.children:
            self.gate.revoke(secret)
            self.world.tell(self.world.acting(record, secret), "access.delete", record)
            del record.children[secret]
        elif isinstance(record, Token):
            self.gate.revoke(secret)
            if not record.closed and (secret == record.current or self.world.now < record.until):
                self.world.log.append(self.world.close(record, record)[1])
        elif record is not None:
            with pytest.raises(UnsupportedTokenType):
                self.gate.revoke(secret)

    @rule(who=numbers, address=addresses)
    def list(self, who: int, address: str) -> None:
        """Each caller sees exactly what it reaches."""
        for kind, need, records in (
            ("tokens", READ, self.world.tokens),
            ("shares", READ_SHARES, self.world.shares),
        ):

            def model(actor: Token | None, need: str = need) -> Any:
                self.world.demand(actor, need)
                return None

            secret = self.secret_of(who, old=False)
            page = self.both(secret, address, model, partial(self.listed, kind))
            if page is not None:
                actor = None if secret is None else self.world.actor(secret, address)
                seen = {one.id for one in records.values() if actor is None or actor.reaches(one)}
                assert {item.id for item in page.items} == seen
                for item in page.items:
                    self.compare_states(item, records[item.id])

    def compare_states(self, item: Any, record: Token | Share) -> None:
        """A record is told to be in the state that it is in."""
        assert item.org.id == record.org
        if isinstance(record, Token):
            told = (item.deactivated, item.leaked, item.revoked_at is not None, item.owner)
            assert told == (record.closed, record.leaked, record.revoked, owner_of(record.owner))
        else:
            expired = self.world.now >= record.expires
            alive = "revoked" if record.revoked else "expired" if expired else "live"
            assert item.state == ("deactivated" if self.world.gone(record.owner) else alive)

    def listed(self, kind: str, by: Principal | None) -> Any:
        """All records of a kind that a caller reaches."""
        return self.gate.tokens.list(by=by) if kind == "tokens" else self.gate.shares.list(by=by)

    @rule(who=numbers, address=addresses)
    def audit(self, who: int, address: str) -> None:
        """Root sees what was done everywhere, an admin what was done to records of his organization, in its order."""

        def model(actor: Token | None) -> Any:
            if actor is not None and not actor.admin:
                raise Refusal("insufficient_scope")

            def compare(_: Any) -> None:
                everywhere = actor is None or actor.root
                org = None if actor is None else actor.org
                told = [
                    [
                        one
                        for one in line
                        if everywhere or (one[-1] == org and one[3] != "owner.change")
                    ]
                    for line in self.world.log
                ]
                self.compare([line for line in told if line], self.told(0, by=by))

            return compare

        secret = self.secret_of(who, old=False)
        by = OUTSIDE[self.world.outside] if secret is None else self.verify(secret, address)
        self.both(secret, address, model, lambda by: self.gate.audit(by=by))

    def told(self, since: int, by: Any = None) -> Sequence[Any]:
        """All entries of the audit after a sequence, read in several pages."""
        entries: Sequence[Any] = ()
        more = True
        while more:
            page = self.gate.audit(since, limit=7, by=by)
            entries = (*entries, *page.items)
            since, more = entries[-1].sequence if entries else since, page.more
        return entries

    def compare(self, log: Sequence[Sequence[Entry]], entries: Sequence[Any]) -> None:
        """Both tell the same, in the same order; what was done at once has none."""
        found = [
            (one.actor, one.actor_kind, one.actor_id, one.action, one.subject, one.org_id)
            for one in entries
        ]
        for line in log:
            assert sorted(found[: len(line)], key=str) == sorted(line, key=str)
            del found[: len(line)]
        assert found == []

    @invariant()
    def every_change_left_its_entry(self) -> None:
        """And nothing else did: what is refused leaves no trace."""
        log = self.world.log[self.compared :]
        self.compared += len(log)
        entries = self.told(self.sequence)
        self.compare(log, entries)
        if entries:
            assert all(
                one.sequence == self.sequence + number for number, one in enumerate(entries, 1)
            )
            self.sequence = entries[-1].sequence


TestLifecycles = pytest.mark.slow(pytest.mark.filterwarnings("error")(Lifecycles.TestCase))
TestLifecycles.settings = settings(
    max_examples=25 if FUZZ == 1 else 60 * FUZZ,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
