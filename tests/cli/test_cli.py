"""The command line, as real processes on a real file."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from command_line import INTERRUPTIBLE, SECRET, environment, run, run_flask, run_here, steps
from flask import Flask, current_app

from faregate import (
    AllowedScopes,
    Denied,
    Gate,
    NotFound,
    Org,
    Owner,
    Policy,
    ServiceScopes,
    __version__,
)
from faregate.cli import COMMANDS, main
from faregate.credentials.opaque import mint
from faregate.stores.migrations import upgrade
from faregate.stores.schema import VERSION
from faregate_flask import Faregate

pytestmark = pytest.mark.processes


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a file."""
    return f"sqlite:///{tmp_path / 'gate.db'}"


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
    assert (token.owner.id, token.org.id, token.description, token.made_by) == (
        "u1",
        "o1",
        "d",
        "cli",
    )
    assert token.expires_at is not None
    assert 89.99 < (token.expires_at - token.created_at).total_seconds() / 86_400 < 90.01
    gate.close()


def test_json(store: str) -> None:
    """Records as the HTTP API shows them."""
    made = json.loads(run("token", "create", "--name", "a", "--json", store=store).stdout)
    assert made["token"].startswith("fg_tok_")
    listed = json.loads(run_here("token", "list", "--json", store=store).stdout)
    assert (listed["total"], listed["items"][0]["id"]) == (1, made["id"])
    assert "token" not in listed["items"][0]
    closed = json.loads(
        run_here(
            "token", "deactivate", made["id"], "--json", "--by", "me", "--reason", "x", store=store
        ).stdout
    )
    assert (closed["deactivated"], closed["deactivatedUpdatedBy"], closed["deactivatedReason"]) == (
        True,
        "me",
        "x",
    )


def test_list_is_a_table_without_secrets(store: str) -> None:
    """The newest first, with the state of each."""
    secret = run(
        "token", "create", "--name", "first", "--scope", "a:b", "--scope", "c", store=store
    ).stdout.strip()
    run_here(
        "token", "create", "--name", "second", "--owner", "u1", "--expires-in", "12h", store=store
    )
    gate = Gate(store)
    gate.tokens.deactivate(gate.verify(secret).id)
    gate.close()
    shown = run_here("token", "list", store=store)
    lines = [re.split(r"\s{2,}", line) for line in shown.stdout.splitlines()]
    assert lines[0] == ["ID", "NAME", "OWNER", "EXPIRES", "STATE", "SCOPES"]
    assert [line[1] for line in lines[1:]] == ["second", "first"]
    assert lines[1][2:3] + lines[1][4:] == ["u1", "active", "-"]
    assert lines[2][2:] == ["-", "never", "deactivated", "a:b c"]
    assert "fg_tok_" not in shown.stdout
    assert "1 of 2" in run_here("token", "list", "--limit", "1", store=store).stderr
    assert run_here("token", "list", "--owner", "u1", store=store).stdout.count("\n") == 2


def test_deactivation_is_seen_by_a_running_process(store: str) -> None:
    """At once."""
    gate = Gate(store)
    issued = gate.tokens.create(name="a")
    gate.verify(issued.secret)
    done = run("token", "deactivate", issued.token.id, store=store)
    assert (done.returncode, done.stdout) == (
        0,
        f"Token {issued.token.id} (a) is deactivated, by cli.\n",
    )
    with pytest.raises(Exception, match="deactivated"):
        gate.verify(issued.secret)
    gate.close()


def test_brand_is_that_of_the_application(store: str) -> None:
    """Given as an option or in the environment."""
    assert run("--brand", "acme", "token", "create", "--name", "a", store=store).stdout.startswith(
        "acme_tok_"
    )
    assert run(
        "token", "create", "--name", "a", store=store, FAREGATE_BRAND="other"
    ).stdout.startswith("other_tok_")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["token", "create"], 2, "--name"),
        (["token", "create", "--name", ""], 2, "name: expected 1 to 200 characters"),
        (["token", "create", "--name", "a", "--scope", "a b"], 2, "scopes[0]"),
        (["token", "create", "--name", "a", "--cidr", "10.0.0.1/8"], 2, "did you mean 10.0.0.0/8?"),
        (["token", "create", "--name", "a", "--expires-in", "soon"], 2, "90d"),
        (["token", "create", "--name", "a", "--expires-in", "0d"], 2, "expiresIn"),
        (["token", "create", "--name", "a", "--type", "JWT"], 2, "type"),
        (["token", "list", "--limit", "0"], 2, "limit"),
        (["token", "deactivate", "nonsense"], 1, "There is no such token."),
        (["token", "nonsense"], 2, "nonsense"),
        (["--brand", "A", "token", "list"], 2, "brand"),
        (["--store", "mysql://x/y", "token", "list"], 2, "not supported yet"),
        (
            ["--store", "sqlite:////no/such/dir/gate.db", "token", "create", "--name", "a"],
            2,
            "cannot create",
        ),
    ],
)
def test_failures_have_a_code_and_a_word(
    store: str, arguments: list[str], code: int, words: str
) -> None:
    """1 for records, 2 for usage; never a traceback."""
    Gate(store).close()
    failed = run_here(*arguments, store=store)
    assert failed.returncode == code
    assert words in failed.stderr
    assert "Traceback" not in failed.stderr
    assert failed.stdout == ""


