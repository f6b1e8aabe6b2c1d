"""Refresh tokens are exchanged for access credentials, and for their own successors.

The record of a refresh token stands for a family: credentials that replace each other. The states
of a credential of a family::

      create, or rotate             exchange of the predecessor
              |                                 |
              +---------------+-----------------+
                              v
                         +---------+
                         | CURRENT |
                         +---------+
                              |  exchange; the successor is CURRENT
                              v
                        +------------+
                        | REPEATABLE |---+  presented: the same successor again,
                        +------------+<--+  and a new access credential
                              |
                              |  the window ends, or the successor is exchanged
                              v
                         +---------+   presented    +---------------------------+
                         | RETIRED | -------------> | family REVOKED, for good  |
                         +---------+                +---------------------------+

The law:

1. One credential of a family is CURRENT. If the token requires no rotation, an exchange leaves it
   CURRENT.
2. The last exchange may be repeated for a while, with the same successor: its answer may have been
   lost. The successor is stored masked, and only the text of its predecessor unmasks it.
3. A RETIRED credential was stolen, or two clients use the family. The family is revoked
   (RFC 9700 section 4.14), even if the application cannot be asked about its owner.
4. A family that is expired, revoked or closed as leaked is refused and stays as it is.
5. A rotation of the record starts a new family: every earlier credential is unknown.

An exchange is one transaction: if the process dies before the commit, the presented credential is
still CURRENT. If it dies after the commit, the credential is REPEATABLE.
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
from faregate.fields.field import Columns, as_list, owner_of
from faregate.model import AllowedScopes, Exchanged
from faregate.stores.compiled_rows import compile_access_row, compile_token_row
from faregate.stores.refresh_rows import Exchange, Family
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
    from faregate.stores.change_feed import Action
    from faregate.stores.store import Change, Reading
    from faregate.values.grants import Grants
    from faregate.verification.usage import Usage

LIFETIME = 90 * 86_400.0  # seconds, of a family that is made without an expiry
ACCESS_LIFETIME = 1800.0  # seconds
_LONGEST_WINDOW = 3600.0  # seconds

_logger = logging.getLogger("faregate")


class RefreshTokens:
    """Exchanges and revokes the refresh credentials of a store.

    ``window`` is the time for which an exchange may be repeated: a timedelta or seconds, at most
    3,600 seconds.
    """

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
        """Exchange a credential; see :meth:`faregate.lifecycles.tokens.Tokens.exchange`."""
        if not isinstance(credential, str) or not isinstance(address, str | None):
            raise InvalidInput("credential, address: expected text")
        wanted = None if scopes is None else _wanted(scopes)
        presented = self._read(credential, address)
        now = self._transactions.now()

        # Judged twice: a refused caller neither waits for the write lock nor holds it.
        with self._transactions.reading(None, now) as (reading, _):
            family = _find(reading, presented, address)
        owner = owner_of(family.row)
        rights: Rights | None = None
        if not _is_reuse(family, presented, now):
            # The application is asked while no transaction is open.
            rights = self._transactions.rights_of(owner)
            _judge(family.row, rights, wanted, now, address)

        exchanged: Exchanged | None = None
        with self._transactions.changing(None, now) as (change, _):
            family = _find(change, presented, address)
            if _is_reuse(family, presented, now):
                self._revoke_reused(change, family.row, now, address)
            elif rights is None:
                # Another caller revoked the family between the two transactions.
                raise compile_token_row(family.row).refusal(now, address)
            else:
                self._transactions.check_owner(owner, owner_of(family.row))
                _judge(family.row, rights, wanted, now, address)
                exchanged = self._exchange(change, family, presented, rights, wanted, now)

        # The revocation is committed before it is logged and raised.
        if exchanged is None:
            _logger.warning(
                "a retired refresh credential of %s was presented; its family is revoked",
                family.row["id"],
            )
            raise compile_token_row(family.row).revoke().refusal(now, address)

        self._usage.note(family.row["id"], now)
        return exchanged

    def revoke(self, credential: str) -> None:
        """Revoke the family of a refresh credential, current or retired (RFC 7009 section 2).

        Nothing happens if there is no family, or if it was revoked or closed as leaked.
        """
        presented = self._read(credential, None)
        now = self._transactions.now()

        # Read first: an unknown credential neither waits for the write lock nor holds it.
        with self._transactions.reading(None, now) as (reading, _):
            if reading.refresh.family(presented.family) is None:
                return

        with self._transactions.changing(None, now) as (change, _):
            family = change.refresh.family(presented.family)
            # After a leak, all credentials of the family are replaced: none of them counts.
            if family is None or family.row["revoked_at"] is not None or family.row["leaked"]:
                return
            holder = self._transactions.actor_of(compile_token_row(family.row))
            _revoke(change, holder, family.row, now, "token.revoke", {})

    def delete_access(self, credential: str) -> None:
        """Delete an access credential (RFC 7009 section 2); nothing happens if there is none."""
        now = self._transactions.now()
        presented = digest(credential)

        # Read first, as in :meth:`revoke`.
        with self._transactions.reading(None, now) as (reading, _):
            if reading.refresh.by_access(presented) is None:
                return

        with self._transactions.changing(None, now) as (change, _):
            stored = change.refresh.by_access(presented)
            if stored is None:
                return
            family_row, access_row = stored
            change.refresh.delete_access(presented)
            holder = self._transactions.actor_of(
                compile_access_row(family_row, access_row, presented)
            )
            change.enter(holder.entry(now, "access.delete", family_row, {}))

    def _read(self, credential: str, address: str | None) -> _Presented:
        """Return a credential with its digests; raise Denied if it is no refresh credential."""
        if len(credential) > MAX_LENGTH or marks_of(credential.encode(errors="replace")) is None:
            raise Denied(
                "malformed_credential",
                "The refresh token is not a token68 text; present it as it was issued.",
                address=address,
            )
        if kind_of(credential, self._brand) != "rft":
            raise Denied("unknown_credential", address=address)
        return _Presented(credential, digest(credential), family_digest(credential))

    def _revoke_reused(self, change: Change, row: Columns, now: float, address: str | None) -> None:
        """Revoke a family whose retired credential was presented."""
        details = {"address": canonical(address) if address else None}
        holder = self._transactions.actor_of(compile_token_row(row))
        # The entry names the credential, not the owner: the caller may be a thief.
        holder = msgspec.structs.replace(holder, name=f"refresh:{row['id']}")
        _revoke(change, holder, row, now, "token.reuse", details)

    def _exchange(
        self,
        change: Change,
        family: Family,
        presented: _Presented,
        rights: Rights,
        wanted: AllowedScopes | None,
        now: float,
    ) -> Exchanged:
        """Exchange a credential that was judged: write the successor and an access credential."""
        row = family.row
        successor = self._successor(change, family, presented, now)

        secret = mint(self._brand, "act")
        values = _access_columns(row, secret, wanted, now)
        change.refresh.add_access(values)

        granted = compile_access_row(row, values, values["digest"]).grants
        held: tuple[Grants, ...] = (granted,)
        if rights.grants is not None:
            held = (granted, rights.grants)
        return Exchanged(
            access_token=secret,
            issued_at=datetime.fromtimestamp(now, UTC),
            expires_at=datetime.fromtimestamp(values["expires_at"], UTC),
            refresh_token=successor,
            scope=common_scopes(held),
        )

    def _successor(
        self, change: Change, family: Family, presented: _Presented, now: float
    ) -> str | None:
        """Return the credential that takes over, or None if the token requires no rotation.

        A repeated exchange has the same successor.
        """
        row = family.row
        if presented.digest != family.current:
            return presented.repeated(family.exchange)
        if row["require_rotation"] is False:
            change.refresh.forget_exchange(row["id"])
            return None

        successor, masked = succeed(presented.text)
        exchange = Exchange(presented.digest, masked, round(now + self._window, 6))
        if not change.refresh.exchange(row["id"], digest(successor), exchange):
            raise StoreUnavailable
        return successor


class _Presented:
    """A refresh credential that was presented, with its digest and its family's."""

    def __init__(self, text: str, digest: bytes, family: bytes) -> None:
        self.text = text
        self.digest = digest
        self.family = family

    def repeated(self, exchange: Exchange | None) -> str | None:
        """Return the successor of this credential if ``exchange`` is its exchange, else None."""
        if exchange is None or exchange.presented != self.digest:
            return None
        return succeeded(self.text, exchange.successor)


