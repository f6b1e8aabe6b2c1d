"""Refresh tokens: exchanged for access credentials, and, each time, for the refresh credential that takes over.

The record of a refresh token stands for a family: the credentials that came one after the other. One of them is
current. The exchange that came last may be repeated for a while, with the same outcome, since its answer may have
been lost. Any other credential of the family was stolen, or is used by two: then the family is revoked for good.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from faregate.credentials.opaque import (
    MAX_LENGTH,
    digest,
    family_digest,
    kind_of,
    marks_of,
    mint,
    succeed,
    succeeded,
)
from faregate.errors import Denied, InvalidInput, StoreUnavailable
from faregate.lifecycles.token_fields import Values, access_limits, as_list, limits_of, owner_of
from faregate.model import AllowedScopes, Exchanged
from faregate.stores.family import Exchange, Family
from faregate.values.grants import common_scopes, lacking
from faregate.values.instants import parse_span
from faregate.values.names import abbreviated
from faregate.values.needs import display
from faregate.values.networks import canonical
from faregate.values.scopes import MAX_SCOPES, check_scope, compile_grants

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from faregate.decision.owner_rights import Rights
    from faregate.lifecycles.authority import Actor
    from faregate.lifecycles.transactions import Transactions
    from faregate.stores.store import Change, Reading
    from faregate.verification.usage import Usage

LIFETIME = 90 * 86_400.0  # seconds, of a family that is made without an expiry
ACCESS_LIFETIME = 1800.0
_LONGEST_WINDOW = 3600.0

_logger = logging.getLogger("faregate")


class RefreshTokens:
    """Exchanges and revokes the refresh credentials of one store."""

    def __init__(
        self, transactions: Transactions, usage: Usage, *, brand: str, window: timedelta | float
    ) -> None:
        self._transactions = transactions
        self._usage = usage
        self._brand = brand
        self._window = parse_span(window, "refresh_retry_window")
        if self._window > _LONGEST_WINDOW:
            raise InvalidInput(f"refresh_retry_window: at most {_LONGEST_WINDOW:.0f} seconds")

    def exchange(
        self, credential: str, scopes: Sequence[str] | None, address: str | None
    ) -> Exchanged:
        """Exchange a refresh credential, as :meth:`faregate.lifecycles.tokens.Tokens.exchange` says."""
        if not isinstance(credential, str) or not isinstance(address, str | None):
            raise InvalidInput("credential, address: expected texts")
        wanted = None if scopes is None else _wanted(scopes)
        presented = self._read(credential, address)
        now = self._transactions.now()
        # Judged twice: who is refused never waits for the write lock, nor keeps others from it.
        with self._transactions.reading(None, now) as (reading, _):
            family = _find(reading, presented, address)
        owner, rights = owner_of(family.row), None
        if not _reused(
            family, presented, now
        ):  # which counts whether the application answers or not
            rights = self._transactions.rights_of(owner)  # asked while no transaction is open
            _judge(family.row, rights, wanted, now, address)
        answer = None
        with self._transactions.changing(None, now) as (change, _):
            family = _find(change, presented, address)
            if _reused(family, presented, now):
                details = {"address": canonical(address) if address else None}
                # Whoever this was, it is not told to be the owner.
                holder = self._transactions.actor_of(limits_of(family.row))
                holder = msgspec.structs.replace(holder, name=f"refresh:{family.row['id']}")
                _revoke(change, holder, family.row, now, "token.reuse", details)
            elif rights is None:
                raise limits_of(family.row).refusal(
                    now, address
                )  # somebody else has revoked it this very moment
            else:
                self._transactions.check_owner(owner, owner_of(family.row))
                _judge(family.row, rights, wanted, now, address)
                answer = self._answer(change, family, presented, rights, wanted, now)
        if answer is None:  # said when the revocation is committed
            _logger.warning(
                "a retired refresh credential of %s was presented; its family is revoked",
                family.row["id"],
            )
            raise limits_of(family.row).revoke().refusal(now, address)
        self._usage.note(family.row["id"], now)
        return answer

    def revoke(self, credential: str) -> None:
        """Revoke the family of a refresh credential, current or retired; nothing if there is none."""
        presented, now = self._read(credential, None), self._transactions.now()
        # Looked at twice: what is not there never waits for the write lock, nor keeps others from it.
        with self._transactions.reading(None, now) as (reading, _):
            if reading.refresh.family(presented.family) is None:
                return
        with self._transactions.changing(None, now) as (change, _):
            family = change.refresh.family(presented.family)
            # Of a family that leaked no credential has a word to say any more: all of them are replaced.
            if family is not None and family.row["revoked_at"] is None and not family.row["leaked"]:
                holder = self._transactions.actor_of(limits_of(family.row))
                _revoke(change, holder, family.row, now, "token.revoke", {})

    def delete_access(self, credential: str) -> None:
        """Delete an access credential; nothing if there is none."""
        now, known = self._transactions.now(), digest(credential)
        with self._transactions.reading(None, now) as (reading, _):
            if reading.refresh.by_access(known) is None:
                return
        with self._transactions.changing(None, now) as (change, _):
            found = change.refresh.by_access(known)
            if found is not None:
                change.refresh.delete_access(known)
                holder = self._transactions.actor_of(access_limits(*found, known))
                change.enter(holder.entry(now, "access.delete", found[0], {}))

    def _read(self, credential: str, address: str | None) -> _Presented:
        if len(credential) > MAX_LENGTH or marks_of(credential.encode(errors="replace")) is None:
            raise Denied(
                "malformed_credential", "The refresh token is one token68 text.", address=address
            )
        if kind_of(credential, self._brand) != "rft":
            raise Denied("unknown_credential", address=address)
        return _Presented(credential, digest(credential), family_digest(credential))

    def _answer(
        self,
        change: Change,
        family: Family,
        presented: _Presented,
        rights: Rights,
        wanted: AllowedScopes | None,
        now: float,
    ) -> Exchanged:
        row, successor = family.row, None
        if presented.digest != family.current:
            successor = presented.repeated(family.exchange)
        elif row["require_rotation"] is False:
            change.refresh.forget_exchange(row["id"])
        else:
            successor, kept = succeed(presented.text)
            done = Exchange(presented.digest, kept, round(now + self._window, 6))
            if not change.refresh.exchange(row["id"], digest(successor), done):
                raise StoreUnavailable
        secret = mint(self._brand, "act")
        scopes = row["allowed_scopes"] if wanted is None else msgspec.json.encode(wanted).decode()
        values: Values = {
            "digest": digest(secret),
            "token_id": row["id"],
            "allowed_scopes": scopes,
            "allowed_cidr_blocks": row["allowed_cidr_blocks"],
            "networks": row["networks"],
            "created_at": now,
            "expires_at": min(round(now + ACCESS_LIFETIME, 6), limits_of(row).expires_at),
        }
        change.refresh.add_access(values)
        record = access_limits(row, values, values["digest"])
        return Exchanged(
            access_token=secret,
            issued_at=datetime.fromtimestamp(now, UTC),
            expires_at=datetime.fromtimestamp(values["expires_at"], UTC),
            refresh_token=successor,
            scope=common_scopes(
                (record.grants,) if rights.grants is None else (record.grants, rights.grants)
            ),
        )


class _Presented:
    """A refresh credential that was presented, with its digest and that of its family."""

    def __init__(self, text: str, digest: bytes, family: bytes) -> None:
        self.text = text
        self.digest = digest
        self.family = family

    def repeated(self, exchange: Exchange | None) -> str | None:
        """Return what this was exchanged for, if that was the exchange."""
        if exchange is None or exchange.presented != self.digest:
            return None
        return succeeded(self.text, exchange.successor)


def _find(reading: Reading, presented: _Presented, address: str | None) -> Family:
    family = reading.refresh.family(presented.family)
    if family is None:
        raise Denied("unknown_credential", address=address)
    return family


def _reused(family: Family, presented: _Presented, now: float) -> bool:
    """Tell whether a living family has to be revoked: its credential is retired, and may not be repeated.

    Of one that was closed as leaked it is known that somebody else had a credential, and all of them are replaced
    before it opens again.
    """
    record = limits_of(family.row)
    if (
        presented.digest == family.current
        or record.revoked
        or record.expires_at <= now
        or family.row["leaked"]
    ):
        return False
    successor = (
        presented.repeated(family.exchange)
        if family.exchange and now < family.exchange.until
        else None
    )
    return successor is None or digest(successor) != family.current


def _judge(
    row: Values, rights: Rights, wanted: AllowedScopes | None, now: float, address: str | None
) -> None:
    """Raise Denied unless a refresh token is alive, in time, in its networks, and wide enough for what is wanted."""
    record = limits_of(row).closed() if rights.gone else limits_of(row)
    if not record.admits(now, address):
        raise record.refusal(now, address)
    if wanted is None:
        return
    asked = compile_grants(wanted)
    held = [record.grants] if rights.grants is None else [record.grants, rights.grants]
    lacked = list(dict.fromkeys(display(key) for grants in held for key in lacking(grants, asked)))
    if lacked:
        words = f"The refresh token does not grant {abbreviated(lacked)}."
        raise Denied(
            "insufficient_scope", words, scope=lacked, record_id=row["id"], address=address
        )


def _revoke(
    change: Change, actor: Actor, row: Values, now: float, action: str, details: Values
) -> None:
    change.tokens.update({"revoked_at": now, "updated_at": now}, row["id"])
    change.refresh.forget_exchange(row["id"])
    change.enter(actor.entry(now, action, row, details))


def _wanted(scopes: Sequence[str]) -> AllowedScopes:
    """Return the scopes to which an access credential is narrowed, and nothing else."""
    listed = as_list(scopes, "scopes", MAX_SCOPES)
    return AllowedScopes(
        general_scopes=tuple(check_scope(one, f"scopes[{n}]") for n, one in enumerate(listed))
    )
