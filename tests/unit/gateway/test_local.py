"""Who counts as a program on this machine."""

import pytest

from xairouter.gateway.local import is_direct

DIRECT = {b"host": b"127.0.0.1:8080", b"user-agent": b"Prometheus/3.1"}


def _ask(headers: dict[bytes, bytes], peer: str = "127.0.0.1", version: str = "1.1") -> bool:
    return is_direct({"client": (peer, 5), "http_version": version}, headers)


@pytest.mark.parametrize("host", [b"127.0.0.1", b"localhost:8080", b"[::1]:8080", b"127.0.0.2:1"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "127.1.2.3"])
def test_loopback_asked_by_its_own_name_is_direct(host: bytes, peer: str):
    assert _ask({**DIRECT, b"host": host}, peer)


@pytest.mark.parametrize("peer", ["10.0.0.1", "8.8.8.8", "", "testclient"])
def test_another_peer_is_not(peer: str):
    assert not _ask(DIRECT, peer)


@pytest.mark.parametrize(
    "host",
    [b"ai.example.com", b"10.0.0.1:8080", b"", b"localhost.evil", b"[::2]:80", b"2130706433"],
)
def test_a_proxy_that_passes_its_client_s_host_is_not(host: bytes):
    assert not _ask({**DIRECT, b"host": host})


@pytest.mark.parametrize(
    "name",
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via", "x-real-ip"],
)
def test_a_proxy_that_says_so_is_not(name: str):
    assert not _ask({**DIRECT, name.encode(): b"x"})


def test_a_proxy_with_its_default_version_is_not():
    """nginx before 1.29.7 asks with HTTP/1.0 and the name of its upstream as host."""
    assert not _ask(DIRECT, version="1.0")
