"""Frameworks, unmodified, with the set-ups of their pages, where XAIROUTER_TEST_FRAMEWORKS names a
Python that has them.

Skipped by name without it: they would bring a hundred packages into the tests' environment.
"""

import asyncio
import os
import shlex
from pathlib import Path

import pytest

from tests.pages import blocks, exports
from tests.rig import Rig

pytestmark = pytest.mark.slow
PYTHON = os.environ.get("XAIROUTER_TEST_FRAMEWORKS", "")
SAYS = "You said: Say hello"

TWO_CALLS = {
    "langchain": """
print(model.invoke("Say hello").content)
print("".join(chunk.text for chunk in model.stream("Say hello")))
""",
    "pydantic-ai": """
from pydantic_ai import Agent
for _ in range(2):
    print(Agent(model).run_sync("Say hello").output)
""",
}
SETUPS = {f"{name} {number}": (name, number) for name in TWO_CALLS for number in range(3)}
"""Three set-ups on each page: OpenAI chat, Anthropic messages, Gemini."""


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


@pytest.mark.parametrize("name", SETUPS)
async def test_a_framework_s_two_calls_are_answered_and_metered(
    rig: Rig, tmp_path: Path, name: str
):
    python = _python()
    await rig.add_provider_key()
    framework, number = SETUPS[name]
    setup = blocks(f"docs/how-to/agents/{framework}.md", "python", rig.url)[number]
    script = f"XAI_KEY = {rig.key!r}\n{setup}{TWO_CALLS[framework]}"
    out = await _run(tmp_path, python, "-c", script)
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
    [models] = blocks("docs/how-to/agents/llm.md", "yaml", rig.url)
    (folder / "extra-openai-models.yaml").write_text(models)
    setup, say = blocks("docs/how-to/agents/llm.md", "sh")[0].strip().splitlines()
    await _run(tmp_path, python, "-m", *setup.replace('"$XAI_KEY"', rig.key).split())
    assert SAYS in await _run(tmp_path, python, "-m", *shlex.split(say))
    [record] = await rig.records(expect=1)
    assert record["outcome"] == "completed"
    assert record["input_tokens"]
    assert record["output_tokens"]


async def test_aider_works(rig: Rig, tmp_path: Path):
    command = Path(os.environ.get("XAIROUTER_TEST_AIDER", ""))
    if not command.is_file():
        pytest.skip("XAIROUTER_TEST_AIDER names no aider")
    await rig.add_provider_key()
    setup = exports("docs/how-to/agents/aider.md", rig.url, rig.key)
    out = await _run(
        tmp_path,
        *("env", *(f"{name}={value}" for name, value in setup.items())),
        str(command),
        *("--model", "openai/gpt-4o-mini", "--message", "Say hello"),
        *("--no-git", "--yes-always", "--no-show-model-warnings", "--no-check-update"),
        *("--analytics-disable", "--no-pretty", "--edit-format", "ask"),
    )
    assert "You said: " in out, out
    for record in await rig.records():
        assert record["outcome"] == "completed"
        assert record["input_tokens"]
        assert record["output_tokens"]
