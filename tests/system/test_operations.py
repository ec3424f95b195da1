"""Health, metrics, the OpenAPI document, the operation log and its chain."""

import hashlib
import json

import pytest
import sqlalchemy as sa

from tests.rig import Rig, start_rig
from xairouter.storage import operations as operation_log
from xairouter.storage.tables import operations

pytestmark = [pytest.mark.both, pytest.mark.shared_rig]


async def test_health_and_readiness(rig: Rig):
    assert (await rig.ask("GET", "/healthz", key=None)).status == 200
    ready = await rig.ask("GET", "/readyz", key=None)
    assert (ready.status, ready.json()["database"]) == (200, "ok")


async def test_every_reply_carries_its_call_id_and_origin(rig: Rig):
    await rig.add_provider_key()
    for method, path in (
        ("GET", "/"),
        ("GET", "/healthz"),
        ("GET", "/nothing"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/api/v1/me"),
        ("GET", "/api/v1/nothing"),
        ("GET", "/api/v1/openapi.json"),
    ):
        headers = (await rig.ask(method, path)).headers
        assert headers["x-xairouter-call-id"].startswith("call_"), path
        assert headers["x-request-id"] == headers["x-xairouter-call-id"]
        assert headers["x-xairouter-origin"] in ("gateway", "provider")


async def test_metrics_are_for_loopback_or_the_token(tmp_path):
    rig = await start_rig(tmp_path, metrics_token="a-token-of-some-length")
    try:
        await rig.add_provider_key()
        await rig.chat()
        direct = await rig.ask("GET", "/metrics", key=None)
        assert direct.status == 200
        assert (
            b'xairouter_calls_total{dialect="openai_chat",outcome="completed"} 1.0' in direct.body
        )
        forwarded = await rig.ask("GET", "/metrics", key=None, x_forwarded_for="8.8.8.8")
        assert forwarded.status == 403
        token = await rig.ask(
            "GET", "/metrics", key="a-token-of-some-length", x_forwarded_for="8.8.8.8"
        )
        assert token.status == 200
    finally:
        await rig.stop()


async def test_the_openapi_document_describes_every_route_and_needs_no_key(rig: Rig):
    document = (await rig.ask("GET", "/api/v1/openapi.json", key=None)).json()
    paths = set(document["paths"])
    for path in (
        "/api/v1/me",
        "/api/v1/provider-keys",
        "/api/v1/accounts/{account_id}/keys",
        "/api/v1/usage/records",
        "/api/v1/vault/rekey",
        "/api/v1/recover",
    ):
        assert path in paths
    operations = [op for methods in document["paths"].values() for op in methods.values()]
    assert all(op.get("description") for op in operations)


async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(rig: Rig, tmp_path):
    await rig.add_provider_key()
    body = {"model": "m", "messages": []}
    await rig.ask("POST", "/v1/chat/completions", body, x_forwarded_for="9.9.9.9")
    assert (await rig.record())["client_ip"] == "127.0.0.1"
    behind = await start_rig(tmp_path / "b", trusted_proxies=("127.0.0.0/8", "10.0.0.0/8"))
    try:
        await behind.add_provider_key()
        await behind.ask(
            "POST", "/v1/chat/completions", body, x_forwarded_for="1.1.1.1, 9.9.9.9, 10.0.0.7"
        )
        assert (await behind.record())["client_ip"] == "9.9.9.9"
    finally:
        await behind.stop()


@pytest.mark.own_rig
async def test_usage_and_operations_extend_one_chain_per_owner(rig: Rig):
    await rig.add_provider_key()
    other = await rig.new_owner("other")
    for _ in range(3):
        await rig.chat()
    await rig.ask("PATCH", "/api/v1/settings", {"on_revoke": "finish"})
    await rig.records(expect=3)
    for owner, least in ((rig.owner_id, 6), (other.account.id, 1)):
        last, count = bytes(32), 0
        for seq, leaf in await rig.sql(
            ("select seq, leaf from chain where owner_id = ? order by seq", (owner,))
        ):
            count += 1
            assert seq == count
            last = hashlib.sha256(last + leaf).digest()
        assert count >= least
        head = await rig.sql(("select seq, hash from chain_heads where owner_id = ?", (owner,)))
        assert head == [(count, last)]
    async with rig.house.database.read() as connection:
        row = dict((await connection.execute(sa.select(operations))).mappings().first() or {})
    [[salt, leaf]] = await rig.sql(("select salt, leaf from chain where ref_id = ?", (row["id"],)))
    content = json.dumps({n: row[n] for n in sorted(row)}, separators=(",", ":")).encode()
    assert leaf == hashlib.sha256(salt + content).digest()


async def test_a_change_is_logged_with_before_and_after_and_no_secret(rig: Rig):
    key = await rig.add_provider_key(name="before")
    team = (await rig.ask("POST", "/api/v1/accounts", {"name": "team"})).json()
    account = f"/api/v1/accounts/{team['account']['id']}"
    await rig.ask("PATCH", f"/api/v1/provider-keys/{key['id']}", {"name": "after", "level": 3})
    await rig.ask("PATCH", account, {"name": "crew", "status": "suspended"})
    await rig.ask("PATCH", f"{account}/keys/{team['key']['id']}", {"name": "ci"})
    hook = f"{rig.standin_url}/hook/a-token-of-the-receiver"
    await rig.ask("PATCH", "/api/v1/settings", {"record_days": 30, "webhook_url": hook})
    await rig.ask("PATCH", account, {"parent": "acc_nowhere"})
    page = (await rig.ask("GET", "/api/v1/operations")).json()["items"]
    told = {(one["verb"], one["result"]): one for one in page}
    changed = told[("provider_keys.change", "ok")]["detail"]
    assert changed["before"] == {"name": "before", "level": 1}
    assert changed["after"] == {"name": "after", "level": 3}
    moved = told[("accounts.change", "ok")]
    assert moved["detail"]["before"] == {"name": "team", "status": "active"}
    assert moved["detail"]["after"] == {"name": "crew", "status": "suspended"}
    assert moved["actor_key_id"]
    assert moved["client_ip"] == "127.0.0.1"
    assert told[("keys.change", "ok")]["detail"]["after"] == {"name": "ci"}
    settings = told[("settings.change", "ok")]["detail"]
    assert settings["fields"] == ["record_days", "webhook_url"]
    assert settings["after"] == {"record_days": 30}
    assert ("accounts.change", "not_found") in told, "refused attempts too"
    assert "a-token-of-the-receiver" not in json.dumps(page)
    assert "whsec_" not in json.dumps(page)


async def test_settings_are_read_and_changed(rig: Rig):
    before = (await rig.ask("GET", "/api/v1/settings")).json()
    assert before["on_client_gone"] == "cancel"
    changed = await rig.ask(
        "PATCH", "/api/v1/settings", {"time_zone": "Europe/Paris", "vault_idle_seconds": 0}
    )
    assert changed.json()["time_zone"] == "Europe/Paris"
    await rig.add_provider_key()
    assert (await rig.chat()).status == 200
    assert not rig.house.room._open, "with no idle time every call opens the vault anew"
    for bad in (
        {"time_zone": "Mars/Base"},
        {"on_client_gone": "wait"},
        {"nothing": 1},
        {"webhook_url": "ftp://x.example"},
    ):
        answer = await rig.ask("PATCH", "/api/v1/settings", bad)
        assert answer.status == 422, bad


async def test_usage_totals_group_and_filter(rig: Rig):
    await rig.add_provider_key()
    sub = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()
    for model in ("a", "a", "b"):
        await rig.chat(model)
    await rig.chat("fault-500", key=sub["api_key"])
    await rig.records(expect=4)
    by_model = (await rig.ask("GET", "/api/v1/usage?group_by=model")).json()["items"]
    assert {row["model"]: row["calls"] for row in by_model} == {"a": 2, "b": 1, "fault-500": 1}
    assert (await rig.ask("GET", "/api/v1/usage")).json()["items"] == []
    total = (await rig.ask("GET", "/api/v1/usage")).json()["totals"]
    assert (total["calls"], total["errors"], total["attempts"]) == (4, 1, 4)
    assert total["total_ms"]["p50"] is not None
    own = (await rig.ask("GET", "/api/v1/usage", key=sub["api_key"])).json()["totals"]
    assert own["calls"] == 1
    empty = (await rig.ask("GET", "/api/v1/usage?model=none")).json()["totals"]
    assert (empty["calls"], empty["cost_usd"]) == (0, None)
    for provider, calls in (("custom", 4), ("openai", 0)):
        some = (await rig.ask("GET", f"/api/v1/usage?provider={provider}")).json()["totals"]
        assert some["calls"] == calls
    part = f"/api/v1/usage/records?account={sub['account']['id']}"
    assert len((await rig.ask("GET", part)).json()["items"]) == 1
    assert (
        len((await rig.ask("GET", "/api/v1/usage/records?outcome=completed")).json()["items"]) == 3
    )
    page = (await rig.ask("GET", "/api/v1/usage/records?limit=3")).json()
    rest = (await rig.ask("GET", f"/api/v1/usage/records?cursor={page['next_cursor']}")).json()
    assert (len(page["items"]), len(rest["items"]), rest["next_cursor"]) == (3, 1, None)
    day = (await rig.ask("GET", "/api/v1/usage?group_by=day")).json()["items"]
    assert day[0]["day"].endswith("T00:00:00.000Z")
    assert (await rig.ask("GET", "/api/v1/usage?group_by=moon")).status == 422
    assert (await rig.ask("GET", "/api/v1/usage?from=yesterday")).status == 422


@pytest.mark.own_rig
async def test_records_past_their_days_are_forgotten_and_their_sums_stay(rig: Rig):
    from xairouter.clock import now_ms
    from xairouter.manage.expire import forget_old

    await rig.add_provider_key()
    await rig.chat()
    await rig.records(expect=1)
    assert await forget_old(rig.house.database, now_ms()) == 0
    await rig.sql(
        "update usage_records set started_at_ms = started_at_ms - 366 * cast(86400000 as bigint)"
    )
    assert await forget_old(rig.house.database, now_ms()) == 1
    assert await rig.sql("select sum(calls) from usage_hours") == [(1,)]
    assert await rig.sql("select count(*) from chain where kind = 'usage'") == [(1,)]


@pytest.mark.own_rig
async def test_provider_objects_are_let_go_with_the_records_of_the_calls_that_made_them(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """In slices, of each owner by its own days, and not a day sooner."""
    from xairouter.clock import now_ms
    from xairouter.manage import expire
    from xairouter.storage.records import ObjectRow, insert_objects

    monkeypatch.setattr(expire, "SLICE", 4)
    other = (await rig.new_owner("other")).account.id
    now, day = now_ms(), expire.DAY_MS
    await rig.sql(("update owners set settings = ? where id = ?", ('{"record_days": 10}', other)))
    made = [
        ObjectRow(owner, f"resp_{age}_{number}", owner, "pk_1", "openai_responses", now - age * day)
        for owner in (rig.owner_id, other)
        for age in (1, 9, 11, 364, 366)
        for number in range(5)
    ]
    async with rig.house.database.write() as connection:
        await insert_objects(connection, made)
    await expire.forget_old(rig.house.database, now)
    left = await rig.sql("select owner_id, object_id from provider_objects")
    ages = {
        owner: {int(name.split("_")[1]) for one, name in left if one == owner}
        for owner in (rig.owner_id, other)
    }
    assert ages == {rig.owner_id: {1, 9, 11, 364}, other: {1, 9}}
    assert len(left) == 30


async def test_a_page_ends_early_where_its_details_would_be_too_many(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """Any change may write as much as a request holds; a page is read a few of these at a time."""
    monkeypatch.setattr(operation_log, "MOST_DETAILS", 12_000)
    path = f"/api/v1/accounts/{(await rig.add_account())['account']['id']}/rules"
    for number in range(6):
        names = [f"{number}-{name}-{'x' * 80}" for name in range(50)]
        assert (await rig.ask("PUT", path, {"allow_models": names})).status == 200
    seen: list[str] = []
    cursor, pages = "", 0
    while cursor is not None:
        page = (await rig.ask("GET", f"/api/v1/operations?limit=100{cursor}")).json()
        sizes = [len(json.dumps(one["detail"])) for one in page["items"]]
        assert len(sizes) == 1 or sum(sizes) < 14_000
        seen += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
        pages += 1
    query = f"select id from operations where owner_id = '{rig.owner_id}' order by id desc"
    assert seen == [row_id for (row_id,) in await rig.sql(query)]
    assert pages > 3
