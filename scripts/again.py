"""Ask failed tests once more, one after the other and with nothing beside them.

``again.py RESULTS`` reads pytest's JUnit file. Exit 0 where each passes now; each is named, since it
failed in company. More than ``MOST`` failures are no accident and are not asked again.
"""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

MOST = 5


def failed(results: Path) -> list[str] | None:
    """The failed tests' ids, None where the file does not tell them all."""
    try:
        tree = ElementTree.parse(results)  # noqa: S314 -- written by pytest a moment ago
    except (ElementTree.ParseError, OSError):
        return None
    found = []
    for case in tree.iter("testcase"):
        if case.find("failure") is None and case.find("error") is None:
            continue
        path = Path(*case.get("classname", "").split(".")).with_suffix(".py")
        if not path.is_file():
            return None  # The collection broke off, or a whole process died.
        found.append(f"{path}::{case.get('name')}")
    return list(dict.fromkeys(found))


def main() -> int:
    again = failed(Path(sys.argv[1]))
    if not again or len(again) > MOST:
        return 1
    print(f"\nAsked once more, alone: {', '.join(again)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "pytest", *again], check=False)
    if done.returncode == 0:
        print(f"UNSTEADY, passed only alone: {', '.join(again)}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
