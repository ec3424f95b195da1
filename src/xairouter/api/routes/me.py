"""Routes of oneself: the account behind the key, take-over, recovery, the vault."""

from fastapi import APIRouter, Request, Response

from xairouter.api.asking import (
    Answer,
    RawBody,
    TheActor,
    TheDesk,
    address_of,
    retried,
)
from xairouter.api.reading import PREFIX, StrictRoute
from xairouter.clock import now_ms
from xairouter.custody.intake import read_body
from xairouter.domain.permissions import Permission
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import catalogue, owners, vault
from xairouter.manage.attempts import names_of_sign_in
from xairouter.manage.desk import require
from xairouter.manage.limits import show_limits
from xairouter.manage.permissions import PERMISSIONS, reach_of, role_of
from xairouter.manage.rules import shown_rules
from xairouter.manage.views import account_view, issued_view, key_view

router = APIRouter(prefix=PREFIX, route_class=StrictRoute)


@router.get("/me")
async def me(desk: TheDesk, actor: TheActor) -> Answer:
    """The account, its owner, the key used, what it may do, and what it has used of each limit."""
    require(actor, Permission.ME_READ)
    view = await desk.directory.owner(actor.owner_id)
    caller = actor.caller
    limits, budgets = await show_limits(desk, actor, now_ms())
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
        "rules": await shown_rules(caller.chain),
        "limits": limits,
        "budgets": budgets,
        "revision": view.revision,
    }


@router.post("/me/take-over", status_code=201)
async def take_over(request: Request, desk: TheDesk, actor: TheActor) -> Answer:
    """A new vault, key and recovery code; every earlier key of the tree ends."""
    return issued_view(await retried(request, actor, lambda a: vault.take_over(desk, a)))


@router.post("/recover", status_code=201)
async def recover(request: Request, desk: TheDesk, body: RawBody) -> Answer:
    """A new key and a new code against the recovery code."""
    intake = read_body(body)
    code = intake.fields.pop("recovery_code", None)
    if intake.fields or intake.has_secret:
        raise ManageError(
            ErrorCode.UNKNOWN_FIELD,
            "Only `recovery_code` belongs here.",
            {name[:64]: "unknown" for name in intake.fields},
        )
    if not isinstance(code, str):
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "The field `recovery_code` is missing.",
            {"recovery_code": "must be a string"},
        )
    address = address_of(request)
    counted = desk.attempts.sign_ins.start(*names_of_sign_in(address, code))
    made = await owners.recover(desk, code, address)
    desk.attempts.sign_ins.take_back(counted)
    return issued_view(made)


@router.get("/vault")
async def show_vault(desk: TheDesk, actor: TheActor) -> Answer:
    """The owner's vault: epoch and slots."""
    return await vault.show_vault(desk, actor)


@router.post("/vault/rekey")
async def rekey(request: Request, desk: TheDesk, actor: TheActor) -> Answer:
    """A new vault key; everything is sealed anew."""
    return await retried(request, actor, lambda a: vault.rekey(desk, a))


@router.post("/vault/recovery-code", status_code=201)
async def recovery_code(request: Request, desk: TheDesk, actor: TheActor) -> Answer:
    """A new recovery code; the old one works seven more days."""
    code = await retried(request, actor, lambda a: vault.new_recovery_code(desk, a))
    return {"recovery_code": code}


@router.post("/vault/grants", status_code=201)
async def grant(request: Request, desk: TheDesk, actor: TheActor) -> Answer:
    """Let unattended work of this installation open the vault."""
    return await retried(request, actor, lambda a: vault.grant(desk, a))


@router.delete("/vault/slots/{slot_id}", status_code=204)
async def drop_slot(request: Request, desk: TheDesk, actor: TheActor, slot_id: str) -> Response:
    """Remove a slot of the vault."""
    await retried(request, actor, lambda a: vault.drop_slot(desk, a, slot_id))
    return Response(status_code=204)
