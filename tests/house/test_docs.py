"""The docs tell the truth: links, named tests, snippets, settings, generated pages."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks
from tests.rig import SECRET, Rig
from tests.rows import for_each
from tests.servers import postgres_database, psql
from tests.system.process import run_command
from xairouter.console.snippets import filled
from xairouter.settings import load
from xairouter.storage.drivers import PostgreSQL

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("bench/*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@for_each("page", PAGES)
def test_no_link_is_dead(page: Path):
    for target in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path = (page.parent / target.partition("#")[0]).resolve()
        assert path.exists(), target


def test_every_page_is_reachable_from_the_readme():
    seen, queue = set(), [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        for target in LINK.findall(page.read_text()):
            path = (page.parent / target.partition("#")[0]).resolve()
            if "://" not in target and path.suffix == ".md":
                queue.append(path)
    assert set(PAGES) == seen


def test_every_test_that_security_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 15
    for file, test in named:
        assert re.search(rf"def {test}\(", (ROOT / file).read_text()), test


def test_generated_pages_are_fresh():
    done = subprocess.run(
        [sys.executable, "scripts/reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


HERE = "tests/house/test_docs.py"
COMMANDS, AGENTS = "tests/system/test_commands.py", "tests/system/test_agents.py"
FRAMEWORKS = "tests/system/test_frameworks.py"
RUN_BY = {
    "README.md": HERE,
    "bench/README.md": "tests/system/test_bench.py",
    "docs/how-to/access-control.md": HERE,
    "docs/how-to/add-a-provider.md": HERE,
    "docs/how-to/check-the-records.md": HERE,
    "docs/how-to/limits-and-budgets.md": HERE,
    "docs/how-to/routing.md": HERE,
    "docs/how-to/team-rules.md": "tests/system/test_team_rules.py",
    "docs/how-to/agents/aider.md": FRAMEWORKS,
    "docs/how-to/agents/claude-code.md": AGENTS,
    "docs/how-to/agents/codex-cli.md": AGENTS,
    "docs/how-to/agents/gemini-cli.md": AGENTS,
    "docs/how-to/agents/langchain.md": FRAMEWORKS,
    "docs/how-to/agents/llm.md": FRAMEWORKS,
    "docs/how-to/agents/opencode.md": AGENTS,
    "docs/how-to/agents/pydantic-ai.md": FRAMEWORKS,
    "docs/how-to/agents/vercel-ai-sdk.md": AGENTS,
    "docs/how-to/give-a-team-its-keys.md": HERE,
    "docs/how-to/move-and-back.md": HERE,
    "docs/how-to/move-from-litellm.md": "tests/system/test_import_litellm.py",
    "docs/how-to/notices-and-webhook.md": HERE,
    "docs/how-to/run-with-postgresql.md": HERE,
    "docs/how-to/take-over-recover-leave.md": HERE,
    "docs/how-to/use-the-console.md": HERE,
    "docs/tutorials/quick-start.md": HERE,
}
"""Which tests read a page's code and do what it says."""


def test_every_page_with_code_is_run_by_a_test():
    with_code = {
        str(page.relative_to(ROOT))
        for page in PAGES
        if re.search(r"^ *```[a-z]", page.read_text(), re.MULTILINE)
    }
    assert with_code == set(RUN_BY)
    for page, test in RUN_BY.items():
        text = (ROOT / test).read_text()
        assert Path(page).stem in text or Path(page).parent.name in text, (page, test)


def _shell_blocks(page: str) -> list[str]:
    return blocks(page, "sh")


async def _curl(rig: Rig, block: str, **variables: str) -> str:
    script = block.replace("http://127.0.0.1:8080", rig.url).replace(
        "http://127.0.0.1:9100", rig.standin_url
    )
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-euc",
        script.replace("curl ", "curl -sS --fail-with-body "),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "XAI_KEY": rig.key, **variables},
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, (block, out)
    return out.decode()


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


