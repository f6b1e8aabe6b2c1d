"""Exchanges of refresh credentials, one after the other and at once: every row of ``tests/cases/exchanges.toml``."""

from __future__ import annotations

import hmac
import re
import sqlite3
import string
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import msgspec
import pytest
from conftest import START, Clock, reason_of
from sqlalchemy import event
from sqlalchemy.engine import Engine
from test_http import Api

from faregate import Conflict, Denied, Gate, InvalidInput, Org, Owner, Permission, Policy
from faregate.credentials.opaque import kind_of, mint

TABLE = tomllib.loads((Path(__file__).parent.parent / "cases" / "exchanges.toml").read_text())
STEP = re.compile(r"([0-9.]+) ([A-Z])( x20)?: (-|[A-Z]|![a-z_]+)")


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """The exchanges of one family, and what comes of them."""

    name: str
    says: str
    steps: list[str]
    fate: str
    rotation: bool = True
    audit: list[str] = []


ROWS = msgspec.convert(TABLE["exchange"], list[Row])


class Family:
    """A family, its credentials by their letters, and what has been answered so far."""

    def __init__(self, api: Api, clock: Clock, how: str, *, rotation: bool) -> None:
        self.api, self.gate, self.clock, self.how = api, api.gate, clock, how
        made = self.gate.tokens.create(
            name="session",
            type="REFRESH",
            scopes=["docs:read"],
            expires_in=7200,
            require_rotation=rotation,
        )
        self.id = made.token.id
        self.secrets = {"P": made.secret}
        self.access: list[str] = []

    def exchange(self, letter: str) -> tuple[str, str | None]:
        """The outcome: ``ok`` and what was answered to take over, or the reason of the refusal."""
        if self.how == "python":
            try:
                answer = self.gate.tokens.exchange(self.secrets[letter])
            except Denied as denied:
                return denied.reason, None
            self.access.append(answer.access_token)
            return "ok", answer.refresh_token
        form = {"grant_type": "refresh_token", "refresh_token": self.secrets[letter]}
        told = self.api.client.post("/auth/token", data=form)
        members = told.get_json()
        if told.status_code != 200:
            assert (told.status_code, members["error"]) == (400, "invalid_grant")
            return str(members["error_description"]).partition(":")[0], None
        self.access.append(members["access_token"])
        return "ok", members.get("refresh_token")

    def step(self, step: str) -> None:
        """Let a step happen, and compare."""
        match step.split():
            case [seconds, "deactivate" | "activate" | "delete" as call, *refusal]:
                self.clock.now = START + float(seconds)
                if refusal:
                    with pytest.raises(Conflict):
                        getattr(self.gate.tokens, call)(self.id)
                else:
                    getattr(self.gate.tokens, call)(self.id)
            case [_, "rotation", state]:
                self.gate.tokens.update(self.id, require_rotation=state == "on")
            case [_, "rotate" | "leak" as call, letter]:
                self.secrets[letter] = self.gate.tokens.rotate(
                    self.id, leaked=call == "leak"
                ).secret
            case [_, "revoke", letter]:
                self.gate.revoke(self.secrets[letter])
            case _:
                self.compare(step)

    def compare(self, step: str) -> None:
        """Exchange as a step says, alone or with twenty at once."""
        parsed = STEP.fullmatch(step)
        assert parsed, step
        seconds, letter, many, outcome = parsed.groups()
        self.clock.now = START + float(seconds)
        found = at_once(lambda: self.exchange(letter)) if many else [self.exchange(letter)]
        if outcome.startswith("!"):
            expected: tuple[str, str | None] = outcome[1:], None
        elif outcome == "-":
            expected = "ok", None
        else:
            new = found[0][1]
            assert new is not None
            assert outcome in self.secrets or new not in self.secrets.values()
            expected = "ok", self.secrets.setdefault(outcome, new)
        assert found == [expected] * len(found), step


def at_once(call: Callable[[], Any], number: int = 20) -> list[Any]:
    """What so many threads are answered that begin at one moment."""
    barrier = Barrier(number)

    def wait_and_call(_: int) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(wait_and_call, range(number)))


