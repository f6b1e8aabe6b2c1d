"""Networks and clients' addresses: what is refused, and what is true of every list."""

from __future__ import annotations

import logging
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate import Denied, Gate, InvalidInput
from faregate.credentials.presented import RequestValues
from faregate.values.client_address import TrustedProxies
from faregate.values.networks import MAX_BLOCKS, Networks, canonical, pack, parse_block


def v4(network: tuple[int, int]) -> IPv4Network:
    """A network of an address and a prefix length."""
    return IPv4Network((network[0], network[1]), strict=False)


def v6(network: tuple[int, int]) -> IPv6Network:
    """A network of an address and a prefix length."""
    return IPv6Network((network[0], network[1]), strict=False)


# Few bits differ, so that networks meet, touch and lie in each other.
V4 = st.tuples(st.integers(0, 15).map(lambda bits: 0x0A000000 + bits), st.integers(26, 32)).map(v4)
V6 = st.tuples(
    st.integers(0, 15).map(lambda bits: (0x20010DB8 << 96) + bits), st.integers(122, 128)
).map(v6)
NETWORKS = st.lists(st.one_of(V4, V6), max_size=6)
ADDRESSES = st.one_of(
    st.integers(0, 31).map(lambda bits: IPv4Address(0x0A000000 + bits)),
    st.integers(0, 31).map(lambda bits: IPv6Address((0x20010DB8 << 96) + bits)),
)


@given(NETWORKS, ADDRESSES)
def test_set_equals_the_naive_test(
    networks: list[IPv4Network | IPv6Network], address: IPv4Address | IPv6Address
) -> None:
    """Bisection over merged ranges admits exactly what one of the networks holds."""
    compiled = Networks.parse([str(network) for network in networks], "x")
    assert compiled.admit(str(address)) == any(address in network for network in networks)
    assert Networks.load(compiled.blocks, compiled.packed()) == compiled


@given(NETWORKS, NETWORKS, ADDRESSES)
def test_what_is_common_to_two_sets(
    one: list[IPv4Network | IPv6Network],
    other: list[IPv4Network | IPv6Network],
    address: IPv4Address | IPv6Address,
) -> None:
    """Is what lies in both, whichever comes first; and its texts name just that."""
    first, second = (
        Networks.parse([str(network) for network in networks], "x") for networks in (one, other)
    )
    both = first.admit(str(address)) and second.admit(str(address))
    for common in (first.common(second), second.common(first)):
        assert common.admit(str(address)) == both
        named = Networks.parse(common.blocks, "x")
        assert (named.starts, named.ends) == (common.starts, common.ends)
        assert Networks.load(common.blocks, common.packed()).admit(str(address)) == both


def test_what_is_common_to_two_long_sets() -> None:
    """May be longer than a list that somebody writes; and the families are kept apart."""
    tens, elevens = (
        [f"{first}.{n // 256}.{n % 256}.0/24" for n in range(0, 18_000, 2)] for first in (10, 11)
    )
    one = Networks.parse(["11.0.0.0/8", *tens, "2001:db8::/32"], "x")
    other = Networks.parse(["10.0.0.0/8", *elevens, "2001:db8::1"], "x")
    common = one.common(other)
    assert len(common.blocks) == 18_001
    for address, inside in (
        ("10.0.2.1", True),
        ("11.0.2.1", True),
        ("10.0.1.1", False),
        ("2001:db8::1", True),
        ("2001:db8::2", False),
    ):
        assert common.admit(address) == inside
    nothing = Networks.parse(["10.0.0.0/8"], "x").common(Networks.parse(["11.0.0.0/8"], "x"))
    assert (nothing.blocks, nothing.admit("10.0.0.1")) == ((), False)


