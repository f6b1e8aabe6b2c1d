"""Random calls of several principals in several organizations, against a small model that shares no code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from conftest import FUZZ, START, Clock
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from world import (
    ADDRESSES,
    BLOCKS,
    FOREVER,
    NEEDS,
    SCOPES,
    Child,
    Entry,
    Limits,
    Refusal,
    Share,
    Token,
    World,
    entry,
    opened,
)

from faregate import Conflict, Denied, Gate, InvalidInput, NotFound, Org, Owner, Principal, UnsupportedTokenType

READ, WRITE = "gate:tokens:read", "gate:tokens:write"
READ_SHARES, WRITE_SHARES = "gate:shares:read", "gate:shares:write"

scope_lists = st.lists(st.sampled_from(SCOPES), max_size=4, unique=True).map(tuple)
plain_scopes = st.lists(st.sampled_from(["a:r", "a:w", "a:*", "b"]), min_size=1, max_size=2, unique=True).map(tuple)
block_lists = st.lists(st.sampled_from(sorted(BLOCKS)), max_size=2, unique=True).map(tuple)
spans = st.sampled_from([30.0, 100.0, 1000.0, FOREVER])
numbers = st.integers(0, 10_000)
addresses = st.sampled_from(ADDRESSES[:2])


class Lifecycles(RuleBasedStateMachine):
    """The gate, and the model of it; each call is made to both, and both must answer alike."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.gate = Gate("sqlite://", clock=self.clock)
        self.world = World(START)
        self.secrets: list[str] = []
        self.refreshing: list[str] = []  # every refresh credential there ever was
        self.compared = self.sequence = 0  # how much of the audit was compared with the model's log

    def teardown(self) -> None:
        """Close the gate."""
        self.gate.close()

    # What is drawn: a caller, and what it is about.

    def pick(self, things: dict[str, Any], number: int) -> Any:
        """One of them, or nothing."""
        return list(things.values())[number % len(things)] if things else None

    def secret_of(self, number: int, *, old: bool) -> str | None:
        """The credential of a caller; None is the application itself."""
        token: Token | None = self.pick(self.world.tokens, number)
        if token is not None and token.children:
            return list(token.children)[-1]
        return None if token is None or number % 7 == 0 else (old and token.old) or token.current

    def verify(self, secret: str, address: str) -> Principal | str:
        """The principal of a credential, or why there is none."""
        try:
            return self.gate.verify(secret, address=address)
        except Denied as denied:
            return denied.reason

    def both(
        self, secret: str | None, address: str, model: Callable[[Token | None], Any], real: Callable[[Any], Any]
    ) -> Any:
        """Make a call to the model and to the gate; they agree on what comes of it. Return what the gate answered."""
        answer, told, found = None, "ok", "ok"
        try:
            actor = None if secret is None else self.world.actor(secret, address)
        except Refusal as refusal:
            actor, told = None, str(refusal)
        by: Any = None if secret is None else self.verify(secret, address)
        assert told == (by if isinstance(by, str) else "ok")
        if isinstance(by, str):
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
        return answer

    @initialize()
    def begin(self) -> None:
        """Root, and an admin and a user in each of two organizations."""
        for owner, org, scopes in (
            (None, None, ("*",)), ("boss", "o1", ("gate:*", "a:*")), ("u1", "o1", ("gate:tokens:*", "gate:shares:read", "gate:shares:write", "a:*")),
            ("u1", "o2", ("gate:*", "*")), (None, "o1", ("gate:tokens:write", "gate:shares:write", "b")),
        ):  # fmt: skip
            issued = self.gate.tokens.create(name="x", scopes=scopes, owner=Owner(owner), org=Org(org))
            self.add(issued, None, owner, org, scopes, (), FOREVER)

    def add(
        self,
        issued: Any,
        maker: str | None,
        owner: str | None,
        org: str | None,
        scopes: Any,
        blocks: Any,
        expires: float,
        kind: str = "token",
        by: Token | None = None,
    ) -> None:
        """Enter a new token into the model."""
        token = Token(issued.token.id, maker, owner, org, scopes, blocks, expires, issued.secret, kind=kind)
        if kind == "refresh":
            self.refreshing.append(issued.secret)
        self.world.tokens[token.id] = token
        self.world.makers[token.id] = maker
        self.world.tell(by, "token.create", token)
        self.secrets.append(issued.secret)

    @rule(who=numbers, old=st.booleans(), address=addresses, scopes=scope_lists, blocks=st.none() | block_lists, span=st.none() | spans,
          owner=st.sampled_from([None, None, "u1", "u2"]), org=st.sampled_from([None, None, "o1", "o2"]), refresh=st.booleans())  # fmt: skip
    def create(
        self,
        who: int,
        old: bool,
        address: str,
        scopes: Any,
        blocks: Any,
        span: float | None,
        owner: str | None,
        org: str | None,
        refresh: bool,
    ) -> None:
        """A token, or a refresh token with an end, is made: never wider than its maker, for another owner by an admin, elsewhere by root."""
        given: dict[str, Any] = {"scopes": scopes, "type": "REFRESH" if refresh else "API"}
        if blocks is not None:
            given["allowed_cidr_blocks"] = blocks
        if span is not None:
            given["expires_at"] = None if span == FOREVER else self.clock.now + span
        if owner is not None:
            given["owner"] = Owner(owner)
        if org is not None:
            given["org"] = Org(org)

        def model(actor: Token | None) -> Any:
            if actor is not None and WRITE not in opened(actor.scopes):
                raise Refusal("insufficient_scope")
            own = (None, None, (), FOREVER) if actor is None else (actor.owner, actor.org, actor.blocks, actor.expires)
            whose, where = owner or own[0], org or own[1]
            nets = own[2] if blocks is None else blocks
            ends = own[3] if span is None else self.world.now + span
            if refresh and span is None:
                ends = min(ends, self.world.now + 90 * 86_400)
            if refresh and ends == FOREVER:
                raise Refusal("invalid")
            if actor is not None and ((whose != own[0] and not actor.admin) or (where != own[1] and not actor.root)):
                raise Refusal("insufficient_scope")
            root = "*" in scopes and whose is None and where is None and not refresh
            self.world.cover(actor, Limits(scopes, nets, ends, where, root))
            kind = "refresh" if refresh else "token"
            return lambda issued: self.add(
                issued, None if actor is None else actor.id, whose, where, scopes, nets, ends, kind, actor
            )

        self.both(
            self.secret_of(who, old=old), address, model, lambda by: self.gate.tokens.create(name="x", by=by, **given)
        )

    @rule(who=numbers, old=st.booleans(), address=addresses, what=numbers, itself=st.booleans(), scopes=st.none() | scope_lists,
          blocks=st.none() | block_lists, span=st.none() | spans)  # fmt: skip
    def update(  # noqa: C901  the rules, one after the other
        self, who: int, old: bool, address: str, what: int, itself: bool, scopes: Any, blocks: Any, span: float | None
    ) -> None:
        """A token is changed: to what it covered itself, or what the caller covers."""
        given: dict[str, Any] = {}
        if scopes is not None:
            given["scopes"] = scopes
        if blocks is not None:
            given["allowed_cidr_blocks"] = blocks
        if span is not None:
            given["expires_at"] = None if span == FOREVER else self.clock.now + span
        secret = self.secret_of(who, old=old)
        target = self.pick(self.world.tokens, who if itself else what)

        def model(actor: Token | None) -> Any:
            self.world.find(actor, target, WRITE)
            after = Limits(
                target.scopes if scopes is None else scopes, target.blocks if blocks is None else blocks,
                target.expires if span is None else self.world.now + span, target.org,
            )  # fmt: skip
            after.root = target.kind == "token" and "*" in after.scopes and target.owner is None and target.org is None
            if (after.scopes, after.blocks, after.expires) == (target.scopes, target.blocks, target.expires):
                return None  # another order is another list, which people read
            if target.kind == "refresh" and after.expires == FOREVER:
                raise Refusal("invalid")
            if target.revoked:
                raise Refusal("conflict")
            if after.expires != target.expires and target.expires <= self.world.now:
                raise Refusal("conflict")
            if not target.limits.cover(after):
                self.world.cover(actor, after)

            def change(_: Any) -> None:
                target.scopes, target.blocks, target.expires = after.scopes, after.blocks, after.expires
                self.world.tell(actor, "token.update", target)

            return change

        self.both(
            secret, address, model, lambda by: self.gate.tokens.update(target.id if target else "x", by=by, **given)
        )

    @rule(
        who=numbers,
        old=st.booleans(),
        address=addresses,
        what=numbers,
        itself=st.booleans(),
        grace=st.sampled_from([None, 0.0, 60.0, 500.0]),
        leaked=st.integers(0, 5),
    )
    def rotate(
        self, who: int, old: bool, address: str, what: int, itself: bool, grace: float | None, leaked: int
    ) -> None:
        """A token gets a new secret; the old one has its grace, and may repeat this while the new one was not seen."""
        leak = leaked == 0
        secret = self.secret_of(who, old=old)
        target = self.pick(self.world.tokens, who if itself else what)

        def model(actor: Token | None) -> Any:
            self.world.find(actor, target, WRITE, free=True)
            own = actor is not None and actor.id == target.id
            if not own:
                self.world.cover(actor, target.limits)
            refresh = target.kind == "refresh"
            if refresh and grace:
                raise Refusal("invalid")
            if target.revoked or target.closed or target.expires <= self.world.now:
                raise Refusal("conflict")
            again = own and secret != target.current
            if again and not target.unseen:
                raise Refusal("conflict")

            def change(issued: Any) -> None:
                span = 0.0 if leak else 60.0 if own and grace is None else grace or 0.0
                if not again or leak:
                    target.old, target.until = (
                        (target.current, min(self.world.now + span, target.expires)) if span else (None, 0.0)
                    )
                target.current, target.unseen = issued.secret, bool(target.old)
                target.retired, target.last = set(), None
                self.secrets.append(issued.secret)
                if refresh:
                    self.refreshing.append(issued.secret)
                self.world.tell(actor, "token.rotate", target)
                if leak:
                    self.world.close_line(actor, target)

            return change

        self.both(
            secret,
            address,
            model,
            lambda by: self.gate.tokens.rotate(target.id if target else "x", grace=grace, leaked=leak, by=by),
        )

    @rule(
        who=numbers, old=st.booleans(), address=addresses, what=numbers, itself=st.booleans(), leaked=st.integers(0, 5)
    )
    def deactivate(self, who: int, old: bool, address: str, what: int, itself: bool, leaked: int) -> None:
        """A token is closed, and where it leaked whatever came from it."""
        leak = leaked == 0
        target = self.pick(self.world.tokens, who if itself else what)

        def model(actor: Token | None) -> Any:
            self.world.find(actor, target, WRITE, free=True)

            def change(_: Any) -> None:
                if not self.world.close(actor, target):
                    self.world.log.append([])
                if leak:
                    self.world.close_line(actor, target)

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
        """A token is opened by who closed it, or by an admin."""
        target = self.pick(self.world.tokens, what)

        def model(actor: Token | None) -> Any:
            self.world.find(actor, target, WRITE)
            if target.revoked:
                raise Refusal("conflict")
            if not target.closed:
                return None
            name = "root" if actor is None else actor.name
            if actor is not None and not actor.admin and (target.by_admin or target.closed_by != name):
                raise Refusal("insufficient_scope")

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
            one.id: one for one in (self.pick(self.world.tokens, first), self.pick(self.world.tokens, second)) if one
        }

        def model(actor: Token | None) -> Any:
            if actor is not None and WRITE not in opened(actor.scopes):
                raise Refusal("insufficient_scope")
            itself = actor.id if actor is not None and actor.kind == "access" else None
            reached = [one for one in targets.values() if actor is None or (actor.reaches(one) and one.id != itself)]

            def change(batch: Any) -> None:
                for target in reached:
                    self.world.close(actor, target)
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
        asked=st.none() | st.none() | scope_lists,
    )
    def exchange(self, which: int, client: str, asked: Any) -> None:
        """A refresh credential, of late or of old, is exchanged: once for its successor, then again for the same."""
        secret = self.refreshing[-1 - which % len(self.refreshing)]

        def model(_: Token | None) -> Any:
            family = self.world.exchange(secret, asked, client)

            def change(answer: Any) -> None:
                if secret in family.retired:
                    assert answer.refresh_token == family.current
                elif family.rotates:
                    assert answer.refresh_token not in (None, *self.refreshing)
                    family.retired.add(secret)
                    family.current, family.last = answer.refresh_token, (secret, self.world.now + 30)
                    self.refreshing.append(family.current)
                    self.secrets.append(family.current)
                else:
                    assert answer.refresh_token is None
                    family.last = None
                scopes = family.scopes if asked is None else asked
                ends = min(self.world.now + 1800, family.expires)
                family.children[answer.access_token] = Child(scopes, family.blocks, ends)
                self.secrets.append(answer.access_token)

            return change

        self.both(None, client, model, lambda _: self.gate.tokens.exchange(secret, asked, address=client))

    @precondition(lambda self: self.refreshing)
    @rule(what=numbers, rotates=st.booleans())
    def switch_rotation(self, what: int, rotates: bool) -> None:
        """Root says whether exchanges replace a refresh token."""
        target = self.pick({one.id: one for one in self.world.tokens.values() if one.kind == "refresh"}, what)

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
            lambda _: self.gate.tokens.update(target.id if target else "x", require_rotation=rotates),
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

        self.both(self.secret_of(who, old=False), address, model, lambda by: self.gate.tokens.delete(target.id, by=by))

    @rule(
        who=numbers,
        address=addresses,
        scopes=plain_scopes,
        blocks=st.none() | block_lists,
        span=st.sampled_from([30.0, 100.0, 1000.0]),
        most=st.sampled_from([None, None, 1]),
    )
    def share(self, who: int, address: str, scopes: Any, blocks: Any, span: float, most: int | None) -> None:
        """Objects are shared: never wider than by who shares them."""
        params: dict[str, Any] = {"maxRedemptions": most}
        if blocks is not None:
            params["allowedCidrBlocks"] = blocks

        def model(actor: Token | None) -> Any:
            if actor is not None and WRITE_SHARES not in opened(actor.scopes):
                raise Refusal("insufficient_scope")
            nets = (() if actor is None else actor.blocks) if blocks is None else blocks
            org = None if actor is None else actor.org
            self.world.cover(actor, Limits(scopes, nets, self.world.now + span, org))

            def change(issued: Any) -> None:
                maker, owner = (None, None) if actor is None else (actor.id, actor.owner)
                share = Share(
                    issued.share.id, maker, owner, org, scopes, ("x",), nets, self.world.now + span, issued.secret, most
                )
                self.world.shares[share.id] = share
                self.world.tell(actor, "share.create", share)
                self.secrets.append(issued.secret)

            return change

        self.both(
            self.secret_of(who, old=False),
            address,
            model,
            lambda by: self.gate.shares.create("x", scopes=scopes, expires_in=span, params=params, by=by),
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
            for name, value, given in (("scopes", scopes, scopes is not None), ("maxRedemptions", most, most != 0))
            if given
        }
        given: dict[str, Any] = {} if span is None else {"expires_in": span}

        def model(actor: Token | None) -> Any:
            self.world.find(actor, target, WRITE_SHARES)
            after = Limits(
                scopes or target.scopes,
                target.blocks,
                target.expires if span is None else self.world.now + span,
                target.org,
            )
            count = target.most if most == 0 else most
            if (after.scopes, after.expires, count) == (target.scopes, target.expires, target.most):
                return None
            if target.revoked:
                raise Refusal("conflict")
            more = target.most is not None and (count is None or count > target.most)
            if more or not target.limits.cover(after):
                self.world.cover(actor, after)

            def change(_: Any) -> None:
                target.scopes, target.expires, target.most = after.scopes, after.expires, count
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

        self.both(self.secret_of(who, old=False), address, model, lambda by: self.gate.shares.revoke(target.id, by=by))

    @precondition(lambda self: self.world.shares)
    @rule(who=numbers, address=addresses, client=st.sampled_from(ADDRESSES), what=numbers, by_secret=st.booleans())
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
                redeemer = f"share:{target.id}" if by_secret else entry(actor, "", target)[0]
                self.world.log.append([(redeemer, "share.redeem", target.id, target.org)])

            return change

        secret = {"secret": target.secret} if by_secret else {}
        caller = None if by_secret else self.secret_of(who, old=False)
        self.both(
            caller, address, model, lambda by: self.gate.shares.redeem(target.id, address=client, by=by, **secret)
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
            token = next((one for one in self.world.tokens.values() if one.id == principal.id), None)
            if token is not None and secret in token.children:
                token = self.world.acting(token, secret)
                assert principal.kind == "access"
            for need in NEEDS:
                if token is not None:
                    assert principal.allows(need) == (need in opened(token.scopes))
                else:
                    share = self.world.shares[principal.id]
                    assert not principal.allows(need)
                    assert principal.allows(need, on="x") == (need in opened(share.scopes))
                    assert not principal.allows(need, on="y")

    @rule(who=numbers, address=addresses, client=st.sampled_from(ADDRESSES))
    def ask(self, who: int, address: str, client: str) -> None:
        """Who asks about credentials learns what a request would get, as far as he may, and nothing is noted of it."""
        for secret in self.secrets:
            reason = self.world.look(secret, client)
            explained = self.gate.explain(secret, address=client)
            assert (explained.reason or "ok", explained.allowed) == (reason, reason == "ok")

        def model(actor: Token | None) -> Any:
            if actor is not None and READ not in opened(actor.scopes):
                raise Refusal("insufficient_scope")
            return None

        caller = self.secret_of(who, old=False)
        by = None if caller is None else self.verify(caller, address)
        if self.both(caller, address, model, lambda by: self.gate.introspect("nothing", by=by)) is None:
            return
        actor = None if caller is None else self.world.actor(caller, address)
        for secret in self.secrets:
            record, reason = self.world.behind(secret), self.world.look(secret, client)
            if isinstance(record, Token) and secret == record.current and record.kind == "refresh":
                reason = self.world.standing(record, secret, client)
            told = self.gate.introspect(secret, by=by)
            known = record is not None and reason != "unknown_credential"
            assert told.active == (known and reason in ("ok", "address_not_allowed"))
            home = actor is None or actor.root or (record is not None and actor.org == record.org)
            reached = actor is None or (record is not None and actor.reaches(record))
            if known and record is not None and (home if told.active else reached):
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
            if not family.revoked:
                family.revoked, family.last = True, None
                self.world.tell(family, "token.revoke", family)
        elif isinstance(record, Token) and secret in record.children:
            self.gate.revoke(secret)
            self.world.tell(self.world.acting(record, secret), "access.delete", record)
            del record.children[secret]
        elif isinstance(record, Token):
            self.gate.revoke(secret)
            if not record.closed and (secret == record.current or self.world.now < record.until):
                self.world.close(record, record)
        elif record is not None:
            with pytest.raises(UnsupportedTokenType):
                self.gate.revoke(secret)

    @rule(who=numbers, address=addresses)
    def list(self, who: int, address: str) -> None:
        """Each caller sees exactly what it reaches."""
        for kind, need, records in (("tokens", READ, self.world.tokens), ("shares", READ_SHARES, self.world.shares)):

            def model(actor: Token | None, need: str = need) -> Any:
                if actor is not None and need not in opened(actor.scopes):
                    raise Refusal("insufficient_scope")
                return None

            secret = self.secret_of(who, old=False)
            page = self.both(secret, address, model, partial(self.listed, kind))
            if page is not None:
                actor = None if secret is None else self.world.actor(secret, address)
                seen = {one.id for one in records.values() if actor is None or actor.reaches(one)}
                assert {item.id for item in page.items} == seen

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
                told = [[one for one in line if everywhere or one[3] == org] for line in self.world.log]
                self.compare([line for line in told if line], self.told(0, by=by))

            return compare

        secret = self.secret_of(who, old=False)
        by = None if secret is None else self.verify(secret, address)
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
        found = [(one.actor, one.action, one.subject, one.org_id) for one in entries]
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
            assert all(one.sequence == self.sequence + number for number, one in enumerate(entries, 1))
            self.sequence = entries[-1].sequence


TestLifecycles = pytest.mark.filterwarnings("error")(Lifecycles.TestCase)
TestLifecycles.settings = settings(
    max_examples=60 * FUZZ,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
