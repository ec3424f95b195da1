"""What waits in a queue of the whole installation waits by turns of owners: one's many changes, hanging
provider or hanging webhook hold up nobody else's."""

import asyncio
from dataclasses import replace

import pytest

from tests.rig import Rig
from xairouter.directory.identity import Identifier, Identity
from xairouter.domain.permissions import Permission
from xairouter.manage.desk import Actor, change

pytestmark = pytest.mark.shared_rig


async def _actor(rig: Rig) -> Actor:
    identifier = Identifier(rig.house.directory, rig.house.room)
    identity = await identifier.resolve({b"x-api-key": rig.key.encode()}, b"")
    assert isinstance(identity, Identity)
    return Actor(identity.caller, identity.vault, "127.0.0.1")


async def _neighbour(rig: Rig) -> Rig:
    """The same router and stand-in, used by another owner."""
    made = await rig.new_owner("neighbour")
    return replace(rig, key=made.api_key, owner_id=made.account.id)


@pytest.mark.both
async def test_an_owner_s_hundred_changes_delay_another_s_by_one(rig: Rig):
    desk, other = rig.house.desk, await _neighbour(rig)
    busy, single = await _actor(rig), await _actor(other)
    order: list[str] = []

    async def one(actor: Actor) -> None:
        async with change(desk, actor, Permission.SETTINGS_CHANGE, actor.owner_id):
            order.append(actor.owner_id)

    async with desk.database.write():
        changes = [asyncio.create_task(one(actor)) for actor in [busy] * 100 + [single]]
        await asyncio.sleep(0)  # All of them wait in the queue now.
    await asyncio.gather(*changes)
    assert len(order) == 101
    assert order.index(single.owner_id) <= 1
