"""Explaining a decision: the seven steps of a verification, each with what it looked at and what came of it.

The rules are those of a request, and the first step that is not passed decides. What comes after it is told all the
same, as far as it can be, so that not each attempt shows one more thing that is wrong.
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
from faregate.errors import REASONS, Denied, InvalidInput, StoreUnavailable
from faregate.lifecycles.find_credential import FoundCredential, find_credential
from faregate.model import Explanation, Step
from faregate.values.grants import AnyResource, granting
from faregate.values.instants import as_datetime
from faregate.values.names import abbreviated
from faregate.values.needs import check_needs, describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from faregate.credentials.parsing import CredentialParser
    from faregate.decision.compiled import CompiledCredential
    from faregate.decision.owner_rights import Rights
    from faregate.lifecycles.transactions import Transactions
    from faregate.values.client_address import Hop, TrustedProxies
    from faregate.values.needs import Need

NAMES = {
    PRESENTED: "presented",
    WELL_FORMED: "well-formed",
    KNOWN: "known",
    ALIVE: "alive",
    IN_TIME: "in time",
    NETWORK: "from an allowed network",
    ENOUGH: "enough",
}


class Explainer:
    """Explains what a request with a credential would come to."""

    def __init__(
        self, transactions: Transactions, references: CredentialParser, proxies: TrustedProxies
    ) -> None:
        self._transactions = transactions
        self._parser = references
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
        """Return the seven steps, as :meth:`faregate.Gate.explain` says."""
        if not isinstance(credential, str | None) or not isinstance(address, str | None):
            raise InvalidInput("credential, address: expected texts")
        if address is not None and (peer is not None or forwarded):
            raise InvalidInput(
                "address: give it, or the peer and what was forwarded, from which it is found"
            )
        wanted = resource_text(on)
        hops = self._proxies.trace(peer, forwarded) if peer is not None or forwarded else []
        way = _Way(hops[-1].address if hops else address, hops)
        looks = {
            step.number: step for step in self._look(credential, way, check_needs(needs), wanted)
        }
        steps = [looks.get(number) or _step(number, "was not looked at") for number in NAMES]
        reason = next((step.reason for step in steps if step.reason is not None), None)
        return Explanation(
            reason is None, reason, None if reason is None else REASONS[reason].status, tuple(steps)
        )

    def _look(
        self, credential: str | None, way: _Way, needs: tuple[Need, ...], on: str | None
    ) -> Iterator[Step]:
        if credential is None:
            yield _step(PRESENTED, "no credential", reason="missing_credential")
            return
        yield _step(PRESENTED, "one credential", {"credentials": 1})
        seen = {"characters": len(credential)}
        try:
            reference = self._parser.read(credential)
        except StoreUnavailable:
            raise
        except Denied as denied:
            words = f"{len(credential)} characters"
            if denied.reason == "malformed_credential":
                yield _step(WELL_FORMED, denied.detail, seen, reason=denied.reason)
            elif denied.why is None:
                yield _step(WELL_FORMED, words, seen, reason=denied.reason)
            else:  # of what has the form of a JWT it can be told what is wrong with it
                yield _step(WELL_FORMED, f"{words} in the form of a JWT", seen)
                yield _step(KNOWN, denied.why, reason=denied.reason)
            return
        if reference.kind == REFRESH:
            yield _step(
                WELL_FORMED,
                f"{_WORDS[REFRESH]}, which opens nothing: it is exchanged",
                reason="unknown_credential",
            )
            return
        yield _step(WELL_FORMED, _WORDS[reference.kind], {**seen, "kind": reference.kind})
        now = self._transactions.now()
        try:
            with self._transactions.reading(None, now) as (reading, _):
                found = find_credential(reading, reference, now)
        except StoreUnavailable:
            raise
        except Denied as denied:
            yield _step(KNOWN, "there is no such record", reason=denied.reason)
            return
        yield from _judge(
            found, self._transactions.rights_of(found.compiled.effective_owner), now, way, needs, on
        )


class _Way:
    """Where a request comes from: the client's address, and the hops by which it was found."""

    def __init__(self, address: str | None, hops: Sequence[Hop]) -> None:
        self.address = address
        self.hops = hops

    @property
    def words(self) -> str:
        """The address and which hop it is, or why it is unknown."""
        if self.address is None:
            return f"the client's address is unknown{self._why_unknown()}"
        if len(self.hops) < 2:
            return f"{self.address}, the peer" if self.hops else self.address
        passed = abbreviated([hop.text for hop in self.hops[:-1]])
        return f"{self.address}, named by {self.hops[-1].source} behind {passed}"

    def _why_unknown(self) -> str:
        if not self.hops:
            return ""
        client = self.hops[-1]
        if len(self.hops) < 2:
            return f": the peer, {client.text!r}, has none, and is no trusted proxy"
        passed = abbreviated([hop.text for hop in self.hops[:-1]])
        if not client.text:
            return f": nobody is named in {client.source} behind {passed}"
        return f": {client.source} names {client.text!r} behind {passed}, which is no address"


