"""``faregate check``: what a request with a credential would come to, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from faregate.cli.output import echo, table
from faregate.cli.parameters import json_option, read_secret
from faregate.cli.source import pass_source
from faregate.management import payloads
from faregate.values.needs import Permission, Role
from faregate.values.networks import canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faregate.cli.source import Source
    from faregate.model import Explanation, Step
    from faregate.values.needs import Need

UNIX = "unix"


@click.command()
@click.option("--address", metavar="ADDRESS", help="The client's address, without a port.")
@click.option(
    "--peer", metavar="ADDRESS", help="Instead: who connects to the server; 'unix' has no address."
)
@click.option(
    "--forwarded",
    multiple=True,
    metavar="LINE",
    help="And its forwarding header, line by line as it came.",
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="A scope that the route needs; may be repeated.",
)
@click.option(
    "--permission", "permissions", multiple=True, metavar="ID", help="A permission that it needs."
)
@click.option("--role", "roles", multiple=True, metavar="NAME", help="A role that it needs.")
@click.option(
    "--service",
    metavar="ID",
    help="The service of those permissions and roles. Default: the organization.",
)
@click.option("--on", "on", metavar="OBJECT", help="The object or resource that it is about.")
@json_option
@pass_source
@click.pass_context
def check(
    context: click.Context,
    source: Source,
    address: str | None,
    peer: str | None,
    forwarded: Sequence[str],
    scopes: Sequence[str],
    permissions: Sequence[str],
    roles: Sequence[str],
    service: str | None,
    on: str | None,
    *,
    as_json: bool,
) -> None:
    """Explain whether a credential opens a route.

    Each of the seven steps is told, with what it looked at and what came of it. The credential is read from standard
    input, or from a prompt that does not show it. Without --address and --peer the client's address is unknown. With
    --peer and --forwarded it is found as the application finds it, by the trusted proxies. Several needs mean all of
    them. No use of the credential is noted.

    What the application joins, such as the rights of owners, only 'flask faregate check' knows. Exit code 0: the route
    opens; 1: it does not.
    """
    if forwarded and peer is None:
        raise click.UsageError(
            "--forwarded: give --peer as well; the header counts only from a proxy that is trusted."
        )
    if on is not None and not (scopes or permissions or roles):
        raise click.UsageError(
            "--on: give a need as well, such as --scope; a route without needs is about no object."
        )
    if service is not None and not (permissions or roles):
        raise click.UsageError(
            "--service: give --permission or --role as well; scopes are of no service."
        )
    if address is not None and canonical(address) is None:
        raise click.UsageError(
            f"--address: {address!r} is no address, such as 192.0.2.1 or 2001:db8::1, without a port."
        )
    needs: tuple[Need, ...] = (
        *scopes,
        *(Permission(one, service) for one in permissions),
        *(Role(one, service) for one in roles),
    )
    credential = read_secret("Credential")
    with source.gate() as gate:
        found = gate.explain(
            credential,
            address=address,
            peer="" if peer == UNIX else peer,
            forwarded=forwarded,
            needs=needs,
            on=on,
        )
    if as_json:
        click.echo(payloads.show(found))
    else:
        _show(found)
    context.exit(0 if found.allowed else 1)


def _show(found: Explanation) -> None:
    echo(
        "The route opens."
        if found.allowed
        else f"The route does not open: {found.status} {found.reason}."
    )
    table([str(step.number), _verdict(step), step.name, step.words] for step in found.steps)


def _verdict(step: Step) -> str:
    return "-" if step.passed is None else "ok" if step.passed else "NO"
