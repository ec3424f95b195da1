"""The unmodified anthropic SDK."""

import anthropic
import pytest
from anthropic import AsyncAnthropic

from tests.rig import SECRET, Rig

pytestmark = pytest.mark.shared_rig

TOOL = {
    "name": "weather",
    "description": "tells the weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
async def client(rig: Rig):
    await rig.add_provider_key(models=None, verify=True)
    async with AsyncAnthropic(base_url=rig.url, api_key=rig.key, max_retries=0) as made:
        yield made


async def test_messages_answer_and_are_recorded(rig: Rig, client: AsyncAnthropic):
    reply = await client.messages.create(
        model="demo-large",
        max_tokens=100,
        system=[{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
        messages=[{"role": "user", "content": "hello"}],
    )
    assert reply.content[0].text == "You said: hello"
    usage, record = reply.usage, await rig.record()
    assert record["input_tokens"] == (
        usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    )
    assert record["cached_input_tokens"] == usage.cache_read_input_tokens == 5
    assert record["cache_write_tokens"] == usage.cache_creation_input_tokens == 7
    assert record["max_output_tokens"] == 100
    received = rig.standin.requests[-1]
    assert received.headers["x-api-key"] == SECRET
    assert "authorization" not in received.headers
    assert received.headers["anthropic-version"]


async def test_messages_stream_with_thinking(rig: Rig, client: AsyncAnthropic):
    async with client.messages.stream(
        model="demo-large",
        max_tokens=2000,
        thinking={"type": "enabled", "budget_tokens": 1024},
        messages=[{"role": "user", "content": "hello"}],
    ) as stream:
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    record = await rig.record()
    assert record["output_tokens"] == final.usage.output_tokens
    assert record["stream"] is True


async def test_messages_call_tools_and_take_the_result(client: AsyncAnthropic):
    asked = [{"role": "user", "content": "weather?"}]
    reply = await client.messages.create(
        model="demo-large", max_tokens=100, messages=asked, tools=[TOOL]
    )
    use = reply.content[-1]
    assert use.type == "tool_use"
    final = await client.messages.create(
        model="demo-large",
        max_tokens=100,
        tools=[TOOL],
        messages=[
            *asked,
            {"role": "assistant", "content": reply.content},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}],
            },
        ],
    )
    assert final.stop_reason == "end_turn"


async def test_counting_tokens_is_a_request_that_uses_none(rig: Rig, client: AsyncAnthropic):
    counted = await client.messages.count_tokens(
        model="demo-large", messages=[{"role": "user", "content": "hello"}]
    )
    assert counted.input_tokens > 0
    record = await rig.record()
    assert record["input_tokens"] is None
    assert record["cost_usd"] == 0


async def test_models_in_its_own_shape(client: AsyncAnthropic):
    listed = await client.models.list(limit=1000)
    assert [model.id for model in listed.data] == ["demo-embed", "demo-large", "demo-small"]
    assert (await client.models.retrieve("demo-large")).type == "model"


async def test_unknown_beta_headers_queries_and_system_messages_pass(rig: Rig):
    await rig.add_provider_key()
    body = {
        "model": "m",
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "system", "content": "b"},
            {"role": "user", "content": "c"},
        ],
    }
    answer = await rig.ask(
        "POST",
        "/v1/messages?beta=true",
        body,
        anthropic_version="2026-10-21",
        anthropic_beta="never-heard-of-2027-01-01",
    )
    assert answer.status == 200
    received = rig.standin.requests[-1]
    assert received.query == "beta=true"
    assert received.headers["anthropic-beta"] == "never-heard-of-2027-01-01"
    assert received.headers["anthropic-version"] == "2026-10-21"
    assert received.json() == body


async def test_refusals_raise_the_sdk_s_own_exceptions(rig: Rig, client: AsyncAnthropic):
    with pytest.raises(anthropic.AuthenticationError):
        await client.with_options(api_key="sk-nonsense").messages.create(
            model="demo-large", max_tokens=9, messages=[{"role": "user", "content": "x"}]
        )
    with pytest.raises(anthropic.NotFoundError) as caught:
        await client.messages.create(
            model="none", max_tokens=9, messages=[{"role": "user", "content": "x"}]
        )
    assert caught.value.body["error"]["type"] == "not_found_error"
    assert caught.value.response.headers["x-xairouter-error"] == "model_not_found"


async def test_an_error_event_ends_a_stream_as_the_sdk_expects(rig: Rig, client: AsyncAnthropic):
    await rig.add_provider_key(name="any")
    with pytest.raises(anthropic.APIStatusError):
        async with client.messages.stream(
            model="fault-reset-after", max_tokens=9, messages=[{"role": "user", "content": "x"}]
        ) as stream:
            await stream.get_final_message()
    assert (await rig.record())["outcome"] == "upstream_error"
