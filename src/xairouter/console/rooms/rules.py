"""Rules: one editor for access, limits, budgets and maps, with what is inherited and what holds."""

from typing import Any

from starlette.responses import Response

from xairouter.console.rooms.rules_form import (
    LISTS,
    document_of,
    fields_of,
    lines_of,
    rows,
)
from xairouter.console.visit import Visit, status_of
from xairouter.dialects.paths import RULE_PATHS
from xairouter.domain.rules import LIMIT_NAMES
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import accounts, rehearse, rules
from xairouter.manage.versions import version_of

DAYS = 7


async def show_rules(visit: Visit) -> Response:
    return await _editor(visit, visit.request.path_params["account_id"])


async def _editor(visit: Visit, account_id: str, status: int = 200, **values: Any) -> Response:
    """The editor, with what was typed, what it would mean, and the rehearsal if there is one."""
    shown = await rules.show_rules(visit.desk, visit.actor, account_id)
    account = await accounts.get_account(visit.desk, visit.actor, account_id)
    typed = values.pop("typed", None)
    fields = typed if typed is not None else fields_of(shown["own"])
    given: dict[str, Any] = {"error": None, "review": None, "version": None, **values}
    given["version"] = given["version"] or version_of(shown["own"])
    return await visit.page(
        "rules.html",
        status,
        account=account,
        steers=account.is_owner or account.id != visit.actor.caller.account.id,
        shown=shown,
        fields=fields,
        lines=lines_of(shown["effective"], shown["sources"]),
        lists=LISTS,
        limit_names=LIMIT_NAMES,
        limit_rows=rows(fields, "model_limits"),
        map_rows=rows(fields, "model_map"),
        paths=RULE_PATHS,
        days=DAYS,
        trail=[
            (visit.words("rooms.accounts"), "/console/accounts"),
            (account.name, f"/console/accounts/{account.id}"),
            (visit.words("rules.title"), ""),
        ],
        api=f"GET /api/v1/accounts/{account.id}/rules",
        **given,
    )


async def check_rules(visit: Visit) -> Response:
    """What the form means so far, while it is being typed: what would hold, or why it cannot."""
    account_id = visit.request.path_params["account_id"]
    try:
        document = document_of(await visit.form())
        view = await rules.preview_rules(visit.desk, visit.actor, account_id, document)
    except ManageError as error:
        if error.code in (ErrorCode.NOT_FOUND, ErrorCode.FORBIDDEN):
            raise
        return visit.render("rules_check.html", error=error, lines=[])
    return visit.render(
        "rules_check.html", error=None, lines=lines_of(view["effective"], view["sources"])
    )


async def change_rules(visit: Visit) -> Response:
    """Rehearse the form against the calls of the last days, or save it."""
    account_id = visit.request.path_params["account_id"]
    fields = await visit.form()
    version = fields.pop("version", None)
    act = fields.pop("act", "review")
    try:
        document = document_of(fields)
        if act == "save":
            await visit.do(
                lambda actor: rules.put_rules(visit.desk, actor, account_id, document, version)
            )
            return visit.see(f"/console/accounts/{account_id}/rules", "rules_saved")
        review = await rehearse.rehearse_rules(
            visit.desk, visit.actor, account_id, document, patch=False, days=DAYS
        )
    except ManageError as error:
        if error.code in (ErrorCode.NOT_FOUND, ErrorCode.FORBIDDEN):
            raise
        # After a conflict the version stays the one that was seen, until the page is looked at anew.
        return await _editor(
            visit, account_id, status_of(error), error=error, typed=fields, version=version
        )
    return await _editor(visit, account_id, typed=fields, review=review, version=version)
