"""JWTs and the rest of the gate: their revocation, the management by them, and what is told about them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import START, Clock, reason_of
from flask import Flask
from identity_provider import ISSUER, issuer, token

from faregate import (
    Denied,
    Gate,
    InvalidInput,
    NotFound,
    Org,
    Owner,
    Policy,
    StoreUnavailable,
    UnsupportedTokenType,
)
from faregate.credentials.opaque import mint
from faregate_flask import Faregate

MANAGES = "gate:tokens:read gate:tokens:write gate:shares:read gate:shares:write docs:read"


@pytest.fixture
def managed(make_gate: Callable[..., Gate], store: str) -> Gate:
    """A gate whose issuer manages, with organizations in a claim."""
    return make_gate(
        store,
        issuers=[issuer(manages=True, org_claim="tenant")],
        policy=Policy(max_lifetime=86_400),
    )


def signed(scope: str = MANAGES, tenant: str = "o1", **claims: Any) -> str:
    """A token for the management."""
    return token(scope=scope, tenant=tenant, **claims)


# Revocation.


def test_a_revocation_counts_at_once_in_every_process(
    tmp_path: Path, make_gate: Callable[..., Gate]
) -> None:
    """A revoked JWT is refused in every process, cached or not; another JWT of its subject is accepted."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    one, other = (make_gate(url, issuers=[issuer()]) for _ in range(2))
    first, second = token(jti="a"), token(jti="b")
    for gate in (one, other):
        assert gate.verify(first).id == gate.verify(second).id == "alice"
    one.jwts.revoke(ISSUER, "a", until=START + 600)
    for gate in (other, one, make_gate(url, issuers=[issuer()])):
        assert reason_of(lambda gate=gate: gate.verify(first)) == "revoked"
        assert gate.verify(second).id == "alice"
    other.jwts.revoke_subject(ISSUER, "alice")
    for gate in (one, other, make_gate(url, issuers=[issuer()])):
        assert reason_of(lambda gate=gate: gate.verify(second)) == "revoked"
        assert gate.verify(token(sub="bob", jti="c")).id == "bob"


