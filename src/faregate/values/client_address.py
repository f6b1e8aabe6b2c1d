"""The client's address behind trusted proxies (RFC 7239 section 5.2, and X-Forwarded-For).

The law: believe the peer of the connection. If the peer is a trusted proxy, believe the right-most
hop of the header that is not a trusted proxy itself, or the left-most hop if all are trusted. A hop
to the left of the client can be forged. An address that cannot be read is unknown, and an unknown
address lies in no network.
"""

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

# The forwarded-pair of RFC 7239 section 4. Its token and quoted-string are those of RFC 9110.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105  the token of RFC 9110, no secret
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"'
_PAIR = re.compile(rf"({_TOKEN})=({_TOKEN}|{_QUOTED})")
_SEPARATOR = re.compile(r"[ \t]*([;,])[ \t]*")

# Texts that servers write for the peer of a Unix socket, besides None: gunicorn and granian write
# "", waitress "localhost", uWSGI "0.0.0.0", nginx "unix:"; uvicorn and hypercorn write None. No TCP
# connection comes from any of these. A server that copies text from a header could write them too.
# It is the only rewriter then, and "unix" must not be trusted beside it. The name to which a client
# binds its own socket is left out, because the client chooses it freely.
_UNIX_PEERS = frozenset({"", "unix", "localhost", "0.0.0.0"})  # noqa: S104  compared, not bound
_UNIX_PREFIX = "unix:"


class Hop(NamedTuple):
    """A hop of a request: the ``peer`` of the connection, or an entry of the header ``source``.

    ``text`` is the hop as it was written, ``address`` its address in canonical text or None.
    """

    source: str
    text: str
    address: str | None
    trusted: bool


class TrustedProxies:
    """Finds a client's address, for a set of proxies and a header.

    ``trusted`` holds CIDR blocks, addresses, or ``unix`` for a peer without an address; ``*`` is
    refused. ``header`` is ``x-forwarded-for`` or ``forwarded`` (RFC 7239).

    If a trusted proxy sends no hop, the client's address is unknown. The proxy's own address is not
    used instead: some servers drop the header, and every client would pass for the proxy. The first
    of these requests is logged as a warning.

    Raises InvalidInput for any other value of ``trusted`` or ``header``.
    """

    def __init__(self, trusted: Sequence[str], header: str) -> None:
        if not isinstance(trusted, list | tuple | set | frozenset):
            raise InvalidInput("trusted_proxies: expected a list of networks, addresses, or 'unix'")
        if "*" in trusted:
            raise InvalidInput(
                "trusted_proxies: '*' would trust every sender; list the networks of the proxies"
            )
        if header not in ("x-forwarded-for", "forwarded"):
            raise InvalidInput(
                "forwarded_header: expected 'x-forwarded-for' or 'forwarded', in lower case"
            )

        blocks = [block for block in trusted if block != "unix"]
        self.header = header
        self.networks = Networks.parse(blocks, "trusted_proxies")
        self.any = bool(trusted)
        self._unix = "unix" in trusted
        self._warned = False

    def client(self, peer: str | None, lines: Sequence[str]) -> str | None:
        """Return the client's address in canonical text, or None if it is unknown.

        ``peer`` is the other end of the connection as the server names it. ``lines`` are all lines
        of the configured header in their order.
        """
        if not self.any:
            return peer_address(peer)

        client = self.trace(peer, lines)[-1]
        if not client.text:
            self._warn(peer)
        return client.address

    def trace(self, peer: str | None, lines: Sequence[str]) -> list[Hop]:
        """Return the hops that were read to find the client: the peer first, the client last.

        The last hop has an empty text if a trusted proxy sent no hop. The arguments are those of
        :meth:`client`.
        """
        address = peer_address(peer)
        trusted = self._unix if _has_no_address(peer) else self._trusts(address)
        hops = [Hop("peer", str(peer or "unix"), address, trusted)]
        if not trusted:
            return hops

        joined = ",".join(lines)
        if not joined.strip(" \t"):
            return [*hops, Hop(self.header, "", None, trusted=False)]

        forwarded = self.header == "forwarded"
        entries = _forwarded_entries(joined) if forwarded else joined.split(",")
        if entries is None:
            return [*hops, Hop(self.header, joined, None, trusted=False)]

        for entry in reversed(entries):
            text = entry.strip(" \t")
            address = peer_address(text)
            trusted = self._trusts(address)
            hops.append(Hop(self.header, text, address, trusted))
            if not trusted:
                break
        return hops

    def _trusts(self, address: str | None) -> bool:
        return address is not None and self.networks.admit(address)

    def _warn(self, peer: str | None) -> None:
        """Log, once, that a trusted proxy sent no hop."""
        if self._warned:
            return

        self._warned = True
        _logger.warning(
            "The trusted proxy %s sent a request without a client address in the header %s. The "
            "client is unknown, so credentials with allowed networks are denied. Health checks of "
            "the proxy itself may arrive like this. For other requests, configure the proxy to set "
            "the header and the server to pass it on (waitress drops it, unless started with "
            "--no-clear-untrusted-proxy-headers). This warning is logged once.",
            ascii(str(peer or "unix")),
            self.header,
        )


def peer_address(peer: str | None) -> str | None:
    """Return the address of a peer or hop in canonical text, or None if the text holds none."""
    if not isinstance(peer, str):
        return None

    # Clients write these texts: a long text must not fill the cache.
    if len(peer) > LONGEST:
        return _address_of_hop.__wrapped__(peer)
    return _address_of_hop(peer)


def _has_no_address(peer: str | None) -> bool:
    """Return True for the peer of a Unix socket, in the spelling of any server."""
    return peer is None or (
        isinstance(peer, str) and (peer in _UNIX_PEERS or peer.startswith(_UNIX_PREFIX))
    )


@lru_cache(maxsize=4096)
def _address_of_hop(text: str) -> str | None:
    """Return the address of a hop, without its port; None if it is unspecified or no address.

    Cached, and so called for short texts only, by :func:`peer_address`.
    """
    host = text
    port = ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in host:
            return None
    elif text.count(":") == 1:
        host, colon, digits = text.partition(":")
        port = colon + digits

    if port and not (port.startswith(":") and _is_port(port[1:])):
        return None

    address = canonical(host)
    if address is None or address.partition("%")[0] in ("0.0.0.0", "::"):  # noqa: S104  refused
        return None
    return address


def _is_port(text: str) -> bool:
    """Return True for a port of RFC 7239 section 6: one to five digits, or an obfuscated port."""
    if _PORT.fullmatch(text):
        return int(text) <= 0xFFFF
    return _OBFUSCATED_PORT.fullmatch(text) is not None


def _forwarded_entries(text: str) -> list[str] | None:
    """Return the ``for`` of each element of a Forwarded header, "" for an element without it.

    None if the header breaks the syntax of RFC 7239 section 4 in any place.
    """
    entries: list[str] = []
    parameters: dict[str, str] = {}
    position = len(text) - len(text.lstrip(" \t"))
    end = len(text.rstrip(" \t"))

    while True:
        pair = _PAIR.match(text, position, end)
        if pair is None or pair[1].lower() in parameters:
            return None

        value = pair[2]
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        parameters[pair[1].lower()] = value

        separator = _SEPARATOR.match(text, pair.end(), end)
        if separator is None:
            if pair.end() != end:
                return None
            entries.append(parameters.get("for", ""))
            return entries

        if separator[1] == ",":
            entries.append(parameters.get("for", ""))
            parameters = {}
        position = separator.end()
