"""Rules by path, which an ASGI or WSGI middleware judges before it calls the application.

The law:

- The path is the path that the application's router sees, decoded.
- Where rules are given, a path that no rule opens stays shut, unless the default says otherwise.
- An ambiguous path stays shut: a router, a proxy or a file system might read it in another way.
- Where two readings of a path are common, the demands of both readings must be met.
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
    """A demand that is no need, like ``PUBLIC`` or ``AUTHENTICATED``."""

    name: str

    def __repr__(self) -> str:
        return self.name


# Any request. A credential is verified if there is one.
PUBLIC: Final = Condition("PUBLIC")
# Any valid credential.
AUTHENTICATED: Final = Condition("AUTHENTICATED")
# The default for paths without a rule: as PUBLIC, and a guard of the application decides.
IDENTIFY: Final = Condition("identify")

Demand = Need | Sequence[Need] | Condition
_Demand = tuple[Need, ...] | Condition
Default = Literal["deny", "identify"]

_FOREVER = float("inf")

# A proxy in front or a server behind may read a path in another way than the router. It may decode
# more often. It may cut off parameters of a segment: "/a;x" is "/a" to Java's servers. It may put a
# decoded path into a URL, where "?" and "#" end it, or drop a space. It may remove dot segments
# (RFC 3986 section 5.2.4).
_DOT_SEGMENT = r"/(?!\Z)\.{0,2}(?:[/;]|\Z)|/\.{1,2}[?#\s]"
# In a decoded path: empty and dot segments, backslashes, control characters, bytes that are no
# UTF-8, and separators that are encoded twice.
_AMBIGUOUS = re.compile(
    rf"//|{_DOT_SEGMENT}|[\\\x00-\x1f\x7f-\x9f\ufffd]|%(?:2f|5c|3b|[01][0-9a-f]|7f|u[0-9a-f]{{4}})",
    re.IGNORECASE,
)
# In a raw path: encoded separators, dot segments and bytes that are no UTF-8. Any other character
# may be encoded once. A server may merge empty segments before it routes, so they are no sign.
_ENCODED = re.compile(rf"%(?:2f|5c|u[0-9a-f]{{4}})|(?!//)(?:{_DOT_SEGMENT})|\ufffd", re.IGNORECASE)
_DECODINGS = 4  # times; no honest client encodes more often
_SHORT = 512  # characters of decoded and raw path together, up to which a demand is cached
_PARAMETERS = re.compile(r";[^/]*")
_UNLIKELY = re.compile(r"[*{}<>?#%;]")


class Scopes:
    """Contains every general scope that the principal satisfies, for ``scope in auth.scopes``.

    Wildcards count. A share satisfies no scope here, since no object is named. ``authenticated`` is
    contained for every principal, by Starlette's convention.
    """

    def __init__(self, principal: Principal | None) -> None:
        self._principal = principal

    def __contains__(self, scope: object) -> bool:
        if self._principal is None or not isinstance(scope, str):
            return False

        try:
            return scope == "authenticated" or self._principal.allows(scope)
        except InvalidInput:
            # The text can be no need: a wildcard, for example.
            return False

    def __iter__(self) -> Iterator[str]:
        if self._principal is None:
            return

        yield "authenticated"
        scopes = self._principal.compiled.granted.scopes
        yield from sorted(scope for scope in scopes if scope in self)


class Authentication(msgspec.Struct, frozen=True):
    """The authentication of an admitted request, which adapters hand on to the guards.

    ``principal`` is the caller, None for a request without a valid credential. ``denied`` is then
    the reason. ``elsewhere`` is True if ``Authorization`` did not hold the credential.
    """

    gate: RequestGate
    principal: Principal | None
    denied: Denied | None = None
    elsewhere: bool = False

    def identified(self) -> Principal:
        """Return the principal; raise Denied with the reason if there is none."""
        if self.principal is None:
            # A copy: an exception that is raised again and again gathers tracebacks.
            denied = self.denied or Denied("missing_credential")
            raise Denied(
                denied.reason, denied.detail, record_id=denied.record_id, address=denied.address
            )
        return self.principal

    @property
    def scopes(self) -> Scopes:
        """The general scopes of the principal, as frameworks expect them of a request."""
        return Scopes(self.principal)

    def announces(self) -> bool:
        """Return False if :meth:`additions` would return no header for any answer."""
        return self.principal is not None and (
            self.elsewhere or self.principal.compiled.expires_at < _FOREVER
        )

    def additions(self, status: int, present: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Return the headers to add to the answer.

        They are those of :meth:`faregate.adapters.RequestGate.response_headers`. ``status`` is the
        answer's, ``present`` are the names of the headers that it has already.
        """
        if self.principal is None:
            return ()

        return self.gate.response_headers(
            self.principal, elsewhere=self.elsewhere, status=status, present=present
        )


def admit(
    gate: RequestGate, demand: _Demand, principal: Principal, *, elsewhere: bool = False
) -> Authentication:
    """Return the authentication of a principal that meets its path's demand; else raise Denied."""
    if isinstance(demand, tuple):
        principal.require_all(demand)
    return Authentication(gate, principal, None, elsewhere)


