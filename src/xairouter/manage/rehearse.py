"""Rehearsal: the recorded calls of the last days against proposed rules or routing, nothing stored.

The replay runs in a process of its own at low priority, so that no call notices it: one at a time,
and one for an owner (``rehearsals``).
"""

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypedDict

import sqlalchemy as sa

from xairouter.clock import now_ms
from xairouter.directory.prices import price_of
from xairouter.domain.accounts import Account, OwnerSettings, ProviderKey
from xairouter.domain.permissions import Permission
from xairouter.domain.prices import Price
from xairouter.domain.rules import Rules
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.desk import Actor, Desk, require, within_reach
from xairouter.manage.routing import RoutingView, checked_routing
from xairouter.manage.rules import (
    RulesView,
    checked,
    merged,
    refuse_wider,
    shown_rules,
    stored_text,
)
from xairouter.manage.views import usd
from xairouter.policy.catalogue import compile_catalogue
from xairouter.policy.interface import OwnerView
from xairouter.policy.owner_prices import read_prices
from xairouter.policy.replay import FIELDS, FindPrice, Found, Player, World
from xairouter.policy.rules import compile_text, read_routing, write_rules
from xairouter.process import harden_process
from xairouter.providers.prices import compile_price_list
from xairouter.storage import owners, provider_keys
from xairouter.storage.database import Database
from xairouter.storage.tables import usage_hours, usage_records

DAY_MS = 86_400_000
MOST_SECONDS = 120.0
_FETCH = 5000
_START = "spawn"
"""How the replay's process starts: from nothing, with no opened vault in it."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the replay's process needs to know, as plain values; no sealed key is among them."""

    database_url: str = field(repr=False)
    owner_id: str
    settings: OwnerSettings
    prices: Mapping[str, object]
    keys: tuple[ProviderKey, ...]
    accounts: tuple[Account, ...]
    routing: Mapping[str, object]
    since_ms: int
    within: tuple[str, ...] | None
    new_rules: tuple[str, str] | None = None
    new_routing: RoutingView | None = None


class DiffLine(TypedDict):
    """Where two documents differ, and what stands there."""

    rule: str
    before: object
    after: object


class RefusedCalls(TypedDict):
    """Calls that would have been refused, by error code and by account, with examples."""

    calls: int
    cost_usd: float | None
    by_code: dict[str, int]
    by_account: dict[str, int]
    examples: list[dict[str, str]]


class AdmittedCalls(TypedDict):
    """Refused calls that would have been admitted."""

    calls: int


Reroute = TypedDict("Reroute", {"from": str, "to": str, "calls": int})
"""Calls that would have gone from one route to another."""


class ReroutedCalls(TypedDict):
    """Calls that would have gone elsewhere; ``unpriced`` are those whose cost there is unknown."""

    calls: int
    cost_difference_usd: float | None
    unpriced: int
    by_route: list[Reroute]


class BothCosts(TypedDict):
    """What the calls cost, and what they would have."""

    recorded: float | None
    proposed: float | None


class RehearsalView(TypedDict):
    """What would have become of the calls of some days."""

    days: int
    calls: int
    refused: RefusedCalls
    admitted: AdmittedCalls
    rerouted: ReroutedCalls
    cost_usd: BothCosts
    sentence: str


class RehearsedRules(RulesView):
    """Proposed rules, how they differ, and what they would have done."""

    diff: list[DiffLine]
    rehearsal: RehearsalView


class RehearsedRouting(RoutingView):
    """The same for routing."""

    diff: list[DiffLine]
    rehearsal: RehearsalView


async def rehearse_rules(
    desk: Desk,
    actor: Actor,
    account_id: str,
    document: Mapping[str, object],
    *,
    patch: bool,
    days: int,
) -> RehearsedRules:
    """What an account's rules would be, how that differs, and which calls of the last days they
    would have refused or sent elsewhere. Raises what writing them would."""
    require(actor, Permission.RULES_CHANGE)
    async with desk.database.snapshot() as connection:
        chain = await within_reach(connection, actor, Permission.RULES_CHANGE, account_id)
        below = await owners.subtree_of(connection, actor.owner_id, account_id)
    wanted: Rules
    if patch:
        own = write_rules(compile_text(chain[-1].rules).rules)
        wanted = checked(merged(own, document))
    else:
        wanted = checked(document)
    await asyncio.to_thread(refuse_wider, wanted, chain[:-1])
    text = stored_text(wanted)
    proposed = await shown_rules((*chain[:-1], replace(chain[-1], rules=text)))
    within = None if account_id == actor.owner_id else tuple(below)
    job = await _job(desk, actor, days, within)
    async with desk.rehearsals.turn(actor.owner_id):
        found = await _run(replace(job, new_rules=(account_id, text)))
    return {
        **proposed,
        "diff": _diff((await shown_rules(chain))["effective"], proposed["effective"]),
        "rehearsal": _view(found, days),
    }


async def rehearse_routing(
    desk: Desk, actor: Actor, document: Mapping[str, object], *, days: int
) -> RehearsedRouting:
    """The same for the owner's routing."""
    require(actor, Permission.ROUTING_CHANGE)
    wanted = checked_routing(document)
    job = await _job(desk, actor, days, None)
    async with desk.rehearsals.turn(actor.owner_id):
        found = await _run(replace(job, new_routing=wanted))
    return {**wanted, "diff": _diff(job.routing, wanted), "rehearsal": _view(found, days)}


