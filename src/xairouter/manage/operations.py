"""The operation log as a person reads it: pages of it, and what happened within a range."""

from collections.abc import Sequence
from typing import TypedDict

from xairouter.domain.permissions import Permission, Reach
from xairouter.manage.desk import Actor, Desk, require
from xairouter.manage.paging import viewed
from xairouter.manage.views import OperationView, operation_view
from xairouter.storage import operations, owners

MOST_MARKS = 50


class OperationPage(TypedDict):
    """Operations, and behind which id to go on (None: there are no more)."""

    items: list[OperationView]
    next_cursor: str | None


class Mark(TypedDict):
    """That something was changed, and when."""

    at_ms: int
    verb: str


async def list_operations(
    desk: Desk, actor: Actor, *, cursor: str | None, limit: int, verb: str | None = None
) -> OperationPage:
    """A page of the operation log, newest first; a manager sees its subtree's actors. ``verb`` is
    one of them, or the front of some, such as ``accounts.``."""
    reach = require(actor, Permission.OPERATIONS_READ)
    async with desk.long_read(actor.owner_id) as connection:
        ids = None
        if reach != Reach.TREE:
            ids = await owners.subtree_of(connection, actor.owner_id, actor.caller.account.id)
        rows, is_more = await operations.page(
            connection, actor.owner_id, before=cursor, limit=limit, account_ids=ids, verb=verb
        )
    following = rows[-1]["id"] if is_more else None
    items = await viewed(rows, operation_view, actor.owner_id)
    return {"items": items, "next_cursor": following}


async def marks(
    desk: Desk, actor: Actor, verbs: Sequence[str], from_ms: int, until_ms: int | None
) -> list[Mark]:
    """The newest changes of some kinds within a range, oldest first."""
    require(actor, Permission.OPERATIONS_READ)
    async with desk.long_read(actor.owner_id) as connection:
        rows = await operations.within(
            connection, actor.owner_id, verbs, from_ms, until_ms, limit=MOST_MARKS
        )
    return [{"at_ms": at_ms, "verb": verb} for at_ms, verb in reversed(rows)]
