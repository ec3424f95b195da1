"""Whether a request comes from a program on this machine, with no proxy in between."""

import ipaddress
from collections.abc import Mapping, MutableMapping
from typing import Any

_SAYS_PROXY = frozenset(
    {
        b"cf-connecting-ip",
        b"client-ip",
        b"fastly-client-ip",
        b"forwarded",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-envoy-external-address",
        b"x-forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-original-host",
        b"x-original-url",
        b"x-real-ip",
        b"x-request-start",
        b"x-scheme",
    }
)


def is_direct(scope: MutableMapping[str, Any], headers: Mapping[bytes, bytes]) -> bool:
    """True if the peer is loopback, the address it asked is loopback, and no header tells of a proxy.

    A proxy on this machine that sends no header of its own passes on the host that its client asked
    for, or says HTTP/1.0. One that hides even that cannot be told from a program on this machine.
    """
    peer = scope["client"][0] if scope.get("client") else ""
    return (
        _is_loopback(peer)
        and scope["http_version"] == "1.1"
        and _is_loopback(_host_of(headers.get(b"host", b"").decode("latin-1")))
        and _SAYS_PROXY.isdisjoint(headers)
    )


def _host_of(authority: str) -> str:
    """``host``, ``host:port`` or ``[address]:port`` without its port."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
