"""Statements are compiled once for all databases of a test process, and not by each router anew:
SQLAlchemy's cache is an engine's own, and filling it is a third of what a router of a test's own costs.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import LRUCache

from xairouter.storage import drivers

_COMPILED: LRUCache[Any, Any] = LRUCache(2000)


def _is_alike(one: object, other: object) -> bool:
    return type(one) is type(other)


def _number(one: object) -> int:
    return hash(type(one))


def _sharing(engine: Callable[[Any], AsyncEngine]) -> Callable[[Any], AsyncEngine]:
    """A driver's ``engine`` whose engines have the one cache."""

    def made(driver: object) -> AsyncEngine:
        one = engine(driver)
        one.sync_engine._compiled_cache = _COMPILED
        return one

    return made


def share_statements() -> None:
    """From here on; all databases of a kind are at one server, with the same options."""
    # The cache's keys name the dialect, and each engine makes one for itself.
    for dialect in (PGDialect_asyncpg, SQLiteDialect_aiosqlite):
        dialect.__eq__, dialect.__hash__ = _is_alike, _number  # type: ignore[method-assign,assignment]
    for driver in (drivers.PostgreSQL, drivers.SQLite):
        driver.engine = _sharing(driver.engine)  # type: ignore[method-assign,assignment]
