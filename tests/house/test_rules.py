"""The house rules that a program can check."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from xairouter.providers.table import PROVIDERS

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "xairouter"
FILES = sorted(path for path in SOURCE.rglob("*.py") if "migrations" not in path.parts)
TREES = {path: ast.parse(path.read_text()) for path in FILES}
NOT_NAMES = {
    "utils",
    "helpers",
    "common",
    "misc",
    "core",
    "base",
    "manager",
    "handler",
    "service",
    "impl",
}
BROAD = {
    "gateway/asgi.py",
    "gateway/pipeline.py",
    "ledger/drain.py",
    "directory/directory.py",
    "manage/expire.py",
    "manage/herald.py",
    "manage/refresh.py",
    "app.py",
    "cli/__init__.py",
    "cli/asking.py",
    "directory/bus.py",
}
"""The two edges, the background loops, the command line, and the start's self-test."""
RUNS_PROGRAMS = {"workers.py"}
"""The supervisor starts this very program, with no word from outside."""
TABLES = {"standin/replies.py", "standin/faults.py"}
"""Long because they are lists of like things: dialect replies, faults."""


def _name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def _functions(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_rooms_are_small():
    long = {_name(path): len(path.read_text().splitlines()) for path in FILES}
    assert {n: size for n, size in long.items() if size > 400 and n not in TABLES} == {}


def test_functions_are_small_and_take_few_parameters():
    wrong = []
    for path, tree in TREES.items():
        for node in _functions(tree):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            arguments = node.args
            count = (
                len(arguments.args)
                + len(arguments.kwonlyargs)
                - (bool(arguments.args) and arguments.args[0].arg in ("self", "cls"))
            )
            if size > 70 or (count > 7 and _name(path) not in TABLES):
                wrong.append((_name(path), node.name, size, count))
    assert wrong == []


def test_no_global_state_and_no_forbidden_names():
    for path, tree in TREES.items():
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)], path
        assert path.stem not in NOT_NAMES, path
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                assert not node.name.endswith(("Manager", "Handler", "Service", "Helper")), (
                    node.name
                )


def test_broad_excepts_stand_only_at_the_edges():
    found = {
        _name(path)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
        )
    }
    assert found <= BROAD


def test_no_code_compares_with_a_provider_s_name():
    names = set(PROVIDERS)
    for path, tree in TREES.items():
        if path.parent.name == "providers":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare | ast.MatchValue):
                constants = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
                assert not constants & names, (_name(path), node.lineno)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_every_module_and_public_thing_has_a_docstring(path: Path):
    tree = TREES[path]
    assert ast.get_docstring(tree), path
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_importing_anything_has_no_effect_on_files_and_sockets():
    modules = [
        "xairouter." + _name(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in FILES
        if path.name != "__main__.py"
    ]
    program = (
        "import socket, builtins, sys, importlib, io\n"
        "real = builtins.open\n"
        "def guarded(file, mode='r', *a, **k):\n"
        "    assert not set(mode) & set('wax+'), f'import writes {file}'\n"
        "    return real(file, mode, *a, **k)\n"
        "sys.dont_write_bytecode = True\n"
        "def no(*a, **k): raise AssertionError('import opens a socket')\n"
        "builtins.open = io.open = guarded\n"
        "socket.socket.connect = no; socket.socket.bind = no\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_nothing_builds_sql_from_text_or_runs_programs():
    for path, tree in TREES.items():
        text = path.read_text()
        assert (
            not re.search(r"\b(subprocess|os\.system|os\.exec|eval\(|exec\(|pickle\.loads)", text)
            or _name(path) in RUNS_PROGRAMS
        ), path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "text":
                for argument in node.args[:1]:
                    assert isinstance(argument, ast.Constant), (_name(path), node.lineno)


def test_every_package_of_the_floors_is_in_the_import_contract():
    contract = (ROOT / "pyproject.toml").read_text()
    for path in SOURCE.iterdir():
        if path.name not in ("__init__.py", "__pycache__", "py.typed"):
            assert re.search(rf"\b{path.stem}\b", contract), path


def test_locks_pin_by_hash_and_name_no_host():
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text
        assert "--index" not in text
        assert not re.search(r"^(?!#)[a-z0-9_.-]+==[^\\]*$", text, re.MULTILINE), path


def test_no_default_secret_stands_in_the_source():
    for path in FILES:
        assert not re.search(
            r"sk-Xvs[0-9A-Za-z]{20}|sk-ant-[0-9A-Za-z]{20}|AIza[0-9A-Za-z]{20}", path.read_text()
        ), path


def test_every_guard_that_is_taken_out_to_be_missed_is_there():
    """``make weaken`` takes long and is run by hand; its list must not rot meanwhile."""
    for row in tomllib.loads((ROOT / "tests" / "weakened.toml").read_text())["weakened"]:
        assert (ROOT / row["file"]).read_text().count(row["was"]) == 1, row["kind"]
