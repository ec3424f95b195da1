"""What happens between two statements, made to happen there instead of by chance."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.util import await_only

from xairouter.storage.database import Database


@contextmanager
def after_each_statement(
    database: Database, act: Callable[[], Awaitable[object]], words: str = ""
) -> Iterator[None]:
    """Behind every statement of a database's own connections in which ``words`` stand ``act`` runs, and
    the statement's sender waits for it. ``act`` itself uses another ``Database``."""

    def between(_: Any, __: Any, statement: str, *___: Any) -> None:
        if words in statement:
            await_only(act())

    engine = database._engine.sync_engine
    event.listen(engine, "after_cursor_execute", between)
    try:
        yield
    finally:
        event.remove(engine, "after_cursor_execute", between)
