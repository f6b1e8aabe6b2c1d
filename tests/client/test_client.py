"""A client's half of refresh tokens, against a real gate over real sockets; faults are made where the network is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import requests
from flask import Flask, request
from werkzeug.serving import make_server

from faregate import Gate, InvalidInput, Issued
from faregate.client import (
    ExchangeRefused,
    ExchangeUnanswered,
    RefreshAuth,
    refresh_auth,
    token_endpoint,
    token_file,
)
from faregate.client.token_file import StoredTokens, TokenFile
from faregate_flask import Faregate


class Service:
    """An application behind a gate on a socket, that counts the exchanges."""

    def __init__(self, folder: Path) -> None:
        app = Flask(__name__)
        app.config["FAREGATE_STORE"] = f"sqlite:///{folder / 'gate.db'}"
        faregate = Faregate(app)
        app.register_blueprint(faregate.management(), url_prefix="/auth")
        app.add_url_rule(
            "/x",
            "x",
            faregate.requires("a")(lambda: request.get_data() or b"x"),
            methods=["GET", "POST"],
        )
        app.before_request(self.count)
        self.gate: Gate = faregate.gate
        self.seen: list[str] = []
        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        self.origin = f"http://127.0.0.1:{self.server.port}"
        self.url = f"{self.origin}/auth/token"
        self.path = folder / "kept" / "credential"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def count(self) -> None:
        """Remember the path of a request."""
        self.seen.append(request.path)

    @property
    def exchanges(self) -> int:
        """How often an exchange was asked for."""
        return self.seen.count("/auth/token")

    def login(self, **members: Any) -> tuple[RefreshAuth, Issued]:
        """What somebody has who has just logged in."""
        made = self.gate.tokens.create(name="session", type="REFRESH", scopes=["a", "b"], **members)
        auth = RefreshAuth(self.url, self.path)
        auth.keep(made.secret)
        return auth, made

    def kept(self) -> dict[str, Any]:
        """What is in the file."""
        found: dict[str, Any] = json.loads(self.path.read_bytes())
        return found

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()
        self.gate.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """An application that serves."""
    made = Service(tmp_path)
    yield made
    made.close()


class Moved:
    """The client's time, some seconds on."""

    monotonic, sleep = time.monotonic, time.sleep

    def __init__(self) -> None:
        self.now, self.ahead = time.time(), 0.0

    def time(self) -> float:
        """Return the instant."""
        return self.now + self.ahead


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Moved:
    """The time of the client, to be moved."""
    moved = Moved()
    for module in (refresh_auth, token_endpoint):
        monkeypatch.setattr(module, "time", moved)
    return moved


