"""Runs the command line: ``faregate`` in a process or in here, and ``flask faregate``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from faregate.cli import main

APPLICATION = """\
from flask import Flask
from faregate_flask import Faregate

app = Flask(__name__)
app.config.from_prefixed_env("TESTED")  # FAREGATE_… of the application, such as TESTED_FAREGATE_STORE
Faregate(app)
"""
# A command that ends on Ctrl-C, even if the tests were started with SIGINT ignored, as by a shell in
# the background: a child inherits that.
INTERRUPTIBLE = """\
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)

from faregate.cli import main

main()
"""
SECRET = re.compile(r"fg_(tok|rft|act|shr)_[0-9A-Za-z]{49}")


def environment(**more: str) -> dict[str, str]:
    """Return the environment of this process without settings of a gate, and with ``more``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
    return {**clean, **more}


def run(
    *arguments: str, store: str | None = None, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run ``faregate`` with these arguments, and ``settings`` in the environment."""
    given = settings | ({"FAREGATE_STORE": store} if store else {})
    command = [sys.executable, "-m", "faregate", *arguments]
    return subprocess.run(
        command,
        env=environment(**given),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def run_here(
    *arguments: str, store: str | None = None, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run ``faregate`` in this process, in a tenth of the time.

    For behaviour that another test shows in a real process.
    """
    given = settings | ({"FAREGATE_STORE": store} if store else {})
    without = dict.fromkeys(name for name in os.environ if name.startswith("FAREGATE_"))
    done = CliRunner().invoke(
        main, arguments, input=stdin, env=without | given, catch_exceptions=False
    )
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def run_flask(
    *arguments: str, folder: Path, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run ``flask faregate`` with these arguments, and ``settings`` of the application."""
    (folder / "tested_app.py").write_text(APPLICATION)
    given = {f"TESTED_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "flask", "--app", "tested_app", "faregate", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**given),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def steps(shown: dict[str, Any]) -> dict[int, Any]:
    """Return the steps of an explanation by their numbers."""
    return {step["number"]: step for step in shown["steps"]}
