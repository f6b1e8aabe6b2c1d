"""Opens the gate of a command, and turns its errors into messages and exit codes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from faregate.errors import Denied, InvalidInput, Refused, StoreUnavailable
from faregate.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Generator


class Source(msgspec.Struct, frozen=True):
    """The URL of a store and the settings of its gate.

    ``application`` is the gate of a running application, which is used instead of a new gate.
    """

    store: str | None
    settings: dict[str, Any]
    application: Gate | None = None

    @contextmanager
    def gate(self, *, create: bool = False) -> Generator[Gate]:
        """Open the gate for the block and close it; errors of the block end the command.

        Unless ``create``, the store has to exist.
        """
        with exit_on_error():
            if create:
                url = self.url()
            else:
                url = self.existing_url()
                if self.application is None:
                    _check_tables(url)

            gate = self.application or Gate(url, **self.settings)
            try:
                yield gate
            finally:
                if gate is not self.application:
                    gate.close()

    def existing_url(self) -> str:
        """Return the URL of a store that exists; otherwise a misspelt path would become a store.

        Raises UsageError if there is none, StoreUnavailable if its path cannot be examined.
        """
        from faregate.stores.sqlite.database import path_of  # noqa: PLC0415

        url = self.url()
        path = path_of(url) or ""
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            from faregate.stores.sqlite import files  # noqa: PLC0415

            files.check_kept(path, files.traces(path))

            raise click.UsageError(
                f"There is no store at {path} yet; 'faregate token create' makes one"
            ) from None
        except OSError as error:
            raise StoreUnavailable from error
        return url

    def url(self) -> str:
        """Return the store's URL; raise UsageError if none is given, or if it is in memory."""
        if self.store is None:
            raise click.UsageError(
                "No store: give --store or set FAREGATE_STORE, such as sqlite:///gate.db"
            )

        # SQLAlchemy is loaded only by commands that open a store.
        from faregate.stores.sqlite.database import path_of  # noqa: PLC0415

        if path_of(self.store) is None:
            raise click.UsageError("A store in memory ends with the command; use sqlite:///<file>")
        return self.store

    def now(self) -> float:
        """Return the time of the gate's clock, in UTC epoch seconds."""
        return float(self.settings.get("clock", time.time)())


def _check_tables(url: str) -> None:
    """Raise Failure unless the tables have this faregate's version.

    A gate would create missing tables, even in the database of another program.
    """
    from faregate.stores.schema import VERSION  # noqa: PLC0415
    from faregate.stores.sqlite.status import read_version  # noqa: PLC0415

    version = read_version(url)
    if version is None:
        raise Failure(
            "The store has no tables; run 'faregate token create' or 'faregate db upgrade'",
            1,
        )

    if version != VERSION:
        raise Failure(
            f"The store has tables of version {version}, not {VERSION}; run 'faregate db upgrade'",
            1,
        )


pass_source = click.make_pass_decorator(Source)


class Failure(click.ClickException):
    """Ends the command with a message and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        # The way that click documents, though it declares a class variable.
        self.exit_code = code  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def exit_on_error() -> Generator[None]:
    """End the command with a message and an exit code if the block raises an error of faregate."""
    try:
        yield
    except InvalidInput as error:
        raise click.UsageError(str(error)) from error
    except StoreUnavailable as error:
        raise Failure(f"The store cannot answer: {error.cause}", 3) from error
    except (Refused, Denied) as error:
        raise Failure(str(error), 1) from error
