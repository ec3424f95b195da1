"""What reading takes, counted: bytecodes of our own code, and the bytes that its tools in C are given.

Neither depends on how fast or busy the machine is. Patterns and decoders of the modules given are
wrapped, so that a reader that offers the same bytes again and again shows.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, ModuleType
from typing import Any

import msgspec

SHORT = 16


class Work:
    """``steps`` – bytecodes; ``offered`` – bytes that were given to a pattern or a parser."""

    def __init__(self) -> None:
        self.steps = 0
        self.offered = 0
        self._ours: dict[CodeType, bool] = {}

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            code = frame.f_code
            if code not in self._ours:
                self._ours[code] = "/src/xairouter/" in code.co_filename
            if not self._ours[code]:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            self.steps += 1
        return self.trace


class CountedPattern:
    """A compiled pattern that says how many bytes it looked at."""

    def __init__(self, pattern: re.Pattern[bytes], work: Work) -> None:
        self._pattern, self._work = pattern, work

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pattern, name)

    def search(self, data: bytes, *span: int) -> Any:
        found = self._pattern.search(data, *span)
        start = span[0] if span else 0
        until = span[1] if len(span) > 1 else len(data)
        self._work.offered += (found.end() if found else max(until, start)) - start
        return found

    def match(self, data: bytes, *span: int) -> Any:
        """One that fails is taken for short: how far it looked is not known. Ours look up to the
        next bracket or quotation mark."""
        found = self._pattern.match(data, *span)
        self._work.offered += found.end() - found.start() if found else SHORT
        return found

    def finditer(self, data: bytes, *span: int) -> Iterator[Any]:
        at = span[0] if span else 0
        for found in self._pattern.finditer(data, *span):
            self._work.offered += found.end() - at
            at = found.end()
            yield found
        self._work.offered += len(data) - at

    def findall(self, data: bytes, *span: int) -> Any:
        self._work.offered += len(data)
        return self._pattern.findall(data, *span)

    def sub(self, *given: Any) -> Any:
        self._work.offered += len(given[1])
        return self._pattern.sub(*given)

    def subn(self, *given: Any) -> Any:
        self._work.offered += len(given[1])
        return self._pattern.subn(*given)


class CountedDecoder:
    """A parser that says how many bytes it was given."""

    def __init__(self, decoder: msgspec.json.Decoder[Any], work: Work) -> None:
        self._decoder, self._work = decoder, work

    def decode(self, data: Any) -> Any:
        self._work.offered += len(memoryview(data))
        return self._decoder.decode(data)


def count_in(monkeypatch: Any, modules: list[ModuleType]) -> Work:
    """Have every pattern and decoder at the top of the modules counted."""
    work = Work()
    for module in modules:
        for name, value in list(vars(module).items()):
            if isinstance(value, re.Pattern) and isinstance(value.pattern, bytes):
                monkeypatch.setattr(module, name, CountedPattern(value, work))
            elif isinstance(value, msgspec.json.Decoder):
                monkeypatch.setattr(module, name, CountedDecoder(value, work))
    return work


@contextmanager
def counting(work: Work) -> Iterator[None]:
    before = sys.gettrace()
    work.steps = work.offered = 0
    sys.settrace(work.trace)
    try:
        yield
    finally:
        sys.settrace(before)


def counted(work: Work, act: Callable[[], object]) -> tuple[int, int]:
    """(steps, bytes offered) of one act."""
    with counting(work):
        act()
    return work.steps, work.offered
