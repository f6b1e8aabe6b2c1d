"""``faregate jwt``: revoking JWTs of trusted issuers."""

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
    help="Whose they are: the 'iss' of the tokens, as it is.",
)
@click.option("--jti", metavar="JTI", help="The token with this 'jti'.")
@click.option(
    "--subject",
    metavar="SUB",
    help="Every token of this 'sub' with an 'iat' until now, or --before.",
)
@click.option(
    "--before",
    type=instant,
    metavar="INSTANT",
    help="With --subject: with an 'iat' until then, and no later.",
)
@click.option(
    "--until",
    type=instant,
    metavar="INSTANT",
    help="When the tokens have expired and this may be forgotten, such as 2030-01-31T12:00:00Z; without it, never.",
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
    """Revoke one token, or those of a subject, for good.

    Whether there is such a token cannot be told: what the issuer hands out is known to nobody else.
    """
    if (jti is None) == (subject is None):
        raise click.UsageError("Give --jti or --subject.")
    if subject is None and before is not None:
        raise click.UsageError("--before goes with --subject.")
    with source.gate() as gate:
        if source.application is None:
            echo(
                "Whether the gate trusts this issuer is not known here: its name has to be the 'iss' exactly.",
                err=True,
            )
        if jti is not None:
            gate.jwts.revoke(issuer, jti, until=until, by=by)
            echo(f"The token {jti} of {issuer} is revoked.")
        elif subject is not None:
            gate.jwts.revoke_subject(issuer, subject, before=before, until=until, by=by)
            echo(f"The tokens of {subject} of {issuer} are revoked.")
