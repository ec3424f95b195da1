"""Accounts: the tree, a page for each account with its keys, invitations, and panic."""

from typing import Any

from starlette.responses import Response

from xairouter.clock import now_ms
from xairouter.console.ranges import read_range
from xairouter.console.snippets import filled
from xairouter.console.visit import Visit, status_of
from xairouter.custody.formats import look_up_id
from xairouter.domain.accounts import AccountStatus, KeyScope, KeyStatus
from xairouter.domain.permissions import Permission
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import accounts, invitations, keys, tree, usage
from xairouter.manage import panic as panics
from xairouter.manage.accounts import NewAccount
from xairouter.manage.desk import require
from xairouter.manage.limits import BudgetUsed, LimitUsed, every_edge, limits_of
from xairouter.manage.versions import version_of
from xairouter.manage.views import account_view

HOME = "/console/accounts"
PAGE = 50
INVITE, SHOW = "invite", "show"


async def show_accounts(visit: Visit) -> Response:
    """A branch of the tree, or what a search found; for a script only rows."""
    desk, actor = visit.desk, visit.actor
    span = read_range({"range": "month"}, visit.show.zone, now_ms(), "month")
    at = visit.query.get("at") or actor.caller.account.id
    text = visit.query.get("q", "").strip()
    found = None
    if text:
        found = await tree.search(desk, actor, text, since_ms=span.from_ms)
    branch = await tree.branch(
        desk,
        actor,
        at,
        cursor=visit.query.get("cursor") or None,
        limit=PAGE,
        since_ms=span.from_ms if found is None else None,
    )
    nodes = found if found is not None else branch.nodes
    values: dict[str, Any] = {
        "branch": branch,
        "found": found,
        "nodes": nodes,
        "q": text,
        "edges": await _edges(visit, [node.account.id for node in nodes]),
        "depth": _depth(visit.query.get("depth", "0")),
    }
    if visit.is_fragment:
        return visit.render("account_rows.html", **values)
    is_own = at == actor.caller.account.id
    trail: list[tuple[str, str]] = [(visit.words("rooms.accounts"), "" if is_own else HOME)]
    trail += [(one.name, f"{HOME}?at={one.id}") for one in branch.chain[1:]]
    return await visit.page(
        "accounts.html", trail=trail, api="GET /api/v1/accounts?scope=children", **values
    )


def _depth(text: str) -> int:
    return min(int(text), 3) if text.isascii() and text.isdigit() and len(text) < 3 else 0


async def _edges(visit: Visit, ids: list[str]) -> dict[str, list[LimitUsed | BudgetUsed]]:
    """Account id → its own limits and budgets."""
    limits, budgets = await limits_of(visit.desk, visit.actor, ids, now_ms())
    found: dict[str, list[LimitUsed | BudgetUsed]] = {}
    for one in every_edge(limits, budgets):
        found.setdefault(one["account_id"], []).append(one)
    return found


async def show_new(visit: Visit) -> Response:
    return await _new(visit)


async def _new(visit: Visit, status: int = 200, **values: Any) -> Response:
    own = visit.actor.caller.account
    parent_id = visit.query.get("parent") or values.get("typed", {}).get("parent") or own.id
    branch = await tree.branch(
        visit.desk, visit.actor, parent_id, cursor=None, limit=1, since_ms=None
    )
    shown = {"error": None, "typed": {}, **values}
    return await visit.page(
        "account_new.html",
        status,
        parent=branch.top.account,
        trail=[(visit.words("rooms.accounts"), HOME), (visit.words("accounts.new"), "")],
        **shown,
    )


async def create_account(visit: Visit) -> Response:
    """A sub-account; its key is shown here, or at a link where only its user sees it."""
    fields = await visit.form()
    wanted = NewAccount(
        fields.get("name", ""),
        fields.get("email") or None,
        fields.get("parent") or None,
        "can_manage" in fields,
    )
    try:
        if fields.get("hand_over") == INVITE:
            invitation = await visit.do(
                lambda actor: invitations.invite_new(visit.desk, actor, wanted)
            )
            return await _invited(visit, invitation)
        made = await visit.do(lambda actor: accounts.create_account(visit.desk, actor, wanted))
    except ManageError as error:
        return await _new(visit, status_of(error), error=error, typed=fields)
    return await _issued(visit, made.account, made.api_key)


