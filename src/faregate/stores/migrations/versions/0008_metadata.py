"""Tokens have metadata of the application's own."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column."""
    op.add_column("faregate_tokens", sa.Column("metadata", sa.Text))
