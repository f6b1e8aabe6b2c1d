"""From rows to compiled credentials: the one mapping for hot queries and management calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faregate.decision.compiled import (
    CompiledCredential,
    compile_access,
    compile_share,
    compile_token,
)
from faregate.fields.stored_values import stored_networks, stored_scopes, stored_texts
from faregate.fields.token_fields import REFRESH
from faregate.model import Org, Owner

if TYPE_CHECKING:
    from faregate.fields.field import Row

# Many records have neither owner nor organization, and share these.
_NOBODY = Owner()
_NO_ORG = Org()


def compile_token_row(
    row: Row, digest: bytes = b"", superseded_at: float | None = None, *, unseen: bool = False
) -> CompiledCredential:
    """Compile the row of a token, for its credential of ``digest`` if that is named.

    ``superseded_at`` is the end of the credential's grace; ``unseen`` says that it was never
    presented.
    """
    kind = "token"
    expires_at = row["expires_at"]
    if row["type"] == REFRESH:
        kind = "refresh"
        # A refresh token always expires. One without an expiry was broken by hand.
        expires_at = expires_at or 0.0

    record_id = row["id"]
    return compile_token(
        kind=kind,
        record_id=record_id,
        owner=_owner_of(row),
        org=_org_of(row),
        granted=stored_scopes(row["allowed_scopes"], record_id).granted,
        networks=stored_networks(row["allowed_cidr_blocks"], row["networks"], record_id),
        not_before=row["not_before"],
        expires_at=expires_at,
        deactivated=bool(row["deactivated"]),
        revoked=row["revoked_at"] is not None,
        superseded_at=superseded_at,
        unseen=unseen,
        digest=digest,
    )


def compile_access_row(family: Row, access: Row, digest: bytes) -> CompiledCredential:
    """Compile the row of an access credential with that of its refresh token: both must open."""
    record_id = family["id"]
    networks = stored_networks(access["allowed_cidr_blocks"], access["networks"], record_id)
    return compile_access(
        compile_token_row(family),
        granted=stored_scopes(access["allowed_scopes"], record_id).granted,
        networks=networks,
        expires_at=access["expires_at"],
        digest=digest,
    )


def compile_share_row(row: Row, digest: bytes = b"", *, secret: bool = False) -> CompiledCredential:
    """Compile the row of a share; for its ``secret``, which may be for redemption only."""
    record_id = row["id"]
    return compile_share(
        record_id=record_id,
        shared_by=_owner_of(row),
        org=_org_of(row),
        scopes=stored_texts(row["scopes"]),
        object_ids=stored_texts(row["object_ids"]),
        networks=stored_networks(row["allowed_cidr_blocks"], row["networks"], record_id),
        not_before=row["not_before"],
        expires_at=row["expires_at"] or 0.0,
        revoked=row["revoked_at"] is not None,
        redeem_only=secret and row["max_redemptions"] is not None,
        digest=digest,
    )


def _owner_of(row: Row) -> Owner:
    owner_id = row["owner_id"]
    name = row["owner_name"]
    acct = row["owner_acct"]
    domain = row["owner_domain"]
    idp_id = row["owner_idp_id"]
    if owner_id is name is acct is domain is idp_id is None:
        return _NOBODY
    return Owner(owner_id, name, acct, domain, idp_id)


def _org_of(row: Row) -> Org:
    org_id = row["org_id"]
    name = row["org_name"]
    if org_id is name is None:
        return _NO_ORG
    return Org(org_id, name)
