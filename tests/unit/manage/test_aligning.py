"""Slots follow the status of their keys and accounts, in a few statements however many there are."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.servers import sqlite_database
from xairouter.custody.vault import OpenVault, new_vault
from xairouter.domain.accounts import Account, AccountStatus, KeyScope, KeyStatus
from xairouter.manage.aligning import _active, align_slots
from xairouter.manage.owners import NewKey, add_key
from xairouter.storage import keys, owners
from xairouter.storage.database import Database

OWNER = "acc_owner"


def _account(
    name: str, parent: str | None, status: AccountStatus = AccountStatus.ACTIVE
) -> Account:
    return Account(name, OWNER, parent, name, None, status, True, 1)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    sqlite_database(tmp_path / "x.db")
    made = Database(f"sqlite:///{tmp_path}/x.db")
    yield made
    await made.close()


async def _fill(database: Database, vault: OpenVault, count: int) -> list[str]:
    """An owner with so many accounts, each below the one before; the ids of their keys."""
    made = []
    async with database.write() as connection:
        above = _account(OWNER, None)
        await owners.add_owner(connection, above, seen_by_operator=False)
        for number in range(count):
            account = _account(f"acc_{number:03}", above.id)
            await owners.add_account(connection, account)
            key, _ = await add_key(connection, vault, account, NewKey("k", KeyScope.CALL))
            made.append(key.id)
            above = account
    return made


@pytest.mark.parametrize("count", [2, 40])
async def test_suspending_and_resuming_take_as_many_statements_for_many_keys_as_for_few(
    database: Database, count: int
):
    vault = new_vault(OWNER)
    ids = await _fill(database, vault, count)
    statements: list[str] = []

    def count_it(_1: Any, _2: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(database._engine.sync_engine, "before_cursor_execute", count_it)
    for status in (AccountStatus.SUSPENDED, AccountStatus.ACTIVE):
        async with database.write() as connection:
            await owners.update_account(connection, OWNER, "acc_001", status=status)
            del statements[:]
            await align_slots(connection, vault, OWNER, "acc_000")
            assert len(statements) <= 5
            slots = {slot.key_id: slot for slot in await keys.list_slots(connection, OWNER)}
        sealed = [slots[key_id].ciphertext is not None for key_id in ids]
        assert sealed == [True] + [status == AccountStatus.ACTIVE] * (count - 1)


async def test_a_key_s_own_status_and_another_subtree_s_are_kept(database: Database):
    vault = new_vault(OWNER)
    ids = await _fill(database, vault, 4)
    async with database.write() as connection:
        await keys.update_key(connection, OWNER, ids[3], status=KeyStatus.SUSPENDED)
        await align_slots(connection, vault, OWNER, "acc_003")
        await keys.update_key(connection, OWNER, ids[0], status=KeyStatus.SUSPENDED)
        await align_slots(connection, vault, OWNER, "acc_001")
        slots = {slot.key_id: slot for slot in await keys.list_slots(connection, OWNER)}
    sealed = [slots[key_id].ciphertext is not None for key_id in ids]
    assert sealed == [True, True, True, False], "the first one's subtree was not asked for"


def test_an_account_is_active_with_all_above_it_in_whatever_order_they_stand():
    suspended = AccountStatus.SUSPENDED
    tree = [
        _account("below", "moved"),
        _account("moved", "top"),
        _account("top", None),
        _account("child", "asleep"),
        _account("asleep", "top", suspended),
        _account("orphan", "nobody"),
        _account("round", "about"),
        _account("about", "round"),
    ]
    for order in (tree, tree[::-1], tree[3:] + tree[:3]):
        assert _active(order) == {"top", "moved", "below"}
