"""A model's name that would lead to another path at a provider: refused where it is written, and no
model where an older document has it."""

import json

import pytest

from tests.rig import Rig

pytestmark = pytest.mark.shared_rig

TARGETS = ("../x", "..", "a/../b", "./m", "a/..")
GEMINI = "/v1beta/models/m:generateContent"


@pytest.mark.parametrize("target", TARGETS)
async def test_a_target_with_dot_segments_is_refused_where_it_is_written(rig: Rig, target: str):
    rules = f"/api/v1/accounts/{rig.owner_id}/rules"
    for method, path, body in (
        ("PUT", rules, {"model_map": {"m": target}}),
        ("PATCH", rules, {"model_map": {"m": target}}),
        ("PUT", "/api/v1/routing", {"model_failover": {"m": [target]}}),
    ):
        answer = await rig.ask(method, path, body)
        assert (answer.status, answer.code) == (422, "invalid_field"), (path, answer.body)
        assert "dots" in answer.body.decode()


@pytest.mark.parametrize("target", TARGETS)
async def test_a_target_of_an_older_document_is_no_model(rig: Rig, target: str):
    await rig.add_provider_key()
    stored = json.dumps({"model_map": {"m": target}})
    await rig.sql(("update accounts set rules = ? where id = ?", (stored, rig.owner_id)))
    await rig.house.directory.changed(rig.owner_id)
    body = {"contents": [{"parts": [{"text": "x"}]}]}
    answer = await rig.ask("POST", GEMINI, body)
    assert (answer.status, answer.code) == (404, "model_not_found"), answer.body
    assert rig.standin.requests == []


async def test_dots_within_a_name_are_a_name(rig: Rig):
    rules = f"/api/v1/accounts/{rig.owner_id}/rules"
    for target in ("gpt-4.1", "..x", "org/model..v2", "..."):
        assert (await rig.ask("PUT", rules, {"model_map": {"m": target}})).status == 200
