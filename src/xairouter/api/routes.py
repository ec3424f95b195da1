"""The routes of /api/v1: each one verb of ``manage``, and nothing more."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from xairouter.api.asking import RawBody, TheActor, TheDesk, address_of, retried
from xairouter.api.bodies import (
    AccountChange,
    AccountNew,
    KeyChange,
    KeyNew,
    KeyRotate,
    Panic,
    SettingsChange,
)
from xairouter.custody.intake import read_body
from xairouter.errors import ManageError
from xairouter.manage import (
    accounts,
    catalogue,
    keys,
    owners,
    provider_keys,
    settings,
    usage,
    vault,
)
from xairouter.manage.desk import require
from xairouter.manage.permissions import PERMISSIONS, reach_of, role_of
from xairouter.manage.views import account_view, key_view, provider_key_view

router = APIRouter(prefix="/api/v1")

Limit = Annotated[int, Query(ge=1, le=500)]
Json = dict[str, Any]


def _issued(secrets: owners.Secrets) -> Json:
    shown: Json = {
        "account": account_view(secrets.account),
        "key": key_view(secrets.key),
        "api_key": secrets.api_key,
    }
    if secrets.recovery_code is not None:
        shown["recovery_code"] = secrets.recovery_code
    return shown


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


@router.get("/me")
async def me(desk: TheDesk, actor: TheActor) -> Json:
    """The account, its owner, the key used and what it may do."""
    require(actor, "me.read")
    view = await desk.directory.owner(actor.owner_id)
    caller = actor.caller
    return {
        "account": account_view(caller.account),
        "owner": account_view(caller.chain[0]),
        "key": key_view(caller.key),
        "role": role_of(caller),
        "permissions": {
            verb: reach_of(caller, verb)
            for verb in PERMISSIONS
            if reach_of(caller, verb) is not None
        },
        "seen_by_operator": await catalogue.seen_by_operator(desk, actor),
        "rules": {"own": {}, "effective": {}},
        "limits": [],
        "budgets": [],
        "revision": view.revision,
    }


@router.post("/me/take-over", status_code=201)
async def take_over(request: Request, desk: TheDesk, actor: TheActor) -> Json:
    """A new vault, key and recovery code; every earlier key of the tree ends."""
    return _issued(await retried(request, actor, lambda a: vault.take_over(desk, a)))


@router.post("/recover", status_code=201)
async def recover(request: Request, desk: TheDesk, body: RawBody) -> Json:
    """A new key and a new code against the recovery code."""
    intake = read_body(body)
    code = intake.fields.pop("recovery_code", None)
    if intake.fields or intake.has_secret:
        raise ManageError(
            "unknown_field",
            "Only `recovery_code` belongs here.",
            {name[:64]: "unknown" for name in intake.fields},
        )
    if not isinstance(code, str):
        raise ManageError(
            "invalid_field",
            "The field `recovery_code` is missing.",
            {"recovery_code": "must be a string"},
        )
    return _issued(await owners.recover(desk, code, address_of(request)))


@router.get("/vault")
async def show_vault(desk: TheDesk, actor: TheActor) -> Json:
    """The owner's vault: epoch and slots."""
    return await vault.show_vault(desk, actor)


@router.post("/vault/rekey")
async def rekey(request: Request, desk: TheDesk, actor: TheActor) -> Json:
    """A new vault key; everything is sealed anew."""
    return await retried(request, actor, lambda a: vault.rekey(desk, a))


@router.post("/vault/recovery-code", status_code=201)
async def recovery_code(request: Request, desk: TheDesk, actor: TheActor) -> Json:
    """A new recovery code; the old one works seven more days."""
    code = await retried(request, actor, lambda a: vault.new_recovery_code(desk, a))
    return {"recovery_code": code}


@router.post("/vault/grants", status_code=201)
async def grant(request: Request, desk: TheDesk, actor: TheActor) -> Json:
    """Let unattended work of this installation open the vault."""
    return await retried(request, actor, lambda a: vault.grant(desk, a))


