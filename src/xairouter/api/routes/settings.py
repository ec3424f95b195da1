"""Routes of the owner's settings and prices."""

from fastapi import APIRouter, Request

from xairouter.api.asking import Json, TheActor, TheDesk, retried
from xairouter.api.bodies import SettingsChange
from xairouter.manage import settings

router = APIRouter()


@router.get("/settings")
async def get_settings(desk: TheDesk, actor: TheActor) -> Json:
    """The owner's settings."""
    return await settings.get_settings(desk, actor)


@router.patch("/settings")
async def change_settings(
    request: Request, desk: TheDesk, actor: TheActor, body: SettingsChange
) -> Json:
    """Change some of the owner's settings."""
    values = {
        name: value
        for name, value in body.model_dump(exclude_unset=True).items()
        if value is not None
    }
    return await retried(request, actor, lambda a: settings.change_settings(desk, a, dict(values)))


@router.get("/prices")
async def get_prices(desk: TheDesk, actor: TheActor) -> Json:
    """The owner's own prices, over the price list."""
    return await settings.get_prices(desk, actor)


@router.put("/prices")
async def put_prices(request: Request, desk: TheDesk, actor: TheActor, body: Json) -> Json:
    """Replace the owner's own prices."""
    return await retried(request, actor, lambda a: settings.put_prices(desk, a, body))
