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
    """Return the commands for an application; ``settings`` are the arguments of its gate."""

    @click.group(
        "faregate", cls=Commands, commands=COMMANDS, epilog=EPILOG, context_settings=CONTEXT
    )
    @click.pass_context
    def faregate(context: click.Context) -> None:
        """Manage the gate of this application: its tokens, its shares, and its decisions.

        Anyone who can run this command has full control: no credential is asked for. The gate has
        the application's settings, its policy and its owners' rights included. If the gate does not
        open, for instance because its tables are too old, these commands fail as well. Then use
        'faregate --store URL ...', which does not load the application.
        """
        if not has_app_context():
            context.with_resource(app.app_context())
        context.obj = Source(settings["store"], settings, gate)

    return faregate
