"""Where limits count what a call uses and its input is not bounded by its body, a client that leaves
leaves alone: the reply is read to the provider's final statement, and that is what counts."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig, start_rig
from tests.system import test_money as money
from tests.waiting import until
from xairouter.standin.faults import FAULTS, Reply, Wire

ready, gate = money.ready, money.gate
URL = "https://files.example/thousand-pages"


def _responses(*parts: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    content = [{"type": "input_text", "text": money.WORDS}, *parts]
    path, body = money._request("openai_responses", True, "fault-gate")
    return path, {**body, "input": [{"role": "user", "content": content}], **fields}


def _chat(*parts: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    content = [{"type": "text", "text": money.WORDS}, *parts]
    path, body = money._request("openai_chat", True, "fault-gate")
    return path, {**body, "messages": [{"role": "user", "content": content}], **fields}


def _messages(*parts: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    content = [{"type": "text", "text": money.WORDS}, *parts]
    path, body = money._request("anthropic_messages", True, "fault-gate")
    return path, {**body, "messages": [{"role": "user", "content": content}], **fields}


def _gemini(*parts: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    path, body = money._request("gemini_generate", True, "fault-gate")
    contents = [{"role": "user", "parts": [{"text": money.WORDS}, *parts]}]
    return path, {**body, "contents": contents, **fields}


MCP = {"type": "url", "url": "https://mcp.example", "name": "m"}
REFERENCES = {
    "previous_response_id": _responses(previous_response_id="resp_1"),
    "conversation": _responses(conversation="conv_1"),
    "a conversation's object": _responses(conversation={"id": "conv_1"}),
    "item_reference": _responses(input=[{"type": "item_reference", "id": "msg_1"}]),
    "prompt": _responses(prompt={"id": "pmpt_1"}),
    "input file by id": _responses({"type": "input_file", "file_id": "file-1"}),
    "input file by URL": _responses({"type": "input_file", "file_url": URL}),
    "input image by URL": _responses({"type": "input_image", "image_url": URL}),
    "input film by URL": _responses({"type": "input_video", "video_url": URL}),
    "web search": _responses(tools=[{"type": "web_search"}]),
    "file search": _responses(tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}]),
    "code interpreter": _responses(
        tools=[{"type": "code_interpreter", "container": {"type": "auto"}}]
    ),
    "MCP": _responses(tools=[{"type": "mcp", "server_label": "m", "server_url": URL}]),
    "image by URL": _chat({"type": "image_url", "image_url": {"url": URL}}),
    "film by URL": _chat({"type": "video_url", "video_url": {"url": URL}}),
    "sound by URL": _chat({"type": "audio_url", "audio_url": {"url": URL}}),
    "document by URL": _chat({"type": "document_url", "document_url": URL}),
    "file data by URL": _chat({"type": "file", "file": {"file_data": URL}}),
    "file by id": _chat({"type": "file", "file": {"file_id": "file-1"}}),
    "web search options": _chat(web_search_options={}),
    "search parameters": _chat(search_parameters={"mode": "on"}),
    "data sources": _chat(data_sources=[{"type": "azure_search"}]),
    "a model that searches": _chat(model="fault-gate-search-preview"),
    "messages document by URL": _messages(
        {"type": "document", "source": {"type": "url", "url": URL}}
    ),
    "messages file": _messages({"type": "document", "source": {"type": "file", "file_id": "f"}}),
    "messages web fetch": _messages(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}]),
    "messages MCP": _messages(mcp_servers=[MCP]),
    "messages container": _messages(container="container_1"),
    "film by fileUri": _gemini({"fileData": {"fileUri": "https://youtube.example/watch?v=1"}}),
    "file by file_uri": _gemini({"file_data": {"file_uri": "files/1", "mime_type": "video/mp4"}}),
    "cachedContent": _gemini(cachedContent="cachedContents/1"),
    "url_context": _gemini(tools=[{"url_context": {}}]),
    "googleSearch": _gemini(tools=[{"googleSearch": {}}]),
    "codeExecution": _gemini(tools=[{"codeExecution": {}}]),
}


@pytest.fixture(autouse=True)
def _searching(gate: money.Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAULTS, "fault-gate-search-preview", gate.play)
    monkeypatch.setitem(FAULTS, "fault-gate-think", gate.play)


async def _left(rig: Rig, gate: money.Gate, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The record of a call whose client leaves in the middle of the reply."""
    task = asyncio.create_task(money._read(rig, path, body, gate))
    await money._until(lambda: task.done() or gate.has_passed, "text has passed")
    assert not task.done(), task.result()
    connections = rig._server.server_state.connections
    talking = {one for one in connections if one.cycle and not one.cycle.response_complete}
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await until(lambda: not talking & connections)
    gate.go.set()
    await money._until(lambda: not rig.house.running._calls, "the call has ended")
    return dict((await rig.records())[-1])


@pytest.mark.parametrize("reference", REFERENCES)
async def test_a_client_that_leaves_pays_for_what_its_request_referred_to(
    ready: Rig, gate: money.Gate, reference: str
):
    await ready.ask("PATCH", "/api/v1/settings", {"unpriced": "allow"})
    await money._budget(ready, day_usd=1000, total_usd=1000)
    record = await _left(ready, gate, *REFERENCES[reference])
    assert record["usage_source"] == "reported"
    await money._everything_agrees(ready, await money._used(ready))


