"""Waiting for what must come, however slow the machine is."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until a condition (or the coroutine that it returns) is true; returns its value.

    The limit only ends a test that would never end. How fast something is, no test may ask here.
    """
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


async def at_rest(measure: Callable[[], int], most: int) -> int:
    """What a measure that only grows stands at, once it does not grow any more, or is above ``most``.

    Two ends of a connection in this process go on in each turn of the loop, however slow it is.
    """
    seen, turns = measure(), 0
    while turns < 15 and seen <= most:
        await asyncio.sleep(0.01)
        now = measure()
        seen, turns = now, turns + 1 if now == seen else 0
    return seen
