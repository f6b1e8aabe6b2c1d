"""Networks that a credential is bound to, and the address that a request came from.

CIDR texts are parsed strictly when a record is written; a request's address is found by one rule
(RFC 7239 section 5.2 and its older cousin X-Forwarded-For): believe the peer, and behind trusted proxies
the right-most hop that is not one of them. IPv4-mapped IPv6 is IPv4 everywhere. Nothing here decides
by ``is_private`` and the like.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, summarize_address_range
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

from faregate.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


MAX_BLOCKS = 10_000
_REMEMBERED = 64  # addresses that are remembered beside the networks that they lie in

LONGEST = 39 + 1 + 64  # characters of an address, its zone, and the sign between them
_MAPPED = bytes(10) + b"\xff\xff"
_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}")
_ZONE = re.compile(r"[0-9A-Za-z._~-]{1,64}")


@lru_cache(maxsize=4096)
def pack(text: str) -> bytes | None:
    """Return the search key of an address without a port, or None if it is no address.

    The key is one byte of length, which keeps the families apart in one sorted row, then the 4 or 16 bytes
    of the address. A zone is left out. Cached, since the same clients come again; so that nobody fills the
    memory with long texts, ask only about those of at most :data:`LONGEST` characters.
    """
    if "%" in text:
        text, _, zone = text.partition("%")
        if ":" not in text or not _ZONE.fullmatch(zone):
            return None
    try:
        packed = inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):  # ValueError: a NUL or a lone surrogate in the text
        return None
    if len(packed) == 16 and packed.startswith(_MAPPED):
        packed = packed[12:]
    return _key(packed)


def canonical(text: str) -> str | None:
    """Return an address in the spelling of RFC 5952, its zone kept, or None if it is no address."""
    key = (
        pack(text) if len(text) <= LONGEST else None
    )  # what a client writes must not fill the cache
    if key is None:
        return None
    zone = text.partition("%")[2]
    return f"{ip_address(key[1:])}%{zone}" if zone else str(ip_address(key[1:]))


def parse_block(text: object, member: str) -> IPv4Network | IPv6Network:
    """Return the network that a CIDR text names; a bare address is its /32 or /128.

    Raises InvalidInput, naming ``member``, for host bits, netmask notation, leading zeros, zones and
    everything that is not a text.
    """
    if not isinstance(text, str):
        raise InvalidInput(
            f"{member}: a CIDR block is a text such as 10.0.0.0/8, not {type(text).__name__}"
        )
    address, slash, prefix = text.partition("/")
    key = None if "%" in address or len(address) > LONGEST else pack(address)
    if key is None:
        raise InvalidInput(
            f"{member}: {text[:64]!r} is no CIDR block such as 10.0.0.0/8 or 2001:db8::/32"
        )
    packed = key[1:]
    bits = 8 * len(packed)
    if not slash:
        prefix = str(bits)
    elif not _PREFIX.fullmatch(prefix):
        raise InvalidInput(
            f"{member}: {text[:64]!r} needs a prefix length after the slash, not a mask"
        )
    length = int(prefix)
    if ":" in address and bits == 32:
        length = length - 96 if slash else length
    if not 0 <= length <= bits:
        raise InvalidInput(f"{member}: {text[:64]!r} has a prefix length outside 0 to {bits}")
    network = IPv4Network if bits == 32 else IPv6Network
    try:
        return network((packed, length))
    except ValueError:
        meant = network((packed, length), strict=False)
        raise InvalidInput(
            f"{member}: {text[:64]!r} has host bits set; did you mean {meant}?"
        ) from None


class Networks(msgspec.Struct, frozen=True, eq=False):
    """A set of networks, searched as sorted ranges.

    ``starts`` and ``ends`` are the merged, inclusive ranges, as the keys of :func:`pack`; ``texts`` are the canonical
    texts that they were read from, None where there were none. ``admitted`` remembers a few addresses that lie inside,
    since the same clients come again. It is no part of what the set is.
    """

    starts: tuple[bytes, ...]
    ends: tuple[bytes, ...]
    texts: tuple[str, ...] | None = None
    admitted: set[str | None] = msgspec.field(default_factory=set[str | None])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Networks):
            return NotImplemented
        return (self.starts, self.ends, self.texts) == (other.starts, other.ends, other.texts)

    def __hash__(self) -> int:
        return hash((self.starts, self.ends, self.texts))

    @property
    def blocks(self) -> tuple[str, ...]:
        """The canonical texts: those that there were, else as few as will do."""
        if self.texts is not None:
            return self.texts
        ranges = ((ip_address(start[1:]), ip_address(end[1:])) for start, end in self._ranges())
        return tuple(
            str(block) for start, end in ranges for block in summarize_address_range(start, end)
        )

    @classmethod
    def parse(cls, texts: Sequence[object], member: str) -> Networks:
        """Build the set from CIDR texts, merging equal ones; InvalidInput names the entry that is wrong."""
        if isinstance(texts, str):
            raise InvalidInput(f"{member}: expected a list of CIDR blocks, not one text")
        if len(texts) > MAX_BLOCKS:
            raise InvalidInput(f"{member}: at most {MAX_BLOCKS} blocks, got {len(texts)}")
        networks = [parse_block(text, f"{member}[{index}]") for index, text in enumerate(texts)]
        return cls(*_merge(networks), tuple(dict.fromkeys(map(str, networks))))

    @classmethod
    def load(cls, texts: Sequence[str], packed: bytes) -> Networks:
        """Build the set from what :meth:`packed` wrote, or from the texts if they were changed since.

        The texts are the truth and the packed form an index of them: InvalidInput if they no longer parse.
        """
        if packed[:4] != _seal(texts):
            return cls.parse(texts, "allowedCidrBlocks")
        starts, ends = msgspec.msgpack.decode(
            packed[4:], type=tuple[tuple[bytes, ...], tuple[bytes, ...]]
        )
        if len(starts) != len(ends):
            return cls.parse(texts, "allowedCidrBlocks")
        return cls(starts, ends, tuple(texts))

    def packed(self) -> bytes:
        """Return the ranges in a form that loads without parsing a text."""
        return _seal(self.blocks) + msgspec.msgpack.encode((self.starts, self.ends))

    def admit(self, address: str | None) -> bool:
        """Tell whether an address lies in one of the networks; an unknown one does not. Cost grows with no list."""
        if address in self.admitted:
            return True
        key = None if address is None or len(address) > LONGEST else pack(address)
        if key is None:
            return False

        index = bisect_right(self.starts, key)
        inside = index > 0 and key <= self.ends[index - 1]
        if inside:
            if len(self.admitted) >= _REMEMBERED:
                self.admitted.clear()
            self.admitted.add(address)
        return inside

    def block_of(self, address: str) -> str | None:
        """Return the first block, as it is written, that holds an address; for people to read."""
        blocks = (Networks.parse([block], "block") for block in self.blocks)
        return next((one.blocks[0] for one in blocks if one.admit(address)), None)

    def covers(self, other: Networks) -> bool:
        """Tell whether every address of ``other`` is in here. Ranges are merged, so each must fit in one."""
        for start, end in other._ranges():
            index = bisect_right(self.starts, start) - 1
            if index < 0 or end > self.ends[index]:
                return False
        return True

    def common(self, other: Networks) -> Networks:
        """Return the networks of the addresses that lie in both; if the one covers the other, that one as it is."""
        if other.covers(self):
            return self
        if self.covers(other):
            return other
        starts: list[bytes] = []
        ends: list[bytes] = []
        mine, theirs = 0, 0
        while mine < len(self.starts) and theirs < len(other.starts):
            start, end = (
                max(self.starts[mine], other.starts[theirs]),
                min(self.ends[mine], other.ends[theirs]),
            )
            if start <= end:
                starts.append(start)
                ends.append(end)
            if self.ends[mine] < other.ends[theirs]:
                mine += 1
            else:
                theirs += 1
        return Networks(tuple(starts), tuple(ends))

    def _ranges(self) -> Iterator[tuple[bytes, bytes]]:
        return zip(self.starts, self.ends, strict=True)


NOWHERE = Networks((), ())


def _key(packed: bytes) -> bytes:
    return len(packed).to_bytes() + packed


def _seal(texts: Sequence[str]) -> bytes:
    return crc32(msgspec.json.encode(texts)).to_bytes(4)


def _merge(
    networks: Iterable[IPv4Network | IPv6Network],
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    ranges = sorted((net.max_prefixlen // 8, int(net[0]), int(net[-1])) for net in networks)
    merged: list[tuple[int, int, int]] = []
    for size, start, end in ranges:
        if merged and merged[-1][0] == size and start <= merged[-1][2] + 1:
            merged[-1] = (size, merged[-1][1], max(end, merged[-1][2]))
        else:
            merged.append((size, start, end))
    return (
        tuple(_key(start.to_bytes(size)) for size, start, _ in merged),
        tuple(_key(end.to_bytes(size)) for size, _, end in merged),
    )


# Of nobody else's: RFC 1918, RFC 6598, RFC 4193, and this host.
LOOPBACK = Networks.parse(("127.0.0.0/8", "::1"), "LOOPBACK")
PRIVATE = Networks.parse(
    (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
        "127.0.0.0/8",
        "::1",
    ),
    "PRIVATE",
)
