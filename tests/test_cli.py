"""The command line, as real processes on a real file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faregate import Gate


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a file."""
    return f"sqlite:///{tmp_path / 'gate.db'}"


def run(*arguments: str, store: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``faregate`` with these arguments."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
    clean |= {"FAREGATE_STORE": store} if store else {}
    command = [sys.executable, "-m", "faregate", *arguments]
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=False)


def test_the_secret_alone_goes_to_standard_output(store: str) -> None:
    """So that it can be piped; the rest is said on standard error."""
    made = run("token", "create", "--name", "ci", "--scope", "docs:read", "--cidr", "10.0.0.0/8", "--expires-in", "90d",
               "--owner", "u1", "--org", "o1", "--type", "PROXY", "--description", "d", store=store)  # fmt: skip
    assert made.returncode == 0
    assert re.fullmatch(r"fg_tok_[0-9A-Za-z]{49}\n", made.stdout)
    assert made.stdout.strip() not in made.stderr
    gate = Gate(store)
    principal = gate.verify(made.stdout.strip(), address="10.0.0.1")
    token = gate.tokens.get(principal.id)
    assert token.id in made.stderr
    assert (token.name, token.scope, token.allowed_cidr_blocks, token.type) == (
        "ci",
        ("docs:read",),
        ("10.0.0.0/8",),
        "PROXY",
    )
    assert (token.owner.id, token.org.id, token.description, token.made_by) == ("u1", "o1", "d", "cli")
    assert token.expires_at is not None
    assert 89.99 < (token.expires_at - token.created_at).total_seconds() / 86_400 < 90.01
    gate.close()


def test_json(store: str) -> None:
    """Records as the HTTP API shows them."""
    made = json.loads(run("token", "create", "--name", "a", "--json", store=store).stdout)
    assert made["token"].startswith("fg_tok_")
    listed = json.loads(run("token", "list", "--json", store=store).stdout)
    assert (listed["total"], listed["items"][0]["id"]) == (1, made["id"])
    assert "token" not in listed["items"][0]
    closed = json.loads(
        run("token", "deactivate", made["id"], "--json", "--by", "me", "--reason", "x", store=store).stdout
    )
    assert (closed["deactivated"], closed["deactivatedUpdatedBy"], closed["deactivatedReason"]) == (True, "me", "x")


def test_list_is_a_table_without_secrets(store: str) -> None:
    """The newest first, with the state of each."""
    secret = run("token", "create", "--name", "first", "--scope", "a:b", "--scope", "c", store=store).stdout.strip()
    run("token", "create", "--name", "second", "--owner", "u1", "--expires-in", "12h", store=store)
    gate = Gate(store)
    gate.tokens.deactivate(gate.verify(secret).id)
    gate.close()
    shown = run("token", "list", store=store)
    lines = [re.split(r"\s{2,}", line) for line in shown.stdout.splitlines()]
    assert lines[0] == ["ID", "NAME", "OWNER", "EXPIRES", "STATE", "SCOPES"]
    assert [line[1] for line in lines[1:]] == ["second", "first"]
    assert lines[1][2:3] + lines[1][4:] == ["u1", "active", "-"]
    assert lines[2][2:] == ["-", "never", "deactivated", "a:b c"]
    assert "fg_tok_" not in shown.stdout
    assert "1 of 2" in run("token", "list", "--limit", "1", store=store).stderr
    assert run("token", "list", "--owner", "u1", store=store).stdout.count("\n") == 2


def test_deactivation_is_seen_by_a_running_process(store: str) -> None:
    """At once."""
    gate = Gate(store)
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)
    done = run("token", "deactivate", issued.token.id, store=store)
    assert (done.returncode, done.stdout) == (0, f"Token {issued.token.id} (a) is deactivated, by root.\n")
    with pytest.raises(Exception, match="deactivated"):
        gate.verify(issued.secret)
    gate.close()


