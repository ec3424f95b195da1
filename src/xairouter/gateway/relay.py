"""A provider's reply on its way to the client: bytes through, the meter only watches."""

from collections.abc import Callable

from xairouter.dialects.headers import returned
from xairouter.dialects.interface import Dialect
from xairouter.dialects.meter import Meter, UsageStripper
from xairouter.domain.calls import Refusal
from xairouter.errors import ERRORS
from xairouter.gateway.running import RunningCall
from xairouter.gateway.talk import Talk
from xairouter.gateway.watching import Watcher
from xairouter.upstream.interface import Reply, header_of


def is_event_stream(reply: Reply) -> bool:
    return header_of(reply, "content-type").lower().startswith("text/event-stream")


async def relay(
    reply: Reply,
    talk: Talk,
    meter: Meter,
    call: RunningCall,
    watcher: Watcher,
    now: Callable[[], float],
    *,
    strip_usage: bool,
) -> None:
    """Pass a reply on as it comes, waiting for a slow reader.

    While there is nothing to wait for, pieces pass in the very moment in which they come, and this
    coroutine sleeps. Raises UpstreamError where the reply breaks off; the client then has what came
    until there.
    """
    stripper = UsageStripper() if strip_usage and is_event_stream(reply) else None
    headers = returned(reply.headers)
    if stripper is not None:
        headers = [(name, value) for name, value in headers if name != b"content-length"]
    talk.start(reply.status, [*headers, (b"x-xairouter-origin", b"provider")])
    link, feed = talk.link, meter.feeder()
    flow = link.flow

    def pass_at_once(chunk: bytes) -> bool:
        at = now()
        if at >= watcher.due or flow.write_paused:
            return False
        call.touched_at = at
        feed(chunk)
        if watcher.is_first:
            watcher.see(at)
        link.write(chunk if stripper is None else stripper.feed(chunk))
        return True

    if not reply.on_piece(pass_at_once):
        link.flush()
    while chunk := await reply.read():
        call.touched_at = at = now()
        feed(chunk)
        due = watcher.see(at)
        if due is not None:
            await due
        link.write(chunk if stripper is None else stripper.feed(chunk))
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
