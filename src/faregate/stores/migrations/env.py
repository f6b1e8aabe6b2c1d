"""Runs the migrations of Alembic, on the connection and in the transaction of the caller."""

from alembic import context

from faregate.stores.schema import metadata, schema_version

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=schema_version.name,
    render_as_batch=True,
)
context.run_migrations()
