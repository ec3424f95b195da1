"""The operation log as a person reads it: pages of it, and what happened within a range."""

from collections.abc import Sequence
from typing import Any

from xairouter.manage.desk import Actor, Desk, require
from xairouter.manage.permissions import TREE
from xairouter.manage.views import operation_view
from xairouter.storage import operations, owners

MOST_MARKS = 50


async def list_operations(
    desk: Desk, actor: Actor, *, cursor: str | None, limit: int, verb: str | None = None
) -> dict[str, Any]:
    """A page of the operation log, newest first; a manager sees its subtree's actors. ``verb`` is
    one of them, or the front of some, such as ``accounts.``."""
    reach = require(actor, "operations.read")
    async with desk.database.read() as connection:
        ids = None
        if reach != TREE:
            ids = await owners.subtree_of(connection, actor.owner_id, actor.caller.account.id)
        rows = await operations.page(
            connection, actor.owner_id, before=cursor, limit=limit, account_ids=ids, verb=verb
        )
    following = rows[-1]["id"] if len(rows) == limit else None
    return {"items": [operation_view(row) for row in rows], "next_cursor": following}


async def marks(
    desk: Desk, actor: Actor, verbs: Sequence[str], from_ms: int, until_ms: int | None
) -> list[dict[str, Any]]:
    """``at_ms`` and ``verb`` of the newest changes of some kinds within a range, oldest first."""
    require(actor, "operations.read")
    async with desk.database.read() as connection:
        rows = await operations.within(
            connection, actor.owner_id, verbs, from_ms, until_ms, limit=MOST_MARKS
        )
    return [{"at_ms": row["at_ms"], "verb": row["verb"]} for row in reversed(rows)]
