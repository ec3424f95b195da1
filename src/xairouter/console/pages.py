"""The console's pages as one table of routes.

A page is reached with a session (``visit.py``), but for the entrance and the operator's pages, which
have a session of their own without any vault. Every form works without script.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from xairouter.console.rooms import (
    accounts,
    entrance,
    explain,
    find,
    live,
    me,
    notices,
    operations,
    operator,
    overview,
    playground,
    provider_keys,
    routing,
    rules,
    settings,
    usage,
)
from xairouter.console.rooms import help as help_room
from xairouter.console.visit import HERE, SECURITY_HEADERS, Page, Visits
from xairouter.errors import StorageError
from xairouter.observe import log

_KINDS = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_FILES = {
    str(path.relative_to(HERE / "static")): path
    for path in sorted((HERE / "static").rglob("*"))
    if path.suffix in _KINDS
}
_KEY = "/console/provider-keys/{key_id}"
_ACCOUNT = "/console/accounts/{account_id}"

SIGNED_IN: tuple[tuple[str, str, Page], ...] = (
    ("GET", "/console/", overview.show_overview),
    ("GET", "/console/edges", overview.show_edges),
    ("GET", "/console/find", find.show_found),
    ("GET", "/console/live", live.show_live),
    ("GET", "/console/provider-keys", provider_keys.show_provider_keys),
    ("POST", "/console/provider-keys", provider_keys.add_provider_key),
    ("GET", _KEY, provider_keys.show_provider_key),
    ("POST", _KEY, provider_keys.change_provider_key),
    ("POST", f"{_KEY}/status", provider_keys.set_status),
    ("POST", f"{_KEY}/replace", provider_keys.replace_secret),
    ("POST", f"{_KEY}/test", provider_keys.test_key),
    ("POST", f"{_KEY}/delete", provider_keys.delete_key),
    ("GET", "/console/accounts", accounts.show_accounts),
    ("POST", "/console/accounts", accounts.create_account),
    ("GET", "/console/accounts/new", accounts.show_new),
    ("GET", _ACCOUNT, accounts.show_account),
    ("POST", _ACCOUNT, accounts.change_account),
    ("POST", f"{_ACCOUNT}/status", accounts.set_status),
    ("POST", f"{_ACCOUNT}/invite", accounts.invite),
    ("POST", f"{_ACCOUNT}/delete", accounts.delete_account),
    ("POST", f"{_ACCOUNT}/keys", accounts.create_key),
    ("POST", f"{_ACCOUNT}/keys/{{key_id}}", accounts.change_key),
    ("GET", f"{_ACCOUNT}/rules", rules.show_rules),
    ("POST", f"{_ACCOUNT}/rules", rules.change_rules),
    ("POST", f"{_ACCOUNT}/rules/check", rules.check_rules),
    ("GET", "/console/panic", accounts.show_panic),
    ("POST", "/console/panic", accounts.panic),
    ("GET", "/console/me", me.show_me),
    ("GET", "/console/routing", routing.show_routing),
    ("POST", "/console/routing", routing.change_routing),
    ("GET", "/console/usage", usage.show_usage),
    ("GET", "/console/usage/export", usage.export),
    ("GET", "/console/calls", usage.show_calls),
    ("GET", "/console/calls/{call_id}", usage.show_call),
    ("GET", "/console/explain", explain.show_explain),
    ("GET", "/console/operations", operations.show_operations),
    ("POST", "/console/operations/check", operations.check_chain),
    ("GET", "/console/playground", playground.show_playground),
    ("POST", "/console/playground/key", playground.issue_key),
    ("GET", "/console/notices", notices.show_notices),
    ("POST", "/console/notices/{notice_id}/dismiss", notices.dismiss_notice),
    ("GET", "/console/settings", settings.show_settings),
    ("POST", "/console/settings", settings.change_settings),
    ("POST", "/console/settings/webhook", settings.test_webhook),
    ("POST", "/console/settings/prices", settings.change_prices),
    ("POST", "/console/settings/vault", settings.change_vault),
    ("POST", "/console/settings/take-over", settings.take_over),
    ("POST", "/console/settings/export", settings.export),
    ("GET", "/console/help", help_room.show_help),
    ("GET", "/console/help/{name:path}", help_room.show_document),
    ("POST", "/console/sign-out", entrance.sign_out),
)
OPEN: tuple[tuple[str, str, Page], ...] = (
    ("GET", "/console/setup/{token}", entrance.show_setup),
    ("POST", "/console/setup/{token}", entrance.use_setup),
    ("GET", "/console/invitation/{token}", entrance.show_invitation),
    ("POST", "/console/invitation/{token}", entrance.use_invitation),
    ("GET", "/console/sign-in", entrance.show_sign_in),
    ("POST", "/console/sign-in", entrance.sign_in),
    ("GET", "/console/recover", entrance.show_recovery),
    ("POST", "/console/recover", entrance.recover),
    ("POST", "/console/theme", entrance.choose_theme),
    ("GET", "/console/operator/{token}", operator.show_link),
    ("POST", "/console/operator/{token}", operator.use_link),
)
OPERATOR: tuple[tuple[str, str, Page], ...] = (
    ("GET", "/console/operator", operator.show_owners),
    ("POST", "/console/operator", operator.invite_owner),
    ("POST", "/console/operator/sign-out", operator.sign_out),
    ("POST", "/console/operator/owners/{owner_id}", operator.change_owner),
)


def console_app(visits: Visits) -> Starlette:
    """The console as an application under /console."""

    async def asset(request: Request) -> Response:
        path = _FILES.get(request.path_params["name"])
        if path is None:
            return visits.visit(request).render("gone.html", 404)
        headers = {**SECURITY_HEADERS, "cache-control": "public, max-age=3600"}
        return FileResponse(path, media_type=_KINDS[path.suffix], headers=headers)

    async def away(request: Request, error: Exception) -> Response:
        return visits.visit(request).render("away.html", 503)

    async def failed(request: Request, error: Exception) -> Response:
        log.error("console_failed", room=request.url.path.split("/")[2:3], exc_info=error)
        return visits.visit(request).render("failed.html", 500)

    async def missing(request: Request, error: Exception) -> Response:
        return visits.visit(request).render("gone.html", 404)

    wrapped = [
        Route("/console/static/{name:path}", asset, methods=["GET"]),
        # The one page of the operator whose path an operator's link could have, too.
        *(Route(path, visits.operator(page), methods=[method]) for method, path, page in OPERATOR),
        *(Route(path, visits.open(page), methods=[method]) for method, path, page in OPEN),
        *(
            Route(path, visits.signed_in(page), methods=[method])
            for method, path, page in SIGNED_IN
        ),
    ]
    return Starlette(
        routes=wrapped,
        exception_handlers={StorageError: away, 404: missing, 405: missing, 500: failed},
    )