def test_a_store_that_is_no_database_is_2(tmp_path: Path) -> None:
    """With the cause; it is the setting that is wrong."""
    path = tmp_path / "gate.db"
    path.write_bytes(b"no database at all" * 100)
    failed = run("token", "list", store=f"sqlite:///{path}")
    assert (failed.returncode, "file is not a database" in failed.stderr) == (2, True)


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
    for command in (
        ["list", "--owner", "\udcff"],
        ["deactivate", "\udcff"],
        ["deactivate", "x", "--by", "a\nb"],
    ):
        failed = run("token", *command, store=store)
        assert failed.returncode in {1, 2}
        assert "Traceback" not in failed.stderr


def test_upgrade(store: str) -> None:
    """It says so where the tables are right, and makes no store of a misspelt path."""
    assert run("db", "upgrade", store=store).returncode == 2
    Gate(store).close()
    for _ in range(2):
        assert (
            run_here("db", "upgrade", store=store).stdout
            == f"The tables are up to date: version {VERSION}.\n"
        )
    assert run_here("token", "create", "--name", "a", store=store).returncode == 0


def test_an_old_store_is_upgraded_and_says_so(tmp_path: Path) -> None:
    """Every command reports that an upgrade is needed; the upgrade reports both versions."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    upgrade(store, "0001")
    refused = run("token", "list", store=store)
    assert (
        refused.returncode,
        "faregate db upgrade" in refused.stderr,
        "Usage" in refused.stderr,
    ) == (1, True, False)
    status = run_here("db", "status", store=store)
    assert (status.returncode, f"0001; this faregate needs {VERSION}" in status.stdout) == (1, True)
    assert json.loads(run_here("db", "status", "--json", store=store).stdout)["version"] == "0001"
    assert json.loads(run_here("db", "upgrade", "--json", store=store).stdout) == {
        "from": "0001",
        "to": VERSION,
    }
    status = run_here("db", "status", "--json", store=store)
    assert (status.returncode, json.loads(status.stdout)["version"]) == (0, VERSION)


def test_a_token_from_its_creation_to_its_end(store: str) -> None:
    """Each command, with ``--json``: the record as the HTTP API shows it."""

    def ask(*arguments: str) -> Any:
        done = run_here("token", *arguments, "--json", store=store)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    allowed = {
        "generalScopes": ["a"],
        "organizationScopes": {"permissions": [{"permissionId": "p", "resources": ["r"]}]},
    }
    made = ask(
        "create", "--name", "n", "--allowed-scopes", json.dumps(allowed), "--any-address", "--expires-at", "2100-01-01T00:00:00Z",
        "--not-before", "2030-01-01T00:00:00+01:00", "--owner", "u", "--owner-name", "U", "--owner-idp", "i", "--org", "o",
        "--org-name", "O", "--by", "me",
    )  # fmt: skip
    assert made["scope"] == ["a", "organization/permission:p@r"]
    assert (made["owner"]["idpId"], made["owner"]["name"], made["org"]) == (
        "i",
        "U",
        {"id": "o", "name": "O"},
    )
    assert (made["expiresAt"], made["notBefore"], made["madeBy"]) == (
        "2100-01-01T00:00:00Z",
        "2029-12-31T23:00:00Z",
        "me",
    )
    identity, secret = made["id"], made.pop("token")
    assert ask("show", identity) == made
    changed = ask(
        "update", identity, "--name", "m", "--scope", "b", "--scope", "c", "--cidr", "10.0.0.0/8", "--expires-at", "none",
        "--not-before", "none", "--description", "d", "--owner-name", "V",
    )  # fmt: skip
    assert (changed["name"], changed["scope"], changed["allowedCidrBlocks"]) == (
        "m",
        ["b", "c"],
        ["10.0.0.0/8"],
    )
    assert (changed["expiresAt"], changed["notBefore"], changed["description"]) == (None, None, "d")
    assert changed["owner"] == {**made["owner"], "name": "V"}
    changed = ask(
        "update",
        identity,
        "--no-scopes",
        "--any-address",
        "--expires-in",
        "1d",
        "--description",
        "",
    )
    assert (changed["scope"], changed["allowedCidrBlocks"], changed["description"]) == (
        [],
        [],
        None,
    )
    assert changed["expiresAt"] is not None
    rotated = ask("rotate", identity, "--grace", "1h")
    assert rotated["rotatedAt"] is not None
    gate = Gate(store)
    assert gate.verify(secret).id == gate.verify(rotated["token"]).id == identity
    closed = ask("deactivate", identity, "--leaked", "--reason", "found")
    assert (closed["deactivated"], closed["deactivatedReason"], closed["deactivatedUpdatedBy"]) == (
        True,
        "found",
        "cli",
    )
    assert (closed["leaked"], closed["closed"]) == (True, {"tokens": [], "shares": []})
    rotated = ask("rotate", identity, "--leaked")
    assert (rotated["deactivated"], rotated["leaked"], rotated["closed"]) == (
        True,
        False,
        closed["closed"],
    )
    assert ask("activate", identity, "--by", "me")["deactivatedUpdatedBy"] == "me"
    assert (
        ask(
            "list",
            "--owner",
            "u",
            "--type",
            "API",
            "--name",
            "m",
            "--not-deactivated",
            "--expires-before",
            "2100-01-01T00:00:00Z",
            "--sort",
            "name",
        )["total"]
        == 1
    )
    assert ask("list", "--deactivated")["total"] == 0
    assert ask("delete", identity) == {"id": identity, "deleted": True}
    with pytest.raises(NotFound):
        gate.tokens.get(identity)
    entries = gate.audit().items
    assert [entry.action.removeprefix("token.") for entry in entries] == [
        "create", "update", "update", "rotate", "deactivate", "rotate", "activate", "delete",
    ]  # fmt: skip
    assert {(entry.actor_kind, entry.actor_id) for entry in entries} == {("cli", None)}
    assert entries[1].details == {
        "members": [
            "allowedCidrBlocks",
            "allowedScopes",
            "description",
            "expiresAt",
            "name",
            "notBefore",
            "owner.name",
        ]
    }
    gate.close()


def test_a_share_from_its_creation_to_its_end(store: str) -> None:
    """Each command, with ``--json``."""

    def ask(*arguments: str, stdin: str = "") -> Any:
        done = run_here("share", *arguments, "--json", store=store, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    made = ask(
        "create", "--object", "x", "--object", "y", "--scope", "a", "--cidr", "10.0.0.0/8", "--expires-in", "1h",
        "--max-redemptions", "2", "--attributes", '{"k": [1]}', "--by", "me",
    )  # fmt: skip
    identity, secret = made["id"], made.pop("secret")
    assert made["objectIds"] == ["x", "y"]
    assert made["params"] == {
        "scopes": ["a"],
        "allowedCidrBlocks": ["10.0.0.0/8"],
        "maxRedemptions": 2,
        "attributes": {"k": [1]},
    }
    assert ask("show", identity) == made
    redeemed = ask("redeem", identity, "--secret", "--address", "10.0.0.1", stdin=secret + "\n")
    assert redeemed["objectIds"] == ["x", "y"]
    gate = Gate(store)
    assert gate.verify(redeemed["token"], address="10.0.0.1").id == identity
    changed = ask(
        "update", identity, "--scope", "b", "--any-address", "--max-redemptions", "none", "--attributes", "none", "--expires-at", "2100-01-01T00:00:00Z",
    )  # fmt: skip
    assert changed["params"] == {
        "scopes": ["b"],
        "allowedCidrBlocks": [],
        "maxRedemptions": None,
        "attributes": None,
    }
    assert changed["expiresAt"] == "2100-01-01T00:00:00Z"
    assert gate.verify(ask("redeem", identity)["token"]).allows("b", on="y")
    assert ask("list", "--object", "y")["items"][0]["redemptions"] == 2
    assert ask("list", "--object", "z")["total"] == 0
    assert ask("revoke", identity)["state"] == "revoked"
    with pytest.raises(Denied, match="revoked"):
        gate.verify(redeemed["token"])
    gate.close()


def test_people_read_tables(store: str) -> None:
    """Without ``--json``: secrets alone on standard output, records member by member."""
    gate = Gate(store)
    token = gate.tokens.create(
        name="ci", scopes=["a"], owner=Owner("u1"), not_before=time.time() + 900
    ).token
    share = gate.shares.create(
        "x", ["y\u202ez"], scopes=["a", "b"], expires_in=3600, params={"maxRedemptions": 3}
    ).share
    gate.close()
    rotated = run("token", "rotate", token.id, store=store)
    assert SECRET.fullmatch(rotated.stdout.strip())
    assert f"Token {token.id} (ci) has a new secret" in rotated.stderr
    shown = run("token", "show", token.id, store=store).stdout
    assert re.search(r"^state +not yet valid$", shown, re.MULTILINE)
    assert re.search(r"^owner.id +u1$", shown, re.MULTILINE)
    assert "null" not in shown
    renamed = run_here("token", "update", token.id, "--name", "d", store=store).stdout
    assert re.search(r"^name +d$", renamed, re.MULTILINE)
    assert (
        run_here("token", "activate", token.id, store=store).stdout
        == f"Token {token.id} (d) is active.\n"
    )
    assert (
        run_here("token", "delete", token.id, store=store).stdout
        == f"Token {token.id} is deleted.\n"
    )
    lines = [
        re.split(r"\s{2,}", line)
        for line in run_here("share", "list", store=store).stdout.splitlines()
    ]
    assert lines[0] == ["ID", "OBJECT", "MORE", "EXPIRES", "STATE", "REDEEMED", "SCOPES"]
    assert (lines[1][:3], lines[1][4:]) == ([share.id, "x", "1"], ["live", "0 of 3", "a b"])
    shown = run_here("share", "show", share.id, store=store).stdout
    assert re.search(r"^objectIds +x  y\\u202ez$", shown, re.MULTILINE)
    redeemed = run_here("share", "redeem", share.id, store=store)
    assert redeemed.stdout.count(".") == 2
    assert r"Opens x, y\u202ez until " in redeemed.stderr
    assert re.search(
        r"^redemptions +1$",
        run_here("share", "update", share.id, "--scope", "a", store=store).stdout,
        re.MULTILINE,
    )
    assert (
        run_here("share", "revoke", share.id, store=store).stdout
        == f"Share {share.id} is revoked.\n"
    )
    made = run_here(
        "share", "create", "--object", "o", "--scope", "a", "--expires-in", "1h", store=store
    )
    assert SECRET.fullmatch(made.stdout.strip())
    status = run_here("db", "status", store=store)
    assert status.returncode == 0
    assert re.search(rf"^tables +{VERSION}$", status.stdout, re.MULTILINE)
    assert re.search(r"^shares +2$", status.stdout, re.MULTILINE)


def test_check_explains_each_step(store: str) -> None:
    """Which address from which hop, which grant, which is missing; 0 where the route opens and 1 where it does not."""
    gate = Gate(store)
    issued = gate.tokens.create(
        name="ci", allowed_cidr_blocks=["10.0.0.0/8"],
        allowed_scopes=AllowedScopes(general_scopes=("docs:*",), services_scopes=(ServiceScopes(service_definition_id="s", all_roles=True),)),
    )  # fmt: skip
    opens = ("check", "--scope", "docs:read", "--role", "boss", "--service", "s", "--on", "plan")
    way = ("--peer", "192.0.2.1", "--forwarded", "203.0.113.9", "--forwarded", "10.1.2.3")
    shown = run(
        *opens,
        *way,
        store=store,
        stdin=issued.secret,
        FAREGATE_TRUSTED_PROXIES="192.0.2.0/24 198.51.100.1",
    )
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0] == "The route opens."
    assert [line.split()[:2] for line in lines[1:]] == [
        [str(number), "ok"] for number in range(1, 8)
    ]
    assert "10.1.2.3, named by x-forwarded-for behind 192.0.2.1; allowed by 10.0.0.0/8" in lines[6]
    assert "docs:read: granted by docs:*" in lines[7]
    assert issued.secret not in shown.stdout + shown.stderr

    shut = run(
        "check",
        "--peer",
        "192.0.2.1:4711",
        "--forwarded",
        "10.1.2.3",
        "--scope",
        "docs:read",
        "--permission",
        "edit",
        "--json",
        store=store,
        stdin=issued.secret + "\r\n",
    )
    assert shut.returncode == 1
    told = json.loads(shut.stdout)
    assert (told["allowed"], told["reason"], told["status"]) == (False, "address_not_allowed", 403)
    assert steps(told)[6]["seen"]["hops"] == [
        {"source": "peer", "text": "192.0.2.1:4711", "address": "192.0.2.1", "trusted": False}
    ]
    assert [(one["need"], one["met"]) for one in steps(told)[7]["seen"]["needs"]] == [
        ("docs:read", True),
        ("organization/permission:edit", False),
    ]
    assert run_here("check", "--peer", "unix", store=store, stdin=issued.secret).returncode == 1
    assert (
        run_here("check", "--address", "10.0.0.1", store=store, stdin=issued.secret).returncode == 0
    )
    unix = ("--trusted-proxy", "unix", "check", "--peer", "unix", "--forwarded", "10.0.0.1")
    assert run_here(*unix, store=store, stdin=issued.secret).returncode == 0
    share = gate.shares.create("plan", scopes=["docs:read"], expires_in=60)
    for on, code in ((["--on", "plan"], 0), (["--on", "budget"], 1), ([], 1)):
        assert (
            run_here(
                "check", "--scope", "docs:read", *on, store=store, stdin=share.secret
            ).returncode
            == code
        )
    assert gate.tokens.get(issued.token.id).last_used_at is None
    gate.tokens.delete(issued.token.id)
    for stdin, reason in (
        ("", "missing"),
        ("x y", "malformed"),
        ("\u20ac", "malformed"),
        ("x" * 9000, "malformed"),
        (issued.secret, "unknown"),
    ):
        found = run_here("check", "--json", store=store, stdin=stdin)
        assert (found.returncode, json.loads(found.stdout)["reason"]) == (1, f"{reason}_credential")
    gate.close()


def test_without_any_standard_input_there_is_no_credential(store: str) -> None:
    """A closed standard input is answered like an empty one: missing_credential."""
    Gate(store).close()
    shut = subprocess.run(
        ["sh", "-c", '"$0" -m faregate check --json <&-', sys.executable],
        env=environment(FAREGATE_STORE=store),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shut.returncode, json.loads(shut.stdout)["reason"], shut.stderr) == (
        1,
        "missing_credential",
        "",
    )


def test_audit_shows_and_follows(store: str) -> None:
    """``audit`` prints the newest entries, entries since an instant, or a page as JSON; ``-f`` prints each new entry on a line."""
    gate = Gate(store)
    ids = [
        gate.tokens.create(name=f"t{number}", org=Org("o1"), by="ann").token.id
        for number in range(3)
    ]
    shown = run("audit", store=store)
    lines = [re.split(r"\s{2,}", line) for line in shown.stdout.splitlines()]
    assert lines[0] == ["SEQUENCE", "AT", "ACTOR", "ACTION", "SUBJECT", "ORG", "DETAILS"]
    assert [(line[0], *line[2:6]) for line in lines[1:]] == [
        (str(number), "ann (application)", "token.create", one, "o1")
        for number, one in enumerate(ids, 1)
    ]
    page = json.loads(
        run_here("audit", "--since", "1", "--limit", "1", "--json", store=store).stdout
    )
    assert ([one["subject"] for one in page["items"]], page["more"]) == ([ids[1]], True)
    assert "--since 1" in run_here("audit", "--since", "0", "--limit", "1", store=store).stderr
    assert (
        json.loads(
            run_here("audit", "--since", "2100-01-01T00:00:00Z", "--json", store=store).stdout
        )["items"]
        == []
    )
    assert (
        len(
            json.loads(run_here("audit", "--subject", ids[2], "--json", store=store).stdout)[
                "items"
            ]
        )
        == 1
    )
    command = [sys.executable, "-c", INTERRUPTIBLE, "audit", "-f", "--json", "--limit", "2"]
    with subprocess.Popen(
        command, env=environment(FAREGATE_STORE=store), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline()) for _ in range(2)]
        for one in ids:
            gate.tokens.deactivate(one)
        gate.tokens.delete(ids[0])
        told += [json.loads(process.stdout.readline()) for _ in range(4)]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stdout.read() == ""
    assert [one["sequence"] for one in told] == [2, 3, 4, 5, 6, 7]
    assert told[-1]["action"] == "token.delete"
    gate.close()


def test_a_follower_ends_with_its_reader(store: str) -> None:
    """Though nothing comes that it could print."""
    gate = Gate(store)
    gate.tokens.create(name="a")
    gate.close()
    line = f"{shlex.quote(sys.executable)} -m faregate audit -f --json | head -n 1"
    done = subprocess.run(
        ["sh", "-c", line],
        env=environment(FAREGATE_STORE=store),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (json.loads(done.stdout)["sequence"], done.stderr) == (1, "")


def test_a_follower_notices_that_the_store_was_replaced(tmp_path: Path) -> None:
    """After a restore, a follower shows new entries although their numbers were used before. A purge is no restore."""
    path, copy = tmp_path / "gate.db", tmp_path / "copy.db"
    gate = Gate(f"sqlite:///{path}")
    gate.tokens.create(name="a")
    gate.close()
    shutil.copy(path, copy)
    others = [gate.tokens.create(name=f"t{number}").token.id for number in range(3)]
    command = [
        sys.executable,
        "-c",
        INTERRUPTIBLE,
        "audit",
        "-f",
        "--json",
        "--limit",
        "1",
        "--since",
        "0",
    ]
    settings = environment(FAREGATE_STORE=f"sqlite:///{path}")
    with subprocess.Popen(
        command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = [json.loads(process.stdout.readline()) for _ in range(4)]
        assert [one["subject"] for one in told[1:]] == others
        time.sleep(0.01)
        assert gate.purge(0).entries == 3
        assert json.loads(process.stdout.readline())["action"] == "store.purge"
        gate.close()
        for suffix in ("-wal", "-shm"):  # which belong to the old file
            Path(f"{path}{suffix}").unlink()
        copy.replace(path)
        again = [gate.tokens.create(name=f"t{number}").token.id for number in range(5)]
        assert [json.loads(process.stdout.readline())["subject"] for _ in range(5)] == again
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr.read().count("replaced") == 1
    gate.close()


def into(store: str, streams: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a command comes to whose streams a shell has led elsewhere."""
    line = shlex.join([sys.executable, "-m", "faregate", *arguments])
    return subprocess.run(
        ["sh", "-c", f"{line} {streams}"],
        env=environment(FAREGATE_STORE=store),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_secret_that_cannot_be_shown_is_no_silence(store: str, more: list[str]) -> None:
    """With standard output closed, nothing is done. With it full, the error names the new record. A full standard error hides no secret."""
    gate = Gate(store)
    kept = gate.tokens.create(name="kept")
    share = gate.shares.create("x", scopes=["a"], expires_in=60)
    makers = (
        ["token", "create", "--name", "x"], ["token", "rotate", kept.token.id], ["share", "redeem", share.share.id],
        ["share", "create", "--object", "x", "--scope", "a", "--expires-in", "1h"],
    )  # fmt: skip
    for arguments in makers:
        shut = into(store, ">&-", *arguments, *more)
        assert (shut.returncode, "nothing was done" in shut.stderr) == (2, True)
    assert (gate.tokens.list().total, gate.shares.list().total, gate.verify(kept.secret).id) == (
        1,
        1,
        kept.token.id,
    )
    assert gate.shares.get(share.share.id).redemptions == 0
    for arguments in makers:
        full = into(store, ">/dev/full", *arguments, *more)
        assert (full.returncode, "its secret could not be written" in full.stderr) == (1, True), (
            full.stderr
        )
        assert "Traceback" not in full.stderr
    mute = into(store, "2>/dev/full", *makers[0], *more)
    assert SECRET.search(mute.stdout)
    full = into(store, ">/dev/full", "token", "list")
    assert (full.returncode, full.stderr) == (
        1,
        "Error: Cannot be written: No space left on device\n",
    )
    gate.close()


def test_looking_makes_no_store_of_another_file(tmp_path: Path) -> None:
    """The tables of somebody else stay alone, in their journal mode."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    for command in (
        ["token", "list"],
        ["audit"],
        ["db", "purge"],
        ["check"],
        ["token", "delete", "x"],
    ):
        refused = run(*command, store=f"sqlite:///{path}")
        assert (refused.returncode, "The store has no tables" in refused.stderr) == (1, True)
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"other.db"}


def test_reading_waits_for_no_writer(store: str) -> None:
    """An incident is no time to wait for a lock."""
    gate = Gate(store)
    gate.tokens.create(name="a")
    with gate._store.changing():
        began = time.monotonic()
        assert (
            run("token", "list", store=store).returncode
            == run("audit", store=store).returncode
            == 0
        )
        assert run("check", store=store, stdin=mint("fg", "tok")).returncode == 1
        assert time.monotonic() - began < 10
    gate.close()


def test_paths_of_any_kind(tmp_path: Path) -> None:
    """Bytes that are no text are a name, too; what cannot be reached is down, in one line."""
    odd = os.fsencode(f"sqlite:///{tmp_path}/") + b"\xff.db"
    for command in (["token", "create", "--name", "a"], ["token", "list"], ["doctor"]):
        done = subprocess.run(
            [sys.executable, "-m", "faregate", "--store", odd, *command],
            env=environment(),
            capture_output=True,
            check=False,
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    for command in (["token", "list"], ["doctor"], ["db", "status"]):
        far = run(*command, store=f"sqlite:///{tmp_path}/{'x' * 300}")
        assert (far.returncode, "File name too long" in far.stderr, "Traceback" in far.stderr) == (
            3,
            True,
            False,
        )


def test_an_upgrade_that_cannot_be_changes_nothing(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of a newer faregate, tables without a version, a writer in the way: a word each."""
    gate = Gate(store)
    gate.tokens.create(name="a")
    path = store.removeprefix("sqlite:///")
    monkeypatch.setattr("faregate.stores.migrations.WRITER_WAITS", 0.1)
    with gate._store.changing():
        locked = CliRunner().invoke(main, ["--store", store, "db", "upgrade"])
    assert (locked.exit_code, "database is locked" in locked.stderr) == (3, True)
    gate.close()
    for statement, code, words in (
        ("UPDATE faregate_schema SET version_num = '9999'", 1, "does not know"),
        ("DELETE FROM faregate_schema", 1, "lacks the row of faregate_schema"),
    ):
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        failed = run("db", "upgrade", store=store)
        assert (failed.returncode, words in failed.stderr, "Traceback" in failed.stderr) == (
            code,
            True,
            False,
        ), failed.stderr


def test_a_terminal_of_few_characters(store: str) -> None:
    """What it cannot show is spelt out."""
    gate = Gate(store)
    gate.tokens.create(name="\u017c\u0142w")
    gate.close()
    shown = run("token", "list", store=store, PYTHONIOENCODING="latin-1")
    assert (shown.returncode, r"\u017c\u0142w" in shown.stdout) == (0, True)


def test_purge(store: str) -> None:
    """What is old goes, the newest entry and every record stay."""
    gate = Gate(store)
    for number in range(5):
        gate.tokens.create(name=f"t{number}")
    purged = run("db", "purge", "--keep", "0s", "--json", store=store)
    assert json.loads(purged.stdout) == {
        "entries": 4,
        "secrets": 0,
        "makers": 0,
        "revocations": 0,
        "access": 0,
    }
    assert [entry.action for entry in gate.audit().items] == ["token.create", "store.purge"]
    assert gate.audit().items[-1].actor == "cli"
    assert run("db", "purge", store=store).stdout.startswith(
        "Removed 0 entries of the audit, 0 secrets"
    )
    assert gate.tokens.list().total == 5
    gate.close()


def test_the_same_commands_in_a_flask_application(tmp_path: Path) -> None:
    """With its own store, policy and proxies; and its help says what it is."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    settings = {
        "FAREGATE_STORE": store,
        "FAREGATE_BRAND": "acme",
        "FAREGATE_TRUSTED_PROXIES": '["192.0.2.0/24"]',
    }

    def flask(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return run_flask(*arguments, folder=tmp_path, stdin=stdin, **settings)

    made = flask("token", "create", "--name", "a", "--cidr", "10.0.0.0/8")
    assert (made.returncode, made.stdout[:9]) == (0, "acme_tok_")
    way = ("--peer", "192.0.2.1", "--forwarded", "10.0.0.1")
    assert flask("check", *way, stdin=made.stdout).returncode == 0
    assert run("--brand", "acme", "check", *way, store=store, stdin=made.stdout).returncode == 1
    listed = json.loads(flask("token", "list", "--json").stdout)
    assert listed["total"] == 1
    assert flask("token", "deactivate", "nothing").returncode == 1
    looked = flask("doctor")
    assert "192.0.2.0/24" in looked.stdout
    assert "note  application" in looked.stdout
    assert json.loads(flask("audit", "--json").stdout)["items"][0]["actor"] == "cli"
    assert flask("db", "upgrade").returncode == flask("db", "status").returncode == 0
    shown = flask("--help").stdout
    assert "Usage: python -m flask faregate" in shown
    assert {
        line.split()[0]
        for line in shown.partition("Commands:")[2].splitlines()
        if line.startswith("  ")
    } >= set(COMMANDS)
    made = run_flask("token", "list", folder=tmp_path, FAREGATE_STORE="sqlite://")
    assert (made.returncode, "in memory" in made.stderr) == (2, True)


def test_the_commands_know_what_the_application_knows(tmp_path: Path) -> None:
    """The rights of owners, asked in the application's context, and its policy."""
    app = Flask("x")
    app.config["FAREGATE_STORE"] = f"sqlite:///{tmp_path / 'gate.db'}"
    app.config["FAREGATE_POLICY"] = Policy(max_lifetime=60)
    app.config["FAREGATE_OWNER_RIGHTS"] = lambda owner: AllowedScopes(
        general_scopes=(current_app.name, owner.id)
    )
    gate = Faregate(app).gate
    runner = app.test_cli_runner()
    made = runner.invoke(
        args=[
            "faregate",
            "token",
            "create",
            "--name",
            "a",
            "--owner",
            "u",
            "--scope",
            "x",
            "--scope",
            "y",
        ]
    )
    assert (made.exit_code, gate.tokens.list().items[0].expires_at is None) == (0, False)
    assert (
        runner.invoke(
            args=["faregate", "token", "create", "--name", "a", "--expires-in", "1h"]
        ).exit_code
        == 2
    )
    secret = made.stdout.strip()
    assert runner.invoke(args=["faregate", "check", "--scope", "x"], input=secret).exit_code == 0
    shut = runner.invoke(args=["faregate", "check", "--scope", "y"], input=secret)
    assert (shut.exit_code, "but the owner has no right to it now" in shut.stdout) == (1, True)
    gate.close()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["token", "show", "nonsense"], 1, "There is no such token."),
        (["token", "update", "nonsense", "--name", "a"], 1, "There is no such token."),
        (["token", "update", "nonsense"], 2, "Nothing to change"),
        (["token", "update", "nonsense", "--no-scopes", "--scope", "a"], 2, "--no-scopes"),
        (["token", "update", "nonsense", "--cidr", "10.0.0.0/8", "--any-address"], 2, "--any-address"),
        (["token", "update", "nonsense", "--expires-at", "tomorrow"], 2, "2030-01-31T12:00:00Z"),
        (["token", "update", "nonsense", "--expires-at", "1900000000000"], 2, "milliseconds"),
        (["token", "create", "--name", "a", "--allowed-scopes", '{"scopes": []}'], 2, "scopes: no such member"),
        (["token", "create", "--name", "a", "--allowed-scopes", "{"], 2, "not JSON"),
        (["token", "rotate", "nonsense"], 1, "There is no such token."),
        (["token", "rotate", "nonsense", "--grace", "8d"], 2, "grace"),
        (["token", "activate", "nonsense"], 1, "There is no such token."),
        (["token", "delete", "nonsense"], 1, "There is no such token."),
        (["share", "create", "--object", "x", "--scope", "a"], 2, "expiresAt"),
        (["share", "create", "--object", "x", "--expires-in", "1h"], 2, "scopes"),
        (["share", "create", "--scope", "a", "--expires-in", "1h"], 2, "--object"),
        (["share", "create", "--object", "x", "--scope", "a", "--expires-at", "none"], 2, "expiresAt: required for a share"),
        (["share", "create", "--object", "x", "--scope", "a", "--expires-in", "1h", "--max-redemptions", "x"], 2, "no number"),
        (["share", "create", "--object", "x", "--scope", "a", "--expires-in", "1h", "--attributes", "[]"], 2, "a JSON object"),
        (["share", "show", "nonsense"], 1, "There is no such share."),
        (["share", "update", "nonsense"], 2, "Nothing to change"),
        (["share", "update", "nonsense", "--scope", "a"], 1, "There is no such share."),
        (["share", "redeem", "nonsense"], 1, "There is no such share."),
        (["share", "redeem", "nonsense", "--secret"], 2, "standard input"),
        (["share", "revoke", "nonsense"], 1, "There is no such share."),
        (["check", "--address", "10.0.0.1", "--peer", "10.0.0.1"], 2, "address"),
        (["check", "--forwarded", "10.0.0.1"], 2, "--peer"),
        (["check", "--scope", "a b"], 2, "need"),
        (["check", "--on", "x"], 2, "--on: give a need as well"),
        (["check", "--scope", "a", "--service", "x"], 2, "--service: give --permission or --role"),
        (["check", "--address", "10.0.0.1:443"], 2, "is no address"),
        (["check", "--address", "010.0.0.1"], 2, "is no address"),
        (["token", "create", "--name", "a", "--owner", ""], 2, "owner.id"),
        (["token", "create", "--name", "a", "--org", ""], 2, "org.id"),
        (["token", "list", "--expires-before", "none"], 2, "RFC 3339"),
        (["audit", "--since", "yesterday"], 2, "since"),
        (["audit", "--since", "9" * 5000], 2, "since"),
        (["audit", "--limit", "0"], 2, "limit"),
        (["db", "purge", "--keep", "long"], 2, "90d"),
        (["--trusted-proxy", "*", "check"], 2, "would trust every sender"),
        (["--forwarded-header", "x-real-ip", "check"], 2, "forwarded_header"),
    ],
)  # fmt: skip
def test_failures_of_every_command(
    shared_store: str, arguments: list[str], code: int, words: str
) -> None:
    """Failures have an exit code and an error text, also with ``--json``; standard output stays empty."""
    failed = run_here(*arguments, store=shared_store)
    assert (failed.returncode, words in failed.stderr, failed.stdout) == (code, True, ""), (
        failed.stderr
    )
    assert "Traceback" not in failed.stderr
    again = CliRunner().invoke(main, ["--store", shared_store, *arguments, "--json"])
    assert (again.exit_code, words in again.stderr, again.stdout) == (code, True, "")


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a file that no test of a failure changes."""
    url = f"sqlite:///{tmp_path_factory.mktemp('shared') / 'gate.db'}"
    Gate(url).close()
    return url


@pytest.mark.parametrize(
    "arguments",
    [
        ["token", "list"],
        ["share", "list"],
        ["check"],
        ["audit"],
        ["db", "status"],
        ["db", "upgrade"],
        ["db", "purge"],
        ["doctor"],
    ],
)
def test_a_file_that_is_no_database_is_told_everywhere(
    tmp_path: Path, arguments: list[str]
) -> None:
    """Whatever is asked of it, with the cause."""
    path = tmp_path / "gate.db"
    path.write_bytes(b"no database at all" * 100)
    path.chmod(0o600)
    store, secret = f"sqlite:///{path}", mint("fg", "tok")
    failed = run_here(*arguments, store=store, stdin=secret)
    code = 1 if arguments == ["doctor"] else 2
    assert (failed.returncode, "file is not a database" in failed.stderr + failed.stdout) == (
        code,
        True,
    )
    assert "Traceback" not in failed.stderr
    again = CliRunner().invoke(main, ["--store", store, *arguments, "--json"], input=secret)
    assert (again.exit_code, "file is not a database" in again.output) == (code, True)


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command, with the words that lead to it."""
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*one, id=" ".join(one[0])) for one in commands(main)]
)
def test_help_is_there(path: tuple[str, ...], command: click.Command) -> None:
    """For every command and option, in sentences; without a store, and in 80 columns."""
    shown = CliRunner().invoke(main, [*path, "--help"], prog_name="faregate", terminal_width=80)
    assert shown.exit_code == 0
    assert shown.stdout.startswith(" ".join(["Usage: faregate", *path]))
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert command.help
    assert command.help.strip().endswith(".")
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert not {"--secret-value", "--credential", "--token"} & set(option.opts)
    for line in shown.stdout.partition("Commands:\n")[2].splitlines():
        assert not line.endswith("..."), line


