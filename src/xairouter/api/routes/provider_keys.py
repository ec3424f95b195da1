"""Routes of provider keys, and of what they and the known providers serve."""

from fastapi import APIRouter, Request, Response

from xairouter.api.asking import (
    Answer,
    IfMatch,
    RawBody,
    TheActor,
    TheDesk,
    paged,
    retried,
    tagged,
)
from xairouter.api.reading import PREFIX, StrictRoute
from xairouter.custody.intake import read_body
from xairouter.domain.accounts import ProviderKey
from xairouter.manage import catalogue, provider_keys
from xairouter.manage.desk import Desk
from xairouter.manage.key_health import health_of
from xairouter.manage.provider_key_use import impact
from xairouter.manage.views import CheckupView, provider_key_view

router = APIRouter(prefix=PREFIX, route_class=StrictRoute)


def _view(desk: Desk, key: ProviderKey, checkup: CheckupView | None = None) -> Answer:
    return provider_key_view(key, health_of(desk, key), checkup)


@router.get("/provider-keys", response_model=Answer)
async def list_provider_keys(desk: TheDesk, actor: TheActor) -> Response:
    """The owner's provider keys, without their secrets."""
    found = await provider_keys.list_provider_keys(desk, actor)
    return await paged(actor, found, view=lambda key: _view(desk, key))


@router.post(
    "/provider-keys",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["name", "secret"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {"type": "string"},
                            "provider": {"type": "string"},
                            "endpoints": {
                                "type": "object",
                                "additionalProperties": {"type": "string"},
                            },
                            "secret": {"type": "string", "writeOnly": True},
                            "level": {"type": "integer", "minimum": 1, "default": 1},
                            "weight": {"type": "integer", "minimum": 1, "default": 1},
                            "models": {"type": "array", "items": {"type": "string"}},
                        },
                    }
                }
            },
        }
    },
)
async def add_provider_key(
    request: Request, desk: TheDesk, actor: TheActor, body: RawBody, verify: bool = True
) -> Answer:
    """Seal and store a provider key; its provider is asked first unless ``verify=false``."""
    intake = read_body(body)
    added = await retried(
        request,
        actor,
        lambda a: provider_keys.add_provider_key(desk, a, intake, verify=verify),
    )
    return _view(desk, added.key, added.checkup)


@router.get("/provider-keys/{key_id}")
async def get_provider_key(
    desk: TheDesk, actor: TheActor, key_id: str, response: Response
) -> Answer:
    """One provider key."""
    key = await provider_keys.get_provider_key(desk, actor, key_id)
    tagged(response, provider_keys.governed(key))
    return _view(desk, key)


@router.get("/provider-keys/{key_id}/impact")
async def show_impact(desk: TheDesk, actor: TheActor, key_id: str) -> Answer:
    """What would stop without this key: accounts and calls of the last seven days, and models."""
    return await impact(desk, actor, key_id)


@router.patch(
    "/provider-keys/{key_id}",
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}
    },
)
async def change_provider_key(
    request: Request, desk: TheDesk, actor: TheActor, key_id: str, body: RawBody, seen: IfMatch
) -> Answer:
    """Change name, level, weight, models or status; endpoints together with ``secret``."""
    intake = read_body(body)
    changed = await retried(
        request,
        actor,
        lambda a: provider_keys.change_provider_key(desk, a, key_id, intake, seen),
    )
    return _view(desk, changed)


@router.post(
    "/provider-keys/{key_id}/replace",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["secret"],
                        "properties": {
                            "secret": {"type": "string", "writeOnly": True},
                            "provider": {"type": "string"},
                            "endpoints": {
                                "type": "object",
                                "additionalProperties": {"type": "string"},
                            },
                        },
                    }
                }
            },
        }
    },
)
async def replace_provider_key(
    request: Request, desk: TheDesk, actor: TheActor, key_id: str, body: RawBody
) -> Answer:
    """Put a new secret in the key's place, with ``provider`` and ``endpoints`` also where it goes."""
    intake = read_body(body)
    added = await retried(
        request, actor, lambda a: provider_keys.replace_provider_key(desk, a, key_id, intake)
    )
    return _view(desk, added.key, added.checkup)


@router.post("/provider-keys/{key_id}/test")
async def test_provider_key(
    request: Request, desk: TheDesk, actor: TheActor, key_id: str
) -> Answer:
    """Ask the provider now, at no cost."""
    added = await retried(
        request, actor, lambda a: provider_keys.test_provider_key(desk, a, key_id)
    )
    return _view(desk, added.key, added.checkup)


@router.delete("/provider-keys/{key_id}")
async def delete_provider_key(
    request: Request, desk: TheDesk, actor: TheActor, key_id: str
) -> Answer:
    """Delete a provider key; the answer is the receipt."""
    return await retried(
        request, actor, lambda a: provider_keys.delete_provider_key(desk, a, key_id)
    )


@router.get("/models", response_model=Answer)
async def list_models(desk: TheDesk, actor: TheActor) -> Response:
    """The catalogue behind /v1/models, with level, provider and price."""
    body = await catalogue.encoded_models(desk, actor)
    return Response(body, media_type="application/json")


@router.get("/providers")
async def list_providers(actor: TheActor) -> Answer:
    """The known providers."""
    return {"items": catalogue.list_providers(actor), "next_cursor": None}