@given(NETWORKS, NETWORKS)
def test_covers_is_the_subset_of_addresses(
    parent: list[IPv4Network | IPv6Network], child: list[IPv4Network | IPv6Network]
) -> None:
    """One set covers another exactly if every address of the latter is in the former."""
    addresses = [address for network in child for address in network]
    subset = all(any(address in network for network in parent) for address in addresses)
    wide, narrow = (
        Networks.parse([str(one) for one in networks], "x") for networks in (parent, child)
    )
    assert wide.covers(narrow) == subset


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.1", "10.0.0.1/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("64:ff9b::10.0.0.0/104", "64:ff9b::a00:0/104"),
    ],
)
def test_canonical_text_is_kept(text: str, kept: str) -> None:
    """Blocks are kept in one spelling."""
    assert str(parse_block(text, "x")) == kept


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "*", "10.*", "localhost", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/08",
        "10.0.0.0/8 ", " 10.0.0.0/8", "10.0.0.0/8\n", "10.0.0.1/8", "10.0.0.0/255.0.0.0", "10.0.0.0/0.0.0.0",
        "010.0.0.0/8", "10.0.0", "10.0.0.0.0", "0x0a.0.0.0/8", "167772160", "10.0.0.0-10.0.0.9", "10.0.0.0/8,11.0.0.0/8",
        "10.0.0.0\u22158", "\u0661\u0660.0.0.0/8", "2001:db8::1/32", "2001:db8::/129", "2001:db8::%eth0/32", "fe80::1%eth0",
        "::ffff:0:0/95", "::ffff:10.0.0.0/95", "::ffff:1.2.03.4", ":/64", "1:2:3:4::5:6:7:8/64", "\ud800", "\x00",
        167772160, True, None, 10.0, b"10.0.0.0/8", ["10.0.0.0/8"], ("10.0.0.0", 8), {"cidr": "10.0.0.0/8"},
    ],
)  # fmt: skip
def test_other_blocks_are_refused(text: object) -> None:
    """Whatever is not exactly a block is refused, and the member is named."""
    with pytest.raises(InvalidInput, match=r"allowedCidrBlocks\[1\]"):
        Networks.parse(["10.0.0.0/8", text], "allowedCidrBlocks")


def test_equal_blocks_are_merged_and_order_is_kept() -> None:
    """The list comes back as it was given, without repetitions."""
    blocks = ["192.168.0.0/16", "::ffff:10.0.0.0/104", "10.0.0.0/8", "192.168.0.0/16"]
    assert Networks.parse(blocks, "x").blocks == ("192.168.0.0/16", "10.0.0.0/8")


def test_length_of_a_list_is_bounded() -> None:
    """At most 10,000 blocks; a text is no list."""
    with pytest.raises(InvalidInput, match="at most 10000"):
        Networks.parse(["10.0.0.0/8"] * (MAX_BLOCKS + 1), "x")
    with pytest.raises(InvalidInput, match="list"):
        Networks.parse("10.0.0.0/8", "x")


def test_stored_texts_are_the_truth() -> None:
    """Where the texts were changed behind the packed ranges, the texts count."""
    packed = Networks.parse(["10.0.0.0/8"], "x").packed()
    assert Networks.load(["10.0.0.0/8"], packed).admit("10.0.0.1")
    assert not Networks.load(["192.168.0.0/16"], packed).admit("10.0.0.1")
    with pytest.raises(InvalidInput):
        Networks.load(["nonsense"], packed)


