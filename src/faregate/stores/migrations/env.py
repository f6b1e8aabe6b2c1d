"""What Alembic runs: the versions, on the connection and in the transaction of whoever called."""

from alembic import context

from faregate.stores.schema import metadata, schema_version

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=schema_version.name,
    render_as_batch=True,
)
context.run_migrations()
