"""Where the commands find their gate, and how its errors become messages and exit codes."""

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
    """A store's URL and the other settings of its gate; ``application`` is the gate of a running application."""

    store: str | None
    settings: dict[str, Any]
    application: Gate | None = None

    @contextmanager
    def gate(self, *, create: bool = False) -> Generator[Gate]:
        """Open the gate, and close it; errors in the block end the command. The store has to be there already."""
        with explained():
            url = self.url() if create else self.existing()
            if not create and self.application is None:
                _check_tables(url)
            gate = self.application or Gate(url, **self.settings)
            try:
                yield gate
            finally:
                if gate is not self.application:
                    gate.close()

    def existing(self) -> str:
        """Return the store's URL if there is one: a misspelt path is no empty store."""
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
        """Return the store's URL; UsageError if there is none."""
        if self.store is None:
            raise click.UsageError(
                "No store: give --store or set FAREGATE_STORE, such as sqlite:///gate.db"
            )
        # SQLAlchemy is loaded only by what opens a store.
        from faregate.stores.sqlite.database import path_of  # noqa: PLC0415

        if path_of(self.store) is None:
            raise click.UsageError(
                "A store in memory is gone when the command ends; use sqlite:///<file>"
            )
        return self.store

    def now(self) -> float:
        """Return UTC epoch seconds by the gate's clock."""
        return float(self.settings.get("clock", time.time)())


def _check_tables(url: str) -> None:
    """End the command if there are no tables that it could use: looking makes none, in whatever file that is."""
    from faregate.stores.schema import VERSION  # noqa: PLC0415
    from faregate.stores.sqlite.status import read_version  # noqa: PLC0415

    version = read_version(url)
    if version is None:
        raise Failure(
            "The store has no tables; 'faregate token create' or 'faregate db upgrade' makes them",
            1,
        )
    if version != VERSION:
        raise Failure(
            f"The store has tables of version {version}, not {VERSION}; run 'faregate db upgrade'",
            1,
        )


pass_source = click.make_pass_decorator(Source)


class Failure(click.ClickException):
    """A message for people, and the exit code for programs."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  click's own way


@contextmanager
def explained() -> Generator[None]:
    """Turn the errors of the package into messages and exit codes."""
    try:
        yield
    except InvalidInput as error:
        raise click.UsageError(str(error)) from error
    except StoreUnavailable as error:
        raise Failure(f"The store cannot answer: {error.cause}", 3) from error
    except (Refused, Denied) as error:
        raise Failure(str(error), 1) from error
