"""Routes of provider keys, and of what they and the known providers serve."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from xairouter.api.asking import IfMatch, Json, RawBody, TheActor, TheDesk, retried, tagged
from xairouter.custody.intake import read_body
from xairouter.domain.accounts import ProviderKey
from xairouter.manage import catalogue, provider_keys
from xairouter.manage.desk import Desk
from xairouter.manage.key_health import health_of
from xairouter.manage.provider_key_use import impact
from xairouter.manage.views import provider_key_view

router = APIRouter()


def _view(desk: Desk, key: ProviderKey, checkup: Mapping[str, Any] | None = None) -> Json:
    return provider_key_view(key, health_of(desk, key), checkup)


@router.get("/provider-keys")
async def list_provider_keys(desk: TheDesk, actor: TheActor) -> Json:
    """The owner's provider keys, without their secrets."""
    found = await provider_keys.list_provider_keys(desk, actor)
    return {"items": [_view(desk, key) for key in found], "next_cursor": None}


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
) -> Json:
    """Seal and store a provider key; its provider is asked first unless ``verify=false``."""
    intake = read_body(body)
    added = await retried(
        request,
        actor,
        lambda a: provider_keys.add_provider_key(desk, a, intake, verify=verify),
    )
    return _view(desk, added.key, added.checkup)


@router.get("/provider-keys/{key_id}")
async def get_provider_key(desk: TheDesk, actor: TheActor, key_id: str, response: Response) -> Json:
    """One provider key."""
    key = await provider_keys.get_provider_key(desk, actor, key_id)
    tagged(response, provider_keys.governed(key))
    return _view(desk, key)


@router.get("/provider-keys/{key_id}/impact")
async def show_impact(desk: TheDesk, actor: TheActor, key_id: str) -> Json:
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
) -> Json:
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
                        "properties": {"secret": {"type": "string", "writeOnly": True}},
                    }
                }
            },
        }
    },
)
async def replace_provider_key(
    request: Request, desk: TheDesk, actor: TheActor, key_id: str, body: RawBody
) -> Json:
    """Put a new secret in the key's place."""
    intake = read_body(body)
    added = await retried(
        request, actor, lambda a: provider_keys.replace_provider_key(desk, a, key_id, intake)
    )
    return _view(desk, added.key, added.checkup)


@router.post("/provider-keys/{key_id}/test")
async def test_provider_key(request: Request, desk: TheDesk, actor: TheActor, key_id: str) -> Json:
    """Ask the provider now, at no cost."""
    added = await retried(
        request, actor, lambda a: provider_keys.test_provider_key(desk, a, key_id)
    )
    return _view(desk, added.key, added.checkup)


@router.delete("/provider-keys/{key_id}")
async def delete_provider_key(
    request: Request, desk: TheDesk, actor: TheActor, key_id: str
) -> Json:
    """Delete a provider key; the answer is the receipt."""
    return await retried(
        request, actor, lambda a: provider_keys.delete_provider_key(desk, a, key_id)
    )


@router.get("/models")
async def list_models(desk: TheDesk, actor: TheActor) -> Json:
    """The catalogue behind /v1/models, with level, provider and price."""
    return {"items": await catalogue.list_models(desk, actor), "next_cursor": None}


@router.get("/providers")
async def list_providers(actor: TheActor) -> Json:
    """The known providers."""
    return {"items": catalogue.list_providers(actor), "next_cursor": None}
