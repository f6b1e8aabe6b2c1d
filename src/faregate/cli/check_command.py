"""``faregate check``: explains the decision about a request with a credential."""

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

UNIX = "unix"  # the peer of a connection over a Unix domain socket


@click.command()
@click.option("--address", metavar="ADDRESS", help="The client's address, without a port.")
@click.option(
    "--peer",
    metavar="ADDRESS",
    help="The peer of the connection, instead of --address; 'unix' for a Unix domain socket.",
)
@click.option(
    "--forwarded",
    multiple=True,
    metavar="LINE",
    help="A line of the forwarding header; may be repeated. Requires --peer.",
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="A scope that the route requires; may be repeated.",
)
@click.option(
    "--permission",
    "permissions",
    multiple=True,
    metavar="ID",
    help="A permission that the route requires; may be repeated.",
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="NAME",
    help="A role that the route requires; may be repeated.",
)
@click.option(
    "--service",
    metavar="ID",
    help="The service of these permissions and roles. Default: the organization.",
)
@click.option("--on", "on", metavar="OBJECT", help="The object or resource of the request.")
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

    The seven steps of the decision are shown with their input and their result. The credential is
    read from standard input, or from a prompt that does not show it. Without --address and --peer
    the client's address is unknown. With --peer and --forwarded it is determined as in the
    application, by the trusted proxies. Several needs mean all of them. No use is recorded.

    Only 'flask faregate check' knows the additions of an application, such as the rights of owners.

    Exit code 0: the route opens; 1: it does not.
    """
    _check_options(address, peer, forwarded, on, service, scopes, (*permissions, *roles))

    needs: list[Need] = list(scopes)
    needs += [Permission(permission, service) for permission in permissions]
    needs += [Role(role, service) for role in roles]

    # The gate knows a Unix domain socket by its empty peer, as servers report it.
    if peer == UNIX:
        peer = ""

    credential = read_secret("Credential")
    with source.gate() as gate:
        explanation = gate.explain(
            credential,
            address=address,
            peer=peer,
            forwarded=forwarded,
            needs=needs,
            on=on,
        )

    if as_json:
        click.echo(payloads.show(explanation))
    else:
        _print(explanation)

    if not explanation.allowed:
        context.exit(1)


def _check_options(
    address: str | None,
    peer: str | None,
    forwarded: Sequence[str],
    on: str | None,
    service: str | None,
    scopes: Sequence[str],
    service_needs: Sequence[str],
) -> None:
    """Raise UsageError for an option that has no effect without another."""
    if forwarded and peer is None:
        raise click.UsageError(
            "--forwarded: give --peer as well; the header counts only from a trusted proxy."
        )
    if on is not None and not (scopes or service_needs):
        raise click.UsageError(
            "--on: give a need as well, such as --scope; a route without needs ignores objects."
        )
    if service is not None and not service_needs:
        raise click.UsageError(
            "--service: give --permission or --role as well; scopes belong to no service."
        )
    if address is not None and canonical(address) is None:
        raise click.UsageError(
            f"--address: {address!r} is no address; "
            "expected an address such as 192.0.2.1 or 2001:db8::1, without a port."
        )


def _print(explanation: Explanation) -> None:
    if explanation.allowed:
        echo("The route opens.")
    else:
        echo(f"The route does not open: {explanation.status} {explanation.reason}.")
    table([str(step.number), _verdict(step), step.name, step.words] for step in explanation.steps)


def _verdict(step: Step) -> str:
    if step.passed is None:
        return "-"
    if step.passed:
        return "ok"
    return "NO"