class Faulty(httpx2.HTTPTransport):
    """A network that does to one request after the other what it is told, and to all others nothing."""

    def __init__(self, *faults: str) -> None:
        super().__init__()
        self.faults = list(faults)
        self.posts = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it, and lose the answer; or answer otherwise."""
        self.posts += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault == "unsent":
            raise httpx2.ConnectError("no way there")
        if fault is not None and fault.isdigit():
            return httpx2.Response(int(fault), text="no", request=request)
        if fault is not None and fault.startswith(("{", "<", "\x00")):
            return httpx2.Response(
                200, content=fault.removeprefix("\x00").encode("latin-1"), request=request
            )
        if fault is not None and fault.startswith("later"):
            return httpx2.Response(429, headers={"Retry-After": fault[5:]}, request=request)
        answer = super().handle_request(request)
        if fault is not None and fault.startswith(
            "after"
        ):  # a proxy's word, when the gate has done its work
            answer.read()
            return httpx2.Response(int(fault[5:]), text="upstream", request=request)
        if fault == "cut":
            return httpx2.Response(200, content=answer.read()[:-20], request=request)
        if fault in ("lost", "spoilt"):
            answer.read()
            raise (
                httpx2.ReadError("the answer was lost")
                if fault == "lost"
                else httpx2.DecodingError("no gzip")
            )
        return answer


def test_it_opens_with_httpx2(service: Service) -> None:
    """One exchange serves many requests; its answer is saved for the next client."""
    auth, _ = service.login()
    with httpx2.Client(auth=auth) as http:
        assert [http.get(f"{service.origin}/x").text for _ in range(3)] == ["x"] * 3
        assert http.post(f"{service.origin}/x", content=b"body").text == "body"
    with httpx2.Client(auth=RefreshAuth(service.url, service.path)) as http:
        assert http.get(f"{service.origin}/x").text == "x"
    assert service.exchanges == 1
    assert service.gate.introspect(service.kept()["refresh_token"], refresh=True).active


def test_it_opens_with_an_event_loop(service: Service) -> None:
    """And waits there in a worker thread."""
    auth, _ = service.login()

    async def main() -> list[str]:
        async with httpx2.AsyncClient(auth=auth) as http:
            first = await http.get(f"{service.origin}/x")
            service.gate.revoke(service.kept()["access_token"])
            return [first.text, (await http.get(f"{service.origin}/x")).text]

    assert anyio.run(main) == ["x", "x"]
    assert service.exchanges == 2


def test_it_opens_with_requests(service: Service) -> None:
    """As an ``auth`` of that library."""
    auth, _ = service.login()
    with requests.Session() as session:
        session.auth = auth
        assert [session.get(f"{service.origin}/x", timeout=5).text for _ in range(2)] == ["x", "x"]
    assert service.exchanges == 1
    with pytest.raises(InvalidInput, match="origins"):
        requests.get("http://localhost:1/x", auth=auth, timeout=5)


def test_the_file_is_nobody_elses(service: Service) -> None:
    """Mode 0600 in a folder of 0700, whatever the mask; and nothing else is left there."""
    before = os.umask(0)
    try:
        auth, _ = service.login()
        auth.access_token()
    finally:
        os.umask(before)
    assert service.path.parent.stat().st_mode & 0o777 == 0o700
    assert {one.name: one.stat().st_mode & 0o777 for one in service.path.parent.iterdir()} == {
        "credential": 0o600, "credential.lock": 0o600,
    }  # fmt: skip


def test_a_file_that_others_can_read_is_not_used(service: Service) -> None:
    """A token file that others can read, that is missing or that holds something else is refused; the error names the remedy."""
    auth, _ = service.login()
    service.path.chmod(0o640)
    with pytest.raises(InvalidInput, match="0600"):
        auth.access_token()
    for text in (b"", b"{}", b"[]", b"\xff"):
        service.path.chmod(0o600)
        service.path.write_bytes(text)
        with pytest.raises(InvalidInput, match="log in again"):
            auth.access_token()
    service.path.unlink()
    with pytest.raises(InvalidInput, match="log in"):
        auth.access_token()
    with pytest.raises(InvalidInput, match="log in"):
        RefreshAuth(service.url, service.path.parent / "no" / "such").access_token()
    assert service.exchanges == 0


def test_a_login_replaces_what_was_kept(service: Service) -> None:
    """Also what is in memory."""
    auth, first = service.login()
    auth.access_token()
    service.gate.tokens.delete(first.token.id)
    with pytest.raises(ExchangeRefused) as raised:
        auth.access_token(rejected=auth.access_token())
    assert raised.value.error == "invalid_grant"
    second = service.gate.tokens.create(name="session", type="REFRESH", scopes=["a"])
    auth.keep(second.secret)
    assert service.gate.verify(auth.access_token()).id == second.token.id


@pytest.mark.parametrize(
    "faults",
    [
        ["lost"],
        ["lost", "lost"],
        ["unsent"],
        ["502"],
        ["spoilt"],
        ["lost", "503", "unsent", "429"],
        ["cut"],
        ["\x00"],
        ["after503"],
        ["after408"],
        ["after524"],
        ["after599"],
        ["lost", "404", "<html>"],
        ["after425"],
    ],
)
def test_trap_9_what_was_lost_is_asked_for_again(service: Service, faults: list[str]) -> None:
    """And is the same: nothing is taken for theft."""
    _, made = service.login()
    network = Faulty(*faults)
    with httpx2.Client(transport=network) as http:
        auth = RefreshAuth(service.url, service.path, http=http)
        assert service.gate.verify(auth.access_token()).id == made.token.id
        assert network.posts == len(faults) + 1
        auth.access_token(rejected=auth.access_token())
    assert [entry.action for entry in service.gate.audit().items] == ["token.create"]
    assert service.gate.introspect(service.kept()["refresh_token"], refresh=True).active


def test_a_gate_that_does_not_answer_is_asked_later(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while it is said so; what is kept is good still."""
    monkeypatch.setattr(token_endpoint, "PATIENCE", 0.5)
    service.login()
    with httpx2.Client(transport=Faulty(*["unsent"] * 100)) as http:
        begun = time.monotonic()
        with pytest.raises(ExchangeUnanswered, match="did not answer"):
            RefreshAuth(service.url, service.path, http=http).access_token()
        assert time.monotonic() - begun < 2
        assert isinstance(http._transport, Faulty)
        assert http._transport.posts <= 4  # there are pauses, each longer than the one before
    assert RefreshAuth(service.url, service.path).access_token()


