"""What serves a model is found in steps where an owner has very many patterns."""

from typing import Any

import pytest

from tests.rig import Rig
from xairouter.domain.steps import Steps, at_once
from xairouter.policy import routing
from xairouter.policy.catalogue import WIDE


@pytest.fixture
async def at_once_found(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> list[Steps[Any]]:
    """What is found without a pause, by an owner with many patterns of models."""
    for key in range(WIDE // 50 + 1):
        await rig.add_provider_key(name=f"k{key}", models=[f"{key}-{one}*" for one in range(50)])
    found: list[Steps[Any]] = []

    def counted(steps: Steps[Any]) -> Any:
        found.append(steps)
        return at_once(steps)

    monkeypatch.setattr(routing, "at_once", counted)
    return found


async def test_a_call_on_very_many_patterns_is_planned_in_steps(
    rig: Rig, at_once_found: list[Steps[Any]]
):
    assert (await rig.ask("POST", "/v1/chat/completions", _body("1-7b"))).status == 200
    assert (await rig.ask("POST", "/v1/chat/completions", _body("x" * 500))).status == 404
    assert (await rig.ask("GET", "/v1/models/1-7b")).status == 404  # Patterns add no names.
    assert at_once_found == []


async def test_an_explanation_on_very_many_patterns_is_made_in_steps(
    rig: Rig, at_once_found: list[Steps[Any]]
):
    asked = {"path": "/v1/chat/completions", "model": "1-7b"}
    answer = await rig.ask("POST", "/api/v1/explain", asked)
    assert answer.status == 200
    assert len(answer.json()["plan"]) == 1
    assert at_once_found == []


def _body(model: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}]}
