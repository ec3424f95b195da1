"""Routes of the owner's settings, routing, prices and audit."""

from fastapi import APIRouter, Request, Response

from xairouter.api.asking import IfMatch, Json, Rehearsed, TheActor, TheDesk, retried, tagged
from xairouter.manage import audit, rehearse, routing, settings, take_along
from xairouter.manage.settings import SettingsChange

router = APIRouter()
ROUTING_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": routing.RoutingBody.model_json_schema()}},
    }
}


@router.get("/settings")
async def get_settings(desk: TheDesk, actor: TheActor, response: Response) -> Json:
    """The owner's settings."""
    view = await settings.get_settings(desk, actor)
    tagged(response, view)
    return view


@router.patch("/settings")
async def change_settings(
    request: Request, desk: TheDesk, actor: TheActor, body: SettingsChange, seen: IfMatch
) -> Json:
    """Change some of the owner's settings; a new ``webhook_url`` is answered with the secret that
    signs what is sent there, once."""
    values = {
        name: value
        for name, value in body.model_dump(exclude_unset=True).items()
        if value is not None or name == "webhook_url"
    }
    return await retried(
        request, actor, lambda a: settings.change_settings(desk, a, dict(values), seen)
    )


@router.get("/routing")
async def get_routing(desk: TheDesk, actor: TheActor, response: Response) -> Json:
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
) -> Json:
    """Replace the owner's routing; with ``dry_run`` only tell which calls of the last days would
    have gone elsewhere."""
    if rehearsed is not None:
        return await rehearse.rehearse_routing(desk, actor, body, days=rehearsed)
    return await retried(request, actor, lambda a: routing.put_routing(desk, a, body, seen))


@router.get("/prices")
async def get_prices(desk: TheDesk, actor: TheActor) -> Json:
    """The owner's own prices, over the price list."""
    return await settings.get_prices(desk, actor)


@router.put("/prices")
async def put_prices(request: Request, desk: TheDesk, actor: TheActor, body: Json) -> Json:
    """Replace the owner's own prices."""
    return await retried(request, actor, lambda a: settings.put_prices(desk, a, body))


@router.get("/audit")
async def show_audit(desk: TheDesk, actor: TheActor) -> Json:
    """Whether the hash chain over records and operations is whole, and a checkpoint to keep."""
    return await audit.show_audit(desk, actor)


@router.post("/audit/check")
async def check_audit(desk: TheDesk, actor: TheActor, body: Json) -> Json:
    """The chain against a checkpoint that was kept elsewhere."""
    return await audit.check_audit(desk, actor, body)


@router.post("/export")
async def export_owner(request: Request, desk: TheDesk, actor: TheActor) -> Json:
    """Everything of the tree and the vault that an owner can take along, sealed as it is."""
    return await retried(request, actor, lambda a: take_along.export_owner(desk, a))
