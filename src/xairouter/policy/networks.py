"""Sets of addresses: exact containment, and look-ups that do not grow with the number of networks.

IPv4 and IPv6 are two spaces; an IPv4 address inside an IPv6 one (::ffff:10.0.0.1) counts as what it
carries.
"""

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_network(text: str) -> Network:
    """An address or a network, host bits cleared; raises ValueError."""
    network = ipaddress.ip_network(text.strip(), strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        inner = network.network_address.ipv4_mapped
        if inner is not None:
            return ipaddress.ip_network(f"{inner}/{network.prefixlen - 96}", strict=False)
    return network


def name_of_address(address: str) -> str:
    """What stands for an address: itself, or an IPv6 address's first 64 bits, as a single host
    has all addresses that begin so."""
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if not isinstance(read, ipaddress.IPv6Address):
        return str(read)
    if read.ipv4_mapped is not None:
        return str(read.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(read) >> 64 << 64)}/64"


def without_inner(texts: Iterable[str]) -> tuple[str, ...]:
    """Networks without those that lie within another one of them, in the order given."""
    given = tuple(texts)
    in_order = sorted(
        (
            (one.version, int(one.network_address), -int(one.broadcast_address), at)
            for at, one in enumerate(map(parse_network, given))
        )
    )
    kept: set[int] = set()
    version, end = 0, -1
    for its_version, _, last, at in in_order:
        if its_version != version or -last > end:
            version, end = its_version, -last
            kept.add(at)
    return tuple(text for at, text in enumerate(given) if at in kept)


class Networks:
    """A set of addresses, as sorted ranges without overlap for each version."""

    __slots__ = ("_ends", "_starts", "texts")

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._ends: dict[int, list[int]] = {4: [], 6: []}
        parsed = [parse_network(text) for text in self.texts]
        for version in (4, 6):
            ranges = sorted(
                (int(one.network_address), int(one.broadcast_address))
                for one in parsed
                if one.version == version
            )
            for start, end in ranges:
                ends = self._ends[version]
                if ends and start <= ends[-1] + 1:
                    ends[-1] = max(ends[-1], end)
                else:
                    self._starts[version].append(start)
                    ends.append(end)

    def has(self, address: str) -> bool:
        """Whether an address is in the set; what is no address is not."""
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return self._covers(parsed.version, int(parsed), int(parsed))

    def covers(self, network: str) -> bool:
        """Whether every address of a network is in the set; raises ValueError."""
        parsed = parse_network(network)
        first, last = int(parsed.network_address), int(parsed.broadcast_address)
        return self._covers(parsed.version, first, last)

    def _covers(self, version: int, first: int, last: int) -> bool:
        # Ranges that touch were joined, so what is covered lies in a single one.
        at = bisect_right(self._starts[version], first) - 1
        return at >= 0 and last <= self._ends[version][at]
