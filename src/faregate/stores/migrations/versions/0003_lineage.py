"""Secrets that were never presented, and the makers of records."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables of unseen secrets and deleted makers, and the indices of makers."""
    op.create_table(
        "faregate_unseen",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "faregate_deleted",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("made_by", sa.Text, nullable=False),
    )
    for table in ("tokens", "shares", "deleted"):
        op.create_index(f"faregate_{table}_made_by", f"faregate_{table}", ["made_by"])
