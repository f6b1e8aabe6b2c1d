"""Redemptions at once: counted exactly, on threads and in a second process; and what a share costs the cache."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock, reason_of

from faregate import AllowedScopes, Denied, Gate, Owner
from faregate.stores.record_cache import _SIBLINGS  # pyright: ignore[reportPrivateUsage]
from faregate.stores.sqlite.lookup import SqliteLookup

HOUR = timedelta(hours=1)

REDEEMER = """
import sys, threading
from faregate import Denied, Gate
gate = Gate(sys.argv[1])
gate.shares.get(sys.argv[2])
told = []
def redeem():
    try:
        gate.shares.redeem(sys.argv[2], secret=sys.argv[3])
        told.append("redeemed")
    except Denied as denied:
        told.append(denied.reason)
threads = [threading.Thread(target=redeem) for _ in range(50)]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(" ".join(told), flush=True)
"""


@pytest.mark.processes
@pytest.mark.slow
def test_trap_8_fifty_threads_and_two_processes_redeem_exactly_ten(tmp_path: Path) -> None:
    """``maxRedemptions: 10`` means ten, whoever comes at once."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(url)
    made = gate.shares.create("x", scopes=["a"], expires_in=HOUR, params={"maxRedemptions": 10})
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REDEEMER, url, made.share.id, made.secret],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = Counter(
        word for process in processes for word in process.communicate(timeout=60)[0].split()
    )
    assert told == {"redeemed": 10, "redemptions_exhausted": 90}
    assert gate.shares.get(made.share.id).redemptions == 10
    gate.close()


def test_trap_8_fifty_threads_in_memory(clock: Clock) -> None:
    """And so in one process, in memory."""
    gate = Gate("sqlite://", clock=clock)
    made = gate.shares.create("x", scopes=["a"], expires_in=HOUR, params={"maxRedemptions": 10})
    told: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: told.append(
                reason_of(lambda: gate.shares.redeem(made.share.id, secret=made.secret))
            )
        )
        for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(told) == {"ok": 10, "redemptions_exhausted": 40}


def test_trap_8_the_statement_itself_counts_no_more_than_there_are(gate: Gate) -> None:
    """Whatever was read before it: the last one counts, and none after it, nor after the revocation."""
    made = gate.shares.create("x", scopes=["a"], expires_in=HOUR, params={"maxRedemptions": 2})
    endless = gate.shares.create("x", scopes=["a"], expires_in=HOUR)
    with gate._store.changing() as change:
        assert [change.shares.count_redemption(made.share.id) for _ in range(4)] == [
            True,
            True,
            False,
            False,
        ]
        assert [change.shares.count_redemption(endless.share.id) for _ in range(3)] == [True] * 3
    gate.shares.revoke(endless.share.id)
    with gate._store.changing() as change:
        assert not change.shares.count_redemption(endless.share.id)
    assert gate.shares.get(made.share.id).redemptions == 2


@pytest.mark.parametrize(
    ("change", "secret", "reason"),
    [
        ({"params": {"allowedCidrBlocks": ["10.0.0.0/8"]}}, True, "address_not_allowed"),
        ({"params": {"maxRedemptions": 1}}, True, "redemptions_exhausted"),
        ({"params": {"scopes": ["a", "b"]}}, False, "insufficient_scope"),
    ],
)
def test_a_redemption_is_judged_again_in_its_transaction(
    change: dict[str, Any], secret: bool, reason: str, clock: Clock
) -> None:
    """What is changed after the first look counts, though the counting statement does not know of it."""
    waiting: list[bool] = []

    def hook(owner: Owner) -> AllowedScopes:
        # The application is asked about the share's maker between the two looks.
        if owner.id == "ann" and waiting:
            waiting.pop()
            gate.shares.update(made.share.id, **change)
        return AllowedScopes(general_scopes=("*",))

    gate = Gate("sqlite://", clock=clock, owner_rights=hook, owner_rights_ttl=0)
    maker = gate.verify(
        gate.tokens.create(name="t", scopes=["a", "b", "gate:shares:*"], owner=Owner("ann")).secret
    )
    made = gate.shares.create(
        "x", scopes=["a"], expires_in=HOUR, params={"maxRedemptions": 5}, by=maker
    )
    gate.shares.redeem(made.share.id, secret=made.secret)
    admin = gate.tokens.create(
        name="t", scopes=["a", "gate:shares:read", "gate:admin"], owner=Owner("bob")
    )
    caller = {"secret": made.secret} if secret else {"by": gate.verify(admin.secret)}
    waiting.append(True)
    assert (
        reason_of(lambda: gate.shares.redeem(made.share.id, address="192.0.2.1", **caller))
        == reason
    )
    assert (waiting, gate.shares.get(made.share.id).redemptions) == ([], 1)


def test_a_share_is_read_once_for_all_of_its_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it opens is not copied, redeeming drops nothing, and one share does not fill the cache."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    asked: list[str] = []
    original = SqliteLookup.share_of

    def counted(self: SqliteLookup, share_id: str) -> object:
        asked.append(share_id)
        return original(self, share_id)

    monkeypatch.setattr(SqliteLookup, "share_of", counted)
    made = gate.shares.create("x", object_ids=["y"], scopes=["a"], expires_in=HOUR)
    records = []
    for _ in range(5):
        token = gate.shares.redeem(made.share.id, secret=made.secret).token
        records.append(gate.verify(token).compiled)
    assert len(asked) == 1
    assert len({id(record.grants) for record in records}) == 1
    assert len({record.digest for record in records}) == 5
    gate.shares.update(made.share.id, params={"scopes": ["b"]})
    assert gate.verify(token).allows("b", on="y")
    assert len(asked) == 2
    for number in range(_SIBLINGS + 50):
        text = gate.shares._tokens.mint(made.share.id, float(number), 7e9)[0]
        assert reason_of(lambda text=text: gate.verify(text)) == "ok"
    assert len(gate._records._records.by_digest) == _SIBLINGS
    gate.close()


def test_a_token_of_a_stolen_secret_lives_no_longer_than_any(tmp_path: Path) -> None:
    """Whatever its claims say: a quarter of an hour after it was seen it is read again, with the secrets of then."""
    clock = Clock()
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}", clock=clock)
    made = gate.shares.create("x", scopes=["a"], expires_in=timedelta(days=999))
    forged = gate.shares._tokens.mint(made.share.id, 0.0, 7e9)[0]
    assert gate.verify(forged).kind == "share"
    clock.now += 900
    with pytest.raises(Denied, match="expired"):
        gate.verify(forged)
    gate.close()