@router.delete("/vault/slots/{slot_id}", status_code=204)
async def drop_slot(request: Request, desk: TheDesk, actor: TheActor, slot_id: str) -> Response:
    """Remove a slot of the vault."""
    await retried(request, actor, lambda a: vault.drop_slot(desk, a, slot_id))
    return Response(status_code=204)


@router.get("/accounts")
async def list_accounts(
    desk: TheDesk, actor: TheActor, scope: Literal["children", "descendants"] = "children"
) -> Json:
    """Sub-accounts below the caller's own."""
    found = await accounts.list_accounts(desk, actor, scope)
    return {"items": [account_view(account) for account in found], "next_cursor": None}


@router.post("/accounts", status_code=201)
async def create_account(
    request: Request, desk: TheDesk, actor: TheActor, body: AccountNew
) -> Json:
    """A sub-account with its first key."""
    wanted = accounts.NewAccount(body.name, body.email, body.parent, body.can_manage)
    return _issued(
        await retried(request, actor, lambda a: accounts.create_account(desk, a, wanted))
    )


@router.get("/accounts/{account_id}")
async def get_account(desk: TheDesk, actor: TheActor, account_id: str) -> Json:
    """One account."""
    return account_view(await accounts.get_account(desk, actor, account_id))


@router.patch("/accounts/{account_id}")
async def change_account(
    request: Request, desk: TheDesk, actor: TheActor, account_id: str, body: AccountChange
) -> Json:
    """Change an account: name, email, status, ``can_manage``, ``parent``."""
    values = {
        name: value
        for name, value in body.model_dump(exclude_unset=True).items()
        if value is not None or name == "email"
    }
    found = await retried(
        request, actor, lambda a: accounts.change_account(desk, a, account_id, values)
    )
    return account_view(found)


@router.delete("/accounts/{account_id}", status_code=204)
async def delete_account(
    request: Request, desk: TheDesk, actor: TheActor, account_id: str, recursive: bool = False
) -> Response:
    """Delete an account; with ``recursive`` everything below it too."""
    await retried(
        request,
        actor,
        lambda a: accounts.delete_account(desk, a, account_id, recursive=recursive),
    )
    return Response(status_code=204)


@router.get("/accounts/{account_id}/keys")
async def list_keys(desk: TheDesk, actor: TheActor, account_id: str) -> Json:
    """An account's XAI API keys."""
    found = await keys.list_keys(desk, actor, account_id)
    return {"items": [key_view(key) for key in found], "next_cursor": None}


@router.post("/accounts/{account_id}/keys", status_code=201)
async def create_key(
    request: Request, desk: TheDesk, actor: TheActor, account_id: str, body: KeyNew
) -> Json:
    """A further XAI API key, shown once."""
    made = await retried(
        request,
        actor,
        lambda a: keys.create_key(desk, a, account_id, body.name, body.scope, _ms(body.expires_at)),
    )
    return {"key": key_view(made.key), "api_key": made.api_key}


@router.post("/accounts/{account_id}/keys/{key_id}/rotate", status_code=201)
async def rotate_key(
    request: Request,
    desk: TheDesk,
    actor: TheActor,
    account_id: str,
    key_id: str,
    body: KeyRotate | None = None,
) -> Json:
    """A new key in the old one's place, which works a little longer."""
    overlap = body.overlap_seconds if body else 0
    made = await retried(
        request, actor, lambda a: keys.rotate_key(desk, a, account_id, key_id, overlap)
    )
    return {"key": key_view(made.key), "api_key": made.api_key}


@router.patch("/accounts/{account_id}/keys/{key_id}")
async def change_key(
    request: Request,
    desk: TheDesk,
    actor: TheActor,
    account_id: str,
    key_id: str,
    body: KeyChange,
) -> Json:
    """Change a key's name, status or expiry (null: never)."""
    given = body.model_dump(exclude_unset=True)
    values = {name: given[name] for name in ("name", "status") if given.get(name) is not None}
    if "expires_at" in given:
        values["expires_at_ms"] = _ms(body.expires_at)
    return key_view(
        await retried(
            request, actor, lambda a: keys.change_key(desk, a, account_id, key_id, dict(values))
        )
    )