@pytest.mark.parametrize(
    ("how", "where"),
    [("python", "memory"), ("python", "file"), ("flask", "memory"), ("starlette", "memory")],
)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_exchanges_come_to_what_the_row_says(
    row: Row, how: str, where: str, tmp_path: Path, clock: Clock
) -> None:
    """Each successor and each refusal; every access credential is a new one; and what the audit has of it."""
    store = "sqlite://" if where == "memory" else f"sqlite:///{tmp_path / 'gate.db'}"
    api = Api(store, clock, "flask" if how == "python" else how)
    family = Family(api, clock, how, rotation=row.rotation)
    for step in row.steps:
        family.step(step)
    assert len(set(family.access)) == len(family.access)
    clock.now = min(clock.now, START + 1799) if row.fate != "expired" else clock.now
    assert (
        reason_of(lambda: family.gate.verify(family.access[-1 if row.fate == "expired" else 0]))
        == row.fate
    )
    entries = family.gate.audit(subject=family.id).items
    assert [entry.action for entry in entries] == ["token.create", *row.audit]
    assert not any(secret in repr(entries) for secret in (*family.secrets.values(), *family.access))
    family.gate.close()


def test_the_matrix_is_whole() -> None:
    """Each way of use, inside and outside the window, with rotation and without."""
    names = {row.name for row in ROWS}
    for way in (
        "sequential",
        "concurrent",
        "a lost answer",
        "stolen used first",
        "stolen used after",
    ):
        for where in ("inside", "outside"):
            for rotation in ("on", "off"):
                assert f"{way}, {where} the window, rotation {rotation}" in names


def test_what_is_kept_tells_nobody_else(gate: Gate) -> None:
    """The store holds no credential, and of the successor its own part only as HMAC-SHA256 under what was presented hides it."""
    family = gate.tokens.create(name="s", type="REFRESH")
    answer = gate.tokens.exchange(family.secret)
    successor = str(answer.refresh_token)
    tables = ("tokens", "secrets", "families", "exchanges", "access", "feed")
    with gate._store.reading() as reading:
        ask = reading._connection.exec_driver_sql
        dump = "".join(str(ask(f"SELECT * FROM faregate_{table}").fetchall()) for table in tables)
        kept = ask("SELECT successor FROM faregate_exchanges").scalar_one()
    for secret in (family.secret, successor, answer.access_token):
        assert secret[7:28] not in dump
        assert secret[28:50] not in dump
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    own = 0
    for character in successor[28:50]:
        own = own * 62 + digits.index(character)
    mask = hmac.digest(family.secret.encode(), b"successor", "sha256")[:16]
    assert kept != own.to_bytes(16)
    assert bytes(a ^ b for a, b in zip(kept, mask, strict=True)) == own.to_bytes(16)


def kept_exchanges(gate: Gate) -> int:
    """How many exchanges could be repeated."""
    with gate._store.reading() as reading:
        return int(
            reading._connection.exec_driver_sql(
                "SELECT count(*) FROM faregate_exchanges"
            ).scalar_one()
        )


@pytest.mark.parametrize("window", [0, 0.5, 3600, timedelta(minutes=5)])
def test_the_window_is_a_setting(
    window: float | timedelta, make_gate: Callable[..., Gate], clock: Clock
) -> None:
    """Until its end an exchange comes to the same; from then on it closes the family."""
    seconds = window.total_seconds() if isinstance(window, timedelta) else window
    gate = make_gate("sqlite://", refresh_retry_window=window)
    first = gate.tokens.create(name="session", type="REFRESH", expires_in=7200).secret
    second = gate.tokens.exchange(first).refresh_token
    if seconds:
        clock.now += seconds - 0.25
        assert gate.tokens.exchange(first).refresh_token == second
    clock.now = START + seconds
    assert reason_of(lambda: gate.tokens.exchange(first)) == "revoked"