PDF = "data:application/pdf;base64,JVBERi0x"
OPEN = {
    "a document": _chat({"type": "file", "file": {"file_data": PDF}}),
    "an image": _responses({"type": "input_image", "image_url": "data:image/png;base64,aaaa"}),
    "sound": _gemini({"inlineData": {"mimeType": "audio/mp3", "data": "aaaa"}}),
    "thoughts that nothing bounds": _chat(model="fault-gate-think", max_tokens=None),
    "thoughts with a bound that the provider does not know": _chat(
        model="fault-gate-think", max_tokens=None, max_completion_tokens=300
    ),
}


@pytest.mark.parametrize("case", OPEN)
async def test_a_client_that_leaves_pays_for_what_its_body_does_not_show(
    ready: Rig, gate: money.Gate, case: str
):
    await money._budget(ready, day_usd=1000, total_usd=1000)
    record = await _left(ready, gate, *OPEN[case])
    assert record["usage_source"] == "reported"
    await money._everything_agrees(ready, await money._used(ready))


@pytest.mark.parametrize("provider", ["qwen", "volcengine", "xai", "deepseek"])
@pytest.mark.parametrize("bound", ["request", "rules"])
async def test_a_maximum_bounds_thoughts_only_where_the_provider_has_it_so(
    rig: Rig, gate: money.Gate, provider: str, bound: str
):
    await rig.ask("PUT", "/api/v1/prices", money.PRICES)
    await rig.add_provider_key(provider=provider, endpoints=rig.endpoints("openai_chat"))
    rules: dict[str, Any] = {"budget": {"day_usd": 1000}}
    rules |= {"max_output_tokens": 300} if bound == "rules" else {}
    await rig.ask("PUT", f"/api/v1/accounts/{rig.owner_id}/rules", rules)
    asked = {"max_tokens": None} if bound == "rules" else {}
    record = await _left(rig, gate, *_chat(model="fault-gate-think", **asked))
    expected = "estimated" if provider == "deepseek" else "reported"
    assert record["usage_source"] == expected


async def test_thoughts_that_the_rules_bound_are_cancelled(ready: Rig, gate: money.Gate):
    rules = {"budget": {"day_usd": 1000}, "max_output_tokens": 300}
    await ready.ask("PUT", f"/api/v1/accounts/{ready.owner_id}/rules", rules)
    record = await _left(ready, gate, *OPEN["thoughts that nothing bounds"])
    assert (record["outcome"], record["usage_source"]) == ("client_gone", "estimated")


@pytest.mark.parametrize("counts", ["nothing", "requests"])
async def test_where_nothing_counts_what_is_used_the_upstream_is_cancelled(
    ready: Rig, gate: money.Gate, counts: str
):
    rules = {"limits": {"rpm": 100, "concurrency": 10}} if counts == "requests" else {}
    await ready.ask("PUT", f"/api/v1/accounts/{ready.owner_id}/rules", rules)
    record = await _left(ready, gate, *REFERENCES["input file by URL"])
    assert (record["outcome"], record["usage_source"]) == ("client_gone", "estimated")


INLINE = {
    "text": _responses(),
    "link in text": _chat({"type": "text", "text": f'{{"file_url": "{URL}"}}'}),
    "functions": _chat(
        tools=[
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"$schema": "http://json-schema.org/"}},
            }
        ]
    ),
}


@pytest.mark.parametrize("case", INLINE)
async def test_input_that_the_body_bounds_is_cancelled_and_counts_as_reserved(
    ready: Rig, gate: money.Gate, case: str
):
    await money._budget(ready, day_usd=1000, total_usd=1000)
    record = await _left(ready, gate, *INLINE[case])
    assert (record["outcome"], record["usage_source"]) == ("client_gone", "estimated")


async def test_a_client_that_stops_reading_does_not_keep_the_final_statement_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def flood(wire: Wire, reply: Reply, secret: str) -> None:
        await wire.head(reply, transfer_encoding="chunked")
        for _ in range(400):
            await wire.chunk(b": " + b"x" * 65_536 + b"\n\n")
        for event in reply.events:
            await wire.chunk(event)
        await wire.put(b"0\r\n\r\n")

    monkeypatch.setitem(FAULTS, "fault-gate", flood)
    rig = await start_rig(tmp_path, idle_seconds=2)
    try:
        await rig.ask("PUT", "/api/v1/prices", money.PRICES)
        await rig.add_provider_key()
        await money._budget(rig, day_usd=1000)
        path, fields = REFERENCES["previous_response_id"]
        body = json.dumps(fields).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {rig.key}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=2**16)
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await reader.readuntil(b"\r\n\r\n")
        await money._until(lambda: not rig.house.running._calls, "the call has ended")
        assert (await rig.record())["usage_source"] == "reported"
        writer.transport.abort()
    finally:
        await rig.stop()


@pytest.mark.parametrize(
    "reference", ["previous_response_id", "input file by URL", "item_reference"]
)
async def test_a_response_in_the_background_is_refused_under_a_budget_where_its_input_is_open(
    ready: Rig, reference: str
):
    path, body = REFERENCES[reference]
    asked = {**body, "model": "m", "stream": False, "background": True}
    assert (await ready.ask("POST", path, asked)).status == 200
    await money._budget(ready, day_usd=1000)
    answer = await ready.ask("POST", path, asked)
    assert (answer.status, answer.code) == (403, "model_unpriced")
    assert answer.json()["error"]["param"] == "background"
    bounded = {"model": "m", "input": "x", "background": True, "max_output_tokens": 9}
    assert (await ready.ask("POST", path, bounded)).status == 200
    await ready.ask("PATCH", "/api/v1/settings", {"unpriced": "allow"})
    assert (await ready.ask("POST", path, asked)).status == 200
