"""``xairouter import litellm`` as its page says, against a running router."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pages import blocks
from tests.rig import Rig

pytestmark = pytest.mark.shared_rig

PAGE = "docs/how-to/move-from-litellm.md"
SECRETS = {
    "OPENAI_API_KEY": "sk-openai-secret-of-the-test",
    "ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test",
    "OWN_API_KEY": "own-secret-of-the-test-000",
}


async def _run(rig: Rig, *words: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "xairouter",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", "XAI_KEY": rig.key, **environment},
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def _page(rig: Rig, folder: Path) -> tuple[Path, list[list[str]]]:
    """The page's file and commands; its providers are the stand-in."""
    [text] = blocks(PAGE, "yaml")
    [shell] = blocks(PAGE, "sh")
    base = rig.standin_url
    text = text.replace("http://127.0.0.1:9100", base)
    text = text.replace("model: openai/gpt-4o", f"api_base: {base}/v1\n      model: openai/gpt-4o")
    text = text.replace("model: anthropic/", f"api_base: {base}\n      model: anthropic/")
    file = folder / "config.yaml"
    file.write_text(text)
    commands = []
    for line in shell.strip().splitlines():
        words = line.replace("config.yaml", str(file)).replace("http://127.0.0.1:8080", rig.url)
        commands.append(words.split()[1:])
    return file, commands


async def test_the_page_s_example_comes_in_and_works(rig: Rig, tmp_path: Path):
    file, (look, bring) = _page(rig, tmp_path)
    status, out, err = await _run(rig, *look)
    assert status == 0, err
    assert "left out  router_settings.routing_strategy" in out
    assert "changed  budget of litellm_settings: a calendar month in place of 30d" in out
    assert (await rig.ask("GET", "/api/v1/provider-keys")).json()["items"] == []

    status, out, err = await _run(rig, *bring, "--json", **SECRETS)
    assert status == 0, out + err
    assert not any(secret in out + err for secret in SECRETS.values())
    told = json.loads(out)
    [team] = told["accounts"]
    keys = (await rig.ask("GET", "/api/v1/provider-keys")).json()["items"]
    assert sorted(key["name"] for key in keys) == [
        "anthropic ANTHROPIC_API_KEY",
        "openai OPENAI_API_KEY",
        "openai OWN_API_KEY",
    ]
    routing = (await rig.ask("GET", "/api/v1/routing")).json()
    assert routing["model_failover"] == {"gpt-4o": ["claude-sonnet-4-5"]}
    assert (await rig.ask("GET", "/api/v1/prices")).json() == {
        "llama-3": {"input": 0.1, "output": 0.4}
    }
    rules = (await rig.ask("GET", f"/api/v1/accounts/{rig.owner_id}/rules")).json()["own"]
    assert rules["budget"] == {"month_usd": 500}
    assert rules["model_map"]["gpt-4"] == "gpt-4o"

    await rig.ask("PATCH", "/api/v1/settings", {"unpriced": "allow"})
    assert (await rig.chat("fast", key=team["api_key"])).status == 200
    assert rig.standin.requests[-1].json()["model"] == "gpt-4o-mini"
    refused = await rig.chat("own", key=team["api_key"])
    assert (refused.status, refused.code) == (403, "model_not_allowed")
    assert (await rig.chat("own")).status == 200

    # A second time, nothing is made twice and what was changed meanwhile stays.
    await rig.ask("PUT", "/api/v1/prices", {"llama-3": {"input": 9}})
    status, out, err = await _run(rig, *bring, "--json", **SECRETS)
    assert status == 0, err
    assert json.loads(out)["accounts"] == []
    assert len((await rig.ask("GET", "/api/v1/provider-keys")).json()["items"]) == 3
    assert (await rig.ask("GET", "/api/v1/prices")).json() == {"llama-3": {"input": 9}}
    assert {"state": "left out", "what": "prices", "says": "llama-3 stay as they are"} in (
        json.loads(out)["lines"]
    )
    assert file.exists()


