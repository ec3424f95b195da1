"""Money is counted from above: a call counts for at least what was reserved until its provider has
stated the final usage, however it ends, in every dialect; and records, counters and roll-ups agree."""

import asyncio
import contextlib
import json
import re
from typing import Any

import aiohttp
import pytest

from tests.rig import Rig
from tests.waiting import until
from xairouter.accounting.usage import GAVE_UP
from xairouter.gateway.running import CutReason
from xairouter.ledger.folders import read_folder
from xairouter.ledger.frames import Recovery
from xairouter.providers.table import provider_row
from xairouter.standin import replies
from xairouter.standin.faults import FAULTS, Reply, Wire, _status

PRICES = {"*": {"input": 1000, "output": 2000}}
"""USD per million: a thousandth of a dollar for each token in, two for each token out."""
WORDS = "one two three four five six seven eight nine ten eleven twelve"
MOST = 300
"""Tokens of output that every request declares: 0.60 USD, with 0.05 to 0.1 for its input."""


def _messages(stream: bool) -> tuple[str, dict[str, Any]]:
    said = [{"role": "user", "content": WORDS}]
    return "/v1/messages", {"max_tokens": MOST, "stream": stream, "messages": said}


def _chat(stream: bool) -> tuple[str, dict[str, Any]]:
    said = [{"role": "user", "content": WORDS}]
    return "/v1/chat/completions", {"max_tokens": MOST, "stream": stream, "messages": said}


def _completions(stream: bool) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {"max_tokens": MOST, "stream": stream, "prompt": WORDS}


def _responses(stream: bool) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"max_output_tokens": MOST, "stream": stream, "input": WORDS}


def _gemini(stream: bool) -> tuple[str, dict[str, Any]]:
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    body = {
        "contents": [{"role": "user", "parts": [{"text": WORDS}]}],
        "generationConfig": {"maxOutputTokens": MOST},
    }
    return f"/v1beta/models/{{model}}:{verb}", body


DIALECTS = {
    "openai_chat": _chat,
    "openai_completions": _completions,
    "openai_responses": _responses,
    "anthropic_messages": _messages,
    "gemini_generate": _gemini,
}
_LAST_WORDS = re.compile(
    rb'"usage":\{|message_delta|message_stop|response\.(?:completed|output_text\.done|content_part\.'
    rb'done|output_item\.done)|"finish_?[rR]eason":"|\[DONE\]'
)


