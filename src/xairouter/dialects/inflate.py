"""Gzip, unfolded block by block: a small body may unfold into gigabytes.

What is inflated is bounded by what came in, so that the work for a request or a reply follows the
bytes that its sender paid for.
"""

import zlib
from collections import deque
from collections.abc import Iterator

BLOCK = 16 * 1024
"""Most bytes of one step."""
_PIECE = 4096
FREE_BYTES = 64 * 1024
FREE_OF_A_REPLY = 1 << 20
MOST_TIMES = 50
"""A request may unfold to 64 kB in any case, a reply to 1 MB, and for each byte that came to 50 more.
JSON of text stays far below; only long runs of the same are denser."""


class TooDenseError(zlib.error):
    """The data unfolds to more than its size allows."""


class Inflater:
    """One gzip member. ``take`` bytes in, and ask for the next ``step`` while there ``is_more``.
    ``free`` bytes are given whatever came. ``has_rest``: bytes came behind the member's end."""

    __slots__ = ("_free", "_given", "_inflate", "_taken", "_waiting", "has_rest")

    def __init__(self, free: int = FREE_BYTES) -> None:
        self._free = free
        self._inflate = zlib.decompressobj(31)
        self._waiting: deque[bytes] = deque()
        self._taken = 0
        self._given = 0
        self.has_rest = False

    @property
    def is_more(self) -> bool:
        return bool(self._waiting)

    @property
    def is_whole(self) -> bool:
        """Whether the member's end has come."""
        return self._inflate.eof

    def take(self, data: bytes) -> None:
        self._taken += len(data)
        if self._inflate.eof:
            self.has_rest = self.has_rest or bool(data)
            return
        # What is not used up yet is copied in each step: small pieces keep that small.
        self._waiting += [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]

    def step(self) -> bytes:
        """At most ``BLOCK`` of the next bytes; may be empty. Raises zlib.error where they are no
        gzip, TooDenseError where they are too many."""
        piece = self._waiting.popleft()
        block = self._inflate.decompress(piece, BLOCK)
        self._given += len(block)
        if self._given > self._free + MOST_TIMES * self._taken:
            raise TooDenseError("it unfolds to more than its size allows")
        if self._inflate.eof:
            self.has_rest = bool(self._inflate.unused_data or self._waiting)
            self._waiting.clear()
            return block
        rest = self._inflate.unconsumed_tail
        if rest or len(block) == BLOCK:
            # Also without a rest: the decompressor may hold back what found no place.
            self._waiting.appendleft(rest)
        return block


def unfold(inflater: Inflater, data: bytes) -> Iterator[bytes]:
    """The next bytes of a member, in blocks; raises zlib.error if they are none."""
    inflater.take(data)
    while inflater.is_more:
        block = inflater.step()
        if block:
            yield block
