"""Tokens, their secrets, and the change feed."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables of the first version."""
    count = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "faregate_tokens",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("allowed_scopes", sa.Text, nullable=False),
        sa.Column("allowed_cidr_blocks", sa.Text, nullable=False),
        sa.Column("networks", sa.LargeBinary),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("rotated_at", sa.Double),
        sa.Column("not_before", sa.Double),
        sa.Column("expires_at", sa.Double),
        sa.Column("last_used_at", sa.Double),
        sa.Column("deactivated", sa.Boolean, nullable=False),
        sa.Column("deactivated_updated_by", sa.Text),
        sa.Column("deactivated_updated_on", sa.Double),
        sa.Column("deactivated_reason", sa.Text),
        sa.Column("deactivated_by_admin", sa.Boolean, nullable=False),
        sa.Column("owner_id", sa.Text),
        sa.Column("owner_name", sa.Text),
        sa.Column("owner_acct", sa.Text),
        sa.Column("owner_domain", sa.Text),
        sa.Column("owner_idp_id", sa.Text),
        sa.Column("org_id", sa.Text),
        sa.Column("org_name", sa.Text),
        sa.Column("made_by", sa.Text),
    )
    op.create_index("faregate_tokens_owner", "faregate_tokens", ["org_id", "owner_id"])
    op.create_table(
        "faregate_secrets",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column(
            "token_id",
            sa.String(36),
            sa.ForeignKey("faregate_tokens.id"),
            nullable=False,
            index=True,
        ),
        sa.Column("superseded_at", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "faregate_feed",
        sa.Column("sequence", count, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.Text),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("org_id", sa.Text),
        sa.Column("details", sa.Text, nullable=False),
    )
    sequence = op.create_table(
        "faregate_sequence",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", count, nullable=False),
    )
    op.bulk_insert(sequence, [{"id": 1, "value": 0}])
