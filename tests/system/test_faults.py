"""What a provider can do wrong: every time one usage record and a clear answer."""

import asyncio
import gzip
import json
import time

import pytest

from tests.rig import SECRET, Rig, start_rig
from tests.waiting import at_rest, until
from xairouter.standin.faults import FAULTS, Reply, Wire

pytestmark = pytest.mark.shared_rig
MOST_HELD = 40_000_000


@pytest.fixture
async def ready(rig: Rig) -> Rig:
    await rig.add_provider_key()
    return rig


async def _ended(rig: Rig, outcome: str, attempts: int = 1) -> dict:
    record = await rig.record()
    assert (record["outcome"], record["attempts"]) == (outcome, attempts), record
    # Beside calls, a key that was rejected is asked about with a GET.
    assert len([one for one in rig.standin.requests if one.method == "POST"]) == attempts
    return record


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503, 529])
async def test_a_provider_s_error_passes_with_status_and_body(ready: Rig, status: int):
    answer = await ready.chat(f"fault-{status}")
    assert answer.status == status
    assert answer.json()["error"]["message"] == f"The stand-in was asked to answer {status}."
    assert answer.headers["x-xairouter-origin"] == "provider"
    assert answer.headers["x-xairouter-attempts"] == "1"
    record = await _ended(ready, "upstream_error")
    assert record["status"] == status
    assert record["cost_usd"] is None
    assert record["input_tokens"] is None


async def test_retry_after_passes_and_the_provider_s_limit_headers_do_not(ready: Rig):
    answer = await ready.chat("fault-429")
    assert answer.headers["retry-after"] == "7"
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


async def test_a_rejected_key_is_replaced_by_our_own_error_and_never_quoted(ready: Rig):
    answer = await ready.chat("fault-401")
    assert (answer.status, answer.code) == (502, "provider_key_rejected")
    assert SECRET.encode() not in answer.body
    assert answer.headers["x-xairouter-provider-key"].startswith("pk_")
    record = await _ended(ready, "upstream_error")
    assert (record["status"], record["error_code"]) == (502, "provider_key_rejected")


@pytest.mark.parametrize("model", ["fault-quote", "fault-quote-gzip", "fault-brotli-error"])
async def test_an_error_that_quotes_the_key_is_withheld(ready: Rig, model: str):
    answer = await ready.chat(model)
    assert (answer.status, answer.code) == (502, "upstream_error_withheld")
    assert SECRET.encode() not in answer.body
    await _ended(ready, "upstream_error")


async def test_a_reply_header_that_quotes_the_key_is_dropped(ready: Rig):
    answer = await ready.chat("fault-quote-header")
    assert answer.status == 200
    assert SECRET not in str(answer.headers)


async def test_headers_of_the_provider_that_are_not_the_client_s_are_dropped(ready: Rig):
    headers = (await ready.chat()).headers
    for name in (
        "set-cookie",
        "openai-organization",
        "cf-ray",
        "alt-svc",
        "x-ratelimit-remaining-requests",
    ):
        assert name not in headers
    record = await ready.record()
    assert record["provider_request_id"] == "req-standin"
    assert headers["x-request-id"] == record["call_id"]


async def test_a_redirect_is_never_followed_and_never_passed(ready: Rig):
    answer = await ready.chat("fault-redirect")
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert "location" not in answer.headers
    await _ended(ready, "upstream_error")


@pytest.mark.parametrize("model", ["fault-reset-before", "fault-not-http"])
async def test_no_reply_at_all_is_502(ready: Rig, model: str):
    answer = await ready.chat(model)
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    await _ended(ready, "upstream_error")


async def test_a_provider_that_is_not_there_is_502(rig: Rig):
    await rig.add_provider_key(endpoints={"openai_chat": "http://127.0.0.1:9/v1"})
    answer = await rig.chat()
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert (await rig.record())["attempts"] == 1


async def test_a_provider_that_does_not_answer_is_504(tmp_path):
    rig = await start_rig(tmp_path, first_byte_seconds=0.3)
    try:
        await rig.add_provider_key()
        answer = await rig.chat("fault-timeout")
        assert (answer.status, answer.code) == (504, "upstream_timeout")
        await _ended(rig, "upstream_error")
    finally:
        await rig.stop()


