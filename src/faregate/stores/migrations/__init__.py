"""Bringing the tables of an older faregate up to date, with Alembic, which is loaded only for that."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from faregate.stores.sqlite import SqliteDatabase


def upgrade(url: str, version: str = "head") -> None:
    """Bring the tables of a store to a version, that which this faregate needs; in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    engine = SqliteDatabase(url).engine()
    try:
        with engine.execution_options(writing=True).begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, version)
    finally:
        engine.dispose()
