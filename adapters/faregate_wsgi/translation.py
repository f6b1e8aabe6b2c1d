"""Translation from a WSGI environment to the core's values (PEP 3333)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faregate.credentials.presented import SAFE_METHODS, RequestValues

if TYPE_CHECKING:
    from faregate import Principal
    from faregate.adapters import RequestGate

Environ = dict[str, Any]


def request_values(environ: Environ, gate: RequestGate) -> RequestValues:
    """Return the values of a request that identify its caller."""
    resolver = gate.resolver
    return RequestValues(
        _lines(environ, "authorization"),
        environ.get("REMOTE_ADDR"),
        forwarded=_lines(environ, gate.proxies.header),
        query=environ.get("QUERY_STRING", ""),
        header=_lines(environ, resolver.header) if resolver.header else (),
        cookies=_lines(environ, "cookie") if resolver.cookie else (),
        unsafe=environ["REQUEST_METHOD"] not in SAFE_METHODS,
        origin=environ.get("HTTP_ORIGIN"),
    )


def peek(environ: Environ, gate: RequestGate) -> Principal | None:
    """Fast path: return the cached principal of a common request, or None.

    None is not a denial; see :meth:`faregate.adapters.RequestGate.peek`.
    """
    line = environ.get("HTTP_AUTHORIZATION")
    # Every credential is ASCII.
    if line is None or not line.isascii():
        return None
    return gate.peek(line.encode(), environ.get("REMOTE_ADDR"))


def path(environ: Environ) -> str:
    """Return the path as the application's router sees it: decoded, without ``SCRIPT_NAME``."""
    whole = str(environ.get("PATH_INFO", ""))
    if whole.isascii():
        return whole
    # PEP 3333 carries the bytes of a path as Latin-1.
    return whole.encode("latin-1").decode("utf-8", "replace")


def raw_path(environ: Environ) -> str:
    """Return the path as it was sent, or an empty text if the server does not provide it."""
    uri = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
    return str(uri).partition("?")[0]


def _lines(environ: Environ, header: str) -> list[str]:
    """Return the lines of a header, which the server has joined with commas to a single line."""
    value = environ.get("HTTP_" + header.upper().replace("-", "_"))
    if value is None:
        return []
    return [value]
