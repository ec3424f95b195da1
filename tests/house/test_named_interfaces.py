"""Every command, option, operation of the API, metric, make target and test that a page names is there,
whether it stands in prose, in backticks or between fences; and the map draws the contract's layers."""

import re
import tomllib
from pathlib import Path
from typing import Any

import typer.main

from tests.house.test_named_things import PAGES, ROOT
from tests.rows import for_each
from xairouter.api.application import management_app
from xairouter.cli import app
from xairouter.dialects.paths import find
from xairouter.observe import Metrics

TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
DEPLOYED = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted((ROOT / "deploy").rglob("*"))
    if path.is_file()
}
RUN = re.compile(r"(?:^[ \t]*(?:\$ )?|[`;&|(] ?)xairouter ([a-z-][^\n`|;#&)]*)", re.MULTILINE)
METHOD = r"(?:GET|POST|PUT|PATCH|DELETE)"
OPERATION = re.compile(rf"\b({METHOD}(?:·{METHOD})*) (/[^\s`\"'),;]*)")
METRIC = re.compile(r"\bxairouter_[a-z][a-z_]*[a-z]\b")
TEST = re.compile(r"\btests/([\w/]+\.py)::(\w+)")
MAKE = re.compile(r"^[ \t]*(?:\$ )?make ([a-z][a-z-]*)|`make ([a-z][a-z-]*)", re.MULTILINE)
COMMANDS: Any = typer.main.get_command(app)
API = management_app().openapi()["paths"]
OTHERS = {("GET", path) for path in ("/", "/healthz", "/readyz", "/metrics", "/team/list")}
"""Beside the API and the data plane; the last one is another gateway's."""
ABSENT = {"docs/decisions/0006-left-out.md": {"export", "xairouter"}}
"""Commands, and a source of an import, that a page says we do not have."""


def _unknown_command(line: str) -> str | None:
    """The first word or option of a command line that there is not."""
    command = COMMANDS
    for word in line.split():
        commands = getattr(command, "commands", {})
        name, _, _ = word.partition("=")
        if word.startswith("--"):
            known = [one for option in command.params for one in option.opts]
            if name not in {*known, "--help", "--version"}:
                return name
        elif commands:
            if not re.fullmatch(r"[a-z-]+", word):
                return None  # ``owner …``: any of them.
            if word not in commands:
                return word
            command = commands[word]
    return None


def _unknown_operations(methods: str, path: str) -> list[str]:
    """The methods that a path does not have; ``…`` and ``{id}`` stand for anything."""
    path = path.partition("?")[0].rstrip(".:*…") or "/"
    asked = re.sub(r"\{[^}]*\}|<[^>]*>|…", "x", path)
    shapes = {re.sub(r"\{[^}]*\}", r"[^/]+", known): set(rows) for known, rows in API.items()}
    wrong = []
    for method in methods.split("·"):
        is_api = any(
            re.fullmatch(shape, prefix + asked) and method.lower() in rows
            for shape, rows in shapes.items()
            for prefix in ("", "/api/v1")
        )
        is_call = asked.startswith("/v1") and find(method, asked.encode()) is not None
        if not is_api and not is_call and (method, path) not in OTHERS:
            wrong.append(f"{method} {path}")
    return wrong


def _metrics() -> set[str]:
    return {
        family.name + suffix
        for family in Metrics().registry.collect()
        for suffix in ("", "_total", "_bucket", "_sum", "_count")
    }


def test_every_command_and_option_that_a_page_names_exists():
    seen, wrong = set(), {}
    for page, text in TEXTS.items():
        lines = {line.strip() for line in RUN.findall(text)}
        seen |= {line.split()[0] for line in lines}
        unknown = {word for line in lines if (word := _unknown_command(line))}
        if unknown - ABSENT.get(page, set()):
            wrong[page] = unknown
    assert wrong == {}
    assert {"serve", "owner", "import", "migrate", "doctor"} <= seen


def test_every_operation_that_a_page_names_exists():
    found = {
        page: [one for said in OPERATION.findall(text) for one in _unknown_operations(*said)]
        for page, text in TEXTS.items()
    }
    assert {page: wrong for page, wrong in found.items() if wrong} == {}
    assert sum(len(OPERATION.findall(text)) for text in TEXTS.values()) > 100


def test_every_metric_that_a_page_a_dashboard_or_an_alert_names_exists():
    known = _metrics()
    named = {where: set(METRIC.findall(text)) for where, text in (TEXTS | DEPLOYED).items()}
    assert {where: names - known for where, names in named.items() if names - known} == {}
    assert sum(map(len, named.values())) > 20


def test_every_test_that_a_page_names_exists():
    wrong = [
        (page, file, name)
        for page, text in TEXTS.items()
        for file, name in TEST.findall(text)
        if f"def {name}(" not in (ROOT / "tests" / file).read_text()
    ]
    assert wrong == []


def test_every_target_of_make_between_fences_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name for text in TEXTS.values() for pair in MAKE.findall(text) for name in pair if name
    }
    assert named - targets == set()
    assert "run" in named, "README's own fence is among them"


@for_each(
    "line",
    [
        "serv",
        "serve --prot 80",
        "owner creat NAME",
        "import litelm FILE",
        "owner create NAME --invited",
        "migrate --form a --to b",
    ],
)
def test_a_command_that_is_not_there_is_seen(line: str):
    assert _unknown_command(line)


@for_each(
    "said",
    [
        ("GET", "/api/v1/acounts"),
        ("PUT", "/api/v1/accounts/{id}"),
        ("GET·POST", "/api/v1/routing"),
        ("POST", "/explian"),
        ("GET", "/v1/modles"),
        ("DELETE", "/healthz"),
    ],
)
def test_an_operation_that_is_not_there_is_seen(said: tuple[str, str]):
    assert _unknown_operations(*said)


def test_a_metric_that_is_not_there_is_seen():
    assert "xairouter_calls_total" in _metrics()
    assert not {"xairouter_cals_total", "xairouter_journal_megabytes"} & _metrics()


def test_the_map_draws_the_layers_of_the_contract():
    _, _, house = TEXTS["ARCHITECTURE.md"].partition("## The house")
    drawn = re.findall(r"^(\w+(?: │ \w+)*)", house.split("```")[1], re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [one["layers"] for one in contracts["contracts"] if one["type"] == "layers"]
    assert [set(row.split(" │ ")) for row in drawn] == [
        set(row.split(" | ")) for row in layers if row != "__main__"
    ]


def test_the_pages_are_found():
    assert {"README.md", "SECURITY.md", "docs/reference/management-api.md"} <= set(TEXTS)
    assert any(Path(name).suffix == ".json" for name in DEPLOYED)
