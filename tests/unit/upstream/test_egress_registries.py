"""The address check over IANA's registries, every form that carries an IPv4 address, and hosts."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import for_each
from xairouter.upstream.egress import Egress

PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
PRIVATE_6 = ("::1/128", "fc00::/7")
SPECIAL = (
    *("0.0.0.0/8", "0.0.0.0/32", "169.254.0.0/16", "192.0.0.0/24", "192.0.0.0/29"),
    *("192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32", "192.0.0.171/32"),
    *("192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
    *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32"),
    *("::/128", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"),
    *("100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32", "2001:1::1/128", "2001:1::2/128"),
    *("2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28"),
    *("2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48"),
    *("3fff::/20", "5f00::/16", "fe80::/10", "fec0::/10", "ff00::/8"),
)
"""IANA's special-purpose registries for IPv4 and IPv6, and the multicast and site-local ranges."""
UNALLOCATED = ("200::/7", "400::/6", "1000::/4", "4000::/3", "8000::/3", "c000::/3", "e000::/4")
"""Outside of 2000::/3 nothing is global unicast."""


def _samples(network: str) -> set[str]:
    """The first, the last, and addresses in between."""
    known = ipaddress.ip_network(network)
    count = known.num_addresses
    return {str(known[at]) for at in {0, count - 1, min(1, count - 1), count // 2, count // 3}}


@for_each("allow_private", [True, False])
@for_each("network", [*SPECIAL, *UNALLOCATED])
def test_what_is_special_in_a_registry_never_passes(network: str, allow_private: bool):
    egress = Egress(allow_private=allow_private)
    for address in _samples(network) - {"::1"}:
        assert egress.refuse_address(address, 443), address


@pytest.mark.parametrize("network", [*PRIVATE, *PRIVATE_6])
def test_what_is_private_passes_only_where_it_may(network: str):
    for address in _samples(network):
        assert Egress(allow_private=False).refuse_address(address, 443), address
        assert Egress(allow_private=True).refuse_address(address, 443) is None, address


def _carriers(inner: ipaddress.IPv4Address) -> dict[str, int]:
    """Every form in which an IPv6 address carries an IPv4 address, by its RFC."""
    value = int(inner)
    split = (value >> 16 << 24) | (value & 0xFFFF)  # around the eight bits that stay zero
    return {
        "compatible, RFC 4291": value,
        "translated, RFC 2765": (0xFFFF << 48) | value,
        "NAT64, RFC 6052": (0x64FF9B << 96) | value,
        "local NAT64, RFC 8215, /96": (0x64FF9B0001 << 80) | value,
        "local NAT64, RFC 8215, /48": (0x64FF9B0001 << 80) | (split << 40),
        "6to4, RFC 3056": (0x2002 << 112) | (value << 80) | 1,
        "Teredo server, RFC 4380": (0x20010000 << 96) | (value << 64) | 0xFFFFFFFF,
        "Teredo client, RFC 4380": (0x20010000 << 96) | (value ^ 0xFFFFFFFF),
        "ISATAP, RFC 5214": (0x2606470000000000 << 64) | (0x5EFE << 32) | value,
        "ISATAP, global, RFC 5214": (0x2606470000000000 << 64) | (0x02005EFE << 32) | value,
    }


@given(st.ip_addresses(v=4), st.booleans())
def test_no_form_that_carries_an_ipv4_address_passes(
    inner: ipaddress.IPv4Address, allow_private: bool
):
    egress = Egress(allow_private=allow_private)
    for form, value in _carriers(inner).items():
        address = str(ipaddress.IPv6Address(value))
        if address == "::1":
            continue
        assert egress.refuse_address(address, 443), (form, address)


@for_each(
    "host",
    [
        *("p%00.example", "%70.example", "p.example%2f", "[v1.x]", "[v1.fe80::1]", "[::1%25eth0]"),
        *("[::1", "::1]", "[]", "", ".", "a..b", ".a", "-a.example", "a-.example", "a b", "a,b"),
        *(
            "a'b",
            "a;b",
            "a&b",
            "a|b",
            "a`b",
            "a*b",
            "a{b}",
            "a(b)",
            "a$b",
            "a!b",
            "a=b",
            "a+b",
            "a~b",
        ),
        *("a<b>", 'a"b', "a^b", "[::1]x", "x[::1]", "a" * 64, ".".join(["a" * 60] * 5)),
        *("p.example:", "p.example:0", "p.example:00080", "p.example:99999", "p.example:x"),
        *("p.example:+80", "p.example:8 0", "p.example:-1", "user@p.example", "u:p@p.example"),
        *("2130706433", "0x7f.1", "127.1", "017700000001", "1.2.3.4.5", "1.2.3", "[1.2.3.4]"),
        *("é.example", "p.example\\", "p.example\t", "p.exa\nmple"),
    ],
)
@for_each("allow_private", [True, False])
def test_a_host_that_is_neither_a_name_nor_an_address_is_refused(host: str, allow_private: bool):
    assert Egress(allow_private=allow_private).refuse_url(f"https://{host}/v1")


@for_each(
    "host",
    [
        *("api.openai.com", "API.OpenAI.com", "api.openai.com.", "api.openai.com:8443", "x"),
        *("my_service", "my_service:8080", "xn--bcher-kva.example", "1password.example", "a" * 63),
        *("8.8.8.8", "8.8.8.8:443", "[2606:4700::1111]", "[2606:4700::1111]:443", "a-b.c-d"),
    ],
)
def test_names_and_addresses_pass(host: str):
    assert Egress(allow_private=False).refuse_url(f"https://{host}/v1") is None


@pytest.mark.parametrize(
    ("path", "base", "request_path"),
    [
        ("/v1/models/a%40b:generateContent", False, True),
        ("/v1/models/a@b:generateContent", True, True),
        ("/v1/models/%E6%A8%A1", False, True),
        ("/v1/models/a%2Fb", False, False),
        ("/v1/models/%2e%2E/x", False, False),
        ("/v1/models/.%2e/x", False, False),
        ("/v1/models/%2e", False, False),
        ("/v1/../x", False, False),
        ("/v1/./x", False, False),
        ("/v1/%zz", False, False),
        ("/v1/%4", False, False),
    ],
)
def test_escapes_pass_in_a_request_s_path_where_they_hide_nothing(
    path: str, base: bool, request_path: bool
):
    egress = Egress(allow_private=False)
    url = "https://p.example" + path
    assert (egress.refuse_url(url) is None) is base
    assert (egress.refuse_url(url, may_escape=True) is None) is request_path
