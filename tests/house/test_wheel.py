"""What the built package holds: our modules and migrations, nothing else."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


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
        r"xairouter/[\w/]+\.py|xairouter/console/(templates/\w+\.html|static/\w+\.(css|js|svg))|xairouter-[\w.]+\.dist-info/[\w./]+"
    )
    assert not [name for name in names if not allowed.fullmatch(name)]
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert sources <= names
