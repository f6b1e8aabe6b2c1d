"""Refresh tokens among real processes on one real file: one successor, no stale child, nobody locked out by a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import reason_of

from faregate import Exchanged, Gate, Issued

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SOAK = "SOAK" in os.environ
KILLS = 200 if SOAK else 8
EXCHANGES = 100_000 if SOAK else 300
TURNS = 20 if SOAK else 8

WORKER = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from faregate import Denied, Gate

gate = Gate(sys.argv[1])
barrier = Barrier(10)

def exchange(secret):
    barrier.wait()
    try:
        answer = gate.tokens.exchange(secret)
    except Denied as denied:
        return denied.reason, None
    return answer.refresh_token, answer.access_token

def judge(secret, scope, address):
    try:
        gate.verify(secret, address=address).require(scope)
    except Denied as denied:
        return denied.reason
    return "ok"

with ThreadPoolExecutor(10) as threads:
    for line in sys.stdin:
        call, *arguments = json.loads(line)
        told = list(threads.map(exchange, arguments * 10)) if call == "exchange" else judge(*arguments)
        print(json.dumps(told), flush=True)
"""
Ask = Callable[..., Any]


@contextmanager
def another_process(store: str) -> Iterator[tuple[Ask, Ask]]:
    """A process with a gate of its own: what tells it to do something, and what waits for its answer."""
    command = [sys.executable, "-c", WORKER, store]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def tell(*call: str | None) -> None:
            assert process.stdin is not None
            process.stdin.write(json.dumps(call) + "\n")
            process.stdin.flush()

        def hear() -> Any:
            assert process.stdout is not None
            return json.loads(process.stdout.readline())

        yield tell, hear
        process.kill()


def test_twenty_clients_in_two_processes_get_one_successor(tmp_path: Path) -> None:
    """Turn by turn: the same refresh credential for all, an access credential for each."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)
    made = gate.tokens.create(name="s", type="REFRESH", scopes=["a"])
    with (
        another_process(store) as (tell_one, hear_one),
        another_process(store) as (tell_other, hear_other),
    ):
        secret = made.secret
        for _ in range(TURNS):
            tell_one("exchange", secret)
            tell_other("exchange", secret)
            answers = hear_one() + hear_other()
            (secret,) = {successor for successor, _ in answers}
            assert secret.startswith("fg_rft_")
            assert len({access for _, access in answers}) == 20
            assert all(gate.verify(access).allows("a") for _, access in answers)
    assert [entry.action for entry in gate.audit().items] == ["token.create"]
    gate.close()


def test_a_retired_credential_revokes_once_whoever_comes(tmp_path: Path) -> None:
    """Twenty at once, in two processes: all are refused, and the audit says it once."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)
    made = gate.tokens.create(name="s", type="REFRESH")
    newest = gate.tokens.exchange(str(gate.tokens.exchange(made.secret).refresh_token))
    with (
        another_process(store) as (tell_one, hear_one),
        another_process(store) as (tell_other, hear_other),
    ):
        tell_one("exchange", made.secret)
        tell_other("exchange", made.secret)
        assert {reason for reason, _ in hear_one() + hear_other()} == {"revoked"}
    assert reason_of(lambda: gate.verify(newest.access_token)) == "revoked"
    assert [entry.action for entry in gate.audit().items] == ["token.create", "token.reuse"]
    gate.close()


def reuse(gate: Gate, made: Issued, answer: Exchanged) -> None:
    """Have the family revoked by a credential whose successor was exchanged."""
    gate.tokens.exchange(str(answer.refresh_token))
    assert reason_of(lambda: gate.tokens.exchange(made.secret)) == "revoked"


# What ends a child, and the reason for which it is refused from then on.
ENDS: dict[str, tuple[Callable[[Gate, Issued, Exchanged], Any], str]] = {
    "deactivated": (lambda gate, made, _: gate.tokens.deactivate(made.token.id), "deactivated"),
    "narrowed": (
        lambda gate, made, _: gate.tokens.update(made.token.id, scopes=["b"]),
        "insufficient_scope",
    ),
    "moved": (
        lambda gate, made, _: gate.tokens.update(
            made.token.id, allowed_cidr_blocks=["192.0.2.0/24"]
        ),
        "address_not_allowed",
    ),
    "expired": (
        lambda gate, made, _: gate.tokens.update(made.token.id, expires_in=0.001),
        "expired",
    ),
    "deleted": (lambda gate, made, _: gate.tokens.delete(made.token.id), "unknown_credential"),
    "reused": (reuse, "revoked"),
    "revoked": (lambda gate, made, _: gate.revoke(made.secret), "revoked"),
    "leaked": (
        lambda gate, made, _: gate.tokens.rotate(made.token.id, leaked=True),
        "unknown_credential",
    ),
    "revoked itself": (
        lambda gate, _, answer: gate.revoke(answer.access_token),
        "unknown_credential",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_child_stops_with_its_parent_in_another_process(tmp_path: Path, end: str) -> None:
    """Turn by turn: what happens to the family here, the very next request there is judged by."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)

    with another_process(store) as (tell, hear):
        for _ in range(TURNS):
            made = gate.tokens.create(name="s", type="REFRESH", scopes=["a", "b"])
            answer = gate.tokens.exchange(made.secret, ["a"])
            access = answer.access_token
            tell("judge", access, "a", "198.51.100.1")
            assert hear() == "ok"
            change, reason = ENDS[end]
            change(gate, made, answer)
            tell("judge", access, "a", "198.51.100.1")
            assert hear() == reason
    gate.close()


def test_whoever_is_killed_in_an_exchange_comes_through(tmp_path: Path) -> None:
    """Server and client, each at each of its steps: no client is locked out, no credential has two successors."""
    script = Path(__file__).parent.parent / "support" / "exchange_kills.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path, str(KILLS)], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    killed = told.pop("killed")
    assert killed["server"] + killed["client"] >= KILLS * 0.8
    assert min(killed.values()) >= KILLS * 0.4
    assert told.pop("exchanges") >= KILLS
    assert told.pop("repeated") >= KILLS * 0.1  # answers were lost, and asked for again
    assert told == {
        "failed": 0,
        "twins": 0,
        "secrets": 1,
        "in step": True,
        "audit": ["token.create"],
    }, done.stderr


def test_a_store_does_not_grow_with_exchanges(tmp_path: Path) -> None:
    """After so many exchanges, and a purge, it is hardly larger than after the first tenth of them."""
    path, now = tmp_path / "gate.db", [1_000_000.0]
    gate = Gate(f"sqlite:///{path}", clock=lambda: now[0])
    secrets = [gate.tokens.create(name="s", type="REFRESH", scopes=["a"]).secret for _ in range(10)]
    sizes: list[tuple[int, int]] = []
    for number in range(EXCHANGES):
        if number % (EXCHANGES // 10) == 0 and number:
            gate.purge()
            with gate._store.reading() as reading:
                ask = reading._connection.exec_driver_sql
                pages, free = (
                    ask(f"PRAGMA {name}").scalar_one() for name in ("page_count", "freelist_count")
                )
            sizes.append((pages, pages - free))
        secrets[number % 10] = str(gate.tokens.exchange(secrets[number % 10]).refresh_token)
        now[0] += 6_000_000 / EXCHANGES
    gate.close()
    first, *_, last = sizes
    assert last[0] <= first[0] * 1.3
    assert last[1] <= first[1] * 1.3
