"""Routes of usage records, explanations, the operation log and notices."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from xairouter.api.asking import (
    Answer,
    Json,
    Limit,
    RawBody,
    TheActor,
    TheDesk,
    paged,
    retried,
)
from xairouter.api.bodies import ExplainBody, Moment
from xairouter.api.reading import PREFIX, StrictRoute, described, read_apart
from xairouter.clock import as_ms
from xairouter.manage import explain, notices, operations, usage
from xairouter.manage.fields import validated

router = APIRouter(prefix=PREFIX, route_class=StrictRoute)


def _whose(
    call_id: str | None = None,
    key_id: str | None = None,
    provider_key_id: str | None = None,
    provider: str | None = None,
) -> Json:
    """By which key a call was made, and by which it was served."""
    return {
        "call_id": call_id,
        "key_id": key_id,
        "provider_key_id": provider_key_id,
        "provider": provider,
    }


def _equal(
    whose: Annotated[Json, Depends(_whose)],
    model: str | None = None,
    status: Annotated[int | None, Query(ge=100, le=999)] = None,
    outcome: str | None = None,
    label: str | None = None,
) -> Answer:
    """Columns that must have a value, by the query parameters that were given."""
    equal = {
        **whose,
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
    since: Annotated[Moment | None, Query(alias="from")] = None,
    until: Annotated[Moment | None, Query(alias="to")] = None,
) -> usage.Asked:
    """Query parameters that choose usage records."""
    return usage.Asked(account, scope == "self", as_ms(since), as_ms(until), equal)


AskedFor = Annotated[usage.Asked, Depends(_asked)]


@router.get("/usage")
async def sum_usage(
    desk: TheDesk, actor: TheActor, asked: AskedFor, group_by: str | None = None
) -> Answer:
    """Totals: calls, attempts, tokens, cost, errors, latency percentiles."""
    return await usage.sum_usage(desk, actor, asked, group_by)


@router.get("/usage/records", response_model=Answer)
async def list_records(
    desk: TheDesk,
    actor: TheActor,
    asked: AskedFor,
    cursor: str | None = None,
    limit: Limit = 100,
) -> Response:
    """Usage records, newest first."""
    page = await usage.list_records(desk, actor, asked, cursor=cursor, limit=limit)
    return await paged(actor, page["items"], page["next_cursor"])


@router.get("/usage/export")
async def export_records(
    desk: TheDesk,
    actor: TheActor,
    asked: AskedFor,
    form: Annotated[Literal["csv", "jsonl"], Query(alias="format")] = "jsonl",
) -> StreamingResponse:
    """Every usage record asked for, as CSV or JSON lines."""
    lines = await usage.export_records(desk, actor, asked, form)
    kind = "text/csv" if form == "csv" else "application/jsonl"
    name = f'attachment; filename="usage.{form}"'
    return StreamingResponse(lines, media_type=kind, headers={"content-disposition": name})


@router.get("/operations", response_model=Answer)
async def list_operations(
    desk: TheDesk, actor: TheActor, cursor: str | None = None, limit: Limit = 100
) -> Response:
    """Who did what to which, when, from where, with what result."""
    page = await operations.list_operations(desk, actor, cursor=cursor, limit=limit)
    return await paged(actor, page["items"], page["next_cursor"])


@router.get("/notices", response_model=Answer)
async def list_notices(
    desk: TheDesk,
    actor: TheActor,
    state: Literal["open", "all"] = "open",
    cursor: str | None = None,
    limit: Limit = 100,
) -> Response:
    """What needs a person's eye, newest first."""
    page = await notices.list_notices(
        desk, actor, cursor=cursor, limit=limit, is_open=state == "open"
    )
    return await paged(actor, page["items"], page["next_cursor"])


@router.post("/notices/test", status_code=201)
async def test_notice(request: Request, desk: TheDesk, actor: TheActor) -> Answer:
    """Raise a notice that tries the webhook out."""
    return await retried(request, actor, lambda a: notices.raise_test(desk, a))


@router.post("/notices/{notice_id}/dismiss", status_code=204)
async def dismiss_notice(
    request: Request, desk: TheDesk, actor: TheActor, notice_id: str
) -> Response:
    """Close a notice."""
    await retried(request, actor, lambda a: notices.dismiss_notice(desk, a, notice_id))
    return Response(status_code=204)


@router.post("/explain", openapi_extra=described(ExplainBody.model_json_schema()))
async def explain_call(desk: TheDesk, actor: TheActor, raw: RawBody) -> Answer:
    """Which rule decides a call, what every other rule says, and the plan with each key's reason."""
    given, own = read_apart(raw, "body")
    body = validated(ExplainBody, given)
    if body.call_id is not None:
        return await explain.explain_call(desk, actor, body.call_id)
    asked = explain.Asked(
        body.account,
        body.key_id,
        body.method,
        body.path,
        body.model,
        body.ip or "",
        body.stream,
        body.max_output_tokens,
        body.input_tokens,
        as_ms(body.at),
        own or b"",
    )
    return await explain.explain(desk, actor, asked)
