"""The tables, for any database that SQLAlchemy speaks.

``metadata`` is public: an application may create these tables together with its own. All names start with
``faregate_``. Instants are UTC epoch seconds, exact to the microsecond.
"""

from __future__ import annotations

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
)

VERSION = "0001"

metadata = MetaData()

_COUNT = BigInteger().with_variant(Integer, "sqlite")  # there the key of the table itself

tokens = Table(
    "faregate_tokens",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("type", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("allowed_scopes", Text, nullable=False),
    Column("allowed_cidr_blocks", Text, nullable=False),
    Column("networks", LargeBinary),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("rotated_at", Double),
    Column("not_before", Double),
    Column("expires_at", Double),
    Column("last_used_at", Double),
    Column("deactivated", Boolean, nullable=False),
    Column("deactivated_updated_by", Text),
    Column("deactivated_updated_on", Double),
    Column("deactivated_reason", Text),
    Column("deactivated_by_admin", Boolean, nullable=False),
    Column("owner_id", Text),
    Column("owner_name", Text),
    Column("owner_acct", Text),
    Column("owner_domain", Text),
    Column("owner_idp_id", Text),
    Column("org_id", Text),
    Column("org_name", Text),
    Column("made_by", Text),
)
Index("faregate_tokens_owner", tokens.c.org_id, tokens.c.owner_id)

# A token has one current secret and, in the grace of a rotation, the one before it.
secrets = Table(
    "faregate_secrets",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("token_id", String(36), ForeignKey(tokens.c.id), nullable=False, index=True),
    Column("superseded_at", Double),
    sqlite_with_rowid=False,
)

feed = Table(
    "faregate_feed",
    metadata,
    Column("sequence", _COUNT, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("actor", Text),
    Column("action", String(32), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("org_id", Text),
    Column("details", Text, nullable=False),
)

# The one row under which every change is written, so that sequence order is commit order.
sequence = Table(
    "faregate_sequence",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", _COUNT, nullable=False),
)

# Alembic's own table, under this package's name; its one row is the version of the tables above.
schema_version = Table(
    "faregate_schema",
    metadata,
    Column("version_num", String(32), primary_key=True),
)
