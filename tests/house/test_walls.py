"""Who may import what: the contracts in pyproject.toml leave no import unguarded."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.house.reach import HARMLESS, PURE, Reach, impure, opened, unplaced
from tests.rows import for_each

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "xairouter"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
PROTECTED = [contract for contract in CONTRACTS if contract["type"] == "protected"]
[LAYERS] = [contract["layers"] for contract in CONTRACTS if contract["type"] == "layers"]
GUARDED = {module for contract in PROTECTED for module in contract["protected_modules"]}
OPENERS = {
    "xairouter.app": {"create_server"},
    "xairouter.doctor": {"open_connection"},
    "xairouter.standin.server": {"start_server"},
    "xairouter.upstream.http_client": {"create_connection", "start_connection"},
    "xairouter.upstream.names": {"getaddrinfo"},
}
"""Who opens connections and listeners, and by what; nobody starts a program in this way."""
PRICES = "xairouter.providers.prices"
"""The price list's own package is data, found by its file's name, once, when the process starts."""


def _name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


class _Reaches(dict[str, Reach]):
    """Read when a test asks: one of the two processes never does; it makes 400,000 objects."""

    def __missing__(self, name: str) -> Reach:
        self[name] = Reach(FILES[name].read_text())
        return self[name]


FILES = {_name(path): path for path in sorted(SOURCE.rglob("*.py"))}
REACHES = _Reaches()
PURE_NAMES = [name for name in FILES if name.partition(".")[2].partition(".")[0] in PURE]


def test_every_import_from_outside_is_guarded_or_harmless():
    """A library or module of Python's that nobody has placed is refused, whoever imports it."""
    wrong = {name: found for name in FILES if (found := unplaced(REACHES[name], GUARDED))}
    assert wrong == {}, "place it: a contract in pyproject.toml, or HARMLESS in reach.py"
    assert not HARMLESS.keys() & GUARDED


def test_pure_packages_compute_and_do_nothing_else():
    wrong = {name: found for name in PURE_NAMES if (found := impure(REACHES[name]))}
    price_list = {name.partition(".")[0] for name in wrong.pop(PRICES)}
    assert price_list == {"genai_prices", "importlib"}
    assert wrong == {}
    assert {name.split(".")[1] for name in PURE_NAMES} == set(PURE) - {"translate"}


def test_connections_listeners_and_programs_are_opened_by_those_that_are_listed():
    assert {name: found for name in FILES if (found := opened(REACHES[name]))} == OPENERS


BY_NAME = re.compile(r"\b(?:importlib|__import__|import_module|runpy|__builtins__|builtins)\b")


def test_nothing_is_imported_by_its_name_at_run_time():
    assert [name for name, path in FILES.items() if BY_NAME.search(path.read_text())] == [PRICES]


@for_each(
    "text",
    [
        "from http.client import HTTPSConnection",
        "import http.server",
        "from urllib.request import urlopen",
        "import urllib.request as fetching",
        "import urllib.error",
        "import smtplib",
        "import ftplib",
        "import requests",
        "from email.utils import formatdate",
        "import email.utils\nx = email.utils.make_msgid()",
        "from io import FileIO",
        "import io\nx = io.open",
        "import io\nx = io\ny = x.FileIO",
        "from gzip import GzipFile",
        "import gzip as packed\npacked.open('x')",
        "import codecs\ncodecs.open('x')",
        "from operator import methodcaller",
        "from datetime import datetime\nnow = datetime.now",
        "import datetime\ndef f(at=datetime.datetime.utcnow): ...",
        "from contextlib import os",
        "import json\njson.codecs.open('x')",
        "import csv\nf(csv)",
        "import dataclasses\ndataclasses.sys.modules",
        "from xairouter.manage.usage import io",
        "from xairouter import app\napp.os.getcwd()",
    ],
)
def test_a_planted_import_without_a_place_is_seen(text: str):
    assert unplaced(Reach(text), GUARDED)


