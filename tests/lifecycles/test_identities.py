"""One identity for each: nobody passes for another, whatever people and records are called."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import identity_provider as provider
import pytest
from conftest import START, Clock, reason_of

from faregate import Gate, InvalidInput, Issuer, Owner, Policy
from faregate.lifecycles.authority import CommandLine
from faregate.values.identities import KINDS
from faregate_wsgi import GateMiddleware

Make = Callable[..., Gate]
OTHER = "https://other.example"


def two(**settings: Any) -> list[Issuer]:
    """The provider, and another one with a name, whose tokens the same key signs."""
    return [provider.issuer(**settings), provider.issuer(issuer=OTHER, name="corp", **settings)]


def test_two_providers_alices_are_two(make_gate: Make, clock: Clock) -> None:
    """The subjects of an issuer that has a name are known by that, to frameworks as to the audit."""
    gate = make_gate("sqlite://", issuers=two(manages=True), policy=Policy(max_lifetime=600))
    mine = gate.verify(provider.token(clock.now, scope="gate:tokens:write"))
    theirs = gate.verify(provider.token(clock.now, iss=OTHER, scope="gate:tokens:write"))
    assert (mine.identity, theirs.identity) == ("alice", "corp:alice")
    for principal in (mine, theirs):
        made = gate.tokens.create(name="a", by=principal)
        assert gate.verify(made.secret).identity == principal.identity
        entry = gate.audit().items[-1]
        assert (entry.actor, entry.actor_kind, entry.actor_id) == (
            principal.identity,
            "jwt",
            principal.compiled.id,
        )
        assert gate.introspect(made.secret).subject == principal.identity


def test_what_frameworks_are_told(make_gate: Make, clock: Clock) -> None:
    """``REMOTE_USER`` holds the identity."""
    told: list[str] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        told.append(environ["REMOTE_USER"])
        start_response("200 OK", [])
        return []

    gate = make_gate("sqlite://", issuers=two())
    guarded = GateMiddleware(application, gate=gate)
    for secret in (provider.token(clock.now), provider.token(clock.now, iss=OTHER)):
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "HTTP_AUTHORIZATION": f"Bearer {secret}",
        }
        assert list(guarded(environ, lambda *_: None)) == []
    assert told == ["alice", "corp:alice"]


@pytest.mark.parametrize("name", [*KINDS, "corp"])
def test_no_owner_is_called_as_others_are(make_gate: Make, clock: Clock, name: str) -> None:
    """Neither at creation, nor by a change, nor in a session, nor as the subject of an issuer without a name."""
    gate = make_gate("sqlite://", issuers=two())
    borrowed = Owner(f"{name}:alice")
    token = gate.tokens.create(name="a", owner=Owner("alice")).token
    for call in (
        lambda: gate.tokens.create(name="a", owner=borrowed),
        lambda: gate.tokens.update(token.id, owner=borrowed),
        lambda: gate.session(borrowed),
    ):
        with pytest.raises(InvalidInput, match=f"owner.id: cannot begin with '{name}:'"):
            call()
    assert gate.tokens.get(token.id).owner == Owner("alice")
    secret = provider.token(clock.now, sub=f"{name}:alice")
    assert reason_of(lambda: gate.verify(secret)) == "unknown_credential"
    assert f"begins with '{name}:'" in gate.explain(secret).steps[2].words
    assert (
        gate.verify(provider.token(clock.now, iss=OTHER, sub=f"{name}:alice")).identity
        == f"corp:{name}:alice"
    )


@pytest.mark.parametrize(
    "owner_id", ["Token:x", " token:x", "token :x", "\uff34oken\uff1ax", "CORP:alice"]
)
def test_other_spellings_are_the_same_name(make_gate: Make, owner_id: str) -> None:
    """To whoever reads them, or folds them."""
    gate = make_gate("sqlite://", issuers=two())
    with pytest.raises(InvalidInput, match="cannot begin with"):
        gate.tokens.create(name="a", owner=Owner(owner_id))


@pytest.mark.parametrize(
    "owner_id", ["root", "cli", "application", "token", "corporate:alice", ":alice", "a:token:b"]
)
def test_other_names_are_free(make_gate: Make, owner_id: str) -> None:
    """Nothing is decided by a name, so people may be called as they are."""
    gate = make_gate("sqlite://", issuers=two())
    made = gate.tokens.create(name="a", owner=Owner(owner_id))
    assert gate.verify(made.secret).identity == owner_id


def test_an_owner_of_before_passes_for_nobody(tmp_path: Path, make_gate: Make) -> None:
    """Whose id was written before the name was given away is known by the record; and may be written back as it is."""
    path = tmp_path / "gate.db"
    gate = make_gate(f"sqlite:///{path}", issuers=two())
    made = gate.tokens.create(name="a", owner=Owner("x"), scopes=["gate:tokens:*"])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE faregate_tokens SET owner_id = 'corp:alice'")
    connection.close()
    principal = gate.verify(made.secret)
    assert (principal.identity, principal.owner) == (f"token:{made.token.id}", Owner("corp:alice"))
    gate.tokens.update(made.token.id, name="b", owner=Owner("corp:alice"))
    gate.tokens.update("self", name="c", by=principal)
    assert gate.audit().items[-1].actor == f"token:{made.token.id}"


@pytest.mark.parametrize("name", ["", "token", "Session", "a:b", "a b", "x" * 65, "ö", 5])
def test_an_issuers_name_is_a_word(name: Any) -> None:
    """And none of those that kinds of credentials have."""
    with pytest.raises(InvalidInput, match="name:"):
        provider.issuer(name=name)


def test_the_command_line_is_root_whatever_its_name(gate: Gate) -> None:
    """No owner activates a token that the command line or the application deactivated, even under the same name."""
    for closer in (CommandLine(), CommandLine("ann"), "ann", "cli", None):
        for owner in (Owner("cli"), Owner("ann"), Owner("root")):
            made = gate.tokens.create(name="a", owner=owner, scopes=["gate:tokens:*"])
            other = gate.tokens.create(name="b", owner=owner)
            gate.tokens.deactivate(other.token.id, by=closer)
            by = gate.verify(made.secret)
            assert (
                reason_of(lambda by=by, other=other: gate.tokens.activate(other.token.id, by=by))
                != "ok"
            )
            gate.tokens.deactivate(made.token.id)


def test_an_owner_of_the_same_name_elsewhere_reopens_nothing(gate: Gate) -> None:
    """A token that changed hands is not opened by a namesake of the one who closed it."""
    here, there = Owner("ann", idp_id="here"), Owner("ann", idp_id="there")
    scopes = ["gate:tokens:*"]
    mine = gate.verify(gate.tokens.create(name="a", owner=here, scopes=scopes).secret)
    theirs = gate.verify(gate.tokens.create(name="b", owner=there, scopes=scopes).secret)
    closed = gate.tokens.create(name="c", owner=here).token.id
    gate.tokens.deactivate(closed, by=mine)
    gate.tokens.update(closed, owner=there)
    assert reason_of(lambda: gate.tokens.activate(closed, by=theirs)) == "insufficient_scope"
    gate.tokens.update(closed, owner=here)
    assert not gate.tokens.activate(closed, by=mine).deactivated


def test_who_acted_is_told_by_kind_and_record(gate: Gate) -> None:
    """Of two tokens of one owner each has its own deeds; whoever has no credential has a kind and no record."""
    scopes = ["gate:tokens:*", "gate:shares:*", "gate:admin", "x"]
    one, two = (gate.tokens.create(name=name, owner=Owner("root"), scopes=scopes) for name in "ab")
    target = gate.tokens.create(name="t").token.id
    family = gate.tokens.create(name="f", type="REFRESH", owner=Owner("root"), scopes=scopes)
    exchanged = gate.tokens.exchange(family.secret)
    share = gate.shares.create("o", scopes=["x"], expires_in=60, by=gate.verify(one.secret))
    gate.shares.redeem(share.share.id, secret=share.secret)
    by: list[Any] = [
        gate.verify(one.secret),
        gate.verify(two.secret),
        gate.verify(exchanged.access_token),
    ]
    by += [
        gate.session(Owner("root"), scopes=["gate:tokens:write"]),
        None,
        "root",
        CommandLine("root"),
    ]
    for number, who in enumerate(by):
        created = gate.tokens.create(name=f"n{number}", by=who)
        assert gate.tokens.get(created.token.id).name == f"n{number}"
    gate.revoke(exchanged.access_token)
    gate.revoke(str(exchanged.refresh_token))
    gate.tokens.delete(target)
    told = [(entry.actor, entry.actor_kind, entry.actor_id) for entry in gate.audit().items]
    assert told[5:6] == [(f"share:{share.share.id}", "share", share.share.id)]
    assert told[6:] == [
        ("root", "token", one.token.id),
        ("root", "token", two.token.id),
        ("root", "access", family.token.id),
        ("root", "session", "session:root"),
        ("root", "root", None),
        ("root", "application", None),
        ("root", "cli", None),
        ("root", "access", family.token.id),
        ("root", "refresh", family.token.id),
        ("root", "root", None),
    ]


def test_sessions_of_two_providers_are_two(gate: Gate) -> None:
    """Whoever is logged in by one has other deeds than the namesake of the other."""
    for provider_id in (None, "p1", "p2"):
        gate.tokens.create(
            name="a",
            by=gate.session(Owner("ann", idp_id=provider_id), scopes=["gate:tokens:write"]),
        )
    assert [entry.actor_id for entry in gate.audit().items] == [
        "session:ann",
        "session:p1/ann",
        "session:p2/ann",
    ]


def test_a_name_that_could_be_a_records_id_reaches_nothing(gate: Gate) -> None:
    """What the application made by such a name is not the ownerless token's of that id, and no leak of it closes it."""
    ownerless = gate.tokens.create(name="a", scopes=["gate:tokens:*"])
    by = gate.verify(ownerless.secret)
    made = gate.tokens.create(name="b", by=ownerless.token.id)
    assert made.token.made_by == f"application:{ownerless.token.id}"
    assert [item.id for item in gate.tokens.list(by=by).items] == [ownerless.token.id]
    gate.tokens.deactivate(ownerless.token.id, leaked=True)
    assert reason_of(lambda: gate.verify(made.secret)) == "ok"


def test_a_reuse_is_told_of_the_family(gate: Gate, clock: Clock) -> None:
    """Whoever presented a retired credential is not told to be the owner."""
    family = gate.tokens.create(name="f", type="REFRESH", owner=Owner("ann"))
    gate.tokens.exchange(family.secret)
    clock.now = START + 60
    assert reason_of(lambda: gate.tokens.exchange(family.secret)) == "revoked"
    entry = gate.audit().items[-1]
    assert (entry.action, entry.actor) == ("token.reuse", f"refresh:{family.token.id}")
    assert (entry.actor_kind, entry.actor_id) == ("refresh", family.token.id)
