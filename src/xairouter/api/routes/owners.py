"""Routes of the operator, with the session of ``xairouter operator link`` and nothing else."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from xairouter.api.asking import Json, TheDesk, desk_of
from xairouter.api.bodies import OwnerChange, OwnerNew
from xairouter.errors import ManageError
from xairouter.manage import operators
from xairouter.manage.views import account_view, instant


async def _operator(request: Request) -> None:
    """Raises ManageError unless the operator's session asks, from this very site."""
    if not await operators.is_operator(desk_of(request).database, session_of(request)):
        raise ManageError("invalid_api_key", "This needs the session of `xairouter operator link`.")
    site = request.headers.get("sec-fetch-site", "none")
    if request.method != "GET" and site not in ("none", "same-origin"):
        raise ManageError("forbidden", "The request was sent from another site.")


def session_of(request: Request) -> str:
    """The operator's session token as it came."""
    cookies = request.cookies
    return cookies.get(operators.SECURE_COOKIE) or cookies.get(operators.PLAIN_COOKIE, "")


router = APIRouter(dependencies=[Depends(_operator)])
PublicUrl = Callable[[Request], str]


def _public_url(request: Request) -> PublicUrl:
    found: PublicUrl = request.app.state.public_url
    return found


@router.get("/owners")
async def list_owners(desk: TheDesk) -> Json:
    """Every owner: names and states."""
    return {"items": await operators.show_owners(desk), "next_cursor": None}


@router.post("/owners", status_code=201)
async def invite_owner(
    request: Request,
    desk: TheDesk,
    body: OwnerNew,
    public_url: Annotated[PublicUrl, Depends(_public_url)],
) -> Json:
    """A one-time link (24 hours) at which the new owner alone sees its key and recovery code."""
    link, token = await operators.invite_owner(desk, body.name, body.email)
    return {
        "account_id": link.account_id,
        "link": f"{public_url(request)}/console/setup/{token}",
        "expires_at": instant(link.expires_at_ms),
    }


@router.patch("/owners/{owner_id}")
async def change_owner(desk: TheDesk, owner_id: str, body: OwnerChange) -> Json:
    """Suspend an owner, or resume it."""
    suspended = body.status == "suspended"
    return account_view(await operators.suspend_owner(desk, owner_id, suspended=suspended))


@router.delete("/owners/{owner_id}", status_code=204)
async def delete_owner(desk: TheDesk, owner_id: str) -> Response:
    """Delete an owner: every slot and sealed key goes, records stay."""
    await operators.delete_owner(desk, owner_id)
    return Response(status_code=204)
