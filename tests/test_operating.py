"""What the README says about operating a store: a backup while everything runs, and what restoring it revives."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from command_line import run
from conftest import reason_of

from faregate import Gate

pytestmark = pytest.mark.processes


def test_restoring_a_backup_as_the_readme_says(tmp_path: Path) -> None:
    """After a restore, later deactivations are undone and later tokens unknown. The saved audit log lists the changes to repeat."""
    path, copy = tmp_path / "gate.db", tmp_path / "copy.db"
    gate = Gate(f"sqlite:///{path}")
    closed, rotated, deleted, narrowed = (
        gate.tokens.create(name=name, scopes=["a"]) for name in "crdn"
    )
    share = gate.shares.create("x", scopes=["a"], expires_in=3600, params={"maxRedemptions": 1})
    gate.verify(closed.secret)
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)  # as ``.backup`` of the shell does
    source.close()
    target.close()
    copy.chmod(0o600)
    last = json.loads(run("audit", "--json", store=f"sqlite:///{copy}").stdout)["items"][-1][
        "sequence"
    ]

    gate.tokens.deactivate(closed.token.id)
    fresh = gate.tokens.rotate(rotated.token.id)
    gate.tokens.delete(deleted.token.id)
    gate.tokens.update(narrowed.token.id, scopes=["b"])
    gate.shares.redeem(share.share.id, secret=share.secret)
    gate.shares.revoke(share.share.id)
    issued = gate.tokens.create(name="new")
    gate.close()

    saved = run(
        "audit", "--since", str(last), "--limit", "1000", "--json", store=f"sqlite:///{path}"
    )
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    copy.replace(path)
    assert [one["action"] for one in json.loads(saved.stdout)["items"]] == [
        "token.deactivate", "token.rotate", "token.delete", "token.update", "share.redeem", "share.revoke", "token.create",
    ]  # fmt: skip

    gate = Gate(f"sqlite:///{path}")
    for secret in (closed.secret, rotated.secret, deleted.secret):
        assert reason_of(lambda secret=secret: gate.verify(secret)) == "ok"
    assert gate.verify(narrowed.secret).allows("a")
    assert gate.shares.redeem(share.share.id, secret=share.secret).object_ids == ("x",)
    for secret in (fresh.secret, issued.secret):
        assert reason_of(lambda secret=secret: gate.verify(secret)) == "unknown_credential"
    again = gate.tokens.deactivate(closed.token.id)
    assert again.deactivated
    assert gate.audit(limit=1).items[0].subject == closed.token.id
    gate.close()
    assert run("doctor", store=f"sqlite:///{path}").returncode == 0
