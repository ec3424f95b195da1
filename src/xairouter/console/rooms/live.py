"""Live figures: server-sent events that say when calls have come in; the page asks for the rest.

An event's id is how many calls within reach are recorded, so that after a cut connection the browser
says what it has seen and nothing is missed, a call that ended late included. The stream ends with the
session.
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from xairouter.console.visit import SECURITY_HEADERS, Visit
from xairouter.domain.calls import Refusal
from xairouter.errors import ManageError, StorageError
from xairouter.manage import usage

EVERY_SECONDS = 1.0
BEAT_SECONDS = 15.0


async def show_live(visit: Visit) -> Response:
    """An event ``calls`` whenever there are calls that were not seen yet."""
    headers = {**SECURITY_HEADERS, "x-accel-buffering": "no"}
    seen = visit.request.headers.get("last-event-id", "")
    return StreamingResponse(_events(visit, seen), media_type="text/event-stream", headers=headers)


async def _events(visit: Visit, seen: str) -> AsyncIterator[str]:
    _, token = visit.who
    beat = 0.0
    try:
        seen = seen or await _recorded(visit)
        yield f"retry: 2000\nid: {seen}\ndata: \n\n"
        while not visit.is_ending():
            await asyncio.sleep(EVERY_SECONDS)
            beat += EVERY_SECONDS
            identity = await visit.identifier.resolve_session(token)
            if isinstance(identity, Refusal):
                return
            recorded = await _recorded(visit)
            if recorded != seen:
                seen, beat = recorded, 0.0
                yield f"event: calls\nid: {seen}\ndata: {seen}\n\n"
            elif beat >= BEAT_SECONDS:
                beat = 0.0
                yield ": still here\n\n"
    except (StorageError, ManageError):
        # The browser asks again by itself: the database is away, or very many ask at once.
        return


async def _recorded(visit: Visit) -> str:
    return str(await usage.count_records(visit.desk, visit.actor, usage.Asked()))