@pytest.mark.parametrize(
    "answer",
    [
        "<html>",
        "{}",
        "404",
        "302",
        "400",
        '{"access_token": 5, "expires_in": 3}',
        '{"access_token": "", "expires_in": 3}',
        '{"access_token": "a", "expires_in": -3}',
        '{"access_token": "a", "expires_in": 1e308}',
        '{"access_token": "a\\r\\nb", "expires_in": 3}',
        '{"access_token": "a", "expires_in": 3, "refresh_token": ""}',
        '{"access_token": "a", "expires_in": 3, "token_type": "DPoP"}',
        '{"access_token": "\xff", "expires_in": 3}',
        '{"x": ' + "[" * 5000 + "]" * 5000 + "}",
    ],
)
def test_what_is_no_token_endpoint_is_said_to_be_none(service: Service, answer: str) -> None:
    """It is asked once, and nothing that is kept is lost."""
    service.login()
    network = Faulty(answer)
    with (
        httpx2.Client(transport=network) as http,
        pytest.raises(ExchangeRefused, match="token endpoint"),
    ):
        RefreshAuth(service.url, service.path, http=http).access_token()
    assert network.posts == 1
    assert RefreshAuth(service.url, service.path).access_token()


def test_the_last_second_of_a_family_is_an_answer(service: Service) -> None:
    """An answer with ``expires_in`` 0 is used once, and exchanged again for the next call."""
    service.login()
    answers = [
        f'{{"access_token": "{name}", "expires_in": 0, "refresh_token": "r{name}"}}'
        for name in "ab"
    ]
    with httpx2.Client(transport=Faulty(*answers)) as http:
        auth = RefreshAuth(service.url, service.path, http=http)
        assert [auth.access_token(), auth.access_token()] == ["a", "b"]
    assert service.kept()["refresh_token"] == "rb"


@pytest.mark.parametrize("fault", ["lost", "after503", "after524", "cut"])
def test_an_early_renewal_whose_answer_is_lost_is_settled(
    service: Service, moved: Moved, fault: str
) -> None:
    """At once, though the old credential would do for now: later the same exchange could not be repeated."""
    service.login()
    network = Faulty()
    with httpx2.Client(transport=network) as http:
        auth = RefreshAuth(service.url, service.path, http=http)
        first = auth.access_token()
        moved.ahead = 1750.0
        network.faults = [fault, "unsent", fault]
        assert auth.access_token() != first
        assert network.posts == 5
    assert service.gate.introspect(service.kept()["refresh_token"], refresh=True).active


def test_a_gate_that_puts_off_is_not_pressed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says for how long; what is longer than there is patience is said at once, and what is nonsense ignored."""
    monkeypatch.setattr(token_endpoint, "PATIENCE", 3.0)
    service.login()
    network = Faulty("later1", "later60")
    with httpx2.Client(transport=network) as http:
        auth, begun = RefreshAuth(service.url, service.path, http=http), time.monotonic()
        with pytest.raises(ExchangeUnanswered, match="429"):
            auth.access_token()
        assert 1.0 <= time.monotonic() - begun < 2.5
        network.faults = ["latersoon"]
        assert auth.access_token()
        assert network.posts == 4


def test_what_does_not_come_to_its_end_is_lost(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that drips, and one that goes on and on: nobody waits for either for ever."""
    monkeypatch.setattr(token_endpoint, "PATIENCE", 0.1)
    monkeypatch.setattr(token_endpoint, "TIMEOUT", 0.5)

    def drips() -> Iterator[bytes]:
        while True:
            yield b" "
            time.sleep(0.05)

    def floods() -> Iterator[bytes]:
        while True:
            yield b" " * 10_000

    service.login()
    for body in (drips, floods):
        answer = httpx2.MockTransport(lambda _: httpx2.Response(200, content=body()))  # noqa: B023
        begun = time.monotonic()
        with (
            httpx2.Client(transport=answer) as http,
            pytest.raises(ExchangeUnanswered, match="end"),
        ):
            RefreshAuth(service.url, service.path, http=http).access_token()
        assert time.monotonic() - begun < 2