@needs_curl
async def test_the_readme_s_commands_work_as_they_stand(rig: Rig, monkeypatch):
    blocks = [block for block in _shell_blocks("README.md") if "curl" in block]
    assert len(blocks) == 2
    added = await _curl(
        rig,
        blocks[0].replace(
            '"provider": "openai"', '"endpoints": {"openai_chat": "' + rig.standin_url + '/v1"}'
        ),
        OPENAI_API_KEY="sk-" + "x" * 20,
    )
    assert '"checkup":{"state":"ok"' in added
    called = await _curl(rig, blocks[1].replace("gpt-4o-mini", "demo-small"))
    assert "You said: Hello" in called


@needs_curl
async def test_the_quick_start_s_commands_work_as_they_stand(rig: Rig):
    blocks = [
        block
        for block in _shell_blocks("docs/tutorials/quick-start.md")
        if "curl" in block and "ANTHROPIC" not in block
    ]
    outputs = [await _curl(rig, block) for block in blocks]
    assert "discovered_models" in outputs[0]
    assert outputs[1].count("You said: Hello") == 3
    assert (await rig.chat("fault-429")).status == 429, "faults can be tried, as the page says"
    await rig.records(expect=4)


@needs_curl
async def test_the_how_to_commands_work_as_they_stand(rig: Rig):
    import json

    team = _shell_blocks("docs/how-to/give-a-team-its-keys.md")
    made = json.loads(await _curl(rig, team[0]))
    await _curl(rig, team[1], ACCOUNT=made["account"]["id"], KEY=made["key"]["id"])
    models, export, delete = _shell_blocks("docs/how-to/move-and-back.md")
    provider_key = await rig.add_provider_key(models=["demo-small"])
    assert "demo-small" in await _curl(rig, models)
    await _curl(rig, export.replace("> usage.csv", ""))
    assert "receipt" in await _curl(rig, delete, PROVIDER_KEY=provider_key["id"])
    notices, hook, trial = _shell_blocks("docs/how-to/notices-and-webhook.md")
    assert "items" in await _curl(rig, notices)
    assert "whsec_" in await _curl(rig, hook.replace("https://hooks.example.com", rig.standin_url))
    assert "This is a test" in await _curl(rig, trial)
    link, invite = _shell_blocks("docs/how-to/use-the-console.md")
    words = link.split()[1:]
    done = await asyncio.to_thread(run_command, *words, data_dir=rig.house.settings.data_dir)
    assert "/console/operator/" in done.stdout
    assert "/console/invitation/" in await _curl(rig, invite)
    take_over, recover = _shell_blocks("docs/how-to/take-over-recover-leave.md")
    fresh = json.loads(await _curl(rig, take_over))
    again = await _curl(rig, recover.replace("XR1-…", fresh["recovery_code"]))
    assert "recovery_code" in again


@needs_curl
async def test_the_governance_pages_commands_work_as_they_stand(rig: Rig, tmp_path: Path):
    import json

    await rig.add_provider_key(models=["demo-large", "demo-small", "claude-opus-1"])
    made = (await rig.ask("POST", "/api/v1/accounts", {"name": "team"})).json()
    names = {"ACCOUNT": made["account"]["id"]}
    rules, rehearse, why = _shell_blocks("docs/how-to/access-control.md")
    assert "would have been refused" in await _curl(rig, rehearse, **names)
    assert "effective" in await _curl(rig, rules, **names)
    told = json.loads(await _curl(rig, why, **names))
    assert told["allowed"] is True
    assert [one["name"] for one in told["plan"]] == ["standin"]
    [limits] = _shell_blocks("docs/how-to/limits-and-budgets.md")
    assert json.loads(await _curl(rig, limits, **names))["own"]["limits"]["rpm"] == 60
    [routing] = _shell_blocks("docs/how-to/routing.md")
    assert "switch_over" in await _curl(rig, routing)
    await rig.ask("PUT", "/api/v1/prices", {"demo-*": {"input": 1, "output": 2}})
    assert (await rig.chat("demo-large", key=made["api_key"])).status == 200
    await rig.records(expect=1)
    verify, keep, check = _shell_blocks("docs/how-to/check-the-records.md")
    kept = tmp_path / "checkpoint.json"
    kept.write_text(await _curl(rig, keep.replace("> checkpoint.json", "")))
    for command in (verify, check):
        words = command.replace("checkpoint.json", str(kept)).split()[1:]
        done = await asyncio.to_thread(run_command, *words, data_dir=rig.house.settings.data_dir)
        assert done.returncode == 0, done.stdout + done.stderr


