"""Starts real servers, and sends them requests byte by byte.

No HTTP client sends duplicate header lines or malformed ones. :func:`exchange` writes each line
as it is given.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

COMMANDS = {
    "uvicorn": "uvicorn --no-proxy-headers --port {port} {module}:asgi",
    "granian": "granian --interface asgi --host 127.0.0.1 --port {port} --workers 1 {module}:asgi",
    "gunicorn": "gunicorn --bind 127.0.0.1:{port} {module}:wsgi",
    "waitress": "waitress --no-clear-untrusted-proxy-headers --host=127.0.0.1 --port={port} {module}:wsgi",
}
HERE = Path(__file__).parent
HANDSHAKE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


@contextmanager
def serving(
    server: str, module: str, folder: Path, log: Path | None = None, **environment: str
) -> Iterator[tuple[str, int]]:
    """Serve the application of a module in ``folder``, and yield its address once it listens."""
    written = log or folder / "log"
    port = free_port()
    command = [
        sys.executable,
        "-m",
        *COMMANDS.get(server, server).format(port=port, module=module).split(),
    ]
    path = os.pathsep.join([str(folder), str(HERE), str(HERE.parent)])
    with written.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, **environment},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None, written.read_text()
                assert time.monotonic() < deadline, written.read_text()
                time.sleep(0.05)
        yield ("127.0.0.1", port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port of this host that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def exchange(
    address: tuple[str, int] | str,
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    timeout: float = 10,
    source: str | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Send one request on its own connection; return status, headers and body.

    ``address`` is a TCP address, or the path of a Unix socket. ``source`` is the address from which the
    client connects.
    """
    if not any(name == "Connection" for name, _ in headers):
        headers = [*headers, ("Connection", "close")]
    if body:
        headers = [*headers, ("Content-Length", str(len(body)))]
    head = "".join(f"{name}: {value}\r\n" for name, value in [("Host", "localhost"), *headers])
    with socket.socket(
        socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    ) as connection:
        connection.settimeout(timeout)
        if source is not None:
            connection.bind((source, 0))
        connection.connect(address)
        connection.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        received = b""
        while not _complete(received) and (chunk := _receive(connection)):
            received += chunk
    first, sent, rest = _taken_apart(received)
    if sent.get("transfer-encoding") == "chunked":
        rest = _unchunked(rest)
    return int(first.split()[1]), sent, rest


def at_once(
    count: int,
    address: tuple[str, int] | str,
    target: str,
    header: tuple[str, str],
    source: str | None = None,
) -> list[tuple[int, dict[str, str], bytes]]:
    """Send ``count`` identical requests at once, and return their answers."""
    with ThreadPoolExecutor(count) as pool:
        waiting = [
            pool.submit(exchange, address, "GET", target, [header], timeout=60, source=source)
            for _ in range(count)
        ]
        return [answer.result() for answer in waiting]


def _taken_apart(received: bytes) -> tuple[str, dict[str, str], bytes]:
    top, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    return (
        first,
        {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)},
        rest,
    )


def _complete(received: bytes) -> bool:
    """Return True for a complete answer or the first frame of a WebSocket. Other answers end with their connection."""
    if b"\r\n\r\n" not in received:
        return False
    first, sent, rest = _taken_apart(received)
    if " 101 " in first:
        return b"}" in rest
    return "content-length" in sent and len(rest) >= int(sent["content-length"])


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except ConnectionResetError:  # the server answered before it read the whole request
        return b""


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + body[:length], body[length + 2 :]
        if not length:
            break
    return whole