def test_brand_is_that_of_the_application(store: str) -> None:
    """Given as an option or in the environment."""
    assert run("--brand", "acme", "token", "create", "--name", "a", store=store).stdout.startswith("acme_tok_")
    assert run("token", "create", "--name", "a", store=store, FAREGATE_BRAND="other").stdout.startswith("other_tok_")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["token", "create"], 2, "--name"),
        (["token", "create", "--name", ""], 2, "name: 1 to 200 characters"),
        (["token", "create", "--name", "a", "--scope", "a b"], 2, "scopes[0]"),
        (["token", "create", "--name", "a", "--cidr", "10.0.0.1/8"], 2, "did you mean 10.0.0.0/8?"),
        (["token", "create", "--name", "a", "--expires-in", "soon"], 2, "90d"),
        (["token", "create", "--name", "a", "--expires-in", "0d"], 2, "expiresIn"),
        (["token", "create", "--name", "a", "--type", "REFRESH"], 2, "type"),
        (["token", "list", "--limit", "0"], 2, "limit"),
        (["token", "deactivate", "nonsense"], 1, "There is no such token."),
        (["token", "nonsense"], 2, "nonsense"),
        (["--brand", "A", "token", "list"], 2, "brand"),
        (["--store", "mysql://x/y", "token", "list"], 2, "not supported yet"),
        (["--store", "sqlite:////no/such/dir/gate.db", "token", "create", "--name", "a"], 2, "cannot create"),
    ],
)
def test_failures_have_a_code_and_a_word(store: str, arguments: list[str], code: int, words: str) -> None:
    """1 for records, 2 for usage; never a traceback."""
    Gate(store).close()
    failed = run(*arguments, store=store)
    assert failed.returncode == code
    assert words in failed.stderr
    assert "Traceback" not in failed.stderr
    assert failed.stdout == ""


def test_a_store_that_cannot_answer_is_3(tmp_path: Path) -> None:
    """With the cause."""
    path = tmp_path / "gate.db"
    path.write_bytes(b"no database at all" * 100)
    failed = run("token", "list", store=f"sqlite:///{path}")
    assert (failed.returncode, "file is not a database" in failed.stderr) == (3, True)


def test_without_a_store_the_way_is_told() -> None:
    """--store or FAREGATE_STORE."""
    failed = run("token", "list")
    assert failed.returncode == 2
    assert "FAREGATE_STORE" in failed.stderr


def test_a_store_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    """A misspelt path is no empty store, and one in memory is none at all."""
    for command in (["token", "list"], ["token", "deactivate", "x"]):
        failed = run(*command, store=f"sqlite:///{tmp_path / 'misspelt.db'}")
        assert (failed.returncode, "There is no store at" in failed.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []
    assert "in memory" in run("token", "create", "--name", "a", store="sqlite://").stderr


def test_bytes_that_are_no_text_are_refused(store: str) -> None:
    """Not a traceback."""
    run("token", "create", "--name", "a", store=store)
    for command in (["list", "--owner", "\udcff"], ["deactivate", "\udcff"], ["deactivate", "x", "--by", "a\nb"]):
        failed = run("token", *command, store=store)
        assert failed.returncode in {1, 2}
        assert "Traceback" not in failed.stderr


def test_upgrade(store: str) -> None:
    """It says so where the tables are right, and makes no store of a misspelt path."""
    assert run("db", "upgrade", store=store).returncode == 2
    Gate(store).close()
    for _ in range(2):
        assert run("db", "upgrade", store=store).stdout == "The tables are up to date.\n"
    assert run("token", "create", "--name", "a", store=store).returncode == 0


@pytest.mark.parametrize(
    "command", [[], ["token"], ["token", "create"], ["token", "list"], ["token", "deactivate"], ["db", "upgrade"]]
)
def test_help_is_there(command: list[str]) -> None:
    """For every command, without a store."""
    shown = run(*command, "--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith("Usage: ")