async def test_a_missing_secret_fails_alone_and_a_second_run_completes(rig: Rig, tmp_path: Path):
    _, (_, bring) = _page(rig, tmp_path)
    some = {name: SECRETS[name] for name in ("OPENAI_API_KEY", "OWN_API_KEY")}
    status, out, _ = await _run(rig, *bring, **some)
    assert status == 1
    assert "failed  provider key “anthropic ANTHROPIC_API_KEY”: has no secret" in out
    assert "ANTHROPIC_API_KEY is not set" in out
    assert len((await rig.ask("GET", "/api/v1/provider-keys")).json()["items"]) == 2
    status, out, _ = await _run(rig, *bring, **SECRETS)
    assert status == 0
    assert out.count("is already there") == 3, "two keys and the team"


async def test_secrets_are_asked_for_and_not_shown(rig: Rig, tmp_path: Path):
    """At a terminal: the XAI API key and the provider's secret are typed, neither is echoed."""
    config = tmp_path / "c.yaml"
    config.write_text(
        "model_list:\n- model_name: demo-small\n  litellm_params:\n"
        f"    {{model: openai/demo-small, api_base: {rig.standin_url}/v1}}\n"
    )
    keyboard, terminal = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "xairouter", "import", "litellm", str(config), "--url", rig.url),
        stdin=terminal,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    os.close(terminal)
    assert process.stdout is not None
    shown = b""
    for question, typed in ((b"XAI API key: ", rig.key), (b"OPENAI_API_KEY: ", "typed-secret-0")):
        while question not in shown:
            part = await asyncio.wait_for(process.stdout.read(1000), 120)
            assert part, shown
            shown += part
        os.write(keyboard, typed.encode() + b"\n")
    rest, _ = await process.communicate()
    os.close(keyboard)
    assert process.returncode == 0, shown + rest
    assert b"typed-secret-0" not in shown + rest
    assert rig.key.encode() not in shown + rest
    assert (await rig.chat("demo-small")).status == 200
    assert rig.standin.requests[-1].headers["authorization"] == "Bearer typed-secret-0"


async def test_teams_from_a_file_of_their_own(rig: Rig, tmp_path: Path):
    config, teams = tmp_path / "c.yaml", tmp_path / "t.json"
    config.write_text("model_list: []\n")
    teams.write_text(json.dumps([{"team_alias": "one", "rpm_limit": 1, "blocked": True}]))
    words = ("import", "litellm", str(config), "--teams", str(teams), "--url", rig.url)
    status, out, err = await _run(rig, *words, "--json")
    assert status == 0, err
    [made] = json.loads(out)["accounts"]
    assert (await rig.chat(key=made["api_key"])).code == "account_suspended"


async def test_only_an_owner_brings_in(rig: Rig, tmp_path: Path):
    _, (_, bring) = _page(rig, tmp_path)
    made = (await rig.ask("POST", "/api/v1/accounts", {"name": "team"})).json()
    for key in (made["api_key"], "sk-wrong"):
        status, out, err = await _run(rig, *bring, **SECRETS, XAI_KEY=key)
        assert (status, out) == (1, "")
        assert "not an owner's" in err


async def test_bad_files_and_addresses_are_answered_with_a_sentence(rig: Rig, tmp_path: Path):
    file = tmp_path / "config.yaml"
    cases: list[tuple[Any, tuple[str, ...], str]] = [
        ("a: [sk-secret", (), "is no YAML that can be read"),
        ("a: !!python/object/apply:os.system ['exit 3']", (), "is no YAML"),
        ("- 1", (), "holds no settings"),
        (None, (), "Cannot read"),
        ("{}", ("--url", "http://203.0.113.9:8080"), "over https only"),
        ("{}", ("--url", "nonsense"), "no address of a router"),
        ("{}", ("--url", "http://127.0.0.1:9"), "does not answer"),
        (b"\xff\xfe\xff", (), "is no YAML"),
    ]
    for text, words, sentence in cases:
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        status, out, err = await _run(rig, "import", "litellm", str(file), "--url", rig.url, *words)
        assert (status, out) == (1, ""), (text, out)
        assert sentence in err
        assert "sk-secret" not in err
        assert "Traceback" not in err
