"""The record cache: as fresh as the newest change, bounded, and closed where the store cannot answer."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from conftest import Clock, reason_of

from faregate import AllowedScopes, Conflict, Gate, Owner, StoreUnavailable
from faregate.credentials.opaque import mint
from faregate.decision.owner_rights import OwnerRights
from faregate.stores import database, record_cache
from faregate.stores.sqlite.lookup import SqliteLookup

Make = Callable[..., Gate]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a database."""
    return tmp_path / "gate.db"


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The digests that the store was asked for."""
    asked: list[bytes] = []
    original = SqliteLookup.token

    def record(self: SqliteLookup, digest: bytes) -> Any:
        asked.append(digest)
        return original(self, digest)

    monkeypatch.setattr(SqliteLookup, "token", record)
    return asked


def edit(path: Path, statement: str, *values: object) -> None:
    """Change the database behind the package's back."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def cut_off(call: Callable[[], object], name: str, lines: int) -> bool:
    """Whether a call ended before a signal's handler raised: after so many lines of functions of this name."""
    left = lines

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_name == name and event == "line":
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return False
    finally:
        sys.settrace(before)
    return True


def test_what_is_cut_off_while_it_forgets_forgets_the_rest_next_time(gate: Gate) -> None:
    """Nothing is at hand that no change could drop, wherever it was cut off."""
    made = gate.shares.create("x", ["y"], scopes=["a"], expires_in=60)
    tokens = [gate.shares.redeem(made.share.id, secret=made.secret).token for _ in range(3)]
    records, lines, ended = gate._records._records, 0, False
    while not ended:
        for token in tokens:
            gate.verify(token)
        ended = cut_off(lambda: records.drop(made.share.id), "_remove", lines)
        records.drop(made.share.id)
        assert not records.by_digest
        lines += 1
    assert lines > len(tokens)


def test_a_known_credential_is_looked_up_once(gate: Gate, lookups: list[bytes]) -> None:
    """Further uses are answered from memory."""
    secret = gate.tokens.create(name="a").secret
    for _ in range(10):
        gate.verify(secret)
    assert len(lookups) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda gate, token_id: gate.tokens.deactivate(token_id), "deactivated"),
        (lambda gate, token_id: gate.tokens.rotate(token_id), "unknown_credential"),
        (lambda gate, token_id: gate.tokens.delete(token_id), "unknown_credential"),
        (
            lambda gate, token_id: gate.tokens.update(token_id, not_before=2_000_000),
            "not_yet_valid",
        ),
        (
            lambda gate, token_id: gate.tokens.update(token_id, allowed_cidr_blocks=["192.0.2.1"]),
            "address_not_allowed",
        ),
    ],
)
@pytest.mark.parametrize("by", ["itself", "another"])
def test_a_change_is_seen_by_the_next_request(
    path: Path, make_gate: Make, change: Any, reason: str, by: str
) -> None:
    """In the gate that changed it, and in another on the same file."""
    reader = make_gate(f"sqlite:///{path}")
    writer = reader if by == "itself" else make_gate(f"sqlite:///{path}")
    issued = writer.tokens.create(name="a")
    assert reason_of(lambda: reader.verify(issued.secret, address="10.0.0.1")) == "ok"
    change(writer, issued.token.id)
    assert reason_of(lambda: reader.verify(issued.secret, address="10.0.0.1")) == reason


def test_only_what_changed_is_dropped(path: Path, make_gate: Make, lookups: list[bytes]) -> None:
    """A change of one token costs the others nothing."""
    gate = make_gate(f"sqlite:///{path}")
    issued = [gate.tokens.create(name="a") for _ in range(5)]
    for one in issued:
        gate.verify(one.secret)
    gate.tokens.update(issued[0].token.id, name="b")
    for one in issued:
        gate.verify(one.secret)
    assert len(lookups) == 6


