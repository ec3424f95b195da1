"""A background loop that is told to stop has ended: it does not take another turn, in which it would ask
providers, tell webhooks and write to a database that is about to be closed."""

import asyncio
from typing import Any

import pytest
import structlog

from xairouter.manage.expire import Expiry
from xairouter.manage.herald import Herald
from xairouter.manage.refresh import Refresher

NOTHING: Any = None
LOOPS = [
    Expiry(NOTHING, NOTHING, seconds=lambda: 0.0),
    Refresher(NOTHING, lambda: 0.0),
    Herald(NOTHING, NOTHING, backlog=lambda: 1, most_backlog=1, operator=None),
]


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: type(loop).__name__)
async def test_a_loop_that_is_told_to_stop_takes_no_other_turn(loop: Any):
    stop = asyncio.Event()
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(loop.run(stop))
        await asyncio.sleep(0)
        stop.set()
        await running
    # With nothing to work on, a turn fails and says so.
    assert logs == []