async def _job(desk: Desk, actor: Actor, days: int, within: tuple[str, ...] | None) -> Job:
    async with desk.long_read(actor.owner_id) as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
        tree = await owners.tree_of(connection, actor.owner_id)
        keys = await provider_keys.list_all(connection, actor.owner_id)
    if owner is None:
        raise ManageError(ErrorCode.NOT_FOUND, "The owner is gone.")
    return Job(
        desk.database.url,
        actor.owner_id,
        owner.settings,
        dict(owner.prices),
        tuple(replace(key, sealed=b"") for key in keys),
        tuple(tree),
        dict(owner.routing),
        now_ms() - days * DAY_MS,
        within,
    )


async def _run(job: Job) -> Found:
    """Run a job in a process of its own; raises ManageError if that takes too long."""
    loop = asyncio.get_running_loop()
    pool = ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context(_START), initializer=_quietly
    )
    try:
        async with asyncio.timeout(MOST_SECONDS):
            return await loop.run_in_executor(pool, work, job)
    except TimeoutError:
        for process in list((pool._processes or {}).values()):  # noqa: SLF001 -- no public way to end it
            process.kill()
        raise ManageError(
            ErrorCode.CONFLICT, "The rehearsal takes too long; ask for fewer days."
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _quietly() -> None:
    """The process gives way to everything else."""
    os.nice(19)
    harden_process()


def work(job: Job) -> Found:
    """The replay itself, in whichever process."""
    return asyncio.run(_work(job))


async def _work(job: Job) -> Found:
    listed = compile_price_list()

    def find_price(provider: str, model: str) -> Price | None:
        return price_of(before.view, listed, provider, model)

    before = _world(job, find_price, job.routing, None)
    routing: Mapping[str, object] = job.new_routing if job.new_routing is not None else job.routing
    after = _world(job, find_price, routing, job.new_rules)

    database = Database(job.database_url)
    try:
        player = Player(before, after, await _spent_before(database, job))
        async for part in _parts(database, job):
            player.play(part)
    finally:
        await database.close()
    return player.found


def _world(
    job: Job, find_price: FindPrice, routing: Mapping[str, object], changed: tuple[str, str] | None
) -> World:
    accounts = {account.id: account for account in job.accounts}
    if changed is not None and changed[0] in accounts:
        accounts[changed[0]] = replace(accounts[changed[0]], rules=changed[1])
    view = OwnerView(
        job.owner_id,
        0,
        job.settings,
        read_prices(job.prices),
        {key.id: key for key in job.keys},
        compile_catalogue(job.keys),
        read_routing(routing),
    )
    return World(view, accounts, find_price)


async def _parts(database: Database, job: Job) -> AsyncIterator[Sequence[Sequence[object]]]:
    """The recorded calls, oldest first, some thousand at a time: each part a query of its own, so
    that no snapshot is held for long."""
    columns = usage_records.c
    query = (
        sa.select(*(columns[name] for name in FIELDS))
        .where(columns.owner_id == job.owner_id)
        .order_by(columns.started_at_ms, columns.call_id)
        .limit(_FETCH)
    )
    if job.within is not None:
        query = query.where(columns.account_id.in_(job.within))
    at, behind = job.since_ms, ""
    async with database.read(seconds=None) as connection:
        while True:
            further = sa.and_(
                columns.started_at_ms >= at,
                sa.or_(columns.started_at_ms > at, columns.call_id > behind),
            )
            part = (await connection.execute(query.where(further))).all()
            if part:
                yield part
            if len(part) < _FETCH:
                return
            at, behind = part[-1].started_at_ms, part[-1].call_id


async def _spent_before(database: Database, job: Job) -> dict[str, int]:
    """What each account with a total budget, and everything below it, had spent before."""
    wanted = [
        account
        for account in job.accounts
        if "total_usd" in account.rules
        or (job.new_rules is not None and job.new_rules[0] == account.id)
    ]
    hours = usage_hours.c
    spent: dict[str, int] = {}
    async with database.read(seconds=None) as connection:
        for account in wanted:
            below = await owners.subtree_of(connection, job.owner_id, account.id)
            query = sa.select(sa.func.sum(hours.counted_nano)).where(
                hours.owner_id == job.owner_id,
                hours.hour_ms < job.since_ms,
                hours.account_id.in_(below),
            )
            spent[account.id] = int((await connection.execute(query)).scalar() or 0)
    return spent


def _view(found: Found, days: int) -> RehearsalView:
    return {
        "days": days,
        "calls": found.calls,
        "refused": {
            "calls": found.refused,
            "cost_usd": usd(found.refused_nano),
            "by_code": dict(found.by_code.most_common()),
            "by_account": dict(found.by_account.most_common(50)),
            "examples": found.examples,
        },
        "admitted": {"calls": found.admitted},
        "rerouted": {
            "calls": found.rerouted,
            "cost_difference_usd": usd(found.rerouted_nano),
            "unpriced": found.unpriced,
            "by_route": [
                {"from": old, "to": new, "calls": count}
                for (old, new), count in found.reroutes.most_common(50)
            ],
        },
        "cost_usd": {
            "recorded": usd(found.recorded_nano),
            "proposed": usd(found.recorded_nano - found.refused_nano + found.rerouted_nano),
        },
        "sentence": _sentence(found, days),
    }


def _sentence(found: Found, days: int) -> str:
    """The rehearsal in words."""
    span = "day" if days == 1 else f"{days} days"
    parts = [
        f"Of the {found.calls} calls of the last {span}, {found.refused} would have been refused"
    ]
    if found.admitted:
        parts.append(f"{found.admitted} refused ones would have been admitted")
    parts.append(f"{found.rerouted} would have gone elsewhere")
    return ", ".join(parts) + "."


def _diff(before: object, after: object, path: str = "") -> list[DiffLine]:
    """Where two documents differ: path, before, after."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for name in sorted({*before, *after})
            for line in _diff(
                before.get(name), after.get(name), f"{path}.{name}" if path else str(name)
            )
        ]
    return [] if before == after else [{"rule": path, "before": before, "after": after}]
