"""What the built package holds: our modules, the console's files and the documentation, nothing else."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    allowed = re.compile(
        r"xairouter/[\w/]+\.py"
        r"|xairouter/console/(templates/\w+\.html|static/\w+\.(css|js|svg)|words/[\w-]+\.toml)"
        r"|xairouter/console/static/vendor/[\w.-]+\.(css|js|woff2|md)"
        r"|xairouter/docs/[\w/-]+\.(md|json)"
        r"|xairouter-[\w.]+\.dist-info/[\w./]+"
    )
    assert not [name for name in names if not allowed.fullmatch(name)]
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert sources <= names
    documents = {f"xairouter/{path.relative_to(ROOT)}" for path in (ROOT / "docs").rglob("*.md")}
    assert documents <= names, "the console shows the documentation"


@pytest.mark.slow
def test_the_same_source_makes_the_same_wheel(tmp_path: Path):
    """From two folders, with files of other dates: byte for byte the same."""
    digests = set()
    for number, date in (("one", 1_500_000_000), ("two", 1_700_000_000)):
        copy = tmp_path / number / "source"
        for name in ("src", "docs"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy / name)
        for path in copy.rglob("*"):
            os.utime(path, (date, date))
        subprocess.run(
            [
                sys.executable,
                "-m",
                "hatchling",
                "build",
                "-t",
                "wheel",
                "-d",
                str(tmp_path / number),
            ],
            cwd=copy,
            check=True,
            capture_output=True,
        )
        [wheel] = (tmp_path / number).glob("*.whl")
        digests.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_the_bill_of_materials_names_every_locked_package_with_its_hashes():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "sbom.py")], capture_output=True, check=True
    )
    bill = json.loads(done.stdout)
    lock = (ROOT / "requirements" / "runtime.txt").read_text()
    pinned = {f"{n}@{v}" for n, v in re.findall(r"^([a-z0-9_.-]+)==([^\s;\\]+)", lock, re.M)}
    listed = {one["purl"].removeprefix("pkg:pypi/") for one in bill["components"]}
    assert pinned == listed
    assert all(one["hashes"] for one in bill["components"])
    assert len(re.findall(r"--hash=", lock)) == sum(len(c["hashes"]) for c in bill["components"])


def test_what_is_vendored_is_what_its_page_says():
    folder = ROOT / "src" / "xairouter" / "console" / "static" / "vendor"
    rows = re.findall(
        r"^\| `([\w.-]+)` \|.*`([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.M
    )
    there = {path.name for path in folder.iterdir()} - {"README.md"}
    assert {name for name, _ in rows} == there
    for name, digest in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
