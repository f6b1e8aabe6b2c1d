"""Refresh tokens, and the access credentials of their exchanges."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the tables of families, exchanges and access credentials."""
    op.add_column("faregate_tokens", sa.Column("require_rotation", sa.Boolean))
    op.add_column("faregate_tokens", sa.Column("revoked_at", sa.Double))
    op.create_table(
        "faregate_families",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column(
            "token_id",
            sa.String(36),
            sa.ForeignKey("faregate_tokens.id"),
            nullable=False,
            unique=True,
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "faregate_exchanges",
        sa.Column("token_id", sa.String(36), sa.ForeignKey("faregate_tokens.id"), primary_key=True),
        sa.Column("presented", sa.LargeBinary(32), nullable=False),
        sa.Column("successor", sa.LargeBinary(16), nullable=False),
        sa.Column("until", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_faregate_exchanges_until", "faregate_exchanges", ["until"])
    op.create_table(
        "faregate_access",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("token_id", sa.String(36), sa.ForeignKey("faregate_tokens.id"), nullable=False),
        sa.Column("allowed_scopes", sa.Text, nullable=False),
        sa.Column("allowed_cidr_blocks", sa.Text, nullable=False),
        sa.Column("networks", sa.LargeBinary),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_faregate_access_token_id", "faregate_access", ["token_id"])
    op.create_index("ix_faregate_access_expires_at", "faregate_access", ["expires_at"])
