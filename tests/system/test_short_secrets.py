"""Placeholder secrets of servers without keys: nothing of a reply is taken for them, and it is said."""

import pytest

from tests.rig import Rig


@pytest.mark.parametrize("secret", ["-", "x", "event-stream"])
async def test_a_stream_under_a_placeholder_keeps_its_content_type_and_usage(rig: Rig, secret: str):
    added = await rig.add_provider_key(secret=secret)
    tested = await rig.ask("POST", f"/api/v1/provider-keys/{added['id']}/test")
    for checkup in (added["checkup"], tested.json()["checkup"]):
        assert "shorter than 16 characters" in " ".join(checkup["warnings"])
    answer = await rig.chat(stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (await rig.records(expect=1))[0]["usage_source"] == "reported"


async def test_a_real_key_gets_no_such_warning(rig: Rig):
    added = await rig.add_provider_key()
    assert "characters" not in " ".join(added["checkup"].get("warnings", ()))
