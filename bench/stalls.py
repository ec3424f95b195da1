"""How long one message from outside may hold up the event loop: the longest step of every reader.

``python bench/stalls.py`` plays hostile inputs of about 64 kB on the wire (and an honest large one)
against the readers, step by step as the data plane and the management plane drive them, and prints
the longest time on the CPU between two pauses and the time in all. Time on the CPU is taken, so that
other processes count for little; what ends in no time that anybody would wait for is given up after
``--patience`` seconds.
"""

import argparse
import base64
import gc
import gzip
import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from xairouter.dialects import inflate, media
from xairouter.dialects.conversation import conversation_of
from xairouter.dialects.headers import query_for_provider
from xairouter.dialects.late import STEP
from xairouter.dialects.look import look_over
from xairouter.dialects.meter import Meter
from xairouter.dialects.multipliers import multipliers_in_steps, multipliers_of
from xairouter.dialects.paths import find
from xairouter.dialects.stripping import UsageStripper
from xairouter.dialects.table import DIALECTS
from xairouter.domain.accounts import Account, ProviderKey
from xairouter.domain.calls import Refusal
from xairouter.gateway import models
from xairouter.manage import probe, provider_key_use
from xairouter.policy.catalogue import catalogue_in_steps
from xairouter.policy.interface import Caller, OwnerView
from xairouter.policy.rules import compile_text, read_rules, wider_than
from xairouter.process import YOUNG_OBJECTS
from xairouter.providers.interface import Probe

WIRE = 64 * 1024
MOST_TIMES = getattr(inflate, "MOST_TIMES", 0)
REPLY = inflate.FREE_OF_A_REPLY
Steps = Iterator[None]


