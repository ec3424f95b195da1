"""The management plane's application, without a router around it."""

import asyncio
import sys
from types import FrameType
from typing import Any

from fastapi import FastAPI

from xairouter.api.application import management_app

MOST_CALLS = 5_000


def _calls_of_a_request(app: FastAPI) -> int:
    """How many Python functions are called for an answer that no verb is needed for."""
    count, statuses = 0, []

    def called(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call"

    async def send(message: dict[str, Any]) -> None:
        statuses.append(message.get("status"))

    async def ask() -> None:
        scope = {"type": "http", "method": "GET", "path": "/api/v1/nowhere", "headers": []}
        before = sys.getprofile()
        sys.setprofile(called)
        try:
            await app(scope | {"query_string": b"", "root_path": ""}, None, send)  # type: ignore[arg-type]
        finally:
            sys.setprofile(before)

    asyncio.run(ask())
    assert statuses[0] == 404
    return count


def test_the_first_request_does_not_build_the_routes():
    """All calls of the data plane would wait for it."""
    _calls_of_a_request(management_app())  # what is imported at a first use
    assert _calls_of_a_request(management_app()) < MOST_CALLS