@pytest.mark.processes
@pytest.mark.slow
def test_a_real_second_process_revokes(tmp_path: Path, make_gate: Callable[..., Gate]) -> None:
    """By the command line, which knows no issuer of the gate."""
    gate = make_gate(f"sqlite:///{tmp_path / 'gate.db'}", issuers=[issuer()])
    command = [
        sys.executable,
        "-m",
        "faregate",
        "--store",
        f"sqlite:///{tmp_path / 'gate.db'}",
        "jwt",
        "revoke",
        "--issuer",
        ISSUER,
    ]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False)

    assert gate.verify(token(jti="a")).id == "alice"
    done = run("--jti", "a", "--until", "2030-01-01T00:00:00Z")
    assert (done.returncode, done.stdout) == (0, f"The token a of {ISSUER} is revoked.\n"), (
        done.stderr
    )
    assert "exactly" in done.stderr
    assert reason_of(lambda: gate.verify(token(jti="a"))) == "revoked"
    assert gate.verify(token(jti="b")).id == "alice"
    done = run("--subject", "alice", "--before", str(START), "--by", "ops")
    assert (done.returncode, done.stdout) == (
        0,
        f"The tokens of alice of {ISSUER} are revoked.\n",
    ), done.stderr
    assert reason_of(lambda: gate.verify(token(jti="b"))) == "revoked"
    assert gate.verify(token(START + 1, jti="b")).id == "alice", "issued later"
    assert gate.audit().items[-1].actor == "ops"
    for wrong, words in (
        ((), "--jti or --subject"),
        (("--jti", "a", "--subject", "b"), "--jti or --subject"),
        (("--jti", "a", "--before", "2030-01-01T00:00:00Z"), "only with --subject"),
        (("--jti", "a", "--until", "1980-01-01T00:00:00Z"), "until: lies in the past"),
        (("--jti", ""), "jti"),
        (("--subject", "a\u202eb"), "subject"),
    ):
        done = run(*wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
    command[4] = f"sqlite:///{tmp_path / 'other.db'}"
    assert run("--jti", "a").returncode == 2
    assert not (tmp_path / "other.db").exists(), "a revocation goes into no store that nobody reads"


def test_flask_revokes_with_its_own_issuers(tmp_path: Path) -> None:
    """`flask faregate jwt revoke` knows them, and refuses another."""
    app = Flask("x")
    app.config |= {
        "FAREGATE_STORE": f"sqlite:///{tmp_path / 'gate.db'}",
        "FAREGATE_ISSUERS": [issuer()],
        "FAREGATE_CLOCK": Clock(),
    }
    gate = Faregate(app).gate
    runner = app.test_cli_runner()
    assert gate.verify(token()).id == "alice"
    wrong = runner.invoke(
        args=["faregate", "jwt", "revoke", "--issuer", ISSUER + "/", "--jti", "t1"]
    )
    assert (wrong.exit_code, ISSUER in wrong.output) == (2, True)
    assert gate.verify(token()).id == "alice"
    assert (
        runner.invoke(
            args=["faregate", "jwt", "revoke", "--issuer", ISSUER, "--jti", "t1"]
        ).exit_code
        == 0
    )
    assert reason_of(lambda: gate.verify(token())) == "revoked"
    gate.close()


def test_revocations_are_entered_and_are_root_s(gate: Gate) -> None:
    """With what was said; admins, of the same organization even, do not see them."""
    gate.jwts.revoke(ISSUER, "t1", until=START + 5)
    gate.jwts.revoke_subject(ISSUER, "alice", before=START - 5, by="ops")
    found = gate.audit().items
    assert [(one.action, one.actor, one.details) for one in found] == [
        ("jwt.revoke", "root", {"issuer": ISSUER, "jti": "t1", "until": START + 5}),
        (
            "jwt.revoke_subject",
            "ops",
            {"issuer": ISSUER, "subject": "alice", "before": START - 5, "until": None},
        ),
    ]
    assert [one.action for one in gate.audit(subject=found[0].subject).items] == ["jwt.revoke"]
    admin = gate.verify(
        gate.tokens.create(name="admin", scopes=["gate:admin"], owner=Owner("a")).secret
    )
    assert {one.action for one in gate.audit(by=admin).items} == {"token.create"}
    for call in (gate.jwts.revoke, gate.jwts.revoke_subject):
        with pytest.raises(InvalidInput, match="by"):
            call(ISSUER, "x", by=admin)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "member"),
    [
        ({"jti": ""}, "jti"),
        ({"jti": 5}, "jti"),
        ({"jti": "a\nb"}, "jti"),
        ({"issuer": "https://nobody.example"}, "issuer"),
        ({"issuer": None}, "issuer"),
        ({"until": START - 120}, "until"),
        ({"until": "soon"}, "until"),
        ({"until": "\ud800"}, "until"),
        ({"subject": ""}, "subject"),
        ({"subject": None}, "subject"),
        ({"subject": "a", "before": "soon"}, "before"),
        ({"subject": "a", "before": True}, "before"),
    ],
)
def test_a_revocation_that_cannot_be_changes_nothing(
    wrong: dict[str, Any], member: str, make_gate: Callable[..., Gate]
) -> None:
    """And names what is wrong."""
    gate = make_gate("sqlite://", issuers=[issuer()])
    given = {"issuer": ISSUER, **({} if "subject" in wrong else {"jti": "t1"}), **wrong}
    call: Any = gate.jwts.revoke_subject if "subject" in wrong else gate.jwts.revoke
    with pytest.raises(InvalidInput, match=member):
        call(**given)
    assert gate.audit().items == ()
    assert gate.verify(token()).id == "alice"


