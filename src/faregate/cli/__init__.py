"""The command line: the same commands as ``faregate`` and, with the application's own gate, as ``flask faregate``.

Who may open the store's file is root: no credential is asked. Secrets are printed once, alone on standard output, and
never taken as arguments, which everybody on the machine can read.

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
from faregate.cli.output import give_up
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
EPILOG = "Exit codes: 0 done or allowed, 1 refused or denied, 2 usage or bad input, 3 the store cannot answer."


class Commands(click.Group):
    """A group that ends with a word where what it says cannot be written, and writes what a terminal can show."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:  # which is for click to end quietly
                raise
            give_up()
            raise Failure(f"Cannot be written: {error.strerror}", 1) from error


@click.group(
    cls=Commands,
    context_settings=CONTEXT,
    commands=COMMANDS,
    epilog=EPILOG,
)
@click.option(
    "--store", envvar="FAREGATE_STORE", metavar="URL", help="The store, such as sqlite:///gate.db."
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
    help="A network of the proxies that the application trusts, for 'check' and 'doctor'; may be repeated, in the "
    "environment between spaces.",
)
@click.option(
    "--forwarded-header",
    envvar="FAREGATE_FORWARDED_HEADER",
    default="x-forwarded-for",
    show_default=True,
    metavar="NAME",
    help="The header in which they name the client: x-forwarded-for or forwarded.",
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
    """Steer the gate in front of a web application: tokens, shares, and why somebody gets in or not.

    Who may open the store's file is root: no credential is asked. The options below, given before the command, say
    where the store is and how the application set up its gate; each can stand in the environment as well
    (FAREGATE_STORE, FAREGATE_BRAND, FAREGATE_TRUSTED_PROXIES, FAREGATE_FORWARDED_HEADER; FAREGATE_SECRET signs what
    shares are redeemed for). In a Flask application the same commands are 'flask faregate ...', with its own gate.
    """
    settings: dict[str, Any] = {
        "brand": brand,
        "trusted_proxies": list(proxies),
        "forwarded_header": forwarded_header,
    }
    context.obj = Source(store, settings)


__all__ = ["COMMANDS", "CONTEXT", "EPILOG", "Commands", "Source", "main"]
