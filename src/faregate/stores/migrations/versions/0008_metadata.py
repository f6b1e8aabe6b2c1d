"""The application's metadata of tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column of metadata."""
    op.add_column("faregate_tokens", sa.Column("metadata", sa.Text))
