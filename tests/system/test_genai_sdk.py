"""The unmodified google-genai SDK."""

import pytest
from google import genai
from google.genai import errors, types

from tests.rig import SECRET, Rig

pytestmark = pytest.mark.shared_rig


@pytest.fixture
async def client(rig: Rig):
    await rig.add_provider_key(models=None, verify=True)
    made = genai.Client(api_key=rig.key, http_options=types.HttpOptions(base_url=rig.url))
    yield made.aio
    await made.aio.aclose()


async def test_generate_content_answers_and_is_recorded(rig: Rig, client):
    reply = await client.models.generate_content(
        model="demo-large",
        contents="hello",
        config=types.GenerateContentConfig(max_output_tokens=55),
    )
    assert reply.text == "You said: hello"
    usage, record = reply.usage_metadata, await rig.record()
    assert record["input_tokens"] == usage.prompt_token_count
    assert record["output_tokens"] == usage.candidates_token_count + usage.thoughts_token_count
    assert record["reasoning_tokens"] == usage.thoughts_token_count == 3
    assert record["max_output_tokens"] == 55
    assert record["path"] == "/v1beta/models/demo-large:generateContent"
    assert rig.standin.requests[-1].headers["x-goog-api-key"] == SECRET


async def test_generate_content_streams(rig: Rig, client):
    stream = await client.models.generate_content_stream(model="demo-large", contents="hello")
    text = "".join([chunk.text or "" async for chunk in stream])
    assert text.strip() == "You said: hello"
    record = await rig.record()
    assert record["stream"] is True
    assert record["usage_source"] == "reported"


async def test_function_calls(client):
    weather = types.FunctionDeclaration(
        name="weather",
        parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}},
    )
    reply = await client.models.generate_content(
        model="demo-large",
        contents="weather?",
        config=types.GenerateContentConfig(tools=[types.Tool(function_declarations=[weather])]),
    )
    assert reply.function_calls[0].name == "weather"


async def test_count_embed_and_models(rig: Rig, client):
    counted = await client.models.count_tokens(model="demo-large", contents="hello")
    assert counted.total_tokens > 0
    vectors = await client.models.embed_content(model="demo-embed", contents=["a", "b"])
    assert len(vectors.embeddings) == 2
    listed = await client.models.list()
    assert [model.name for model in listed.page] == [
        "models/demo-embed",
        "models/demo-large",
        "models/demo-small",
    ]
    await rig.records(expect=2)


async def test_refusals_raise_the_sdk_s_own_exceptions(rig: Rig, client):
    with pytest.raises(errors.ClientError) as caught:
        await client.models.generate_content(model="none", contents="x")
    assert caught.value.code == 404
    assert caught.value.status == "NOT_FOUND"


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/m:generateContent",
        "/v1/models/m:generateContent",
        "/models/m:generateContent",
        "/v1beta/models/m%3AgenerateContent",
    ],
)
async def test_every_spelling_of_the_path_is_understood(rig: Rig, path: str):
    await rig.add_provider_key()
    body = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
    answer = await rig.ask("POST", path, body, key=None, x_goog_api_key=rig.key)
    assert answer.status == 200
    assert (await rig.record())["path"] == "/v1beta/models/m:generateContent"


@pytest.mark.parametrize("alt", ["", "?alt=sse"])
async def test_streams_with_and_without_alt_sse_are_metered(rig: Rig, alt: str):
    await rig.add_provider_key()
    body = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
    answer = await rig.ask("POST", f"/v1beta/models/m:streamGenerateContent{alt}", body)
    assert answer.status == 200
    record = await rig.record()
    assert record["usage_source"] == "reported"
    assert record["reasoning_tokens"] == 3


async def test_the_key_in_the_query_is_taken_and_not_passed_on(rig: Rig):
    await rig.add_provider_key()
    body = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
    answer = await rig.ask(
        "POST", f"/v1beta/models/m:generateContent?key={rig.key}&alt=json", body, key=None
    )
    assert answer.status == 200
    assert rig.standin.requests[-1].query == "alt=json"
