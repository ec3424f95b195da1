"""The coding agents, unmodified, where XAIROUTER_TEST_AGENTS names the folder of their commands.

Skipped by name without it: they are hundreds of megabytes from another registry.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig

FOLDER = os.environ.get("XAIROUTER_TEST_AGENTS", "")


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
        ANTHROPIC_BASE_URL=rig.url,
        ANTHROPIC_AUTH_TOKEN=rig.key,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )
    assert status == 0, out
    usage = json.loads(out)["usage"]
    told = sum(
        usage[name]
        for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    )
    assert told == await _sum(rig, "input_tokens")
    assert usage["output_tokens"] == await _sum(rig, "output_tokens")


@pytest.mark.parametrize("websockets", ["true", "false"])
async def test_codex_works_also_when_its_websocket_probe_is_turned_away(
    rig: Rig, tmp_path: Path, websockets: str
):
    command = _command("codex")
    await rig.add_provider_key()
    home = tmp_path / "codex"
    home.mkdir()
    (home / "config.toml").write_text(
        'model = "gpt-5"\nmodel_provider = "gw"\n[model_providers.gw]\nname = "gw"\n'
        f'base_url = "{rig.url}/v1"\nenv_key = "GW_KEY"\nwire_api = "responses"\n'
        f"supports_websockets = {websockets}\n"
    )
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
        GW_KEY=rig.key,
    )
    assert status == 0, out
    assert "You said: Say hello" in out
    assert {record["outcome"] for record in await rig.records()} == {"completed"}


async def test_gemini_cli_works(rig: Rig, tmp_path: Path):
    command = _command("gemini")
    await rig.add_provider_key()
    (tmp_path / ".gemini").mkdir()
    (tmp_path / ".gemini" / "settings.json").write_text(
        json.dumps(
            {
                "security": {"auth": {"selectedType": "gemini-api-key"}},
                "privacy": {"usageStatisticsEnabled": False},
                "general": {"disableAutoUpdate": True},
            }
        )
    )
    out, status = await _run(
        tmp_path,
        command,
        "-m",
        "gemini-2.5-flash",
        "-p",
        "say hello",
        GEMINI_API_KEY=rig.key,
        GOOGLE_GEMINI_BASE_URL=rig.url,
        GEMINI_CLI_TRUST_WORKSPACE="true",
    )
    assert status == 0, out
    assert "say hello" in out
    assert {record["outcome"] for record in await rig.records()} == {"completed"}


async def test_opencode_works(rig: Rig, tmp_path: Path):
    command = _command("opencode")
    await rig.add_provider_key()
    work = tmp_path / "work"
    work.mkdir()
    (work / "opencode.json").write_text(
        json.dumps(
            {
                "provider": {
                    "xai-router": {
                        "npm": "@ai-sdk/openai-compatible",
                        "options": {"baseURL": f"{rig.url}/v1", "apiKey": "{env:XAI_KEY}"},
                        "models": {"demo-large": {}},
                    }
                },
                "autoupdate": False,
                "share": "disabled",
            }
        )
    )
    out, status = await _run(
        tmp_path,
        command,
        "run",
        "-m",
        "xai-router/demo-large",
        "Say hello",
        XAI_KEY=rig.key,
        OPENCODE_DISABLE_MODELS_FETCH="1",
    )
    assert status == 0, out
    assert "You said: " in out
    assert {record["outcome"] for record in await rig.records()} == {"completed"}


VERCEL = """
import {generateText, streamText} from "ai";
import {createOpenAI} from "@ai-sdk/openai";
import {createAnthropic} from "@ai-sdk/anthropic";
import {createGoogleGenerativeAI} from "@ai-sdk/google";
const {URL: url, XAI_KEY: apiKey} = process.env;
const openai = createOpenAI({baseURL: url + "/v1", apiKey});
const anthropic = createAnthropic({baseURL: url + "/v1", apiKey});
const google = createGoogleGenerativeAI({baseURL: url + "/v1beta", apiKey});
const models = [openai.chat, openai.responses, anthropic, google].map((make) => make("demo-large"));
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
    script.write_text(VERCEL)
    out, status = await _run(tmp_path, "node", str(script), URL=rig.url, XAI_KEY=rig.key)
    assert status == 0, out
    assert out.count("You said: Say hello") == 8, out
    for record in await rig.records(expect=8):
        assert record["outcome"] == "completed"
        assert record["input_tokens"]
        assert record["output_tokens"]
