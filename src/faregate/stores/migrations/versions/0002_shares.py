"""Shares and their objects."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables of shares."""
    op.create_table(
        "faregate_shares",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("object_ids", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("allowed_cidr_blocks", sa.Text, nullable=False),
        sa.Column("networks", sa.LargeBinary),
        sa.Column("max_redemptions", sa.Integer),
        sa.Column("attributes", sa.Text),
        sa.Column("redemptions", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("not_before", sa.Double),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.Column("owner_id", sa.Text),
        sa.Column("owner_name", sa.Text),
        sa.Column("owner_acct", sa.Text),
        sa.Column("owner_domain", sa.Text),
        sa.Column("owner_idp_id", sa.Text),
        sa.Column("org_id", sa.Text),
        sa.Column("org_name", sa.Text),
        sa.Column("made_by", sa.Text),
    )
    op.create_index("faregate_shares_owner", "faregate_shares", ["org_id", "owner_id"])
    op.create_table(
        "faregate_share_objects",
        sa.Column("object_id", sa.Text, primary_key=True),
        sa.Column("share_id", sa.String(36), sa.ForeignKey("faregate_shares.id"), primary_key=True),
        sqlite_with_rowid=False,
    )
