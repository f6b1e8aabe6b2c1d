"""The command line: ``faregate``, and ``flask faregate`` with the application's own gate.

Anyone who can open the database file has full control; no credential is required. A secret is
printed once, alone on standard output. It is never taken as an argument, which everybody on the
machine can read.

Exit codes: 0 done or allowed, 1 refused or denied, 2 usage or bad input, 3 the store cannot answer.
"""

from __future__ import annotations

import errno
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import click

from faregate.cli.audit_command import audit
from faregate.cli.check_command import check
from faregate.cli.doctor_command import doctor
from faregate.cli.jwt_commands import jwt
from faregate.cli.output import discard_output
from faregate.cli.share_commands import share
from faregate.cli.source import Failure, Source
from faregate.cli.store_commands import db
from faregate.cli.token_commands import token

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: dict[str, click.Command] = {
    "token": token,
    "share": share,
    "jwt": jwt,
    "check": check,
    "audit": audit,
    "db": db,
    "doctor": doctor,
}
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
EPILOG = (
    "Exit codes: 0 done or allowed, 1 refused or denied, 2 usage or bad input, "
    "3 the store cannot answer."
)


class Commands(click.Group):
    """Runs a command; characters that the terminal cannot show are escaped."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; raise Failure if its output cannot be written."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")

        try:
            return super().invoke(ctx)
        except OSError as error:
            # A reader that went away is no error: click ends the command quietly.
            if error.errno == errno.EPIPE:
                raise
            discard_output()
            raise Failure(f"Cannot be written: {error.strerror}", 1) from error


@click.group(
    cls=Commands,
    context_settings=CONTEXT,
    commands=COMMANDS,
    epilog=EPILOG,
)
@click.option(
    "--store",
    envvar="FAREGATE_STORE",
    metavar="URL",
    help="URL of the store, such as sqlite:///gate.db.",
)
@click.option(
    "--brand",
    envvar="FAREGATE_BRAND",
    default="fg",
    show_default=True,
    help="First part of new secrets.",
)
@click.option(
    "--trusted-proxy",
    "proxies",
    multiple=True,
    envvar="FAREGATE_TRUSTED_PROXIES",
    metavar="BLOCK",
    help="A network of proxies that the application trusts, for 'check' and 'doctor'. May be "
    "repeated; separated by spaces in the environment.",
)
@click.option(
    "--forwarded-header",
    envvar="FAREGATE_FORWARDED_HEADER",
    default="x-forwarded-for",
    show_default=True,
    metavar="NAME",
    help="The header in which the proxies name the client: x-forwarded-for or forwarded.",
)
@click.version_option(package_name="faregate")
@click.pass_context
def main(
    context: click.Context,
    store: str | None,
    brand: str,
    proxies: Sequence[str],
    forwarded_header: str,
) -> None:
    """Manage the gate in front of a web application: its tokens, shares and audit.

    Anyone who can open the database file has full control; no credential is required.

    The options below stand before the command. They name the store and repeat the settings of the
    application's gate. Each can be set in the environment as well: FAREGATE_STORE, FAREGATE_BRAND,
    FAREGATE_TRUSTED_PROXIES, FAREGATE_FORWARDED_HEADER. FAREGATE_SECRET signs the tokens of
    redeemed shares. In a Flask application the same commands are 'flask faregate ...', with the
    application's own gate.
    """
    settings: dict[str, Any] = {
        "brand": brand,
        "trusted_proxies": list(proxies),
        "forwarded_header": forwarded_header,
    }
    context.obj = Source(store, settings)


__all__ = ["COMMANDS", "CONTEXT", "EPILOG", "Commands", "Source", "main"]
