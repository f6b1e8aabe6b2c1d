"""Explains the decision about a request to the people who look after the gate.

An explanation has the seven steps of a verification, by the rules of a request:

1. presented: the request has a credential.
2. well-formed: the text has the form of a credential.
3. known: the credential has a record, or a trusted issuer.
4. alive: it is not deactivated or revoked, and its owner is not gone.
5. in time: it has begun and has not expired.
6. from an allowed network: the client's address is in its networks.
7. enough: its grants, and its owner's rights, meet the needs.

The first step that fails decides. Later steps are still reported where possible, so that one run
shows every problem. No use of the credential is recorded.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from faregate.credentials.parsing import ACCESS, JWT, REDEEMED, REFRESH, SHARE, TOKEN
from faregate.decision.compiled import (
    ALIVE,
    ENOUGH,
    IN_TIME,
    KNOWN,
    NETWORK,
    PRESENTED,
    WELL_FORMED,
)
from faregate.decision.principal import Principal, resource_text
from faregate.errors import REASONS, Denied, InvalidInput, Reason, StoreUnavailable
from faregate.lifecycles.find_credential import FoundCredential, find_credential
from faregate.model import Explanation, Step
from faregate.values.grants import AnyResource, granting
from faregate.values.instants import as_datetime
from faregate.values.names import abbreviated
from faregate.values.needs import check_needs, describe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from faregate.credentials.parsing import CredentialParser, ParsedCredential
    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import Rights
    from faregate.jwts.claims import Claims
    from faregate.lifecycles.transactions import Transactions
    from faregate.values.client_address import Hop, TrustedProxies
    from faregate.values.needs import Need

STEP_NAMES = {
    PRESENTED: "presented",
    WELL_FORMED: "well-formed",
    KNOWN: "known",
    ALIVE: "alive",
    IN_TIME: "in time",
    NETWORK: "from an allowed network",
    ENOUGH: "enough",
}

_KIND_WORDS = {
    TOKEN: "a token's secret",
    REFRESH: "a refresh token's secret",
    ACCESS: "an access credential of a refresh token",
    SHARE: "a share's secret",
    REDEEMED: "a JWT that was redeemed from a share",
    JWT: "a JWT of a trusted issuer",
}


class Explainer:
    """Explains the decision about a request with a credential, in seven steps."""

    def __init__(
        self, transactions: Transactions, parser: CredentialParser, proxies: TrustedProxies
    ) -> None:
        self._transactions = transactions
        self._parser = parser
        self._proxies = proxies

    def explain(
        self,
        credential: str | None,
        address: str | None,
        peer: str | None,
        forwarded: Sequence[str],
        needs: tuple[Need, ...],
        on: object,
    ) -> Explanation:
        """Return the seven steps of a verification.

        The arguments are those of :meth:`faregate.Gate.explain`.

        Raises InvalidInput for an address beside a peer, and StoreUnavailable.
        """
        if not isinstance(credential, str | None) or not isinstance(address, str | None):
            raise InvalidInput("credential, address: expected texts")
        if address is not None and (peer is not None or forwarded):
            raise InvalidInput("address: give either the address, or peer and forwarded")

        resource = resource_text(on)
        client = self._client(address, peer, forwarded)
        checked = self._check(credential, client, check_needs(needs), resource)

        by_number = {step.number: step for step in checked}
        steps = [by_number.get(number) or _step(number, "not checked") for number in STEP_NAMES]

        reasons: list[Reason] = [step.reason for step in steps if step.reason is not None]
        reason = reasons[0] if reasons else None
        if reason is None:
            return Explanation(allowed=True, reason=None, status=None, steps=tuple(steps))

        status = REASONS[reason].status
        return Explanation(allowed=False, reason=reason, status=status, steps=tuple(steps))

    def _client(self, address: str | None, peer: str | None, forwarded: Sequence[str]) -> _Client:
        """Return the client of the request: the given address, or the last hop from the peer."""
        if peer is None and not forwarded:
            return _Client(address, [])

        hops = self._proxies.trace(peer, forwarded)
        return _Client(hops[-1].address, hops)

    def _check(
        self, credential: str | None, client: _Client, needs: tuple[Need, ...], on: str | None
    ) -> list[Step]:
        """Return the steps that can be checked, in their order."""
        presented = _presented(credential)
        if credential is None:
            return [presented]

        try:
            parsed = self._parser.read(credential)
        except StoreUnavailable:
            raise
        except Denied as denied:
            return [presented, *_unparsed(credential, denied)]

        well_formed = _well_formed(credential, parsed)
        if parsed.kind == REFRESH:
            return [presented, well_formed]

        now = self._transactions.now()
        try:
            with self._transactions.reading(None, now) as (reading, _):
                target = find_credential(reading, parsed, now)
        except StoreUnavailable:
            raise
        except Denied as denied:
            unknown = _step(KNOWN, "there is no record of it", reason=denied.reason)
            return [presented, well_formed, unknown]

        # The application is asked after the transaction has ended.
        rights = self._transactions.rights_of(target.compiled.effective_owner)
        return [presented, well_formed, *_judge(target, rights, now, client, needs, on)]


class _Client:
    """The client of a request: its address, and the hops by which the address was found."""

    def __init__(self, address: str | None, hops: Sequence[Hop]) -> None:
        self.address = address
        self.hops = hops

    @property
    def words(self) -> str:
        """The address and the hop that named it, or the cause why it is unknown."""
        if self.address is None:
            return f"the client's address is unknown{self._cause()}"
        if not self.hops:
            return self.address
        if len(self.hops) == 1:
            return f"{self.address}, the peer"
        return f"{self.address}, named by {self.hops[-1].source} behind {self._proxies()}"

    def _cause(self) -> str:
        if not self.hops:
            return ""

        client = self.hops[-1]
        if len(self.hops) == 1:
            return f": the peer, {client.text!r}, has no address and is not a trusted proxy"
        if not client.text:
            return f": no client is named in {client.source} behind {self._proxies()}"
        return (
            f": {client.source} names {client.text!r}, which is not an address,"
            f" behind {self._proxies()}"
        )

    def _proxies(self) -> str:
        return abbreviated([hop.text for hop in self.hops[:-1]])


# Step 1: presented.


def _presented(credential: str | None) -> Step:
    if credential is None:
        return _step(PRESENTED, "no credential", reason="missing_credential")
    return _step(PRESENTED, "one credential", {"credentials": 1})


# Step 2: well-formed.


def _well_formed(credential: str, parsed: ParsedCredential) -> Step:
    kind = _KIND_WORDS[parsed.kind]
    if parsed.kind == REFRESH:
        words = f"{kind}, which opens no route: exchange it first"
        return _step(WELL_FORMED, words, reason="unknown_credential")
    return _step(WELL_FORMED, kind, {"characters": len(credential), "kind": parsed.kind})


def _unparsed(credential: str, denied: Denied) -> list[Step]:
    """Return the steps of a text that names no credential.

    The reader of JWTs says in ``denied.why`` which check failed.
    """
    facts = {"characters": len(credential)}
    words = f"{len(credential)} characters"
    if denied.reason == "malformed_credential":
        return [_step(WELL_FORMED, denied.detail, facts, reason=denied.reason)]
    if denied.why is None:
        return [_step(WELL_FORMED, words, facts, reason=denied.reason)]
    return [
        _step(WELL_FORMED, f"{words} in the form of a JWT", facts),
        _step(KNOWN, denied.why, reason=denied.reason),
    ]


# Steps 3 to 7: the judgement of a known credential.


def _judge(
    target: FoundCredential,
    rights: Rights,
    now: float,
    client: _Client,
    needs: tuple[Need, ...],
    on: str | None,
) -> list[Step]:
    """Return the steps of a credential that has a record or a trusted issuer."""
    compiled = target.compiled
    if rights.gone:
        compiled = compiled.closed()

    # The first fault of a step gives its reason, as in a request.
    reasons: dict[int, Reason] = {}
    for fault in compiled.faults(now, client.address):
        reasons.setdefault(fault.step, fault.reason)

    principal = Principal(compiled, client.address, rights.grants)
    return [
        _known(target, reasons.get(KNOWN)),
        _alive(target, rights, reasons.get(ALIVE)),
        _in_time(compiled, now, reasons.get(IN_TIME)),
        _from_network(compiled, client, reasons.get(NETWORK)),
        _enough(principal, needs, on),
    ]


# Step 3: known.


def _known(target: FoundCredential, reason: Reason | None) -> Step:
    compiled = target.compiled
    superseded_at = _instant(compiled.superseded_at)
    facts: dict[str, Any] = {
        "kind": compiled.kind,
        "id": compiled.id,
        "name": target.row.get("name"),
        "supersededAt": superseded_at,
    }

    trusted = target.parsed.trusted
    if trusted is not None:
        words = _jwt_words(compiled, trusted.claims)
        if trusted.claims.absent:
            facts["absent"] = list(trusted.claims.absent)
    elif "name" in target.row:
        words = f"{compiled.kind} {compiled.id} ({target.row['name']})"
    else:
        words = f"{compiled.kind} {compiled.id}"

    if compiled.superseded_at != inf:
        words += f"; its secret was rotated and lives until {superseded_at}"
    return _step(KNOWN, words, facts, reason=reason)


def _jwt_words(compiled: CompiledCredential, claims: Claims) -> str:
    words = f"of {compiled.owner.id!r}, by {compiled.owner.idp_id}"
    if claims.absent:
        return f"{words}; it has no {' and no '.join(claims.absent)}, where its scopes would be"
    if not claims.scopes:
        return f"{words}; none of its scopes counts here"
    return words


# Step 4: alive.


def _alive(target: FoundCredential, rights: Rights, reason: Reason | None) -> Step:
    words, facts = _state(target, rights)
    return _step(ALIVE, words, facts, reason=reason)


def _state(target: FoundCredential, rights: Rights) -> tuple[str, dict[str, Any]]:
    """Return the state of a credential, in words and as data."""
    compiled = target.compiled
    if rights.gone:
        return f"its owner {compiled.effective_owner.id!r} is gone", {"owner": "gone"}
    if target.parsed.kind == JWT:
        words = "revoked" if compiled.revoked else "not revoked"
        return words, {"revoked": compiled.revoked}
    if compiled.kind == "share":
        return _share_state(target.row)
    return _token_state(target.row)


def _share_state(row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    revoked_at = _instant(row["revoked_at"])
    words = "not revoked" if revoked_at is None else f"revoked at {revoked_at}"
    return words, {"revokedAt": revoked_at}


def _token_state(row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if row["deactivated"]:
        actor = row["deactivated_updated_by"]
        instant = _instant(row["deactivated_updated_on"])
        reason = row["deactivated_reason"]
        words = f"deactivated by {actor} at {instant}"
        if reason:
            words += f": {reason}"
        return words, {"deactivated": True, "by": actor, "on": instant, "reason": reason}

    revoked_at = _instant(row["revoked_at"])
    if revoked_at is None:
        return "not deactivated", {"deactivated": False}

    words = f"its refresh token was revoked at {revoked_at}"
    return words, {"deactivated": False, "revokedAt": revoked_at}


# Step 5: in time.


def _in_time(compiled: CompiledCredential, now: float, reason: Reason | None) -> Step:
    not_before = _instant(compiled.not_before)
    expires_at = _instant(compiled.expires_at)
    facts: dict[str, Any] = {
        "now": _instant(now),
        "notBefore": not_before,
        "expiresAt": expires_at,
    }

    words = f"it is {facts['now']}; "
    if not_before is not None:
        words += f"begins {not_before}, "
    words += "never ends" if expires_at is None else f"ends {expires_at}"
    if compiled.leeway:
        words += f", give or take {compiled.leeway:g} s"
        facts["leeway"] = compiled.leeway
    if reason == "redemption_required":
        words += "; a share with maxRedemptions has to be redeemed"
    return _step(IN_TIME, words, facts, reason=reason)


# Step 6: from an allowed network.


def _from_network(compiled: CompiledCredential, client: _Client, reason: Reason | None) -> Step:
    blocks: list[str] = []
    matched = None
    if compiled.networks is not None:
        blocks = list(compiled.networks.blocks)
        if client.address:
            matched = compiled.networks.block_of(client.address)

    facts = {
        "address": client.address,
        "hops": [hop._asdict() for hop in client.hops],
        "allowedCidrBlocks": blocks,
        "matched": matched,
    }
    words = f"{client.words}; {_networks_words(compiled, blocks, matched)}"
    return _step(NETWORK, words, facts, reason=reason)


def _networks_words(compiled: CompiledCredential, blocks: list[str], matched: str | None) -> str:
    if compiled.networks is None:
        return "every address is allowed"
    if matched:
        return f"allowed by {matched}"
    if blocks:
        return f"allowed: {abbreviated(blocks)}"
    return "no address is allowed"


# Step 7: enough.


def _enough(principal: Principal, needs: tuple[Need, ...], on: str | None) -> Step:
    if not needs:
        return _step(ENOUGH, "any valid credential is enough", {"needs": [], "on": on})

    reason: Reason | None = None
    try:
        principal.require(*needs, on=on)
    except Denied as denied:
        reason = denied.reason

    judged = [_judged_need(principal, need, on) for need in needs]
    words = "; ".join(f"{facts['need']}: {_need_words(facts)}" for facts in judged)
    if on is not None:
        words += f" (on {on!r})"
    return _step(ENOUGH, words, {"needs": judged, "on": on}, reason=reason)


def _judged_need(principal: Principal, need: Need, on: str | None) -> dict[str, Any]:
    """Return whether a need is met, by which grant, and by which right if the owner is limited."""
    compiled = principal.compiled
    grant: str | None = "root"
    if not compiled.root:
        grant = granting(compiled.grants, need, on)

    objects = principal.allowed_objects(need)
    facts = {
        "need": describe(need),
        "met": principal.allows(need, on=on),
        "grant": grant,
        "objects": None if isinstance(objects, AnyResource) else sorted(objects),
    }
    if principal.rights is not None:
        facts["ownersRight"] = granting(principal.rights, need, on)
    return facts


def _need_words(facts: dict[str, Any]) -> str:
    if facts["met"]:
        return f"granted by {facts['grant']}"
    if facts["grant"] and not facts.get("ownersRight", True):
        return f"granted by {facts['grant']}, but the owner has no right to it now"
    if facts["objects"]:
        return f"missing; granted only on {abbreviated(facts['objects'])}"
    return "missing"


# Steps and instants.


def _step(
    number: int, words: str, facts: dict[str, Any] | None = None, *, reason: Reason | None = None
) -> Step:
    """Return a step. It was not checked if it has neither facts nor a reason."""
    passed = reason is None
    if passed and facts is None:
        return Step(number, STEP_NAMES[number], None, None, words, {})
    return Step(number, STEP_NAMES[number], passed, reason, words, facts or {})


def _instant(seconds: float | None) -> str | None:
    """Return epoch seconds in the form of RFC 3339; None for no or an infinite instant."""
    if seconds in (None, inf, -inf):
        return None
    instant = as_datetime(seconds)
    if instant is None:
        return None
    return instant.isoformat().replace("+00:00", "Z")
