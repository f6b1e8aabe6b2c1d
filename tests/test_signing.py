"""The signing secret: given, from the environment, or made once beside the database."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import reason_of

from faregate import Gate, InvalidInput, StoreUnavailable
from faregate.signing import SigningSecret

OLD, NEW = "old" * 16, "new" * 16
PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----"


def redeemed(gate: Gate) -> str:
    """A token of a new share."""
    made = gate.shares.create("x", scopes=["a"], expires_in=timedelta(hours=1))
    return gate.shares.redeem(made.share.id, secret=made.secret).token


def test_it_is_made_once_beside_the_database(tmp_path: Path) -> None:
    """With mode 0600, on the first redemption, and every process takes the same."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    key = tmp_path / "gate.db.key"
    one, two = Gate(url), Gate(url)
    assert reason_of(lambda: one.verify("eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.x")) == "unknown_credential"
    assert not key.exists()
    token = redeemed(one)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    made = key.read_bytes()
    assert two.verify(token).kind == one.verify(redeemed(two)).kind == "share"
    assert key.read_bytes() == made
    assert made.strip() not in (tmp_path / "gate.db").read_bytes() + (tmp_path / "gate.db-wal").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "gate.db", "gate.db-page", "gate.db-shm", "gate.db-wal", "gate.db.key",
    ]  # fmt: skip
    one.close()
    two.close()


def test_two_that_make_it_at_once_agree(tmp_path: Path) -> None:
    """Threads and processes that come first together take the same secret."""
    path = tmp_path / "gate.db"
    path.touch()
    script = f"from faregate.signing import SigningSecret; print(SigningSecret(None, {str(path)!r}).newest().hex())"
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(SigningSecret(None, str(path)).newest().hex())) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found += [process.communicate()[0].strip() for process in processes]
    assert len(set(found)) == 1
    assert {one.name for one in tmp_path.iterdir()} == {"gate.db", "gate.db.key"}


def test_a_list_is_read_newest_first(tmp_path: Path) -> None:
    """What an old secret signed still counts while it is in the list; then it does not."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    before = Gate(url, secret=OLD)
    token = redeemed(before)
    between, after = Gate(url, secret=[NEW, OLD]), Gate(url, secret=[NEW.encode()])
    assert between.verify(token).kind == "share"
    assert reason_of(lambda: after.verify(token)) == "unknown_credential"
    assert after.verify(redeemed(between)).kind == "share"
    assert not (tmp_path / "gate.db.key").exists()
    for gate in (before, between, after):
        gate.close()


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAREGATE_SECRET is read where no argument is given; commas and white space stand between secrets."""
    monkeypatch.setenv("FAREGATE_SECRET", f"{NEW},\n {OLD}")
    assert SigningSecret(None, None).known() == (NEW.encode(), OLD.encode())
    assert SigningSecret(OLD, None).known() == (OLD.encode(),)
    monkeypatch.setenv("FAREGATE_SECRET", "short")
    with pytest.raises(InvalidInput, match="FAREGATE_SECRET: 32 bytes"):
        Gate("sqlite://")


@pytest.mark.parametrize(
    "secret",
    ["", "x" * 31, b"", b"x" * 31, [], [""], ["x" * 32, "short"], 5, [5], "\ud800" * 40, {"a"}, PEM, [PEM.encode()]],
)
def test_secrets_that_are_none_are_refused(secret: object) -> None:
    """Too short, of another type, or a key of another kind, which others may know."""
    with pytest.raises(InvalidInput, match="secret"):
        Gate("sqlite://", secret=secret)  # type: ignore[arg-type]


def test_in_memory_it_is_of_this_process() -> None:
    """Each gate has its own."""
    one, two = Gate("sqlite://"), Gate("sqlite://")
    token = redeemed(one)
    assert one.verify(token).kind == "share"
    assert reason_of(lambda: two.verify(token)) == "unknown_credential"


@pytest.mark.parametrize("content", ["", "short", "\n"])
def test_a_broken_file_closes_redemption_and_nothing_else(tmp_path: Path, content: str) -> None:
    """503 for what it signs, and all else goes on; nothing is counted."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    made = gate.shares.create("x", scopes=["a"], expires_in=60)
    token = gate.shares.redeem(made.share.id, secret=made.secret).token
    assert gate.verify(token).kind == "share"
    (tmp_path / "gate.db.key").write_text(content)
    with pytest.raises(StoreUnavailable):
        gate.shares.redeem(made.share.id, secret=made.secret)
    assert gate.shares.get(made.share.id).redemptions == 1
    assert gate.verify(made.secret).kind == gate.verify(token).kind == "share"
    fresh = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    assert reason_of(lambda: fresh.verify(token)) == "store_unavailable"
    gate.close()
    fresh.close()