def test_a_revocation_is_kept_until_its_end_and_the_longest_leeway(
    make_gate: Callable[..., Gate], store: str, clock: Clock
) -> None:
    """A purge revives nothing that could be alive; one without an end stays."""
    gate = make_gate(store, issuers=[issuer(leeway=120)])
    known = token()
    gate.jwts.revoke(ISSUER, "t1", until=START + 600)
    gate.jwts.revoke(ISSUER, "t2")
    gate.jwts.revoke(ISSUER, "t3", until=START + 600)
    gate.jwts.revoke(ISSUER, "t3", until=START + 9000)
    gate.jwts.revoke(ISSUER, "t3", until=START + 700)
    clock.now = START + 719.9
    assert gate.purge().revocations == 0
    assert reason_of(lambda: gate.verify(known)) == "revoked"
    clock.now = START + 720
    assert gate.purge().revocations == 1
    gate._records.close()
    assert reason_of(lambda: gate.verify(known)) == "expired"
    clock.now = START + 10_000
    assert gate.purge().revocations == 1
    assert reason_of(lambda: gate.verify(token(jti="t2", exp=int(START) + 20_000))) == "revoked"


def test_a_token_in_its_leeway_is_revoked_with_its_own_end(
    make_gate: Callable[..., Gate], clock: Clock
) -> None:
    """Which has passed by then, for everybody but the gate."""
    gate = make_gate("sqlite://", issuers=[issuer(leeway=120)])
    clock.now = START + 719
    assert gate.verify(token()).id == "alice"
    gate.jwts.revoke(ISSUER, "t1", until=START + 600)
    assert reason_of(lambda: gate.verify(token())) == "revoked"


def test_a_subject_is_as_long_as_an_owners_id_may_be(managed: Gate) -> None:
    """512 characters; and whatever names one takes so many."""
    longest = "a" * 512
    text = signed(sub=longest)
    assert managed.tokens.create(name="a", by=managed.verify(text)).token.owner.id == longest
    managed.owner_changed(Owner(longest))
    assert reason_of(lambda: managed.verify(signed(sub=longest + "a"))) == "unknown_credential"
    managed.jwts.revoke_subject(ISSUER, longest)
    assert reason_of(lambda: managed.verify(text)) == "revoked"


def test_a_token_is_verified_once(make_gate: Callable[..., Gate], store: str) -> None:
    """Also where nothing was ever changed; and the first change of all is noticed."""
    gate, other = (make_gate(store, issuers=[issuer()]) for _ in range(2))
    text = token()
    record = gate.verify(text).compiled
    for _ in range(3):
        gate._records.look_at = 0.0
        assert gate.verify(text).compiled is record
    unknown = mint("fg", "tok")
    assert reason_of(lambda: gate.verify(unknown)) == "unknown_credential"
    (gate if store == "sqlite://" else other).jwts.revoke(ISSUER, "t1")
    assert reason_of(lambda: gate.verify(text)) == "revoked"
    assert gate._records._unknown == {}


def test_many_tokens_of_a_subject_fill_no_memory(make_gate: Callable[..., Gate]) -> None:
    """And are dropped together."""
    gate = make_gate("sqlite://", issuers=[issuer()])
    texts = [token(key="ec", jti=f"t{number}") for number in range(1100)]
    for one in texts:
        gate.verify(one)
    records = gate._records._records
    assert len(records.by_digest) <= 1024
    assert len(records._digests) <= 1025
    gate.jwts.revoke_subject(ISSUER, "alice")
    assert all(reason_of(lambda one=one: gate.verify(one)) == "revoked" for one in texts[::50])


def test_a_store_that_cannot_answer_admits_no_new_token(
    tmp_path: Path, make_gate: Callable[..., Gate]
) -> None:
    """Whether it was revoked is not known then."""
    gate = make_gate(f"sqlite:///{tmp_path / 'gate.db'}", issuers=[issuer()])
    gate.verify(token())
    gate._records.close()
    with sqlite3.connect(tmp_path / "gate.db") as connection:
        connection.execute("ALTER TABLE faregate_jwt_revocations RENAME TO elsewhere")
    connection.close()
    with pytest.raises(StoreUnavailable):
        gate.verify(token(jti="t2"))
    assert reason_of(lambda: gate.verify("eyJhbGciOiJub25lIn0.e30.")) == "unknown_credential"


# Management.


