"""Routes of the owner's settings, routing, prices and audit."""

from fastapi import APIRouter, Request, Response

from xairouter.api.asking import (
    Answer,
    IfMatch,
    Json,
    Rehearsed,
    TheActor,
    TheDesk,
    retried,
    tagged,
)
from xairouter.api.reading import PREFIX, StrictRoute
from xairouter.manage import audit, rehearse, routing, settings, take_along
from xairouter.manage.settings import SettingsChange

router = APIRouter(prefix=PREFIX, route_class=StrictRoute)
ROUTING_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": routing.RoutingBody.model_json_schema()}},
    }
}


@router.get("/settings")
async def get_settings(desk: TheDesk, actor: TheActor, response: Response) -> Answer:
    """The owner's settings."""
    view = await settings.get_settings(desk, actor)
    tagged(response, view)
    return view


@router.patch("/settings")
async def change_settings(
    request: Request, desk: TheDesk, actor: TheActor, body: SettingsChange, seen: IfMatch
) -> Answer:
    """Change some of the owner's settings; a new ``webhook_url`` is answered with the secret that
    signs what is sent there, once."""
    values = settings.values_of(body)
    return await retried(request, actor, lambda a: settings.change_settings(desk, a, values, seen))


@router.get("/routing")
async def get_routing(desk: TheDesk, actor: TheActor, response: Response) -> Answer:
    """The owner's routing: level map, switch-over, model failover."""
    view = await routing.get_routing(desk, actor)
    tagged(response, view)
    return view


@router.put("/routing", openapi_extra=ROUTING_BODY)
async def put_routing(
    request: Request,
    desk: TheDesk,
    actor: TheActor,
    body: Json,
    seen: IfMatch,
    rehearsed: Rehearsed,
) -> Answer:
    """Replace the owner's routing; with ``dry_run`` only tell which calls of the last days would
    have gone elsewhere."""
    if rehearsed is not None:
        return await rehearse.rehearse_routing(desk, actor, body, days=rehearsed)
    return await retried(request, actor, lambda a: routing.put_routing(desk, a, body, seen))


@router.get("/prices")
async def get_prices(desk: TheDesk, actor: TheActor) -> Answer:
    """The owner's own prices, over the price list."""
    return await settings.get_prices(desk, actor)


@router.put("/prices")
async def put_prices(request: Request, desk: TheDesk, actor: TheActor, body: Json) -> Answer:
    """Replace the owner's own prices."""
    return await retried(request, actor, lambda a: settings.put_prices(desk, a, body))


@router.get("/audit")
async def show_audit(desk: TheDesk, actor: TheActor, whole: bool = False) -> Answer:
    """Whether the hash chain over records and operations is whole, and a checkpoint to keep. A long
    chain is verified in the background: `state` is `verifying` and `entries` of `of` are done; ask
    again. It goes on from entry `since`, unless `whole` is true."""
    return await audit.show_audit(desk, actor, is_whole=whole)


@router.post("/audit/check")
async def check_audit(desk: TheDesk, actor: TheActor, body: Json) -> Answer:
    """The chain against a checkpoint that was kept elsewhere."""
    return await audit.check_audit(desk, actor, body)


@router.post("/export")
async def export_owner(request: Request, desk: TheDesk, actor: TheActor) -> Answer:
    """Everything of the tree and the vault that an owner can take along, sealed as it is."""
    return await retried(request, actor, lambda a: take_along.export_owner(desk, a))
