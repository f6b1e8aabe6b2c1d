"""The command line of the core as ``flask faregate``, with the application's own gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from flask import has_app_context

from faregate.cli import COMMANDS, CONTEXT, EPILOG, Commands, Source

if TYPE_CHECKING:
    from flask import Flask

    from faregate import Gate


def command_group(app: Flask, gate: Gate, settings: dict[str, Any]) -> click.Group:
    """Return the commands for an application whose ``settings`` are those of its gate."""

    @click.group(
        "faregate", cls=Commands, commands=COMMANDS, epilog=EPILOG, context_settings=CONTEXT
    )
    @click.pass_context
    def faregate(context: click.Context) -> None:
        """Steer the gate of this application: tokens, shares, and why somebody gets in or not.

        Who may run this is root: no credential is asked. The store and whatever else there is to set are those of the
        application, its policy and the rights of its owners included. If its gate does not open, because the tables are
        too old, say, neither do these commands: 'faregate --store URL ...' does the same without the application.
        """
        if not has_app_context():
            context.with_resource(app.app_context())
        context.obj = Source(settings["store"], settings, gate)

    return faregate
