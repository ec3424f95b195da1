"""The hash chain finds what was removed, inserted or altered; a checkpoint what was computed anew."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.interleaving import after_each_statement
from tests.rig import Rig
from tests.system.process import run_command
from xairouter.clock import now_ms
from xairouter.manage import audit, audits, verifying
from xairouter.manage.expire import forget_old, prune_chains
from xairouter.storage import chain

pytestmark = pytest.mark.both


async def _some(rig: Rig) -> None:
    await rig.add_provider_key()
    for _ in range(5):
        await rig.chat()
    await rig.ask("PATCH", "/api/v1/settings", {"on_revoke": "finish"})
    await rig.records(expect=5)


async def _audit(rig: Rig) -> Any:
    answer = await rig.ask("GET", "/api/v1/audit")
    assert answer.status == 200, answer.body
    return answer.json()


async def test_an_untouched_chain_is_whole(rig: Rig):
    await _some(rig)
    found = await _audit(rig)
    assert found["whole"] is True
    assert found["entries"] >= 8
    assert found["faults"] == []
    assert (await rig.ask("POST", "/api/v1/audit/check", found["checkpoint"])).json()["whole"]
    for report in await verifying.verify_all(rig.house.database):
        assert report.is_whole, report.faults


TAMPERING = {
    "altered usage": ("update usage_records set input_tokens = 999 where call_id = ?", "altered"),
    "altered cost": ("update usage_records set cost_nano = 0 where call_id = ?", "altered"),
    "removed usage": ("delete from usage_records where call_id = ?", "removed"),
    "removed entry": ("delete from chain where ref_id = ?", "missing"),
    "another leaf": ("update chain set leaf = salt where ref_id = ?", "altered"),
}


@pytest.mark.parametrize("what", TAMPERING)
async def test_what_was_tampered_with_is_found(rig: Rig, what: str):
    await _some(rig)
    call_id = (await rig.records(expect=5))[2]["call_id"]
    statement, word = TAMPERING[what]
    await rig.sql((statement, (call_id,)))
    found = await _audit(rig)
    assert found["whole"] is False
    assert any(word in fault for fault in found["faults"]), found["faults"]


async def test_a_removed_or_altered_operation_is_found(rig: Rig):
    await _some(rig)
    operation = (await rig.ask("GET", "/api/v1/operations")).json()["items"][1]["id"]
    await rig.sql(("update operations set result = 'forbidden' where id = ?", (operation,)))
    assert (await _audit(rig))["faults"] == [
        fault for fault in (await _audit(rig))["faults"] if operation in fault
    ]
    await rig.sql(("delete from operations where id = ?", (operation,)))
    [fault] = (await _audit(rig))["faults"]
    assert "removed" in fault


async def test_a_row_inserted_by_hand_is_found(rig: Rig):
    await _some(rig)
    await rig.sql(
        "insert into operations (id, owner_id, at_ms, actor, verb, result) "
        f"values ('op_forged', '{rig.owner_id}', 1, 'key', 'x', 'ok')"
    )
    [fault] = (await _audit(rig))["faults"]
    assert "op_forged" in fault


async def test_a_chain_cut_at_its_end_or_computed_anew_is_told_by_a_checkpoint(rig: Rig):
    await _some(rig)
    point = (await _audit(rig))["checkpoint"]
    # Who writes the whole database: the last record goes, and the chain is computed anew.
    victim = (await rig.records(expect=5))[3]["call_id"]
    rows = await rig.sql(
        ("select seq, ref_id, salt, leaf from chain where owner_id = ?", (rig.owner_id,))
    )
    await rig.sql(
        ("delete from usage_records where call_id = ?", (victim,)),
        ("delete from chain where owner_id = ?", (rig.owner_id,)),
    )
    last, seq = chain.FIRST, 0
    for _, ref_id, salt, leaf in sorted(rows):
        if ref_id == victim:
            continue
        seq += 1
        last = hashlib.sha256(last + bytes(leaf)).digest()
        kind = "usage" if ref_id.startswith("call_") else "operation"
        await rig.sql(
            (
                "insert into chain (owner_id, seq, kind, ref_id, salt, leaf) values (?, ?, ?, ?, ?, ?)",
                (rig.owner_id, seq, kind, ref_id, bytes(salt), bytes(leaf)),
            )
        )
    await rig.sql(
        ("update chain_heads set seq = ?, hash = ? where owner_id = ?", (seq, last, rig.owner_id))
    )
    assert (await _audit(rig))["whole"] is True, "alone it cannot tell"
    checked = (await rig.ask("POST", "/api/v1/audit/check", point)).json()
    assert checked["whole"] is False


async def test_a_checkpoint_of_somebody_else_or_altered_is_refused(rig: Rig):
    await _some(rig)
    other = await rig.new_owner("other")
    point = (await _audit(rig))["checkpoint"]
    for wrong in (
        {**point, "seq": 1},
        {**point, "head": "00"},
        {**point, "mac": "0" * 64},
        {},
        {"x": 1},
    ):
        answer = await rig.ask("POST", "/api/v1/audit/check", wrong)
        assert (answer.status, answer.json()["code"]) == (422, "invalid_field")
    answer = await rig.ask("POST", "/api/v1/audit/check", point, key=other.api_key)
    assert answer.status == 422


async def test_records_past_their_days_leave_the_chain_whole(rig: Rig):
    await _some(rig)
    await rig.ask("PATCH", "/api/v1/settings", {"record_days": 1})
    old = (await rig.records(expect=5))[0]["call_id"]
    made = "call_" + "0" * 9 + old[-17:]
    rows = await rig.sql(("select salt from chain where ref_id = ?", (old,)))
    assert rows
    await rig.sql(
        ("delete from usage_records where call_id = ?", (old,)),
        ("update chain set ref_id = ? where ref_id = ?", (made, old)),
    )
    await forget_old(rig.house.database, now_ms())
    found = await _audit(rig)
    assert (found["forgotten"], found["faults"]) == (1, [])


async def test_a_verification_goes_on_where_the_last_one_ended(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(audit, "MANY", 0)
    await _some(rig)
    first = await _audit(rig)
    assert (first["since"], first["state"], first["of"]) == (0, "verified", first["entries"])
    await rig.chat()
    await rig.records(expect=6)
    second = await _audit(rig)
    assert (second["since"], second["faults"]) == (first["entries"], [])
    assert second["entries"] > first["entries"]
    oldest = (await rig.records(expect=6))[-1]["call_id"]
    await rig.sql(("update usage_records set input_tokens = 999 where call_id = ?", (oldest,)))
    assert (await _audit(rig))["whole"], "it was verified before"
    whole = (await rig.ask("GET", "/api/v1/audit?whole=true")).json()
    assert (whole["since"], len(whole["faults"])) == (0, 1)


@pytest.mark.parametrize("change", ["seq = seq - 1", "whole_at_ms = whole_at_ms + 1", "mac = ''"])
async def test_a_point_that_the_vault_did_not_sign_spares_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, change: str
):
    monkeypatch.setattr(audit, "MANY", 0)
    await _some(rig)
    assert (await _audit(rig))["whole"]
    await rig.sql(f"update chain_points set {change}")
    assert (await _audit(rig))["since"] == 0


async def test_a_pruned_chain_is_whole_if_the_owner_s_vault_signed_where_it_begins(rig: Rig):
    await _some(rig)
    await rig.ask("PATCH", "/api/v1/settings", {"record_days": 1})
    entries = (await _audit(rig))["entries"]
    later, database = now_ms() + 3 * 86_400_000, rig.house.database
    assert await forget_old(database, later) == 5
    assert await prune_chains(database, later, rig.house.desk.room.at_hand) == entries
    assert await rig.sql("select count(*) from chain where kind = 'usage'") == [(0,)]
    found = await _audit(rig)
    assert (found["faults"], found["forgotten"], found["entries"]) == ([], 5, entries)
    await rig.sql("update chain_bases set mac = 'x'")
    [fault] = (await _audit(rig))["faults"]
    assert "No key of this owner signed" in fault


async def test_who_does_not_wait_for_the_end_is_told_how_far_it_has_come(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(audits, "WAIT_SECONDS", 0.0)
    await _some(rig)
    first = await _audit(rig)
    assert (first["state"], first["checkpoint"]) == ("verifying", None)
    async with asyncio.timeout(60):
        while (found := await _audit(rig))["state"] == "verifying":
            await asyncio.sleep(0.01)
    assert found["whole"]
    assert found["checkpoint"]["seq"] == found["entries"] == found["of"] > 0


async def test_a_verification_keeps_no_router_from_ending(rig: Rig):
    await _some(rig)
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    with after_each_statement(rig.house.database, hang, "FROM chain_heads"):
        asked = asyncio.create_task(rig.ask("GET", "/api/v1/audit"))
        await reached.wait()
        await rig.house.beside.end()
        answer = await asked
        assert (answer.status, answer.code) == (503, "draining")
        await rig.house.desk.audits.stop()


@pytest.mark.slow
async def test_the_command_finds_the_same(rig: Rig, tmp_path: Path):
    await _some(rig)
    await rig.house.drain.drain()
    file = tmp_path / "checkpoint.json"
    file.write_text(json.dumps(await _audit(rig)))
    where = rig.house.settings
    environment = {"XAIROUTER_DATABASE_URL": where.database_url}
    done = run_command("audit", "verify", data_dir=where.data_dir, **environment)
    assert (done.returncode, "whole" in done.stdout) == (0, True), done.stderr
    arguments = ("audit", "verify", "--json", "--checkpoint", str(file))
    done = run_command(*arguments, data_dir=where.data_dir, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    await rig.sql("update usage_records set input_tokens = 5")
    done = run_command(*arguments, data_dir=where.data_dir, **environment)
    assert done.returncode == 1
    assert "was altered" in done.stdout
    file.write_text("not json")
    done = run_command(*arguments, data_dir=where.data_dir, **environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
