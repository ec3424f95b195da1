"""The documentation as the console shows it: Markdown from ``docs/``, searched without any network.

The files are the project's own, so their text is trusted as far as Markdown goes; markup in them is
shown and not run.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markupsafe import Markup

_PACKAGE = Path(__file__).parent.parent
PLACES = (_PACKAGE / "docs", _PACKAGE.parent.parent / "docs")
"""In an installed package, or in a clone."""
FIRST = (
    "tutorials/quick-start",
    "how-to/access-control",
    "faq",
)
_KINDS = ("tutorials", "how-to", "reference", "explanation", "")
MOST_FOUND = 30


@dataclass(frozen=True, slots=True)
class Document:
    """A page: its name without ``.md``, its title, its text, and its rendering."""

    name: str
    title: str
    text: str
    html: Markup

    @property
    def kind(self) -> str:
        """The folder it lies in, ``""`` at the top."""
        return self.name.rpartition("/")[0].partition("/")[0]


@dataclass(frozen=True, slots=True)
class Found:
    """A page that holds every word, and the line that says the most of them."""

    document: Document
    line: str


@cache
def library() -> Mapping[str, Document]:
    """Every page but the decisions, by name, in the order of the kinds."""
    place = next((place for place in PLACES if place.is_dir()), None)
    if place is None:
        return {}
    names = {
        str(PurePosixPath(path.relative_to(place).as_posix()).with_suffix("")): path
        for path in sorted(place.rglob("*.md"))
        if "decisions" not in path.parts
    }
    made = [_read(name, path.read_text(encoding="utf-8"), names) for name, path in names.items()]
    made.sort(key=lambda one: (one.name not in FIRST, _KINDS.index(one.kind), one.title))
    return {one.name: one for one in made}


def search(text: str) -> list[Found]:
    """Pages that hold every word of a text, those that say it in their title first."""
    words = [word for word in re.findall(r"\w+", text.lower()) if word][:10]
    if not words:
        return []
    found = []
    for one in library().values():
        low = one.text.lower()
        if all(word in low for word in words):
            lines = [_plain(line) for line in one.text.splitlines() if line.strip()]
            line = max(lines, key=lambda each: sum(word in each.lower() for word in words))
            title = sum(word in one.title.lower() for word in words)
            found.append((-title, -sum(low.count(word) for word in words), Found(one, line[:240])))
    found.sort(key=lambda hit: hit[:2])
    return [hit for _, _, hit in found[:MOST_FOUND]]


def _plain(line: str) -> str:
    """A line of Markdown without its marks."""
    line = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.strip(" #|-*"))
    return line.replace("`", "").replace("**", "").replace(" | ", " · ")


def _read(name: str, text: str, names: Mapping[str, Path]) -> Document:
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = markdown.parse(text)
    title = name
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            plain = tokens[number + 1].content
            if token.tag == "h1" and title == name:
                title = re.sub(r"[`*]", "", plain)
            token.attrSet("id", _anchor(plain))
        elif token.type == "table_open" or token.type in ("fence", "code_block"):
            token.attrSet("tabindex", "0")
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", _link(str(child.attrGet("href") or ""), name, names))
    html = markdown.renderer.render(tokens, markdown.options, {})
    # Code blocks scroll by themselves, so the keyboard must reach them.
    html = html.replace("<pre><code", '<pre tabindex="0"><code')
    return Document(name, title, text, Markup(html))  # noqa: S704 -- rendered from our own files


def _link(href: str, name: str, names: Mapping[str, Path]) -> str:
    """A link between pages as one between pages of the console; others stay what they are."""
    parts = urlsplit(href)
    if parts.scheme or parts.netloc or not parts.path:
        return href
    folder = PurePosixPath(name).parent
    steps: list[str] = []
    for step in (*folder.parts, *PurePosixPath(parts.path).parts):
        if step == "..":
            if not steps:
                return "/console/help"
            steps.pop()
        elif step != ".":
            steps.append(step)
    target = "/".join(steps).removesuffix(".md")
    if target not in names:
        return "/console/help"
    return f"/console/help/{target}" + (f"#{parts.fragment}" if parts.fragment else "")


def _anchor(heading: str) -> str:
    """As code hosts make them: lower case, words joined by hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def by_kind() -> Iterator[tuple[str, list[Document]]]:
    """The pages by kind, the first steps as a kind of their own."""
    pages = [one for one in library().values() if not one.name.endswith("README")]
    yield "first", [one for one in pages if one.name in FIRST]
    for kind in _KINDS[:-1]:
        yield kind, [one for one in pages if one.kind == kind and one.name not in FIRST]