async def test_a_json_reply_cut_in_the_middle_is_cut_for_the_client_too(ready: Rig):
    import aiohttp

    with pytest.raises(aiohttp.ClientPayloadError):
        await ready.chat("fault-reset-after")
    record = await _ended(ready, "upstream_error")
    assert record["error_code"] == "upstream_unreachable"


async def test_a_promised_length_that_is_not_kept_is_a_cut(ready: Rig):
    import aiohttp

    with pytest.raises(aiohttp.ClientPayloadError):
        await ready.chat("fault-wrong-length")
    await _ended(ready, "upstream_error")


async def test_half_a_json_with_a_clean_end_passes_as_it_came(ready: Rig):
    answer = await ready.chat("fault-half-json")
    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    record = await _ended(ready, "completed")
    assert record["usage_source"] == "estimated"
    assert record["input_tokens"] > 0


async def test_a_stream_that_breaks_ends_in_one_error_event_of_the_dialect(ready: Rig):
    answer = await ready.chat("fault-reset-after", stream=True)
    assert answer.status == 200
    events = [e for e in answer.body.split(b"\n\n") if e.strip()]
    last = json.loads(events[-1].removeprefix(b"data: "))
    assert last["error"]["code"] == "upstream_unreachable"
    assert b"[DONE]" not in answer.body
    await _ended(ready, "upstream_error")


async def test_a_responses_stream_that_breaks_ends_in_an_error_event(ready: Rig):
    body = {"model": "fault-reset-after", "input": "x", "stream": True}
    answer = await ready.ask("POST", "/v1/responses", body)
    last = [e for e in answer.body.split(b"\n\n") if e.strip()][-1]
    assert last.startswith(b"event: error\ndata: ")
    await _ended(ready, "upstream_error")


async def test_a_stream_cut_with_a_clean_end_passes_and_keeps_what_was_said(ready: Rig):
    body = {
        "model": "fault-cut-stream",
        "max_tokens": 9,
        "stream": True,
        "messages": [{"role": "user", "content": "one two three"}],
    }
    answer = await ready.ask("POST", "/v1/messages", body)
    assert answer.status == 200
    record = await _ended(ready, "completed")
    assert record["input_tokens"] is not None


async def test_an_error_inside_a_stream_passes_and_is_recorded_as_one(ready: Rig):
    body = {
        "model": "fault-error-event",
        "max_tokens": 9,
        "stream": True,
        "messages": [{"role": "user", "content": "x"}],
    }
    answer = await ready.ask("POST", "/v1/messages", body)
    assert b"overloaded_error" in answer.body
    await _ended(ready, "upstream_error")


@pytest.mark.parametrize("stream", [True, False])
async def test_garbage_passes_and_its_usage_is_unknown(ready: Rig, stream: bool):
    answer = await ready.chat("fault-garbage", stream=stream)
    assert answer.status == 200
    record = await _ended(ready, "completed")
    assert record["usage_source"] == "none"


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_that_is_not_reported_is_null_and_never_zero(ready: Rig, stream: bool):
    await ready.chat("fault-no-usage", stream=stream)
    record = await ready.record()
    assert record["usage_source"] == "none"
    assert record["input_tokens"] is record["output_tokens"] is record["cost_usd"] is None


async def test_a_slow_drip_is_whole_in_the_end(ready: Rig):
    answer = await ready.chat("fault-drip", stream=True)
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert (await _ended(ready, "completed"))["output_tokens"] == 4


async def test_compressed_replies_pass_compressed_and_are_metered(ready: Rig):
    answer = await ready.ask(
        "POST",
        "/v1/chat/completions",
        {"model": "fault-gzip", "messages": [{"role": "user", "content": "hi"}]},
        accept_encoding="gzip",
    )
    assert answer.json()["choices"]
    assert ready.standin.requests[-1].headers["accept-encoding"] == "gzip"
    assert (await _ended(ready, "completed"))["output_tokens"] is not None


async def test_compression_is_not_asked_for_in_streams(ready: Rig):
    await ready.chat(stream=True)
    assert ready.standin.requests[-1].headers["accept-encoding"] == "identity"


async def test_surplus_bytes_behind_a_reply_never_reach_another_call(ready: Rig):
    first = await ready.chat("fault-surplus")
    assert first.status == 200
    assert b"stolen" not in first.body
    second = await ready.chat("demo")
    assert second.json()["choices"]
    assert b"stolen" not in second.body