@pytest.mark.parametrize("wrong", [-1, 3601, "30", None, timedelta(hours=2)])
def test_a_window_that_cannot_be(wrong: Any) -> None:
    """It is named."""
    with pytest.raises(InvalidInput, match="refresh_retry_window"):
        Gate("sqlite://", refresh_retry_window=wrong)


def test_what_is_kept_for_a_repetition_goes_with_its_window(gate: Gate, clock: Clock) -> None:
    """With the successor's own exchange; with any other exchange after the window's end, or with a purge."""
    first, second = (gate.tokens.create(name="s", type="REFRESH") for _ in "ab")
    answer = gate.tokens.exchange(first.secret)
    assert kept_exchanges(gate) == 1
    gate.tokens.update(first.token.id, require_rotation=False)
    gate.tokens.exchange(str(answer.refresh_token))
    assert kept_exchanges(gate) == 0
    again = gate.tokens.exchange(second.secret)
    clock.now += 30
    gate.tokens.exchange(str(answer.refresh_token))
    assert kept_exchanges(gate) == 0
    newest = gate.tokens.exchange(str(again.refresh_token))
    clock.now += 30
    gate.purge()
    assert kept_exchanges(gate) == 0
    gate.tokens.exchange(str(newest.refresh_token))
    gate.tokens.rotate(second.token.id)
    assert kept_exchanges(gate) == 0


def test_a_store_holds_what_lives_and_not_what_was(gate: Gate, clock: Clock) -> None:
    """After two hundred exchanges of a family there is one secret of it, and after a purge no dead access credential."""
    secret = gate.tokens.create(name="s", type="REFRESH", expires_in=10_000_000).secret

    def rows() -> list[int]:
        tables = ("secrets", "families", "exchanges", "access", "feed", "tokens")
        with gate._store.reading() as reading:
            ask = reading._connection.exec_driver_sql
            return [ask(f"SELECT count(*) FROM faregate_{table}").scalar_one() for table in tables]

    for _ in range(200):
        secret = str(gate.tokens.exchange(secret).refresh_token)
        clock.now += 600
    assert rows() == [1, 1, 1, 9, 1, 1]  # of access credentials those of the last hour and a half
    gate.purge()
    assert rows()[:4] == [1, 1, 0, 2]


@pytest.mark.parametrize(
    ("scopes", "told"),
    [
        (None, ("docs:*", "a")),
        (["docs:read"], ("docs:read",)),
        (["docs:*"], ("docs:*",)),
        (["a", "a"], ("a",)),
        ([], ()),
    ],
)
def test_what_is_asked_for_is_what_is_told_and_opened(
    gate: Gate, scopes: Any, told: tuple[str, ...]
) -> None:
    """No more than that; a list that came out empty means nothing at all."""
    secret = gate.tokens.create(name="s", type="REFRESH", scopes=["docs:*", "a"]).secret
    answer = gate.tokens.exchange(secret, scopes)
    principal = gate.verify(answer.access_token)
    assert answer.scope == told
    assert principal.allows("a") == ("a" in told)
    assert principal.allows("docs:write") == ("docs:*" in told)
    assert gate.introspect(answer.access_token).scope == told


@pytest.mark.parametrize(
    ("scopes", "error"),
    [(["b"], Denied), (["*"], Denied), (["docs:*", "a:*"], Denied), ("a", InvalidInput), ([""], InvalidInput), ([5], InvalidInput), (["a b"], InvalidInput), (["x"] * 1001, InvalidInput)],
)  # fmt: skip
def test_scopes_that_are_not_granted_spend_nothing(
    gate: Gate, scopes: Any, error: type[Exception]
) -> None:
    """The refresh credential is still the current one."""
    secret = gate.tokens.create(name="s", type="REFRESH", scopes=["docs:*", "a"]).secret
    with pytest.raises(error) as raised:
        gate.tokens.exchange(secret, scopes)
    if isinstance(raised.value, Denied):
        assert raised.value.reason == "insufficient_scope"
        assert raised.value.scope
    assert kept_exchanges(gate) == 0
    assert gate.tokens.exchange(secret).refresh_token


