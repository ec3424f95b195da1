"""What a module's text reaches outside of what it defines: by imports, and by names behind them.

The contracts in pyproject.toml say which package imports which; the linter that checks them sees whole
modules, and imports alone. What stands here sees members (``datetime.now``), modules behind others
(``contextlib.os``) and what needs no import (``open``).
"""

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module

PURE = ("domain", "policy", "accounting", "dialects", "translate", "providers")
"""Packages that take values and give values: no time, chance, sockets, files or logs."""
ANY = frozenset({"*"})
COMPUTING = """abc base64 binascii bisect collections collections.abc contextlib csv dataclasses decimal
enum errno functools hashlib heapq hmac ipaddress itertools json math re string struct tomllib types
typing unicodedata urllib.parse weakref zlib msgspec msgspec.json msgspec.msgpack msgspec.structs"""
HARMLESS: dict[str, frozenset[str]] = {
    **dict.fromkeys(COMPUTING.split(), ANY),
    "codecs": frozenset({"getincrementaldecoder"}),
    "datetime": frozenset({"UTC", "date", "datetime", "time", "timedelta", "timezone", "tzinfo"}),
    "email.utils": frozenset({"parsedate_to_datetime"}),
    "gzip": frozenset({"compress"}),
    "io": frozenset({"SEEK_END", "StringIO"}),
    "operator": frozenset({"add", "attrgetter", "itemgetter", "sub"}),
    "zoneinfo": frozenset({"ZoneInfo", "ZoneInfoNotFoundError", "available_timezones"}),
}
"""Modules, and their members, that compute and do nothing else: any module may import them."""
CLOCK = {"now", "today", "utcnow", "localtime", "gmtime", "time_ns", "monotonic", "perf_counter"}
"""Names behind which a clock is read."""
UNBOUND = {"open", "print", "breakpoint", "eval", "exec", "compile", "globals", "locals"}
"""Names that need no import, and lead to files, or to modules by their name."""
HIDDEN = {"__import__", "__builtins__", "__loader__", "__spec__", "__subclasses__", "__globals__"}
"""The same behind anything."""
OPENS_TEXT = """create_connection create_datagram_endpoint create_server create_subprocess_exec
create_subprocess_shell create_unix_connection create_unix_server getaddrinfo open_connection
open_unix_connection sock_connect start_connection start_server start_unix_server subprocess_exec
subprocess_shell"""
OPENS = set(OPENS_TEXT.split())
"""Names by which connections, listeners and programs are opened, an event loop's included."""


@cache
def _module_and_member(dotted: str) -> tuple[str, str]:
    """The module that a dotted name leads to, by that module's own name, and what is named in it."""
    first, *rest = dotted.split(".")
    module = import_module(first)
    while rest:
        found = getattr(module, rest[0], None)
        if found is None:
            try:
                found = import_module(f"{module.__name__}.{rest[0]}")
            except ImportError:
                break
        if not inspect.ismodule(found):
            break
        module = found
        rest.pop(0)
    return module.__name__, ".".join(rest)


class Reach:
    """A module's text, and the dotted names that it reaches outside of what it defines."""

    def __init__(self, text: str) -> None:
        self.nodes = list(ast.walk(ast.parse(text)))
        self.imports: set[str] = set()
        self._bound: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports.add(alias.name)
                    whole = alias.asname is not None
                    name = alias.asname or alias.name.partition(".")[0]
                    self._bound[name] = alias.name if whole else name
            elif isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
                for alias in node.names:
                    self.imports.add(f"{node.module}.{alias.name}")
                    self._bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def dotted(self) -> Iterator[str]:
        """Every name that is imported, and every name behind an imported one."""
        yield from self.imports
        for node in self.nodes:
            parts: list[str] = []
            while isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
            if parts and isinstance(node, ast.Name) and node.id in self._bound:
                yield ".".join([self._bound[node.id], *reversed(parts)])

    def names(self) -> set[str]:
        """Every name, wherever it stands."""
        return {node.id for node in self.nodes if isinstance(node, ast.Name)}

    def members(self) -> set[str]:
        """Every name that stands behind another, or is imported, or is given to ``getattr``."""
        found = {node.attr for node in self.nodes if isinstance(node, ast.Attribute)}
        found |= {name.rpartition(".")[2] for name in self.imports}
        calls = [node for node in self.nodes if isinstance(node, ast.Call)]
        return found | {
            str(one.value)
            for call in calls
            if isinstance(call.func, ast.Name)
            and call.func.id in ("getattr", "attrgetter", "methodcaller")
            for one in call.args
            if isinstance(one, ast.Constant)
        }

    def values(self) -> set[str]:
        """Modules that are handed on as values, so that nobody sees what is taken from them."""
        behind = {id(node.value) for node in self.nodes if isinstance(node, ast.Attribute)}
        return {
            self._bound[node.id]
            for node in self.nodes
            if isinstance(node, ast.Name)
            and id(node) not in behind
            and self._bound.get(node.id) in HARMLESS
            and self._bound[node.id] in self.imports
            and not _module_and_member(self._bound[node.id])[1]
        }


def _is_harmless(module: str, member: str) -> bool:
    members = HARMLESS.get(module)
    if members is None:
        return False
    first, _, rest = member.partition(".")
    return not member or "*" in members or (first in members and not set(rest.split(".")) & CLOCK)


def unplaced(reach: Reach, guarded: set[str]) -> set[str]:
    """What is neither harmless nor guarded by a contract, or is reached past its contract."""
    tops = {name.partition(".")[0] for name in HARMLESS} | {"xairouter"}
    wrong = set(reach.values())
    for dotted in reach.dotted():
        top = dotted.partition(".")[0]
        if top not in tops:
            if top not in guarded:
                wrong.add(dotted)
            continue
        module, member = _module_and_member(dotted)
        if module.partition(".")[0] != top:
            wrong.add(dotted)  # Another module, behind one that may be imported.
        elif top != "xairouter" and not _is_harmless(module, member):
            wrong.add(dotted)
    return wrong


def impure(reach: Reach) -> set[str]:
    """What a pure package reaches that is no computing: other imports, clocks, files, the unnamed."""
    tops = {name.partition(".")[0] for name in HARMLESS} | {"xairouter"}
    imports = {name for name in reach.imports if name.partition(".")[0] not in tops}
    return imports | reach.names() & (UNBOUND | HIDDEN) | reach.members() & (CLOCK | HIDDEN)


def opened(reach: Reach) -> set[str]:
    """Names by which a module opens connections, listeners and programs."""
    return (reach.names() | reach.members()) & OPENS
