"""The four first steps of an owner, and which of them are done."""

from dataclasses import dataclass

from xairouter.domain.permissions import Permission
from xairouter.manage.desk import Actor, Desk, require
from xairouter.storage import owners, provider_keys, rollups

ADD_KEY, FIRST_CALL, INVITE, BUDGET = "add_key", "first_call", "invite", "budget"


@dataclass(frozen=True, slots=True)
class Step:
    """One of the four, by its name."""

    name: str
    is_done: bool


async def show(desk: Desk, actor: Actor) -> list[Step]:
    """Add a provider key, make a call, invite somebody, set a budget; nothing once all are done."""
    require(actor, Permission.PROVIDER_KEYS_READ)
    async with desk.database.snapshot() as connection:
        count = await provider_keys.count(connection, actor.owner_id)
        has_called = await rollups.has_any(connection, actor.owner_id)
        below = await owners.children_of(
            connection, actor.owner_id, actor.owner_id, after="", limit=1
        )
        has_budget = await owners.has_budget(connection, actor.owner_id)
    steps = [
        Step(ADD_KEY, count > 0),
        Step(FIRST_CALL, has_called),
        Step(INVITE, bool(below)),
        Step(BUDGET, has_budget),
    ]
    return [] if all(step.is_done for step in steps) else steps