def test_the_networks_of_the_family_are_those_of_its_exchange(gate: Gate) -> None:
    """Who is elsewhere gets nothing, and spends nothing; a retired credential revokes from wherever."""
    made = gate.tokens.create(name="s", type="REFRESH", allowed_cidr_blocks=["192.0.2.0/24"])
    for address, reason in (("198.51.100.1", "address_not_allowed"), (None, "address_unknown")):
        assert reason_of(lambda: gate.tokens.exchange(made.secret, address=address)) == reason  # noqa: B023
    first = gate.tokens.exchange(made.secret, address="192.0.2.1")
    gate.tokens.exchange(str(first.refresh_token), address="192.0.2.1")
    assert reason_of(lambda: gate.tokens.exchange(made.secret, address="198.51.100.1")) == "revoked"
    (entry,) = [one for one in gate.audit().items if one.action == "token.reuse"]
    assert (entry.actor, entry.details) == (f"refresh:{made.token.id}", {"address": "198.51.100.1"})


@pytest.mark.slow
def test_more_networks_in_common_than_a_list_holds(gate: Gate) -> None:
    """An access credential goes on where both admit it, and what it makes is open from there and nowhere else."""
    tens, elevens = (
        [f"{first}.{n // 256}.{n % 256}.0/24" for n in range(0, 18_000, 2)] for first in (10, 11)
    )
    made = gate.tokens.create(
        name="s",
        type="REFRESH",
        scopes=["gate:tokens:write"],
        allowed_cidr_blocks=["11.0.0.0/8", *tens],
    )
    access = gate.tokens.exchange(made.secret, address="10.0.2.1").access_token
    gate.tokens.update(made.token.id, allowed_cidr_blocks=["10.0.0.0/8", *elevens])
    by = gate.verify(access, address="10.0.2.1")
    assert reason_of(lambda: gate.verify(access, address="10.0.1.1")) == "address_not_allowed"
    assert [gate.introspect(access, address=one).active for one in ("10.0.2.1", "10.0.1.1")] == [
        True,
        False,
    ]
    child = gate.tokens.create(name="c", by=by).secret
    for address, reason in (
        ("10.0.2.1", "ok"),
        ("10.0.1.1", "address_not_allowed"),
        ("11.0.1.1", "address_not_allowed"),
    ):
        assert reason_of(lambda: gate.verify(child, address=address)) == reason  # noqa: B023


def test_texts_that_are_no_refresh_credential(gate: Gate) -> None:
    """Refused for what they are."""
    for text in (
        "junk",
        mint("fg", "rft"),
        mint("other", "rft"),
        mint("fg", "act"),
        "fg_rft_" + "a" * 49,
    ):
        assert reason_of(lambda: gate.tokens.exchange(text)) == "unknown_credential"  # noqa: B023
    for text in ("", "a" * 9000, "\ud800", " ", "a b"):
        assert reason_of(lambda: gate.tokens.exchange(text)) == "malformed_credential"  # noqa: B023
    for value in (None, 5, b"x"):
        with pytest.raises(InvalidInput):
            gate.tokens.exchange(value)  # type: ignore[arg-type]


