"""What unknown credentials cost: counted, not timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from faregate import Denied, Gate
from faregate.credentials import answers
from faregate.credentials.opaque import OpaqueKind, mint
from faregate.credentials.presented import RequestValues


def refused(gate: Gate, secret: str) -> Denied:
    """Return why an event loop that presents this is refused."""
    with pytest.raises(Denied) as raised:
        gate.requests.identify(RequestValues([f"Bearer {secret}"], "127.0.0.1"), wait=False)
    return raised.value


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Return a gate whose connection for look-ups is open."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    gate.verify(gate.tokens.create(name="known", scopes=["docs:read"]).secret)
    return gate


def statements(gate: Gate, call: Callable[[], object]) -> list[str]:
    """Return the look-ups that a call makes."""
    found: list[str] = []
    connection = gate._records._lookup.connection
    connection.set_trace_callback(found.append)
    call()
    connection.set_trace_callback(None)
    return [text for text in found if "digest" in text]


@pytest.mark.parametrize("kind", ["tok", "act", "shr"])
def test_an_unknown_credential_is_one_statement_once(gate: Gate, kind: OpaqueKind) -> None:
    """An unknown credential costs one statement the first time, and none later. Malformed credentials cost none."""
    unknown = [mint("fg", kind) for _ in range(20)]
    assert len(statements(gate, lambda: [refused(gate, secret) for secret in unknown])) == 20
    assert statements(gate, lambda: [refused(gate, secret) for secret in unknown * 3]) == []
    assert (
        statements(gate, lambda: [refused(gate, f"{secret[:-6]}000000") for secret in unknown])
        == []
    )
    assert statements(gate, lambda: [refused(gate, f"x{secret}") for secret in unknown]) == []


def test_a_remembered_unknown_waits_for_no_look_up(gate: Gate) -> None:
    """It is refused on an event loop while another thread holds the lock for a look-up of its own."""
    unknown = mint("fg", "tok")
    first = refused(gate, unknown)
    held, done = Event(), Event()

    def look_up() -> None:
        with gate._records._lock:
            held.set()
            done.wait(30)

    other = Thread(target=look_up)
    other.start()
    held.wait(30)
    gate._records.look_at = float("inf")  # no look at the files falls due meanwhile
    try:
        again = refused(gate, unknown)
    finally:
        gate._records.look_at = 0.0
        done.set()
        other.join()
    assert (again.reason, again.address, again.why) == (first.reason, first.address, first.why)


def test_a_remembered_unknown_is_looked_up_again_after_a_minting(gate: Gate) -> None:
    """A secret that anybody minted may be the one that was refused."""
    unknown = mint("fg", "tok")
    refused(gate, unknown)
    gate.tokens.create(name="new", scopes=["docs:read"])
    assert len(statements(gate, lambda: refused(gate, unknown))) == 1


def test_answers_that_are_kept_are_few_and_nobody_s_own(gate: Gate) -> None:
    """Details of the application's own fill no memory, and who changes an answer's headers changes no other's."""
    for number in range(1_000):
        gate.requests.answer(Denied("insufficient_scope", f"Not {number}."), route="-")
    assert answers._denial_body.cache_info().currsize <= 64
    first = gate.requests.answer(Denied("unknown_credential"), route="-")
    first.headers.clear()
    again = gate.requests.answer(Denied("unknown_credential"), route="-")
    assert [name for name, _ in again.headers] == [
        "Content-Type",
        "Cache-Control",
        "WWW-Authenticate",
    ]
    assert b"unknown_credential" in again.body