@for_each(
    "text",
    [
        "import time",
        "from asyncio import sleep",
        "from pathlib import Path",
        "import os",
        "open('x')",
        "from datetime import datetime\nnow = datetime.now",
        "D = datetime\nD.today()",
        "field(default_factory=datetime.utcnow)",
        "getattr(datetime, 'now')(UTC)",
        "attrgetter('now')(datetime)",
        "getattr(__builtins__, '__imp' + 'ort__')('time')",
        "globals()['__builtins__']",
        "eval('1')",
        "[].__class__.__base__.__subclasses__()",
    ],
)
def test_a_planted_impurity_is_seen(text: str):
    assert impure(Reach(text))


@for_each(
    "text",
    [
        "import asyncio\nasyncio.open_connection('x', 1)",
        "from asyncio import start_server as serve",
        "loop.create_connection(None, 'x', 1)",
        "connect = loop.sock_connect",
        "asyncio.create_subprocess_exec('x')",
    ],
)
def test_a_planted_connection_is_seen(text: str):
    assert opened(Reach(text))


@for_each("text", ["importlib.util", "__import__('time')", "from runpy import x"])
def test_a_planted_import_by_name_is_seen(text: str):
    assert BY_NAME.search(text)


def _is_allowed(package: str, contract: dict[str, list[str]]) -> bool:
    """Whether a new module of a package may import what the contract protects."""
    return any(
        package == importer or package.startswith(importer + ".")
        for importer in contract["allowed_importers"]
    )


def _upward() -> list[tuple[str, str]]:
    """Every part of a layer with each of the layer above it, and with its neighbours beside it."""
    layers = [[part.strip() for part in layer.split("|")] for layer in LAYERS]
    pairs = [
        (below, above) for higher, lower in pairwise(layers) for below in lower for above in higher
    ]
    pairs += [(one, other) for layer in layers for one in layer for other in layer if one != other]
    return [(f"xairouter.{below}", f"xairouter.{above}") for below, above in pairs]


def _plant(folder: Path, importer: str, imported: str) -> str:
    """Add an import to a part of the copy: in a new module of a package, at the end of a module.
    The importing module's name."""
    place = folder / "src" / Path(*importer.split("."))
    if place.is_dir():
        importer, place = f"{importer}.planted", place / "planted"
    with place.with_suffix(".py").open("a") as file:
        file.write(f"\nimport {imported}\n")
    return importer


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, str]:
    """Every import that is not allowed, planted in a copy of the tree, in a new module of each
    package and of a package that does not exist yet; and what the linter says of it."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copytree(
        SOURCE, copy / "src" / "xairouter", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", copy)
    packages = [p for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"]
    expected: set[tuple[str, str]] = set()
    for package in [*(path.name for path in packages), "newcomer"]:
        module = f"xairouter.{package}.planted"
        wrong = {
            protected
            for contract in PROTECTED
            if not _is_allowed(module, contract)
            for protected in contract["protected_modules"]
            # A package may import itself.
            if not module.startswith(protected + ".")
        }
        folder = copy / "src" / "xairouter" / package
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "planted.py").write_text("".join(f"import {name}\n" for name in sorted(wrong)))
        expected |= {(module, name) for name in wrong}
    upward = {(_plant(copy, below, above), above) for below, above in _upward()}
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return expected, upward, done.stdout


def _said(output: str, layers: bool) -> set[tuple[str, str]]:
    """The imports that the linter names, in the contract of the layers or in the others."""
    _, _, broken = output.partition("Broken contracts")
    sections = re.split(r"\n(?=[^\n]+\n-{5,}\n)", broken)
    chosen = [one for one in sections if ("imports go down the stairs" in one) is layers]
    pattern = r"(xairouter[\w.]*) -> ([\w.]+)"
    return set(re.findall(pattern, " ".join(" ".join(chosen).split())))


def test_every_planted_import_is_caught(planted: tuple[Any, Any, str]):
    expected, _, output = planted
    assert len(expected) > 500
    assert expected - _said(output, layers=False) == set()


def test_every_planted_step_up_or_aside_is_caught(planted: tuple[Any, Any, str]):
    _, upward, output = planted
    assert len(upward) > 50
    assert upward - _said(output, layers=True) == set()


def test_a_package_without_a_place_is_caught(planted: tuple[Any, Any, str]):
    said = " ".join(planted[2].split())
    assert "The following modules are not listed as layers: - xairouter.newcomer" in said
