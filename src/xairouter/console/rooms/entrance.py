"""The entrance: the one-time links, signing in and out, the recovery code, the theme."""

from contextlib import suppress

from starlette.responses import RedirectResponse, Response

from xairouter.console.origin import local_path
from xairouter.console.snippets import filled
from xairouter.console.visit import (
    RAIL_COOKIE,
    RAILS,
    SECURITY_HEADERS,
    THEME_COOKIE,
    THEMES,
    Visit,
)
from xairouter.errors import ErrorCode, ManageError, StorageError
from xairouter.manage import invitations, links, owners, sessions
from xairouter.manage.attempts import Counted, names_of_sign_in
from xairouter.manage.desk import StaleVaultError
from xairouter.manage.owners import Secrets


def _count_try(visit: Visit, template: str, secret: str, **values: object) -> Counted | Response:
    """Count a try before it is made; a refusal where an address, or a secret from wherever, has
    been wrong too often."""
    tries, names = visit.desk.attempts.sign_ins, names_of_sign_in(visit.address, secret)
    seconds = tries.wait(*names)
    if not seconds:
        return tries.count(*names)
    problem = visit.words("sign_in.wait", seconds=seconds)
    page = visit.render(template, 429, problem=problem, can_sign_in=visit.can_sign_in, **values)
    page.headers["retry-after"] = str(seconds)
    return page


async def show_setup(visit: Visit) -> Response:
    """The form behind a one-time link; looking uses nothing up."""
    link = await links.find_link(visit.desk.database, visit.request.path_params["token"])
    return visit.render("gone.html", 404) if link is None else _setup_form(visit, link)


async def use_setup(visit: Visit) -> Response:
    """Use the link up: an owner comes into being, and its secrets are shown, once."""
    token = visit.request.path_params["token"]
    link = await links.find_link(visit.desk.database, token)
    if link is None:
        return visit.render("gone.html", 404)
    fields = await visit.form()
    name = link.name or fields.get("name", "")
    email = fields.get("email") or None
    try:
        witness = visit.desk.room.witness
        made = await links.redeem(visit.desk.database, witness, token, name, email)
    except ManageError as error:
        if error.code == ErrorCode.NOT_FOUND:
            return visit.render("gone.html", 404)
        return _setup_form(visit, link, error.detail, name)
    return await welcome(visit, made)


async def welcome(visit: Visit, made: Secrets) -> Response:
    """The page that shows fresh secrets once, to whoever is to keep them, signed in with them if that
    is possible: the page has their only copy."""
    page = visit.render(
        "welcome.html",
        201,
        made=made,
        snippets=filled(visit.calls_url, made.api_key),
        can_sign_in=visit.can_sign_in,
    )
    if visit.can_sign_in:
        with suppress(StorageError, ManageError, StaleVaultError):
            await visit.sign_in(page, made.api_key)
    return page


def _setup_form(visit: Visit, link: links.Link, problem: str = "", name: str = "") -> Response:
    status = 422 if problem else 200
    return visit.render("setup.html", status, link=link, problem=problem, name=name)


async def show_invitation(visit: Visit) -> Response:
    """What an invitation is for; looking uses nothing up."""
    account = await invitations.find_invitation(visit.desk, visit.request.path_params["token"])
    if account is None:
        return visit.render("gone.html", 404)
    return visit.render("invitation.html", account=account)


async def use_invitation(visit: Visit) -> Response:
    """Use an invitation up: its account's new key is shown, once."""
    try:
        token = visit.request.path_params["token"]
        made = await invitations.accept(visit.desk, token, visit.address)
    except ManageError:
        return visit.render("gone.html", 404)
    return await welcome(visit, made)


async def show_sign_in(visit: Visit) -> Response:
    return visit.render(
        "sign_in.html", problem="", can_sign_in=visit.can_sign_in, to=visit.query.get("to", "")
    )


async def sign_in(visit: Visit) -> Response:
    """Open a session with an XAI API key; what is wrong with a key is not told apart."""
    fields = await visit.form()
    to = fields.get("to", "")
    key = fields.get("key", "")
    counted = _count_try(visit, "sign_in.html", key, to=to)
    if isinstance(counted, Response):
        return counted
    moved = visit.see(local_path(to))
    if visit.can_sign_in and await visit.sign_in(moved, key):
        visit.desk.attempts.sign_ins.take_back(counted)
        return moved
    return visit.render(
        "sign_in.html",
        401,
        problem=visit.words("sign_in.wrong"),
        can_sign_in=visit.can_sign_in,
        to=to,
    )


async def show_recovery(visit: Visit) -> Response:
    return visit.render("recover.html", problem="", can_sign_in=visit.can_sign_in)


async def recover(visit: Visit) -> Response:
    """A new key and a new recovery code against the code, which is used up."""
    code = (await visit.form()).get("code", "")
    counted = _count_try(visit, "recover.html", code)
    if isinstance(counted, Response):
        return counted
    try:
        made = await owners.recover(visit.desk, code, visit.address)
    except ManageError:
        return visit.render(
            "recover.html",
            401,
            problem=visit.words("recover.wrong"),
            can_sign_in=visit.can_sign_in,
        )
    visit.desk.attempts.sign_ins.take_back(counted)
    return await welcome(visit, made)


async def sign_out(visit: Visit) -> Response:
    """End this session, or with ``everywhere`` all that the same key opened."""
    everywhere = "everywhere" in await visit.form()
    _, token = visit.who
    await visit.do(
        lambda actor: sessions.close_session(visit.desk, actor, token, everywhere=everywhere)
    )
    moved = RedirectResponse("/console/sign-in", 303, headers=SECURITY_HEADERS)
    visit.forget_cookie(moved)
    return moved


async def choose_theme(visit: Visit) -> Response:
    """Remember in this browser how the frame looks: its theme, and its rail with words or icons."""
    fields = await visit.form()
    moved = visit.see(local_path(fields.get("back", "")))
    for field, cookie, known in (
        ("theme", THEME_COOKIE, THEMES),
        ("rail", RAIL_COOKIE, RAILS),
    ):
        if field in fields:
            value = fields[field] if fields[field] in known else known[0]
            visit.set_cookie(moved, cookie, value, path="/console/", days=365)
    return moved
