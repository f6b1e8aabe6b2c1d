"""``faregate doctor``: looks for problems around the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from faregate.cli.output import echo, table
from faregate.cli.parameters import json_option
from faregate.cli.source import exit_on_error, pass_source

if TYPE_CHECKING:
    from faregate.cli.source import Source
    from faregate.diagnosis import Finding


@click.command()
@json_option
@pass_source
@click.pass_context
def doctor(context: click.Context, source: Source, *, as_json: bool) -> None:
    """Look for problems around the store.

    Each problem is shown with its remedy; nothing is changed. The doctor examines the store and the
    version of its tables, the files and their permissions, the page that tells other processes of
    changes, the file system, the clock, the trusted proxies, the secret that signs the tokens of
    redeemed shares, and the keys of the application's issuers.

    Exit code 0: no fault was found, though there may be notes; 1: a fault was found; 3: the store
    cannot answer.
    """
    # Diagnosis loads SQLAlchemy, which only commands that open a store need.
    from faregate.diagnosis import DOWN, FAULT, NOTE, Finding, examine  # noqa: PLC0415

    with exit_on_error():
        findings = examine(source.existing_url(), source.settings)

    if source.application is not None:
        words = (
            "its gate was open before this examination, and an opening gate creates a missing "
            "page: run 'faregate doctor' to examine first"
        )
        findings.append(Finding("application", NOTE, words))

    if as_json:
        click.echo(msgspec.json.encode(findings))
    else:
        _print(findings, problems={FAULT, DOWN})

    verdicts = {finding.verdict for finding in findings}
    if DOWN in verdicts:
        context.exit(3)
    if FAULT in verdicts:
        context.exit(1)


def _print(findings: list[Finding], problems: set[str]) -> None:
    rows: list[tuple[str, str, str]] = []
    wrong = 0
    for finding in findings:
        verdict: str = finding.verdict
        if verdict in problems:
            verdict = verdict.upper()
            wrong += 1
        rows.append((verdict, finding.check, finding.words))

    table(rows)
    if wrong:
        echo(f"Wrong: {wrong} of {len(findings)}.", err=True)
    else:
        echo("Nothing is wrong.", err=True)