def test_a_refresh_token_has_an_end(make_gate: Callable[..., Gate], clock: Clock) -> None:
    """90 days, or what maker and policy say; null is none, and nothing but a refresh token is replaced."""
    gate = make_gate("sqlite://")

    def ends(**members: Any) -> float:
        expires = gate.tokens.create(name="s", type="REFRESH", **members).token.expires_at
        assert expires is not None
        return expires.timestamp() - START

    day = 86_400
    maker = gate.tokens.create(name="m", scopes=["gate:tokens:write"], expires_in=5 * day)
    by = gate.verify(maker.secret)
    assert (ends(), ends(expires_in=400 * day), ends(by=by)) == (90 * day, 400 * day, 5 * day)
    with pytest.raises(InvalidInput, match="expiresAt"):
        ends(expires_at=None)
    for given in ("yes", 1, None):
        with pytest.raises(InvalidInput, match="requireRotation"):
            ends(require_rotation=given)
    for given in (True, False):
        with pytest.raises(InvalidInput, match="requireRotation"):
            gate.tokens.create(name="s", require_rotation=given)
    made = gate.tokens.create(name="s", type="REFRESH")
    assert made.token.require_rotation is True
    for change in ({"expires_at": None}, {"require_rotation": None}):
        with pytest.raises(InvalidInput, match=r"expiresAt|requireRotation"):
            gate.tokens.update(made.token.id, **change)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="requireRotation"):
        gate.tokens.update(maker.token.id, require_rotation=True)
    assert gate.tokens.create(name="s", require_rotation=None).token.require_rotation is None
    gate = make_gate("sqlite://", policy=Policy(max_lifetime=7 * day))
    assert ends() == 7 * day
    gate = make_gate("sqlite://", policy=Policy(default_lifetime=100 * day))
    assert ends() == 100 * day


def test_revoked_is_final(gate: Gate) -> None:
    """It is changed, rotated and activated no more, counts as no token of its owner's, and can still be deleted."""
    limited = gate.tokens
    limited._policy = Policy(max_tokens_per_owner=1)
    made = limited.create(name="s", type="REFRESH", owner=Owner("u1"))
    with pytest.raises(Conflict):
        limited.create(name="t", owner=Owner("u1"))
    gate.revoke(made.secret)
    revoked = limited.get(made.token.id)
    assert revoked.revoked_at is not None
    assert limited.create(name="t", owner=Owner("u1")).token.revoked_at is None
    for call in (
        lambda: limited.update(made.token.id, name="y"),
        lambda: limited.rotate(made.token.id),
        lambda: limited.activate(made.token.id),
    ):
        with pytest.raises(Conflict, match="final"):
            call()
    assert limited.update(made.token.id, name="s") == revoked
    other = limited.create(name="o")
    batch = limited.activate_many([made.token.id, other.token.id])
    assert (batch.successes, [one.id for one in batch.failures]) == (
        (other.token.id,),
        [made.token.id],
    )
    assert "final" in batch.failures[0].message
    assert limited.deactivate(made.token.id).deactivated
    assert reason_of(lambda: limited.exchange(made.secret)) == "deactivated"
    limited.delete(made.token.id)
    assert reason_of(lambda: limited.exchange(made.secret)) == "unknown_credential"


def test_a_refresh_token_has_no_grace(gate: Gate) -> None:
    """It is replaced at once; what it was exchanged for goes on."""
    made = gate.tokens.create(name="s", type="REFRESH")
    access = gate.tokens.exchange(made.secret).access_token
    with pytest.raises(InvalidInput, match="grace"):
        gate.tokens.rotate(made.token.id, grace=60)
    new = gate.tokens.rotate(made.token.id)
    assert new.secret.startswith("fg_rft_")
    assert gate.verify(access).kind == "access"
    assert reason_of(lambda: gate.verify(new.secret)) == "unknown_credential"


