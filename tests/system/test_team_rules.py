"""The worked examples of docs/how-to/team-rules.md: built as they stand, and held to what is said."""

import json
import re
from typing import Any

import pytest

from tests.pages import ROOT
from tests.rig import Answer, Rig
from tests.system.test_limits import PRICES

pytestmark = pytest.mark.shared_rig

PAGE = "docs/how-to/team-rules.md"


def example(name: str) -> Any:
    text = (ROOT / PAGE).read_text()
    found = re.search(rf"<!-- example: {name} -->\n\n```json\n(.*?)```", text, re.DOTALL)
    assert found, name
    return json.loads(found.group(1))


async def build(rig: Rig, name: str) -> dict[str, Any]:
    """Make an example's tree; name → account with its key."""
    tree, found = example(name), {}
    put = await rig.ask("PUT", f"/api/v1/accounts/{rig.owner_id}/rules", tree["rules"])
    assert put.status == 200, put.body

    async def below(parent: str, nodes: list[Any]) -> None:
        for node in nodes:
            fields = {n: v for n, v in node.items() if n != "below"}
            made = await rig.ask("POST", "/api/v1/accounts", {**fields, "parent": parent})
            assert made.status == 201, made.body
            found[node["name"]] = made.json()
            await below(made.json()["account"]["id"], node.get("below", []))

    await below(rig.owner_id, tree["below"])
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key(models=["demo-large", "demo-small", "own-model"])
    return found


def code(answer: Answer) -> Any:
    return answer.status if answer.status < 400 else answer.code


async def test_a_company_with_departments(rig: Rig):
    tree = await build(rig, "company")
    research, support, ada = tree["research"], tree["support"], tree["ada"]
    assert code(await rig.chat("demo-large", key=support["api_key"])) == "model_not_allowed"
    assert code(await rig.chat("demo-small", key=support["api_key"])) == 200
    assert rig.standin.requests[-1].json()["max_tokens"] == 1000
    too_much = await rig.ask(
        "POST",
        "/api/v1/accounts",
        {"name": "bob", "rules": {"budget": {"month_usd": 1600}}},
        key=research["api_key"],
    )
    assert too_much.json()["code"] == "wider_than_parent"
    assert code(await rig.chat("demo-large", key=ada["api_key"], max_tokens=50)) == 200
    me = (await rig.ask("GET", "/api/v1/me", key=ada["api_key"])).json()
    spent = {(one["account_id"], one["name"]): one["used_usd"] for one in me["budgets"]}
    assert len(spent) == 3
    assert set(spent.values()) != {0}
    assert spent[(ada["account"]["id"], "day")] == spent[(research["account"]["id"], "month")]
    assert spent[(rig.owner_id, "month")] >= spent[(ada["account"]["id"], "day")]


async def test_an_agency_with_customers(rig: Rig):
    tree = await build(rig, "agency")
    website, staff = tree["customer-a-website"], tree["customer-a-staff"]
    messages = {"model": "demo-large", "max_tokens": 9, "messages": []}
    refused = await rig.ask("POST", "/v1/messages", messages, key=website["api_key"])
    assert code(refused) == "path_not_allowed"
    assert code(await rig.chat("demo-large", key=website["api_key"], max_tokens=9)) == 200
    assert code(await rig.chat("demo-small", key=staff["api_key"], max_tokens=9)) == 200
    assert code(await rig.chat("own-model", key=staff["api_key"])) == "model_not_allowed"
    assert (
        code(await rig.chat("demo-large", key=tree["customer-b"]["api_key"])) == "model_not_allowed"
    )
    assert code(await rig.chat("own-model", key=tree["own-people"]["api_key"])) == 200
    records = await rig.records()
    customer = tree["customer-a"]["account"]["id"]
    usage = (await rig.ask("GET", f"/api/v1/usage?account={customer}")).json()["totals"]
    of_customer = {website["account"]["id"], staff["account"]["id"]}
    spent = sum(r["cost_usd"] or 0 for r in records if r["account_id"] in of_customer)
    assert abs(usage["cost_usd"] - spent) < 1e-9


async def test_a_developer_with_dev_ci_and_production(rig: Rig):
    tree = await build(rig, "developer")
    assert code(await rig.chat("whatever-model", key=tree["ci"]["api_key"], max_tokens=9)) == 200
    assert rig.standin.requests[-1].json()["model"] == "demo-small"
    assert (
        code(await rig.chat("demo-small", key=tree["production"]["api_key"])) == "model_not_allowed"
    )
    assert (
        code(await rig.chat("demo-large", key=tree["production"]["api_key"], max_tokens=9)) == 200
    )
    assert code(await rig.chat("own-model", key=tree["dev"]["api_key"], max_tokens=9)) == 200
    assert code(await rig.chat("demo-large", key=tree["ci"]["api_key"], max_tokens=501)) == (
        "output_not_allowed"
    )