def test_help_of_a_real_process() -> None:
    """It names the commands and the exit codes."""
    shown = run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert set(
        re.findall(r"^  (\w+) ", shown.stdout.partition("Commands:")[2], re.MULTILINE)
    ) >= set(COMMANDS)
    assert "Exit codes: 0" in shown.stdout
    assert run("--version").stdout.strip().endswith(f"faregate, version {__version__}")


def test_no_secret_is_an_argument() -> None:
    """No command takes a secret as an argument: the list holds every argument that is no option."""
    arguments = {
        parameter.name
        for _, command in commands(main)
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    }
    assert arguments == {"token_id", "share_id"}


def test_a_credential_is_asked_for_where_there_is_a_terminal(store: str) -> None:
    """And not shown."""
    gate = Gate(store)
    secret = gate.tokens.create(name="a").secret
    gate.close()
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "faregate", "check"]
    with subprocess.Popen(
        command,
        env=environment(FAREGATE_STORE=store),
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
    ) as process:
        os.close(child)
        shown = b""
        while b"Credential" not in shown:
            shown += os.read(parent, 1024)
        os.write(parent, secret.encode() + b"\n")
        with suppress(OSError):  # the terminal's other end is closed
            while more := os.read(parent, 1024):
                shown += more
        assert process.wait(20) == 0
    os.close(parent)
    assert b"The route opens." in shown
    assert secret.encode() not in shown


