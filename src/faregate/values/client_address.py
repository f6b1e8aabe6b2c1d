"""The client's address behind trusted proxies (RFC 7239 section 5.2, and X-Forwarded-For)."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from faregate.errors import InvalidInput
from faregate.values.networks import LONGEST, Networks, canonical

if TYPE_CHECKING:
    from collections.abc import Sequence


_logger = logging.getLogger("faregate")


_PORT = re.compile(r"[0-9]{1,5}")


_OBFUSCATED_PORT = re.compile(r"_[0-9A-Za-z._-]+")


class Hop(NamedTuple):
    """One hop on the way of a request: the ``peer``, or one that a header names, as text and as an address."""

    source: str
    text: str
    address: str | None
    trusted: bool


# What servers write for the peer of a Unix socket, beside None and "": gunicorn and granian write "", uvicorn and
# hypercorn None, waitress "localhost", uWSGI "0.0.0.0", nginx "unix:". No TCP connection comes from any of these.
# A server that copies text from a header could write them too; such a server is the only rewriter, and "unix" is
# not trusted beside it. The name that a client binds its own socket to is not among them: it chooses that freely.
_UNIX_PEERS = frozenset({"", "unix", "localhost", "0.0.0.0"})  # noqa: S104  compared, not bound


_UNIX_PREFIX = "unix:"


class TrustedProxies:
    """The one rule that finds a client's address, for one configured set of proxies and one header.

    ``trusted`` holds CIDR blocks, addresses, or ``unix`` for a peer that has no address; ``*`` is refused.
    ``header`` is ``x-forwarded-for`` or ``forwarded`` (RFC 7239). Values in, value out: no request is seen.

    A trusted proxy that names nobody is not the client, whose address is then unknown: some servers drop the header,
    and everybody would pass for the proxy. The first such request is logged as a warning.
    """

    def __init__(self, trusted: Sequence[str], header: str) -> None:
        if not isinstance(trusted, list | tuple | set | frozenset):
            raise InvalidInput("trusted_proxies: expected a list of networks, addresses, or 'unix'")
        if "*" in trusted:
            raise InvalidInput(
                "trusted_proxies: '*' would believe every sender; name the proxies' networks"
            )
        if header not in ("x-forwarded-for", "forwarded"):
            raise InvalidInput("forwarded_header: 'x-forwarded-for' or 'forwarded', in lower case")
        self.header = header
        self._unix = "unix" in trusted
        self.networks = Networks.parse(
            [block for block in trusted if block != "unix"], "trusted_proxies"
        )
        self.any = bool(trusted)
        self._warned = False

    def client(self, peer: str | None, lines: Sequence[str]) -> str | None:
        """Return the client's address in canonical text, or None where it is unknown.

        ``peer`` is the other end of the connection as the server names it, ``lines`` are all lines of
        the configured header in their order.
        """
        if not self.any:
            return peer_address(peer)
        client = self.trace(peer, lines)[-1]
        if not client.text:
            self._warn(peer)
        return client.address

    def trace(self, peer: str | None, lines: Sequence[str]) -> list[Hop]:
        """Return the hops that are looked at to find the client, the peer first; the last one is the client.

        The last one has an empty text where a trusted hop names nobody.
        """
        address = peer_address(peer)
        trusted = self._unix if _has_no_address(peer) else self._trusts(address)
        seen = [Hop("peer", str(peer or "unix"), address, trusted)]
        if not trusted:
            return seen

        joined = ",".join(lines)
        if not joined.strip(" \t"):
            return [*seen, Hop(self.header, "", None, trusted=False)]

        hops = _forwarded_hops(joined) if self.header == "forwarded" else joined.split(",")
        if hops is None:
            return [*seen, Hop(self.header, joined, None, trusted=False)]

        for text in reversed(hops):
            address = peer_address(text.strip(" \t"))
            seen.append(Hop(self.header, text.strip(" \t"), address, self._trusts(address)))
            if not seen[-1].trusted:
                break
        return seen

    def _trusts(self, address: str | None) -> bool:
        return address is not None and self.networks.admit(address)

    def _warn(self, peer: str | None) -> None:
        """Log once that a trusted proxy named nobody."""
        if self._warned:
            return
        self._warned = True
        _logger.warning(
            "The trusted proxy %s sent a request without a client address in the header %s: the client is unknown, and "
            "credentials with allowed networks are denied. The proxy's own health checks may come so; for others, have "
            "the proxy set the header and the server hand it on (waitress drops it, unless started with "
            "--no-clear-untrusted-proxy-headers). Told once.",
            ascii(str(peer or "unix")),
            self.header,
        )


def peer_address(peer: str | None) -> str | None:
    """Return the address of the other end of a connection, as text that may be anything; None if it is none."""
    if not isinstance(peer, str):
        return None
    return _read_hop(peer) if len(peer) <= LONGEST else _read_hop.__wrapped__(peer)


def _has_no_address(peer: str | None) -> bool:
    """Return True for the peer of a Unix socket, whatever the server writes for it."""
    return peer is None or (
        isinstance(peer, str) and (peer in _UNIX_PEERS or peer.startswith(_UNIX_PREFIX))
    )


@lru_cache(maxsize=4096)
def _read_hop(text: str) -> str | None:
    """Return the address of a peer or hop, which may carry a port; None if unspecified or no address.

    Cached as addresses are, and for the same reason only up to a length: ask :func:`peer_address`.
    """
    host, port = text, ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in host:
            return None
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        port = ":" + port
    if port and not (port.startswith(":") and _is_port(port[1:])):
        return None
    address = canonical(host)
    return None if address is None or address.partition("%")[0] in ("0.0.0.0", "::") else address  # noqa: S104  refused, not bound


def _is_port(text: str) -> bool:
    """RFC 7239 section 6: one to five digits, or an obfuscated port."""
    if _PORT.fullmatch(text):
        return int(text) <= 0xFFFF
    return _OBFUSCATED_PORT.fullmatch(text) is not None


_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105  the token of RFC 9110, no secret


_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"'


_PAIR = re.compile(rf"({_TOKEN})=({_TOKEN}|{_QUOTED})")


_SEPARATOR = re.compile(r"[ \t]*([;,])[ \t]*")


def _forwarded_hops(text: str) -> list[str] | None:
    """Return the ``for`` of each element of RFC 7239 section 4, "" where it has none; None on any syntax error."""
    hops: list[str] = []
    seen: dict[str, str] = {}
    position = len(text) - len(text.lstrip(" \t"))
    end = len(text.rstrip(" \t"))
    while True:
        pair = _PAIR.match(text, position, end)
        if pair is None or pair[1].lower() in seen:
            return None
        value = pair[2]
        seen[pair[1].lower()] = (
            re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        )
        separator = _SEPARATOR.match(text, pair.end(), end)
        if separator is None and pair.end() != end:
            return None
        if separator is None or separator[1] == ",":
            hops.append(seen.get("for", ""))
            seen = {}
        if separator is None:
            return hops
        position = separator.end()
