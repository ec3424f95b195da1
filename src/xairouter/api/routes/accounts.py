"""Routes of sub-accounts and their XAI API keys, and panic."""

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request, Response

from xairouter.api.asking import IfMatch, Json, Rehearsed, TheActor, TheDesk, retried, tagged
from xairouter.api.bodies import (
    AccountChange,
    AccountNew,
    KeyChange,
    KeyNew,
    KeyRotate,
    Panic,
)
from xairouter.clock import as_ms
from xairouter.manage import accounts, invitations, keys, rehearse, rules
from xairouter.manage.views import account_view, instant, issued_view, key_view

router = APIRouter()
RULES_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": rules.RulesBody.model_json_schema()}},
    }
}
"""Described, not validated by the face: a merge patch is not yet a document."""


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
    """A sub-account with its first key; with ``invite`` a one-time link (72 hours) instead, at
    which its user alone sees the key."""
    wanted = accounts.NewAccount(
        body.name, body.email, body.parent, body.can_manage, body.rules or {}
    )
    if body.invite:
        return _invited(
            request,
            await retried(request, actor, lambda a: invitations.invite_new(desk, a, wanted)),
        )
    return issued_view(
        await retried(request, actor, lambda a: accounts.create_account(desk, a, wanted))
    )


@router.get("/accounts/{account_id}")
async def get_account(desk: TheDesk, actor: TheActor, account_id: str, response: Response) -> Json:
    """One account; its ``etag`` goes into ``If-Match`` of a change."""
    view = account_view(await accounts.get_account(desk, actor, account_id))
    tagged(response, view)
    return view


@router.patch("/accounts/{account_id}")
async def change_account(
    request: Request,
    desk: TheDesk,
    actor: TheActor,
    account_id: str,
    body: AccountChange,
    seen: IfMatch,
) -> Json:
    """Change an account: name, email, status, ``can_manage``, ``parent``."""
    values = {
        name: value
        for name, value in body.model_dump(exclude_unset=True).items()
        if value is not None or name == "email"
    }
    found = await retried(
        request, actor, lambda a: accounts.change_account(desk, a, account_id, values, seen)
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


@router.get("/accounts/{account_id}/rules")
async def get_rules(desk: TheDesk, actor: TheActor, account_id: str, response: Response) -> Json:
    """An account's rules: its own, the effective ones, and whose each part is."""
    view = await rules.show_rules(desk, actor, account_id)
    tagged(response, view["own"])
    return view


@router.put("/accounts/{account_id}/rules", openapi_extra=RULES_BODY)
async def put_rules(
    request: Request,
    desk: TheDesk,
    actor: TheActor,
    account_id: str,
    body: Json,
    seen: IfMatch,
    rehearsed: Rehearsed,
) -> Json:
    """Replace an account's own rules; with ``dry_run`` only tell what that would have done to the
    calls of the last days."""
    if rehearsed is not None:
        return await rehearse.rehearse_rules(
            desk, actor, account_id, body, patch=False, days=rehearsed
        )
    return await retried(request, actor, lambda a: rules.put_rules(desk, a, account_id, body, seen))


@router.patch("/accounts/{account_id}/rules", openapi_extra=RULES_BODY)
async def patch_rules(
    request: Request,
    desk: TheDesk,
    actor: TheActor,
    account_id: str,
    body: Json,
    seen: IfMatch,
    rehearsed: Rehearsed,
) -> Json:
    """Merge into an account's own rules (JSON merge patch), null inherits again; ``dry_run`` as
    with PUT."""
    if rehearsed is not None:
        return await rehearse.rehearse_rules(
            desk, actor, account_id, body, patch=True, days=rehearsed
        )
    return await retried(
        request, actor, lambda a: rules.patch_rules(desk, a, account_id, body, seen)
    )


@router.post("/accounts/{account_id}/invitations", status_code=201)
async def invite(request: Request, desk: TheDesk, actor: TheActor, account_id: str) -> Json:
    """A one-time link (72 hours) at which the account's user alone sees a new key."""
    return _invited(
        request, await retried(request, actor, lambda a: invitations.invite(desk, a, account_id))
    )


def _invited(request: Request, made: invitations.Invitation) -> Json:
    public_url: Callable[[Request], str] = request.app.state.public_url
    return {
        "account": account_view(made.account),
        "link": f"{public_url(request)}/console/invitation/{made.token}",
        "expires_at": instant(made.expires_at_ms),
    }


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
        lambda a: keys.create_key(
            desk, a, account_id, body.name, body.scope, as_ms(body.expires_at)
        ),
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
        values["expires_at_ms"] = as_ms(body.expires_at)
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
