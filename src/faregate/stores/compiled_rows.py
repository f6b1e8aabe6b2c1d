"""From rows to compiled credentials: the one mapping for hot queries and management calls.

A hot query has the values of a row in the order of the columns below, a management call has a
mapping. Both come here.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from faregate.decision.compiled import (
    CompiledCredential,
    compile_access,
    compile_share,
    compile_token,
)
from faregate.fields.stored_values import stored_networks, stored_scopes, stored_texts
from faregate.fields.token_fields import REFRESH
from faregate.model import Kind, Org, Owner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faregate.fields.field import Row

_PARTIES = (
    "owner_id",
    "owner_name",
    "owner_acct",
    "owner_domain",
    "owner_idp_id",
    "org_id",
    "org_name",
)
TOKEN_COLUMNS = (
    "id",
    "type",
    *_PARTIES,
    "allowed_scopes",
    "allowed_cidr_blocks",
    "networks",
    "not_before",
    "expires_at",
    "deactivated",
    "revoked_at",
)
ACCESS_COLUMNS = ("allowed_scopes", "allowed_cidr_blocks", "networks", "expires_at")
SHARE_COLUMNS = (
    "id",
    *_PARTIES,
    "object_ids",
    "scopes",
    "allowed_cidr_blocks",
    "networks",
    "not_before",
    "expires_at",
    "revoked_at",
    "max_redemptions",
)

# The hot queries read texts as bytes.
_REFRESH = (REFRESH, REFRESH.encode())
# Many records have neither owner nor organization, and share these.
_NOBODY = Owner()
_NO_ORG = Org()

_token_values = itemgetter(*TOKEN_COLUMNS)
_access_values = itemgetter(*ACCESS_COLUMNS)
_share_values = itemgetter(*SHARE_COLUMNS)


def compile_token_row(
    row: Row, digest: bytes = b"", superseded_at: float | None = None
) -> CompiledCredential:
    """Compile the row of a token, for its credential of ``digest`` if that is named.

    ``superseded_at`` is the end of the credential's grace.
    """
    return compile_token_values(_token_values(row), digest, superseded_at)


def compile_access_row(family: Row, access: Row, digest: bytes) -> CompiledCredential:
    """Compile the row of an access credential with that of its refresh token: both must open."""
    return compile_access_values(_token_values(family), _access_values(access), digest)


def compile_share_row(row: Row, digest: bytes = b"", *, secret: bool = False) -> CompiledCredential:
    """Compile the row of a share; for its ``secret``, which may be for redemption only."""
    return compile_share_values(_share_values(row), digest, secret=secret)


def compile_token_values(
    values: Sequence[Any],
    digest: bytes = b"",
    superseded_at: float | None = None,
    *,
    unseen: bool = False,
) -> CompiledCredential:
    """Compile the values of :data:`TOKEN_COLUMNS`; ``unseen`` credentials were never presented."""
    (
        record_id,
        token_type,
        *parties,
        scopes,
        blocks,
        packed,
        not_before,
        expires_at,
        deactivated,
        revoked_at,
    ) = values

    kind: Kind = "token"
    if token_type in _REFRESH:
        kind = "refresh"
        # A refresh token always expires. One without an expiry was broken by hand.
        expires_at = expires_at or 0.0

    owner, org = _parties_of(parties)
    return compile_token(
        kind=kind,
        record_id=record_id,
        owner=owner,
        org=org,
        granted=stored_scopes(scopes, record_id).granted,
        networks=stored_networks(blocks, packed, record_id),
        not_before=not_before,
        expires_at=expires_at,
        deactivated=bool(deactivated),
        revoked=revoked_at is not None,
        superseded_at=superseded_at,
        unseen=unseen,
        digest=digest,
    )


def compile_access_values(
    family: Sequence[Any], access: Sequence[Any], digest: bytes
) -> CompiledCredential:
    """Compile the values of :data:`ACCESS_COLUMNS` with those of the refresh token."""
    scopes, blocks, packed, expires_at = access
    record_id = family[0]
    return compile_access(
        compile_token_values(family),
        granted=stored_scopes(scopes, record_id).granted,
        networks=stored_networks(blocks, packed, record_id),
        expires_at=expires_at,
        digest=digest,
    )


def compile_share_values(
    values: Sequence[Any], digest: bytes = b"", *, secret: bool = False
) -> CompiledCredential:
    """Compile the values of :data:`SHARE_COLUMNS`."""
    (
        record_id,
        *parties,
        object_ids,
        scopes,
        blocks,
        packed,
        not_before,
        expires_at,
        revoked_at,
        max_redemptions,
    ) = values
    owner, org = _parties_of(parties)
    return compile_share(
        record_id=record_id,
        shared_by=owner,
        org=org,
        scopes=stored_texts(scopes),
        object_ids=stored_texts(object_ids),
        networks=stored_networks(blocks, packed, record_id),
        not_before=not_before,
        expires_at=expires_at or 0.0,
        revoked=revoked_at is not None,
        redeem_only=secret and max_redemptions is not None,
        digest=digest,
    )


def _parties_of(values: Sequence[str | None]) -> tuple[Owner, Org]:
    """Return the owner and the organization of the values of their columns."""
    if not any(values):
        return _NOBODY, _NO_ORG
    return Owner(*values[:5]), Org(*values[5:])