def test_who_manages_by_jwt_is_bounded_by_the_policy(managed: Gate, clock: Clock) -> None:
    """Not by the end of the token that it calls with; what is made is its subject's."""
    alice = managed.verify(signed())
    made = managed.tokens.create(name="mine", scopes=["docs:read"], by=alice)
    assert made.token.expires_at is not None
    assert made.token.expires_at.timestamp() == START + 86_400
    assert made.token.not_before is None
    assert (made.token.owner, made.token.org) == (Owner("alice", idp_id=ISSUER), Org("o1"))
    assert made.token.made_by == f"jwt:{'https%3A%2F%2Fid.example'}/alice"
    with pytest.raises(InvalidInput, match="policy"):
        managed.tokens.create(name="longer", expires_in=timedelta(days=2), by=alice)
    assert (
        managed.tokens.create(name="shorter", expires_in=3600, by=alice).token.expires_at
        is not None
    )
    clock.now += 700
    assert managed.verify(made.secret).allows("docs:read"), "it outlives the JWT"
    share = managed.shares.create(
        "x",
        scopes=["docs:read"],
        expires_in=3600,
        by=managed.verify(signed(jti="t2", exp=int(clock.now) + 5)),
    )
    assert managed.verify(share.secret).allows("docs:read", on="x")


def test_its_scopes_bound_what_it_makes(managed: Gate) -> None:
    """Literally: what looks like a wildcard gives nothing."""
    alice = managed.verify(signed(MANAGES + " docs:* *"))
    for scopes in (["docs:write"], ["docs:*"], ["*"], ["gate:admin"]):
        assert (
            reason_of(
                lambda scopes=scopes: managed.tokens.create(name="more", scopes=scopes, by=alice)
            )
            == "insufficient_scope"
        )
    with pytest.raises(Denied, match="organization"):
        managed.tokens.create(name="elsewhere", org=Org("o2"), by=alice)
    assert (
        reason_of(lambda: managed.tokens.create(name="bob's", owner=Owner("bob"), by=alice))
        == "insufficient_scope"
    )


def test_its_networks_bound_what_it_makes(make_gate: Callable[..., Gate]) -> None:
    """What it makes inherits them."""
    given = issuer(manages=True, allowed_cidr_blocks=["10.0.0.0/8"])
    gate = make_gate("sqlite://", issuers=[given], policy=Policy(max_lifetime=60))
    alice = gate.verify(signed(), address="10.1.2.3")
    assert gate.tokens.create(name="a", by=alice).token.allowed_cidr_blocks == ("10.0.0.0/8",)
    assert (
        reason_of(lambda: gate.tokens.create(name="a", allowed_cidr_blocks=["0.0.0.0/0"], by=alice))
        == "insufficient_scope"
    )


def test_its_objects_bound_what_it_makes(make_gate: Callable[..., Gate]) -> None:
    """A scope on some objects is handed on for those alone."""
    given = issuer(manages=True, resources=lambda claims: claims.get("docs"))
    gate = make_gate("sqlite://", issuers=[given], policy=Policy(max_lifetime=60))
    managers = gate.verify(token(scope=MANAGES, jti="m"))
    limited = gate.verify(token(scope=MANAGES, docs=["x"]))
    assert gate.tokens.create(name="a", scopes=["docs:read"], by=managers).secret
    assert (
        reason_of(lambda: gate.tokens.create(name="a", scopes=["docs:read"], by=limited))
        == "insufficient_scope"
    )


def test_it_reaches_what_is_its_subjects(managed: Gate) -> None:
    """At its provider and in its organization; an admin the organization."""
    mine = managed.tokens.create(
        name="mine", owner=Owner("alice", idp_id=ISSUER), org=Org("o1")
    ).token
    others = [
        managed.tokens.create(name="other", owner=owner, org=org).token.id
        for owner, org in [
            (Owner("alice"), Org("o1")),
            (Owner("alice", idp_id="https://other.example"), Org("o1")),
            (Owner("alice", idp_id=ISSUER), Org("o2")),
            (Owner("bob", idp_id=ISSUER), Org("o1")),
            (Owner(), Org("o1")),
        ]
    ]
    alice = managed.verify(signed())
    assert [one.id for one in managed.tokens.list(by=alice).items] == [mine.id]
    for one in others:
        with pytest.raises(NotFound):
            managed.tokens.get(one, by=alice)
    admin = managed.verify(signed(MANAGES + " gate:admin", jti="t2"))
    assert managed.tokens.list(by=admin).total == 5
    assert managed.tokens.deactivate(others[3], by=admin).deactivated
    with pytest.raises(NotFound):
        managed.tokens.get(others[2], by=admin)


