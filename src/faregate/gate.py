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


KEEP = timedelta(days=365)  # for which entries of the audit are kept
WINDOW = 30.0  # seconds in which an exchange may be repeated


class Gate:
    """Decides who gets in, by the records of one store.

    ``store`` is ``sqlite:///<file>``, or ``sqlite://`` for memory. ``brand`` is the first part of every
    credential (``[a-z][a-z0-9]{0,15}``), ``realm`` the one that challenges name, ``clock`` returns UTC epoch
    seconds. ``trusted_proxies`` are the networks whose ``forwarded_header`` (``x-forwarded-for`` or
    ``forwarded``) is believed. ``query``, ``header`` and ``cookie`` switch on places for a credential beside
    ``Authorization``; a cookie counts only where nothing else was presented, and on unsafe methods only with an
    ``Origin`` of ``origins``. ``authorization=False`` leaves ``Authorization`` to a proxy that needs it. A credential
    has ``max_length`` characters at most, 8,192 to 65,536. ``secret`` signs
    the tokens of redeemed shares: a text of 32 bytes or more, or a list, newest first; without it that of
    ``FAREGATE_SECRET``, else one is made beside the database, in ``<database>.key``.

    ``policy`` bounds what is issued. ``owner_rights`` joins what an owner may do at present to whatever is his: a
    function of an Owner that returns AllowedScopes, or None for one who is gone; its answers are kept for
    ``owner_rights_ttl`` seconds (0 asks each time) or until :meth:`owner_changed`. It may take its time, in a worker
    thread on an event loop, and should have a time-out of its own: whatever it raises is StoreUnavailable.
    ``issuers`` are those whose JWTs open the gate, too: a list of :class:`faregate.Issuer`. A secret of HMAC belongs to
    one issuer alone, and is none of the gate's. ``refresh_retry_window`` are the seconds, 0 to 3,600, or the timedelta
    in which an exchange of a refresh token may be repeated, since its answer may have been lost.

    The constructor opens the store, makes or checks its tables, and closes it: a gate may be made before a
    fork. Raises InvalidInput for a setting that cannot be, and for a file that
    is no store, has two names, or is not what it was; StoreUnavailable if the store cannot be opened now. Either says
    which file, what is wrong, and what to do.
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
            raise InvalidInput("store: a database URL such as sqlite:///gate.db")
        if not callable(clock):
            raise InvalidInput(
                "clock: a function that returns UTC epoch seconds, such as time.time"
            )
        if not isinstance(policy, Policy):
            raise InvalidInput("policy: a faregate.Policy")
        check_brand(brand)
        check_length(max_length)
        check_realm(realm)
        resolver = CredentialResolver(
            authorization=authorization, query=query, header=header, cookie=cookie, origins=origins
        )
        proxies = TrustedProxies(trusted_proxies, forwarded_header)

        # Only who makes a gate waits for the libraries behind it.
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
        #: For adapters: see :mod:`faregate.adapters`.
        self.requests = RequestGate(
            resolver,
            proxies,
            parts.parser,
            parts.verifier,
            parts.transactions,
            realm=realm,
            max_length=max_length,
        )
        # On the way of each call a look-up of an attribute is worth sparing.
        self._peek = parts.verifier.peek
        self._digest = parts.parser.digest
        self._max_length = max_length

    def verify(self, credential: str, *, address: str | None = None) -> Principal:
        """Return the principal that a credential stands for, or raise Denied.

        ``address`` is the client's, without a port; None where it is not known, which a token with an
        allow-list does not forgive. What the principal may do is asked with its ``require`` and ``allows``.

        >>> gate.verify(secret).identity
        'ann'
        >>> gate.verify("fg_tok_unknown")
        Traceback (most recent call last):
            ...
        Denied: unknown_credential: ...
        """
        try:
            # What may be a credential needs no closer look before its digest is known.
            plain = len(credential) <= self._max_length and credential.isascii()
            digest = sha256(credential.encode()).digest() if plain else self._digest(credential)
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
        """Return whether a resource server may let a credential in (RFC 7662), and what it is.

        ``needs``, ``on`` and ``address`` are those of the server's request, as :meth:`verify` and the principal's
        ``require`` take them. What is not given counts as not met: without ``address`` a credential that is bound to
        networks is not active, without ``on`` a share is not. A refresh token is active where ``refresh`` says that it
        is one that is asked about. ``scope`` has the scopes that were asked for, else those that it opens on ``on``, or
        on any object. What it is is told of an active one to its organization and to root, of another to who reaches
        its record, with the reason; to anybody else ``active`` is False. No use is noted. ``by`` a Principal needs
        ``gate:tokens:read``.
        """
        needed = check_needs(_listed(needs))
        return self._introspection.introspect(
            credential, needed, on=resource_text(on), address=address, refresh=refresh, by=by
        )

    def revoke(self, credential: str) -> None:
        """Have a token deactivated by its own secret (RFC 7009), from wherever; whatever is not known is no error.

        A refresh credential, also a retired one, revokes its family for good; an access credential is deleted.
        UnsupportedTokenType for shares, which :meth:`faregate.lifecycles.shares.Shares.revoke` closes, and for JWTs.
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
        """Return what a request with this credential would come to, in seven steps, and note no use of it.

        The client's ``address`` is given, or found as a request's is: from the ``peer`` and the ``forwarded`` lines of
        the configured header. ``needs`` and ``on`` are those of a route. For people who look after the gate: the
        answer tells more than a caller may know. StoreUnavailable if the store cannot answer.
        """
        return self._explainer.explain(credential, address, peer, forwarded, _listed(needs), on)

    def audit(
        self,
        since: int | datetime | str | None = None,
        *,
        subject: str | None = None,
        limit: int = 100,
        by: By = None,
    ) -> AuditPage:
        """Return entries of the change feed in the order of their commits: who changed what.

        ``since`` is a sequence, after which they begin, or an instant (an aware datetime or RFC 3339), from which on;
        without it the newest are returned. ``subject`` is a record's id, ``limit`` 1 to 1,000. ``by`` a Principal needs
        ``gate:admin`` and sees the entries of its organization; root sees all. Denials are logged, not kept here.
        """
        return self._audit.list(since, subject, limit, by)

    def purge(self, keep: timedelta | float = KEEP, *, by: ActorName = None) -> Purged:
        """Remove entries of the feed older than ``keep``, and, whatever its age, what can be of no use any more.

        That is secrets past their grace, dead access credentials, traces of what is gone, revocations that are over.
        The newest entry stays. Other processes that have not read what is removed drop their caches. The purge is
        itself an entry, if anything was removed.
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
        """Return the principal of somebody whom the application has logged in itself, for the management API.

        ``scopes``, short for ``allowed_scopes.general_scopes``, or ``allowed_scopes`` is what he may do and hand on,
        as far as ``owner_rights`` agrees, which the management API asks. He reaches what is his, is never root and
        has no ``self``, and no limit of network and time: the policy bounds what he makes. Do not call it for
        somebody who did not log in. InvalidInput for an owner without an id.
        """
        return self._transactions.session(owner, org, scopes, allowed_scopes)

    def owner_changed(self, owner: Owner) -> None:
        """Have every process ask anew what an owner may do: call it when that was changed, for it to count at once.

        InvalidInput for an owner without an id.
        """
        if not isinstance(owner, Owner) or owner.id is None:
            raise InvalidInput("owner: expected Owner(id=…)")
        self._transactions.announce_owner(check_name(owner.id, "owner.id", MAX_ID))

    def flush(self) -> None:
        """Write the times of last use that were noted so far. The gate stays open; a failure is logged.

        For adapters, where a server says that the process is about to end. Takes some seconds at most.
        """
        self._usage.flush()

    def close(self) -> None:
        """Write what is still to be written and close the store. A later use opens it again."""
        self._usage.close()
        if self._issuers is not None:
            self._issuers.close()
        self._records.close()
        self._store.close()


def _listed(needs: Need | Sequence[Need]) -> tuple[Need, ...]:
    return (needs,) if isinstance(needs, str | Permission | Role | AnyOf) else tuple(needs)
