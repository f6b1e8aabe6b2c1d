"""Networks that a credential is bound to, and the addresses in them.

The laws:

- A CIDR text is parsed strictly, when a record is written.
- An IPv4-mapped IPv6 address is the IPv4 address, everywhere.
- A zone is no part of an address when it is compared.
- Nothing here decides by ``is_private`` and its like: their meaning changes with Python's version.
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
LONGEST = 39 + 1 + 64  # characters: a plain address, the sign before its zone, and the zone

_REMEMBERED = 64  # addresses that are remembered beside the networks that they lie in
_MAPPED = bytes(10) + b"\xff\xff"
_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}")
_ZONE = re.compile(r"[0-9A-Za-z._~-]{1,64}")


@lru_cache(maxsize=4096)
def pack(text: str) -> bytes | None:
    """Return the search key of an address without a port, or None if the text is no address.

    The key is one byte, the length, and then the 4 or 16 bytes of the address. The first byte keeps
    the two families apart in a sorted sequence. A zone is left out.

    Cached, since the same clients come again. Call it for texts of at most :data:`LONGEST`
    characters only, because longer texts would fill the memory.
    """
    if "%" in text:
        text, _, zone = text.partition("%")
        if ":" not in text or not _ZONE.fullmatch(zone):
            return None

    family = AF_INET6 if ":" in text else AF_INET
    # A NUL or a lone surrogate in the text raises ValueError.
    try:
        packed = inet_pton(family, text)
    except (OSError, ValueError):
        return None

    if len(packed) == 16 and packed.startswith(_MAPPED):
        packed = packed[12:]
    return _key(packed)


def canonical(text: str) -> str | None:
    """Return an address in the spelling of RFC 5952, with its zone; None if it is no address.

    >>> canonical("2001:DB8:0::1")
    '2001:db8::1'
    """
    # A client may have written the text: a long text must not fill the cache.
    if len(text) > LONGEST:
        return None

    key = pack(text)
    if key is None:
        return None

    address = str(ip_address(key[1:]))
    zone = text.partition("%")[2]
    if zone:
        return f"{address}%{zone}"
    return address


def parse_block(text: object, member: str) -> IPv4Network | IPv6Network:
    """Return the network of a CIDR text; an address alone is its /32 or /128.

    >>> parse_block("10.0.0.0/8", "allowedCidrBlocks[0]")
    IPv4Network('10.0.0.0/8')

    Raises InvalidInput, naming ``member``, for host bits, netmask notation, leading zeros, zones
    and any value that is no text.
    """
    if not isinstance(text, str):
        raise InvalidInput(
            f"{member}: expected a text such as 10.0.0.0/8, not {type(text).__name__}"
        )

    address, slash, prefix = text.partition("/")
    key = None
    if "%" not in address and len(address) <= LONGEST:
        key = pack(address)
    if key is None:
        raise InvalidInput(
            f"{member}: {text[:64]!r} is not a CIDR block such as 10.0.0.0/8 or 2001:db8::/32"
        )

    packed = key[1:]
    bits = 8 * len(packed)
    length = bits
    if slash:
        if not _PREFIX.fullmatch(prefix):
            raise InvalidInput(
                f"{member}: {text[:64]!r} needs a prefix length after the slash, not a mask"
            )

        # The prefix of an IPv4-mapped block counts the 96 bits before the IPv4 address.
        before = 96 if ":" in address and bits == 32 else 0
        length = int(prefix) - before
        if not 0 <= length <= bits:
            raise InvalidInput(
                f"{member}: {text[:64]!r} has a prefix length outside {before} to {before + bits}"
            )

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

    ``starts`` and ``ends`` are the merged, inclusive ranges, as keys of :func:`pack`. ``texts`` are
    the canonical texts of the blocks, or None if the set was not made from texts. ``admitted``
    remembers a few addresses in the set, since the same clients come again; it is not compared.
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

    @classmethod
    def parse(cls, texts: Sequence[object], member: str) -> Networks:
        """Return the set of the networks of CIDR texts; equal blocks are merged.

        Raises InvalidInput, naming ``member`` and the index of the wrong text.
        """
        if isinstance(texts, str):
            raise InvalidInput(f"{member}: expected a list of CIDR blocks, not a text")
        if len(texts) > MAX_BLOCKS:
            raise InvalidInput(f"{member}: at most {MAX_BLOCKS} blocks, got {len(texts)}")

        networks = [parse_block(text, f"{member}[{index}]") for index, text in enumerate(texts)]
        starts, ends = _merge(networks)
        return cls(starts, ends, tuple(dict.fromkeys(map(str, networks))))

    @classmethod
    def load(cls, texts: Sequence[str], packed: bytes) -> Networks:
        """Return the set of stored CIDR texts.

        ``packed`` is the result of :meth:`packed`, an index of ``texts``. If they do not belong
        together, the texts are the truth, and are parsed.

        Raises InvalidInput if they no longer parse.
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
        """Return the ranges in a form that :meth:`load` reads without parsing a text."""
        return _seal(self.blocks) + msgspec.msgpack.encode((self.starts, self.ends))

    @property
    def blocks(self) -> tuple[str, ...]:
        """The canonical texts of the blocks; without texts, the fewest blocks that fit."""
        if self.texts is not None:
            return self.texts

        ranges = ((ip_address(start[1:]), ip_address(end[1:])) for start, end in self._ranges())
        return tuple(
            str(block) for start, end in ranges for block in summarize_address_range(start, end)
        )

    def admit(self, address: str | None) -> bool:
        """Return True if an address lies in the networks; an unknown address does not.

        A binary search: its cost hardly grows with the number of networks.
        """
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
        for block in self.blocks:
            network = Networks.parse([block], "block")
            if network.admit(address):
                return network.blocks[0]
        return None

    def covers(self, other: Networks) -> bool:
        """Return True if every address of ``other`` lies in these networks."""
        # Ranges are merged, so each range of the other must lie in a single range of these.
        for start, end in other._ranges():
            index = bisect_right(self.starts, start) - 1
            if index < 0 or end > self.ends[index]:
                return False
        return True

    def common(self, other: Networks) -> Networks:
        """Return the networks of the addresses that lie in both sets.

        If a set covers the other, the other is returned unchanged, with its texts.
        """
        if other.covers(self):
            return self
        if self.covers(other):
            return other

        starts: list[bytes] = []
        ends: list[bytes] = []
        mine = 0
        theirs = 0
        while mine < len(self.starts) and theirs < len(other.starts):
            start = max(self.starts[mine], other.starts[theirs])
            end = min(self.ends[mine], other.ends[theirs])
            if start <= end:
                starts.append(start)
                ends.append(end)

            # The range that ends first can meet no further range.
            if self.ends[mine] < other.ends[theirs]:
                mine += 1
            else:
                theirs += 1
        return Networks(tuple(starts), tuple(ends))

    def _ranges(self) -> Iterator[tuple[bytes, bytes]]:
        return zip(self.starts, self.ends, strict=True)


def _key(packed: bytes) -> bytes:
    return len(packed).to_bytes() + packed


def _seal(texts: Sequence[str]) -> bytes:
    """Return a checksum that tells whether stored ranges belong to the texts."""
    return crc32(msgspec.json.encode(texts)).to_bytes(4)


def _merge(
    networks: Iterable[IPv4Network | IPv6Network],
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the starts and the ends of the merged ranges of networks."""
    ranges = sorted(
        (network.max_prefixlen // 8, int(network[0]), int(network[-1])) for network in networks
    )

    merged: list[tuple[int, int, int]] = []
    for size, start, end in ranges:
        if merged and merged[-1][0] == size and start <= merged[-1][2] + 1:
            _, first, last = merged[-1]
            merged[-1] = (size, first, max(end, last))
        else:
            merged.append((size, start, end))

    starts = tuple(_key(start.to_bytes(size)) for size, start, _ in merged)
    ends = tuple(_key(end.to_bytes(size)) for size, _, end in merged)
    return starts, ends


NOWHERE = Networks((), ())

# Networks without public hosts: RFC 1918, RFC 6598, RFC 4193, and this host.
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
