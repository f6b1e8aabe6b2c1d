"""A small model of tokens, refresh tokens and shares: what SPEC says of them, in plain sets, sharing no code with the package.

A scope is the set of the needs that it opens, out of a small universe in which ``zz`` stands for whatever has no
other name; a list of networks is the set of addresses that it admits. To cover is to be a superset.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NEEDS = (
    "a:r", "a:w", "a:zz", "b", "zz", "gate:tokens:read", "gate:tokens:write", "gate:tokens:zz", "gate:shares:read", "gate:shares:write", "gate:shares:zz",
    "gate:admin", "gate:zz",
)  # fmt: skip
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
Entry = tuple[str, str, str, str | None]


class Refusal(Exception):
    """A call that is refused: ``invalid``, ``missing``, ``conflict``, or the reason of a denial."""


def opened(scopes: tuple[str, ...]) -> set[str]:
    """The needs that scopes open."""
    return {
        need
        for need in NEEDS
        for scope in scopes
        if scope in ("*", need) or (scope[-1] == "*" and need.startswith(scope[:-1]))
    }


def admitted(blocks: tuple[str, ...]) -> set[str]:
    """The addresses that blocks admit; no block is no limit."""
    return (
        set().union(*(BLOCKS[block] for block in blocks))
        if blocks
        else {*ADDRESSES, "any other of IPv4", "anything else"}
    )


@dataclass
class Limits:
    """What a record opens: for whom, where from, until when."""

    scopes: tuple[str, ...]
    blocks: tuple[str, ...]
    expires: float
    org: str | None
    root: bool = False

    def cover(self, other: Limits) -> bool:
        """Tell whether these are as wide."""
        if not self.root and (other.root or self.org != other.org or not opened(other.scopes) <= opened(self.scopes)):
            return False
        return admitted(other.blocks) <= admitted(self.blocks) and other.expires <= self.expires


def common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """The blocks of the addresses that both admit: as they are where one holds the other, else as few as will do."""
    if admitted(one) <= admitted(other) or admitted(other) <= admitted(one):
        return one if admitted(one) <= admitted(other) else other
    pairs = ((one, other), (other, one))
    held = {block for some, others in pairs for block in some if BLOCKS[block] <= admitted(others)}
    return tuple(sorted(block for block in held if not any(BLOCKS[block] < BLOCKS[wider] for wider in held)))


@dataclass
class Child:
    """What an access credential opens by itself."""

    scopes: tuple[str, ...]
    blocks: tuple[str, ...]
    expires: float


@dataclass
class Token:
    """A token, with the secrets that it ever had; or a refresh token, or what an access credential acts as."""

    id: str
    maker: str | None
    owner: str | None
    org: str | None
    scopes: tuple[str, ...]
    blocks: tuple[str, ...]
    expires: float
    current: str
    unseen: bool = False
    old: str | None = None
    until: float = 0.0
    closed_by: str | None = None
    closed: bool = False
    by_admin: bool = False
    dead: set[str] = field(default_factory=set)
    kind: str = "token"
    rotates: bool = True
    revoked: bool = False
    retired: set[str] = field(default_factory=set)
    last: tuple[str, float] | None = None  # what was exchanged for the current credential, and until when again
    children: dict[str, Child] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """What it opens."""
        return Limits(self.scopes, self.blocks, self.expires, self.org, self.root)

    @property
    def root(self) -> bool:
        """Whether it is root."""
        return self.kind == "token" and "*" in self.scopes and self.owner is None and self.org is None

    @property
    def admin(self) -> bool:
        """Whether its organization is its own."""
        return "gate:admin" in opened(self.scopes)

    @property
    def name(self) -> str:
        """What is recorded of what it does."""
        return self.owner or f"{self.kind}:{self.id}"

    def reaches(self, other: Token | Share) -> bool:
        """Tell whether the other record exists for this one."""
        if self.root or self.id == other.id:
            return True
        if self.org != other.org:
            return False
        return self.admin or (other.maker == self.id if self.owner is None else other.owner == self.owner)

    def outranks(self, other: Token) -> bool:
        """Tell whether this one's deactivation is above the other's owner."""
        return self.admin and not (self.owner is not None and (self.owner, self.org) == (other.owner, other.org))


@dataclass
class Share:
    """A share, with what was redeemed from it."""

    id: str
    maker: str | None
    owner: str | None
    org: str | None
    scopes: tuple[str, ...]
    objects: tuple[str, ...]
    blocks: tuple[str, ...]
    expires: float
    secret: str
    most: int | None = None
    redemptions: int = 0
    revoked: bool = False
    redeemed: dict[str, float] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """What it opens."""
        return Limits(self.scopes, self.blocks, self.expires, self.org)


def entry(actor: Token | None, action: str, record: Token | Share) -> Entry:
    """What the audit says of a change: who did what, to which record, of which organization."""
    return ("root" if actor is None else actor.name, action, record.id, record.org)


class World:
    """All tokens and shares, and the instant."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.tokens: dict[str, Token] = {}
        self.shares: dict[str, Share] = {}
        self.gone: set[str] = set()  # secrets of deleted tokens
        self.makers: dict[str, str | None] = {}  # of every token that ever was
        self.log: list[list[Entry]] = []  # what was done, in its order; what is in one list, at once

    def judge(self, secret: str, address: str) -> str:
        """The reason for which a credential is refused, or ``ok``; a secret that is presented was seen."""
        for token in self.tokens.values():
            token.unseen = token.unseen and secret != token.current
        return self.look(secret, address)

    def behind(self, secret: str) -> Token | Share | None:
        """The record behind a credential."""
        tokens = (token for token in self.tokens.values() if secret in (token.current, token.old, *token.children))
        shares = (share for share in self.shares.values() if secret == share.secret or secret in share.redeemed)
        return next(tokens, None) or next(shares, None)

    @staticmethod
    def acting(family: Token, secret: str) -> Token:
        """What an access credential is: of its family's record, as wide as both are."""
        child = family.children[secret]
        both = opened(child.scopes) & opened(family.scopes)
        blocks, ends = common(child.blocks, family.blocks), min(child.expires, family.expires)
        return Token(
            family.id, family.maker, family.owner, family.org, tuple(sorted(both)), blocks, ends, secret, kind="access"
        )

    def standing(self, family: Token, secret: str, address: str) -> str:
        """The reason for which a refresh token, or an access credential of it, is refused, or ``ok``."""
        child = family.children.get(secret)
        if family.closed or family.revoked:
            return "deactivated" if family.closed else "revoked"
        if self.now >= min(family.expires, child.expires if child else FOREVER):
            return "expired"
        both = admitted(family.blocks) & admitted(child.blocks if child else ())
        return "ok" if address in both else "address_not_allowed"

    def look(self, secret: str, address: str) -> str:  # noqa: C901, PLR0911  the rules, one after the other
        """The reason for which a credential would be refused, or ``ok``."""
        for token in self.tokens.values():
            if secret in token.children:
                return self.standing(token, secret, address)
            if token.kind == "refresh":
                continue
            if secret in (token.current, token.old):
                if secret == token.old and self.now >= token.until:
                    return "unknown_credential"
                if token.closed:
                    return "deactivated"
                if self.now >= token.expires:
                    return "expired"
                return "ok" if address in admitted(token.blocks) else "address_not_allowed"
        for share in self.shares.values():
            if secret == share.secret or secret in share.redeemed:
                if share.revoked:
                    return "revoked"
                if self.now >= min(share.expires, share.redeemed.get(secret, FOREVER)):
                    return "expired"
                if share.most is not None and secret == share.secret:
                    return "redemption_required"
                return "ok" if address in admitted(share.blocks) else "address_not_allowed"
        return "unknown_credential"

    def actor(self, secret: str, address: str) -> Token:
        """The token behind a credential, or the refusal of it."""
        reason = self.judge(secret, address)
        if reason != "ok":
            raise Refusal(reason)
        token = self.behind(secret)
        assert isinstance(token, Token)
        return self.acting(token, secret) if secret in token.children else token

    def exchange(self, secret: str, asked: tuple[str, ...] | None, address: str) -> Token:
        """The family whose refresh credential may be exchanged, or the refusal; one that is used again ends it."""
        family = next((one for one in self.tokens.values() if secret in (one.current, *one.retired)), None)
        if family is None or family.kind != "refresh":
            raise Refusal("unknown_credential")
        again = family.last is not None and family.last[0] == secret and self.now < family.last[1]
        if secret in family.retired and not again and not family.revoked and self.now < family.expires:
            family.revoked, family.last = True, None
            self.log.append([(f"refresh:{family.id}", "token.reuse", family.id, family.org)])
        reason = self.standing(family, secret, address)
        if reason != "ok":
            raise Refusal(reason)
        if asked is not None and not opened(asked) <= opened(family.scopes):
            raise Refusal("insufficient_scope")
        return family

    def find(self, actor: Token | None, target: Token | Share | None, need: str, *, free: bool = False) -> None:
        """Refuse what the actor may not do, or does not reach; of itself a token may some things for nothing."""
        itself = actor is not None and target is not None and actor.id == target.id
        if itself and actor is not None and actor.kind == "access":
            raise Refusal("insufficient_scope")
        if actor is not None and not (itself and free) and need not in opened(actor.scopes):
            raise Refusal("insufficient_scope")
        if target is None or (actor is not None and not actor.reaches(target)):
            raise Refusal("missing")

    @staticmethod
    def cover(actor: Token | None, limits: Limits) -> None:
        """Refuse what is wider than the actor."""
        if actor is not None and not actor.limits.cover(limits):
            raise Refusal("insufficient_scope")

    def tell(self, actor: Token | None, action: str, record: Token | Share) -> None:
        """Remember who did what to which record."""
        self.log.append([entry(actor, action, record)])

    def close(self, actor: Token | None, token: Token, line: list[Entry] | None = None) -> bool:
        """Deactivate a token, alone or with others of its line; tell whether anything changed."""
        rank = actor is None or actor.outranks(token)
        if token.closed and (token.by_admin or not rank):
            return False
        token.closed, token.by_admin, token.closed_by = True, rank, "root" if actor is None else actor.name
        if line is None:
            self.tell(actor, "token.deactivate", token)
        else:
            line.append(entry(actor, "token.deactivate", token))
        return True

    def close_line(self, actor: Token | None, leaked: Token) -> None:
        """Deactivate and revoke whatever came from a token, at once with what was done to itself."""
        line = {leaked.id}
        while more := {one for one, maker in self.makers.items() if maker in line} - line:
            line |= more
        closed: list[Entry] = self.log[-1]
        for token in self.tokens.values():
            if token.id in line:
                token.children.clear()
            if token.id in line and token.id != leaked.id:
                self.close(actor, token, closed)
        for share in self.shares.values():
            if share.maker in line and not share.revoked:
                share.revoked = True
                closed.append(entry(actor, "share.revoke", share))
