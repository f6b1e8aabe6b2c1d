"""The tables, for any database that SQLAlchemy speaks.

``metadata`` is public: an application may create these tables together with its own. All names
start with ``faregate_``. Instants are UTC epoch seconds, exact to the microsecond.

A change of a table needs a new version here, and a migration to it.
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

# The newest migration, and the version of the tables that this faregate needs.
VERSION = "0008"

metadata = MetaData()

# In SQLite only an INTEGER key is the rowid of its table.
_COUNT = BigInteger().with_variant(Integer, "sqlite")

_TYPES = {
    "text": Text,
    "instant": Double,
    "bytes": LargeBinary,
    "boolean": Boolean,
    "integer": Integer,
}


def _columns_of(fields: Iterable[Field]) -> list[Column[Any]]:
    """Return the columns of the declared fields of a record."""
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

# A token has one current secret and, in the grace of a rotation, the secret before it.
secrets = Table(
    "faregate_secrets",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("token_id", String(36), ForeignKey(tokens.c.id), nullable=False, index=True),
    Column("superseded_at", Double),
    sqlite_with_rowid=False,
)

# The new secrets of rotations with a grace, until their first presentation.
unseen = Table(
    "faregate_unseen",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    sqlite_with_rowid=False,
)

# The origins of tokens beside their makers. The origins of a token are the tokens that minted a
# secret of it by rotation and, once it is deleted, its maker. So the lineage of a leaked token
# stays complete, whatever was rotated or deleted.
descent = Table(
    "faregate_descent",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("origin", Text, primary_key=True),
    sqlite_with_rowid=False,
)
Index("faregate_descent_origin", descent.c.origin)

# The record of a refresh token stands for a family of credentials, which share the part with this
# digest. The current credential is in the table of secrets. Any other credential of the family
# was current once, and is retired.
families = Table(
    "faregate_families",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("token_id", String(36), ForeignKey(tokens.c.id), nullable=False, unique=True),
    sqlite_with_rowid=False,
)

# The last exchange of a family, while it may be repeated: the digest of the presented credential,
# and the own part of its successor, masked by the text of the presented credential.
exchanges = Table(
    "faregate_exchanges",
    metadata,
    Column("token_id", String(36), ForeignKey(tokens.c.id), primary_key=True),
    Column("presented", LargeBinary(32), nullable=False),
    Column("successor", LargeBinary(16), nullable=False),
    Column("until", Double, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# Access credentials, with their own restrictions. Those of the family's record count, too, as
# they are at the time of a request.
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

# The secret of a share never changes, so its digest is in the row. ``object_ids`` keeps the order
# in which the objects are shown.
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

# The objects once more, to find the shares of an object.
share_objects = Table(
    "faregate_share_objects",
    metadata,
    Column("object_id", Text, primary_key=True),
    Column("share_id", String(36), ForeignKey(shares.c.id), primary_key=True),
    sqlite_with_rowid=False,
)

# Revoked JWTs, by the digest of issuer and "jti", or of issuer and "sub". The latter covers the
# JWTs that were issued until ``issued_until``.
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

# For the entries of an organization, and of a record, in the order of their sequence.
Index("faregate_feed_org", feed.c.org_id, feed.c.sequence)
Index("faregate_feed_subject", feed.c.subject, feed.c.sequence)

# Every change updates the only row, so that the order of sequences is the order of commits.
# ``page`` is the identity of the page that readers map: it tells a writer that the page was
# replaced.
sequence = Table(
    "faregate_sequence",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", _COUNT, nullable=False),
    Column("page", Text),
)

# Alembic's own table, under this package's name. Its only row is the version of the tables above.
schema_version = Table(
    "faregate_schema",
    metadata,
    Column("version_num", String(32), primary_key=True),
)


def missing_from(columns: Mapping[str, Collection[str]]) -> list[str]:
    """Return the names of missing tables, and of missing columns of existing tables.

    ``columns`` holds the names of the existing columns, by the name of their table.
    """
    missing: list[str] = []
    for table in metadata.sorted_tables:
        if table.name not in columns:
            missing.append(table.name)
            continue

        existing = columns[table.name]
        missing += [
            f"{table.name}.{column.name}" for column in table.columns if column.name not in existing
        ]
    return missing
