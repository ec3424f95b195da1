"""Take one guard after the other out of the code and see that a test notices: ``make weaken``.

The list is tests/weakened.toml. Each build is a copy of the tree with one place changed; a build whose
tests pass is a guard that nobody would miss, and the exit status is 1.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ("src", "tests", "bench", "docs", "scripts", "cluster", "deploy", "requirements", ".ci")
SECONDS = 300


def copy_to(folder: Path) -> None:
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder / path.name)


def is_noticed(folder: Path, row: dict[str, str]) -> bool:
    """Whether the row's tests fail in the copy."""
    only = ["-k", row["only"]] if "only" in row else []
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", *row["tests"].split(), *only],
            cwd=folder,
            env={
                "PATH": "/usr/bin:/bin:/usr/local/bin",
                "PYTHONPATH": str(folder / "src"),
                "XAIROUTER_TEST_EXAMPLES": "200",
            },
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True  # A test that hangs fails in the suite, by its deadline or CI's.
    if done.returncode not in (0, 1):
        raise SystemExit(f"{row['kind']}: its tests did not run.\n{done.stdout.decode()}")
    return done.returncode == 1


def main() -> int:
    rows = tomllib.loads((ROOT / "tests" / "weakened.toml").read_text())["weakened"]
    chosen = [row for row in rows if all(word in row["kind"] for word in sys.argv[1:])]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="weakened-") as place:
        folder = Path(place) / "tree"
        folder.mkdir()
        copy_to(folder)
        for row in chosen:
            path = folder / row["file"]
            whole = path.read_text()
            if whole.count(row["was"]) != 1:
                raise SystemExit(f"{row['kind']}: its place in {row['file']} is gone.")
            path.write_text(whole.replace(row["was"], row["now"]))
            noticed = is_noticed(folder, row)
            path.write_text(whole)
            missed += not noticed
            print(f"{'noticed' if noticed else 'MISSED '}  {row['kind']}", flush=True)
    print(f"{len(chosen)} weakened builds, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
