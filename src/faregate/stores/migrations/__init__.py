"""Migrates the tables of an older faregate with Alembic, which is loaded only for this.

A migration is history: its statements never change once it is released.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from faregate.errors import InvalidInput
from faregate.stores.database import driver_errors, open_database
from faregate.stores.schema import schema_version
from faregate.stores.store import WRITER_WAITS


def upgrade(url: str, version: str = "head") -> None:
    """Migrate the tables of a store to ``version`` in one transaction.

    ``version`` is by default the version that this faregate needs. Raises InvalidInput for tables
    that this faregate does not know, and StoreUnavailable if the store cannot answer.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")

    database = open_database(url)
    engine = database.engine(waits=WRITER_WAITS)
    try:
        with (
            driver_errors(database, database.explained),
            database.transaction(engine, writing=True) as connection,
        ):
            columns = database.columns(connection)
            database.check_whole(database.missing_rows(connection, columns))
            if schema_version.name not in columns:
                database.check_never_used()

            config.attributes["connection"] = connection
            command.upgrade(config, version)
    except CommandError as error:
        raise InvalidInput(
            f"store: its tables belong to a faregate that this faregate does not know ({error})"
        ) from error
    finally:
        engine.dispose()
