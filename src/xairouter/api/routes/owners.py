"""Routes of the operator, with the session of ``xairouter operator link`` and nothing else."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from xairouter.api.asking import (
    Answer,
    TheDesk,
    desk_of,
    operator_token,
)
from xairouter.api.bodies import OwnerChange, OwnerNew
from xairouter.api.reading import PREFIX, StrictRoute
from xairouter.domain.accounts import AccountStatus
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import operators
from xairouter.manage.views import account_view, instant


async def _operator(request: Request) -> None:
    """Raises ManageError unless the operator's session asks, from this very site."""
    if not await operators.is_operator(desk_of(request).database, operator_token(request)):
        raise ManageError(
            ErrorCode.INVALID_API_KEY, "This needs the session of `xairouter operator link`."
        )
    site = request.headers.get("sec-fetch-site", "none")
    if request.method != "GET" and site not in ("none", "same-origin"):
        raise ManageError(ErrorCode.FORBIDDEN, "The request was sent from another site.")


router = APIRouter(prefix=PREFIX, dependencies=[Depends(_operator)], route_class=StrictRoute)
ConsoleUrl = Callable[[Request], str]


def _console_url(request: Request) -> ConsoleUrl:
    found: ConsoleUrl = request.app.state.console_url
    return found


@router.get("/owners")
async def list_owners(desk: TheDesk) -> Answer:
    """Every owner: names and states."""
    return {"items": await operators.show_owners(desk), "next_cursor": None}


@router.post("/owners", status_code=201)
async def invite_owner(
    request: Request,
    desk: TheDesk,
    body: OwnerNew,
    console_url: Annotated[ConsoleUrl, Depends(_console_url)],
) -> Answer:
    """A one-time link (24 hours) at which the new owner alone sees its key and recovery code."""
    link, token = await operators.invite_owner(desk, body.name, body.email)
    return {
        "account_id": link.account_id,
        "link": f"{console_url(request)}/console/setup/{token}",
        "expires_at": instant(link.expires_at_ms),
    }


@router.patch("/owners/{owner_id}")
async def change_owner(desk: TheDesk, owner_id: str, body: OwnerChange) -> Answer:
    """Suspend an owner, or resume it."""
    suspended = AccountStatus(body.status) == AccountStatus.SUSPENDED
    return account_view(await operators.suspend_owner(desk, owner_id, suspended=suspended))


@router.delete("/owners/{owner_id}", status_code=204)
async def delete_owner(desk: TheDesk, owner_id: str) -> Response:
    """Delete an owner: every slot and sealed key goes, records stay."""
    await operators.delete_owner(desk, owner_id)
    return Response(status_code=204)
