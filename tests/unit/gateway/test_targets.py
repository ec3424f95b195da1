"""What a request's path and query may take, before anybody's key is read."""

import pytest

from tests.unit.gateway.test_edge import Asked
from tests.wire import Edge
from xairouter.gateway.edge import MOST_ARGUMENTS, MOST_TARGET

REQUEST = b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "target",
    [
        b"?" + b"a&" * MOST_ARGUMENTS,
        b"v1beta/models?" + b"a=%41&" * MOST_ARGUMENTS,
        b"?a=" + b"%41" * (MOST_TARGET // 3),
        b"%41" * (MOST_TARGET // 3 + 1),
        b"a" * MOST_TARGET,
    ],
    ids=["arguments", "escaped arguments", "argument", "escaped path", "path"],
)
@pytest.mark.parametrize("pieces", [999, 100_000])
async def test_a_path_or_query_beyond_its_bounds_is_refused_undecoded(target: bytes, pieces: int):
    asked = Asked()
    wire = Edge(asked).connect()
    data = REQUEST % target
    for at in range(0, len(data), pieces):
        wire.send(data[at : at + pieces])
        await wire.settled()
    (reply,) = await wire.ended()
    assert (reply.status, asked.begun) == (400, 0)


@pytest.mark.parametrize(
    "target", [b"?" + b"a&" * (MOST_ARGUMENTS - 1), b"?" + b"a" * (MOST_TARGET - 2)]
)
async def test_a_path_and_query_within_their_bounds_pass(target: bytes):
    wire = Edge(Asked()).connect()
    wire.send(REQUEST % target)
    (reply,) = await wire.answered()
    assert reply.status == 200
