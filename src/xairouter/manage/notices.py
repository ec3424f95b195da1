"""Notices: what needs a person's eye, and who may see and close them."""

import json
from collections.abc import Iterable
from typing import TypedDict

from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.clock import fresh_id, now_ms
from xairouter.domain.notices import NOTICE_KINDS, Delivery, Notice, Occasion
from xairouter.domain.permissions import Permission
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.desk import Actor, Desk, change, require
from xairouter.manage.paging import viewed
from xairouter.manage.views import instant
from xairouter.storage import notices, owners
from xairouter.storage.notices import NoticeRow


class NoticeView(TypedDict):
    """A notice as it is told: no content of calls and no secret is ever in it."""

    id: str
    kind: Notice
    message: str
    remedy: str
    subject_id: str
    detail: dict[str, object]
    count: int
    first_at: str | None
    last_at: str | None


class DeliveryView(TypedDict):
    """What became of telling a notice to the webhook."""

    state: Delivery
    delivered_at: str | None
    tries: int
    error: str | None


class WholeNotice(NoticeView):
    """A notice for its owner: with what became of its delivery."""

    dismissed_at: str | None
    webhook: DeliveryView


class NoticePage(TypedDict):
    """Notices, and behind which id to go on (None: there are no more)."""

    items: list[WholeNotice]
    next_cursor: str | None


async def raise_notices(connection: AsyncConnection, occasions: Iterable[Occasion]) -> int:
    """Open notices in the caller's write transaction; how many are new."""
    return await notices.raise_all(connection, occasions, now_ms=now_ms(), new_id=fresh_id)


async def close_notices(
    connection: AsyncConnection, owner_id: str, kinds: Iterable[Notice], subject_id: str
) -> None:
    """What notices of a subject spoke of is over."""
    await notices.close_subject(connection, owner_id, tuple(kinds), subject_id, now_ms())


async def list_notices(
    desk: Desk, actor: Actor, *, cursor: str | None, limit: int, is_open: bool = True
) -> NoticePage:
    """A page of notices, newest first; closed ones too where ``is_open`` is False."""
    require(actor, Permission.NOTICES_READ)
    async with desk.database.read() as connection:
        rows = await notices.page(
            connection, actor.owner_id, before=cursor, limit=limit, is_open=is_open
        )
    following = rows[-1]["id"] if len(rows) == limit else None
    items = await viewed(rows, _whole_view, actor.owner_id)
    return {"items": items, "next_cursor": following}


async def count_notices(desk: Desk, actor: Actor) -> int:
    """How many notices are open."""
    require(actor, Permission.NOTICES_READ)
    async with desk.database.read() as connection:
        return await notices.count_open(connection, actor.owner_id)


async def dismiss_notice(desk: Desk, actor: Actor, notice_id: str) -> None:
    """Close a notice; if it comes up again, it is a new one."""
    async with change(desk, actor, Permission.NOTICES_DISMISS, notice_id) as made:
        if not await notices.dismiss(made.connection, actor.owner_id, notice_id, now_ms()):
            raise ManageError(ErrorCode.NOT_FOUND, f"There is no notice “{notice_id[:64]}” here.")


async def raise_test(desk: Desk, actor: Actor) -> WholeNotice:
    """Raise a notice that only tries the webhook out; raises ``conflict`` without a webhook, and
    ``rate_limited`` after five in a minute."""
    require(actor, Permission.NOTICES_TEST)
    desk.attempts.webhook_tests.start(actor.owner_id)
    async with change(desk, actor, Permission.NOTICES_TEST, actor.owner_id) as made:
        owner = await owners.get_owner(made.connection, actor.owner_id)
        if owner is None or owner.settings.webhook_url is None:
            raise ManageError(
                ErrorCode.CONFLICT, "There is no webhook to test; set `webhook_url` first."
            )
        await close_notices(made.connection, actor.owner_id, (Notice.TEST,), Notice.TEST)
        await raise_notices(made.connection, [Occasion(actor.owner_id, Notice.TEST, Notice.TEST)])
        [row] = await notices.page(
            made.connection, actor.owner_id, before=None, limit=1, is_open=True
        )
    return _whole_view(row)


def notice_view(row: NoticeRow) -> NoticeView:
    kind = NOTICE_KINDS[row["kind"]]
    detail: dict[str, object] = json.loads(row["detail"])
    return {
        "id": row["id"],
        "kind": row["kind"],
        "message": kind.sentence.format_map(_Named(detail)),
        "remedy": kind.remedy,
        "subject_id": row["subject_id"],
        "detail": detail,
        "count": row["count"],
        "first_at": instant(row["first_at_ms"]),
        "last_at": instant(row["last_at_ms"]),
    }


def _whole_view(row: NoticeRow) -> WholeNotice:
    if row["delivered_at_ms"] is not None:
        state = Delivery.DELIVERED
    elif row["next_try_ms"] is not None:
        state = Delivery.WAITING
    else:
        state = Delivery.GIVEN_UP if row["tries"] else Delivery.NONE
    return {
        **notice_view(row),
        "dismissed_at": instant(row["dismissed_at_ms"]),
        "webhook": {
            "state": state,
            "delivered_at": instant(row["delivered_at_ms"]),
            "tries": row["tries"],
            "error": row["last_error"],
        },
    }


class _Named(dict[str, object]):
    """Fields of a sentence; one that is missing is left out rather than an error."""

    def __missing__(self, key: str) -> str:
        return "?"
