"""A model of tokens, refresh tokens and shares: the rules of the specification, in plain sets.

It shares no code with the package. :mod:`test_lifecycles` plays random calls against the model
and the package, and compares both.

A scope is the set of the needs that it satisfies. The universe of needs is small; ``zz`` stands
for every other name. A list of networks is the set of the addresses that it admits. A scope covers
another if it is a superset. The present rights of an owner are a set as well; an owner who is gone
has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

GENERAL = (
    "a:r", "a:w", "a:zz", "b", "zz", "gate:tokens:read", "gate:tokens:write", "gate:tokens:zz", "gate:shares:read", "gate:shares:write", "gate:shares:zz",
    "gate:admin", "gate:zz",
)  # fmt: skip
# Permissions of the organization and roles of a service, and which needs they open: on which resource, or on any.
GRANTS = {
    "edit": {"edit", "edit@r1", "edit@r2"},
    "edit@r1": {"edit@r1"},
    "edit@r2": {"edit@r2"},
    "every permission": {"edit", "edit@r1", "edit@r2", "permission zz"},
    "svc/boss": {"svc/boss", "svc/boss@r1"},
    "svc/boss@r1": {"svc/boss@r1"},
    "every svc/role": {"svc/boss", "svc/boss@r1", "svc/role zz"},
}
NEEDS = (*GENERAL, *sorted(set().union(*GRANTS.values())))
ALL = frozenset(NEEDS)
EVERYTHING = ("*", "every permission", "every svc/role")
SCOPES = (
    "a:r",
    "a:w",
    "a:*",
    "b",
    "gate:tokens:read",
    "gate:tokens:write",
    "gate:tokens:*",
    "gate:shares:read",
    "gate:shares:write",
    "gate:admin",
    "gate:*",
    "*",
)
ADDRESSES = ("10.0.0.1", "10.1.0.1", "192.0.2.1", "2001:db8::1")
BLOCKS = {
    "10.0.0.0/8": {"10.0.0.1", "10.1.0.1"},
    "10.1.0.0/16": {"10.1.0.1"},
    "192.0.2.1": {"192.0.2.1"},
    "0.0.0.0/0": {"10.0.0.1", "10.1.0.1", "192.0.2.1", "any other of IPv4"},
}
FOREVER = float("inf")
Owner = tuple[str, str | None]  # a name, and the provider that knows it
Entry = tuple[
    str, str, str | None, str, str, str | None
]  # name, kind and record of the actor; action, subject, org
ROOT, TEXT, COMMAND_LINE = (
    ("root", "root"),
    ("u1", "application"),
    ("u1", "cli"),
)  # who acts without a credential


class Refusal(Exception):
    """A call that is refused: ``invalid``, ``missing``, ``conflict``, or the reason of a denial."""


@cache
def opened(scopes: tuple[str, ...]) -> frozenset[str]:
    """Return the needs that scopes satisfy."""
    general = {
        need
        for need in GENERAL
        for scope in scopes
        if scope in ("*", need) or (scope[-1] == "*" and need.startswith(scope[:-1]))
    }
    return frozenset(general.union(*(GRANTS.get(scope, ()) for scope in scopes)))


def admitted(blocks: tuple[str, ...]) -> set[str]:
    """Return the addresses that blocks admit; no block means all."""
    return (
        set().union(*(BLOCKS[block] for block in blocks))
        if blocks
        else {*ADDRESSES, "any other of IPv4", "anything else"}
    )


@dataclass
class Limits:
    """The limits of a record: needs, addresses and end."""

    grants: frozenset[str]
    blocks: tuple[str, ...]
    expires: float
    org: str | None
    root: bool = False

    def cover(self, other: Limits) -> bool:
        """Return True if the limits are at least as wide as the other limits."""
        if not self.root and (
            other.root or self.org != other.org or not other.grants <= self.grants
        ):
            return False
        return admitted(other.blocks) <= admitted(self.blocks) and other.expires <= self.expires


def common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """Return the blocks that both admit.

    If one list holds the other, the narrower list is returned unchanged, else as few blocks as suffice.
    """
    if admitted(one) <= admitted(other) or admitted(other) <= admitted(one):
        return one if admitted(one) <= admitted(other) else other
    pairs = ((one, other), (other, one))
    held = {block for some, others in pairs for block in some if BLOCKS[block] <= admitted(others)}
    return tuple(
        sorted(block for block in held if not any(BLOCKS[block] < BLOCKS[wider] for wider in held))
    )


@dataclass
class Child:
    """An access credential, with its own limits."""

    scopes: tuple[str, ...]
    blocks: tuple[str, ...]
    expires: float


@dataclass
class Token:
    """A token with every secret it ever had, or a refresh token, or the actor behind an access credential."""

    id: str
    maker: str | None
    owner: Owner | None
    org: str | None
    scopes: tuple[str, ...]
    blocks: tuple[str, ...]
    expires: float
    current: str
    unseen: bool = False
    old: str | None = None
    until: float = 0.0
    closed_by: object = None
    closed: bool = False
    by_admin: bool = False
    leaked: bool = False
    kind: str = "token"
    rights: frozenset[str] = ALL  # of one that acts: what its owner may do now
    rotates: bool = True
    revoked: bool = False
    retired: set[str] = field(default_factory=set)
    last: tuple[str, float] | None = (
        None  # what was exchanged for the current credential, and until when again
    )
    children: dict[str, Child] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """Return the limits of the record."""
        return Limits(self.grants, self.blocks, self.expires, self.org, self.root)

    @property
    def grants(self) -> frozenset[str]:
        """Return the needs that its scopes satisfy within the rights of its owner; root satisfies all."""
        return ALL if self.root else opened(self.scopes) & self.rights

    @property
    def root(self) -> bool:
        """Return True for root."""
        return (
            self.kind == "token" and "*" in self.scopes and self.owner is None and self.org is None
        )

    @property
    def admin(self) -> bool:
        """Return True for an admin of its organization."""
        return "gate:admin" in self.grants

    @property
    def who(self) -> object:
        """Return its identity: its owner in its organization, or the token itself without an owner."""
        return (self.kind, self.id) if self.owner is None else (self.org, self.owner)

    def reaches(self, other: Token | Share) -> bool:
        """Return True if the other record is visible to this token."""
        if self.root or self.id == other.id:
            return True
        if self.org != other.org:
            return False
        return self.admin or (
            other.maker == self.id if self.owner is None else other.owner == self.owner
        )

    def outranks(self, other: Token) -> bool:
        """Return True if the owner of the other may not undo a deactivation by this token."""
        return self.admin and not (
            self.owner is not None and (self.owner, self.org) == (other.owner, other.org)
        )


@dataclass
class Share:
    """A share, with the tokens that were redeemed from it."""

    id: str
    maker: str | None
    owner: Owner | None  # its maker's
    org: str | None
    scopes: tuple[str, ...]
    blocks: tuple[str, ...]
    expires: float
    secret: str
    most: int | None = None
    redemptions: int = 0
    revoked: bool = False
    redeemed: dict[str, float] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """Return the limits of the record."""
        return Limits(opened(self.scopes), self.blocks, self.expires, self.org)


class World:
    """All tokens and shares, and the present instant."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.tokens: dict[str, Token] = {}
        self.shares: dict[str, Share] = {}
        self.rights: dict[Owner, tuple[str, ...] | None] = {}  # None for who is gone
        self.origins: dict[
            str, set[str]
        ] = {}  # of every token that ever was: what made it or minted its secret
        self.outside = ROOT  # as whom the application itself acts
        self.log: list[
            list[Entry]
        ] = []  # what was done, in its order; what is in one list, at once

    def gone(self, owner: Owner | None) -> bool:
        """Return True if the owner is gone, which closes everything they own."""
        return owner is not None and self.rights.get(owner, EVERYTHING) is None

    def may(self, owner: Owner | None) -> frozenset[str]:
        """Return the present rights of an owner; without an owner there is no limit."""
        return ALL if owner is None else opened(self.rights.get(owner, EVERYTHING) or ())

    def in_hands(self, limits: Limits, owner: Owner | None) -> Limits:
        """Return the limits of a record within the present rights of its owner."""
        ends = -FOREVER if self.gone(owner) else limits.expires
        return (
            limits
            if limits.root
            else replace(limits, grants=limits.grants & self.may(owner), expires=ends)
        )

    def entry(self, actor: Token | Share | None, action: str, record: Token | Share) -> Entry:
        """Return the audit entry of a change: actor, action, record and organization."""
        if actor is None:
            return (*self.outside, None, action, record.id, record.org)
        kind = actor.kind if isinstance(actor, Token) else "share"
        owner = (
            actor.owner if isinstance(actor, Token) else None
        )  # who has a share's secret is not its maker
        return (
            f"{kind}:{actor.id}" if owner is None else owner[0],
            kind,
            actor.id,
            action,
            record.id,
            record.org,
        )

    def judge(self, secret: str, address: str) -> str:
        """Return the reason of a denial, or ``ok``. A presented secret counts as seen."""
        for token in self.tokens.values():
            token.unseen = token.unseen and secret != token.current
        return self.look(secret, address)

    def behind(self, secret: str) -> Token | Share | None:
        """Return the record behind a credential."""
        tokens = (
            token
            for token in self.tokens.values()
            if secret in (token.current, token.old, *token.children)
        )
        shares = (
            share
            for share in self.shares.values()
            if secret == share.secret or secret in share.redeemed
        )
        return next(tokens, None) or next(shares, None)

    def acting(self, token: Token, secret: str) -> Token:
        """Return the present limits of a credential.

        They are within the rights of its owner. Those of an access credential are within its family, too.
        """
        child = token.children.get(secret)
        if child is None:
            return replace(token, rights=self.may(token.owner))
        blocks, ends = common(child.blocks, token.blocks), min(child.expires, token.expires)
        both = opened(child.scopes) & self.may(token.owner)
        return replace(token, kind="access", rights=both, blocks=blocks, expires=ends)

    def standing(self, family: Token, secret: str, address: str) -> str:
        """Return the reason for a denial of a refresh token or its access credential, or ``ok``."""
        child = family.children.get(secret)
        if family.closed or self.gone(family.owner):
            return "deactivated"
        if family.revoked:
            return "revoked"
        if self.now >= min(family.expires, child.expires if child else FOREVER):
            return "expired"
        both = admitted(family.blocks) & admitted(child.blocks if child else ())
        return "ok" if address in both else "address_not_allowed"

    def look(self, secret: str, address: str) -> str:  # noqa: C901, PLR0911, PLR0912  the rules, one after the other
        """Return the reason a credential would be denied for, or ``ok``; nothing is recorded."""
        for token in self.tokens.values():
            if secret in token.children:
                return self.standing(token, secret, address)
            if token.kind == "refresh":
                continue
            if secret in (token.current, token.old):
                if secret == token.old and self.now >= token.until:
                    return "unknown_credential"
                if token.closed or self.gone(token.owner):
                    return "deactivated"
                if self.now >= token.expires:
                    return "expired"
                return "ok" if address in admitted(token.blocks) else "address_not_allowed"
        for share in self.shares.values():
            if secret == share.secret or secret in share.redeemed:
                if self.gone(share.owner):
                    return "deactivated"
                if share.revoked:
                    return "revoked"
                if self.now >= min(share.expires, share.redeemed.get(secret, FOREVER)):
                    return "expired"
                if share.most is not None and secret == share.secret:
                    return "redemption_required"
                return "ok" if address in admitted(share.blocks) else "address_not_allowed"
        return "unknown_credential"

    def actor(self, secret: str, address: str) -> Token:
        """Return the token behind a credential, or refuse it."""
        reason = self.judge(secret, address)
        if reason != "ok":
            raise Refusal(reason)
        token = self.behind(secret)
        assert isinstance(token, Token)
        return self.acting(token, secret)

    def exchange(self, secret: str, asked: tuple[str, ...] | None, address: str) -> Token:
        """Return the family of a refresh credential, or refuse it; a reused credential ends the family."""
        family = next(
            (one for one in self.tokens.values() if secret in (one.current, *one.retired)), None
        )
        if family is None or family.kind != "refresh":
            raise Refusal("unknown_credential")
        again = family.last is not None and family.last[0] == secret and self.now < family.last[1]
        alive = not family.revoked and not family.leaked and self.now < family.expires
        if secret in family.retired and not again and alive:
            family.revoked, family.last = True, None
            self.tell(replace(family, owner=None), "token.reuse", family)  # whoever that was
        reason = self.standing(family, secret, address)
        if reason != "ok":
            raise Refusal(reason)
        if asked is not None and not opened(asked) <= opened(family.scopes) & self.may(
            family.owner
        ):
            raise Refusal("insufficient_scope")
        return family

    def find(
        self, actor: Token | None, target: Token | Share | None, need: str, *, free: bool = False
    ) -> None:
        """Refuse a call that the actor may not make, or whose record it does not reach.

        Some calls on itself need no scope of a token.
        """
        itself = actor is not None and target is not None and actor.id == target.id
        if itself and actor is not None and actor.kind == "access":
            raise Refusal("insufficient_scope")
        if not (itself and free):
            self.demand(actor, need)
        if target is None or (actor is not None and not actor.reaches(target)):
            raise Refusal("missing")

    @staticmethod
    def demand(actor: Token | None, need: str) -> None:
        """Refuse an actor who lacks the scope of a call."""
        if actor is not None and need not in actor.grants:
            raise Refusal("insufficient_scope")

    @staticmethod
    def cover(actor: Token | None, limits: Limits) -> None:
        """Refuse limits that are wider than the actor."""
        if actor is not None and not actor.limits.cover(limits):
            raise Refusal("insufficient_scope")

    def tell(self, actor: Token | Share | None, action: str, record: Token | Share) -> None:
        """Append an entry to the audit log of the model."""
        self.log.append([self.entry(actor, action, record)])

    def may_activate(self, actor: Token | None, token: Token) -> bool:
        """Return True if the actor may activate a deactivated token: an admin, or the actor who closed it."""
        return actor is None or actor.admin or (not token.by_admin and token.closed_by == actor.who)

    def close(
        self, actor: Token | None, token: Token, *, leaked: bool = False
    ) -> tuple[bool, list[Entry]]:
        """Deactivate a token; return whether it was active, and the details of the entry."""
        rank = actor is None or actor.outranks(token)
        new = not token.closed or (rank and not token.by_admin)
        told = (
            [self.entry(actor, "token.deactivate", token)]
            if new or (leaked and not token.leaked)
            else []
        )
        if new:
            token.closed, token.by_admin, token.closed_by = (
                True,
                rank,
                None if actor is None else actor.who,
            )
        token.leaked = token.leaked or leaked
        return new, told

    def line(self, token: Token) -> set[str]:
        """Return a token and all its descendants."""
        line = {token.id}
        while more := {one for one, origins in self.origins.items() if origins & line} - line:
            line |= more
        return line

    def close_line(
        self, actor: Token | None, leaked: Token
    ) -> tuple[set[str], set[str], list[Entry]]:
        """Deactivate the descendants of a leaked token; return the closed tokens and shares, and the entries.

        Afterwards only current secrets count: no secret in its grace, no access credential, and no
        repeated exchange.
        """
        line = self.line(leaked)
        tokens, shares, told = set[str](), set[str](), list[Entry]()
        for token in (one for one in self.tokens.values() if one.id in line):
            token.children.clear()
            token.old = token.last = None
            if token is not leaked:
                new, entries = self.close(actor, token, leaked=True)
                tokens |= {token.id} if new else set()
                told += entries
        for share in (one for one in self.shares.values() if one.maker in line and not one.revoked):
            share.revoked = True
            shares.add(share.id)
            told.append(self.entry(actor, "share.revoke", share))
        return tokens, shares, told
