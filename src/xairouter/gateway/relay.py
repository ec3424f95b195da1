"""A provider's reply on its way to the client: bytes through, the meter only watches."""

import asyncio
from collections.abc import Callable

from xairouter.dialects.interface import Dialect
from xairouter.dialects.meter import Meter, UsageStripper
from xairouter.domain.calls import Refusal
from xairouter.errors import ERRORS
from xairouter.gateway.link import Link
from xairouter.gateway.reply_headers import returned
from xairouter.gateway.running import RunningCall
from xairouter.gateway.sampling import SAMPLE_BYTES, ends_of
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
    *,
    strip_usage: bool,
) -> None:
    """Pass a reply on as it comes, waiting for a slow reader.

    While there is nothing to wait for, pieces pass in the very moment in which they come. Raises
    UpstreamError where the reply breaks off; the client then has what came until there.
    """
    stripper = UsageStripper() if strip_usage and is_event_stream(reply) else None
    _start(talk, reply, has_length=stripper is None)
    link, feed = talk.link, meter.feeder()
    flow, write, now = link.flow, link.write, watcher.now
    keep, size = watcher.sampler.keep, 0
    watcher.sampler.size = lambda: size

    def pass_at_once(chunk: bytes) -> bool:
        nonlocal size
        at = now()
        if at >= watcher.due or flow.write_paused:
            return False
        call.touched_at = at
        size += len(chunk)
        keep(chunk if len(chunk) <= SAMPLE_BYTES else ends_of(chunk))
        feed(chunk)
        write(chunk if stripper is None else stripper.feed(chunk))
        return True

    # A compressed reply is read with pauses, so its pieces pass where there can be some.
    if meter.is_compressed or not reply.on_piece(pass_at_once):
        link.flush()
    while chunk := await reply.read():
        call.touched_at = at = now()
        size += len(chunk)
        keep(chunk if len(chunk) <= SAMPLE_BYTES else ends_of(chunk))
        feed(chunk)
        if (due := watcher.see(at)) is not None:
            await due
        write(chunk if stripper is None else stripper.feed(chunk))
        if meter.is_behind:
            await _catch_up(meter)
        if link.is_full:
            await (link.drained() if call.patience is None else _be_patient(link, call, now))
            call.touched_at = now()
    talk.end(stripper.finish() if stripper is not None else b"")


async def _be_patient(link: Link, call: RunningCall, now: Callable[[], float]) -> None:
    """Wait for a slow reader no longer than the call has patience; then go on without it."""
    assert call.patience is not None
    began = now()
    try:
        async with asyncio.timeout(call.patience):
            await link.drained()
    except TimeoutError:
        link.abort()
    call.patience = max(0.0, call.patience - (now() - began))


def _start(talk: Talk, reply: Reply, *, has_length: bool) -> None:
    """Send the reply's head; without its length where something is taken out of the body."""
    headers = returned(reply.headers)
    if not has_length:
        headers = [(name, value) for name, value in headers if name != b"content-length"]
    talk.start(reply.status, [*headers, (b"x-xairouter-origin", b"provider")])


async def _catch_up(meter: Meter) -> None:
    """Read what a compressed piece holds, block by block."""
    while meter.is_behind:
        await asyncio.sleep(0)
        meter.go_on()


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
