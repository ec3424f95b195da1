"""A provider's reply as its reader sees it: head known, body in pieces, whoever brings the bytes."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from xairouter.errors import ErrorCode, UpstreamError
from xairouter.upstream.interface import Headers


class Source(Protocol):
    """What brings a reply's bytes: a connection."""

    def resume(self) -> None:
        """The reader has caught up."""

    def abandon(self) -> None:
        """The reader leaves before the reply's end."""


class HttpReply:
    """A reply under way; see ``interface.Reply``. Its source adds to ``chunks`` and says ``wake`` or
    ``end``; it counts in ``size`` the bytes that wait for the reader, its framing with them."""

    __slots__ = (
        "_connection",
        "_failure",
        "_has_ended",
        "_take",
        "_waiter",
        "chunks",
        "headers",
        "size",
        "status",
    )

    def __init__(self, connection: Source, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self._connection: Source | None = connection
        self.chunks: list[bytes] = []
        self.size = 0
        self._has_ended = False
        self._failure: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None

    def __repr__(self) -> str:
        return f"<HttpReply {self.status}>"

    async def read(self) -> bytes:
        while True:
            if self.chunks:
                return self._take_all()
            if self._failure is not None:
                raise UpstreamError(ErrorCode.UPSTREAM_UNREACHABLE, self._failure, sent=True)
            if self._has_ended:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def on_piece(self, take: Callable[[bytes], bool]) -> bool:
        if self._connection is None:
            return True
        self._take = take
        return bool(self.chunks)

    def _take_all(self) -> bytes:
        chunks = self.chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.size = 0
        if self._connection is not None:
            self._connection.resume()
        return data

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        self._take = None
        if connection is not None:
            connection.abandon()

    def end(self, failure: str | None = None) -> None:
        """No more will come: the reply is whole, or broke off."""
        self._connection = None
        self._failure = failure
        self._has_ended = failure is None
        self.wake()
        self._take = None

    def wake(self) -> None:
        """There is something for the reader, or for who stands in for it while it waits."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        take, chunks = self._take, self.chunks
        if take is not None and chunks:
            data = chunks.pop() if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            if take(data):
                if self._connection is not None:
                    return
            else:
                chunks.append(data)
        if chunks or self._has_ended or self._failure:
            waiter.set_result(None)
