"""The benchmarks still run; what they measure is looked at by people."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_benchmarks_still_run():
    done = subprocess.run(
        [sys.executable, "bench/run.py", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 10
    assert all(re.search(r"\d", row) for row in rows[2:])


def test_the_console_s_pages_can_be_measured():
    done = subprocess.run(
        [sys.executable, "bench/console.py", "2000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if " ms  first" in line]
    assert len(rows) > 25
    assert "slowest:" in done.stdout
