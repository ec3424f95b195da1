"""kill -9, damage to the journal, start: what a call loses is its own, and it is said."""

import json
from pathlib import Path

import pytest

from tests.system.process import create_owner, run_command, start_router
from tests.waiting import until
from xairouter.ledger.frames import Finish, stated
from xairouter.ledger.salvage import decode_all
from xairouter.standin.server import StandIn

CALLS = 24
DIE_BEFORE_STORING = """
from xairouter.ledger.drain import Drain

async def nothing(self):
    pass

Drain.drain = nothing
from xairouter.__main__ import main
main()
"""


async def test_after_a_flipped_bit_every_other_call_is_recovered_and_the_damage_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data_dir = tmp_path / "data"
    standin = StandIn()
    port = await standin.start()
    key = await create_owner(data_dir)
    try:
        with monkeypatch.context() as dying:
            dying.setattr("tests.system.process.COMMAND", _command())
            router = await start_router(data_dir)
        await router.add_standin(key, port)
        for _ in range(CALLS):
            words = [{"role": "user", "content": "x"}]
            status, _ = await router.ask(
                "POST", "/v1/chat/completions", key, {"model": "demo", "messages": words}
            )
            assert status == 200
        [segment] = (data_dir / "journal").glob("*/*.log")
        # A call's end is written behind its reply.
        await until(lambda: len(_ends(segment.read_bytes())) == CALLS)
        await router.kill()
        data = bytearray(segment.read_bytes())
        hit, at = _ends(bytes(data))[1]
        data[at] ^= 4
        segment.write_bytes(bytes(data))

        router = await start_router(data_dir)
        _, page = await router.ask("GET", "/api/v1/usage/records?limit=500", key)
        outcomes = {one["call_id"]: one["outcome"] for one in page["items"]}
        assert len(outcomes) == CALLS
        assert outcomes.pop(hit) == "interrupted"
        assert set(outcomes.values()) == {"completed"}
        _, ready = await router.ask("GET", "/readyz", key)
        assert (ready["status"], ready["damage"]) == ("ready", "1 journal files set aside")
        _, notices = await router.ask("GET", "/api/v1/notices", key)
        assert [one["detail"] for one in notices["items"] if one["kind"] == "usage_damaged"] == [
            {"calls": 1}
        ]
        assert await router.terminate() == 0
    finally:
        await standin.stop()
    kept = segment.with_suffix(".damaged")
    assert kept.read_bytes() == bytes(data)
    logged = [json.loads(one) for one in (tmp_path / "stderr.log").read_text().splitlines()]
    [said] = [one for one in logged if one["event"] == "journal_damaged"]
    assert said["file"] == f"{segment.parent.name}/{segment.name}"
    assert said["offset"] <= at < said["offset"] + said["bytes"]
    examined = run_command("doctor", "--offline", data_dir=data_dir)
    assert examined.returncode == 1
    assert f"{said['bytes']} bytes from byte {said['offset']} on" in " ".join(
        examined.stdout.split()
    )
    kept.unlink()
    assert run_command("doctor", "--offline", data_dir=data_dir).returncode == 0


def _command() -> list[str]:
    import sys

    return [sys.executable, "-c", DIE_BEFORE_STORING]


def _ends(data: bytes) -> list[tuple[str, int]]:
    """Calls that ended, each with a byte in the frame that says so."""
    at, found = 0, list[tuple[str, int]]()
    while at < len(data):
        end, _ = stated(data, at)
        [frame] = decode_all(data[at:end])
        if isinstance(frame, Finish):
            found.append((frame.record.call_id, end - 3))
        at = end
    return found
