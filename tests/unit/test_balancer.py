"""What the balancer of the example does when an instance ends a connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster.balancer import Balancer


class Instance:
    """Answers lines with its name; ends a connection after so many, the last one unanswered if told."""

    def __init__(self, name: str, *, most: int = 1000, answers_last: bool = True) -> None:
        self._name, self._most, self._answers_last = name.encode(), most, answers_last
        self.asked: list[bytes] = []
        self.is_ready = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for left in reversed(range(self._most)):
            line = await reader.readline()
            if line.startswith(b"GET /readyz"):
                writer.write(b"HTTP/1.1 %d x\r\n\r\n" % (200 if self.is_ready else 503))
                break
            if not line:
                break
            self.asked.append(line)
            if left or self._answers_last:
                writer.write(self._name + b" " + line)
        writer.close()


@asynccontextmanager
async def _balanced(*instances: Instance) -> AsyncIterator[tuple[Balancer, int]]:
    servers = [await asyncio.start_server(one.serve, "127.0.0.1", 0) for one in instances]
    balancer = Balancer([server.sockets[0].getsockname()[1] for server in servers])
    try:
        yield balancer, await balancer.start()
    finally:
        await balancer.stop()
        for server in servers:
            server.close()


async def test_what_comes_behind_the_end_of_a_resting_connection_goes_to_another_instance():
    first, second = Instance("first", most=2), Instance("second")
    async with _balanced(first, second) as (balancer, port):
        balancer._next = 1  # The first one is next.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answers = []
        for number in range(4):
            writer.write(b"%d\n" % number)
            answers.append(await asyncio.wait_for(reader.readline(), 30))
            first.is_ready = False
        assert answers == [b"first 0\n", b"first 1\n", b"second 2\n", b"second 3\n"]
        assert (first.asked, second.asked) == ([b"0\n", b"1\n"], [b"2\n", b"3\n"])
        writer.close()


async def test_what_an_instance_may_have_read_is_not_sent_again():
    first, second = Instance("first", most=2, answers_last=False), Instance("second")
    async with _balanced(first, second) as (balancer, port):
        balancer._next = 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"0\n")
        assert await asyncio.wait_for(reader.readline(), 30) == b"first 0\n"
        writer.write(b"1\n")
        assert await asyncio.wait_for(reader.readline(), 30) == b""
        assert second.asked == []
        writer.close()