def test_it_has_no_self(managed: Gate) -> None:
    """Nor anything that goes by its own names."""
    alice = managed.verify(signed())
    for name in ("self", "alice", alice.compiled.id):
        with pytest.raises(NotFound):
            managed.tokens.get(name, by=alice)
        with pytest.raises(NotFound):
            managed.tokens.rotate(name, by=alice)


def test_a_call_is_judged_on_what_the_token_is_now(managed: Gate, clock: Clock) -> None:
    """In the transaction of the write: revoked, or expired."""
    alice = managed.verify(signed())
    managed.tokens.create(name="a", by=alice)
    managed.jwts.revoke_subject(ISSUER, "alice")
    assert reason_of(lambda: managed.tokens.create(name="b", by=alice)) == "revoked"
    assert reason_of(lambda: managed.tokens.list(by=alice)) == "revoked"
    bob = managed.verify(signed(sub="bob"))
    clock.now += 630
    assert reason_of(lambda: managed.tokens.create(name="b", by=bob)) == "expired"
    clock.now -= 630
    managed.tokens.create(name="b", by=bob)


def test_without_manages_it_manages_nothing(make_gate: Callable[..., Gate]) -> None:
    """Whatever its scopes say."""
    gate = make_gate("sqlite://", issuers=[issuer()])
    alice = gate.verify(token(scope=MANAGES + " gate:admin"))
    for call in (
        lambda: gate.tokens.create(name="a", by=alice),
        lambda: gate.tokens.list(by=alice),
        lambda: gate.audit(by=alice),
    ):
        assert reason_of(call) == "insufficient_scope"


def test_over_http_it_is_a_caller_like_others(tmp_path: Path) -> None:
    """With the real calls of the management API."""
    app = Flask("x")
    app.config |= {
        "FAREGATE_STORE": f"sqlite:///{tmp_path / 'gate.db'}", "FAREGATE_CLOCK": Clock(), "FAREGATE_POLICY": Policy(max_lifetime=600),
        "FAREGATE_ISSUERS": [issuer(manages=True)],
    }  # fmt: skip
    extension = Faregate(app)
    app.register_blueprint(extension.management(), url_prefix="/auth")
    client, headers = app.test_client(), {"Authorization": f"Bearer {token(scope=MANAGES)}"}
    made = client.post(
        "/auth/tokens", json={"name": "ci", "scopes": ["docs:read"]}, headers=headers
    )
    assert made.status_code == 201, made.text
    assert made.json is not None
    assert made.json["owner"]["idpId"] == ISSUER
    assert client.get("/auth/tokens/self", headers=headers).status_code == 404
    assert client.get("/auth/tokens", headers=headers).json["total"] == 1  # type: ignore[index]
    extension.gate.jwts.revoke(ISSUER, "t1")
    refused = client.get("/auth/tokens", headers=headers)
    assert (refused.status_code, json.loads(refused.data)["code"]) == (401, "revoked")
    extension.gate.close()


# What is told.