@router.delete("/accounts/{account_id}/keys/{key_id}", status_code=204)
async def delete_key(
    request: Request, desk: TheDesk, actor: TheActor, account_id: str, key_id: str
) -> Response:
    """Delete a key for good."""
    await retried(request, actor, lambda a: keys.delete_key(desk, a, account_id, key_id))
    return Response(status_code=204)


@router.get("/provider-keys")
async def list_provider_keys(desk: TheDesk, actor: TheActor) -> Json:
    """The owner's provider keys, without their secrets."""
    found = await provider_keys.list_provider_keys(desk, actor)
    return {"items": [provider_key_view(key) for key in found], "next_cursor": None}


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
    return provider_key_view(added.key, added.checkup)


@router.get("/provider-keys/{key_id}")
async def get_provider_key(desk: TheDesk, actor: TheActor, key_id: str) -> Json:
    """One provider key."""
    return provider_key_view(await provider_keys.get_provider_key(desk, actor, key_id))


@router.patch(
    "/provider-keys/{key_id}",
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}
    },
)
async def change_provider_key(
    request: Request, desk: TheDesk, actor: TheActor, key_id: str, body: RawBody
) -> Json:
    """Change name, level, weight, models or status; endpoints together with ``secret``."""
    return provider_key_view(
        await retried(
            request, actor, lambda a: provider_keys.change_provider_key(desk, a, key_id, body)
        )
    )


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
    added = await retried(
        request, actor, lambda a: provider_keys.replace_provider_key(desk, a, key_id, body)
    )
    return provider_key_view(added.key, added.checkup)


@router.post("/provider-keys/{key_id}/test")
async def test_provider_key(request: Request, desk: TheDesk, actor: TheActor, key_id: str) -> Json:
    """Ask the provider now, at no cost."""
    added = await retried(
        request, actor, lambda a: provider_keys.test_provider_key(desk, a, key_id)
    )
    return provider_key_view(added.key, added.checkup)


@router.delete("/provider-keys/{key_id}")
async def delete_provider_key(
    request: Request, desk: TheDesk, actor: TheActor, key_id: str
) -> Json:
    """Delete a provider key; the answer is the receipt."""
    return await retried(
        request, actor, lambda a: provider_keys.delete_provider_key(desk, a, key_id)
    )


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


def _asked(
    account: str | None = None,
    scope: Literal["subtree", "self"] = "subtree",
    since: Annotated[datetime | None, Query(alias="from")] = None,
    until: Annotated[datetime | None, Query(alias="to")] = None,
    call_id: str | None = None,
    key_id: str | None = None,
    provider_key_id: str | None = None,
    model: str | None = None,
    status: int | None = None,
    outcome: str | None = None,
    label: str | None = None,
) -> usage.Asked:
    """Query parameters that choose usage records."""
    equal = {
        "call_id": call_id,
        "key_id": key_id,
        "provider_key_id": provider_key_id,
        "model_asked": model,
        "status": status,
        "outcome": outcome,
        "label": label,
    }
    return usage.Asked(
        account,
        scope == "self",
        _ms(since),
        _ms(until),
        {name: value for name, value in equal.items() if value is not None},
    )


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


@router.get("/models")
async def list_models(desk: TheDesk, actor: TheActor) -> Json:
    """The catalogue behind /v1/models, with level, provider and price."""
    return {"items": await catalogue.list_models(desk, actor), "next_cursor": None}


@router.get("/providers")
async def list_providers(actor: TheActor) -> Json:
    """The known providers."""
    return {"items": catalogue.list_providers(actor), "next_cursor": None}


@router.post("/panic")
async def panic(
    request: Request, desk: TheDesk, actor: TheActor, body: Panic | None = None
) -> Json:
    """Suspend every XAI API key within reach except the one used."""
    count = await retried(request, actor, lambda a: accounts.panic(desk, a, undo=False))
    return {"suspended": count}


@router.post("/panic/undo")
async def panic_undo(
    request: Request, desk: TheDesk, actor: TheActor, body: Panic | None = None
) -> Json:
    """Bring the suspended keys back."""
    count = await retried(request, actor, lambda a: accounts.panic(desk, a, undo=True))
    return {"resumed": count}