def packed(before: bytes, part: bytes, after: bytes = b"", free: int = inflate.FREE_BYTES) -> bytes:
    """Gzip of about ``WIRE`` bytes, with as much of the part as fits and may unfold."""
    if not MOST_TIMES:
        times = 16_000_000 // len(part)
        while len(found := gzip.compress(before + part * times + after)) > WIRE:
            times = times * WIRE // len(found) * 9 // 10
        return found
    # Some bytes that do not pack, so that the rest may unfold that far.
    parts = part * ((MOST_TIMES * WIRE + free) // len(part) * 9 // 10)
    left = WIRE - len(gzip.compress(before + parts + after))
    filled = b'{"x":"' + base64.b64encode(random.Random(1).randbytes(left)) + b'"'
    ends = {b"[": b"[" + filled + b"},", b"{": filled + b",", b"": b": " + filled + b"\n\n"}
    return gzip.compress(ends[before[:1]] + before[1:] + parts + after)


def reply(dialect: str, content_type: str, encoding: str, data: bytes) -> Steps:
    """A provider's reply, in the pieces in which it comes."""
    meter, stripper = Meter(DIALECTS[dialect], content_type, encoding), UsageStripper()
    feed = meter.feeder()
    for at in range(0, len(data), WIRE):
        feed(data[at : at + WIRE])
        yield
        yield from meter.catching_up()
        if not encoding and content_type == "text/event-stream":
            for start in range(at, min(at + WIRE, len(data)), STEP):
                stripper.feed(data[start : start + STEP])
                yield
    yield from meter.closing()
    yield
    meter.finish()


def request(path: bytes, data: bytes) -> Steps:
    """A request's body, inflated, looked over and read."""
    body = data
    if data[:2] == b"\x1f\x8b":
        inflater: Any = inflate.Inflater() if MOST_TIMES else inflate.gunzip()
        parts: list[bytes] = []
        try:
            for block in inflate.unfold(inflater, data):
                parts.append(block)
                if MOST_TIMES:
                    yield
        except inflate.zlib.error:
            return
        body = b"".join(parts)
    match = find("POST", path)
    assert match is not None
    yield
    look = yield from look_over(match, body)
    if isinstance(look, Refusal):
        return
    top = look and look.top
    yield
    DIALECTS[match.operation.dialect].peek(match, body, look)
    yield
    yield from media.input_tokens_in_steps(body, top)
    yield
    if top is None:
        multipliers_of(body)
    else:
        yield from multipliers_in_steps(top)
    yield
    conversation_of(body, None, top)


def proof() -> Steps:
    """One pattern of ``allow_models`` against 101 above; in a thread of its own."""
    many = [f"*{chr(97 + n % 26)}*{chr(97 + n // 26)}*{n}*" for n in range(101)]
    above = compile_text(json.dumps({"allow_models": many}))
    account = Account("acc_0", "acc_0", None, "a", None, "active", True, 0)  # type: ignore[arg-type]
    wider_than(read_rules({"allow_models": ["*a*b*c*d*e*f*g*h*"]}), [(account, above)])
    yield


def listed() -> Steps:
    """A model list of 8 MB."""
    body = b'{"data":[' + b'{"id":"a","b":[{}]},' * 420_000 + b"{}]}"
    how = Probe("openai_chat")
    read = getattr(probe, "names_in_steps", None)
    if read is None:
        probe._names(body, how)
    else:
        yield from read(body, how)
    yield


def query() -> Steps:
    query_for_provider(b"a&" * (WIRE // 2))
    yield
    query_for_provider(b"%&" * (WIRE // 2))
    yield


def _keys() -> list[ProviderKey]:
    """60 keys with 1,950 names each, and 50 patterns."""
    known = {"level": 1, "created_at_ms": 1, "provider": "openai", "status": "active", "name": "k"}
    none = dict.fromkeys(ProviderKey.__dataclass_fields__) | known
    return [
        ProviderKey(
            **none  # type: ignore[arg-type]
            | {
                "id": f"pk_{n}",
                "endpoints": {"openai_chat": "", "openai_responses": ""},
                "models": tuple(f"model-{n}-{m}" for m in range(1950))
                + tuple(f"{m}*{m}*" for m in range(50)),
            }
        )
        for n in range(60)
    ]


def listing(keys: list[ProviderKey]) -> Steps:
    """``GET /v1/models`` of 60 keys with 1,950 names each."""
    catalogue = yield from catalogue_in_steps(keys)
    view = OwnerView("acc_0", 1, None, None, {}, catalogue)  # type: ignore[arg-type]
    caller = Caller(None, (), 1, ())  # type: ignore[arg-type]
    yield
    yield from models._listed(DIALECTS["openai_chat"], view, caller)


def lost(keys: list[ProviderKey]) -> Steps:
    """What would stop without one of 60 keys."""
    yield from provider_key_use._lost(keys, keys[0])


ARRAY, STREAM, JSON = "application/json", "text/event-stream", "application/json"
CHAT, BATCH = b"/v1/chat/completions", b"/v1beta/models/m:batchEmbedContents"
ATTACKS: dict[str, Callable[[], Steps]] = {
    "reply: gzipped array of lists": lambda: reply(
        "gemini_generate", ARRAY, "gzip", packed(b"[", b"[],", free=REPLY)
    ),
    "reply: gzipped array of objects": lambda: reply(
        "gemini_generate", ARRAY, "gzip", packed(b"[", b'{"":0},', free=REPLY)
    ),
    "reply: gzipped events with usage": lambda: reply(
        "openai_chat", STREAM, "gzip", packed(b"", b'data: {"usage":{"a":1}}\n\n', free=REPLY)
    ),
    "reply: gzipped fields": lambda: reply(
        "openai_chat", JSON, "gzip", packed(b"{", b'"a":1,', free=REPLY)
    ),
    "reply: events with usage": lambda: reply(
        "openai_chat", STREAM, "", b'data:{"usage":{}}\n\n' * (WIRE // 19)
    ),
    "reply: small events": lambda: reply("openai_chat", STREAM, "", b"a\n\n" * (WIRE // 3)),
    "reply: brackets": lambda: reply("openai_chat", JSON, "", b'{"a":[' + b"[]," * (WIRE // 3)),
    "reply: an open string of 4 MB": lambda: reply(
        "gemini_generate", ARRAY, "", b'["' + b"A" * (4 << 20)
    ),
    "reply: an honest image of 40 MB": lambda: reply(
        "openai_chat", JSON, "", b'{"data":[{"b64_json":"' + b"A" * (40 << 20) + b'"}],"usage":{}}'
    ),
    "request: escapes": lambda: request(
        CHAT, packed(b'{"model":"m","file_ids":["a"],"x":"', b"\\u0041", b'"}')
    ),
    "request: brackets": lambda: request(CHAT, packed(b'{"model":"m","x":[', b"[],", b"0]}")),
    "request: parts of a batch": lambda: request(BATCH, packed(b'{"requests":[', b"{},", b"{}]}")),
    "request: messages": lambda: request(CHAT, packed(b'{"model":"m","messages":[', b"0,", b"0]}")),
    "request: fields": lambda: request(CHAT, packed(b'{"model":"m"', b',"a":1,"b":2', b"}")),
    "request: fields, not gzipped": lambda: request(
        CHAT, b'{"model":"m"' + b"".join(b',"%d":1' % n for n in range(6500)) + b"}"
    ),
    "request: 0.9 MB of fields": lambda: request(
        CHAT, b'{"model":"m"' + b"".join(b',"%d":1' % n for n in range(90_000)) + b"}"
    ),
    "request: fields below": lambda: request(
        CHAT, packed(b'{"model":"m","x":{"f":0', b',"file_idx":0', b"}}")
    ),
    "request: 1 MB beside names": lambda: request(
        CHAT,
        gzip.compress(
            b'{"model":"m","file_ids":["a"],"x":{"f":0'
            + b"".join(b',"a%d":0' % n for n in range(90_000))
            + b"}}"
        ),
    ),
    "request: strings": lambda: request(CHAT, packed(b'{"model":"m","x":[', b'"",', b'""]}')),
    "request: object fields": lambda: request(
        CHAT, packed(b'{"model":"m","x":[', b'{"a_id":1},', b"0]}")
    ),
    "request: object fields, 60 kB": lambda: request(
        CHAT, b'{"model":"m","x":[' + b'{"a_id":1},' * 5500 + b"0]}"
    ),
    "request: 19,990 objects": lambda: request(
        CHAT, b'{"model":"m","x":[' + b'{"a_id":1},' * 19_990 + b"0]}"
    ),
    "request: deep": lambda: request(
        CHAT, packed(b'{"model":"m","x":[', b"[" * 480 + b"]" * 480 + b",", b"0]}")
    ),
    "request: deep, 60 kB": lambda: request(
        CHAT, b'{"model":"m","x":[' + (b"[" * 480 + b"]" * 480 + b",") * 62 + b"0]}"
    ),
    "request: nested, 60 kB": lambda: request(
        CHAT, b'{"model":"m","x":[' + b"[[]]," * 12_000 + b"0]}"
    ),
    "request: parts that nest": lambda: request(
        BATCH, packed(b'{"requests":[{"a":[', b"[[]],", b"0]}]}")
    ),
    "request: links": lambda: request(
        CHAT, packed(b'{"model":"m","x":{"z":0', b',"image_url":1', b"}}")
    ),
    "request: small messages": lambda: request(
        CHAT, packed(b'{"model":"m","messages":[', b'{"role":"user"},', b"{}]}")
    ),
    "request: messages that may hold images": lambda: request(
        CHAT,
        packed(
            b'{"model":"m","messages":[{"content":[',
            b'{"content":0,"parts":0,"output":0},' * 4,
            b"{}]}]}",
        ),
    ),
    "request: tools": lambda: request(
        CHAT, packed(b'{"model":"m","tools":[', b'{"a":0},', b"{}]}")
    ),
    "request: 3 MB of a tool's fields": lambda: request(
        CHAT,
        b'{"model":"m","tools":[{"a":1' + b"".join(b',"%d":1' % n for n in range(300_000)) + b"}]}",
    ),
    "request: prompts of escapes": lambda: request(
        b"/v1/completions", packed(b'{"model":"m","prompt":["', b'\\"', b'"]}')
    ),
    "request: spaces": lambda: request(CHAT, packed(b'{"model":"m","x":[', b" ", b"0]}")),
    "request: text": lambda: request(
        CHAT,
        packed(b'{"model":"m","messages":[{"role":"user","content":"', b"hello world ", b'"}]}'),
    ),
    "request: 8 MB of text": lambda: request(
        CHAT,
        b'{"model":"m","messages":[{"role":"user","content":"'
        + b"hello world " * 700_000
        + b'"}]}',
    ),
    "request: 8 MB of text, a field more": lambda: request(
        CHAT,
        b'{"model":"m","y":{},"messages":[{"role":"user","content":"'
        + b"hello world " * 700_000
        + b'"}]}',
    ),
    "request: 8 MB of links": lambda: request(
        CHAT, b'{"model":"m","x":{"z":0' + b',"image_url":1' * 570_000 + b"}}"
    ),
    "request: 8 MB of lists": lambda: request(
        CHAT, b'{"model":"m","x":[' + b"[]," * 2_700_000 + b"0]}"
    ),
    "rules: a proof (in a thread)": proof,
    "probe: a list of 8 MB": listed,
    "models: a list of 117,000": lambda: listing(_keys()),
    "impact of a key beside 59": lambda: lost(_keys()),
    "query: 64 kB of fields": query,
}


class _TooLongError(Exception):
    pass


def _give_up(*_: object) -> None:
    raise _TooLongError


def longest(act: Callable[[], Steps], patience: int) -> tuple[float, float]:
    """(the longest step, all steps) in milliseconds of CPU time; inf where it was given up."""
    signal.signal(signal.SIGALRM, _give_up)
    worst = total = 0.0
    steps = act()
    # As in a process that serves: what stands is set aside, and no pause walks over all of it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 1 << 30)
    signal.alarm(patience)
    try:
        while True:
            began = time.thread_time()
            more = next(steps, _END) is not _END
            took = (time.thread_time() - began) * 1000
            worst, total = max(worst, took), total + took
            if not more:
                return worst, total
    except _TooLongError:
        return float("inf"), float("inf")
    finally:
        signal.alarm(0)


_END = object()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--patience", type=int, default=30)
    asked.add_argument("--only", default="")
    given = asked.parse_args()
    print(f"{'input':<40} {'longest ms':>11} {'in all ms':>10}")
    for name, act in ATTACKS.items():
        if given.only in name:
            worst, total = longest(act, given.patience)
            print(f"{name:<40} {worst:>11.1f} {total:>10.0f}", flush=True)


if __name__ == "__main__":
    main()
