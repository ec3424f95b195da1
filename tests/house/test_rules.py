"""The house rules that a program can check."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.rows import for_each
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
    "counters/reconciling.py",
    "custody/derive.py",
    "gateway/serving.py",
    "gateway/asgi.py",
    "gateway/pipeline.py",
    "ledger/adoption.py",
    "ledger/drain.py",
    "directory/directory.py",
    "manage/expire.py",
    "manage/herald.py",
    "manage/refresh.py",
    "cli/__init__.py",
    "cli/asking.py",
    "directory/bus.py",
}
"""The two edges, the background loops, the command line, and the start's self-test."""
RUNS_PROGRAMS = {"workers.py"}
"""The supervisor starts this very program, with no word from outside."""
TABLES = {"errors.py", "standin/replies.py", "standin/faults.py", "storage/tables.py"}
"""Long because they are lists of like things: errors, dialect replies, faults, the schema."""


LONGEST_MODULE, LONGEST_FUNCTION, MOST_PARAMETERS = 400, 50, 6
"""The numbers of CONTRIBUTING.md: lines, lines, and parameters beside ``self``."""


def _name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def _too_large(text: str) -> list[tuple[str, int, int]]:
    """Functions, and those without a name, with more lines or parameters than may be: ``*args`` and
    ``**more`` are parameters, too."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            args = node.args
            arguments = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
            count = len([one for one in arguments if one and one.arg not in ("self", "cls")])
            if size > LONGEST_FUNCTION or count > MOST_PARAMETERS:
                found.append((getattr(node, "name", "lambda"), size, count))
    return found


def test_rooms_are_small():
    long = {_name(path): len(path.read_text().splitlines()) for path in FILES}
    assert {n: size for n, size in long.items() if size > LONGEST_MODULE and n not in TABLES} == {}


def test_functions_are_small_and_take_few_parameters():
    wrong = {_name(path): found for path in FILES if (found := _too_large(path.read_text()))}
    assert wrong == {}


@for_each(
    "text",
    [
        "def f(a, b, c, d, e, f, g): ...",
        "def f(a, b, *, c, d, e, f, g): ...",
        "def f(a, b, c, d, e, *f, **g): ...",
        "lambda a, b, c, d, e, f, g: 1",
        "async def f():\n" + "    pass\n" * 50,
        "f = lambda: (\n" + "    1,\n" * 50 + ")",
    ],
)
def test_a_function_that_is_too_large_is_seen(text: str):
    assert _too_large(text)
    assert not _too_large("class C:\n    def f(self, a, b, c, d, *e, **f): ...")


def test_contributing_names_the_same_numbers():
    stated = re.findall(
        r"(\d+) lines a module, (\d+) a function, (\d+) parameters",
        (ROOT / "CONTRIBUTING.md").read_text(),
    )
    assert stated == [(str(LONGEST_MODULE), str(LONGEST_FUNCTION), str(MOST_PARAMETERS))]


def test_no_global_state_and_no_forbidden_names():
    for path, tree in TREES.items():
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)], path
        assert path.stem not in NOT_NAMES, path
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                assert not node.name.endswith(("Manager", "Handler", "Service", "Helper")), (
                    node.name
                )


def _anything(text: str) -> list[str]:
    """Where ``Any`` stands: as a name, behind one, or in a string that a type checker reads."""
    found = []
    for node in ast.walk(ast.parse(text)):
        name = getattr(node, "id", getattr(node, "attr", ""))
        if isinstance(node, ast.alias):
            name = node.name
        is_prose = isinstance(node, ast.Expr)
        for said in ast.iter_child_nodes(node):
            if not is_prose and isinstance(said, ast.Constant) and isinstance(said.value, str):
                name = name if not re.search(r"\bAny\b", said.value) else "Any"
        if name == "Any":
            found.append(ast.unparse(node))
    return found


@for_each(
    "text",
    [
        "from typing import Any as Thing",
        "def f() -> 'typing.Any': ...",
        "x = typing.cast('dict[str, Any]', y)",
        "x: typing.Any = 1",
    ],
)
def test_a_type_that_is_anything_is_seen(text: str):
    assert _anything(text)
    assert not _anything('"""Any of them."""\nx = 1  # Any')


def test_what_the_management_plane_gives_has_a_type():
    untyped = {
        path.name: found
        for path in FILES
        if path.parent.name == "manage" and (found := _anything(path.read_text()))
    }
    assert untyped == {}


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


@for_each("path", FILES)
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
        assert row.keys() <= {"kind", "file", "was", "now", "tests", "only"}, row["kind"]
        assert row["tests"].split(), row["kind"]
        for path in row["tests"].split():
            assert (ROOT / path).exists(), (row["kind"], path)
        # ``make weaken`` chooses by these words; where none stands there, no test would run.
        text = "".join((ROOT / path).read_text() for path in row["tests"].split() if ".py" in path)
        words = set(re.findall(r"(?<!not )\b[\w-]+", row.get("only", "")))
        words -= {"and", "or", "not", "sqlite", "postgresql"}
        assert not text or all(word in text + row["tests"] for word in words), row["kind"]
