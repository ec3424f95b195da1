"""Notices: raised once while open, told to a webhook at least once."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypedDict, Unpack, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.notices import Notice, Occasion
from xairouter.storage.tables import notices

MOST_OPEN = 1000
"""Open notices of one owner; a client may invent names of models."""
_LONGEST_SUBJECT = 256


class NoticeRow(TypedDict):
    """A row of the table; ``detail`` is JSON."""

    id: str
    owner_id: str
    kind: Notice
    subject_id: str
    detail: str
    count: int
    first_at_ms: int
    last_at_ms: int
    dismissed_at_ms: int | None
    delivered_at_ms: int | None
    tries: int
    next_try_ms: int | None
    last_error: str | None


class Delivery(TypedDict, total=False):
    """How a delivery went, the columns of it that change."""

    tries: int
    delivered_at_ms: int | None
    next_try_ms: int | None
    last_error: str | None


async def raise_all(
    connection: AsyncConnection,
    occasions: Iterable[Occasion],
    *,
    now_ms: int,
    new_id: Callable[[str], str],
) -> int:
    """Open a notice for each occasion that has none open yet, count the others; how many are new.

    Runs in the caller's write transaction; the webhook is due at once.
    """
    raised = 0
    for occasion in occasions:
        subject = occasion.subject_id[:_LONGEST_SUBJECT]
        is_same = sa.and_(
            notices.c.owner_id == occasion.owner_id,
            notices.c.kind == occasion.kind,
            notices.c.subject_id == subject,
        )
        if not occasion.once:
            is_same = sa.and_(is_same, notices.c.dismissed_at_ms.is_(None))
        counted = await connection.execute(
            notices.update()
            .where(is_same)
            .values(
                count=sa.case((notices.c.count < 2**31 - 1, notices.c.count + 1), else_=2**31 - 1),
                last_at_ms=now_ms,
            )
        )
        if counted.rowcount or await count_open(connection, occasion.owner_id) >= MOST_OPEN:
            continue
        await connection.execute(
            notices.insert().values(
                id=new_id("ntc"),
                owner_id=occasion.owner_id,
                kind=occasion.kind,
                subject_id=subject,
                detail=msgspec.json.encode(dict(occasion.detail)).decode(),
                count=1,
                first_at_ms=now_ms,
                last_at_ms=now_ms,
                tries=0,
                next_try_ms=now_ms,
            )
        )
        raised += 1
    return raised


async def count_open(connection: AsyncConnection, owner_id: str) -> int:
    """How many notices of an owner are open."""
    query = sa.select(sa.func.count()).where(
        notices.c.owner_id == owner_id, notices.c.dismissed_at_ms.is_(None)
    )
    return int((await connection.execute(query)).scalar_one())


async def page(
    connection: AsyncConnection, owner_id: str, *, before: str | None, limit: int, is_open: bool
) -> Sequence[NoticeRow]:
    """Newest first; only open ones where ``is_open`` says so."""
    query = sa.select(notices).where(notices.c.owner_id == owner_id)
    if is_open:
        query = query.where(notices.c.dismissed_at_ms.is_(None))
    if before:
        query = query.where(notices.c.id < before)
    rows = await connection.execute(query.order_by(notices.c.id.desc()).limit(limit))
    return [cast(NoticeRow, dict(row)) for row in rows.mappings()]


async def dismiss(connection: AsyncConnection, owner_id: str, notice_id: str, now_ms: int) -> bool:
    """Close a notice; False if there is no such one. Closing twice changes nothing."""
    mine = sa.and_(notices.c.owner_id == owner_id, notices.c.id == notice_id)
    await connection.execute(
        notices.update()
        .where(mine, notices.c.dismissed_at_ms.is_(None))
        .values(dismissed_at_ms=now_ms)
    )
    return (await connection.execute(sa.select(notices.c.id).where(mine))).first() is not None


async def close_subject(
    connection: AsyncConnection,
    owner_id: str,
    kinds: Sequence[Notice],
    subject_id: str,
    now_ms: int,
) -> None:
    """What the notices of a subject spoke of is over: close them."""
    await connection.execute(
        notices.update()
        .where(
            notices.c.owner_id == owner_id,
            notices.c.kind.in_(kinds),
            notices.c.subject_id == subject_id,
            notices.c.dismissed_at_ms.is_(None),
        )
        .values(dismissed_at_ms=now_ms)
    )


def _is_due(now_ms: int, latest_ms: int) -> sa.ColumnElement[bool]:
    """Of a notice whose webhook is to be told now. What is to be told after the latest instant that is
    possible was noted by a clock that was ahead, and is due."""
    return sa.or_(notices.c.next_try_ms <= now_ms, notices.c.next_try_ms > latest_ms)


async def owners_due(
    connection: AsyncConnection, now_ms: int, latest_ms: int, without: Iterable[str]
) -> Sequence[str]:
    """Whose webhooks are to be told something now, but for some; empty is the installation's."""
    query = (
        sa.select(notices.c.owner_id)
        .where(_is_due(now_ms, latest_ms), notices.c.owner_id.not_in(list(without)))
        .distinct()
    )
    return list((await connection.execute(query)).scalars())


async def due(
    connection: AsyncConnection, owner_id: str, now_ms: int, latest_ms: int, limit: int
) -> Sequence[NoticeRow]:
    """An owner's notices that its webhook is to be told now; the oldest first."""
    query = (
        sa.select(notices)
        .where(notices.c.owner_id == owner_id, _is_due(now_ms, latest_ms))
        .order_by(notices.c.next_try_ms, notices.c.id)
        .limit(limit)
    )
    rows = await connection.execute(query)
    return [cast(NoticeRow, dict(row)) for row in rows.mappings()]


async def claim(
    connection: AsyncConnection, notice_id: str, seen_next_try_ms: int, until_ms: int
) -> bool:
    """Take a due notice for oneself until an instant; False if somebody else was faster."""
    result = await connection.execute(
        notices.update()
        .where(notices.c.id == notice_id, notices.c.next_try_ms == seen_next_try_ms)
        .values(next_try_ms=until_ms, tries=notices.c.tries + 1)
    )
    return result.rowcount == 1


async def settle(connection: AsyncConnection, notice_id: str, **values: Unpack[Delivery]) -> None:
    """Note how a delivery went."""
    await connection.execute(notices.update().where(notices.c.id == notice_id).values(**values))


async def delete_beyond(connection: AsyncConnection, owner_id: str, most: int) -> None:
    """Forget dismissed notices but for the newest ones."""
    dismissed = sa.and_(notices.c.owner_id == owner_id, notices.c.dismissed_at_ms.is_not(None))
    newest_of_the_rest = (
        sa.select(notices.c.id)
        .where(dismissed)
        .order_by(notices.c.id.desc())
        .offset(most)
        .limit(1)
        .scalar_subquery()
    )
    await connection.execute(notices.delete().where(dismissed, notices.c.id <= newest_of_the_rest))


async def delete_before(connection: AsyncConnection, owner_id: str, before_ms: int) -> None:
    """Forget dismissed notices from before an instant."""
    await connection.execute(
        notices.delete().where(
            notices.c.owner_id == owner_id, notices.c.dismissed_at_ms < before_ms
        )
    )
