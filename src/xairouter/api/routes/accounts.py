"""Routes of sub-accounts and their XAI API keys, and panic."""

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request, Response

from xairouter.api.asking import (
    Answer,
    IfMatch,
    Json,
    Rehearsed,
    TheActor,
    TheCaller,
    TheDesk,
    paged,
    retried,
    tagged,
)
from xairouter.api.bodies import (
    AccountChange,
    AccountNew,
    KeyChange,
    KeyNew,
    KeyRotate,
    Panic,
)
from xairouter.api.reading import PREFIX, StrictRoute, described
from xairouter.clock import as_ms
from xairouter.domain.accounts import AccountStatus, KeyScope, KeyStatus
from xairouter.manage import accounts, invitations, keys, rehearse, rules
from xairouter.manage import panic as panics
from xairouter.manage.views import account_view, instant, issued_view, key_view

router = APIRouter(prefix=PREFIX, route_class=StrictRoute)
RULES_BODY = described(rules.RulesBody.model_json_schema())
"""Described, not validated by the face: a merge patch is not yet a document."""


@router.get("/accounts", response_model=Answer)
async def list_accounts(
    desk: TheDesk, actor: TheActor, scope: Literal["children", "descendants"] = "children"
) -> Response:
    """Sub-accounts below the caller's own."""
    found = await accounts.list_accounts(desk, actor, scope)
    return await paged(actor, found, view=account_view)


@router.post("/accounts", status_code=201)
async def create_account(
    request: Request, desk: TheDesk, actor: TheActor, body: AccountNew
) -> Answer:
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
async def get_account(
    desk: TheDesk, actor: TheActor, account_id: str, response: Response
) -> Answer:
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
) -> Answer:
    """Change an account: name, email, status, ``can_manage``, ``parent``."""
    values: accounts.AccountChange = {}
    if body.name is not None:
        values["name"] = body.name
    if "email" in body.model_fields_set:
        values["email"] = body.email
    if body.status is not None:
        values["status"] = AccountStatus(body.status)
    if body.can_manage is not None:
        values["can_manage"] = body.can_manage
    if body.parent is not None:
        values["parent"] = body.parent
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
async def get_rules(desk: TheDesk, actor: TheActor, account_id: str, response: Response) -> Answer:
    """An account's rules: its own, the effective ones, and whose each part is."""
    view = await rules.show_rules(desk, actor, account_id)
    tagged(response, view["own"])
    return view


@router.put("/accounts/{account_id}/rules", openapi_extra=RULES_BODY)
async def put_rules(
    caller: TheCaller, account_id: str, body: Json, seen: IfMatch, rehearsed: Rehearsed
) -> Answer:
    """Replace an account's own rules; with ``dry_run`` only tell what that would have done to the
    calls of the last days."""
    if rehearsed is not None:
        return await rehearse.rehearse_rules(
            caller.desk, caller.actor, account_id, body, patch=False, days=rehearsed
        )
    return await caller.retried(lambda a: rules.put_rules(caller.desk, a, account_id, body, seen))


@router.patch("/accounts/{account_id}/rules", openapi_extra=RULES_BODY)
async def patch_rules(
    caller: TheCaller, account_id: str, body: Json, seen: IfMatch, rehearsed: Rehearsed
) -> Answer:
    """Merge into an account's own rules (JSON merge patch), null inherits again; ``dry_run`` as
    with PUT."""
    if rehearsed is not None:
        return await rehearse.rehearse_rules(
            caller.desk, caller.actor, account_id, body, patch=True, days=rehearsed
        )
    return await caller.retried(lambda a: rules.patch_rules(caller.desk, a, account_id, body, seen))


@router.post("/accounts/{account_id}/invitations", status_code=201)
async def invite(request: Request, desk: TheDesk, actor: TheActor, account_id: str) -> Answer:
    """A one-time link (72 hours) at which the account's user alone sees a new key."""
    return _invited(
        request, await retried(request, actor, lambda a: invitations.invite(desk, a, account_id))
    )


def _invited(request: Request, made: invitations.Invitation) -> Answer:
    console_url: Callable[[Request], str] = request.app.state.console_url
    return {
        "account": account_view(made.account),
        "link": f"{console_url(request)}/console/invitation/{made.token}",
        "expires_at": instant(made.expires_at_ms),
    }


@router.get("/accounts/{account_id}/keys", response_model=Answer)
async def list_keys(desk: TheDesk, actor: TheActor, account_id: str) -> Response:
    """An account's XAI API keys."""
    found = await keys.list_keys(desk, actor, account_id)
    return await paged(actor, found, view=key_view)


@router.post("/accounts/{account_id}/keys", status_code=201)
async def create_key(
    request: Request, desk: TheDesk, actor: TheActor, account_id: str, body: KeyNew
) -> Answer:
    """A further XAI API key, shown once."""
    made = await retried(
        request,
        actor,
        lambda a: keys.create_key(
            desk, a, account_id, body.name, KeyScope(body.scope), as_ms(body.expires_at)
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
) -> Answer:
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
) -> Answer:
    """Change a key's name, status or expiry (null: never)."""
    values: keys.KeyChange = {}
    if body.name is not None:
        values["name"] = body.name
    if body.status is not None:
        values["status"] = KeyStatus(body.status)
    if "expires_at" in body.model_fields_set:
        values["expires_at_ms"] = as_ms(body.expires_at)
    return key_view(
        await retried(
            request, actor, lambda a: keys.change_key(desk, a, account_id, key_id, {**values})
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
) -> Answer:
    """Suspend every XAI API key within reach except the one used; end sessions and invitations."""
    count = await retried(request, actor, lambda a: panics.panic(desk, a))
    return {"suspended": count}


@router.post("/panic/undo")
async def panic_undo(
    request: Request, desk: TheDesk, actor: TheActor, body: Panic | None = None
) -> Answer:
    """Bring back the keys that this account's panic suspended, and no others."""
    count = await retried(request, actor, lambda a: panics.undo(desk, a))
    return {"resumed": count}
