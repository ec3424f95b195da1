"""One's own account: what it may do, what is used of its limits, its models and its keys."""

from starlette.responses import Response

from xairouter.clock import now_ms
from xairouter.console.rooms.rules_form import lines_of
from xairouter.console.snippets import filled
from xairouter.console.visit import Visit
from xairouter.domain.permissions import Permission
from xairouter.manage import catalogue, keys, tree
from xairouter.manage.limits import show_limits
from xairouter.manage.rules import shown_rules
from xairouter.manage.views import key_view


async def show_me(visit: Visit) -> Response:
    desk, actor = visit.desk, visit.actor
    caller = actor.caller
    limits, budgets = await show_limits(desk, actor, now_ms())
    rules = await shown_rules(caller.chain)
    models = await catalogue.list_models(desk, actor)
    ids = [one["account_id"] for one in [*limits, *budgets]]
    own = (
        await keys.list_keys(desk, actor, caller.account.id)
        if visit.may(Permission.KEYS_READ)
        else []
    )
    return await visit.page(
        "me.html",
        account=caller.account,
        key=key_view(caller.key),
        limits=[*budgets, *limits],
        names=await tree.names(desk, actor, "account", ids),
        lines=lines_of(rules["effective"], rules["sources"]),
        models=models,
        keys=own,
        own_key=caller.key.id,
        snippets=filled(
            visit.calls_url, "YOUR-XAI-API-KEY", models[0]["id"] if models else "MODEL"
        ),
        trail=[(visit.words("rooms.me"), "")],
        api="GET /api/v1/me",
    )
