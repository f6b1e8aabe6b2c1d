"""A credential is found nowhere but in the answer that minted it."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import identity_provider as provider
import pytest
from conftest import Clock
from flask import Flask

from faregate import Conflict, Denied, FaregateError, Gate
from faregate.credentials.opaque import digest
from faregate.credentials.presented import Presented
from faregate_flask import Faregate, current_principal


def test_a_secret_is_found_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not in the files, the log at DEBUG, lists, errors, tracebacks or representations, whole or in half."""
    caplog.set_level(logging.DEBUG)
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    issued = gate.tokens.create(
        name="canary", scopes=["gate:*"], allowed_cidr_blocks=["10.0.0.0/8"]
    )
    secret = issued.secret
    shown: list[str] = [repr(issued), str(issued), repr(issued.token)]
    principal = gate.verify(secret, address="10.0.0.1")
    shown += [
        repr(principal),
        str(principal),
        repr(principal.compiled),
        repr(gate.tokens.list()),
        repr(gate.__dict__),
    ]
    calls: list[Callable[[], object]] = [
        lambda: gate.verify(secret, address="192.0.2.1"),
        lambda: gate.verify(secret),
        lambda: principal.require("docs:write", on=secret[:5]),
        lambda: gate.verify(secret + "x"),
        lambda: gate.verify(secret + " x"),
        lambda: [
            gate.verify(gate.tokens.rotate("self", by=principal).secret, address="10.0.0.1"),
            gate.tokens.rotate("self", by=principal),
        ],
        lambda: [gate.tokens.deactivate(issued.token.id), gate.verify(secret, address="10.0.0.1")],
    ]
    for call in calls:
        with pytest.raises(FaregateError) as raised:
            call()
        assert isinstance(raised.value, Denied | Conflict)
        shown += [repr(raised.value), str(raised.value), repr(raised.value.__dict__)]
        shown.append("".join(traceback.format_exception(raised.value)))
    gate.close()
    shown += [record.getMessage() for record in caplog.records] + [caplog.text]
    body = secret.split("_")[2]
    for text in shown:
        assert body[:20] not in text
        assert body[-20:] not in text
        assert digest(secret).hex() not in text
    assert len(list(tmp_path.iterdir())) >= 2
    for file in tmp_path.iterdir():
        assert body[:20].encode() not in file.read_bytes()


def test_what_is_exchanged_is_found_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a refresh credential, current or retired, nor an access credential, whatever becomes of them."""
    caplog.set_level(logging.DEBUG)
    gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
    made = gate.tokens.create(
        name="canary", type="REFRESH", scopes=["a"], allowed_cidr_blocks=["10.0.0.0/8"]
    )
    here = "10.0.0.1"
    first = gate.tokens.exchange(made.secret, address=here)
    again = gate.tokens.exchange(made.secret, address=here)
    second = gate.tokens.exchange(str(first.refresh_token), address=here)
    secrets = [
        made.secret,
        *(str(one.refresh_token) for one in (first, second)),
        *(one.access_token for one in (first, again, second)),
    ]
    shown = [
        repr(one)
        for one in (
            made,
            first,
            again,
            second,
            gate.verify(first.access_token, address=here),
            gate.__dict__,
        )
    ]
    calls: list[Callable[[], object]] = [
        lambda: gate.tokens.exchange(secrets[2], ["b"], address=here),
        lambda: gate.tokens.exchange(secrets[2]),
        lambda: gate.tokens.exchange(secrets[2] + "x", address=here),
        lambda: gate.tokens.exchange(first.access_token, address=here),
        lambda: gate.verify(secrets[2], address=here),
        lambda: gate.verify(first.access_token, address="192.0.2.1"),
        lambda: gate.tokens.exchange(made.secret, address=here),
        lambda: gate.tokens.exchange(secrets[2], address=here),
        lambda: gate.verify(second.access_token, address=here),
    ]
    for call in calls:
        with pytest.raises(Denied) as raised:
            call()
        shown += [
            repr(raised.value),
            str(raised.value),
            repr(raised.value.__dict__),
            str(gate.requests.answer(raised.value, route="/")),
        ]
        shown.append("".join(traceback.format_exception(raised.value)))
    for secret in secrets:
        shown += [repr(gate.explain(secret, address=here)), repr(gate.introspect(secret))]
    shown += [
        repr(gate.audit()),
        repr(gate.tokens.list()),
        *(record.getMessage() for record in caplog.records),
        caplog.text,
    ]
    gate.close()
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for secret in secrets:
        for piece in (secret[7:28], secret[28:50]):
            assert not [one for one in shown if piece in one]
            assert piece.encode() not in stored


def test_a_jwt_is_found_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither its signature nor the secret that an issuer signs with, whatever becomes of it."""
    caplog.set_level(logging.DEBUG)
    shared = provider.issuer(
        name="shared", algorithms=["HS256"], keys=provider.SECRET, issuer="https://hmac.example"
    )
    gate = Gate(
        f"sqlite:///{tmp_path / 'gate.db'}", clock=Clock(), issuers=[provider.issuer(), shared]
    )
    sound = provider.token()
    texts = [
        sound, sound[:-4] + "AAAA", sound + "\u00e9", provider.token(exp=1), provider.token(exp="x" * 9), provider.token(aud="x"),
        provider.token(key="secret", iss="https://hmac.example", header={"kid": None}),
    ]  # fmt: skip
    shown = [repr(gate.__dict__), repr(shared), repr(shared.__dict__), repr(gate._issuers.__dict__)]
    for text in texts:
        try:
            shown.append(repr(gate.verify(text)))
        except Denied as denied:
            shown += [
                repr(denied),
                str(denied),
                repr(denied.__dict__),
                "".join(traceback.format_exception(denied)),
            ]
            shown.append(str(gate.requests.answer(denied, route="/")))
        if text.isascii():
            shown += [repr(gate.explain(text)), repr(gate.introspect(text))]
    gate.jwts.revoke(provider.ISSUER, "t1")
    shown += [repr(gate.audit()), *(record.getMessage() for record in caplog.records), caplog.text]
    gate.close()
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for text in texts:
        for piece in (text.split(".")[1][:40], text.split(".")[2][:20], text[-20:-5]):
            assert not [one for one in shown if piece in one]
            assert piece.encode() not in stored
    assert not [one for one in shown if "HMAC secret" in one]


