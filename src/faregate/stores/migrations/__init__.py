"""Bringing the tables of an older faregate up to date, with Alembic, which is loaded only for that."""

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
    """Bring the tables of a store to a version, that which this faregate needs; in one transaction.

    InvalidInput for tables that are none of this faregate's, StoreUnavailable if the store cannot answer.
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
            f"store: its tables are of a faregate that this one does not know ({error})"
        ) from error
    finally:
        engine.dispose()