async def _python(rig: Rig, code: str) -> str:
    """Run lines of Python as a reader would, in an interpreter of their own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"XAI_KEY = {rig.key!r}\n{code}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, (code, out)
    return out.decode()


@pytest.mark.slow
async def test_the_readme_s_three_sdks_work_as_they_stand(rig: Rig):
    await rig.add_provider_key()
    for code in blocks("README.md", "python", rig.url):
        await _python(rig, code)
    dialects = [record["dialect"] for record in await rig.records(expect=3)]
    assert sorted(dialects) == ["anthropic_messages", "gemini_generate", "openai_chat"]


CALLS = {
    "openai (Python)": "client.chat.completions.create(model='m', "
    "messages=[{'role': 'user', 'content': 'Hello'}])",
    "anthropic (Python)": "client.messages.create(model='m', max_tokens=9, "
    "messages=[{'role': 'user', 'content': 'Hello'}])",
    "google-genai (Python)": "client.models.generate_content(model='m', contents='Hello')",
}


@needs_curl
@pytest.mark.slow
async def test_the_console_s_snippets_work_as_they_stand(rig: Rig):
    await rig.add_provider_key()
    snippets = {one.title: one.text for one in filled(rig.url, rig.key, "demo-large")}
    assert "You said: Hello" in await _curl(rig, snippets.pop("curl"))
    for title, call in CALLS.items():
        await _python(rig, f"{snippets.pop(title)}\n{call}")
    await rig.records(expect=4)
    pages = {
        "Claude Code": "claude-code.md",
        "Codex CLI (~/.codex/config.toml)": "codex-cli.md",
        "Gemini CLI": "gemini-cli.md",
        "LangChain": "langchain.md",
    }
    assert set(snippets) == set(pages), "the others are the set-ups of their pages"
    for title, page in pages.items():
        text = (ROOT / "docs/how-to/agents" / page).read_text()
        for line in snippets[title].replace(rig.url, "http://127.0.0.1:8080").splitlines():
            told = line.partition("#")[0].replace(rig.key, "$XAI_KEY").strip()
            told = told.replace('"$XAI_KEY"', "XAI_KEY").replace("demo-large", "gpt-4o-mini")
            assert told in text, (title, told)


async def test_any_compatible_server_is_added_as_the_page_says(rig: Rig):
    import json

    [body] = [json.loads(one) for one in blocks("docs/how-to/add-a-provider.md", "json")]
    body |= {"endpoints": {"openai_chat": f"{rig.standin_url}/v1"}, "secret": SECRET}
    answer = await rig.ask("POST", "/api/v1/provider-keys", body)
    assert (answer.status, answer.json()["checkup"]["state"]) == (201, "ok")
    assert (await rig.chat("qwen3-8b")).status == 200


def test_postgresql_is_set_up_as_the_page_says():
    [sql] = blocks("docs/how-to/run-with-postgresql.md", "sql")
    [shell] = blocks("docs/how-to/run-with-postgresql.md", "sh")
    url = postgres_database(empty=True)
    psql(url, sql)
    assert "xairouter" in psql(url, "SELECT datname FROM pg_database;")
    [told] = re.findall(r"DATABASE_URL='([^']+)'", shell)
    assert load(database_url=told).effective_database_url == told
    parsed = PostgreSQL(told)._url
    assert (parsed.username, parsed.password) == ("xairouter", "a long one")
    assert dict(parsed.query) == {"ssl": "require"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("make run", "Create the first owner here"),
        ("scripts/demo --port 0", "A model named fault-429"),
        ("make help", "make demo"),
    ],
)
def test_the_commands_of_a_fresh_clone_work(tmp_path: Path, command: str, words: str):
    process = subprocess.Popen(
        command.split(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "XAIROUTER_PORT": "0", "XAIROUTER_DATA_DIR": str(tmp_path / "data")},
    )
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            break
    else:
        raise AssertionError(seen)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.stdout.close()
    process.wait(20)


def test_the_changelog_has_an_unreleased_part():
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
