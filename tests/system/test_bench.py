"""The benchmarks still run; what they measure is looked at by people."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent


def _run(script: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, f"bench/{script}.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_benchmarks_still_run():
    """Every scenario but the peers', which are not installed here."""
    rows = [
        line for line in _run("run", "--quick", "--no-peers").splitlines() if line.startswith("| ")
    ]
    assert len(rows) > 35
    assert all(re.search(r"\d", row.rpartition("| ")[0]) for row in rows[2:])


def test_runs_are_compared_by_their_ratio_to_nginx(tmp_path: Path):
    def kept(name: str, nginx: float, router: float) -> str:
        rounds = {"nginx": [nginx] * 5, "router": [router * 0.99, router, router, router, router]}
        row = {"scenario": "json", "what": "CPU", "unit": "µs", "rounds": rounds}
        (tmp_path / name).write_text(json.dumps({"rows": [row]}))
        return str(tmp_path / name)

    was = kept("a.json", 10, 200)
    # A machine half as fast is no worse; less work for the same is better, more is worse.
    assert _run("run", "--compare", was, kept("b.json", 20, 400)).splitlines()[1].startswith("same")
    assert (
        _run("run", "--compare", was, kept("c.json", 10, 150)).splitlines()[1].startswith("better")
    )
    assert (
        _run("run", "--compare", was, kept("d.json", 10, 260)).splitlines()[1].startswith("worse")
    )


def test_a_call_takes_no_more_room_on_disk_than_it_did():
    """docs/explanation/disk.md has these figures; a smaller run has more of sums in each call."""
    rows = [line.rsplit(None, 1) for line in _run("disk", "--calls", "4000").splitlines()]
    sizes = {name.strip(): float(size) for name, size in rows}
    assert 0 < sizes["bytes per call"] < 1010
    assert 0 < sizes["chain"] < 155


def test_the_console_s_pages_can_be_measured():
    told = _run("console", "2000")
    rows = [line for line in told.splitlines() if " ms  first" in line]
    assert len(rows) > 25
    assert "slowest:" in told


def test_a_call_and_an_event_take_no_more_than_they_did():
    """Counted, not timed: this says the same on a busy machine. Pythons differ by a few per cent."""
    told = _run("counts")
    found = re.findall(r"bytecodes of a (.*?) \(.*\): ([\d,]+)", told)
    counts = {what: int(count.replace(",", "")) for what, count in found}
    assert 10_000 < counts["JSON call"] < 15_000
    assert 150 < counts["streamed event"] < 315
