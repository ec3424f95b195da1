"""Routing: levels as pools, the maps between them, and where a call would go."""

from typing import Any

from starlette.responses import Response

from xairouter.clock import now_ms
from xairouter.console.rooms.explain import asked_of, near_accounts
from xairouter.console.visit import Visit, status_of
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import explain, provider_key_use, provider_keys, rehearse, routing
from xairouter.manage.key_health import health_of
from xairouter.manage.provider_key_use import DAY_MS
from xairouter.manage.versions import version_of
from xairouter.policy.catalogue import served_names

DAYS = 7
SPARE = 2


async def show_routing(visit: Visit) -> Response:
    return await _page(visit)


async def _page(visit: Visit, status: int = 200, **values: Any) -> Response:
    desk, actor = visit.desk, visit.actor
    stored = await routing.get_routing(desk, actor)
    keys = await provider_keys.list_provider_keys(desk, actor)
    levels: dict[int, list[Any]] = {}
    for key in keys:
        levels.setdefault(key.level, []).append((key, health_of(desk, key)))
    typed = values.pop("typed", None)
    given = {"error": None, "review": None, "version": None, **values}
    given["version"] = given["version"] or version_of(stored)
    asks = {name: visit.query[name] for name in ("model", "path", "account") if name in visit.query}
    plan, plan_error = None, None
    if asks.get("model"):
        try:
            plan = await explain.explain(desk, actor, asked_of(visit.query))
        except ManageError as error:
            plan_error = error
    return await visit.page(
        "routing.html",
        status,
        levels=sorted(levels.items()),
        used=await provider_key_use.use_of_keys(desk, actor, now_ms() - DAYS * DAY_MS),
        served_names=served_names,
        rows=typed if typed is not None else _rows(stored),
        days=DAYS,
        asks=asks,
        plan=plan,
        accounts=await near_accounts(visit),
        plan_error=plan_error,
        trail=[(visit.words("rooms.routing"), "")],
        api="GET /api/v1/routing",
        **given,
    )


def _rows(document: routing.RoutingView) -> dict[str, list[tuple[str, str]]]:
    """The three maps as rows of text, with some to spare."""
    rows = {
        "level_map": [(name, str(level)) for name, level in document["level_map"].items()],
        "switch_over": [
            (name, ", ".join(map(str, levels))) for name, levels in document["switch_over"].items()
        ],
        "model_failover": [
            (name, ", ".join(models)) for name, models in document["model_failover"].items()
        ],
    }
    return {name: found + [("", "")] * SPARE for name, found in rows.items()}


def _typed(fields: dict[str, str]) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for name in ("level_map", "switch_over", "model_failover"):
        number, rows = 0, []
        while f"{name}.{number}.from" in fields:
            row = (fields[f"{name}.{number}.from"], fields.get(f"{name}.{number}.to", ""))
            if any(row):
                rows.append(row)
            number += 1
        found[name] = rows + [("", "")] * SPARE
    return found


def _document(rows: dict[str, list[tuple[str, str]]]) -> dict[str, Any]:
    """The document of some rows; what is no number stays text, and is refused by name."""

    def parts(text: str) -> list[Any]:
        return [_number(part.strip()) for part in text.split(",") if part.strip()]

    filled = {name: [row for row in some if any(row)] for name, some in rows.items()}
    return {
        "level_map": {name: _number(level) for name, level in filled["level_map"]},
        "switch_over": {name: parts(levels) for name, levels in filled["switch_over"]},
        "model_failover": {
            name: [model.strip() for model in models.split(",") if model.strip()]
            for name, models in filled["model_failover"]
        },
    }


def _number(text: str) -> Any:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


async def change_routing(visit: Visit) -> Response:
    """Rehearse the maps against the calls of the last days, or save them."""
    fields = await visit.form()
    version, act = fields.get("version"), fields.get("act", "review")
    rows = _typed(fields)
    document = _document(rows)
    try:
        if act == "save":
            await visit.do(lambda actor: routing.put_routing(visit.desk, actor, document, version))
            return visit.see("/console/routing", "routing_saved")
        review = await rehearse.rehearse_routing(visit.desk, visit.actor, document, days=DAYS)
    except ManageError as error:
        if error.code == ErrorCode.FORBIDDEN:
            raise
        return await _page(visit, status_of(error), error=error, typed=rows, version=version)
    return await _page(visit, typed=rows, review=review, version=version)
