"""Runs the code blocks of a page, in their order, in a folder that was empty.

The language of a block says what is done with it:

``python``
    The block runs; all of a page share their names. A comment at the end of a statement is a
    promise: ``# Denied: status 403, reason "expired"`` for an exception, or the value of an
    expression, such as ``# True`` or ``# {"plan"}``. If the first line is a comment with the name
    of a file, such as ``# app.py``, the block becomes that file and does not run.
``python before``
    Code for another package, in a page about moving from it. It is parsed, and does not run.
``shell``
    The commands run in one shell for the page, which stops at the first that fails. Processes in
    the background end with the page. Port 8000 is replaced by a free port.
``text``
    Straight after a ``shell`` block, its output: the lines stand in the output in this order. ``…``
    stands for any characters. Elsewhere the block is not checked.
``json``, ``toml``, ``yaml``
    The block parses.
``console``
    Commands that a test cannot run, since they install packages or need a service manager. Each
    command has a ``$`` before it, and is one of :data:`NOT_RUN`.
``dockerfile``, ``http``, ``ini``, ``nginx``
    Not checked here.
"""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from flask import Flask

from faregate import Denied, Gate

NOT_RUN = {
    "apt-get", "docker", "git", "kubectl", "make", "pip", "podman", "python3", "sudo", "systemctl", "systemd-analyze", "uvx",
}  # fmt: skip
UNCHECKED = {"dockerfile", "http", "ini", "nginx", "text"}
PATIENCE = 60.0  # seconds for the commands of a block
_FENCE = re.compile(r"^(`{3,})([^`\n]*)\n(.*?)^\1[ ]*$", re.DOTALL | re.MULTILINE)
_PORT = "8000"


class Block(NamedTuple):
    """Holds a block of code, its language with the words after it, and its first line in the page."""

    language: str
    source: str
    line: int
    directly_after: str


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of code of a page; directives of the site, such as ``{toctree}``, are none."""
    found: list[Block] = []
    end = 0
    for fence in _FENCE.finditer(text):
        language = fence[2].strip()
        between = text[end : fence.start()]
        before = found[-1].language if found and not between.strip() else ""
        end = fence.end()
        if not language.startswith("{"):
            line = text.count("\n", 0, fence.start()) + 2
            found.append(Block(language, fence[3], line, before))
    return found


class Page:
    """Runs the blocks of one page. ``names`` holds the names of its Python blocks."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "page"}
        self.output = ""
        self._shell: subprocess.Popen[str] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])

    def run(self) -> None:
        """Run all blocks, and close the gates and processes that they leave."""
        try:
            for block in blocks_of(self.path.read_text()):
                self._run(block)
        finally:
            self.close()

    def close(self) -> None:
        """End the processes of the page, and close its gates."""
        if self._shell is not None:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.communicate()
        for value in list(self.names.values()):
            if isinstance(value, Gate):
                value.close()
            if isinstance(value, Flask) and "faregate" in value.extensions:
                value.extensions["faregate"].close()

    def _run(self, block: Block) -> None:
        source = block.source.replace(_PORT, self.port)
        match block.language.split():
            case ["python"]:
                name = re.match(r"# ([\w./-]+\.py)\n", source)
                if name is None:
                    self._execute(source, block.line)
                else:
                    ast.parse(source)
                    file = self.folder / name[1]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(source)
            case ["python", "before"]:
                ast.parse(source)
            case ["shell"]:
                self.output = self._command(source, block.line)
            case ["text"] if block.directly_after == "shell":
                self._compare(block)
            case ["json"]:
                json.loads(source)
            case ["toml"]:
                tomllib.loads(source)
            case ["yaml"]:
                list(yaml.safe_load_all(source))
            case ["console"]:
                commands = re.findall(r"^\$ (?:\w+=\S+ )*(\S+)", source, re.MULTILINE)
                assert commands, f"{self._place(block.line)}: no command with '$ ' before it"
                assert set(commands) <= NOT_RUN, f"{self._place(block.line)}: let the test run it"
            case _:
                known = block.language in UNCHECKED
                assert known, f"{self._place(block.line)}: unknown language {block.language!r}"

    def _execute(self, source: str, line: int) -> None:
        """Run a block statement by statement, and compare with what comments promise."""
        lines = source.split("\n")
        tree = ast.parse(source)
        ast.increment_lineno(tree, line - 1)
        for statement in tree.body:
            comment = lines[(statement.end_lineno or line) - line].partition("  # ")[2]
            denial = re.match(r'Denied: status (\d+), reason "(\w+)"', comment)
            if denial is not None:
                with pytest.raises(Denied) as raised:
                    self._statement(statement)
                told = (raised.value.status, raised.value.reason)
                assert told == (int(denial[1]), denial[2]), self._place(statement.lineno)
                continue

            value = self._statement(statement)
            try:
                promised = ast.literal_eval(comment)
            except (SyntaxError, ValueError):
                continue
            assert value == promised, self._place(statement.lineno)

    def _statement(self, statement: ast.stmt) -> Any:
        if isinstance(statement, ast.Expr):
            code = compile(ast.Expression(statement.value), str(self.path), "eval")
            return eval(code, self.names)  # noqa: S307  this project's own pages
        exec(compile(ast.Module([statement], []), str(self.path), "exec"), self.names)  # noqa: S102
        return None

    def _command(self, source: str, line: int) -> str:
        """Run commands in the shell of the page; return what they print to standard output."""
        shell = self._shell or self._start()
        assert shell.stdin is not None
        printed = self.folder / ".printed"
        begin = printed.stat().st_size
        shell.stdin.write(f"{source}\necho; echo THE-END\n")
        shell.stdin.flush()

        deadline = time.monotonic() + PATIENCE
        while True:
            output = printed.read_text(errors="replace")[begin:]
            if output.endswith("\nTHE-END\n"):
                return output.removesuffix("\nTHE-END\n").replace(self.port, _PORT)
            failed = shell.poll() is not None or time.monotonic() > deadline
            errors = (self.folder / ".errors").read_text(errors="replace")
            assert not failed, f"{self._place(line)}: {output}\n{errors[-3000:]}"
            time.sleep(0.01)

    def _start(self) -> subprocess.Popen[str]:
        """Start the shell of the page."""
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
        }
        with (
            (self.folder / ".printed").open("w") as printed,
            (self.folder / ".errors").open("w") as errors,
        ):
            self._shell = subprocess.Popen(
                ["bash", "-e"], cwd=self.folder, env=environment, stdin=subprocess.PIPE, stdout=printed, stderr=errors, text=True, start_new_session=True,
            )  # fmt: skip
        return self._shell

    def _compare(self, block: Block) -> None:
        rest = self.output
        for shown in filter(str.strip, block.source.splitlines()):
            pattern = ".*?".join(map(re.escape, shown.strip().split("…")))
            found = re.search(pattern, rest)
            assert found, f"{self._place(block.line)}: {shown!r} is not in {rest!r}"
            rest = rest[found.end() :]

    def _place(self, line: int) -> str:
        return f"{self.path.name}:{line}"
