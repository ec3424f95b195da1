"""When garbage is looked for, by a clock that the test turns."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from xairouter.process import EVERY_SECONDS, FIRST_SECONDS, WHOLE_SECONDS, Garbage


class Clock:
    at = 100.0

    def __call__(self) -> float:
        return self.at


class Circle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _python_as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_garbage_is_looked_for_at_set_times_only():
    clock = Clock()
    garbage = Garbage(lambda: 5, clock)
    garbage.begin()
    assert gc.get_threshold()[2] > 1000
    gone = weakref.ref(Circle())
    for _ in range(200_000):
        Circle.__init__(Circle.__new__(Circle))
    assert not garbage.look()
    clock.at += FIRST_SECONDS
    assert garbage.look()
    assert gone() is None
    assert not garbage.look()
    clock.at += EVERY_SECONDS
    assert garbage.look()


def test_what_was_set_aside_is_looked_at_in_a_moment_without_calls():
    clock, calls = Clock(), [1]
    garbage = Garbage(lambda: calls[0], clock)
    circle = Circle()
    gone = weakref.ref(circle)
    garbage.begin()
    del circle
    clock.at += WHOLE_SECONDS
    assert garbage.look()
    assert gone() is not None
    clock.at += EVERY_SECONDS
    calls[0] = 0
    assert garbage.look()
    assert gone() is None
