"""The tree of accounts as a person walks it: a branch at a time, searched, with what each used."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.accounts import Account
from xairouter.domain.permissions import Permission, Reach
from xairouter.manage.desk import Actor, Desk, require, within_reach
from xairouter.manage.usage import known_cost
from xairouter.storage import keys, owners, provider_keys, rollups
from xairouter.storage.sums import SumRow

MOST_FOUND = 50


@dataclass(frozen=True, slots=True)
class Node:
    """An account in the tree: how many are right below it, and what it and all below it used."""

    account: Account
    children: int
    calls: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Branch:
    """An account and a page of those right below it; ``chain`` leads there from the actor's own."""

    chain: tuple[Account, ...]
    top: Node
    nodes: list[Node]
    next_cursor: str | None


async def branch(
    desk: Desk,
    actor: Actor,
    account_id: str,
    *,
    cursor: str | None,
    limit: int,
    since_ms: int | None,
) -> Branch:
    """The accounts right below one, with their use since an instant, or without (None)."""
    require(actor, Permission.ACCOUNTS_READ)
    async with desk.database.snapshot() as connection:
        chain = await within_reach(connection, actor, Permission.ACCOUNTS_READ, account_id)
        page = await owners.children_of(
            connection, actor.owner_id, account_id, after=cursor or "", limit=limit
        )
        shown = await _nodes(connection, actor.owner_id, [chain[-1], *page], since_ms)
    following = page[-1].id if len(page) == limit else None
    return Branch(seen_chain(actor, chain), shown[0], shown[1:], following)


async def search(desk: Desk, actor: Actor, text: str, *, since_ms: int | None) -> list[Node]:
    """Accounts within reach whose name, e-mail address or id holds the text, at most fifty, with
    their use since an instant or without (None)."""
    reach = require(actor, Permission.ACCOUNTS_READ)
    async with desk.database.snapshot() as connection:
        found = await owners.find_by_name(
            connection, actor.owner_id, text, limit=MOST_FOUND if reach == Reach.TREE else 2000
        )
        if reach != Reach.TREE:
            below = await owners.subtree_of(connection, actor.owner_id, actor.caller.account.id)
            mine = set(below)
            found = [account for account in found if account.id in mine]
        return await _nodes(connection, actor.owner_id, found[:MOST_FOUND], since_ms)


def seen_chain(actor: Actor, chain: Sequence[Account]) -> tuple[Account, ...]:
    """Of a chain what lies at and below the actor's own account."""
    ids = [account.id for account in chain]
    own = actor.caller.account.id
    return tuple(chain[ids.index(own) :]) if own in ids else tuple(chain)


async def _nodes(
    connection: AsyncConnection, owner_id: str, accounts: Sequence[Account], since_ms: int | None
) -> list[Node]:
    ids = [account.id for account in accounts]
    counts = await owners.count_children(connection, owner_id, ids)
    used: Mapping[str, tuple[int, float | None]] = {}
    if since_ms is not None:
        used = await use_below(connection, owner_id, ids, since_ms)
    return [
        Node(account, counts.get(account.id, 0), *used.get(account.id, (0, None)))
        for account in accounts
    ]


async def use_below(
    connection: AsyncConnection, owner_id: str, account_ids: Iterable[str], since_ms: int
) -> Mapping[str, tuple[int, float | None]]:
    """(calls, cost in USD if any is known) of accounts and all below them since an instant."""
    wanted = set(account_ids)
    parents = await owners.parents_of(connection, owner_id)
    filters = rollups.Filters(from_ms=since_ms)
    sums: dict[str, SumRow] = {
        one: {"group": one, "calls": 0, "cost_nano": 0, "unpriced": 0} for one in wanted
    }
    for row in await rollups.totals(
        connection, owner_id, filters, "account", ("calls", "cost_nano", "unpriced")
    ):
        at = row["group"]
        while isinstance(at, str):
            if at in wanted:
                sums[at]["calls"] += row["calls"]
                sums[at]["cost_nano"] += row["cost_nano"]
                sums[at]["unpriced"] += row["unpriced"]
            at = parents.get(at)
    return {one: (found["calls"], known_cost(found)) for one, found in sums.items()}


async def names(
    desk: Desk, actor: Actor, group_by: str, ids: Iterable[object]
) -> Mapping[str, str]:
    """The names behind ids of accounts, XAI API keys or provider keys, of deleted ones too where
    they are still known; other groups are their own names."""
    wanted = [one for one in ids if isinstance(one, str)]
    async with desk.database.read() as connection:
        if group_by == "account":
            return await owners.names_of(connection, actor.owner_id, wanted)
        if group_by == "key":
            return await keys.names_of(connection, actor.owner_id, wanted)
        if group_by == "provider_key":
            stored = await provider_keys.list_all(connection, actor.owner_id)
            return {key.id: key.name for key in stored}
    return {}
