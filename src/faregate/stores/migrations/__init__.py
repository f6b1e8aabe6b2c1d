"""Bringing the tables of an older faregate up to date, with Alembic, which is loaded only for that."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from faregate.errors import InvalidInput
from faregate.stores.schema import schema_version
from faregate.stores.sqlite import files
from faregate.stores.sqlite.database import (
    WRITER_WAITS,
    SqliteDatabase,
    columns_of,
    rows_missing_from,
)


def upgrade(url: str, version: str = "head") -> None:
    """Bring the tables of a store to a version, that which this faregate needs; in one transaction.

    InvalidInput for tables that are none of this faregate's, StoreUnavailable if the store cannot answer.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    database = SqliteDatabase(url)
    engine = database.engine(waits=WRITER_WAITS)
    try:
        with database.transaction(engine, writing=True) as connection:
            columns = columns_of(connection)
            files.check_whole(database.path, rows_missing_from(connection, columns))
            if schema_version.name not in columns:
                database.check_never_used()
            config.attributes["connection"] = connection
            command.upgrade(config, version)
    except CommandError as error:
        raise InvalidInput(
            f"store: its tables are of a faregate that this one does not know ({error})"
        ) from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise files.explained(database.path, error) from error
    finally:
        engine.dispose()
