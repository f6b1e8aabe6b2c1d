"""``faregate doctor``: whether everything around the store is as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from faregate.cli.output import echo, table
from faregate.cli.parameters import json_option
from faregate.cli.source import explained, pass_source

if TYPE_CHECKING:
    from faregate.cli.source import Source


@click.command()
@json_option
@pass_source
@click.pass_context
def doctor(context: click.Context, source: Source, *, as_json: bool) -> None:
    """Look for what is wrong around the store.

    It says what to do about it, and changes nothing itself. It looks at the store and the version of its tables, at the
    files and who may read them, at the page that tells other processes of changes, at the file system, the clock, the
    trusted proxies, the secret that shares are redeemed with, and the keys of the application's issuers.

    Exit code 0: nothing is wrong, though there may be notes; 1: something is; 3: the store cannot answer.
    """
    from faregate.diagnosis import DOWN, FAULT, NOTE, Finding, examine  # noqa: PLC0415  SQLAlchemy is loaded only by who opens a store

    with explained():
        findings = examine(source.existing(), source.settings)
    if source.application is not None:
        words = "its gate was open before this looked, which makes a missing page anew: 'faregate doctor' looks first"
        findings.append(Finding("application", NOTE, words))
    if as_json:
        click.echo(msgspec.json.encode(findings))
    else:
        table(
            [
                one.verdict.upper() if one.verdict in (FAULT, DOWN) else one.verdict,
                one.check,
                one.words,
            ]
            for one in findings
        )
        wrong = sum(one.verdict in (FAULT, DOWN) for one in findings)
        echo("Nothing is wrong." if not wrong else f"Wrong: {wrong} of {len(findings)}.", err=True)
    verdicts = {one.verdict for one in findings}
    context.exit(3 if DOWN in verdicts else 1 if FAULT in verdicts else 0)