def test_the_answer_that_mints_is_the_only_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Over HTTP: in the answer to POST, in no other answer, and in no log."""
    caplog.set_level(logging.DEBUG)
    app = Flask(__name__)
    app.config["FAREGATE_STORE"] = f"sqlite:///{tmp_path / 'gate.db'}"
    faregate = Faregate(app)
    app.register_blueprint(faregate.management(), url_prefix="/auth")

    @app.get("/a")
    @faregate.requires("docs:write")
    def a() -> str:
        return repr(current_principal)

    admin = {
        "Authorization": f"Bearer {faregate.gate.tokens.create(name='admin', scopes=['*']).secret}"
    }
    client = app.test_client()
    made = client.post("/auth/tokens", json={"name": "canary", "scopes": ["gate:*"]}, headers=admin)
    secret = made.get_json()["token"]
    assert made.text.count(secret) == 1
    own = {"Authorization": f"Bearer {secret}"}
    answers = [
        client.get("/a", headers=own),
        client.get("/a", headers={"Authorization": f"Bearer {secret}, Bearer {secret}"}),
        client.get("/a", headers={"Authorization": f"Bearer {secret}\u00e9"}),
        client.get("/auth/tokens/self", headers=own),
        client.get("/auth/tokens", headers=own),
        client.get(f"/auth/tokens/{secret}", headers=own),
        client.patch("/auth/tokens/self", json={"name": "x"}, headers=own),
        client.post("/auth/tokens/self/deactivate", headers=own),
        client.get("/auth/tokens/self", headers=own),
        client.get(f"/auth/tokens/{secret}", headers=own),
    ]
    for answer in answers:
        assert secret.split("_")[2] not in answer.text + str(answer.headers)
    assert len([record for record in caplog.records if record.name == "faregate"]) == 5
    assert all(secret.split("_")[2] not in record.getMessage() for record in caplog.records)
    faregate.gate.close()


def test_records_of_secrets_are_not_pickled_by_accident() -> None:
    """What is issued shows nothing of the secret in a representation, even inside a container."""
    issued = Gate("sqlite://").tokens.create(name="a")
    assert issued.secret not in repr([issued, {"x": issued}])
    assert issued.secret not in str(issued.__rich_repr__())
    assert issued.secret not in repr(Presented(issued.secret, elsewhere=False))
    assert pickle.loads(pickle.dumps(issued.token)) == issued.token  # noqa: S301  what was just made
