"""The kinds and records of actors, leaked tokens, their origins, and the identity of the page."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the columns, move makers of deleted tokens to the descent, and widen the feed."""
    op.add_column(
        "faregate_tokens",
        sa.Column("leaked", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.add_column("faregate_tokens", sa.Column("deactivated_by", sa.Text))
    _keep_who_deactivated()
    op.add_column("faregate_sequence", sa.Column("page", sa.Text))
    op.create_table(
        "faregate_descent",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("origin", sa.Text, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("faregate_descent_origin", "faregate_descent", ["origin"])
    op.execute("INSERT INTO faregate_descent (id, origin) SELECT id, made_by FROM faregate_deleted")
    op.drop_table("faregate_deleted")
    _widen_feed()


def _keep_who_deactivated() -> None:
    """Let owners, and tokens without an owner, activate the tokens that they deactivated.

    They could do so before. If the application deactivated a token under its owner's id, the
    owner may activate it, too: the rows are alike, unless the owner is called cli or root.
    """
    names = (
        "id",
        "deactivated_updated_by",
        "owner_id",
        "owner_idp_id",
        "org_id",
        "deactivated",
        "deactivated_by_admin",
    )
    tokens = sa.table("faregate_tokens", *map(sa.column, (*names, "deactivated_by")))
    theirs = tokens.c.deactivated.is_(sa.true()) & tokens.c.deactivated_by_admin.is_(sa.false())

    connection = op.get_bind()
    for row in connection.execute(sa.select(tokens).where(theirs)).mappings().all():
        name = row["deactivated_updated_by"] or ""
        key = name if name.startswith("token:") else None
        if name == row["owner_id"] and name not in ("cli", "root"):
            owner = [row["org_id"], row["owner_idp_id"], name]
            key = json.dumps(owner, separators=(",", ":"), ensure_ascii=False)

        connection.execute(
            sa.update(tokens).where(tokens.c.id == row["id"]).values(deactivated_by=key)
        )


def _widen_feed() -> None:
    """Make the feed anew, with the wider column of subjects and the columns of actors."""
    op.drop_index("faregate_feed_org", "faregate_feed")
    op.drop_index("faregate_feed_subject", "faregate_feed")
    op.rename_table("faregate_feed", "faregate_feed_before")
    op.create_table(
        "faregate_feed",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.Text),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(512), nullable=False),
        sa.Column("org_id", sa.Text),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("actor_kind", sa.String(16)),
        sa.Column("actor_id", sa.Text),
    )
    op.execute(
        "INSERT INTO faregate_feed (sequence, at, actor, action, subject, org_id, details) "
        "SELECT sequence, at, actor, action, subject, org_id, details FROM faregate_feed_before"
    )
    op.drop_table("faregate_feed_before")
    op.create_index("faregate_feed_org", "faregate_feed", ["org_id", "sequence"])
    op.create_index("faregate_feed_subject", "faregate_feed", ["subject", "sequence"])