async def _issued(visit: Visit, account: Any, api_key: str) -> Response:
    """A fresh key, shown once."""
    return await visit.page(
        "key_issued.html",
        201,
        account=account,
        api_key=api_key,
        snippets=filled(visit.calls_url, api_key),
        trail=[(visit.words("rooms.accounts"), HOME), (account.name, f"{HOME}/{account.id}")],
    )


async def _invited(visit: Visit, invitation: invitations.Invitation) -> Response:
    account = invitation.account
    return await visit.page(
        "invited.html",
        201,
        account=account,
        link=f"{visit.url}/console/invitation/{invitation.token}",
        expires_at=invitation.expires_at_ms,
        trail=[(visit.words("rooms.accounts"), HOME), (account.name, f"{HOME}/{account.id}")],
    )


async def invite(visit: Visit) -> Response:
    """A one-time link for an account that is there."""
    account_id = visit.request.path_params["account_id"]
    return await _invited(
        visit, await visit.do(lambda actor: invitations.invite(visit.desk, actor, account_id))
    )


async def show_account(visit: Visit) -> Response:
    return await _one(visit, visit.request.path_params["account_id"])


async def _one(visit: Visit, account_id: str, status: int = 200, **values: Any) -> Response:
    desk, actor = visit.desk, visit.actor
    span = read_range(visit.query, visit.show.zone, now_ms(), "30d")
    branch = await tree.branch(desk, actor, account_id, cursor=None, limit=PAGE, since_ms=None)
    account = branch.chain[-1]
    asked = usage.Asked(account.id, from_ms=span.from_ms, until_ms=span.until_ms)
    limits, budgets = await limits_of(desk, actor, [account.id], now_ms())
    shown: dict[str, Any] = {
        "error": None,
        "typed": {},
        "key_typed": {},
        "asks": "",
        **values,
    }
    trail: list[tuple[str, str]] = [(visit.words("rooms.accounts"), HOME)]
    trail += [(one.name, f"{HOME}/{one.id}") for one in branch.chain[:-1] if not one.is_owner]
    return await visit.page(
        "account.html",
        status,
        account=account,
        branch=branch,
        totals=(await usage.sum_usage(desk, actor, asked, None, timed=False))["totals"],
        limits=every_edge(limits, budgets),
        keys=await keys.list_keys(desk, actor, account.id),
        version=version_of(account_view(account)),
        is_own=account.id == actor.caller.account.id,
        own_key=actor.caller.key.id,
        trail=[*trail, (account.name, "")],
        api=f"GET /api/v1/accounts/{account.id}",
        **shown,
    )


async def change_account(visit: Visit) -> Response:
    """Name, e-mail address and whether it may manage, or another place in the tree."""
    account_id = visit.request.path_params["account_id"]
    fields = await visit.form()
    values: accounts.AccountChange
    if "parent" in fields:
        values = {"parent": fields["parent"]}
    else:
        values = {
            "name": fields.get("name", ""),
            "email": fields.get("email") or None,
            "can_manage": "can_manage" in fields,
        }
    version = fields.get("version")
    try:
        await visit.do(
            lambda actor: accounts.change_account(visit.desk, actor, account_id, values, version)
        )
    except ManageError as error:
        return await _one(visit, account_id, status_of(error), error=error, typed=fields)
    return visit.see(f"{HOME}/{account_id}", "moved" if "parent" in fields else "saved")


async def set_status(visit: Visit) -> Response:
    """Suspend an account and all below it, or resume it."""
    account_id = visit.request.path_params["account_id"]
    asked = (await visit.form()).get("status")
    suspends = asked == AccountStatus.SUSPENDED
    status = AccountStatus.SUSPENDED if suspends else AccountStatus.ACTIVE
    await visit.do(
        lambda actor: accounts.change_account(visit.desk, actor, account_id, {"status": status})
    )
    return visit.see(f"{HOME}/{account_id}", "suspended" if suspends else "resumed")