def test_a_thousand_simultaneous_first_uses_make_one_look_up(
    gate: Gate, lookups: list[bytes]
) -> None:
    """Threads that come at once wait for the one that asks."""
    secret = gate.tokens.create(name="a").secret
    barrier = threading.Barrier(50)
    passed: list[str] = []

    def use() -> None:
        barrier.wait()
        passed.extend(gate.verify(secret).id for _ in range(20))

    threads = [threading.Thread(target=use) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 1000
    assert len(lookups) == 1


def test_junk_is_junk_while_the_store_is_down(path: Path, make_gate: Make) -> None:
    """What its text refuses is refused without the store; only what could be known is 503."""
    gate = make_gate(f"sqlite:///{path}")
    gate.close()
    path.unlink()
    found = [
        reason_of(lambda text=text: gate.verify(text))
        for text in ("", "a b", "junk", mint("fg", "rft"))
    ]
    assert found == [
        "malformed_credential",
        "malformed_credential",
        "unknown_credential",
        "unknown_credential",
    ]
    assert reason_of(lambda: gate.verify(mint("fg", "tok"))) == "store_unavailable"


def test_junk_makes_no_look_up(gate: Gate, lookups: list[bytes]) -> None:
    """What is not of the form is refused from its text alone."""
    for text in (
        "",
        "x",
        "a" * 9000,
        "fg_tok_" + "0" * 49,
        mint("fg", "rft"),
        mint("other", "tok"),
        "a.b.c",
        "\ud800",
        "é",
    ):
        assert reason_of(lambda text=text: gate.verify(text)) in {
            "unknown_credential",
            "malformed_credential",
        }
    assert lookups == []


def test_an_unknown_credential_is_remembered_until_a_secret_is_minted(
    gate: Gate, lookups: list[bytes]
) -> None:
    """A repeated one costs one look-up; a new secret makes everything unknown worth asking again."""
    stranger, token_id = mint("fg", "tok"), gate.tokens.create(name="a").token.id
    for _ in range(5):
        assert reason_of(lambda: gate.verify(stranger)) == "unknown_credential"
    gate.tokens.update(token_id, name="b")
    assert reason_of(lambda: gate.verify(stranger)) == "unknown_credential"
    assert len(lookups) == 1
    gate.tokens.create(name="a")
    assert reason_of(lambda: gate.verify(stranger)) == "unknown_credential"
    assert len(lookups) == 2


def test_a_flood_of_unknown_credentials_evicts_nothing_good(
    gate: Gate, lookups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have a cache of their own, and it is bounded."""
    records = record_cache.RecordCache(gate._store, OwnerRights(None, 0), capacity=100)
    monkeypatch.setattr(gate._verifier, "_records", records)
    secret = gate.tokens.create(name="a").secret
    gate.verify(secret)
    for _ in range(1000):
        assert reason_of(lambda: gate.verify(mint("fg", "tok"))) == "unknown_credential"
    before = len(lookups)
    gate.verify(secret)
    assert len(lookups) == before
    assert len(records._unknown) <= 100


def test_the_cache_of_records_is_bounded(gate: Gate) -> None:
    """The oldest is given up, and what it was filed under with it."""
    records = record_cache.RecordCache(gate._store, OwnerRights(None, 0), capacity=10)
    gate._verifier._records = records
    secrets = [gate.tokens.create(name="a").secret for _ in range(30)]
    for secret in secrets * 2:
        gate.verify(secret)
    assert len(records._records.by_digest) == 10
    assert len(records._records._digests) == 10


def test_cached_and_uncached_decide_alike(path: Path, make_gate: Make, clock: Clock) -> None:
    """At every instant, with every address, a warm cache says what a cold one says."""
    warm = make_gate(f"sqlite:///{path}")
    issued = warm.tokens.create(
        name="a", not_before=clock.now + 10, expires_in=20, allowed_cidr_blocks=["10.0.0.0/8"]
    )
    rotated = warm.tokens.rotate(issued.token.id, grace=15)
    start = clock.now
    for step in (0, 9.999, 10, 14.999, 15, 19.999, 20, 1e9, 5):
        clock.now = start + step
        cold = make_gate(f"sqlite:///{path}")
        for secret in (issued.secret, rotated.secret):
            for address in ("10.0.0.1", "192.0.2.1", None, "junk"):
                decisions = {
                    reason_of(lambda g=g, s=secret, a=address: g.verify(s, address=a))
                    for g in (warm, cold)
                }
                assert len(decisions) == 1


@pytest.mark.parametrize(
    "tampered", ["nonsense", '["nonsense"]', '["10.0.0.1/8"]', "{}", "[1]", ""]
)
def test_a_stored_list_that_no_longer_parses_admits_nobody(
    path: Path, make_gate: Make, tampered: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It denies, with an alarm in the log; it is never skipped."""
    issued = make_gate(f"sqlite:///{path}").tokens.create(
        name="a", allowed_cidr_blocks=["10.0.0.0/8"]
    )
    edit(path, "UPDATE faregate_tokens SET allowed_cidr_blocks = ?", tampered)
    gate = make_gate(f"sqlite:///{path}")
    assert (
        reason_of(lambda: gate.verify(issued.secret, address="10.0.0.1")) == "address_not_allowed"
    )
    assert any(
        record.levelno == logging.ERROR and issued.token.id in record.getMessage()
        for record in caplog.records
    )


@pytest.mark.parametrize("packed", [b"", b"x", b"\x00" * 40, None])
def test_packed_ranges_that_do_not_fit_are_made_anew(
    path: Path, make_gate: Make, packed: bytes | None
) -> None:
    """The texts are the truth."""
    issued = make_gate(f"sqlite:///{path}").tokens.create(
        name="a", allowed_cidr_blocks=["10.0.0.0/8"]
    )
    edit(path, "UPDATE faregate_tokens SET networks = ?", packed)
    gate = make_gate(f"sqlite:///{path}")
    assert reason_of(lambda: gate.verify(issued.secret, address="10.0.0.1")) == "ok"
    assert (
        reason_of(lambda: gate.verify(issued.secret, address="11.0.0.1")) == "address_not_allowed"
    )


@pytest.mark.parametrize(
    "tampered",
    ["nonsense", "[]", '{"generalScopes": ["a:*:b"]}', '{"generalScopes": "*"}', '{"unknown": 1}'],
)
def test_stored_scopes_that_no_longer_parse_grant_nothing(
    path: Path, make_gate: Make, tampered: str
) -> None:
    """Broken scopes are no scopes."""
    issued = make_gate(f"sqlite:///{path}").tokens.create(name="a", scopes=["docs:read"])
    edit(path, "UPDATE faregate_tokens SET allowed_scopes = ?", tampered)
    gate = make_gate(f"sqlite:///{path}")
    assert not gate.verify(issued.secret).allows("docs:read")


def test_a_database_that_is_gone_closes_the_gate(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, never 401 and never open; no empty database is made in its place; and it recovers."""
    monkeypatch.setattr(database, "LOOK_EVERY", 0.0)
    gate = make_gate(f"sqlite:///{path}")
    secret = gate.tokens.create(name="a").secret
    gate.verify(secret)
    away = path.with_suffix(".away")
    path.rename(away)
    assert reason_of(lambda: gate.verify(secret)) == "store_unavailable"
    assert reason_of(lambda: gate.verify(mint("fg", "tok"))) == "store_unavailable"
    with pytest.raises(StoreUnavailable):
        gate.tokens.create(name="b")
    assert not path.exists()
    away.rename(path)
    gate.verify(secret)


def test_a_database_that_was_replaced_is_read_anew(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that is put in place counts; what was cached of the other file does not."""
    monkeypatch.setattr(database, "LOOK_EVERY", 0.0)
    gate = make_gate(f"sqlite:///{path}")
    kept = gate.tokens.create(name="kept")
    gate.close()
    shutil.copy(path, path.with_suffix(".backup"))
    later = gate.tokens.create(name="later")
    gate.tokens.deactivate(kept.token.id)
    assert reason_of(lambda: gate.verify(kept.secret)) == "deactivated"
    gate.verify(later.secret)
    gate.close()
    path.with_suffix(".backup").replace(path)
    assert reason_of(lambda: gate.verify(later.secret)) == "unknown_credential"
    gate.verify(kept.secret)
    gate.tokens.deactivate(kept.token.id)
    assert reason_of(lambda: gate.verify(kept.secret)) == "deactivated"


@pytest.mark.parametrize("harm", ["removed", "replaced", "emptied"])
def test_a_page_that_is_harmed_is_noticed(path: Path, make_gate: Make, harm: str) -> None:
    """A reader on the old page hears of changes all the same."""
    reader, writer = make_gate(f"sqlite:///{path}"), make_gate(f"sqlite:///{path}")
    issued = writer.tokens.create(name="a")
    reader.verify(issued.secret)
    file = path.with_name("gate.db-page")
    if harm == "removed":
        file.unlink()
    elif harm == "replaced":
        file.unlink()
        file.write_bytes(bytes(8))
    else:
        file.write_bytes(bytes(8))
    writer.tokens.deactivate(issued.token.id)
    assert reason_of(lambda: reader.verify(issued.secret)) == "deactivated"
    writer.tokens.activate(issued.token.id)
    assert reason_of(lambda: reader.verify(issued.secret)) == "ok"


def test_a_replaced_database_is_noticed_with_the_next_change(path: Path, make_gate: Make) -> None:
    """A change of the new file, by a process that opened it, counts at once, not at the next look."""
    reader = make_gate(f"sqlite:///{path}")
    issued = reader.tokens.create(name="a")
    reader.close()
    shutil.copy(path, path.with_suffix(".backup"))
    reader.verify(issued.secret)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.with_suffix(".backup").replace(path)
    make_gate(f"sqlite:///{path}").tokens.deactivate(issued.token.id)
    assert reason_of(lambda: reader.verify(issued.secret)) == "deactivated"


def test_a_restored_file_repeats_no_number(path: Path, make_gate: Make) -> None:
    """The first change after a restore is not taken for one that was applied before it."""
    gate = make_gate(f"sqlite:///{path}")
    issued = gate.tokens.create(name="a")
    gate.close()
    shutil.copy(path, path.with_suffix(".backup"))
    gate.tokens.update(issued.token.id, name="b")
    gate.verify(issued.secret)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.with_suffix(".backup").replace(path)
    gate.tokens.deactivate(issued.token.id)
    assert reason_of(lambda: gate.verify(issued.secret)) == "deactivated"


def test_who_dies_while_making_a_page_leaves_none(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next writer waits as long, so that no reader misses its change."""
    reader = make_gate(f"sqlite:///{path}")
    issued = reader.tokens.create(name="a")
    reader.verify(issued.secret)
    path.with_name("gate.db-page").unlink()

    def cut_off(_: float) -> None:
        raise KeyboardInterrupt

    dying = make_gate("sqlite://")
    with monkeypatch.context() as broken:
        broken.setattr("faregate.stores.store.time.sleep", cut_off)
        with pytest.raises(KeyboardInterrupt):
            dying = make_gate(f"sqlite:///{path}")
    del dying
    assert not path.with_name("gate.db-page").exists()
    make_gate(f"sqlite:///{path}").tokens.deactivate(issued.token.id)
    assert reason_of(lambda: reader.verify(issued.secret)) == "deactivated"


def test_who_makes_a_deleted_page_anew_waits_for_the_readers(path: Path, make_gate: Make) -> None:
    """A writer that never had the old page acknowledges only after every reader has looked for the new one."""
    reader = make_gate(f"sqlite:///{path}")
    issued = reader.tokens.create(name="a")
    reader.verify(issued.secret)
    path.with_name("gate.db-page").unlink()
    make_gate(f"sqlite:///{path}").tokens.deactivate(issued.token.id)
    assert reason_of(lambda: reader.verify(issued.secret)) == "deactivated"


@pytest.mark.slow
def test_a_writer_looks_for_the_page_under_the_write_lock(path: Path, make_gate: Make) -> None:
    """While it waited for the lock the page may have been replaced."""
    reader, writer = make_gate(f"sqlite:///{path}"), make_gate(f"sqlite:///{path}")
    issued = writer.tokens.create(name="a")
    reader.verify(issued.secret)
    blocker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    thread = threading.Thread(target=writer.tokens.deactivate, args=[issued.token.id])
    thread.start()
    time.sleep(0.2)
    file = path.with_name("gate.db-page")
    file.unlink()
    file.write_bytes(bytes(8))
    time.sleep(1.1)
    reader.verify(issued.secret)
    blocker.execute("ROLLBACK")
    blocker.close()
    thread.join()
    assert reason_of(lambda: reader.verify(issued.secret)) == "deactivated"


def test_readers_make_no_page(path: Path, make_gate: Make) -> None:
    """Only who holds the write lock does; without one the feed is read each time."""
    gate = make_gate(f"sqlite:///{path}")
    issued = gate.tokens.create(name="a")
    gate.close()
    page_file = path.with_name("gate.db-page")
    page_file.unlink()
    gate.verify(issued.secret)
    assert not page_file.exists()
    assert gate._records.view[0] == 2**64 - 1


def test_whatever_cuts_a_request_short_nothing_stays_that_no_change_drops(gate: Gate) -> None:
    """A time limit that raises in the middle of filing a record, at any line of it."""
    issued = gate.tokens.create(name="a")
    for stop_at in range(1, 30):
        gate._records.close()
        seen = 0

        def trace(frame: Any, event: str, _: Any, stop_at: int = stop_at) -> Any:
            nonlocal seen
            if frame.f_code.co_name in {"file", "fetch", "_remove"} and event == "line":
                seen += 1
                if seen == stop_at:
                    raise TimeoutError
            return trace

        sys.settrace(trace)
        try:
            gate.verify(issued.secret)
        except (TimeoutError, StoreUnavailable):
            pass
        finally:
            sys.settrace(None)
        gate.tokens.deactivate(issued.token.id)
        assert reason_of(lambda: gate.verify(issued.secret)) == "deactivated"
        gate.tokens.activate(issued.token.id)


@pytest.mark.parametrize(
    "change",
    [
        ("allowed_cidr_blocks", "[10.0.0"), ("allowed_cidr_blocks", "null"), ("allowed_cidr_blocks", "7"), ("allowed_scopes", ""),
        ("expires_at", "2020-01-01"), ("expires_at", b"x"), ("not_before", "x"), ("networks", 5), ("networks", b"\xff" * 9),
        ("allowed_scopes", b"\xff"), ("allowed_scopes", b'{"generalScopes":["\xff"]}'), ("allowed_cidr_blocks", b'["\xff"]'),
        ("created_at", 1e300), ("created_at", "x"), ("version", "x"), ("owner_name", b"\xff"),
    ],
)  # fmt: skip
def test_a_row_that_was_changed_by_hand_opens_nothing_more_and_can_be_repaired(
    path: Path, make_gate: Make, change: tuple[str, Any]
) -> None:
    """It is never an error of the server: it is shown, listed, deactivated and given a sound list again."""
    maker = make_gate(f"sqlite:///{path}")
    issued = maker.tokens.create(
        name="a", scopes=["docs:read"], allowed_cidr_blocks=["10.0.0.0/8"], expires_in=60
    )
    edit(path, f"UPDATE faregate_tokens SET {change[0]} = ?", change[1])
    gate = make_gate(f"sqlite:///{path}")
    assert reason_of(lambda: gate.verify(issued.secret, address="192.0.2.1")) != "ok"
    assert gate.tokens.list().total == 1
    assert gate.tokens.get(issued.token.id).id == issued.token.id
    if change[0] == "expires_at":
        with pytest.raises(Conflict):
            gate.tokens.rotate(issued.token.id)
    else:
        repaired = gate.tokens.update(
            issued.token.id,
            scopes=["docs:read"],
            allowed_cidr_blocks=["10.0.0.0/9"],
            not_before=None,
        )
        assert repaired.allowed_cidr_blocks == ("10.0.0.0/9",)
        gate.verify(issued.secret, address="10.0.0.1").require("docs:read")
    assert gate.tokens.deactivate(issued.token.id).deactivated


def test_without_a_page_the_feed_is_read_each_time(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who cannot open the page is as fresh, and may not write."""
    writer = make_gate(f"sqlite:///{path}")
    issued = writer.tokens.create(name="a")
    reader = make_gate(f"sqlite:///{path}")

    def refuse(**_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(reader._store.database, "page", refuse)
    reader._store._page = None
    assert reason_of(lambda: reader.verify(issued.secret)) == "ok"
    writer.tokens.deactivate(issued.token.id)
    assert reason_of(lambda: reader.verify(issued.secret)) == "deactivated"
    with pytest.raises(StoreUnavailable):
        reader.tokens.activate(issued.token.id)


def test_a_database_without_wal_is_read_each_time(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where WAL is refused the page is not trusted."""
    monkeypatch.setattr(database, "LOOK_EVERY", 0.0)
    gate = make_gate(f"sqlite:///{path}")
    issued = gate.tokens.create(name="a")
    gate.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    gate.verify(issued.secret)
    assert gate._records.view[0] == 2**64 - 1
    gate.tokens.deactivate(issued.token.id)
    assert reason_of(lambda: gate.verify(issued.secret)) == "deactivated"


def test_a_long_feed_is_not_read_row_by_row(
    path: Path, make_gate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far behind, everything is dropped at once, and nothing stale is left."""
    monkeypatch.setattr(record_cache, "_MANY", 5)
    reader, writer = make_gate(f"sqlite:///{path}"), make_gate(f"sqlite:///{path}")
    issued = writer.tokens.create(name="a")
    reader.verify(issued.secret)
    writer.tokens.deactivate(issued.token.id)
    for _ in range(10):
        writer.tokens.create(name="b")
    assert reason_of(lambda: reader.verify(issued.secret)) == "deactivated"


def test_a_feed_that_was_purged_beyond_a_reader_drops_its_cache(
    path: Path, make_gate: Make
) -> None:
    """A process that is behind the oldest row keeps nothing."""
    reader, writer = make_gate(f"sqlite:///{path}"), make_gate(f"sqlite:///{path}")
    issued = writer.tokens.create(name="a")
    reader.verify(issued.secret)
    writer.tokens.deactivate(issued.token.id)
    writer.tokens.create(name="b")
    edit(path, "DELETE FROM faregate_feed WHERE sequence < 3")
    assert reason_of(lambda: reader.verify(issued.secret)) == "deactivated"


def test_a_purged_feed_drops_what_was_said_of_owners(path: Path, make_gate: Make) -> None:
    """It may have said that one changed."""
    said: list[AllowedScopes | None] = [AllowedScopes()]
    reader = make_gate(f"sqlite:///{path}", owner_rights=lambda _: said[0], owner_rights_ttl=1e6)
    writer = make_gate(f"sqlite:///{path}")
    secret = writer.tokens.create(name="a", owner=Owner("u1")).secret
    reader.verify(secret)
    said[0] = None
    writer.owner_changed(Owner("u1"))
    writer.tokens.create(name="b")
    edit(path, "DELETE FROM faregate_feed WHERE sequence < 3")
    assert reason_of(lambda: reader.verify(secret)) == "deactivated"


def test_a_locked_database_is_read_all_the_same(path: Path, make_gate: Make) -> None:
    """A writer that holds the lock delays no verification."""
    gate = make_gate(f"sqlite:///{path}")
    known, fresh = gate.tokens.create(name="a").secret, gate.tokens.create(name="b").secret
    gate.verify(known)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        gate.verify(known)
        gate.verify(fresh)
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()


def test_files_are_private(path: Path, make_gate: Make) -> None:
    """The database and its companions are readable by their owner alone, whatever the umask."""
    previous = os.umask(0)
    try:
        make_gate(f"sqlite:///{path}").tokens.create(name="a")
    finally:
        os.umask(previous)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["gate.db", "gate.db-page", "gate.db-shm", "gate.db-wal"], 0o600)


def test_the_page_takes_the_mode_of_the_database(path: Path, make_gate: Make) -> None:
    """A group that may write the database may write its page."""
    make_gate(f"sqlite:///{path}").close()
    path.with_name("gate.db-page").unlink()
    path.chmod(0o660)
    make_gate(f"sqlite:///{path}")
    assert path.with_name("gate.db-page").stat().st_mode & 0o777 == 0o660
