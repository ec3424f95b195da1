"""Frameworks, unmodified, where XAIROUTER_TEST_FRAMEWORKS names a Python that has them.

Skipped by name without it: they would bring a hundred packages into the tests' environment.
"""

import asyncio
import os
from pathlib import Path

import pytest

from tests.rig import Rig

PYTHON = os.environ.get("XAIROUTER_TEST_FRAMEWORKS", "")
SAYS = "You said: Say hello"

LANGCHAIN_OPENAI = """
from langchain_openai import ChatOpenAI
model = ChatOpenAI(base_url=URL + "/v1", api_key=KEY, model="demo-large")
print(model.invoke("Say hello").content)
print("".join(chunk.content for chunk in model.stream("Say hello")))
"""

LANGCHAIN_ANTHROPIC = """
from langchain_anthropic import ChatAnthropic
model = ChatAnthropic(base_url=URL, api_key=KEY, model="demo-large", max_tokens=100)
print(model.invoke("Say hello").content)
print("".join(chunk.text for chunk in model.stream("Say hello")))
"""

LANGCHAIN_GOOGLE = """
from langchain_google_genai import ChatGoogleGenerativeAI
model = ChatGoogleGenerativeAI(base_url=URL, api_key=KEY, model="demo-large")
print(model.invoke("Say hello").content)
print("".join(chunk.content for chunk in model.stream("Say hello")))
"""

PYDANTIC_AI_OPENAI = """
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
provider = OpenAIProvider(base_url=URL + "/v1", api_key=KEY)
for kind in (OpenAIChatModel, OpenAIResponsesModel):
    print(Agent(kind("demo-large", provider=provider)).run_sync("Say hello").output)
"""

PYDANTIC_AI_ANTHROPIC = """
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider
model = AnthropicModel("demo-large", provider=AnthropicProvider(base_url=URL, api_key=KEY))
for _ in range(2):
    print(Agent(model).run_sync("Say hello").output)
"""

PYDANTIC_AI_GOOGLE = """
from pydantic_ai import Agent
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider
model = GoogleModel("demo-large", provider=GoogleProvider(base_url=URL, api_key=KEY))
for _ in range(2):
    print(Agent(model).run_sync("Say hello").output)
"""

SCRIPTS = {
    "langchain-openai": LANGCHAIN_OPENAI,
    "langchain-anthropic": LANGCHAIN_ANTHROPIC,
    "langchain-google-genai": LANGCHAIN_GOOGLE,
    "pydantic-ai openai": PYDANTIC_AI_OPENAI,
    "pydantic-ai anthropic": PYDANTIC_AI_ANTHROPIC,
    "pydantic-ai google": PYDANTIC_AI_GOOGLE,
}


async def _run(home: Path, *command: str) -> str:
    """Run a command with a home of its own and nothing else of this environment."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=home,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    text = out.decode("utf-8", "replace")
    assert process.returncode == 0, text
    return text


def _python() -> str:
    if not PYTHON:
        pytest.skip("XAIROUTER_TEST_FRAMEWORKS names no Python that has the frameworks")
    return PYTHON


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_framework_s_two_calls_are_answered_and_metered(
    rig: Rig, tmp_path: Path, name: str
):
    python = _python()
    await rig.add_provider_key()
    head = f"URL, KEY = {rig.url!r}, {rig.key!r}\n"
    out = await _run(tmp_path, python, "-c", head + SCRIPTS[name])
    assert out.count(SAYS) == 2, out
    for record in await rig.records(expect=2):
        assert record["outcome"] == "completed"
        assert record["input_tokens"]
        assert record["output_tokens"]


async def test_llm_with_a_model_of_its_configuration(rig: Rig, tmp_path: Path):
    python = _python()
    await rig.add_provider_key()
    folder = tmp_path / ".config" / "io.datasette.llm"
    folder.mkdir(parents=True)
    (folder / "extra-openai-models.yaml").write_text(
        f"- model_id: xai-demo\n  model_name: demo-large\n  api_base: {rig.url}/v1\n"
        "  api_key_name: xai\n"
    )
    command = (python, "-m", "llm", "-m", "xai-demo", "--key", rig.key, "Say hello")
    assert SAYS in await _run(tmp_path, *command)
    [record] = await rig.records(expect=1)
    assert record["outcome"] == "completed"
    assert record["input_tokens"]
    assert record["output_tokens"]


async def test_aider_works(rig: Rig, tmp_path: Path):
    command = Path(os.environ.get("XAIROUTER_TEST_AIDER", ""))
    if not command.is_file():
        pytest.skip("XAIROUTER_TEST_AIDER names no aider")
    await rig.add_provider_key()
    out = await _run(
        tmp_path,
        str(command),
        *("--model", "openai/demo-large", "--openai-api-base", f"{rig.url}/v1"),
        *("--openai-api-key", rig.key, "--message", "Say hello"),
        *("--no-git", "--yes-always", "--no-show-model-warnings", "--no-check-update"),
        *("--analytics-disable", "--no-pretty", "--edit-format", "ask"),
    )
    assert "You said: " in out, out
    for record in await rig.records():
        assert record["outcome"] == "completed"
        assert record["input_tokens"]
        assert record["output_tokens"]