async def test_another_key_serves_what_one_cannot(rig: Rig):
    await rig.add_provider_key(name="bad", secret="sk-bad-0123456789abcdefgh", weight=1_000_000)
    await rig.add_provider_key(name="good")
    rig.standin.rejected.add("sk-bad-0123456789abcdefgh")
    tries = [await rig.chat() for _ in range(5)]
    assert [answer.status for answer in tries] == [200] * 5
    assert [answer.headers["x-xairouter-attempts"] for answer in tries] == ["2", "1", "1", "1", "1"]
    records = await rig.records(expect=5)
    calls = [r for r in rig.standin.requests if r.method == "POST"]
    assert len(calls) == sum(record["attempts"] for record in records) == 6


@pytest.mark.own_rig
async def test_a_limited_key_is_left_alone_for_as_long_as_it_says(rig: Rig):
    await rig.add_provider_key()
    at = time.monotonic()
    rig.house.health.now = lambda: at
    rig.standin.failing = {SECRET: "fault-429"}
    assert (await rig.chat()).status == 429
    count = len(rig.standin.requests)
    for _ in range(3):
        answer = await rig.chat()
        assert (answer.status, answer.code) == (503, "all_keys_sleeping")
        assert 1 <= int(answer.headers["retry-after"]) <= 7
    assert len(rig.standin.requests) == count
    shown = (await rig.ask("GET", "/api/v1/provider-keys")).json()["items"][0]["health"]
    assert shown["state"] == "sleeping"
    assert shown["until"].endswith("Z")
    assert "key_limited" in shown["why"]
    rig.standin.failing = {}
    assert (await rig.chat("another-model")).status == 200, "only that model of the key sleeps"
    rig.house.health.now = lambda: at + 10
    assert (await rig.chat()).status == 200


