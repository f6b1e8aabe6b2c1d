"""What real servers call their peer, by TCP and by Unix socket, alone and behind nginx, and how they start: a table.

``make test-servers`` runs it: nginx and uWSGI are no packages of Python. What is not installed is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from real_servers import HERE, at_once, exchange, free_port

import faregate
import faregate_wsgi
from faregate import Gate

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        "SERVERS" not in os.environ, reason="make test-servers runs the table of servers"
    ),
]

APP = """
import json, os
from faregate import Gate
from faregate_asgi import GateMiddleware as AsgiGateMiddleware
from faregate_wsgi import GateMiddleware as WsgiGateMiddleware

gate = Gate(os.environ["STORE"], trusted_proxies=["127.0.0.1", "unix"])
gate._usage._every = 0.1  # seconds, so that nobody waits for long
if "USED" in os.environ:  # before a server forks or turns threads into greenlets: all is open, the thread runs
    gate.verify(os.environ["USED"], address="127.0.0.9")

def told(principal, denied, peer, user):
    known = {"address": principal.address} if principal else {"denied": denied.reason}
    return json.dumps({"peer": peer, "user": user, **known}).encode()

async def show_asgi(scope, receive, send):
    user, client = scope["user"], scope["client"]
    users = [value.decode() for name, value in scope["headers"] if b"remote" in name]
    body = told(user if user.is_authenticated else None, getattr(user, "denied", None), client[0] if client else None, users)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

def show_wsgi(environ, start_response):
    users = [value for name, value in environ.items() if name == "HTTP_REMOTE_USER"]
    body = told(environ["faregate.principal"], environ["faregate.denied"], environ.get("REMOTE_ADDR"), users)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

gated = AsgiGateMiddleware(show_asgi, gate=gate)
wsgi = WsgiGateMiddleware(show_wsgi, gate=gate)

