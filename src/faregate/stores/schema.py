"""The tables, for any database that SQLAlchemy speaks.

``metadata`` is public: an application may create these tables together with its own. All names start with
``faregate_``. Instants are UTC epoch seconds, exact to the microsecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)

from faregate.fields.share_fields import PARAM_FIELDS, SHARE_FIELDS
from faregate.fields.token_fields import TOKEN_FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from faregate.fields.field import Field

VERSION = "0008"

metadata = MetaData()

_COUNT = BigInteger().with_variant(Integer, "sqlite")  # there the key of the table itself

_TYPES = {
    "text": Text,
    "instant": Double,
    "bytes": LargeBinary,
    "boolean": Boolean,
    "integer": Integer,
}


def _columns_of(fields: Iterable[Field]) -> list[Column[Any]]:
    """Return the columns that keep the fields of a record."""
    return [
        Column(column.name, _TYPES[column.kind], nullable=not column.required)
        for field in fields
        for column in field.columns
    ]


tokens = Table(
    "faregate_tokens",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("type", String(16), nullable=False),
    *_columns_of(TOKEN_FIELDS),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("rotated_at", Double),
    Column("last_used_at", Double),
    Column("deactivated", Boolean, nullable=False),
    Column("deactivated_updated_by", Text),
    Column("deactivated_updated_on", Double),
    Column("deactivated_reason", Text),
    Column("deactivated_by_admin", Boolean, nullable=False),
    Column("made_by", Text),
    Column("revoked_at", Double),
    Column("leaked", Boolean, nullable=False, server_default=false()),
    Column("deactivated_by", Text),
)
Index("faregate_tokens_owner", tokens.c.org_id, tokens.c.owner_id)
Index("faregate_tokens_made_by", tokens.c.made_by)

# A token has one current secret and, in the grace of a rotation, the one before it.
secrets = Table(
    "faregate_secrets",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("token_id", String(36), ForeignKey(tokens.c.id), nullable=False, index=True),
    Column("superseded_at", Double),
    sqlite_with_rowid=False,
)

# The new secrets of rotations with a grace, until they are first presented.
unseen = Table(
    "faregate_unseen",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    sqlite_with_rowid=False,
)

# Where tokens come from beside their maker: the tokens that minted a secret of theirs by rotation, and, of tokens that
# are gone, their maker. So what comes after a leaked token is found whatever happened in between.
descent = Table(
    "faregate_descent",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("origin", Text, primary_key=True),
    sqlite_with_rowid=False,
)
Index("faregate_descent_origin", descent.c.origin)

# The record of a refresh token stands for a family of credentials: the digest of what they have in common. The current
# one of them is in the table of secrets; whatever else of the family is presented was that once, and is retired.
families = Table(
    "faregate_families",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("token_id", String(36), ForeignKey(tokens.c.id), nullable=False, unique=True),
    sqlite_with_rowid=False,
)

# The last exchange of a family, for as long as it may be repeated: the digest of what was presented, and, masked by
# that text, what it was exchanged for.
exchanges = Table(
    "faregate_exchanges",
    metadata,
    Column("token_id", String(36), ForeignKey(tokens.c.id), primary_key=True),
    Column("presented", LargeBinary(32), nullable=False),
    Column("successor", LargeBinary(16), nullable=False),
    Column("until", Double, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# What access credentials open by themselves; beside that counts what their family's record opens at present.
access = Table(
    "faregate_access",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("token_id", String(36), ForeignKey(tokens.c.id), nullable=False, index=True),
    Column("allowed_scopes", Text, nullable=False),
    Column("allowed_cidr_blocks", Text, nullable=False),
    Column("networks", LargeBinary),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# The one secret of a share is in its row: it never changes. What is shown of the objects is in their order.
shares = Table(
    "faregate_shares",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("object_ids", Text, nullable=False),
    *_columns_of((*SHARE_FIELDS, *PARAM_FIELDS)),
    Column("redemptions", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("not_before", Double),
    Column("revoked_at", Double),
    Column("owner_id", Text),
    Column("owner_name", Text),
    Column("owner_acct", Text),
    Column("owner_domain", Text),
    Column("owner_idp_id", Text),
    Column("org_id", Text),
    Column("org_name", Text),
    Column("made_by", Text),
)
Index("faregate_shares_owner", shares.c.org_id, shares.c.owner_id)
Index("faregate_shares_made_by", shares.c.made_by)

# The objects once more, to find the shares of one.
share_objects = Table(
    "faregate_share_objects",
    metadata,
    Column("object_id", Text, primary_key=True),
    Column("share_id", String(36), ForeignKey(shares.c.id), primary_key=True),
    sqlite_with_rowid=False,
)

# JWTs that were revoked, by digests of issuer and "jti", or of issuer and "sub" with what was issued until an instant.
jwt_revocations = Table(
    "faregate_jwt_revocations",
    metadata,
    Column("key", String(36), primary_key=True),
    Column("issued_until", Double),
    Column("kept_until", Double),
    sqlite_with_rowid=False,
)

feed = Table(
    "faregate_feed",
    metadata,
    Column("sequence", _COUNT, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("actor", Text),
    Column("action", String(32), nullable=False),
    Column("subject", String(512), nullable=False),
    Column("org_id", Text),
    Column("details", Text, nullable=False),
    Column("actor_kind", String(16)),
    Column("actor_id", Text),
)

# Of one organization, or about one record, in their order.
Index("faregate_feed_org", feed.c.org_id, feed.c.sequence)
Index("faregate_feed_subject", feed.c.subject, feed.c.sequence)

# The one row under which every change is written, so that sequence order is commit order. ``page`` is the identity of
# the page that readers map, by which a writer knows whether another one was put in its place.
sequence = Table(
    "faregate_sequence",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", _COUNT, nullable=False),
    Column("page", Text),
)

# Alembic's own table, under this package's name; its one row is the version of the tables above.
schema_version = Table(
    "faregate_schema",
    metadata,
    Column("version_num", String(32), primary_key=True),
)


def missing_from(columns: Mapping[str, Collection[str]]) -> list[str]:
    """Return which tables, and which columns of those that are there, a database lacks; ``columns`` are by table."""
    missing: list[str] = []
    for table in metadata.sorted_tables:
        if table.name not in columns:
            missing.append(table.name)
            continue
        there = columns[table.name]
        missing += [
            f"{table.name}.{column.name}" for column in table.columns if column.name not in there
        ]
    return missing