class Rules:
    """Finds the demand of a path.

    ``rules`` maps paths to demands: a need, a list of needs that must all be met, ``PUBLIC`` or
    ``AUTHENTICATED``. A path that ends in ``/`` is a prefix. Any other path is exact. The longest
    match wins::

        Rules({"/healthz": PUBLIC, "/api/": AUTHENTICATED, "/api/docs/": "docs:read"})

    ``default`` is the demand of other paths. ``deny`` shuts them; it is the default where rules are
    given. ``identify`` identifies the caller if possible, and a guard of the application decides.

    Raises InvalidInput for an invalid rule or default.
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
        # True if every path is open, so that no path has to be looked at.
        self.open = not (self._strict or self._deny)

        demands = {
            _check_path(path): _check_demand(path, demand) for path, demand in (rules or {}).items()
        }
        self._exact = {path: demand for path, demand in demands.items() if not path.endswith("/")}
        self._by_prefix = {path: demand for path, demand in demands.items() if path.endswith("/")}
        self._longest_first = tuple(
            sorted(self._by_prefix.items(), key=lambda rule: len(rule[0]), reverse=True)
        )
        self._cached_demand = lru_cache(maxsize=1024)(self._demand)

    def enter(
        self,
        gate: RequestGate,
        path: str,
        raw_path: str,
        values: RequestValues,
        *,
        wait: bool = True,
    ) -> Authentication:
        """Return the authentication of a request that is admitted; else raise Denied.

        ``path`` is decoded, without the prefix under which the application is mounted. ``raw_path``
        is the path as it was sent, empty if it is not known.

        Raises WouldWait as :meth:`faregate.adapters.RequestGate.identify` does.
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
        """Return the answer to a denial on a path, and log it with the rule of the path."""
        route = "-"
        if logs_denials():
            route = f"{method} {self.name(path)}"
        return gate.answer(denied, route=route)

    def name(self, path: str) -> str:
        """Return the path of the rule that matches a path, or ``-``.

        The log names the rule, since the client chooses the path itself.
        """
        if self.demand(path, "") is None:
            return "-"
        if path in self._exact:
            return path

        matches = (rule for rule, _ in self._longest_first if path.startswith(rule))
        return next(matches, "-")

    def demand(self, path: str, raw_path: str) -> _Demand | None:
        """Return the demand of a path, or None if it is shut."""
        # Long paths are not cached: clients choose them, and would fill the memory.
        if len(path) + len(raw_path) <= _SHORT:
            return self._cached_demand(path, raw_path)
        return self._demand(path, raw_path)

    def _demand(self, path: str, raw_path: str) -> _Demand | None:
        if not self._strict:
            return None if self._deny else IDENTIFY

        # The path is empty at the place where the application is mounted.
        path = path or "/"
        if _hides(_AMBIGUOUS, path) or _hides(_ENCODED, raw_path) or not path.startswith("/"):
            return None

        demand = self._ruled(path)
        if demand is None or ";" not in path:
            return demand

        # Java's servers read the path without its parameters.
        plain = self._ruled(_PARAMETERS.sub("", path))
        if plain is None:
            return None
        return _stricter(demand, plain)

    def _ruled(self, path: str) -> _Demand | None:
        """Return the demand of an unambiguous path, or None if no rule opens it."""
        if path in self._exact:
            return self._exact[path]

        matches = (demand for prefix, demand in self._longest_first if path.startswith(prefix))
        match = next(matches, None)
        if match is None and self._deny:
            return None
        demand = match or IDENTIFY
        if path in self._by_prefix:
            return demand

        # Some routers ignore a final slash. A shorter rule must not open a path whose other
        # spelling has a rule of its own.
        if path.endswith("/"):
            twin = self._exact.get(path.rstrip("/"))
        else:
            twin = self._by_prefix.get(f"{path}/")
        return _stricter(demand, twin)


def _hides(wrong: re.Pattern[str], path: str) -> bool:
    """Return True if ``wrong`` is in a path, or appears when the path is decoded repeatedly."""
    for _ in range(_DECODINGS + 1):
        if wrong.search(path):
            return True

        decoded = unquote(path) if "%" in path else path
        if decoded == path:
            return False
        path = decoded
    return True


def _stricter(demand: _Demand, other: _Demand | None) -> _Demand:
    """Return a demand that is met only if both demands are met."""
    if other is None or other in (PUBLIC, IDENTIFY):
        return demand
    if not isinstance(demand, tuple):
        return other
    if isinstance(other, tuple):
        return demand + other
    return demand


def _not_open(gate: RequestGate, values: RequestValues) -> Denied:
    """Return the denial of a path that is shut to every caller. The credential is not verified."""
    address = gate.client_address(values)
    try:
        gate.resolver.resolve(values)
    except Denied as denied:
        if denied.reason == "missing_credential":
            denied.address = address
            return denied
    return Denied("path_not_open", address=address)


def _check_path(path: object) -> str:
    """Return the path of a rule; raise InvalidInput for a path that no request could match."""
    if (
        not isinstance(path, str)
        or not path.startswith("/")
        or _AMBIGUOUS.search(path)
        or _UNLIKELY.search(path)
    ):
        raise InvalidInput(
            f"rules: {path!r} is no path like '/healthz', or '/api/' for all paths below; "
            "give it decoded, without wildcards and parameters"
        )
    return path


def _check_demand(path: str, demand: object) -> _Demand:
    """Return the demand of a rule; raise InvalidInput for an invalid demand."""
    if isinstance(demand, Condition) and demand in (PUBLIC, AUTHENTICATED):
        return demand

    needs: tuple[object, ...] = (demand,)
    if isinstance(demand, list | tuple):
        needs = tuple(cast("Sequence[object]", demand))
    if not needs:
        raise InvalidInput(
            f"rules: {path!r} has an empty list of needs; "
            "give AUTHENTICATED for any valid credential"
        )
    return check_needs(needs)
