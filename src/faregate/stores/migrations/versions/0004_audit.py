"""Indices of the feed by organization and by record."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the indices that find entries without reading the whole feed."""
    op.create_index("faregate_feed_org", "faregate_feed", ["org_id", "sequence"])
    op.create_index("faregate_feed_subject", "faregate_feed", ["subject", "sequence"])
