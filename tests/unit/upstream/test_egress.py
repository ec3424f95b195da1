"""The address check."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import for_each
from xairouter.upstream.egress import Egress

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "2606:4700::1111",
    "2001:4860:4860::8888",
    "172.15.0.1",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "11.0.0.1",
    "169.253.0.1",
]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "fc00::1",
    "fdff::1",
    "::ffff:10.0.0.1",
]
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.0.192",
    "100.100.100.200",
    "168.63.129.16",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b::8.8.8.8",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "::10.0.0.1",
    "::8.8.8.8",
    "2001:0:1:2:3:4:5:6",
    "2001:db8::1",
    "fe80::5efe:10.0.0.1",
    "2001:4860::5efe:10.0.0.1",
    "64:ff9b:1::1",
    "not an address",
]


@for_each("address", PUBLIC)
@for_each("allow_private", [True, False])
def test_public_addresses_pass(address: str, allow_private: bool):
    assert Egress(allow_private=allow_private).refuse_address(address, 443) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_pass_only_where_allowed(address: str):
    assert Egress(allow_private=False).refuse_address(address, 443)
    assert Egress(allow_private=True).refuse_address(address, 443) is None


@for_each("address", NEVER)
@for_each("allow_private", [True, False])
def test_special_addresses_never_pass(address: str, allow_private: bool):
    assert Egress(allow_private=allow_private).refuse_address(address, 443)


def test_our_own_listener_never_passes():
    egress = Egress(allow_private=True)
    egress.add_listener(8080)
    for address in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"):
        assert egress.refuse_address(address, 8080)
        assert egress.refuse_address(address, 8081) is None


@given(st.ip_addresses(v=4))
def test_an_address_hidden_in_ipv6_is_never_freer_than_itself(inner: ipaddress.IPv4Address):
    egress = Egress(allow_private=False)
    mapped = f"::ffff:{inner}"
    assert bool(egress.refuse_address(mapped, 443)) == bool(egress.refuse_address(str(inner), 443))
    for hidden in (
        f"64:ff9b::{inner}",
        str(ipaddress.IPv6Address((0x2002 << 112) | (int(inner) << 80))),
    ):
        assert egress.refuse_address(hidden, 443)
