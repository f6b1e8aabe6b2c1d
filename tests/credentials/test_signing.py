"""The signing secret: given, from the environment, or made once beside the database."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
import threading
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import identity_provider as provider
import pytest
from conftest import reason_of

from faregate import Gate, InvalidInput, Issuer, StoreUnavailable
from faregate.credentials.signing_secret import SigningSecret, same_key
from faregate.diagnosis import examine

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
    assert (
        reason_of(lambda: one.verify("eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.x"))
        == "unknown_credential"
    )
    assert not key.exists()
    token = redeemed(one)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    made = key.read_bytes()
    assert two.verify(token).kind == one.verify(redeemed(two)).kind == "share"
    assert key.read_bytes() == made
    assert (
        made.strip()
        not in (tmp_path / "gate.db").read_bytes() + (tmp_path / "gate.db-wal").read_bytes()
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "gate.db", "gate.db-page", "gate.db-shm", "gate.db-wal", "gate.db.key",
    ]  # fmt: skip
    one.close()
    two.close()


@pytest.mark.processes
def test_two_that_make_it_at_once_agree(tmp_path: Path) -> None:
    """Threads and processes that come first together take the same secret."""
    path = tmp_path / "gate.db"
    path.touch()
    script = f"from faregate.credentials.signing_secret import SigningSecret; print(SigningSecret(None, {str(path)!r}).newest().hex())"
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(SigningSecret(None, str(path)).newest().hex()))
        for _ in range(20)
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
    [
        "",
        "x" * 31,
        b"",
        b"x" * 31,
        [],
        [""],
        ["x" * 32, "short"],
        5,
        [5],
        "\ud800" * 40,
        {"a"},
        PEM,
        [PEM.encode()],
    ],
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


def oct_set(*secrets: str) -> dict[str, list[dict[str, str]]]:
    """A JWK set of secrets."""
    encoded = [
        base64.urlsafe_b64encode(secret.encode()).rstrip(b"=").decode() for secret in secrets
    ]
    return {
        "keys": [
            {"kty": "oct", "kid": str(number), "k": each} for number, each in enumerate(encoded)
        ]
    }


def hmac_issuer(keys: Any, name: str = "https://id.example", algorithm: str = "HS256") -> Issuer:
    """An issuer that signs with a secret."""
    return Issuer(name, "api", [algorithm], name=name.removeprefix("https://"), keys=keys)


@pytest.mark.parametrize(
    "issuer",
    [
        hmac_issuer(NEW),
        hmac_issuer(NEW, algorithm="HS384"),
        hmac_issuer(NEW + "\0"),
        hmac_issuer(oct_set("other" * 16, NEW)),
        hmac_issuer(f"{NEW}\n"),
        hmac_issuer(f"{OLD}, {NEW}"[1:]),
        hmac_issuer(base64.b64encode(NEW.encode())),
        hmac_issuer(base64.urlsafe_b64encode(NEW.encode()).rstrip(b"=")),
        hmac_issuer(NEW.encode().hex()),
        hmac_issuer(base64.urlsafe_b64decode(NEW + "=" * (-len(NEW) % 4))),
    ],
)
def test_an_issuers_secret_is_not_the_gates(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The issuer could make shares with it: given, from the environment or beside the database, it is refused."""
    for secret in (NEW, [OLD, NEW], f"{OLD}, {NEW}", NEW.encode()):
        with pytest.raises(InvalidInput, match="secret: is the HMAC secret of one of the issuers"):
            Gate(
                "sqlite://",
                secret=secret,
                issuers=[hmac_issuer(OLD * 2, "https://other.example"), issuer],
            )
    Gate("sqlite://", secret=OLD, issuers=[issuer]).close()

    url = f"sqlite:///{tmp_path / 'gate.db'}"
    key = tmp_path / "gate.db.key"
    gate = Gate(url, issuers=[issuer])
    assert gate.verify(redeemed(gate)).kind == "share"
    key.write_text(f"{OLD}\n{NEW}\n")
    with pytest.raises(StoreUnavailable) as caught:
        redeemed(gate)
    assert "one of the issuers" in caught.value.cause
    gate.close()
    with pytest.raises(InvalidInput, match=r"gate\.db\.key: is the HMAC secret"):
        Gate(url, issuers=[issuer])
    findings = {finding.check: finding for finding in examine(url, {"issuers": [issuer]})}
    assert "one of the issuers" in findings["secret"].words
    Gate(url).close()

    monkeypatch.setenv("FAREGATE_SECRET", NEW)
    with pytest.raises(InvalidInput, match="FAREGATE_SECRET: is the HMAC secret"):
        Gate("sqlite://", issuers=[issuer])


def test_a_secret_is_one_issuers_alone() -> None:
    """Each could sign as the other, which may be trusted with more; a public key may well be of several."""
    with pytest.raises(InvalidInput, match="have the same HMAC secret"):
        Gate(
            "sqlite://",
            issuers=[
                hmac_issuer(NEW, "https://a.example"),
                hmac_issuer(oct_set(NEW, OLD), "https://b.example", "HS256"),
            ],
        )
    Gate(
        "sqlite://",
        issuers=[hmac_issuer(NEW, "https://a.example"), hmac_issuer(OLD, "https://b.example")],
    ).close()
    public = [
        provider.issuer(issuer=f"https://{name}.example", name=name, keys=provider.jwks("ec"))
        for name in "ab"
    ]
    Gate("sqlite://", issuers=public).close()


def test_what_signs_alike_is_the_same_key() -> None:
    """HMAC fills short keys with zeros and hashes long ones: two texts may be one key."""
    long = b"x" * 65
    assert same_key(b"x" * 32, b"x" * 32 + bytes(9))
    assert same_key(long, sha256(long).digest())
    assert not same_key(b"x" * 32, b"x" * 33)