async def asgi(scope, receive, send):
    if scope["type"] != "lifespan":
        return await gated(scope, receive, send)
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
"""

PYTHON = f"{sys.executable} -m"
# Debian's uWSGI has a Python of its own, which only has to be told where the packages are.
PACKAGES = [
    sysconfig.get_path("purelib"),
    *(str(Path(str(module.__file__)).parents[1]) for module in (faregate, faregate_wsgi)),
]
UWSGI = "uwsgi --plugin python3 --need-app --die-on-term --module served:wsgi " + " ".join(
    f"--pythonpath {place}" for place in dict.fromkeys(PACKAGES)
)


class Server(NamedTuple):
    """A server: how it is started by TCP and by Unix socket, and what it calls a peer that has no address.

    ``drops`` says that it drops the header, ``protocol`` how nginx speaks to it: by that of uWSGI nginx says itself who
    the peer is.
    """

    tcp: str
    unix: str
    nobody: str | None
    drops: bool = False
    protocol: str = "proxy"


SERVERS = {
    "gunicorn sync": Server(
        f"{PYTHON} gunicorn -k sync --bind 127.0.0.1:{{port}} served:wsgi",
        f"{PYTHON} gunicorn -k sync --bind unix:{{path}} served:wsgi",
        "",
    ),
    "gunicorn gthread": Server(
        f"{PYTHON} gunicorn -k gthread --bind 127.0.0.1:{{port}} served:wsgi",
        f"{PYTHON} gunicorn -k gthread --bind unix:{{path}} served:wsgi",
        "",
    ),
    "gunicorn gevent": Server(
        f"{PYTHON} gunicorn -k gevent --bind 127.0.0.1:{{port}} served:wsgi",
        f"{PYTHON} gunicorn -k gevent --bind unix:{{path}} served:wsgi",
        "",
    ),
    **{
        f"gunicorn {kind} preloaded": Server(
            f"{PYTHON} gunicorn --preload -k {kind} --bind 127.0.0.1:{{port}} served:wsgi",
            f"{PYTHON} gunicorn --preload -k {kind} --bind unix:{{path}} served:wsgi",
            "",
        )
        for kind in ("sync", "gthread", "gevent")
    },
    **{
        f"eventlet patched {when}": Server(
            f"{PYTHON} eventlet_server {when} {{port}}",
            f"{PYTHON} eventlet_server {when} {{path}}",
            "unix",
        )
        for when in ("before", "after")
    },
    "uvicorn": Server(
        f"{PYTHON} uvicorn --no-proxy-headers --port {{port}} served:asgi",
        f"{PYTHON} uvicorn --no-proxy-headers --uds {{path}} served:asgi",
        None,
    ),
    "hypercorn": Server(
        f"{PYTHON} hypercorn --bind 127.0.0.1:{{port}} served:asgi",
        f"{PYTHON} hypercorn --bind unix:{{path}} served:asgi",
        None,
    ),
    "granian": Server(
        f"{PYTHON} granian --interface asgi --host 127.0.0.1 --port {{port}} served:asgi",
        f"{PYTHON} granian --interface asgi --uds {{path}} served:asgi",
        "",
    ),
    "granian wsgi": Server(
        f"{PYTHON} granian --interface wsgi --host 127.0.0.1 --port {{port}} served:wsgi",
        f"{PYTHON} granian --interface wsgi --uds {{path}} served:wsgi",
        "",
    ),
    "waitress": Server(
        f"{PYTHON} waitress --no-clear-untrusted-proxy-headers --host=127.0.0.1 --port={{port}} served:wsgi",
        f"{PYTHON} waitress --no-clear-untrusted-proxy-headers --unix-socket={{path}} served:wsgi",
        "localhost",
    ),
    "waitress by default": Server(
        f"{PYTHON} waitress --host=127.0.0.1 --port={{port}} served:wsgi",
        f"{PYTHON} waitress --unix-socket={{path}} served:wsgi",
        "localhost",
        drops=True,
    ),
    "uwsgi": Server(
        f"{UWSGI} --http-socket 127.0.0.1:{{port}}",
        f"{UWSGI} --http-socket {{path}}",
        "0.0.0.0",  # noqa: S104
    ),
    # By itself it serves from the process that loaded the application; its master forks.
    "uwsgi forked": Server(
        f"{UWSGI} --master --http-socket 127.0.0.1:{{port}}",
        f"{UWSGI} --master --http-socket {{path}}",
        "0.0.0.0",  # noqa: S104
    ),
    "uwsgi protocol": Server(
        f"{UWSGI} --socket 127.0.0.1:{{port}}", f"{UWSGI} --socket {{path}}", None, protocol="uwsgi"
    ),
}

NGINX = """
daemon off; error_log {folder}/nginx.log; pid {folder}/nginx.pid; worker_processes 1;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }}
}}
"""
LOCATIONS = {
    "proxy": "proxy_pass http://{place}; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    "uwsgi": "uwsgi_pass {place}; uwsgi_param REQUEST_METHOD $request_method; uwsgi_param PATH_INFO $document_uri;"
    " uwsgi_param QUERY_STRING $query_string; uwsgi_param REMOTE_ADDR $remote_addr; uwsgi_param SERVER_NAME x;"
    " uwsgi_param SERVER_PORT 80; uwsgi_param SERVER_PROTOCOL $server_protocol; uwsgi_param REQUEST_URI $request_uri;",
}
CLIENT = "127.0.0.9"  # which no proxy is, and which everybody on this host can be


@contextmanager
def running(command: str, folder: Path, address: Any, **environment: str) -> Iterator[None]:
    """Run a program until it is no longer needed, from when something listens at the address on."""
    log = folder / f"{Path(command.split(maxsplit=1)[0]).name}.out"
    path = os.pathsep.join([str(folder), str(HERE), str(HERE.parent)])
    with log.open("wb") as output:
        process = subprocess.Popen(
            command.split(),
            cwd=folder,
            # Eventlet's own look-ups of names do not load beside trio.
            env={**os.environ, "PYTHONPATH": path, "EVENTLET_NO_GREENDNS": "yes", **environment},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 60
        while not listens(address):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(address: Any) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as probe:
            probe.connect(address)
    except OSError:
        return False
    return True


class Served(NamedTuple):
    """A server that runs: the address of what clients talk to, and the token that is bound to the client's address."""

    address: Any
    secrets: dict[str, str]

    def ask(self, bound: str, *headers: tuple[str, str]) -> dict[str, Any]:
        """What the application was told of a request with the token that is bound to this network."""
        credential = ("Authorization", f"Bearer {self.secrets[bound]}")
        source = None if isinstance(self.address, str) else CLIENT
        status, _, body = exchange(self.address, "GET", "/", [credential, *headers], source=source)
        assert status == 200, body
        told: dict[str, Any] = json.loads(body)
        assert told["user"] == []
        return told


