"""``faregate jwt``: revokes JWTs of trusted issuers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faregate.cli.output import echo
from faregate.cli.parameters import by_option, instant
from faregate.cli.source import pass_source

if TYPE_CHECKING:
    from faregate.cli.source import Source
    from faregate.lifecycles.authority import CommandLine
    from faregate.values.instants import Instant


@click.group()
def jwt() -> None:
    """Revoke JWTs of trusted issuers."""


@jwt.command()
@click.option(
    "--issuer",
    required=True,
    metavar="ISS",
    help="The issuer of the tokens: exactly their 'iss'.",
)
@click.option("--jti", metavar="JTI", help="The token with this 'jti'.")
@click.option(
    "--subject",
    metavar="SUB",
    help="Every token with this 'sub' that was issued until now, or until --before.",
)
@click.option(
    "--before",
    type=instant,
    metavar="INSTANT",
    help="With --subject: the latest 'iat' of the revoked tokens.",
)
@click.option(
    "--until",
    type=instant,
    metavar="INSTANT",
    help="The end of the revocation, when the tokens have expired, such as "
    "2030-01-31T12:00:00Z. Default: never.",
)
@by_option
@pass_source
def revoke(
    source: Source,
    issuer: str,
    jti: str | None,
    subject: str | None,
    before: Instant | None,
    until: Instant | None,
    by: CommandLine,
) -> None:
    """Revoke a token, or the tokens of a subject, for good.

    The token need not exist: only its issuer knows which tokens it issued.
    """
    if (jti is None) == (subject is None):
        raise click.UsageError("Give --jti or --subject.")
    if subject is None and before is not None:
        raise click.UsageError("--before: only with --subject.")

    with source.gate() as gate:
        if source.application is None:
            echo(
                "The trusted issuers are not known here: the issuer has to be exactly the 'iss'.",
                err=True,
            )

        if jti is not None:
            gate.jwts.revoke(issuer, jti, until=until, by=by)
            echo(f"The token {jti} of {issuer} is revoked.")
        elif subject is not None:
            gate.jwts.revoke_subject(issuer, subject, before=before, until=until, by=by)
            echo(f"The tokens of {subject} of {issuer} are revoked.")