class Gate:
    """A provider that sends the beginning of its reply and repeats the middle of it until ``go``;
    then the rest, or nothing more."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.cuts = False
        self.ends = True
        self.middle = b""
        """What the client has certainly got when it has got this."""
        self.got = bytearray()

    @property
    def has_passed(self) -> bool:
        return bool(self.middle) and self.middle in self.got

    async def play(self, wire: Wire, reply: Reply, secret: str) -> None:
        if not reply.events:
            await wire.head(reply, content_length=str(len(reply.body)))
            half = len(reply.body) * 2 // 3
            self.middle = reply.body[:half]
            await wire.put(self.middle)
            await self.go.wait()
            if self.cuts:
                return wire.reset()
            await wire.put(reply.body[half:])
            return None
        first = next(at for at, one in enumerate(reply.events) if _LAST_WORDS.search(one))
        if b"message_start" in reply.events[0]:
            first = next(at for at, one in enumerate(reply.events) if b"block_stop" in one)
        await wire.head(reply, transfer_encoding="chunked")
        for event in reply.events[:first]:
            await wire.chunk(event)
        self.middle = reply.events[first - 1] * 2
        while not self.go.is_set():
            await wire.chunk(reply.events[first - 1])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.go.wait(), 0.05)
        if self.cuts:
            return wire.reset()
        for event in reply.events[first:]:
            await wire.chunk(event)
        if not self.ends:
            self.middle = reply.events[-1].strip()
        if self.ends:
            await wire.put(b"0\r\n\r\n")
        else:
            await asyncio.sleep(3600)
        return None


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate()
    monkeypatch.setitem(FAULTS, "fault-gate", made.play)
    return made


@pytest.fixture
async def ready(rig: Rig) -> Rig:
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    return rig


async def _budget(rig: Rig, **budget: float) -> None:
    rules = {"budget": budget, "limits": {"tph": 10_000_000}}
    answer = await rig.ask("PUT", f"/api/v1/accounts/{rig.owner_id}/rules", rules)
    assert answer.status == 200, answer.body


def _request(dialect: str, stream: bool, model: str) -> tuple[str, dict[str, Any]]:
    path, body = DIALECTS[dialect](stream)
    if dialect != "gemini_generate":
        body["model"] = model
    return path.format(model=model), body


async def _used(rig: Rig) -> dict[str, float]:
    me = (await rig.ask("GET", "/api/v1/me")).json()
    found = {one["name"]: one["used_usd"] for one in me["budgets"]}
    return found | {one["name"]: one["used"] for one in me["limits"]}


async def _until(holds: Any, what: str) -> None:
    try:
        await until(holds)
    except TimeoutError:
        pytest.fail(f"never: {what}")


async def _everything_agrees(rig: Rig, used: dict[str, float]) -> None:
    """Counters begun anew with the records say what the live ones said, budgets of all time (which
    begin with the roll-ups) what those of the day say."""
    await rig.records()
    rig.house.counters.forget(rig.owner_id)
    again = await _used(rig)
    assert again == used
    assert used["day"] == pytest.approx(used["total"])
    [(tokens, nano)] = await rig.sql(
        "SELECT SUM(counted_tokens), SUM(counted_nano) FROM usage_records"
    )
    [(hours,)] = await rig.sql("SELECT SUM(counted_nano) FROM usage_hours")
    assert (int(tokens), int(nano)) == (used["tph"], round(used["day"] * 10**9))
    assert int(hours) == int(nano)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("end", ["before", "middle", "cut", "revoked", "silent"])
async def test_a_call_without_a_final_statement_counts_for_what_was_reserved(
    ready: Rig, gate: Gate, dialect: str, stream: bool, end: str
):
    await _budget(ready, day_usd=1.2, total_usd=1.2)
    model = "fault-timeout" if end == "before" else "fault-gate"
    path, body = _request(dialect, stream, model)
    served = 0
    for _ in range(3):
        asked = len(ready.standin.requests)
        task = asyncio.create_task(_read(ready, path, body, gate))
        await _until(
            lambda asked=asked, task=task: task.done() or len(ready.standin.requests) > asked,
            "the provider is asked",
        )
        if task.done() and task.result() == 429:
            continue
        served += 1
        await _end(ready, gate, task, end)
        gate.go.clear()
        gate.got.clear()
        gate.cuts = False
    assert served == 1, "the second call would not fit any more"
    record = (await ready.records())[-1]
    assert record["usage_source"] == "estimated"
    assert record["input_tokens"] > 0
    assert record["cost_usd"] > 0
    if end != "before":
        assert record["output_tokens"] > 0
    used = await _used(ready)
    assert used["day"] >= 0.6
    assert used["day"] == pytest.approx(max(record["reserved_usd"], record["cost_usd"]))
    assert ready.house.metrics.beyond_reservation._value.get() == 0
    await _everything_agrees(ready, used)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_reply_that_states_no_usage_counts_for_what_was_reserved(
    ready: Rig, dialect: str, stream: bool
):
    """It came to a clean end, and nobody can say what it used."""
    await _budget(ready, day_usd=1.2, total_usd=1.2)
    path, body = _request(dialect, stream, "fault-no-usage")
    statuses = []
    for _ in range(3):
        statuses.append((await ready.ask("POST", path, body)).status)
        await _until(lambda: not ready.house.running._calls, "the call has ended")
    assert statuses == [200, 429, 429], "the second call would not fit any more"
    record = (await ready.records())[-1]
    used = await _used(ready)
    assert used["day"] == pytest.approx(record["reserved_usd"])
    assert used["day"] >= 0.6
    await _everything_agrees(ready, used)


async def _read(rig: Rig, path: str, body: dict[str, Any], gate: Gate) -> int:
    """Ask, and read what comes; the status."""
    headers = {"authorization": f"Bearer {rig.key}"}
    async with rig.session.post(rig.url + path, json=body, headers=headers) as reply:
        if reply.status == 429:
            return 429
        with contextlib.suppress(aiohttp.ClientError):
            async for piece in reply.content.iter_any():
                gate.got += piece
        return reply.status


async def _end(rig: Rig, gate: Gate, task: "asyncio.Task[int]", end: str) -> None:
    calls = rig.house.running._calls

    def passes() -> bool:
        return any(call.provider_key_id for call in calls)

    await _until(passes, "a call runs")
    if end != "before":
        await _until(lambda: gate.has_passed, "text has passed")
    if end in ("before", "middle"):
        task.cancel()
    elif end == "cut":
        gate.cuts = True
        gate.go.set()
    else:
        reason = CutReason.REVOKED if end == "revoked" else CutReason.IDLE
        for call in list(calls):
            call.cut(reason)
    with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError):
        await task
    await _until(lambda: not calls, "the call has ended")
    gate.go.set()


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_final_statement_takes_the_place_of_what_was_reserved(
    ready: Rig, gate: Gate, dialect: str, stream: bool
):
    """Also where the client leaves at the last word, or the transport never ends."""
    await _budget(ready, day_usd=1.2, total_usd=1.2)
    gate.ends = False
    gate.go.set()
    path, body = _request(dialect, stream, "fault-gate")
    for _ in range(2):
        task = asyncio.create_task(_read(ready, path, body, gate))
        if stream:
            await _until(lambda: gate.has_passed, "the last word has passed")
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await _until(lambda: not ready.house.running._calls, "the call has ended")
        gate.got.clear()
    records = await ready.records(expect=2)
    assert {record["usage_source"] for record in records} == {"reported"}
    used = await _used(ready)
    assert used["day"] == pytest.approx(sum(record["cost_usd"] for record in records))
    assert used["day"] < 0.6
    await _everything_agrees(ready, used)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_killed_process_leaves_estimates_and_never_none(
    ready: Rig, gate: Gate, dialect: str
):
    """What a journal says in the middle of a stream, as the process that adopts it reads it."""
    await _budget(ready, day_usd=1.2, total_usd=1.2)
    path, body = _request(dialect, True, "fault-gate")
    task = asyncio.create_task(_read(ready, path, body, gate))

    def open_record() -> Any:
        recovery: Recovery = read_folder(ready.house.journal.folder)
        return next((one for one in recovery.records() if one.status == 200), None)

    await _until(lambda: (open_record() or 0) and open_record().output_tokens, "progress is kept")
    assert ready.house.drain.price is not None
    record = await ready.house.drain.price(open_record())
    assert (record.outcome, record.usage_source) == ("interrupted", "estimated")
    assert record.cost_nano
    assert record.counted_nano == max(record.reserved_nano or 0, record.cost_nano)
    assert record.counted_nano >= 600_000_000
    assert record.counted_tokens >= MOST
    gate.go.set()
    await task


async def test_only_what_provably_reached_no_provider_counts_nothing(ready: Rig):
    await _budget(ready, day_usd=5, total_usd=5)
    used = []
    for model in ("fault-400", "fault-429", "fault-503", "fault-reset-before"):
        await ready.chat(model, max_tokens=MOST)
        ready.house.health._keys.clear()
        used.append((await _used(ready))["day"])
    assert used[:3] == [0, 0, 0], "a provider's refusal is its last word"
    assert used[3] >= 0.6, "the request had gone out, and no reply says that it was not served"
    records = await ready.records()
    assert [record["usage_source"] for record in records] == ["estimated", "none", "none", "none"]
    keys = (await ready.ask("GET", "/api/v1/provider-keys")).json()["items"]
    await ready.ask("DELETE", f"/api/v1/provider-keys/{keys[0]['id']}")
    await ready.add_provider_key(
        name="nobody", endpoints={"openai_chat": "http://127.0.0.1:9"}, models=["*"]
    )
    answer = await ready.chat(max_tokens=MOST)
    assert answer.status == 502
    assert (await _used(ready))["day"] == used[3]
    await _everything_agrees(ready, await _used(ready))


SERVED, UNSERVED = (500, 502, 504, 520, 524, 599), (400, 409, 422, 429, 501, 503, 521, 529)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_error_counts_as_reserved_unless_it_says_that_nothing_was_done(
    ready: Rig, monkeypatch: pytest.MonkeyPatch, dialect: str
):
    """Its record says what the provider stated: nothing."""
    await _budget(ready, day_usd=1000, total_usd=1000)
    path, body = _request(dialect, True, "fault-any")
    counted = []
    for status in (*SERVED, *UNSERVED):
        monkeypatch.setitem(FAULTS, "fault-any", _status(status))
        before = (await _used(ready))["day"]
        assert (await ready.ask("POST", path, body)).status == status
        await _until(lambda: not ready.house.running._calls, "the call has ended")
        ready.house.health._keys.clear()
        counted.append((await _used(ready))["day"] - before)
        record = (await ready.records(expect=len(counted)))[0]
        assert record["cost_usd"] is None or status in GAVE_UP
        assert record["input_tokens"] is None or status in GAVE_UP
    assert counted == pytest.approx([record["reserved_usd"]] * len(SERVED) + [0] * len(UNSERVED))
    await _everything_agrees(ready, await _used(ready))


async def test_a_proxy_s_error_of_a_server_that_broke_off_counts_as_reserved(
    ready: Rig, monkeypatch: pytest.MonkeyPatch
):
    said = "upstream connect error or disconnect/reset before headers. reset reason: termination"
    monkeypatch.setitem(FAULTS, "fault-any", _status(503, message=said))
    await _budget(ready, day_usd=5, total_usd=5)
    assert (await ready.chat("fault-any", max_tokens=MOST)).status == 503
    await _until(lambda: not ready.house.running._calls, "the call has ended")
    assert (await _used(ready))["day"] >= 0.6


@pytest.mark.parametrize(
    ("provider", "dialect"), [("gemini", "gemini_generate"), ("anthropic", "anthropic_messages")]
)
async def test_a_provider_that_bills_no_failures_is_believed_but_not_where_it_gave_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, provider: str, dialect: str
):
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key(provider=provider, endpoints=rig.endpoints(dialect))
    await _budget(rig, day_usd=5, total_usd=5)
    path, body = _request(dialect, True, "fault-any")
    counted = []
    for status in (500, 502, 504):
        monkeypatch.setitem(FAULTS, "fault-any", _status(status))
        assert (await rig.ask("POST", path, body)).status == status
        await _until(lambda: not rig.house.running._calls, "the call has ended")
        rig.house.health._keys.clear()
        counted.append((await _used(rig))["day"])
    assert counted[:2] == [0, 0]
    assert counted[2] >= 0.6


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": ["x"] * 1000, "max_tokens": 20}),
        ("/v1/completions", {"prompt": "x", "n": 1000, "max_tokens": 20}),
        ("/v1/completions", {"prompt": [[1]] * 1000, "best_of": 2, "max_tokens": 20}),
        ("/v1/chat/completions", {"messages": [], "n": 1000, "max_tokens": 20}),
    ],
)
async def test_whatever_multiplies_the_output_multiplies_the_reservation(
    ready: Rig, path: str, body: dict[str, Any]
):
    """10 USD, and a budget of one."""
    await _budget(ready, day_usd=1)
    answer = await ready.ask("POST", path, {"model": "m", **body})
    assert (answer.status, answer.code) == (429, "budget_exhausted")
    assert not ready.standin.requests


@pytest.mark.parametrize(
    ("provider", "path", "ignored", "known"),
    [
        ("deepseek", "/v1/chat/completions", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        (
            "deepseek",
            "/v1/chat/completions",
            {"max_tokens": None, "n_predict": 5},
            {"max_tokens": 5},
        ),
        ("openai", "/v1/chat/completions", {"n_predict": 5}, {"max_completion_tokens": 5}),
        ("openai", "/v1/completions", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("llama_cpp", "/v1/chat/completions", {"num_predict": 5}, {"n_predict": 5}),
        ("custom", "/v1/chat/completions", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("custom", "/v1/completions", {"max_new_tokens": 5}, {"max_tokens": 5}),
    ],
)
async def test_a_maximum_that_the_provider_ignores_bounds_no_reservation(
    rig: Rig, provider: str, path: str, ignored: dict[str, Any], known: dict[str, Any]
):
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    named = {} if provider == "custom" else {"provider": provider}
    await rig.add_provider_key(**named, endpoints=rig.endpoints(_dialect_of(path)))
    await _budget(rig, day_usd=5)
    said = {"model": "m", "messages": [], "prompt": "x"}
    answer = await rig.ask("POST", path, {**said, **ignored})
    assert (answer.status, answer.code) == (429, "budget_exhausted"), answer.body
    assert not rig.standin.requests
    assert (await rig.ask("POST", path, {**said, **known})).status == 200
    rules = {"budget": {"day_usd": 5}, "max_output_tokens": 100}
    await rig.ask("PUT", f"/api/v1/accounts/{rig.owner_id}/rules", rules)
    assert (await rig.ask("POST", path, {**said, **ignored})).status == 200
    sent = json.loads(rig.standin.requests[-1].body)
    honoured = provider_row(provider).bounded_by(_dialect_of(path))
    assert [sent[name] for name in honoured if name in sent] == [5]


def _dialect_of(path: str) -> str:
    return "openai_completions" if path == "/v1/completions" else "openai_chat"


@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": "priority"},
        {"num_return_sequences": 50},
        {"tools": [{"type": "image_generation"}]},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]},
        {"safety_model": "guard"},
        {"web_search_options": {}},
    ],
)
async def test_multipliers_of_unknown_cost_are_refused_by_name_under_a_budget_alone(
    ready: Rig, fields: dict[str, Any]
):
    assert (await ready.chat(max_tokens=5, **fields)).status == 200
    await _budget(ready, day_usd=100)
    answer = await ready.chat(max_tokens=5, **fields)
    assert (answer.status, answer.code) == (403, "model_unpriced")
    assert answer.json()["error"]["param"] in (*fields, "image_generation", "tools")
    await ready.ask("PATCH", "/api/v1/settings", {"unpriced": "allow"})
    assert (await ready.chat(max_tokens=5, **fields)).status == 200


async def test_a_listed_tier_is_reserved_at_its_own_price(rig: Rig):
    await rig.add_provider_key(provider="openai")
    await _budget(rig, day_usd=100)
    for tier in ("default", "priority"):
        answer = await rig.chat("gpt-4o", max_tokens=1000, service_tier=tier)
        assert answer.status == 200, answer.body
    dear, plain = (record["reserved_usd"] for record in await rig.records(expect=2))
    assert dear > 1.5 * plain


async def test_letters_without_a_space_are_text(ready: Rig):
    rules = {"limits": {"tpm": 5000}}
    await ready.ask("PUT", f"/api/v1/accounts/{ready.owner_id}/rules", rules)
    said = [{"role": "user", "content": "a" * 900_000}]
    answer = await ready.ask(
        "POST", "/v1/chat/completions", {"model": "m", "messages": said, "max_tokens": 5}
    )
    assert (answer.status, answer.code) == (429, "token_limited")


@pytest.mark.parametrize(
    "stated",
    [
        {"status": "queued", "usage": None},
        {"status": "queued", "usage": {"input_tokens": 1, "output_tokens": 1}},
        {"status": "in_progress", "usage": {"input_tokens": 1, "output_tokens": 1}},
        {"status": "in_progress", "usage": {"input_tokens": 0, "output_tokens": 0}, "object": "x"},
    ],
)
async def test_a_response_in_the_background_counts_as_reserved(ready: Rig, stated: dict[str, Any]):
    """What its POST states of usage is not final, whatever the provider goes on to bill."""
    await _budget(ready, day_usd=1.2, total_usd=1.2)
    begun = {"id": "resp_1", "object": "response", "output": [], **stated}
    ready.standin.scripted = replies.whole(begun)
    path, body = _responses(False)
    asked = {"model": "m", "background": True, **body}
    answers = [await ready.ask("POST", path, asked) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 429, 429]
    used = await _used(ready)
    assert used["day"] >= 0.6
    record = (await ready.records())[-1]
    assert record["usage_source"] == "estimated"
    assert record["cost_usd"] is not None
    await _everything_agrees(ready, used)