BOUND = {
    "client": f"{CLIENT}/32",
    "proxy": "127.0.0.1/32",
    "other": "10.0.0.0/8",
    "everywhere": "0.0.0.0/0",
}
FORGED = [
    ("X-Forwarded-For", "10.0.0.1"),
    ("X-Forwarded-For", "10.0.0.2, 10.0.0.1"),
    ("Remote-User", "root"),
    ("Remote_User", "root"),
]


@contextmanager
def served(
    name: str, transport: str, folder: Path, *, nginx: bool = False, used: str = ""
) -> Iterator[Served]:
    """Run a server, and nginx before it if wanted; a token that is ``used`` is so before the server forks."""
    for program in (["nginx"] if nginx else []) + (["uwsgi"] if name.startswith("uwsgi") else []):
        if shutil.which(program) is None:
            pytest.skip(
                f"{program} is not installed: apt-get install nginx-light uwsgi-core uwsgi-plugin-python3"
            )
    if name.startswith("eventlet") and find_spec("eventlet") is None:
        pytest.skip("eventlet is not installed")
    if name.startswith("uwsgi"):
        asked = subprocess.run(
            ["uwsgi", "--plugin", "python3", "--python-version"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.stdout.strip().split(".")[:2] != list(map(str, sys.version_info[:2])):
            pytest.skip(
                f"the Python of uWSGI is {asked.stdout.strip() or 'missing'}, not this one: its packages do not load there"
            )
    server = SERVERS[name]
    (folder / "served.py").write_text(APP)
    store = f"sqlite:///{folder / 'gate.db'}"
    gate = Gate(store)
    secrets = {
        key: gate.tokens.create(name=key, allowed_cidr_blocks=[block]).secret
        for key, block in BOUND.items()
    }
    gate.close()
    port, path = free_port(), str(folder / "s")
    address: Any = ("127.0.0.1", port) if transport == "tcp" else path
    place = f"127.0.0.1:{port}" if transport == "tcp" else f"unix:{path}"
    if server.protocol == "proxy" and transport == "unix":
        place += ":"
    with ExitStack() as stack:
        command = getattr(server, transport).format(port=port, path=path)
        environment = {"STORE": store} | ({"USED": secrets[used]} if used else {})
        stack.enter_context(running(command, folder, address, **environment))
        if nginx:
            front = free_port()
            location = LOCATIONS[server.protocol].format(place=place)
            configuration = folder / "nginx.conf"
            configuration.write_text(NGINX.format(folder=folder, port=front, location=location))
            if (
                os.geteuid() == 0
            ):  # nginx would give its workers to another user, who may not use the socket
                configuration.write_text("user root;" + configuration.read_text())
            address = ("127.0.0.1", front)
            stack.enter_context(running(f"nginx -p {folder} -c {configuration}", folder, address))
        yield Served(address, secrets)


@pytest.mark.parametrize("transport", ["tcp", "unix"])
@pytest.mark.parametrize("name", SERVERS)
def test_trap_26_a_client_behind_nginx(name: str, transport: str, tmp_path: Path) -> None:
    """The client is the address that nginx names, whatever the client forges. It is unknown if the server drops the header."""
    with served(name, transport, tmp_path, nginx=True) as front:
        if SERVERS[name].drops:
            for bound in BOUND:
                assert front.ask(bound, *FORGED)["denied"] == "address_unknown"
            return
        for forged in (
            [],
            FORGED,
            FORGED[:1],
            [("X-Forwarded-For", "localhost"), ("X-Forwarded-For", "unix:")],
        ):
            assert front.ask("client", *forged)["address"] == CLIENT
            assert front.ask("everywhere", *forged)["address"] == CLIENT
            assert front.ask("proxy", *forged)["denied"] == "address_not_allowed"
            assert front.ask("other", *forged)["denied"] == "address_not_allowed"


@pytest.mark.parametrize(
    "name", [name for name, server in SERVERS.items() if server.protocol == "proxy"]
)
def test_trap_26_a_peer_by_unix_socket(name: str, tmp_path: Path) -> None:
    """Is what the table says, is trusted as ``unix``, and unknown where it names nobody."""
    with served(name, "unix", tmp_path, nginx=False) as direct:
        told = direct.ask("everywhere")
        assert (told["peer"], told["denied"]) == (SERVERS[name].nobody, "address_unknown")
        near = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "10.0.0.1")]
        assert direct.ask("proxy")["denied"] == "address_unknown"
        if SERVERS[name].drops:
            assert direct.ask("other", *near)["denied"] == "address_unknown"
            return
        assert direct.ask("other", *near)["address"] == "10.0.0.1"
        assert direct.ask("other", *reversed(near))["denied"] == "address_not_allowed"


