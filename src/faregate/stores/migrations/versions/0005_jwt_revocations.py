"""Revocations of JWTs of trusted issuers."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table of revocations."""
    op.create_table(
        "faregate_jwt_revocations",
        sa.Column("key", sa.String(36), primary_key=True),
        sa.Column("issued_until", sa.Double),
        sa.Column("kept_until", sa.Double),
        sqlite_with_rowid=False,
    )