@given(
    st.one_of(
        st.text(max_size=30),
        st.ip_addresses().map(str),
        st.text("0123456789abcdef:.%", max_size=45),
    )
)
def test_pack_agrees_with_the_standard_library(text: str) -> None:
    """An address is packed exactly where the standard library reads one, mapped ones as IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        assert pack(text) is None
        return
    if "%" in text:
        return  # the standard library takes zones that could forge a line of a log
    plain = getattr(address, "ipv4_mapped", None) or address
    key = pack(text)
    assert key is not None
    assert key[1:] == plain.packed
    assert canonical(text) == str(plain)


@pytest.mark.parametrize(
    "text",
    ["1.2.3.4%eth0", "fe80::1%", "fe80::1%a%b", "fe80::1%a b", "fe80::1%\n", "fe80::1%" + "a" * 65],
)
def test_zones_are_short_words_of_ipv6(text: str) -> None:
    """A zone belongs to IPv6 and cannot carry anything into a log."""
    assert pack(text) is None


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"trusted_proxies": ["*"]}, r"'\*'"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "host bits"),
        ({"trusted_proxies": ["10.0.0.0/255.0.0.0"]}, "prefix length"),
        ({"trusted_proxies": ["proxy.example"]}, "not a CIDR block"),
        ({"trusted_proxies": "10.0.0.0/8"}, "list"),
        ({"forwarded_header": "X-Real-IP"}, "forwarded_header"),
        ({"realm": 'a"b'}, "realm"),
        ({"realm": "caf\u00e9"}, "realm"),
        ({"realm": ""}, "realm"),
        ({"header": "X API Key"}, "header"),
        ({"header": "Authorization"}, "header"),
        ({"cookie": "session"}, "__Host-"),
        ({"cookie": "__Host-a b"}, "__Host-"),
        ({"authorization": False}, "another place"),
        ({"authorization": "no", "header": "X-API-Key"}, "authorization"),
        ({"max_length": 8191}, "max_length"),
        ({"max_length": 65_537}, "max_length"),
        ({"max_length": True}, "max_length"),
        ({"origins": "https://app.example"}, "origins"),
        ({"origins": ["https://app.example/"]}, "origins"),
        ({"origins": ["*"]}, "origins"),
        ({"origins": ["null"]}, "origins"),
    ],
)
def test_settings_are_refused_when_the_gate_is_made(settings: dict[str, object], word: str) -> None:
    """A setting that cannot be safe stops the application at its start, with a word on what to do."""
    with pytest.raises(InvalidInput, match=word):
        Gate("sqlite://", **settings)  # type: ignore[arg-type]


def test_ten_thousand_hops_are_walked_at_bounded_cost() -> None:
    """A header full of trusted hops costs time in proportion, and finds the client."""
    proxies = TrustedProxies(["127.0.0.1", "10.0.0.0/8"], "x-forwarded-for")
    assert proxies.client("127.0.0.1", ["9.9.9.9" + ", 10.0.0.1" * 10_000]) == "9.9.9.9"
    forwarded = TrustedProxies(["127.0.0.1", "10.0.0.0/8"], "forwarded")
    assert forwarded.client("127.0.0.1", ["for=9.9.9.9" + ", for=10.0.0.1" * 10_000]) == "9.9.9.9"


def test_what_clients_write_does_not_fill_the_cache() -> None:
    """Texts longer than any address are refused before they are cached."""
    pack("10.0.0.0")
    before = pack.cache_info().currsize
    for index in range(100):
        text = "1" * 1000 + str(index)
        assert canonical(text) is None
        assert not Networks.parse(["10.0.0.0/8"], "x").admit(text)
        with pytest.raises(InvalidInput):
            parse_block(text, "x")
    assert pack.cache_info().currsize == before


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What operators were warned of."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("trusted", "peer", "named"),
    [
        ("192.0.2.0/24", "192.0.2.1:99", "'192.0.2.1:99'"),
        ("unix", None, "'unix'"),
        ("unix", "localhost", "'localhost'"),
    ],
)
def test_trap_26_a_proxy_that_names_nobody_is_told_of_once(
    caplog: pytest.LogCaptureFixture, trusted: str, peer: str | None, named: str
) -> None:
    """One WARNING a gate names the peer and the header, however many requests come so."""
    for gate in (
        Gate("sqlite://", trusted_proxies=[trusted]),
        Gate("sqlite://", trusted_proxies=[trusted]),
    ):
        caplog.clear()
        for lines in ([], [" "], ["", "\t"]):
            for _ in range(20):
                with pytest.raises(Denied):
                    gate.requests.identify(RequestValues([], peer, forwarded=lines))
        (words,) = warnings_of(caplog)
        assert named in words
        assert "x-forwarded-for" in words
        assert "waitress" in words


def test_who_is_no_proxy_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Clients need no header, and what cannot be read is the matter of who sent it; neither does an explanation warn."""
    proxies = TrustedProxies(["192.0.2.0/24"], "x-forwarded-for")
    assert proxies.client("203.0.113.9", []) == "203.0.113.9"
    assert proxies.client("192.0.2.1", ["10.0.0.1"]) == "10.0.0.1"
    assert proxies.client("192.0.2.1", ["junk"]) is None
    assert TrustedProxies(["192.0.2.0/24"], "forwarded").client("192.0.2.1", ["10.0.0.1"]) is None
    assert TrustedProxies([], "x-forwarded-for").client("", []) is None
    gate = Gate("sqlite://", trusted_proxies=["192.0.2.0/24"])
    gate.explain(gate.tokens.create(name="a").secret, peer="192.0.2.1")
    assert warnings_of(caplog) == []


def test_a_peer_that_is_no_text_is_nobody() -> None:
    """Neither an address nor a Unix socket, and no error."""
    proxies = TrustedProxies(["unix", "0.0.0.0/0", "::/0"], "x-forwarded-for")
    peer: Any
    for peer in (b"", b"unix:", b"10.0.0.1", 0, 10, [], ["10.0.0.1"], {}, False):
        assert proxies.client(peer, ["10.0.0.1"]) is None
        assert TrustedProxies([], "x-forwarded-for").client(peer, []) is None