@pytest.mark.parametrize(
    "name", [name for name, server in SERVERS.items() if server.protocol == "proxy"]
)
def test_trap_26_a_peer_by_tcp(name: str, tmp_path: Path) -> None:
    """The peer is its TCP address. A client that is not a proxy passes neither for a Unix socket nor for the address in its header."""
    with served(name, "tcp", tmp_path, nginx=False) as direct:
        for forged in ([], FORGED, [("X-Forwarded-For", "localhost")], [("X-Forwarded-For", "")]):
            told = direct.ask("client", *forged)
            assert (told["peer"], told["address"]) == (CLIENT, CLIENT)
            assert direct.ask("other", *forged)["denied"] == "address_not_allowed"


@pytest.mark.parametrize(
    ("name", "used"),
    [
        *((name, "") for name, server in SERVERS.items() if server.protocol == "proxy"),
        *(
            (name, "everywhere")
            for name in SERVERS
            if name.endswith((" preloaded", " after", " forked"))
        ),
    ],
)
def test_trap_29_the_first_requests(name: str, used: str, tmp_path: Path) -> None:
    """Are answered, eight at once, and their uses written soon, whatever was open when the server forked."""
    with served(name, "tcp", tmp_path, used=used) as direct:
        credential = ("Authorization", f"Bearer {direct.secrets['client']}")
        first = at_once(8, direct.address, "/", credential, CLIENT)
        assert [(status, json.loads(body)["address"]) for status, _, body in first] == [
            (200, CLIENT)
        ] * 8
        status, _, body = exchange(
            direct.address, "GET", "/", [credential, credential], source=CLIENT
        )
        assert status == 400 or json.loads(body)["denied"] == "multiple_credentials"
        gate = Gate(f"sqlite:///{tmp_path / 'gate.db'}")
        [token] = [token for token in gate.tokens.list().items if token.name == "client"]
        deadline = time.monotonic() + 30
        while gate.tokens.get(token.id).last_used_at is None:
            assert time.monotonic() < deadline
            # A uWSGI without threads runs one only while it answers somebody.
            assert direct.ask("everywhere")["address"] == CLIENT
            time.sleep(0.05)
        gate.close()