def test_no_proxy_hears_what_is_said_on_this_machine(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In plain words, that is; whatever the environment has for others."""
    auth, made = service.login()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert service.gate.verify(auth.access_token()).id == made.token.id


def test_what_a_client_sends_by_itself_is_left_out(service: Service) -> None:
    """Its own credential, or, where it has this very object for its own, the exchange within the exchange."""
    _, made = service.login()
    with httpx2.Client() as http:
        auth = RefreshAuth(service.url, service.path, http=http)
        http.auth = auth
        assert service.gate.verify(auth.access_token()).id == made.token.id


def test_words_of_a_refusal_are_plain(service: Service) -> None:
    """What stands in a log or on a terminal has no control characters, and an end."""
    service.login()
    words = "\x1b]0;title\x07\\n" + "x" * 10_000
    refusal = httpx2.Response(
        400, content=json.dumps({"error": "invalid_grant", "error_description": words})
    )
    with httpx2.Client(transport=httpx2.MockTransport(lambda _: refusal)) as http:
        with pytest.raises(ExchangeRefused) as raised:
            RefreshAuth(service.url, service.path, http=http).access_token()
        assert str(raised.value).startswith("invalid_grant: ?]0;title?")
        assert len(str(raised.value)) < 600
        refusal = httpx2.Response(400, content=b'{"error": "a\\n"}')
        with pytest.raises(ExchangeRefused, match="invalid_answer"):
            RefreshAuth(service.url, service.path, http=http).access_token()


def test_who_waited_for_what_failed_is_told_the_same(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an exchange fails, the threads that waited for it raise the same error instead of retrying in turn."""
    monkeypatch.setattr(token_endpoint, "PATIENCE", 0.5)
    service.login()
    network = Faulty(*["unsent"] * 100)
    with httpx2.Client(transport=network) as http, ThreadPoolExecutor(10) as threads:
        auth, begun = RefreshAuth(service.url, service.path, http=http), time.monotonic()

        def told(_: int) -> str:
            with pytest.raises(ExchangeUnanswered) as raised:
                auth.access_token()
            return str(raised.value)

        assert len(set(threads.map(told, range(10)))) == 1
        assert time.monotonic() - begun < 2
        network.faults = []
        assert auth.access_token()  # who comes later asks again


def test_an_event_loop_is_left_to_others(service: Service) -> None:
    """What is at hand takes no thread; whoever waits for an exchange takes none that the application uses."""
    auth, _ = service.login()
    url = f"{service.origin}/x"

    async def main() -> float:
        async with httpx2.AsyncClient(auth=auth) as http, anyio.create_task_group() as tasks:
            await http.get(url)
            anyio.to_thread.current_default_thread_limiter().total_tokens = 1
            with TokenFile(service.path).locked():
                assert (await http.get(url)).text == "x"
                service.gate.revoke(service.kept()["access_token"])
                for _ in range(5):
                    tasks.start_soon(http.get, url)
                await anyio.sleep(0.3)
                begun = time.monotonic()
                await anyio.to_thread.run_sync(time.sleep, 0)
                waited = time.monotonic() - begun
        return waited

    assert anyio.run(main) < 0.2
    assert service.exchanges == 2


def test_what_is_in_the_file_counts_for_all(service: Service) -> None:
    """Another login, and none: what is in memory is of the file as it was."""
    auth, first = service.login()
    assert service.gate.verify(auth.access_token()).id == first.token.id
    _, second = service.login()
    assert service.gate.verify(auth.access_token()).id == second.token.id
    service.path.unlink()
    with pytest.raises(InvalidInput, match="log in"):
        auth.access_token()


def test_a_file_is_of_one_gate(service: Service) -> None:
    """The refresh token of one is not sent to another."""
    service.login()
    with pytest.raises(InvalidInput, match="a file for each gate"):
        RefreshAuth("http://127.0.0.1:9/auth/token", service.path).access_token()
    assert service.exchanges == 0


def test_a_file_of_another_user_is_not_used(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token file of another user is refused, even if it is readable: rewriting it would take it from its owner."""
    auth, _ = service.login()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(InvalidInput, match="another user's"):
        auth.access_token()


def test_a_login_in_the_middle_of_an_exchange_is_told_to_wait(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a word on what is going on; what was kept is kept."""
    auth, made = service.login()
    monkeypatch.setattr(token_file, "_LOCK_TIMEOUT", 0.1)
    for other in (TokenFile(service.path), auth._file):
        with other.locked(), pytest.raises(OSError, match="takes too long"):
            auth.keep("another")
    assert service.kept()["refresh_token"] == made.secret


def test_what_is_written_is_on_the_disk_before_it_is_used(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the file, then its name, then the folder; and nobody else can have the file open."""
    auth, _ = service.login()
    done: list[str] = []
    fsync, replace, stat = os.fsync, os.replace, os.fstat

    def syncing(descriptor: int) -> None:
        done.append("folder" if stat(descriptor).st_mode & 0o040000 else "file")
        fsync(descriptor)

    def replacing(*names: Any) -> None:
        done.append("name")
        replace(*names)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replacing)
    planted = Path(f"{service.path}.new")
    planted.write_text("")
    with planted.open("rb") as before:
        auth.access_token()
        assert before.read() == b""
    assert done == ["file", "file", "name", "folder"]


def test_a_refusal_says_why(service: Service) -> None:
    """With the code and the words of the gate, and without the credential; it is not asked twice."""
    auth, made = service.login()
    service.gate.tokens.deactivate(made.token.id)
    with pytest.raises(ExchangeRefused) as raised:
        auth.access_token()
    assert (raised.value.error, "deactivated" in raised.value.description) == (
        "invalid_grant",
        True,
    )
    assert made.secret not in repr(raised.value) + str(raised.value)
    assert service.exchanges == 1
    service.gate.tokens.activate(made.token.id)
    assert auth.access_token()


def test_it_is_renewed_before_it_ends(
    service: Service, moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At four fifths of a short life; while the gate does not answer, the old one goes on until its end."""
    monkeypatch.setattr(token_endpoint, "PATIENCE", 0.2)
    _, made = service.login(expires_in=600)
    network = Faulty()
    with httpx2.Client(transport=network) as http:
        auth = RefreshAuth(service.url, service.path, http=http)
        first = auth.access_token()
        moved.ahead = 530.0
        assert auth.access_token() == first
        moved.ahead = 545.0
        network.faults = ["unsent"] * 100
        posts = network.posts
        assert auth.access_token() == first
        asked = network.posts - posts
        assert asked == 1
        assert auth.access_token() == first
        assert network.posts - posts == asked  # which is not tried again with each request
        moved.ahead = 552.0
        network.faults = ["404"]  # a proxy's word is no reason to log in again
        assert auth.access_token() == first
        moved.ahead = 560.0
        network.faults = []
        second = auth.access_token()
        assert second != first
        assert service.gate.verify(second).id == made.token.id
        moved.ahead = 601.0 + 560
        network.faults = ["unsent"] * 100
        with pytest.raises(ExchangeUnanswered):
            auth.access_token()


def test_a_rejected_credential_is_replaced_once(service: Service) -> None:
    """Whatever the request is, as long as it can be sent again; a 401 that stays is the answer."""
    auth, made = service.login()
    with httpx2.Client(auth=auth) as http:
        http.get(f"{service.origin}/x")
        service.gate.revoke(service.kept()["access_token"])
        assert http.post(f"{service.origin}/x", content=b"again").text == "again"
        assert service.exchanges == 2
        service.gate.revoke(service.kept()["access_token"])
        assert http.post(f"{service.origin}/x", content=iter([b"gone"])).status_code == 401
        assert service.exchanges == 2
        # The next one goes with a new one.
        assert http.post(f"{service.origin}/x", content=iter([b"new"])).text == "new"
        assert service.exchanges == 3
        service.gate.revoke(service.kept()["access_token"])
        service.gate.tokens.update(made.token.id, allowed_cidr_blocks=["192.0.2.1"])
        with pytest.raises(ExchangeRefused, match="address"):
            http.get(f"{service.origin}/x")
        service.gate.tokens.update(made.token.id, allowed_cidr_blocks=[], scopes=["b"])
        assert http.get(f"{service.origin}/x").status_code == 403
        assert service.exchanges == 5


def test_what_cannot_be_written_is_not_asked_for(service: Service) -> None:
    """The disk is tried before the refresh token is spent."""
    auth, made = service.login()
    blocked = Path(f"{service.path}.new")
    blocked.mkdir()
    with pytest.raises(OSError, match="new"):
        auth.access_token()
    assert service.exchanges == 0
    blocked.rmdir()
    assert service.gate.verify(auth.access_token()).id == made.token.id


def test_what_is_written_in_part_is_not_taken_for_the_whole(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the system writes at a time, the file holds all of it."""
    auth, made = service.login()
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:100]))
    assert service.gate.verify(auth.access_token()).id == made.token.id
    assert service.gate.introspect(service.kept()["refresh_token"], refresh=True).active


def test_what_could_not_be_written_is_not_lost(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used from memory, and written as soon as that can be; even if the next exchange comes first."""
    auth, made = service.login()
    write = TokenFile.write

    def fail(self: TokenFile, kept: StoredTokens) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TokenFile, "write", fail)
    first = auth.access_token()
    assert service.gate.verify(first).id == made.token.id
    assert service.kept()["refresh_token"] == made.secret
    second = auth.access_token(rejected=first)
    assert second != first
    third = auth.access_token(rejected=second)
    monkeypatch.setattr(TokenFile, "write", write)
    assert auth.access_token() == third
    assert service.gate.introspect(service.kept()["refresh_token"], refresh=True).active
    assert RefreshAuth(service.url, service.path).access_token() == third
    assert [entry.action for entry in service.gate.audit().items] == ["token.create"]


def test_what_another_process_has_written_since_is_newer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written is not written over it."""
    auth, _ = service.login()
    with monkeypatch.context() as broken:
        broken.setattr(TokenFile, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        auth.access_token()
    other = RefreshAuth(service.url, service.path)
    newest = other.access_token(rejected=other.access_token())
    assert auth.access_token() == newest
    assert service.gate.introspect(service.kept()["refresh_token"], refresh=True).active


def test_a_link_leads_to_one_file(service: Service) -> None:
    """Which both names share, and which stays where it is."""
    auth, _ = service.login()
    link = service.path.parent.parent / "link"
    link.symlink_to(service.path)
    linked = RefreshAuth(service.url, link)
    assert linked.access_token() == auth.access_token()
    assert link.is_symlink()
    assert service.exchanges == 1


def test_requests_after_a_rejection_get_a_new_one(service: Service) -> None:
    """The rejected request itself is not sent again, which its library cannot always do."""
    auth, _ = service.login()

    def get() -> Any:
        return requests.get(f"{service.origin}/x", auth=auth, timeout=5)

    assert get().status_code == 200
    service.gate.revoke(service.kept()["access_token"])
    assert [get().status_code for _ in range(3)] == [401, 200, 200]
    assert service.exchanges == 2


def test_nobody_waits_for_ever_for_another_process(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was stopped in the middle of an exchange."""
    auth, _ = service.login()
    monkeypatch.setattr(token_file, "_LOCK_TIMEOUT", 0.2)
    with (
        TokenFile(service.path).locked(),
        pytest.raises(ExchangeUnanswered, match="another thread or process"),
    ):
        auth.access_token()
    assert auth.access_token()


def test_many_threads_make_one_exchange(service: Service) -> None:
    """Twenty at once, with one object, and with one for each."""
    auth, _ = service.login()
    with ThreadPoolExecutor(20) as threads:
        assert len(set(threads.map(lambda _: auth.access_token(), range(20)))) == 1
        assert service.exchanges == 1
        service.gate.revoke(auth.access_token())
        rejected = auth.access_token()
        others = [RefreshAuth(service.url, service.path) for _ in range(20)]
        assert len(set(threads.map(lambda one: one.access_token(rejected), others))) == 1
        assert service.exchanges == 2


@pytest.mark.processes
@pytest.mark.slow
def test_many_processes_make_one_exchange(service: Service) -> None:
    """They share the file, and wait for each other."""
    service.login()
    script = "import sys; from faregate.client import RefreshAuth; print(RefreshAuth(*sys.argv[1:]).access_token())"
    command = [sys.executable, "-c", script, service.url, str(service.path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {process.communicate()[0] for process in running}
    assert (len(answers), service.exchanges) == (1, 1)


def test_it_asks_for_what_it_is_told_to(service: Service) -> None:
    """Narrowed to its scopes; what another one has kept that is wider is not used."""
    wide, _ = service.login()
    assert service.gate.verify(wide.access_token()).allows("b")
    narrow = RefreshAuth(service.url, service.path, scopes=["a"])
    principal = service.gate.verify(narrow.access_token())
    assert (principal.allows("a"), principal.allows("b")) == (True, False)
    with pytest.raises(ExchangeRefused, match="invalid_scope"):
        RefreshAuth(service.url, service.path, scopes=["c"]).access_token()
    with pytest.raises(InvalidInput, match="scopes"):
        RefreshAuth(service.url, service.path, scopes=[])


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "https://127.0.0.1.evil.example/x",
        "http://127.0.0.1:1/x",
        "http://{host}@evil.example/x",
    ],
)
def test_it_goes_nowhere_else(service: Service, url: str) -> None:
    """Not to another host, port or scheme, however it is written; unless that is named."""
    auth, _ = service.login()
    target = url.replace("{host}", service.origin.removeprefix("http://"))
    with httpx2.Client(auth=auth) as http, pytest.raises(InvalidInput, match="origins"):
        http.get(target)
    assert service.seen == []
    RefreshAuth(service.url, service.path, origins=["https://api.example.com"])._check_origin(
        "https://API.example.com:443/x"
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/token",
        "ftp://localhost/token",
        "token",
        "http://127.0.0.1.evil.example/",
    ],
)
def test_a_refresh_token_goes_over_https_alone(url: str, tmp_path: Path) -> None:
    """Except on this machine."""
    with pytest.raises(InvalidInput, match="https"):
        RefreshAuth(url, tmp_path / "kept")
    RefreshAuth("http://localhost:8000/token", tmp_path / "kept")
    for origin in ("http://example.com", "https://u:p@example.com"):
        with pytest.raises(InvalidInput, match="origins"):
            RefreshAuth("https://example.com/token", tmp_path / "kept", origins=[origin])
    with pytest.raises(InvalidInput, match="password"):
        RefreshAuth("https://u:secret@example.com/token", tmp_path / "kept")
    for given in ({"origins": "https://a.example"}, {"scopes": "a"}):
        with pytest.raises(InvalidInput, match="lists"):
            RefreshAuth("https://example.com/token", tmp_path / "kept", **given)  # type: ignore[arg-type]


def test_representations_hide_what_is_kept(service: Service) -> None:
    """Of the object, and of what it holds."""
    auth, made = service.login()
    access = auth.access_token()
    for text in (repr(auth), repr(auth._loaded), repr(auth._file.read())):
        assert made.secret not in text
        assert access not in text
        assert service.kept()["refresh_token"] not in text


def test_a_redirect_takes_nothing_along(service: Service) -> None:
    """Neither the token request, which is not redirected, nor the credential, which stays where it belongs."""
    seen: list[httpx2.Request] = []

    def elsewhere(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        if request.url.host == "127.0.0.1":
            return httpx2.Response(307, headers={"Location": "https://evil.example/x"})
        return httpx2.Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

    auth, _ = service.login()
    auth.access_token()
    with httpx2.Client(
        auth=auth, transport=httpx2.MockTransport(elsewhere), follow_redirects=True
    ) as http:
        http.get(f"{service.origin}/x")
    assert ["Authorization" in one.headers for one in seen] == [True, False]
    auth.access_token()
    assert service.exchanges == 1  # what was not presented there was not rejected
    del seen[:]
    with httpx2.Client(transport=httpx2.MockTransport(elsewhere), follow_redirects=True) as http:
        moved = RefreshAuth(service.url, service.path, http=http)
        with pytest.raises(ExchangeRefused):
            moved.access_token(rejected=auth.access_token())
    assert len(seen) == 1


@pytest.mark.processes
def test_a_child_that_is_forked_in_an_exchange_takes_nothing_along(service: Service) -> None:
    """Neither the turn, which others wait for, nor the lock of its thread."""
    service.login()
    script = f"""
import os, signal, sys
import httpx2
from faregate.client import RefreshAuth

class Forking(httpx2.HTTPTransport):
    def handle_request(self, request):
        if os.fork() == 0:
            print(RefreshAuth.__name__, auth.access_token()[:7], flush=True)
            signal.pause()
        os.kill(os.getpid(), signal.SIGKILL)

auth = RefreshAuth({service.url!r}, {str(service.path)!r}, http=httpx2.Client(transport=Forking()))
plain = httpx2.Client()
os.register_at_fork(after_in_child=lambda: setattr(auth._endpoint, "_http", plain))
auth.access_token()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().split() == ["RefreshAuth", "fg_act_"]
            assert process.wait() == -signal.SIGKILL
            assert RefreshAuth(service.url, service.path).access_token()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
