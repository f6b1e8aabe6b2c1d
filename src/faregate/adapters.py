"""The side of a gate that adapters call.

An adapter translates requests and answers for its framework, and decides nothing itself. It needs
five things of a gate. The WSGI middleware in short::

    gate.requests.peek(line, peer)              # the fast path: a principal, or None
    gate.requests.identify(values)              # any request: a principal, or Denied
    principal.require_all(needs)                # the needs of the route, or Denied
    gate.requests.answer(denied, route=route)   # the answer to a denial, logged
    gate.requests.response_headers(principal)   # the headers that an admitted request's answer gets

``values`` are :class:`faregate.credentials.presented.RequestValues`. ``gate.requests.resolver`` and
``gate.requests.proxies`` tell which headers to take out of a request. An adapter's ``requires(…)``
reads its arguments by :func:`apply_requires`.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from faregate.credentials.answers import Answer, answer_denial, check_realm
from faregate.errors import Denied, InvalidInput
from faregate.values.client_address import TrustedProxies, peer_address
from faregate.values.instants import as_datetime
from faregate.values.needs import check_needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from faregate.credentials.parsing import CredentialParser
    from faregate.credentials.presented import CredentialResolver, RequestValues
    from faregate.decision.principal import Principal
    from faregate.lifecycles.transactions import Transactions
    from faregate.values.needs import Need
    from faregate.verification.verifier import Verifier

    # Returns a guarded endpoint; takes the endpoint, its checked needs, and its object or None.
    Guard = Callable[[Any, tuple[Need, ...], object], Any]

# A header of the package: Deprecation and Sunset are about resources (RFC 9745, RFC 8594), this one
# is about the credential.
EXPIRES = "Faregate-Token-Expires"
_EXPIRES = EXPIRES.lower()


class RequestGate:
    """Identifies the callers of requests, and words the answers.

    Its methods take and return values, so that no framework is known here.
    """

    def __init__(
        self,
        resolver: CredentialResolver,
        proxies: TrustedProxies,
        parser: CredentialParser,
        verifier: Verifier,
        transactions: Transactions,
        *,
        realm: str,
        max_length: int,
    ) -> None:
        self.resolver = resolver
        self.proxies = proxies
        self._realm = check_realm(realm)
        self._verifier = verifier
        self._transactions = transactions
        self._max_length = max_length
        # Whether more of a request is looked at than one line.
        self._reads_more = resolver.elsewhere or proxies.any
        # Bound once: each look-up of an attribute costs on every request.
        self._peek = verifier.peek
        self._digest = parser.digest

    def peek(self, authorization: bytes, peer: str | None) -> Principal | None:
        """Fast path: return the cached principal of a common request, or None.

        None is not a denial; call :meth:`identify` then. ``authorization`` is the only
        ``Authorization`` line of the request, ``peer`` the other end of its connection. Never
        waits.
        """
        if (
            self._reads_more
            or not authorization.startswith(b"Bearer ")
            or len(authorization) > self._max_length
        ):
            return None
        # Only a whole credential has a known digest, so the line need not be parsed.
        return self._peek(sha256(authorization[7:]).digest(), peer_address(peer))

    def identify(self, values: RequestValues, *, wait: bool = True) -> tuple[Principal, bool]:
        """Return the principal of a request, and whether its credential stood elsewhere.

        Elsewhere is any place but the header ``Authorization``. With ``wait=False``, as an event
        loop needs it, WouldWait is raised where the answer takes longer than a look-up. Raises
        Denied, which is logged when :meth:`answer` words it.
        """
        address = self.proxies.client(values.peer, values.forwarded)
        try:
            credential, elsewhere = self.resolver.resolve(values)
            digest = self._digest(credential)
            principal = self._peek(digest, address)
            if principal is None:
                principal = self._verifier.verify(credential, digest, address, wait=wait)
        except Denied as denied:
            denied.address = address
            raise
        return principal, elsewhere

    def with_owner_rights(self, principal: Principal) -> Principal:
        """Return the principal of a session with its owner's present rights.

        For the management API. Raises Denied ``deactivated`` if the owner is gone, StoreUnavailable
        if the application's ``owner_rights`` fails.
        """
        return self._transactions.with_owner_rights(principal)

    def client_address(self, values: RequestValues) -> str | None:
        """Return the client's address; None where it is unknown."""
        return self.proxies.client(values.peer, values.forwarded)

    def answer(self, denied: Denied, *, route: str) -> Answer:
        """Return the HTTP answer to a denial on ``route``, and log it."""
        return answer_denial(denied, realm=self._realm, route=route)

    def response_headers(
        self, principal: Principal, *, elsewhere: bool, status: int, present: Iterable[str]
    ) -> tuple[tuple[str, str], ...]:
        """Return the headers to add to the answer of an admitted request.

        They say when the credential expires, so that a client renews it in time. A credential that
        was not in ``Authorization`` makes an answer ``private`` (RFC 6750 section 2.3), unless the
        view has set a ``Cache-Control``. ``present`` are the names of the headers that the answer
        has.
        """
        names = {name.lower() for name in present}
        expiry: tuple[tuple[str, str], ...] = ()
        if _EXPIRES not in names:
            expiry = _expiry_headers(principal.compiled.expires_at)

        if elsewhere and 200 <= status < 300 and "cache-control" not in names:
            return ("Cache-Control", "private"), *expiry
        return expiry


@lru_cache(maxsize=1024)
def _expiry_headers(instant: float) -> tuple[tuple[str, str], ...]:
    """Return the headers that tell when a credential expires; none if it never does."""
    expires = as_datetime(instant)
    if expires is None:
        return ()
    text = f"{expires:%Y-%m-%dT%H:%M:%SZ}"
    return (EXPIRES, text), ("Access-Control-Expose-Headers", EXPIRES)


def apply_requires(guard: Guard, needs: tuple[Any, ...], on: object) -> Any:
    """Return the guarded endpoint of a bare ``@requires``, else the decorator of ``@requires(…)``.

    ``guard`` guards an endpoint in the adapter's way. ``needs`` and ``on`` are the arguments of
    ``requires`` as they were given. Raises InvalidInput for a value that is not a need.
    """
    is_bare = len(needs) == 1 and callable(needs[0]) and on is None
    if is_bare:
        return guard(needs[0], (), None)

    checked = check_needs(needs)
    if on is not None and not checked:
        raise InvalidInput("requires: on= needs at least one need beside it")

    def decorate(endpoint: Any) -> Any:
        return guard(endpoint, checked, on)

    return decorate