def test_who_an_access_credential_is(gate: Gate, clock: Clock) -> None:
    """Its family's record and owner, of kind access; never root, whatever its family is; its use is the family's."""
    made = gate.tokens.create(name="s", type="REFRESH", scopes=["*"])
    principal = gate.verify(gate.tokens.exchange(made.secret).access_token)
    assert (principal.kind, principal.id, principal.identity) == (
        "access",
        made.token.id,
        f"access:{made.token.id}",
    )
    assert principal.allows("anything")
    assert not principal.allows(Permission("p"))
    assert not principal.compiled.root
    assert (
        reason_of(lambda: gate.tokens.create(name="x", scopes=["*"], by=principal))
        == "insufficient_scope"
    )
    assert (
        reason_of(lambda: gate.tokens.create(name="x", scopes=["a"], org=Org("o"), by=principal))
        == "insufficient_scope"
    )
    child = gate.tokens.create(name="x", scopes=["a"], by=principal)
    assert child.token.made_by == made.token.id
    assert child.token.expires_at == datetime.fromtimestamp(START + 1800, UTC)
    gate._usage.flush()
    used = gate.tokens.get(made.token.id)
    assert (used.last_used_at, used.version) == (
        datetime.fromtimestamp(START, UTC),
        made.token.version,
    )
    assert gate.tokens.get("self", by=principal).id == made.token.id
    for call in (
        lambda: gate.tokens.update("self", name="y", by=principal),
        lambda: gate.tokens.update(made.token.id, expires_in=9_000_000, by=principal),
        lambda: gate.tokens.rotate(made.token.id, by=principal),
        lambda: gate.tokens.deactivate(made.token.id, by=principal),
        lambda: gate.tokens.delete(made.token.id, by=principal),
    ):
        assert reason_of(call) == "insufficient_scope"
    assert (
        gate.tokens.deactivate_many([made.token.id], by=principal).failures[0].id == made.token.id
    )


def test_a_dead_access_credential_manages_nothing(gate: Gate, clock: Clock) -> None:
    """What happened to it, or to its family, since the request began counts."""
    for end in ("revoke", "deactivate", "delete", "expire", "narrow"):
        made = gate.tokens.create(name="s", type="REFRESH", scopes=["gate:tokens:read"])
        access = gate.tokens.exchange(made.secret).access_token
        principal = gate.verify(access)
        match end:
            case "revoke":
                gate.revoke(access)
            case "deactivate" | "delete":
                getattr(gate.tokens, end)(made.token.id)
            case "expire":
                clock.now += 1800
            case _:
                gate.tokens.update(made.token.id, scopes=["a"])
        expected = {
            "revoke": "unknown_credential",
            "deactivate": "deactivated",
            "delete": "unknown_credential",
            "expire": "expired",
        }
        assert reason_of(lambda: gate.tokens.list(by=principal)) == expected.get(  # noqa: B023
            end, "insufficient_scope"
        )


def test_representations_hide_what_is_answered(gate: Gate) -> None:
    """Neither repr nor str shows a credential."""
    made = gate.tokens.create(name="s", type="REFRESH")
    answer = gate.tokens.exchange(made.secret)
    for text in (
        repr(answer),
        str(answer),
        repr(list(answer.__rich_repr__())),
        repr(gate.verify(answer.access_token)),
    ):
        assert answer.access_token not in text
        assert str(answer.refresh_token) not in text


