"""The coding agents, unmodified, with the set-ups of their pages, where XAIROUTER_TEST_AGENTS names
the folder of their commands.

Skipped by name without it: they are hundreds of megabytes from another registry.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.pages import blocks, exports
from tests.rig import Rig

pytestmark = pytest.mark.slow
FOLDER = os.environ.get("XAIROUTER_TEST_AGENTS", "")
PAGES = "docs/how-to/agents/"


def _command(name: str) -> str:
    path = Path(FOLDER) / name
    if not FOLDER or not path.exists():
        pytest.skip(f"XAIROUTER_TEST_AGENTS names no folder with {name} in it")
    return str(path.resolve())


async def _run(home: Path, *command: str, **environment: str) -> tuple[str, int]:
    """Run an agent with a home of its own and nothing else of this environment."""
    (home / "work").mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=home / "work",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", **environment},
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return out.decode("utf-8", "replace"), process.returncode or 0


async def _sum(rig: Rig, name: str) -> Any:
    return sum(record[name] or 0 for record in await rig.records())


async def test_claude_code_works_and_its_own_totals_are_the_ledger_s(rig: Rig, tmp_path: Path):
    command = _command("claude")
    await rig.add_provider_key()
    out, status = await _run(
        tmp_path,
        command,
        "-p",
        "Say hello",
        "--output-format",
        "json",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        **exports(PAGES + "claude-code.md", rig.url, rig.key),
    )
    assert status == 0, out
    usage = json.loads(out)["usage"]
    told = sum(
        usage[name]
        for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    )
    assert told == await _sum(rig, "input_tokens")
    assert usage["output_tokens"] == await _sum(rig, "output_tokens")
    assert {record["session"] for record in await rig.records()} != {None}


@pytest.mark.parametrize("websockets", ["true", "false"])
async def test_codex_works_also_when_its_websocket_probe_is_turned_away(
    rig: Rig, tmp_path: Path, websockets: str
):
    command = _command("codex")
    await rig.add_provider_key()
    home = tmp_path / "codex"
    home.mkdir()
    [config] = blocks(PAGES + "codex-cli.md", "toml", rig.url)
    (home / "config.toml").write_text(config + f"supports_websockets = {websockets}\n")
    out, status = await _run(
        tmp_path,
        command,
        "exec",
        "--skip-git-repo-check",
        "-s",
        "read-only",
        "-c",
        "analytics.enabled=false",
        "-c",
        "check_for_update_on_startup=false",
        "--disable",
        "plugins",
        "--disable",
        "apps",
        "Say hello",
        CODEX_HOME=str(home),
        **exports(PAGES + "codex-cli.md", rig.url, rig.key),
    )
    assert status == 0, out
    assert "You said: Say hello" in out
    assert {record["outcome"] for record in await rig.records()} == {"completed"}


async def test_gemini_cli_works(rig: Rig, tmp_path: Path):
    command = _command("gemini")
    await rig.add_provider_key()
    (tmp_path / ".gemini").mkdir()
    [config] = blocks(PAGES + "gemini-cli.md", "json")
    settings = {**json.loads(config), "general": {"disableAutoUpdate": True}}
    (tmp_path / ".gemini" / "settings.json").write_text(json.dumps(settings))
    out, status = await _run(
        tmp_path,
        command,
        "-m",
        "gemini-2.5-flash",
        "-p",
        "say hello",
        GEMINI_CLI_TRUST_WORKSPACE="true",
        **exports(PAGES + "gemini-cli.md", rig.url, rig.key),
    )
    assert status == 0, out
    assert "say hello" in out
    assert {record["outcome"] for record in await rig.records()} == {"completed"}


async def test_opencode_works(rig: Rig, tmp_path: Path):
    command = _command("opencode")
    await rig.add_provider_key()
    work = tmp_path / "work"
    work.mkdir()
    [config] = blocks(PAGES + "opencode.md", "json", rig.url)
    settings = {**json.loads(config), "autoupdate": False, "share": "disabled"}
    (work / "opencode.json").write_text(json.dumps(settings))
    out, status = await _run(
        tmp_path,
        command,
        "run",
        "-m",
        "xai-router/gpt-4o-mini",
        "Say hello",
        OPENCODE_DISABLE_MODELS_FETCH="1",
        **exports(PAGES + "opencode.md", rig.url, rig.key),
    )
    assert status == 0, out
    assert "You said: " in out
    assert {record["outcome"] for record in await rig.records()} == {"completed"}


VERCEL = """
import {generateText, streamText} from "ai";
const models = [openai.chat, openai, anthropic, google].map((make) => make("demo-large"));
for (const model of models) {
  console.log((await generateText({model, prompt: "Say hello"})).text);
  console.log(await streamText({model, prompt: "Say hello"}).text);
}
"""


async def test_the_vercel_ai_sdk_works_in_every_dialect(rig: Rig, tmp_path: Path):
    modules = Path(FOLDER).parent
    if not FOLDER or not (modules / "ai").exists():
        pytest.skip("XAIROUTER_TEST_AGENTS names no folder of node_modules with ai in it")
    await rig.add_provider_key()
    (tmp_path / "node_modules").symlink_to(modules.resolve())
    script = tmp_path / "say.mjs"
    [setup] = blocks(PAGES + "vercel-ai-sdk.md", "js", rig.url)
    script.write_text(setup + VERCEL)
    out, status = await _run(tmp_path, "node", str(script), XAI_KEY=rig.key)
    assert status == 0, out
    assert out.count("You said: Say hello") == 8, out
    for record in await rig.records(expect=8):
        assert record["outcome"] == "completed"
        assert record["input_tokens"]
        assert record["output_tokens"]