_WORDS = {
    TOKEN: "a token's secret",
    REFRESH: "a refresh token's secret",
    ACCESS: "an access credential of a refresh token",
    SHARE: "a share's secret",
    REDEEMED: "a JWT that was redeemed from a share",
    JWT: "a JWT of a trusted issuer",
}


def _judge(
    found: FoundCredential,
    rights: Rights,
    now: float,
    way: _Way,
    needs: tuple[Need, ...],
    on: str | None,
) -> Iterator[Step]:
    record = found.compiled.closed() if rights.gone else found.compiled
    reasons: dict[int, str] = {}
    for fault in record.faults(now, way.address):
        reasons.setdefault(fault.step, fault.reason)
    yield _step(KNOWN, *_known(found), reason=reasons.get(KNOWN))
    yield _step(ALIVE, *_alive(found, rights), reason=reasons.get(ALIVE))
    yield _step(IN_TIME, *_in_time(record, now, reasons.get(IN_TIME)), reason=reasons.get(IN_TIME))
    yield _step(NETWORK, *_network(record, way), reason=reasons.get(NETWORK))
    principal = Principal(record, way.address, rights.grants)
    lacking = None
    try:
        if needs:
            principal.require(*needs, on=on)
    except Denied as denied:
        lacking = denied.reason
    yield _step(ENOUGH, *_enough(principal, needs, on), reason=lacking)


def _known(found: FoundCredential) -> tuple[str, dict[str, Any]]:
    record, row = found.compiled, found.row
    told = {
        "kind": record.kind,
        "id": record.id,
        "name": row.get("name"),
        "supersededAt": _instant(record.superseded_at),
    }
    words = f"{record.kind} {record.id}" + (f" ({row['name']})" if "name" in row else "")
    if found.reference.kind == JWT:
        words = f"of {record.owner.id!r}, by {record.owner.idp_id}"
        trusted = found.reference.trusted
        absent = trusted.claims.absent if trusted is not None else ()
        if trusted is not None and not trusted.claims.scopes and not absent:
            words += "; none of its scopes counts here"
        if absent:
            words += f"; it has no {' and no '.join(absent)}, where its scopes would be"
            told["absent"] = list(absent)
    if record.superseded_at != inf:
        words += f", a secret that was rotated and lives until {told['supersededAt']}"
    return words, told


