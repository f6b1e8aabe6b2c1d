"""From a WSGI environment to the values of the core (PEP 3333)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faregate.credentials.presented import SAFE_METHODS, RequestValues

if TYPE_CHECKING:
    from faregate import Principal
    from faregate.adapters import RequestGate

Environ = dict[str, Any]


def request_values(environ: Environ, gate: RequestGate) -> RequestValues:
    """Return the values of a request by which its caller is identified."""
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
    """Return the principal of a request as most are, as :meth:`faregate.adapters.RequestGate.peek` does; None says nothing."""
    line = environ.get("HTTP_AUTHORIZATION")
    if line is None or not line.isascii():  # as every credential is
        return None
    return gate.peek(line.encode(), environ.get("REMOTE_ADDR"))


def path(environ: Environ) -> str:
    """Return the path as the application's router sees it: decoded, without ``SCRIPT_NAME``."""
    whole = str(environ.get("PATH_INFO", ""))
    return whole if whole.isascii() else whole.encode("latin-1").decode("utf-8", "replace")


def raw_path(environ: Environ) -> str:
    """Return the path as it was sent, where the server tells, else an empty text."""
    uri = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    return str(uri).partition("?")[0] if uri else ""


def _lines(environ: Environ, header: str) -> list[str]:
    """Return the lines of a header; the server has joined them, and the core knows."""
    value = environ.get("HTTP_" + header.upper().replace("-", "_"))
    return [] if value is None else [value]
