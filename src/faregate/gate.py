"""The facade that an application configures once."""

from __future__ import annotations

import time
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from faregate.adapters import RequestGate
from faregate.credentials.answers import check_realm, log_denial
from faregate.credentials.opaque import check_brand, check_length
from faregate.credentials.presented import CredentialResolver
from faregate.decision.principal import resource_text
from faregate.errors import Denied, InvalidInput
from faregate.model import Org, Owner
from faregate.policy import Policy
from faregate.values.client_address import TrustedProxies
from faregate.values.names import MAX_ID, check_name
from faregate.values.needs import AnyOf, Permission, Role, check_needs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from faregate.credentials.signing_secret import Secret
    from faregate.decision.owner_rights import Hook
    from faregate.decision.principal import Principal
    from faregate.jwts.issuer import Issuer
    from faregate.lifecycles.authority import ActorName, By
    from faregate.model import AllowedScopes, AuditPage, Explanation, Introspected, Purged
    from faregate.values.needs import Need


KEEP = timedelta(days=365)  # age up to which a purge keeps entries of the audit
WINDOW = 30.0  # seconds in which an exchange may be repeated


class Gate:
    """Decides which requests get in, by the records of one store.

    >>> gate = Gate("sqlite://", policy=Policy(max_lifetime=timedelta(days=90)))
    >>> issued = gate.tokens.create(name="reader", scopes=["docs:read"])
    >>> gate.verify(issued.secret).allows("docs:read")
    True

    The store and the clock:

    - ``store`` is ``sqlite:///<file>``, or ``sqlite://`` for memory.
    - ``clock`` returns UTC epoch seconds.

    Credentials:

    - ``brand`` is the first part of every credential (``[a-z][a-z0-9]{0,15}``), and ``realm`` the
      realm in challenges.
    - ``secret`` signs the tokens of redeemed shares: a text of 32 bytes or more, or a list of
      texts, newest first. The default is ``FAREGATE_SECRET``. Without either, a secret is generated
      in ``<database>.key``.
    - ``max_length`` is the greatest length of a credential in characters, 8,192 to 65,536.
    - ``refresh_retry_window`` is a timedelta or 0 to 3,600 seconds. An exchange of a refresh token
      may be repeated for so long, since its answer may have been lost.

    The request:

    - ``authorization=False`` leaves the header ``Authorization`` to a proxy that needs it.
    - ``query``, ``header`` and ``cookie`` switch on further places for a credential. A cookie
      counts only where nothing else was presented, and on an unsafe method only beside an
      ``Origin`` of ``origins``.
    - ``trusted_proxies`` are the networks whose ``forwarded_header`` is believed:
      ``x-forwarded-for`` or ``forwarded``.

    Rights:

    - ``policy`` bounds every credential that is issued.
    - ``owner_rights`` limits every credential to the present rights of its owner. It is a function
      of an Owner that returns AllowedScopes, or None for an owner who is gone. On an event loop it
      runs in a worker thread. Give it a time-out of its own: any exception becomes
      StoreUnavailable.
    - ``owner_rights_ttl`` are the seconds for which its answers are cached, at most until
      :meth:`owner_changed`; 0 asks each time.
    - ``issuers`` is a list of :class:`faregate.Issuer` whose JWTs open the gate, too. An HMAC
      secret belongs to a single issuer, and may not be a ``secret`` of the gate.

    The constructor opens the store, creates or checks its tables, and closes it. So a gate may be
    made before a fork. An error about the file names the file, the fault and the remedy.

    Raises InvalidInput for an invalid setting, and for a file that is no store, has two names or
    was replaced; StoreUnavailable if the store cannot be opened now.
    """

    def __init__(
        self,
        store: str,
        *,
        brand: str = "fg",
        realm: str = "faregate",
        clock: Callable[[], float] = time.time,
        trusted_proxies: Sequence[str] = (),
        forwarded_header: str = "x-forwarded-for",
        authorization: bool = True,
        query: bool = False,
        header: str | None = None,
        cookie: str | None = None,
        origins: Sequence[str] = (),
        policy: Policy = Policy(),  # noqa: B008  it cannot be changed
        owner_rights: Hook | None = None,
        owner_rights_ttl: float = 5.0,
        secret: Secret | None = None,
        issuers: Sequence[Issuer] = (),
        max_length: int = 8192,
        refresh_retry_window: timedelta | float = WINDOW,
    ) -> None:
        if not isinstance(store, str):
            raise InvalidInput("store: expected a database URL such as sqlite:///gate.db")
        if not callable(clock):
            raise InvalidInput(
                "clock: expected a function that returns UTC epoch seconds, such as time.time"
            )
        if not isinstance(policy, Policy):
            raise InvalidInput("policy: expected a faregate.Policy")

        check_brand(brand)
        check_length(max_length)
        check_realm(realm)

        resolver = CredentialResolver(
            authorization=authorization, query=query, header=header, cookie=cookie, origins=origins
        )
        proxies = TrustedProxies(trusted_proxies, forwarded_header)

        # Loaded here: an import of the package does not wait for the database library.
        from faregate.parts import Parts  # noqa: PLC0415

        parts = Parts(
            store,
            brand=brand,
            clock=clock,
            proxies=proxies,
            policy=policy,
            owner_rights=owner_rights,
            owner_rights_ttl=owner_rights_ttl,
            secret=secret,
            issuers=issuers,
            max_length=max_length,
            refresh_retry_window=refresh_retry_window,
        )

        self._store = parts.store
        self._records = parts.records
        self._usage = parts.usage
        self._issuers = parts.issuers
        self._verifier = parts.verifier
        self._transactions = parts.transactions
        self._introspection = parts.introspection
        self._self_revocation = parts.self_revocation
        self._explainer = parts.explainer
        self._audit = parts.audit
        self._purge = parts.purge

        self.tokens = parts.tokens
        self.shares = parts.shares
        self.jwts = parts.jwts
        #: For adapters: see ``faregate.adapters``.
        self.requests = RequestGate(
            resolver,
            proxies,
            parts.parser,
            parts.verifier,
            parts.transactions,
            realm=realm,
            max_length=max_length,
        )

        # Each call verifies: a look-up of an attribute is worth sparing.
        self._peek = parts.verifier.peek
        self._digest = parts.parser.digest
        self._max_length = max_length

    def verify(self, credential: str, *, address: str | None = None) -> Principal:
        """Return the principal of a credential, or raise Denied.

        ``address`` is the client's, without a port. None means unknown: a credential that is bound
        to networks is then refused. Ask the principal for its scopes with ``require`` and
        ``allows``.

        Raises Denied, whose ``reason`` says why; StoreUnavailable, which is a Denied, if the store
        cannot answer; InvalidInput if an argument is not a text.

        >>> gate.verify(secret).identity
        'ann'
        >>> gate.verify("fg_tok_unknown")
        Traceback (most recent call last):
            ...
        Denied: unknown_credential: ...
        """
        try:
            # A credential of this shape needs no closer look before its digest is known.
            if len(credential) <= self._max_length and credential.isascii():
                digest = sha256(credential.encode()).digest()
            else:
                digest = self._digest(credential)
            return self._peek(digest, address) or self._verifier.verify(credential, digest, address)
        except Denied as denied:
            denied.address = address
            log_denial(denied, "-")
            raise
        except (AttributeError, TypeError):
            if isinstance(credential, str) and isinstance(address, str | None):
                raise
            raise InvalidInput("credential, address: expected texts") from None

    def introspect(
        self,
        credential: str,
        *,
        needs: Need | Sequence[Need] = (),
        on: object = None,
        address: str | None = None,
        refresh: bool = False,
        by: By = None,
    ) -> Introspected:
        """Return whether a credential is active for a resource server, and its details (RFC 7662).

        ``needs``, ``on`` and ``address`` describe the server's request, as the principal's
        ``require`` and :meth:`verify` take them. A missing value counts as not met: without
        ``address`` a credential that is bound to networks is inactive, and without ``on`` a share
        is. A refresh token is active only with ``refresh=True``. The answer's ``scope`` holds the
        scopes in ``needs``; without needs, the scopes that the credential opens on ``on``, or on
        any object.

        Details of an active credential are shown to its organization and to root. Details of an
        inactive credential, with the reason, are shown to callers who reach its record. Everybody
        else gets ``active=False`` alone. No use is recorded. A Principal in ``by`` needs
        ``gate:tokens:read``.

        >>> gate.introspect(secret, needs="docs:read").active
        True
        >>> gate.introspect(secret, needs="docs:write").reason
        'insufficient_scope'

        Raises InvalidInput for an invalid argument, Denied if ``by`` lacks the scope,
        StoreUnavailable if the store cannot answer.
        """
        needed = check_needs(_as_tuple(needs))
        return self._introspection.introspect(
            credential, needed, on=resource_text(on), address=address, refresh=refresh, by=by
        )

    def revoke(self, credential: str) -> None:
        """Deactivate a token by its own credential (RFC 7009).

        Networks are not checked, and an unknown credential is no error. A refresh credential,
        retired ones included, revokes its family for good. An access credential is deleted.

        >>> gate.revoke(secret)
        >>> gate.tokens.get(token.id).deactivated
        True

        Raises UnsupportedTokenType for a JWT and for a share, which ``gate.shares.revoke`` closes;
        StoreUnavailable if the store cannot answer.
        """
        self._self_revocation.revoke(credential)

    def explain(
        self,
        credential: str | None,
        *,
        address: str | None = None,
        peer: str | None = None,
        forwarded: Sequence[str] = (),
        needs: Need | Sequence[Need] = (),
        on: object = None,
    ) -> Explanation:
        """Return the decision on a request with this credential, step by step; record no use.

        Give the client's ``address``, or let it be found as a request's is: from ``peer`` and from
        the ``forwarded`` lines, the values of the configured header. ``needs`` and ``on`` are those
        of a route. For operators of the gate: the answer holds more than its caller may know.

        >>> explanation = gate.explain(secret, needs="docs:write")
        >>> explanation.status, explanation.reason
        (403, 'insufficient_scope')
        >>> [step.number for step in explanation.steps if not step.passed]
        [7]

        Raises InvalidInput for an invalid argument, StoreUnavailable if the store cannot answer.
        """
        return self._explainer.explain(credential, address, peer, forwarded, _as_tuple(needs), on)

    def audit(
        self,
        since: int | datetime | str | None = None,
        *,
        subject: str | None = None,
        limit: int = 100,
        by: By = None,
    ) -> AuditPage:
        """Return entries of the audit: each change with its actor, in the order of their commits.

        ``since`` is a sequence, and entries after it return; or an instant (an aware datetime or
        RFC 3339), and entries from it on return. Without it the newest entries return. ``subject``
        is a record's id, and ``limit`` is 1 to 1,000. A Principal in ``by`` needs ``gate:admin``
        and sees the entries of its organization; root sees all. Denials are in the log, not here.

        >>> [entry.action for entry in gate.audit(subject=token.id).items]
        ['token.create']

        Raises InvalidInput for an invalid argument, Denied if ``by`` lacks the scope,
        StoreUnavailable if the store cannot answer.
        """
        return self._audit.list(since, subject, limit, by)

    def purge(self, keep: timedelta | float = KEEP, *, by: ActorName = None) -> Purged:
        """Remove entries of the audit that are older than ``keep``, and rows without further use.

        ``keep`` is a timedelta or seconds. Rows without further use, of any age, are digests past
        their grace, dead access credentials, tombstones without descendants and revocations of
        expired JWTs. The newest entry stays. Processes that have not read a removed entry drop
        their caches. A purge that removed anything enters itself into the audit. ``by`` is a name
        for that entry.

        >>> gate.purge(timedelta(days=30)).entries
        0

        Raises InvalidInput for an invalid argument, StoreUnavailable if the store cannot answer.
        """
        return self._purge.purge(keep, by)

    def session(
        self,
        owner: Owner,
        *,
        org: Org = Org(),  # noqa: B008  it cannot be changed
        scopes: Sequence[str] | None = None,
        allowed_scopes: AllowedScopes | None = None,
    ) -> Principal:
        """Return the principal of a user whom the application itself has logged in.

        Pass it to management calls as ``by``, or return it from the ``principal`` function of an
        adapter's ``management``. Warning: nothing is verified here. Call this only after a login.

        ``allowed_scopes``, or ``scopes`` for general scopes alone, limits the user's calls and
        their grants to others. The management API intersects it with ``owner_rights``. A session
        reaches the records of its owner, is never root, has no ``self``, and is not bound to
        networks or time. The policy bounds the credentials that it makes.

        >>> session = gate.session(ann, scopes=["docs:read", "gate:tokens:write"])
        >>> issued = gate.tokens.create(name="laptop", scopes=["docs:read"], by=session)
        >>> issued.token.owner.id
        'ann'

        Raises InvalidInput for an owner without an id, and for invalid scopes.
        """
        return self._transactions.session(owner, org, scopes, allowed_scopes)

    def owner_changed(self, owner: Owner) -> None:
        """Drop the cached answer of ``owner_rights`` for an owner, in every process.

        Call it after a change of the owner's rights, so that the change counts at once.

        >>> rights = {"ann": AllowedScopes(general_scopes=("docs:read",))}
        >>> gate = Gate("sqlite://", owner_rights=lambda owner: rights.get(owner.id))
        >>> issued = gate.tokens.create(name="reader", owner=ann, scopes=["docs:read"])
        >>> gate.verify(issued.secret).allows("docs:read")
        True
        >>> del rights["ann"]
        >>> gate.owner_changed(ann)
        >>> gate.verify(issued.secret)
        Traceback (most recent call last):
            ...
        Denied: deactivated: ...

        Raises InvalidInput for an owner without an id, StoreUnavailable if the store cannot be
        written.
        """
        if not isinstance(owner, Owner) or owner.id is None:
            raise InvalidInput("owner: expected Owner(id=…)")
        self._transactions.announce_owner(check_name(owner.id, "owner.id", MAX_ID))

    def flush(self) -> None:
        """Write the times of last use that are still in memory.

        The gate stays open, and a failure is logged. For adapters, when a server announces the end
        of the process. Takes some seconds at most.

        >>> principal = gate.verify(secret)
        >>> gate.flush()
        >>> gate.tokens.get(token.id).last_used_at.isoformat()
        '2026-01-01T00:00:00+00:00'
        """
        self._usage.flush()

    def close(self) -> None:
        """Write the times of last use that are still in memory, and close the store.

        A later use opens it again.

        >>> gate.close()
        >>> gate.verify(secret).id == token.id
        True
        """
        self._usage.close()
        if self._issuers is not None:
            self._issuers.close()
        self._records.close()
        self._store.close()


def _as_tuple(needs: Need | Sequence[Need]) -> tuple[Need, ...]:
    if isinstance(needs, str | Permission | Role | AnyOf):
        return (needs,)
    return tuple(needs)
