"""The hash chain finds what was removed, inserted or altered; a checkpoint what was computed anew."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig
from tests.system.process import run_command
from xairouter.manage import audit
from xairouter.storage import chain


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
    for report in await audit.verify_all(rig.house.database):
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
                "insert into chain (owner_id, seq, kind, ref_id, salt, leaf, hash) "
                "values (?, ?, ?, ?, ?, ?, ?)",
                (rig.owner_id, seq, kind, ref_id, bytes(salt), bytes(leaf), last),
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
    from xairouter.manage.expire import forget_old

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
    await forget_old(rig.house.database)
    found = await _audit(rig)
    assert (found["forgotten"], found["faults"]) == (1, [])


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
