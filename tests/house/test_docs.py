"""The docs tell the truth: links, named tests, snippets, settings, generated pages."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig import Rig

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
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


def _shell_blocks(page: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


async def _curl(rig: Rig, block: str, **variables: str) -> str:
    import asyncio

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
    take_over, recover = _shell_blocks("docs/how-to/take-over-recover-leave.md")
    fresh = json.loads(await _curl(rig, take_over))
    again = await _curl(rig, recover.replace("XR1-…", fresh["recovery_code"]))
    assert "recovery_code" in again


def test_the_changelog_has_an_unreleased_part():
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
