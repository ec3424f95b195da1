"""The way to the counters' server: order, shared round trips, scripts that it forgot."""

import asyncio
import itertools
import os
from typing import Any

import pytest

from tests.servers import valkey_url
from xairouter.counters.line import Line
from xairouter.errors import ValkeyAwayError
from xairouter.storage.valkey import valkey_client

NUMBERS = itertools.count(os.getpid() * 1000)


class Trips:
    """A client that counts the round trips of scripts."""

    def __init__(self, client: Any) -> None:
        self.client, self.count = client, 0

    def pipeline(self, *, transaction: bool) -> Any:
        self.count += 1
        return self.client.pipeline(transaction=transaction)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


APPEND = {"APPEND": "redis.call('RPUSH', KEYS[1], ARGV[1]); return redis.call('LLEN', KEYS[1])"}


async def test_scripts_of_a_moment_share_a_round_trip_and_keep_their_order():
    client = Trips(valkey_client(valkey_url()))
    line, key = Line(client, APPEND), f"line_{next(NUMBERS)}"
    first = line.run("APPEND", key, [0])
    await asyncio.sleep(0)
    answers = [line.run("APPEND", key, [number]) for number in range(1, 60)]
    assert [await one for one in (first, *answers)] == list(range(1, 61))
    assert client.count <= 3, "the first one, perhaps once more with its script, and the rest"
    assert [int(one) for one in await client.lrange(key, 0, -1)] == list(range(60))
    await client.aclose()


async def test_a_server_that_forgot_its_scripts_is_told_them_again():
    client = valkey_client(valkey_url())
    line, key = Line(client, APPEND), f"line_{next(NUMBERS)}"
    assert await line.run("APPEND", key, [1]) == 1
    await client.script_flush()
    answers = [line.run("APPEND", key, [number]) for number in (2, 3)]
    assert [await one for one in answers] == [2, 3]
    await client.aclose()


async def test_who_waits_no_more_and_what_fails_leave_the_others_alone():
    client = valkey_client(valkey_url())
    wrong = {**APPEND, "WRONG": "return redis.call('INCR', KEYS[1])"}
    line, key = Line(client, wrong), f"line_{next(NUMBERS)}"
    await line.run("APPEND", key, [1])
    left, failed, kept = (line.run(name, key, [2]) for name in ("APPEND", "WRONG", "APPEND"))
    left.cancel()
    with pytest.raises(ValkeyAwayError, match="cannot be read now"):
        await failed
    assert await kept == 3, "the one that nobody waits for was run all the same"
    await line.finish()
    await client.aclose()
