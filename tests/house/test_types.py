"""What would raise at a call's end, and cost it its record, is found by the type checker."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

PLANTED = [
    ("gateway/bookkeeping.py", "        output_tokens=usage.", "output_tokens"),
    ("gateway/bookkeeping.py", "        error_code=code,", "error_code"),
    ("gateway/watching.py", "ReplyFields(provider_object_id=", "provider_object_id"),
    ("gateway/sending.py", "return Outcome.COMPLETED", "COMPLETED"),
    ("ledger/book.py", "            model_used=", "model_used"),
    ("policy/routing.py", "key.health != KeyHealth.OK", "OK"),
    ("policy/access.py", "ErrorCode.IP_NOT_ALLOWED", "IP_NOT_ALLOWED"),
    ("gateway/running.py", "call.cut(CutReason.UNSURE)", "UNSURE"),
    ("gateway/running.py", 'if view.settings.on_revoke == "finish":', "finish"),
    ("gateway/pipeline.py", 'settings.on_client_gone == "cancel"', "cancel"),
    ("policy/limits.py", 'settings.unpriced != "allow"', "allow"),
    ("cli/serving.py", "finding.state is State.BAD", "BAD"),
    ("storage/operations.py", "columns.result == DONE", "DONE"),
]
"""(file, a place that stands in it once, the word there whose last letter is lost)."""
SPELT = [
    (
        "gateway/pipeline.py",
        "close(parts, work, outcome, code)",
        "close(parts, work, outcome, 'x')",
        "ErrorCode",
    ),
    ("policy/windows.py", '"month", MONEY, MONTH', '"month", "mony", MONTH', "Unit"),
    ("policy/windows.py", '"total", MONEY, EVER', '"total", MONEY, "evr"', "Period"),
    ("manage/herald.py", "(owner_id, Notice.KEY_SLEEPING", '(owner_id, "slepping"', "Notice"),
    ("manage/notices.py", "state = Delivery.WAITING", 'state = "wating"', "Delivery"),
    ("manage/owners.py", "actor=ActedBy.RECOVERY", 'actor="recvery"', "ActedBy"),
    ("manage/desk.py", "made.target_id, DONE", 'made.target_id, "okk"', "ErrorCode"),
    ("doctor.py", '("database", State.NOTE', '("database", "noet"', "State"),
]
"""(file, a place that stands in it once, a word put there, the type that the checker misses)."""


def test_what_is_planted_stands_in_the_code_once():
    assert all(word in place for _, place, word in PLANTED)
    for name, place, *_ in (*PLANTED, *SPELT):
        assert (ROOT / "src" / "xairouter" / name).read_text().count(place) == 1, (name, place)


@pytest.mark.slow
def test_misspelt_fields_and_states_are_found(tmp_path: Path):
    """All are planted in one copy of the tree, for a run of the checker takes half a minute."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name, place, word in PLANTED:
        path = tmp_path / "src" / "xairouter" / name
        path.write_text(path.read_text().replace(place, place.replace(word, word[:-1])))
    for name, place, put, _ in SPELT:
        path = tmp_path / "src" / "xairouter" / name
        path.write_text(path.read_text().replace(place, put))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "src"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = done.stdout.splitlines()
    for name, _, word in PLANTED:
        told = re.compile(rf"['\"]{word[:-1]}['\"]")
        assert any(name in line and told.search(line) for line in lines), (name, word, lines)
    for name, _, put, kind in SPELT:
        told = re.compile(rf'expected "[^"]*\b{kind}\b|variable has type "{kind}"')
        assert any(name in line and told.search(line) for line in lines), (name, put, lines)
    assert done.returncode == 1