async def delete_account(visit: Visit) -> Response:
    """Delete an account whose name was typed, with everything below it."""
    account_id = visit.request.path_params["account_id"]
    account = await accounts.get_account(visit.desk, visit.actor, account_id)
    fields = await visit.form()
    if fields.get("confirm") != account.name:
        error = ManageError(
            ErrorCode.INVALID_FIELD, str(visit.words("danger.mismatch")), {"confirm": account.name}
        )
        return await _one(visit, account_id, 422, error=error, asks="delete")
    try:
        await visit.do(
            lambda actor: accounts.delete_account(
                visit.desk, actor, account_id, recursive="recursive" in fields
            )
        )
    except ManageError as error:
        return await _one(visit, account_id, status_of(error), error=error, asks="delete")
    return visit.see(HOME, "account_deleted")


def _expiry(text: str, visit: Visit) -> int | None:
    """The end of a key's life from a date field, in the owner's zone; empty is never."""
    if not text:
        return None
    span = read_range({"from": text, "to": text}, visit.show.zone, now_ms(), "today")
    return span.until_ms


async def create_key(visit: Visit) -> Response:
    """A further key of an account, shown once."""
    account_id = visit.request.path_params["account_id"]
    fields = await visit.form()
    try:
        ends = _expiry(fields.get("expires", ""), visit)
        scope = KeyScope.MANAGE if fields.get("scope") == KeyScope.MANAGE else KeyScope.CALL
        made = await visit.do(
            lambda actor: keys.create_key(
                visit.desk, actor, account_id, fields.get("name", ""), scope, ends
            )
        )
    except ManageError as error:
        return await _one(visit, account_id, status_of(error), error=error, key_typed=fields)
    return await _issued(visit, made.account, made.api_key)


async def change_key(visit: Visit) -> Response:
    """What a button beside a key does: rotate, suspend, resume, delete, or set its expiry."""
    account_id, key_id = (visit.request.path_params[name] for name in ("account_id", "key_id"))
    desk, fields = visit.desk, await visit.form()
    back = fields.get("back") or f"{HOME}/{account_id}"
    back = back if back == "/console/me" else f"{HOME}/{account_id}"
    act = fields.get("act", "")
    if act == "rotate":
        hours = fields.get("overlap", "0")
        seconds = int(hours) * 3600 if hours.isdecimal() and len(hours) < 6 else -1
        made = await visit.do(
            lambda actor: keys.rotate_key(desk, actor, account_id, key_id, seconds)
        )
        return await _issued(visit, made.account, made.api_key)
    if act == "delete":
        await visit.do(lambda actor: keys.delete_key(desk, actor, account_id, key_id))
        return visit.see(back, "xai_key_deleted")
    values: keys.KeyChange = {}
    if act in ("suspend", "resume"):
        values["status"] = KeyStatus.SUSPENDED if act == "suspend" else KeyStatus.ACTIVE
    elif act == "expire":
        values["expires_at_ms"] = _expiry(fields.get("expires", ""), visit)
    await visit.do(lambda actor: keys.change_key(desk, actor, account_id, key_id, {**values}))
    return visit.see(back, "saved")


async def show_panic(visit: Visit) -> Response:
    """What panic does, before it is done."""
    require(visit.actor, Permission.PANIC)
    return await visit.page(
        "panic.html",
        changed=None,
        undone=False,
        trail=[(visit.words("rooms.accounts"), HOME), (visit.words("panic.title"), "")],
        api="POST /api/v1/panic",
    )


async def panic(visit: Visit) -> Response:
    """Suspend every key within reach but the one in use, or bring them back."""
    undo = (await visit.form()).get("act") == "undo"
    if undo:
        count = await visit.do(lambda actor: panics.undo(visit.desk, actor))
    else:
        session = look_up_id(visit.token)
        count = await visit.do(lambda actor: panics.panic(visit.desk, actor, session=session))
    return await visit.page(
        "panic.html",
        changed=count,
        undone=undo,
        trail=[(visit.words("rooms.accounts"), HOME), (visit.words("panic.title"), "")],
    )