async def test_another_key_takes_the_calls_of_one_that_sleeps(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    at = time.monotonic()
    monkeypatch.setattr(rig.house.health, "now", lambda: at)
    await rig.add_provider_key(name="a", weight=1_000_000)
    await rig.add_provider_key(name="b", secret="sk-bbb-0123456789abcdefgh")
    rig.standin.failing = {SECRET: "fault-429"}
    answers = [await rig.chat() for _ in range(6)]
    assert {answer.status for answer in answers} == {200}
    assert [r.secret for r in rig.standin.requests].count(SECRET) == 1


@pytest.mark.parametrize("fault", ["fault-429", "fault-500", "fault-reset-before"])
async def test_when_every_route_failed_the_provider_s_own_reply_passes(rig: Rig, fault: str):
    await rig.add_provider_key(name="a", secret="sk-aaa-0123456789abcdefgh")
    await rig.add_provider_key(name="b", secret="sk-bbb-0123456789abcdefgh")
    rig.standin.failing = {
        "sk-aaa-0123456789abcdefgh": "fault-500",
        "sk-bbb-0123456789abcdefgh": fault,
    }
    answer = await rig.chat()
    assert answer.headers["x-xairouter-origin"] == "provider"
    assert answer.status in (429, 500)
    assert (await rig.record())["attempts"] == 2


async def test_a_client_s_own_fault_is_not_tried_again(rig: Rig):
    for name in "ab":
        await rig.add_provider_key(name=name, secret=f"sk-{name}-0123456789abcdefgh")
    assert (await rig.chat("fault-400")).status == 400
    assert (await rig.record())["attempts"] == 1


async def test_nothing_is_tried_again_after_the_first_byte(rig: Rig):
    for name in "ab":
        await rig.add_provider_key(name=name, secret=f"sk-{name}-0123456789abcdefgh")
    await rig.chat("fault-reset-after", stream=True)
    assert (await rig.record())["attempts"] == 1


async def test_keys_of_one_level_share_the_load_by_weight(rig: Rig):
    secrets = {name: f"sk-{name}-0123456789abcdefgh" for name in ("light", "heavy")}
    await rig.add_provider_key(name="light", secret=secrets["light"], weight=1)
    await rig.add_provider_key(name="heavy", secret=secrets["heavy"], weight=4)
    questions = [[{"role": "user", "content": f"question {n}"}] for n in range(120)]
    await asyncio.gather(*(rig.chat(messages=one) for one in questions))
    used = [received.secret for received in rig.standin.requests]
    assert 60 < used.count(secrets["heavy"]) < 118
    assert used.count(secrets["light"]) >= 2


async def test_a_silent_reply_is_ended(tmp_path):
    rig = await start_rig(tmp_path, idle_seconds=0.5)
    try:
        await rig.add_provider_key()
        rig.standin.failing = {SECRET: "fault-timeout"}
        answer = await rig.chat(stream=True)
        assert (answer.status, answer.code) == (504, "upstream_timeout")
        await _ended(rig, "upstream_error")
    finally:
        await rig.stop()


async def test_a_call_that_takes_too_long_is_ended_with_an_error_event(tmp_path):
    rig = await start_rig(tmp_path, total_seconds=0.5)
    try:
        await rig.add_provider_key()
        answer = await rig.chat("fault-slow", stream=True)
        assert b"upstream_timeout" in answer.body
        await _ended(rig, "upstream_error")
    finally:
        await rig.stop()


async def _leave_after_first_bytes(rig: Rig, model: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    body = json.dumps(
        {"model": model, "stream": True, "messages": [{"role": "user", "content": "x"}]}
    ).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
        + rig.key.encode()
        + b"\r\ncontent-length: %d\r\n\r\n" % len(body)
        + body
    )
    await reader.readuntil(b"data: ")
    writer.transport.abort()


async def test_a_client_that_leaves_cancels_the_upstream_at_once(ready: Rig):
    await _leave_after_first_bytes(ready, "fault-slow")
    record = await _ended(ready, "client_gone")
    assert record["status"] == 200
    await until(lambda: not ready.standin._writers)


async def test_by_setting_the_reply_is_read_to_its_end_after_the_client_left(ready: Rig):
    changed = await ready.ask("PATCH", "/api/v1/settings", {"on_client_gone": "finish"})
    assert changed.status == 200
    await _leave_after_first_bytes(ready, "fault-drip")
    record = await _ended(ready, "completed")
    assert record["output_tokens"] is not None


async def test_a_slow_reader_does_not_grow_memory(ready: Rig, monkeypatch: pytest.MonkeyPatch):
    """Of an endless reply that nobody reads the router takes a few buffers, then no more."""
    sent = 0

    async def flood(wire: Wire, reply: Reply, secret: str) -> None:
        nonlocal sent
        await wire.head(reply, transfer_encoding="chunked")
        while True:
            await wire.chunk(b"data: " + b"x" * 65_536 + b"\n\n")
            sent += 65_536

    monkeypatch.setitem(FAULTS, "fault-flood", flood)
    reader, writer = await asyncio.open_connection("127.0.0.1", ready.port, limit=2**16)
    body = json.dumps({"model": "fault-flood", "stream": True, "messages": []}).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
        + ready.key.encode()
        + b"\r\ncontent-length: %d\r\n\r\n" % len(body)
        + body
    )
    await reader.readuntil(b"\r\n\r\n")
    # Most of it lies in the system's buffers of two connections.
    assert await at_rest(lambda: sent, MOST_HELD) < MOST_HELD
    writer.transport.abort()
    assert (await ready.record())["outcome"] == "client_gone"


async def test_a_gzip_bomb_from_a_provider_is_metered_within_bounds(ready: Rig):
    from xairouter.dialects.meter import Meter
    from xairouter.dialects.table import DIALECTS

    meter = Meter(DIALECTS["openai_chat"], "application/json", "gzip")
    meter.feed(gzip.compress(b'{"x":"' + b"a" * 200_000_000))
    assert meter.finish().is_reported is False


async def test_a_status_that_does_not_exist_is_a_clear_answer(ready: Rig):
    answer = await ready.chat("fault-strange-status")
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    await _ended(ready, "upstream_error")


async def test_a_header_that_cannot_be_sent_on_does_not_spoil_the_reply(ready: Rig):
    answer = await ready.chat("fault-control-header")
    assert answer.status in (200, 502)
    assert "x-weird" not in answer.headers
    assert (await ready.record())["attempts"] == 1


@pytest.mark.parametrize(
    "said",
    ["application/x-www-form-urlencoded", "text/plain", "", "application/json; charset=utf-7"],
)
async def test_a_body_that_was_read_as_json_is_sent_as_json(ready: Rig, said: str):
    await ready.ask(
        "POST", "/v1/chat/completions", {"model": "m", "messages": []}, content_type=said
    )
    assert ready.standin.requests[-1].headers["content-type"] == "application/json"
