"""Which addresses a provider may have: our own table, asked at write time and at connect time.

``ipaddress.is_global`` is not used: it lets NAT64, 6to4, IPv4-compatible, site-local and multicast
addresses pass, and says nothing of a cloud's metadata service. IPv4 is held to a table of what is
refused; of IPv6 only what IANA allocates as global unicast (2000::/3) may pass, less what is special
inside it. Addresses that carry an IPv4 address are unwrapped first. Sources: IANA IPv4 and IPv6
special-purpose registries (RFC 6890), RFC 4291 §2.4, RFC 6052 and 8215 (NAT64), RFC 2765 (SIIT), RFC
3056 (6to4), RFC 4380 (Teredo), RFC 5214 (ISATAP), RFC 3879 (site-local).
"""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # "this network"; 0.0.0.0 reaches our own listeners
        "169.254.0.0/16",  # link-local, cloud metadata
        "192.0.0.0/24",  # IETF protocol assignments; 192.0.0.192 is Oracle's metadata service
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "100.100.100.200/32",  # Alibaba's metadata service, inside shared space
        "168.63.129.16/32",  # Azure's host services
        "2001::/23",  # IETF protocol assignments (Teredo is unwrapped first)
        "2001:db8::/32",  # documentation
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
        "fd00:ec2::254/128",  # AWS metadata service
        "fd20:ce::254/128",  # Google metadata service
    )
)
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "::1/128",
        "fc00::/7",
    )
)
_GLOBAL = tuple(ipaddress.ip_network(network) for network in ("0.0.0.0/0", "2000::/3"))
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_LAST_32_BITS = (ipaddress.ip_network("::/96"), ipaddress.ip_network("::ffff:0:0:0/96"), *_NAT64)
"""IPv4-compatible, IPv4-translated (SIIT) and NAT64 addresses."""
_ISATAP = (0x00005EFE, 0x02005EFE)
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|(?=.{1,253}(?::|\Z))(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    r"(?:\.(?!:|\Z)|\.?(?=:|\Z)))+)(?::[1-9][0-9]{0,4})?\Z"
)
"""A name, an IPv4 address or an IPv6 address in brackets, and a port (RFC 3986 §3.2.2, RFC 1123
§2.1); ``_`` because containers' names have it."""
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def unwrap(address: Address) -> tuple[Address, ...]:
    """The address itself and every IPv4 address that it carries inside."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    value = int(address)
    inner: list[Address] = []
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if value > 1 and any(address in network for network in _LAST_32_BITS):
        inner.append(ipaddress.IPv4Address(value & 0xFFFFFFFF))
    if address.sixtofour is not None:
        inner.append(address.sixtofour)
    if address.teredo is not None:
        inner.extend(address.teredo)
    if (value >> 32) & 0xFFFFFFFF in _ISATAP:
        inner.append(ipaddress.IPv4Address(value & 0xFFFFFFFF))
    return (address, *inner)


def _is_in(
    address: Address, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
) -> bool:
    return any(address in network for network in networks if network.version == address.version)


class Egress:
    """The rule of one installation: whether private providers are allowed, and our own listener."""

    def __init__(self, *, allow_private: bool, listeners: Iterable[tuple[str, int]] = ()) -> None:
        self.allow_private = allow_private
        self._listeners: set[int] = {port for _, port in listeners}

    def add_listener(self, port: int) -> None:
        """A port on which this process listens: never a provider's, on any local address."""
        self._listeners.add(port)

    def refuse_address(self, host: str, port: int) -> str | None:
        """Why a connection to an IP address is not allowed, or None."""
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return "it is not an address"
        for part in unwrap(address):
            if _is_in(part, _NEVER):
                return "it is a special or metadata address"
            if _is_in(part, _PRIVATE):
                if not self.allow_private:
                    return "it is a private address"
                if part.is_loopback and port in self._listeners:
                    return "it is this router itself"
            elif not _is_in(part, _GLOBAL):
                return "it is a special or metadata address"
        if isinstance(address, ipaddress.IPv6Address) and len(unwrap(address)) > 1:
            return "it hides another address"
        return None

    def refuse_url(self, url: str, *, may_escape: bool = False) -> str | None:
        """Why a base URL is not allowed, or None. Names are checked again when they resolve.

        ``may_escape`` – its path may have characters in percent-encoding, as that of a request may:
        a model's name stands in some. They hide no slash and no dots.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return "it is not a URL"
        if parts.scheme not in ("https", "http") or not parts.hostname:
            return "it is not an http or https URL"
        if parts.username is not None or parts.password is not None:
            return "it has a user name in it"
        if not _HOST.match(parts.netloc):
            return "its host is neither a name nor an address"
        if parts.query or parts.fragment or "?" in url or "#" in url:
            return "it has a query or a fragment"
        if any(character <= " " or character == "\\" or character > "~" for character in url):
            return "it has characters that do not belong into a URL"
        if parts.scheme == "http" and not self.allow_private:
            return "it is not https"
        if "%" in parts.path and not (may_escape and not _ESCAPE.search(parts.path)):
            return "its path has escapes"
        segments = [unquote_to_bytes(segment) for segment in parts.path.split("/")]
        if any(segment in (b".", b"..") or b"/" in segment for segment in segments):
            return "its path has dots or hidden slashes"
        host = parts.hostname
        if _is_numeric(host):
            return self.refuse_address(host, port or (443 if parts.scheme == "https" else 80))
        if host == "localhost" or host.endswith(".localhost"):
            return None if self.allow_private else "it is a private address"
        return None


def _is_numeric(host: str) -> bool:
    """True for IP literals and what resolvers take as one (2130706433, 0x7f.1)."""
    if ":" in host:
        return True
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdigit() or last.lower().startswith("0x")
