"""A provider's reply on its way to the client: bytes through, the meter only watches."""

import asyncio
from collections.abc import Callable

from xairouter.dialects.interface import Dialect
from xairouter.dialects.late import STEP
from xairouter.dialects.meter import AT_ONCE, Meter
from xairouter.dialects.stripping import UsageStripper
from xairouter.domain.calls import Refusal
from xairouter.domain.steps import Steps
from xairouter.errors import ERRORS
from xairouter.gateway.link import Link
from xairouter.gateway.reply_headers import returned
from xairouter.gateway.running import RunningCall
from xairouter.gateway.sampling import SAMPLE_BYTES, ends_of
from xairouter.gateway.talk import Talk
from xairouter.gateway.watching import Watcher
from xairouter.turns import BUSY, count, in_slices, must_wait, turn
from xairouter.upstream.interface import Reply, header_of

_NOTHING = -1
"""No piece is so short."""


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
    """Pass a reply on as it comes, waiting for a slow reader: in the very moment while there is nothing
    to wait for. Raises UpstreamError where it breaks off; the client then has what came until there."""
    stripper = _start(talk, reply, strip_usage=strip_usage)
    link, feed, now, owner = talk.link, meter.feeder(), watcher.now, call.identity.caller.owner_id
    flow, write, keep, size, most = link.flow, link.write, watcher.sampler.keep, 0, AT_ONCE
    watcher.sampler.size = lambda: size

    def pass_at_once(chunk: bytes) -> bool:
        nonlocal size, most
        at, length = now(), len(chunk)
        if at >= watcher.due or flow.write_paused or length > most or (BUSY and must_wait(owner)):
            return False
        call.touched_at = at
        size += length
        keep(chunk if length <= SAMPLE_BYTES else ends_of(chunk))
        is_read = feed(chunk)
        write(chunk if stripper is None else stripper.feed(chunk))
        if is_read:
            count(owner, now() - at)
            most = _NOTHING if meter.is_behind else AT_ONCE
        return True

    # A compressed reply is read with pauses, so its pieces pass where there can be some.
    if meter.is_compressed or not reply.on_piece(pass_at_once):
        link.flush()
    while chunk := await reply.read():
        if BUSY:
            await turn(owner)
        call.touched_at = at = now()
        size += len(chunk)
        keep(chunk if len(chunk) <= SAMPLE_BYTES else ends_of(chunk))
        if feed(chunk) or stripper is not None:
            count(owner, now() - at)
            chunk, most = await in_slices(_looking(meter, stripper, chunk), owner), AT_ONCE
        if (due := watcher.see(at)) is not None:
            await due
        write(chunk)
        if link.is_full:
            await _drained(link, call, now)
    await _close(meter, call)
    talk.end(stripper.finish() if stripper is not None else b"")


def _looking(meter: Meter, stripper: UsageStripper | None, chunk: bytes) -> Steps[bytes]:
    """Look at what takes long of a piece; what of it may pass."""
    yield from meter.catching_up()
    if stripper is None:
        return chunk
    passed = []
    for at in range(0, len(chunk), STEP):
        passed.append(stripper.feed(chunk[at : at + STEP]))
        yield
    return b"".join(passed)


async def _close(meter: Meter, call: RunningCall) -> None:
    """Read what could not be read before the reply's end."""
    if meter.is_open:
        call.over()  # The client may have all it asked for; leaving now takes nothing away.
        await in_slices(meter.closing(), call.identity.caller.owner_id)


async def _drained(link: Link, call: RunningCall, now: Callable[[], float]) -> None:
    """Wait for a slow reader no longer than the call has patience; then go on without it."""
    if call.patience is None:
        await link.drained()
        call.touched_at = now()
        return
    began = now()
    try:
        async with asyncio.timeout(call.patience):
            await link.drained()
    except TimeoutError:
        link.abort()
    call.touched_at = now()
    call.patience = max(0.0, call.patience - (call.touched_at - began))


def _start(talk: Talk, reply: Reply, *, strip_usage: bool) -> UsageStripper | None:
    """Send the reply's head; without its length where something is taken out of the body, by what is
    returned."""
    headers = returned(reply.headers)
    stripper = UsageStripper() if strip_usage and is_event_stream(reply) else None
    if stripper is not None:
        headers = [(name, value) for name, value in headers if name != b"content-length"]
    talk.start(reply.status, [*headers, (b"x-xairouter-origin", b"provider")])
    return stripper


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
