"""A page of many things as JSON, made in short steps: it may hold all that there are."""

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

import msgspec

from xairouter.turns import in_slices

S = TypeVar("S")
T = TypeVar("T")
ITEMS_AT_ONCE = 10


async def viewed(rows: Iterable[S], view: Callable[[S], T], whose: str) -> list[T]:
    """A view of each of many rows; an owner's takes its turn among others'."""
    return await in_slices(views_in_steps(rows, view), whose)


def views_in_steps(rows: Iterable[S], view: Callable[[S], T]) -> Generator[None, None, list[T]]:
    found: list[T] = []
    for row in rows:
        found.append(view(row))
        if len(found) % ITEMS_AT_ONCE == 0:
            yield
    return found


async def encoded_page(
    items: Iterable[T],
    next_cursor: str | None,
    whose: str,
    view: Callable[[T], object] | None = None,
) -> bytes:
    """A page of items, or of a ``view`` of each; an owner's takes its turn among others'."""
    return await in_slices(page_in_steps(items, next_cursor, view), whose)


def page_in_steps(
    items: Iterable[T], next_cursor: str | None, view: Callable[[T], object] | None = None
) -> Generator[None, None, bytes]:
    parts: list[msgspec.Raw] = []
    for item in items:
        parts.append(msgspec.Raw(msgspec.json.encode(item if view is None else view(item))))
        if len(parts) % ITEMS_AT_ONCE == 0:
            yield
    return msgspec.json.encode({"items": parts, "next_cursor": next_cursor})
