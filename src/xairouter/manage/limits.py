"""What is used of each limit and budget along a caller's path."""

from collections.abc import Iterable
from heapq import nlargest
from typing import TypedDict, final

from xairouter.clock import rfc3339
from xairouter.domain.accounts import Account
from xairouter.domain.permissions import Permission, Reach
from xairouter.errors import StorageError
from xairouter.manage.desk import Actor, Desk, require, within_reach
from xairouter.manage.tree import use_below
from xairouter.manage.views import NANO, usd
from xairouter.policy.limits import WHOLE, Demand
from xairouter.policy.rules import Compiled, compile_text
from xairouter.policy.windows import DAY, MONEY, MONTH, WINDOWS, period_of
from xairouter.storage import owners


def all_demands(path: Iterable[tuple[Account, Compiled]]) -> list[Demand]:
    """Every limit and budget on a path, whatever the model, with nothing asked of it."""
    found: list[Demand] = []
    for account, made in path:
        rules = made.rules
        for name, value in (*rules.limits.items(), *rules.budget.items()):
            found.append(Demand((account.id, WHOLE, name), value, 0))
        for pattern, some in rules.model_limits.items():
            found += [Demand((account.id, pattern, name), value, 0) for name, value in some.items()]
    return found


MOST_LIMITED = 5000
"""Accounts with limits that are looked at to find the fullest."""
MOST_ASKED = 20
"""Of them, those whose counters are asked: one that begins reads the records."""
DAY_MS = 86_400_000


class Used(TypedDict):
    """Whose limit or budget it is, which, for which models (None: all), and until when it counts
    (None: it slides, or never ends)."""

    account_id: str
    name: str
    model: str | None
    until: str | None


@final
class LimitUsed(Used):
    """What is used of a limit now; None while that cannot be read."""

    limit: int
    used: int | None


@final
class BudgetUsed(Used):
    """What is used of a budget now; None while that cannot be read."""

    limit_usd: float
    used_usd: float | None


async def show_limits(
    desk: Desk, actor: Actor, now_ms: int
) -> tuple[list[LimitUsed], list[BudgetUsed]]:
    """(limits, budgets) along the caller's path: each with its account, its number, and what is
    used of it now (null while that cannot be read)."""
    require(actor, Permission.ME_READ)
    return await used_of(desk, actor, all_demands(actor.caller.path), now_ms)


async def limits_of(
    desk: Desk, actor: Actor, account_ids: Iterable[str], now_ms: int
) -> tuple[list[LimitUsed], list[BudgetUsed]]:
    """The same for accounts within reach, each with its own limits and budgets only."""
    require(actor, Permission.ACCOUNTS_READ)
    path: list[tuple[Account, Compiled]] = []
    async with desk.database.read() as connection:
        for account_id in account_ids:
            chain = await within_reach(connection, actor, Permission.ACCOUNTS_READ, account_id)
            path.append((chain[-1], compile_text(chain[-1].rules)))
    return await used_of(desk, actor, all_demands(path), now_ms)


async def nearest_edges(
    desk: Desk, actor: Actor, now_ms: int, most: int
) -> list[LimitUsed | BudgetUsed]:
    """The limits and budgets within reach of which the largest share is used, fullest first."""
    reach = require(actor, Permission.ACCOUNTS_READ)
    async with desk.long_read(actor.owner_id) as connection:
        limited = await owners.with_limits(connection, actor.owner_id, limit=MOST_LIMITED)
        if reach != Reach.TREE:
            own = actor.caller.account.id
            mine = set(await owners.subtree_of(connection, actor.owner_id, own))
            limited = [account for account in limited if account.id in mine]
        used = await use_below(
            connection, actor.owner_id, [account.id for account in limited], now_ms - DAY_MS
        )
    # Only the accounts that have used most of the last day, for what they allow, are asked exactly.
    path = [(account, compile_text(account.rules)) for account in limited]
    fullest = nlargest(MOST_ASKED, path, key=lambda one: _likely(one[1], *used[one[0].id]))
    limits, budgets = await used_of(desk, actor, all_demands(fullest), now_ms)
    return sorted(every_edge(limits, budgets), key=_fullness, reverse=True)[:most]


def every_edge(
    limits: Iterable[LimitUsed], budgets: Iterable[BudgetUsed]
) -> list[LimitUsed | BudgetUsed]:
    """Budgets and limits in one list."""
    return [*budgets, *limits]


def _likely(made: Compiled, calls: int, cost_usd: float | None) -> float:
    """Roughly which share of its tightest limit or budget an account has used within a day."""
    rules = made.rules
    shares = [0.0]
    for name, nano in rules.budget.items():
        shares.append((cost_usd or 0.0) * (30 if name == "month" else 1) / (nano / 10**9 or 1e-9))
    for name, value in rules.limits.items():
        per_day = value * {"rpm": 1440, "tpm": 1440, "rph": 24, "tph": 24}.get(name, 1)
        shares.append(calls * (1000 if name.startswith("t") else 1) / (per_day or 1e-9))
    return max(shares)


def _fullness(one: LimitUsed | BudgetUsed) -> float:
    used: float | None
    top: float
    if "used_usd" in one:
        used, top = one["used_usd"], one["limit_usd"]
    else:
        used, top = one["used"], one["limit"]
    return (used or 0) / top if top else 0.0


async def used_of(
    desk: Desk, actor: Actor, demands: list[Demand], now_ms: int
) -> tuple[list[LimitUsed], list[BudgetUsed]]:
    """What is used of some limits and budgets, as the faces show it."""
    view = await desk.directory.owner(actor.owner_id)
    used: list[int | None]
    try:
        used = list(await desk.counters.used(actor.owner_id, demands, view.zone))
    except StorageError:
        used = [None] * len(demands)
    limits: list[LimitUsed] = []
    budgets: list[BudgetUsed] = []
    for demand, amount in zip(demands, used, strict=True):
        window = WINDOWS[demand.name]
        end = period_of(window.kind, now_ms, view.zone)[1] if window.kind in (DAY, MONTH) else None
        until = rfc3339(end) if end is not None else None
        account_id, name, model = demand.account_id, demand.name, demand.pattern or None
        if window.unit == MONEY:
            budgets.append(
                {
                    "account_id": account_id,
                    "name": name,
                    "model": model,
                    "limit_usd": demand.limit / NANO,
                    "used_usd": usd(amount),
                    "until": until,
                }
            )
        else:
            limits.append(
                {
                    "account_id": account_id,
                    "name": name,
                    "model": model,
                    "limit": demand.limit,
                    "used": amount,
                    "until": until,
                }
            )
    return limits, budgets