def test_a_reuse_is_said_in_the_log(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """As a warning with the record's id, and without the credential."""
    made = gate.tokens.create(name="s", type="REFRESH")
    second = str(gate.tokens.exchange(made.secret).refresh_token)
    gate.tokens.exchange(second)
    assert reason_of(lambda: gate.tokens.exchange(made.secret)) == "revoked"
    (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert made.token.id in record.getMessage()
    assert made.secret not in caplog.text


def test_trap_10_nothing_is_wider_than_its_maker(gate: Gate) -> None:
    """A refresh token neither when it is made nor later, nor what it is exchanged for, nor what that makes in turn."""
    scopes = ["gate:tokens:write", "docs:read"]
    whose: dict[str, Any] = {
        "owner": Owner("u1"),
        "allowed_cidr_blocks": ["10.0.0.0/8"],
        "expires_in": 600,
    }
    maker = gate.verify(
        gate.tokens.create(name="m", scopes=scopes, **whose).secret, address="10.0.0.1"
    )
    made = gate.tokens.create(name="s", type="REFRESH", scopes=scopes, by=maker)
    access = gate.tokens.exchange(made.secret, address="10.0.0.1").access_token
    principal = gate.verify(access, address="10.0.0.1")
    other = gate.tokens.create(name="o", type="REFRESH", scopes=["docs:*"], owner=Owner("u1"))
    wider: list[dict[str, Any]] = [
        {"scopes": ["docs:*"]}, {"scopes": ["*"]}, {"allowed_cidr_blocks": []}, {"allowed_cidr_blocks": ["0.0.0.0/0"]}, {"expires_in": 601},
        {"org": Org("o")}, {"owner": Owner("u2")},
    ]  # fmt: skip
    for by in (maker, principal):
        for members in wider:
            for kind in ("API", "REFRESH"):
                given = {"scopes": ["docs:read"], "type": kind, **members}
                assert (
                    reason_of(lambda: gate.tokens.create(name="x", by=by, **given))  # noqa: B023
                    == "insufficient_scope"
                )
        for members in ({"scopes": ["docs:*", "gate:admin"]}, {"expires_in": 9_000_000}):
            assert (
                reason_of(lambda: gate.tokens.update(other.token.id, by=by, **members))  # noqa: B023
                == "insufficient_scope"
            )
        assert reason_of(lambda: gate.tokens.rotate(other.token.id, by=by)) == "insufficient_scope"  # noqa: B023
    for members in wider[:5]:
        assert (
            reason_of(lambda: gate.tokens.update(made.token.id, by=maker, **members))  # noqa: B023
            == "insufficient_scope"
        )
    for asked in (["docs:*"], ["docs:write"], ["*"], ["gate:admin"]):
        refused = reason_of(lambda: gate.tokens.exchange(made.secret, asked, address="10.0.0.1"))  # noqa: B023
        assert refused == "insufficient_scope"
    child = gate.tokens.create(name="c", scopes=["docs:read"], by=principal).token
    assert (child.allowed_cidr_blocks, child.expires_at) == (("10.0.0.0/8",), made.token.expires_at)


def test_only_who_covers_a_family_lets_it_go_on(gate: Gate) -> None:
    """Without rotation a thief goes unseen, so that is for who could have made the family; with it, for who reaches it."""
    whose: dict[str, Any] = {"owner": Owner("u1"), "expires_in": 600}
    wide = gate.tokens.create(name="w", type="REFRESH", scopes=["gate:tokens:*", "docs:*"], **whose)
    same = gate.tokens.create(
        name="s", type="REFRESH", scopes=["gate:tokens:*"], require_rotation=False, **whose
    )
    by = gate.verify(gate.tokens.create(name="m", scopes=["gate:tokens:*"], **whose).secret)
    child = gate.tokens.create(
        name="c",
        scopes=["gate:tokens:write"],
        by=gate.verify(gate.tokens.exchange(wide.secret).access_token),
    )
    for actor in (by, gate.verify(child.secret)):
        refused = reason_of(
            lambda: gate.tokens.update(wide.token.id, require_rotation=False, by=actor)  # noqa: B023
        )
        assert refused == "insufficient_scope"
    for state in (True, False):
        assert (
            gate.tokens.update(same.token.id, require_rotation=state, by=by).require_rotation
            is state
        )
    gate.tokens.update(wide.token.id, require_rotation=False)
    assert gate.tokens.update(wide.token.id, require_rotation=True, by=by).require_rotation is True


def test_the_shortest_way(tmp_path: Path) -> None:
    """Make a family, exchange it, and use what is answered; with the clock of the machine."""
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    family = gate.tokens.create(
        name="session", type="REFRESH", scopes=["a", "b"], expires_in=timedelta(days=30)
    )
    answer = gate.tokens.exchange(family.secret, scopes=["a"])
    assert gate.verify(answer.access_token).allows("a")
    assert gate.verify(answer.access_token).allows("b") is False
    assert answer.scope == ("a",)
    assert timedelta(minutes=29) < answer.expires_at - datetime.now(UTC) < timedelta(minutes=31)
    assert gate.tokens.exchange(str(answer.refresh_token)).scope == (
        "a",
        "b",
    )  # what was narrowed was the access alone
    gate.close()


def test_successors_have_what_is_new_and_what_they_share(gate: Gate) -> None:
    """The form of every credential, 21 characters of the family's, and 22 that never come again."""
    secret = gate.tokens.create(name="s", type="REFRESH").secret
    family, parts = secret[:28], {secret[28:50]}
    for _ in range(200):
        secret = str(gate.tokens.exchange(secret).refresh_token)
        assert kind_of(secret, "fg") == "rft"
        assert (secret[:28], len(secret)) == (family, 56)
        parts.add(secret[28:50])
    assert len(parts) == 201
    other = gate.tokens.create(name="s", type="REFRESH").secret
    assert other[:28] != family
    forged = mint("fg", "rft")
    body = family[7:] + forged[28:50]
    assert reason_of(lambda: gate.tokens.exchange(f"fg_rft_{body}000000")) == "unknown_credential"
    assert gate.introspect(secret, refresh=True).active


@pytest.mark.parametrize(
    ("broken", "first", "again"),
    [
        ("faregate_tokens SET expires_at = NULL", "expired", "expired"),
        ("faregate_tokens SET expires_at = 'junk'", "expired", "expired"),
        ("faregate_tokens SET require_rotation = NULL", "ok", "ok"),
        ("faregate_tokens SET revoked_at = 'junk'", "revoked", "revoked"),
        ("faregate_tokens SET allowed_scopes = 'junk'", "ok", "ok"),
        (
            "faregate_tokens SET networks = 'junk', allowed_cidr_blocks = 'junk'",
            "address_unknown",
            "address_unknown",
        ),
        ("faregate_exchanges SET successor = x'78'", "ok", "revoked"),
        ("faregate_exchanges SET successor = 'text'", "ok", "revoked"),
        ("faregate_exchanges SET presented = 'text'", "ok", "revoked"),
        ("faregate_exchanges SET until = 'junk'", "ok", "revoked"),
        ("faregate_access SET allowed_scopes = 'junk', expires_at = 'junk'", "ok", "ok"),
    ],
)
def test_what_was_broken_by_hand_opens_nothing_more(
    store: str, clock: Clock, broken: str, first: str, again: str
) -> None:
    """A row that is none any more is refused as what it has become, and never an error of the server's."""
    for presented in ("current", "last"):
        gate = Gate(store, clock=clock)
        made = gate.tokens.create(name="s", type="REFRESH", scopes=["a"])
        answer = gate.tokens.exchange(made.secret)
        with gate._store.changing() as change:
            change._connection.exec_driver_sql(f"UPDATE {broken}")
        secret = str(answer.refresh_token) if presented == "current" else made.secret
        assert reason_of(lambda: gate.tokens.exchange(secret)) == (  # noqa: B023
            first if presented == "current" else again
        )
        opens = reason_of(lambda: gate.verify(answer.access_token).require("a"))  # noqa: B023
        assert gate.introspect(answer.access_token, needs="a").active == (opens == "ok")
        gate.tokens.list()
        gate.tokens.delete(made.token.id)
        gate.close()


@pytest.mark.parametrize("name", ["before_cursor_execute", "commit"])
def test_a_store_that_fails_at_any_step_spends_nothing(store: str, clock: Clock, name: str) -> None:
    """Each statement of an exchange fails once, and each commit; the client comes again, and gets one successor."""
    gate = Gate(store, clock=clock)
    made = gate.tokens.create(name="s", type="REFRESH", scopes=["a"])
    left = [0]

    def fail(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise sqlite3.OperationalError("disk I/O error")

    event.listen(Engine, name, fail)
    try:
        secret, failures = made.secret, 0
        for step in range(1, 30):
            left[0] = step
            reason = reason_of(lambda: gate.tokens.exchange(secret))  # noqa: B023
            failures += reason != "ok"
            assert reason in ("ok", "store_unavailable")
            left[0] = 0
            answer = gate.tokens.exchange(secret)
            assert gate.tokens.exchange(secret).refresh_token == answer.refresh_token
            assert gate.verify(answer.access_token).allows("a")
            secret = str(answer.refresh_token)
    finally:
        event.remove(Engine, name, fail)
    assert failures >= (2 if name == "commit" else 10)
    assert [entry.action for entry in gate.audit().items] == ["token.create"]
    gate.close()