def _find(reading: Reading, presented: _Presented, address: str | None) -> Family:
    """Return the family of a credential; raise Denied if there is none."""
    family = reading.refresh.family(presented.family)
    if family is None:
        raise Denied("unknown_credential", address=address)
    return family


def _is_reuse(family: Family, presented: _Presented, now: float) -> bool:
    """Return True if a live family must be revoked, since a retired credential was presented.

    After a leak, a thief of a credential is known already, and all credentials of the family are
    replaced before it opens again. So a client that still uses its old credential revokes nothing.
    """
    if presented.digest == family.current:
        return False
    compiled = compile_token_row(family.row)
    if compiled.revoked or compiled.expires_at <= now or family.row["leaked"]:
        return False

    exchange = family.exchange
    if exchange is None or exchange.until <= now:
        return True
    successor = presented.repeated(exchange)
    return successor is None or digest(successor) != family.current


def _judge(
    row: Columns, rights: Rights, wanted: AllowedScopes | None, now: float, address: str | None
) -> None:
    """Raise Denied unless a token is alive, in time, in its networks and as wide as ``wanted``."""
    compiled = compile_token_row(row)
    if rights.gone:
        compiled = compiled.closed()
    if not compiled.admits(now, address):
        raise compiled.refusal(now, address)
    if wanted is None:
        return

    wanted_grants = compile_grants(wanted)
    held: list[Grants] = [compiled.grants]
    if rights.grants is not None:
        held.append(rights.grants)
    missing = [display(key) for grants in held for key in lacking(grants, wanted_grants)]
    if missing:
        scopes = list(dict.fromkeys(missing))
        raise Denied(
            "insufficient_scope",
            f"The refresh token does not grant {abbreviated(scopes)}.",
            scope=scopes,
            record_id=row["id"],
            address=address,
        )