def test_introspection_tells_by_organization_and_reach(managed: Gate) -> None:
    """Details of an active JWT are shown to its organization; those of an inactive one to root, an admin and its own subject."""
    text = signed("docs:read", nbf=int(START))

    def told(by: Any) -> tuple[bool, str | None, str | None]:
        found = managed.introspect(text, by=by)
        return found.active, found.reason, found.subject

    reader = "gate:tokens:read"
    colleague = managed.verify(signed(reader, sub="bob", jti="bob", exp=int(START) + 90_000))
    admin = managed.verify(
        signed(f"{reader} gate:admin", sub="boss", jti="boss", exp=int(START) + 90_000)
    )
    herself = managed.verify(signed(reader, jti="t2", iat=int(START) + 20, exp=int(START) + 90_000))
    stranger = managed.verify(
        signed(reader, tenant="o2", sub="eve", jti="eve", exp=int(START) + 90_000)
    )
    everybody = (None, admin, herself, colleague)
    assert [told(by) for by in everybody] == [(True, None, "alice")] * 4
    assert told(stranger) == (False, None, None)
    found = managed.introspect(text)
    assert (found.kind, found.issuer, found.token_id, found.record, found.scope) == (
        "jwt",
        ISSUER,
        "t1",
        None,
        ("docs:read",),
    )
    instants = [
        instant.timestamp()
        for instant in (found.issued_at, found.not_before, found.expires_at)
        if instant is not None
    ]
    assert instants == [START, START, START + 600]
    managed.jwts.revoke(ISSUER, "t1")
    assert [told(by) for by in (None, admin, herself)] == [(False, "revoked", "alice")] * 3
    assert [told(by) for by in (colleague, stranger)] == [(False, None, None)] * 2
    for junk in (text[:-3] + "AAA", "a.b.c", token(iss="https://nobody.example")):
        assert managed.introspect(junk) == managed.introspect("junk")


def test_a_jwt_is_not_revoked_by_itself(managed: Gate) -> None:
    """RFC 7009 leaves it open; the gate's owner revokes it."""
    with pytest.raises(UnsupportedTokenType):
        managed.revoke(signed())
    assert managed.verify(signed()).id == "alice"


def test_an_explanation_says_what_is_wrong_with_it(
    make_gate: Callable[..., Gate], clock: Clock
) -> None:
    """Which rule, in words, to who looks after the gate; the caller is told nothing of it."""
    gate = make_gate("sqlite://", issuers=[issuer()])
    for text, step, words in (
        (
            token(aud="https://other.example"),
            3,
            "its aud is 'https://other.example', and not https://api.example",
        ),
        (token(client_id=None), 3, "it has no client_id"),
        (token(header={"kid": "x"}), 3, "no trusted issuer has a key of its kid"),
        (token(header={"typ": "JWT"}), 3, "the typ of its header"),
        (token(iss="https://nobody.example"), 3, "its iss is not a trusted issuer"),
        (token()[:-4] + "AAAA", 3, "signature"),
        ("a.b.c", 2, "5 characters"),
    ):
        told = gate.explain(text)
        assert told.reason == "unknown_credential"
        assert told.steps[step - 1].reason == "unknown_credential"
        assert words in told.steps[step - 1].words
        with pytest.raises(Denied) as denied:
            gate.verify(text)
        assert words not in gate.requests.answer(denied.value, route="/").body.decode()
    told = make_gate("sqlite://").explain(token())
    assert (told.reason, told.steps[2].words) == (
        "unknown_credential",
        "this gate trusts no issuer of JWTs",
    )
    gate.jwts.revoke(ISSUER, "t1")
    told = gate.explain(token(), address="127.0.0.1", needs="docs:read")
    assert [(one.number, one.words) for one in told.steps if one.passed is False] == [
        (4, "revoked")
    ]
    assert told.steps[1].words == "a JWT of a trusted issuer"
    assert told.steps[2].words == "of 'alice', by https://id.example"
    assert told.steps[4].words.endswith("give or take 30 s")
    clock.now += 700
    assert gate.explain(token(jti="t2")).reason == "expired"


def test_what_a_jwt_made_lives_on_without_it(managed: Gate) -> None:
    """A share that it made is a credential of its own; who revokes a subject looks at what that made."""
    share = managed.shares.create(
        "x", scopes=["docs:read"], expires_in=60, by=managed.verify(signed())
    )
    managed.jwts.revoke_subject(ISSUER, "alice")
    assert managed.verify(share.secret).allows("docs:read", on="x")
    assert share.share.made_by == "jwt:https%3A%2F%2Fid.example/alice"
