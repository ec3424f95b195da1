"""The operator's pages: owners, their states, invitations; no key and no call is within reach."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from xairouter.console.visit import SECURITY_HEADERS, Visit, status_of
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import operators

HOME = "/console/operator"


async def show_link(visit: Visit) -> Response:
    """What an operator's link opens; looking uses nothing up."""
    token = visit.request.path_params["token"]
    if not await operators.is_operator_link(visit.desk.database, token):
        return visit.render("gone.html", 404)
    return visit.render("operator_link.html", can_sign_in=visit.can_sign_in)


async def use_link(visit: Visit) -> Response:
    """Open the operator's session."""
    if not visit.can_sign_in:
        return visit.render("operator_link.html", 403, can_sign_in=False)
    try:
        token = visit.request.path_params["token"]
        session = await operators.open_operator_session(visit.desk.database, token)
    except ManageError:
        return visit.render("gone.html", 404)
    moved = visit.see(HOME)
    visit.set_operator_cookie(moved, session)
    return moved


async def show_owners(visit: Visit) -> Response:
    return await _page(visit)


async def _page(visit: Visit, status: int = 200, **values: Any) -> Response:
    shown = {"error": None, "link": "", "typed": {}, **values}
    return visit.render(
        "operator.html", status, owners=await operators.show_owners(visit.desk), **shown
    )


async def invite_owner(visit: Visit) -> Response:
    """A link for a new owner, shown once."""
    fields = await visit.form()
    try:
        _, token = await operators.invite_owner(
            visit.desk, fields.get("name", ""), fields.get("email")
        )
    except ManageError as error:
        return await _page(visit, status_of(error), error=error, typed=fields)
    return await _page(visit, 201, link=f"{visit.url}/console/setup/{token}")


async def change_owner(visit: Visit) -> Response:
    """Suspend, resume, or, with its name typed, delete an owner."""
    owner_id = visit.request.path_params["owner_id"]
    fields = await visit.form()
    act = fields.get("act", "")
    if act in ("suspend", "resume"):
        await operators.suspend_owner(visit.desk, owner_id, suspended=act == "suspend")
    elif act == "delete":
        shown = {one["id"]: one["name"] for one in await operators.show_owners(visit.desk)}
        if fields.get("confirm") != shown.get(owner_id):
            error = ManageError(ErrorCode.INVALID_FIELD, str(visit.words("danger.mismatch")))
            return await _page(visit, 422, error=error)
        await operators.delete_owner(visit.desk, owner_id)
    return visit.see(HOME, "saved")


async def sign_out(visit: Visit) -> Response:
    await operators.close_operator_session(visit.desk.database, visit.operator_token)
    moved = RedirectResponse("/console/sign-in", 303, headers=SECURITY_HEADERS)
    visit.forget_cookie(moved)
    return moved
