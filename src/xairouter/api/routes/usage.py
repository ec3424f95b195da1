"""Routes of usage records and the operation log."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from xairouter.api.asking import Json, Limit, TheActor, TheDesk
from xairouter.clock import as_ms
from xairouter.manage import usage

router = APIRouter()


def _equal(
    call_id: str | None = None,
    key_id: str | None = None,
    provider_key_id: str | None = None,
    model: str | None = None,
    status: int | None = None,
    outcome: str | None = None,
    label: str | None = None,
) -> Json:
    """Columns that must have a value, by the query parameters that were given."""
    equal = {
        "call_id": call_id,
        "key_id": key_id,
        "provider_key_id": provider_key_id,
        "model_asked": model,
        "status": status,
        "outcome": outcome,
        "label": label,
    }
    return {name: value for name, value in equal.items() if value is not None}


def _asked(
    equal: Annotated[Json, Depends(_equal)],
    account: str | None = None,
    scope: Literal["subtree", "self"] = "subtree",
    since: Annotated[datetime | None, Query(alias="from")] = None,
    until: Annotated[datetime | None, Query(alias="to")] = None,
) -> usage.Asked:
    """Query parameters that choose usage records."""
    return usage.Asked(account, scope == "self", as_ms(since), as_ms(until), equal)


AskedFor = Annotated[usage.Asked, Depends(_asked)]


@router.get("/usage")
async def sum_usage(
    desk: TheDesk, actor: TheActor, asked: AskedFor, group_by: str | None = None
) -> Json:
    """Totals: calls, attempts, tokens, cost, errors, latency percentiles."""
    return await usage.sum_usage(desk, actor, asked, group_by)


@router.get("/usage/records")
async def list_records(
    desk: TheDesk,
    actor: TheActor,
    asked: AskedFor,
    cursor: str | None = None,
    limit: Limit = 100,
) -> Json:
    """Usage records, newest first."""
    return await usage.list_records(desk, actor, asked, cursor=cursor, limit=limit)


@router.get("/usage/export")
async def export_records(
    desk: TheDesk,
    actor: TheActor,
    asked: AskedFor,
    form: Annotated[Literal["csv", "jsonl"], Query(alias="format")] = "jsonl",
) -> StreamingResponse:
    """Every usage record asked for, as CSV or JSON lines."""
    pages = usage.export_records(desk, actor, asked, form)
    first = await anext(pages)  # A refusal must come before the reply's head.

    async def lines() -> AsyncIterator[str]:
        yield first
        async for page in pages:
            yield page

    kind = "text/csv" if form == "csv" else "application/jsonl"
    name = f'attachment; filename="usage.{form}"'
    return StreamingResponse(lines(), media_type=kind, headers={"content-disposition": name})


@router.get("/operations")
async def list_operations(
    desk: TheDesk, actor: TheActor, cursor: str | None = None, limit: Limit = 100
) -> Json:
    """Who did what to which, when, from where, with what result."""
    return await usage.list_operations(desk, actor, cursor=cursor, limit=limit)