def test_refresh_tokens(store: str) -> None:
    """They are made, shown, changed and rotated as the others are; whether they are replaced is an option."""
    secret = run(
        "token", "create", "--name", "s", "--type", "REFRESH", "--no-rotation", store=store
    ).stdout.strip()
    assert secret.startswith("fg_rft_")
    (shown,) = json.loads(
        run_here("token", "list", "--type", "REFRESH", "--json", store=store).stdout
    )["items"]
    assert (shown["requireRotation"], shown["expiresAt"] is None) == (False, False)
    assert json.loads(
        run_here("token", "update", shown["id"], "--rotation", "--json", store=store).stdout
    )["requireRotation"]
    checked = run_here("check", store=store, stdin=secret)
    assert (checked.returncode, "exchange it first" in checked.stdout) == (1, True)
    new = run_here("token", "rotate", shown["id"], store=store).stdout.strip()
    assert new.startswith("fg_rft_")
    assert run_here("token", "rotate", shown["id"], "--grace", "5m", store=store).returncode == 2
    gate = Gate(store)
    access = gate.tokens.exchange(new).access_token
    assert (
        "an access credential of a refresh token"
        in run_here("check", store=store, stdin=access).stdout
    )
    gate.revoke(new)
    gate.close()
    assert "its refresh token was revoked" in run_here("check", store=store, stdin=access).stdout
    assert " revoked " in run_here("token", "list", store=store).stdout
    assert run_here("token", "activate", shown["id"], store=store).returncode == 1
