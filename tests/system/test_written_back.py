"""Rows that were deleted and are written back by whoever writes the database."""

from typing import Any

import pytest

from tests.rig import Rig
from xairouter.manage import vault


async def kept(rig: Rig, table: str, where: str) -> list[tuple[str, tuple[Any, ...]]]:
    """Statements that write rows of a table back as they are now, deleted first."""
    columns = [name for _, name, *_ in await rig.sql(f"pragma table_info({table})")]
    rows = await rig.sql(f"select {','.join(columns)} from {table} where {where}")
    assert rows
    return [(f"delete from {table} where {where}", ())] + [
        (f"insert into {table} ({','.join(columns)}) values ({','.join('?' * len(columns))})", row)
        for row in rows
    ]


async def write_back(rig: Rig, *rows: list[tuple[str, tuple[Any, ...]]]) -> None:
    for statements in rows:
        await rig.sql(*statements)
    rig.house.directory.drop(rig.owner_id)


async def new_account(rig: Rig, name: str) -> tuple[str, str, str]:
    """(account, key, the key's secret)"""
    made = (await rig.ask("POST", "/api/v1/accounts", {"name": name})).json()
    return made["account"]["id"], made["key"]["id"], made["api_key"]


async def status_of(rig: Rig, api_key: str) -> int:
    return (await rig.ask("GET", "/api/v1/me", key=api_key)).status


async def test_a_deleted_xai_key_that_is_written_back_opens_nothing(rig: Rig):
    account, key, api_key = await new_account(rig, "a")
    beside, other, other_key = await new_account(rig, "b")
    rows = [
        await kept(rig, "api_keys", f"id = '{key}'"),
        await kept(rig, "slots", f"key_id = '{key}'"),
    ]
    await write_back(rig, *rows)
    assert await status_of(rig, api_key) == 200, "what is written back unchanged works"
    deleted = await rig.ask("DELETE", f"/api/v1/accounts/{account}/keys/{key}")
    assert deleted.status == 204, deleted.body
    assert (await status_of(rig, other_key), await status_of(rig, rig.key)) == (200, 200)
    await write_back(rig, *rows)
    assert await status_of(rig, api_key) == 401
    shown = (await rig.ask("GET", "/api/v1/vault")).json()["slots"]
    assert [slot["genuine"] for slot in shown if slot["key_id"] == key] == [False]
    # Nor does it come back with the next deletion, by a status that changes, or written back shut.
    await rig.ask("DELETE", f"/api/v1/accounts/{beside}/keys/{other}")
    assert await status_of(rig, api_key) == 401
    await write_back(rig, *rows)
    await rig.sql(
        "update slots set ciphertext = null,"
        " epoch = (select vault_epoch from owners where id = owner_id)"
        f" where key_id = '{key}'"
    )
    rig.house.directory.drop(rig.owner_id)
    for status in ("suspended", "active"):
        await rig.ask("PATCH", f"/api/v1/accounts/{account}", {"status": status})
    assert await status_of(rig, api_key) == 401


async def test_the_keys_of_a_deleted_account_open_nothing_when_written_back(rig: Rig):
    account, key, api_key = await new_account(rig, "a")
    rows = await kept(rig, "slots", f"key_id = '{key}'")
    assert (await rig.ask("DELETE", f"/api/v1/accounts/{account}")).status == 204
    for table, one in (("accounts", account), ("api_keys", key)):
        await rig.sql(
            f"update {table} set status = 'active', deleted_at_ms = null where id = '{one}'"
        )
    await write_back(rig, rows)
    assert await status_of(rig, api_key) == 401


async def test_a_deleted_provider_key_that_is_written_back_is_never_sent(rig: Rig):
    made = await rig.add_provider_key()
    rows = await kept(rig, "provider_keys", f"id = '{made['id']}'")
    await write_back(rig, rows)
    assert (await rig.chat()).status == 200
    sent = len(rig.standin.requests)
    deleted = await rig.ask("DELETE", f"/api/v1/provider-keys/{made['id']}")
    assert "opens nothing if it is written back" in deleted.json()["receipt"]
    await write_back(rig, rows)
    assert (await rig.chat()).code == "provider_key_rejected"
    assert len(rig.standin.requests) == sent


@pytest.mark.parametrize("way", ["replace", "endpoints"])
async def test_a_provider_key_s_former_row_that_is_written_back_is_never_sent(rig: Rig, way: str):
    """Neither its old secret to its old address, nor the next one."""
    made = await rig.add_provider_key()
    path = f"/api/v1/provider-keys/{made['id']}"
    rows = await kept(rig, "provider_keys", f"id = '{made['id']}'")
    fresh = {"secret": "sk-second-0123456789abcdef"}
    if way == "replace":
        changed = await rig.ask("POST", f"{path}/replace", fresh)
    else:
        changed = await rig.ask("PATCH", path, {"endpoints": made["endpoints"], **fresh})
    assert changed.status == 200, changed.body
    assert (await rig.chat()).status == 200
    sent = len(rig.standin.requests)
    await write_back(rig, rows)
    assert (await rig.chat()).code == "provider_key_rejected"
    again = await rig.ask("POST", f"{path}/replace", {"secret": "sk-third-0123456789abcdef"})
    assert again.code == "secret_required"
    assert len(rig.standin.requests) == sent


async def test_what_is_under_way_outlives_a_deletion_and_many_deletions_at_once_succeed(rig: Rig):
    import asyncio

    await rig.add_provider_key()
    made = [await new_account(rig, f"a{number}") for number in range(8)]
    calls = [asyncio.create_task(rig.chat(key=api_key)) for _, _, api_key in made]
    answers = await asyncio.gather(
        *(
            rig.ask("DELETE", f"/api/v1/accounts/{account}/keys/{key}")
            for account, key, _ in made[:6]
        )
    )
    assert [answer.status for answer in answers] == [204] * 6
    served = [await call for call in calls]
    assert [answer.status for answer in served[6:]] == [200, 200]
    assert [await status_of(rig, api_key) for _, _, api_key in made] == [401] * 6 + [200] * 2


async def test_a_vault_of_very_many_slots_is_not_renewed_and_the_receipt_says_so(
    rig: Rig, monkeypatch: Any
):
    monkeypatch.setattr(vault, "MOST_RENEWED", 1)
    made = await rig.add_provider_key()
    deleted = await rig.ask("DELETE", f"/api/v1/provider-keys/{made['id']}")
    assert "written back" not in deleted.json()["receipt"]
    assert (await rig.ask("GET", "/api/v1/vault")).json()["epoch"] == 1
