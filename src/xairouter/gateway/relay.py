"""A provider's reply on its way to the client: bytes through, the meter only watches."""

from collections.abc import Awaitable, Callable

from xairouter.dialects.headers import returned
from xairouter.dialects.interface import Dialect
from xairouter.dialects.meter import Meter, UsageStripper
from xairouter.domain.calls import Refusal
from xairouter.errors import ERRORS
from xairouter.gateway.running import RunningCall
from xairouter.gateway.talk import Talk
from xairouter.upstream.interface import Reply

Watch = Callable[[], Awaitable[None] | None]


def header_of(reply: Reply, name: str) -> str:
    """A reply header's value, "" if absent."""
    return next((value for key, value in reply.headers if key == name), "")


def is_event_stream(reply: Reply) -> bool:
    return header_of(reply, "content-type").lower().startswith("text/event-stream")


async def relay(
    reply: Reply,
    talk: Talk,
    meter: Meter,
    call: RunningCall,
    now: Callable[[], float],
    *,
    strip_usage: bool,
    watch: Watch,
) -> None:
    """Pass a reply on as it comes, waiting for a slow reader.

    ``watch`` runs after each piece (first byte, progress) and returns what is to be waited for.
    Raises UpstreamError where the reply breaks off; the client then has what came until there.
    """
    stripper = UsageStripper() if strip_usage and is_event_stream(reply) else None
    headers = returned(reply.headers)
    if stripper is not None:
        headers = [(name, value) for name, value in headers if name != b"content-length"]
    talk.start(reply.status, [*headers, (b"x-xairouter-origin", b"provider")])
    link = talk.link
    while chunk := await reply.read():
        call.touched_at = now()
        meter.feed(chunk)
        due = watch()
        if due is not None:
            await due
        if stripper is not None:
            chunk = stripper.feed(chunk)
        link.write(chunk)
        if link.is_full:
            await link.drained()
            call.touched_at = now()
    talk.end(stripper.finish() if stripper is not None else b"")


def break_off(talk: Talk, dialect: Dialect, reply: Reply | None, refusal: Refusal) -> None:
    """End a reply that cannot go on: a stream by one error event, anything else by cutting it."""
    if talk.link.is_gone:
        return
    if reply is not None and is_event_stream(reply):
        event = dialect.refuse_midstream(ERRORS[refusal.code], refusal, talk.call_id)
        # The event that was under way, if any, ends here.
        talk.end(b"\n\n" + event)
    else:
        talk.link.abort()