def _alive(found: FoundCredential, rights: Rights) -> tuple[str, dict[str, Any]]:
    row = found.row
    if rights.gone:
        return f"its owner {found.compiled.effective_owner.id!r} is gone", {"owner": "gone"}
    if found.reference.kind == JWT:
        return "revoked" if found.compiled.revoked else "not revoked", {
            "revoked": found.compiled.revoked
        }
    if found.compiled.kind == "share":
        revoked = _instant(row["revoked_at"])
        return "not revoked" if revoked is None else f"revoked at {revoked}", {"revokedAt": revoked}
    if not row["deactivated"]:
        revoked = _instant(row["revoked_at"])
        if revoked is not None:
            return f"its refresh token was revoked at {revoked}", {
                "deactivated": False,
                "revokedAt": revoked,
            }
        return "not deactivated", {"deactivated": False}
    by, at, why = (
        row["deactivated_updated_by"],
        _instant(row["deactivated_updated_on"]),
        row["deactivated_reason"],
    )
    words = f"deactivated by {by} at {at}" + (f": {why}" if why else "")
    return words, {"deactivated": True, "by": by, "on": at, "reason": why}


def _in_time(
    record: CompiledCredential, now: float, reason: str | None
) -> tuple[str, dict[str, Any]]:
    told: dict[str, Any] = {"now": _instant(now), "notBefore": _instant(record.not_before)}
    told["expiresAt"] = _instant(record.expires_at)
    starts = f"begins {told['notBefore']}, " if told["notBefore"] else ""
    words = f"it is {told['now']}; {starts}" + (
        f"ends {told['expiresAt']}" if told["expiresAt"] else "never ends"
    )
    if record.leeway:
        words += f", give or take {record.leeway:g} s"
        told["leeway"] = record.leeway
    if reason == "redemption_required":
        words += "; a share with maxRedemptions has to be redeemed"
    return words, told


def _network(record: CompiledCredential, way: _Way) -> tuple[str, dict[str, Any]]:
    blocks = [] if record.networks is None else list(record.networks.blocks)
    matched = (
        record.networks.block_of(way.address)
        if record.networks is not None and way.address
        else None
    )
    told = {
        "address": way.address,
        "hops": [hop._asdict() for hop in way.hops],
        "allowedCidrBlocks": blocks,
        "matched": matched,
    }
    if record.networks is None:
        return f"{way.words}; every address is allowed", told
    allowed = (
        f"allowed by {matched}"
        if matched
        else f"allowed are {abbreviated(blocks)}"
        if blocks
        else "none is allowed"
    )
    return f"{way.words}; {allowed}", told


def _enough(
    principal: Principal, needs: tuple[Need, ...], on: str | None
) -> tuple[str, dict[str, Any]]:
    if not needs:
        return "any valid credential will do", {"needs": [], "on": on}
    told = [_need(principal, need, on) for need in needs]
    words = "; ".join(f"{one['need']}: {_by(one)}" for one in told)
    return words + ("" if on is None else f" (on {on!r})"), {"needs": told, "on": on}


def _need(principal: Principal, need: Need, on: str | None) -> dict[str, Any]:
    """Return whether a need is met, by which grant, and by which right of the owner, where those count."""
    record = principal.compiled
    grant = "root" if record.root else granting(record.grants, need, on)
    objects = principal.allowed_objects(need)
    told = {
        "need": describe(need),
        "met": principal.allows(need, on=on),
        "grant": grant,
        "objects": None if isinstance(objects, AnyResource) else sorted(objects),
    }
    return (
        told
        if principal.rights is None
        else {**told, "ownersRight": granting(principal.rights, need, on)}
    )


def _by(told: dict[str, Any]) -> str:
    if told["met"]:
        return f"granted by {told['grant']}"
    if told["grant"] and not told.get("ownersRight", True):
        return f"granted by {told['grant']}, and the owner may not (now)"
    return (
        f"missing; granted on {abbreviated(told['objects'])} alone"
        if told["objects"]
        else "missing"
    )


def _step(
    number: int, words: str, seen: dict[str, Any] | None = None, *, reason: str | None = None
) -> Step:
    """Return a step; one whose ``seen`` is None and that has no reason was not looked at."""
    passed = None if reason is None and seen is None else reason is None
    return Step(number, NAMES[number], passed, reason, words, seen or {})


def _instant(seconds: float | None) -> str | None:
    instant = None if seconds in (None, inf, -inf) else as_datetime(seconds)
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")
