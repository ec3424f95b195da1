"""Every path, module, command and setting that a page or a docstring names is there."""

import ast
import re
from pathlib import Path

from tests.rows import for_each
from xairouter.settings import Settings

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "xairouter"
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("bench/*.md"), *(ROOT / "docs").rglob("*.md")]
    if path.name != "CHANGELOG.md"  # it speaks of what was, too
)
MODULES = sorted(
    path
    for folder in ("src", "tests", "scripts", "bench", "cluster")
    for path in (ROOT / folder).rglob("*.py")
    if "migrations" not in path.parts
)
CODE = re.compile(r"`+([^`\n]+)`+")
FILE = re.compile(r"(?<![\w/.*<{-])((?:[\w.-]+/)*[\w-]+\.(?:py|md|toml|sh|yaml|yml|css|js|html))\b")
FOLDER = re.compile(
    r"(?<![\w/.*<{:-])((?:src|tests|scripts|docs|bench|cluster|deploy|requirements)(?:/[\w.-]+)+/?)"
)
DOTTED = re.compile(r"\bxairouter((?:\.\w+)+)\b")
MAKE = re.compile(r"\bmake ([a-z][a-z-]*)\b")
SETTING = re.compile(r"\bXAIROUTER_[A-Z][A-Z_]*[A-Z]\b")
OUTSIDE = {"config.toml", "extra-openai-models.yaml", "server-sent-events.html"}
"""Files of other programs, or of the reader's."""
MADE = {"bench/peers"}
"""What a command of ours makes."""
DATA = {"db", "service", "json"}
"""Endings of files that are called ``xairouter``."""


def _is_there(name: str, near: Path) -> bool:
    """Whether a path exists, seen from the root, the package, the tests, or the naming file."""
    places = [ROOT, SOURCE, ROOT / "tests", ROOT / "src", *near.parents]
    return any((place / name).exists() for place in places if ROOT in (place, *place.parents))


def _module_is_there(dotted: str) -> bool:
    """Whether ``.a.b.c`` is a module of the package, or something that one of its modules names."""
    parts = dotted.strip(".").split(".")
    for length in range(len(parts), 0, -1):
        path = SOURCE.joinpath(*parts[:length])
        file = (
            path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        )
        if file.is_file():
            rest = parts[length : length + 1]
            return not rest or bool(re.search(rf"\b{rest[0]}\b", file.read_text()))
    return False


def _missing(text: str, near: Path) -> list[str]:
    found = [name for name in FILE.findall(text) if name.rpartition("/")[2] not in OUTSIDE]
    found += FOLDER.findall(text)
    found = [name for name in dict.fromkeys(found) if name not in MADE]
    modules = [name for name in DOTTED.findall(text) if name.strip(".") not in DATA]
    return [name for name in found if not _is_there(name.rstrip("/."), near)] + [
        f"xairouter{name}" for name in modules if not _module_is_there(name)
    ]


def _docstrings(path: Path) -> str:
    """Docstrings and comments of a module, and the strings that stand below a constant."""
    text = path.read_text()
    strings = [
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    return "\n".join([*strings, *re.findall(r"^\s*#\s(.*)$", text, re.MULTILINE)])


@for_each("page", PAGES)
def test_what_a_page_names_is_there(page: Path):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert _missing("\n".join(CODE.findall(text)), page) == []


def test_what_a_docstring_or_comment_names_is_there():
    missing = {
        str(path.relative_to(ROOT)): names
        for path in MODULES
        if (names := _missing(_docstrings(path), path))
    }
    assert missing == {}


def test_every_target_of_make_and_every_setting_that_a_page_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    settings = {f"XAIROUTER_{name.upper()}" for name in Settings.model_fields}
    for page in PAGES:
        text = page.read_text()
        assert {n for code in CODE.findall(text) for n in MAKE.findall(code)} <= targets, page
        unknown = {
            name
            for name in SETTING.findall(text)
            if name not in settings and not name.startswith(("XAIROUTER_TEST_", "XAIROUTER_BENCH"))
        }
        assert unknown == set(), page
