"""The unmodified openai SDK: base URL and key are all that changes."""

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.rig import SECRET, Rig

pytestmark = pytest.mark.shared_rig

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"


class City(BaseModel):
    name: str
    people: int


@pytest.fixture
async def client(rig: Rig):
    await rig.add_provider_key(models=None, verify=True)
    async with AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=rig.key, max_retries=0) as made:
        yield made


async def test_chat_answers_and_is_recorded(rig: Rig, client: AsyncOpenAI):
    reply = await client.chat.completions.with_raw_response.create(
        model="demo-large", messages=[{"role": "user", "content": "hello there"}]
    )
    assert reply.parse().choices[0].message.content == "You said: hello there"
    record = await rig.record()
    assert reply.headers["x-xairouter-call-id"] == record["call_id"]
    assert reply.headers["x-xairouter-provider-key"].split()[0] == record["provider_key_id"]
    usage = reply.parse().usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (
        record["input_tokens"],
        record["output_tokens"],
    )
    assert record["outcome"] == "completed"
    assert record["attempts"] == 1
    assert rig.standin.requests[-1].secret == SECRET


async def test_chat_streams_without_usage_that_nobody_asked_for(rig: Rig, client: AsyncOpenAI):
    stream = await client.chat.completions.create(
        model="demo-large", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks).strip() == "You said: hello"
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert rig.standin.requests[-1].json()["stream_options"] == {"include_usage": True}
    record = await rig.record()
    assert record["stream"] is True
    assert record["usage_source"] == "reported"
    assert record["output_tokens"] > 0


async def test_chat_streams_with_usage_that_was_asked_for(rig: Rig, client: AsyncOpenAI):
    stream = await client.chat.completions.create(
        model="demo-large",
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == (await rig.record())["output_tokens"]


async def test_chat_calls_tools_streamed_and_not(client: AsyncOpenAI):
    messages = [{"role": "user", "content": "weather?"}]
    reply = await client.chat.completions.create(
        model="demo-large", messages=messages, tools=[TOOL]
    )
    call = reply.choices[0].message.tool_calls[0]
    assert call.function.name == "weather"
    answered = [
        *messages,
        reply.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    final = await client.chat.completions.create(
        model="demo-large", messages=answered, tools=[TOOL]
    )
    assert final.choices[0].finish_reason == "stop"
    async with client.chat.completions.stream(
        model="demo-large", messages=messages, tools=[TOOL]
    ) as stream:
        done = await stream.get_final_completion()
    assert done.choices[0].message.tool_calls[0].function.name == "weather"


async def test_chat_takes_images_and_structured_output(rig: Rig, client: AsyncOpenAI):
    content = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    reply = await client.chat.completions.parse(
        model="demo-large", messages=[{"role": "user", "content": content}], response_format=City
    )
    assert isinstance(reply.choices[0].message.parsed, City)
    assert rig.standin.requests[-1].json()["messages"][0]["content"] == content


async def test_responses_stream_follow_up_and_stored_objects(rig: Rig, client: AsyncOpenAI):
    first = await client.responses.create(model="demo-large", input="hello")
    assert first.output_text == "You said: hello"
    second = await client.responses.create(
        model="demo-large", input="again", previous_response_id=first.id
    )
    assert second.previous_response_id == first.id
    async with client.responses.stream(model="demo-large", input="streamed") as stream:
        events = [event async for event in stream]
    assert events[-1].type == "response.completed"
    assert (await client.responses.retrieve(first.id)).id == first.id
    assert (await client.responses.input_items.list(first.id)).data == []
    counted = await client.responses.input_tokens.count(model="demo-large", input="hello")
    assert counted.input_tokens > 0
    await client.responses.delete(first.id)
    records = await rig.records(expect=7)
    lookups = [r for r in records if r["path"].startswith("/v1/responses/")]
    assert len(lookups) == 4
    assert all(r["cost_usd"] == 0 and r["input_tokens"] is None for r in lookups)


async def test_responses_parse_structured_output_and_call_tools(client: AsyncOpenAI):
    parsed = await client.responses.parse(model="demo-large", input="a city", text_format=City)
    assert isinstance(parsed.output_parsed, City)
    called = await client.responses.create(
        model="demo-large",
        input="weather?",
        tools=[
            {
                "type": "function",
                "name": "weather",
                "strict": False,
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            }
        ],
    )
    assert called.output[0].type == "function_call"


async def test_completions_embeddings_and_models(rig: Rig, client: AsyncOpenAI):
    text = await client.completions.create(model="demo-large", prompt="once")
    assert text.choices[0].text == "You said: once"
    stream = await client.completions.create(model="demo-large", prompt="once", stream=True)
    assert "".join([c.choices[0].text async for c in stream]).strip() == "You said: once"
    vectors = await client.embeddings.create(model="demo-embed", input=["a", "b"])
    assert [v.embedding for v in vectors.data] == [[0.125, -0.25, 0.5]] * 2
    assert rig.standin.requests[-1].json()["encoding_format"] == "base64"
    assert [m.id for m in (await client.models.list()).data] == [
        "demo-embed",
        "demo-large",
        "demo-small",
    ]
    assert (await client.models.retrieve("demo-large")).id == "demo-large"
    await rig.records(expect=3)


@pytest.mark.parametrize(
    ("key", "raised", "code"),
    [
        ("sk-nonsense", openai.AuthenticationError, "invalid_api_key"),
        ("", openai.NotFoundError, "model_not_found"),
    ],
)
async def test_refusals_raise_the_sdk_s_own_exceptions(
    rig: Rig, client: AsyncOpenAI, key: str, raised: type[openai.APIStatusError], code: str
):
    with pytest.raises(raised) as caught:
        await client.with_options(api_key=key or rig.key).chat.completions.create(
            model="no-such-model", messages=[{"role": "user", "content": "x"}]
        )
    assert caught.value.code == code
