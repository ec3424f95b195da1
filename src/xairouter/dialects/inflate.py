"""Gzip in blocks of bounded size: a small body may unfold into gigabytes."""

import zlib
from collections.abc import Iterator
from typing import Protocol

BLOCK = 1 << 20


class Inflater(Protocol):
    """The part of ``zlib.decompressobj`` that is used here."""

    @property
    def eof(self) -> bool: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes: ...


def gunzip() -> Inflater:
    """A fresh decompressor for one gzip member."""
    return zlib.decompressobj(31)


def unfold(inflater: Inflater, data: bytes) -> Iterator[bytes]:
    """The next bytes of a member, in blocks of at most 1 MB; raises zlib.error if they are none."""
    while True:
        block = inflater.decompress(data, BLOCK)
        if block:
            yield block
        data = inflater.unconsumed_tail
        if not data and len(block) < BLOCK:
            return