def _access_columns(row: Columns, secret: str, wanted: AllowedScopes | None, now: float) -> Columns:
    """Return the columns of a new access credential, which never outlives its family."""
    scopes = row["allowed_scopes"]
    if wanted is not None:
        scopes = msgspec.json.encode(wanted).decode()
    return {
        "digest": digest(secret),
        "token_id": row["id"],
        "allowed_scopes": scopes,
        "allowed_cidr_blocks": row["allowed_cidr_blocks"],
        "networks": row["networks"],
        "created_at": now,
        "expires_at": min(round(now + ACCESS_LIFETIME, 6), compile_token_row(row).expires_at),
    }


def _revoke(
    change: Change, actor: Actor, row: Columns, now: float, action: Action, details: Columns
) -> None:
    """Revoke a family for good, and write the entry of ``action``."""
    change.tokens.update({"revoked_at": now, "updated_at": now}, row["id"])
    change.refresh.forget_exchange(row["id"])
    change.enter(actor.entry(now, action, row, details))


def _wanted(scopes: Sequence[str]) -> AllowedScopes:
    """Return the general scopes to which an access credential is narrowed."""
    listed = as_list(scopes, "scopes", MAX_SCOPES)
    checked = [check_scope(scope, f"scopes[{index}]") for index, scope in enumerate(listed)]
    return AllowedScopes(general_scopes=tuple(checked))
