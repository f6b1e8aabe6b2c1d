"""Which path needs what: rules that an ASGI or WSGI middleware judges before the application is asked.

The path is the one that the application's router sees. Where rules are given, what no rule opens stays shut,
and so does every path that a router, a proxy or a file system might read in another way than this one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, cast
from urllib.parse import unquote

import msgspec

from faregate.credentials.answers import logs_denials
from faregate.errors import Denied, InvalidInput
from faregate.values.needs import Need, check_needs

if TYPE_CHECKING:
    from faregate.adapters import RequestGate
    from faregate.credentials.answers import Answer
    from faregate.credentials.presented import RequestValues
    from faregate.decision.principal import Principal


class Condition(msgspec.Struct, frozen=True):
    """What a rule asks for instead of a need."""

    name: str

    def __repr__(self) -> str:
        return self.name


PUBLIC: Final = Condition("PUBLIC")  # anybody; a credential is looked at, and none is asked for
AUTHENTICATED: Final = Condition("AUTHENTICATED")  # whoever has any valid credential

Demand = Need | Sequence[Need] | Condition
_Demand = tuple[Need, ...] | Condition
Default = Literal["deny", "identify"]

# Whoever stands before or behind may decode more often than the router does, read on to the next slash what Java's
# servers call parameters of a segment ("/a;x" is "/a" to them), put a decoded path into a URL, where "?" and "#" end
# it, or leave a space away; and take dot segments away (RFC 3986 section 5.2.4).
_DOT_SEGMENT = r"/(?!\Z)\.{0,2}(?:[/;]|\Z)|/\.{1,2}[?#\s]"
# Empty and dot segments, backslashes, control characters, what is no UTF-8, and what separates if it is decoded again.
_AMBIGUOUS = re.compile(
    rf"//|{_DOT_SEGMENT}|[\\\x00-\x1f\x7f-\x9f\ufffd]|%(?:2f|5c|3b|[01][0-9a-f]|7f|u[0-9a-f]{{4}})",
    re.IGNORECASE,
)
# Of a path as it was sent, one encoding is the ordinary one; an empty segment may be gone before it is routed.
_ENCODED = re.compile(rf"%(?:2f|5c|u[0-9a-f]{{4}})|(?!//)(?:{_DOT_SEGMENT})|\ufffd", re.IGNORECASE)
_DECODINGS = 4  # nobody encodes oftener, unless to hide something
_SHORT = 512  # characters of a path, in both spellings, whose rule is remembered
_PARAMETERS = re.compile(r";[^/]*")
_UNLIKELY = re.compile(r"[*{}<>?#%;]")


class Scopes:
    """The general scopes of a principal, to ask ``in`` for: one is in them if the principal meets the need for it.

    So wildcards count, and a share is in none, since no object was named. ``authenticated`` is in them for
    whoever was identified, by Starlette's convention.
    """

    def __init__(self, principal: Principal | None) -> None:
        self._principal = principal

    def __contains__(self, scope: object) -> bool:
        if self._principal is None or not isinstance(scope, str):
            return False
        try:
            return scope == "authenticated" or self._principal.allows(scope)
        except InvalidInput:  # no scope that one could need, a wildcard for example
            return False

    def __iter__(self) -> Iterator[str]:
        if self._principal is not None:
            yield "authenticated"
            yield from sorted(
                scope for scope in self._principal.compiled.granted.scopes if scope in self
            )


class Authentication(msgspec.Struct, frozen=True):
    """A request that came in: who it comes from, or why that is not known. Adapters hand it on to the guards."""

    gate: RequestGate
    principal: Principal | None
    denied: Denied | None = None
    elsewhere: bool = False

    def identified(self) -> Principal:
        """Return the principal, or raise the Denied that says why there is none."""
        if self.principal is None:
            # A new one each time: what is raised again would gather tracebacks.
            known = self.denied or Denied("missing_credential")
            raise Denied(
                known.reason, known.detail, record_id=known.record_id, address=known.address
            )
        return self.principal

    @property
    def scopes(self) -> Scopes:
        """What the principal may do, as frameworks ask it of a request's credentials."""
        return Scopes(self.principal)

    def announces(self) -> bool:
        """Tell whether :meth:`additions` may have anything to say."""
        return self.principal is not None and (
            self.elsewhere or self.principal.compiled.expires_at < _FOREVER
        )

    def additions(self, status: int, present: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Return the headers to add to the answer, as :meth:`faregate.adapters.RequestGate.response_headers` says."""
        if self.principal is None:
            return ()
        return self.gate.response_headers(
            self.principal, elsewhere=self.elsewhere, status=status, present=present
        )


_FOREVER = float("inf")


def admit(
    gate: RequestGate, demand: _Demand, principal: Principal, *, elsewhere: bool = False
) -> Authentication:
    """Return the visit of a principal that meets what its path asks for; else raise Denied."""
    if isinstance(demand, tuple):
        principal.require_all(demand)
    return Authentication(gate, principal, None, elsewhere)


class Rules:
    """Needs by path. A path that ends in ``/`` is a prefix, any other is exact, and the longest wins.

    ``rules`` maps paths to a need, a list of needs that are all to be met, ``PUBLIC`` or ``AUTHENTICATED``.
    ``default`` says what becomes of other paths: ``deny``, the default where rules are given, or ``identify``,
    the default without: whoever comes is identified if possible, and a guard further in decides. Raises
    InvalidInput for a rule that cannot be meant.
    """

    def __init__(
        self, rules: Mapping[str, Demand] | None = None, default: Default | None = None
    ) -> None:
        if rules is not None and not isinstance(rules, Mapping):
            raise InvalidInput("rules: expected a mapping of paths to needs")
        if default not in (None, "deny", "identify"):
            raise InvalidInput("default: 'deny' or 'identify'")
        self._strict = rules is not None
        self._deny = default == "deny" or (default is None and self._strict)
        self.open = not (self._strict or self._deny)  # every path is, and none has to be looked at
        needs = {
            _check_path(path): _check_demand(path, demand) for path, demand in (rules or {}).items()
        }
        self._exact = {path: demand for path, demand in needs.items() if not path.endswith("/")}
        self._prefix = {path: demand for path, demand in needs.items() if path.endswith("/")}
        self._named = frozenset(needs)
        self._remembered = lru_cache(maxsize=1024)(self._demand)
        self._prefixes = tuple(
            sorted(self._prefix.items(), key=lambda rule: len(rule[0]), reverse=True)
        )

    def enter(
        self,
        gate: RequestGate,
        path: str,
        raw_path: str,
        values: RequestValues,
        *,
        wait: bool = True,
    ) -> Authentication:
        """Return the visit of a request that may come in; else raise Denied.

        ``path`` is decoded and without the prefix under which the application is mounted, ``raw_path`` as it was
        sent, or empty where that is not known. WouldWait as :meth:`faregate.adapters.RequestGate.identify` raises it.
        """
        demand = IDENTIFY if self.open else self.demand(path, raw_path)
        if demand is None:
            raise _not_open(gate, values)
        try:
            principal, elsewhere = gate.identify(values, wait=wait)
        except Denied as denied:
            if demand is not PUBLIC and demand is not IDENTIFY:
                raise
            return Authentication(gate, None, denied)
        return admit(gate, demand, principal, elsewhere=elsewhere)

    def answer(self, gate: RequestGate, denied: Denied, method: str, path: str) -> Answer:
        """Return the answer to a denial on a path, and log it; the rule is looked up for the log alone."""
        return gate.answer(denied, route=f"{method} {self.name(path)}" if logs_denials() else "-")

    def name(self, path: str) -> str:
        """Return the rule that a path falls under, for the log: the path itself may hold anything."""
        found = (
            path
            if path in self._exact
            else next((rule for rule, _ in self._prefixes if path.startswith(rule)), "-")
        )
        return found if self.demand(path, "") is not None else "-"

    def demand(self, path: str, raw_path: str) -> _Demand | None:
        """Return what a path asks for, or None where it is shut."""
        # Long paths are not remembered: a client chooses them.
        if len(path) + len(raw_path) <= _SHORT:
            return self._remembered(path, raw_path)
        return self._demand(path, raw_path)

    def _demand(self, path: str, raw_path: str) -> _Demand | None:
        if not self._strict:
            return None if self._deny else IDENTIFY
        path = path or "/"  # the place where the application is mounted
        if _hides(_AMBIGUOUS, path) or _hides(_ENCODED, raw_path) or not path.startswith("/"):
            return None
        demand = self._ruled(path)
        if demand is None or ";" not in path:
            return demand
        plain = self._ruled(_PARAMETERS.sub("", path))
        return None if plain is None else _stricter(demand, plain)

    def _ruled(self, path: str) -> _Demand | None:
        """Return what a path asks for that can be read in one way only, or None where no rule opens it."""
        if path in self._exact:
            return self._exact[path]
        found = next((demand for prefix, demand in self._prefixes if path.startswith(prefix)), None)
        if found is None and self._deny:
            return None
        # Some routers take a final slash for nothing: what a shorter rule opens, the other spelling's still guards.
        twin = (
            self._exact.get(path.rstrip("/"))
            if path.endswith("/")
            else self._prefix.get(f"{path}/")
        )
        return (found or IDENTIFY) if path in self._named else _stricter(found or IDENTIFY, twin)


def _hides(wrong: re.Pattern[str], path: str) -> bool:
    """Tell whether ``wrong`` is in a path, or comes out of it when it is decoded again and again."""
    for _ in range(_DECODINGS + 1):
        if wrong.search(path):
            return True
        decoded = unquote(path) if "%" in path else path
        if decoded == path:
            return False
        path = decoded
    return True


def _stricter(demand: _Demand, other: _Demand | None) -> _Demand:
    """Return what both ask for."""
    if other is None or other in (PUBLIC, IDENTIFY):
        return demand
    if isinstance(demand, tuple) and isinstance(other, tuple):
        return demand + other
    return demand if isinstance(demand, tuple) else other


IDENTIFY: Final = Condition("identify")


def _not_open(gate: RequestGate, values: RequestValues) -> Denied:
    """Return the denial of a path that is shut to everybody; whether a credential is valid is not looked at."""
    address = gate.client_address(values)
    try:
        gate.resolver.resolve(values)
    except Denied as denied:
        if denied.reason == "missing_credential":
            denied.address = address
            return denied
    return Denied("path_not_open", address=address)


def _check_path(path: object) -> str:
    if (
        not isinstance(path, str)
        or not path.startswith("/")
        or _AMBIGUOUS.search(path)
        or _UNLIKELY.search(path)
    ):
        raise InvalidInput(
            f"rules: {path!r} is no path such as '/healthz', or '/api/' for all below; it is compared as it is, "
            "decoded, without wildcards and parameters"
        )
    return path


def _check_demand(path: str, demand: object) -> _Demand:
    if isinstance(demand, Condition) and demand in (PUBLIC, AUTHENTICATED):
        return demand
    listed = (
        tuple(cast("Sequence[object]", demand)) if isinstance(demand, list | tuple) else (demand,)
    )
    if not listed:
        raise InvalidInput(
            f"rules: {path!r} has an empty list of needs; AUTHENTICATED asks for any valid credential"
        )
    return check_needs(listed)
