"""All words of the console stand in one place, each is used, and a translation is a file."""

import ast
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import Markup

from tests.rows import for_each
from xairouter.console.navigation import ROOMS
from xairouter.console.words import Words, languages, words_for

CONSOLE = Path(__file__).parents[3] / "src" / "xairouter" / "console"
TEMPLATES = sorted((CONSOLE / "templates").glob("*.html"))
MODULES = sorted(path for path in CONSOLE.rglob("*.py") if path.name != "show.py")
NAMES_OF_OURS = {"XAI Router", "→", "·", "—", "/", "%", "$", "…", "x"}
ENGLISH = languages()["en"]
KEYS = set(ENGLISH._entries)


def _asked_for() -> tuple[set[str], set[str]]:
    """(whole keys, fronts of keys that are put together) that templates and modules ask for."""
    whole: set[str] = set()
    fronts = {"time.", "status."}
    for path in [*TEMPLATES, *MODULES, CONSOLE / "show.py"]:
        text = path.read_text()
        for key in re.findall(r"[\"']([a-z][a-z_0-9]*\.[a-z_0-9.]*)[\"']", text):
            (fronts if key.endswith((".", "_")) else whole).add(key)
        fronts |= set(re.findall(r"f\"([a-z_]+\.[a-z_]*)\{", text))
    return whole, fronts


def _is_asked(key: str, whole: set[str], fronts: set[str]) -> bool:
    plain = key.removesuffix(".one").removesuffix(".other")
    return plain in whole or any(plain.startswith(front) for front in fronts)


def test_every_word_is_used():
    whole, fronts = _asked_for()
    assert [key for key in sorted(KEYS) if not _is_asked(key, whole, fronts)] == []


def test_every_word_that_is_asked_for_exists():
    asked = set()
    for path in [*TEMPLATES, *MODULES]:
        found = re.findall(r"\b(?:t|words)\(\s*[\"']([a-z_0-9.]+)[\"']\s*[,)]", path.read_text())
        asked |= set(found)
    known = KEYS | {key.rpartition(".")[0] for key in KEYS}
    assert sorted(asked - known) == []
    for room in ROOMS:
        assert f"rooms.{room.name}" in KEYS


class _Text(HTMLParser):
    """Collects what a reader sees, and what is said to one who does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            value or "" for name, value in attrs if name in ("title", "aria-label", "alt")
        ]
        self.found += [value or "" for name, value in attrs if name == "placeholder"]


@for_each("path", TEMPLATES)
def test_no_template_says_anything_by_itself(path: Path):
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", " ", path.read_text(), flags=re.DOTALL)
    text = re.sub(r"^\s*aria-[a-z]+=.*$", " ", text, flags=re.MULTILINE)
    reader = _Text()
    reader.feed(re.sub(r"<(code|pre)[^>]*>.*?</\1>", " ", text, flags=re.DOTALL))
    said = {
        word
        for part in reader.found
        for word in re.findall(r"[A-Za-z]{3,}[^<]*", part.replace("XAI Router", ""))
        if not re.fullmatch(r"gpt[\w.*-]*", word.strip())
    }
    assert said == set()


def test_what_is_put_into_words_is_escaped():
    words = Words("xx", {"a": "Hello <b>{name}</b>", "n.one": "{count} x", "n.other": "{count} xs"})
    assert words("a", name="<script>") == Markup("Hello <b>&lt;script&gt;</b>")
    assert words("n", 1) == "1 x"
    assert words("n", 12345) == "12,345 xs"
    with pytest.raises(KeyError):
        words("nobody.knows")


def test_a_translation_says_what_it_has_and_the_rest_in_english():
    french = Words("fr", {"acts.save": "Enregistrer"}, ENGLISH)
    assert french("acts.save") == "Enregistrer"
    assert french("acts.cancel") == ENGLISH("acts.cancel")
    assert french("keys.count", 2) == "2 keys"
    assert not french.has("nobody.knows")


@pytest.mark.parametrize(
    "header", ["", "fr", "de-DE,de;q=0.9", "en-GB;q=0.1", "*", ";q=x", "en;q=abc,", "," * 500]
)
def test_whatever_a_browser_asks_for_there_is_a_language(header: str):
    assert words_for(header).language == "en"


def test_every_module_of_the_rooms_says_nothing_by_itself_but_through_words():
    """String constants that look like sentences stand only in docstrings and refusals."""
    wrong = []
    for path in sorted((CONSOLE / "rooms").glob("*.py")):
        tree = ast.parse(path.read_text())
        told = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ManageError"
            for part in ast.walk(node)
        }
        documented = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        documented |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict) or not isinstance(node, ast.Constant):
                continue
            if id(node) in told | documented or not isinstance(node.value, str):
                continue
            if re.match(r"[A-Z][a-z]+ [a-z]+ ", node.value):
                wrong.append((path.name, node.value))
    assert wrong == []
