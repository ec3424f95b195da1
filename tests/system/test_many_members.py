"""A management body with very many members, at every operation that takes one: refused as a whole,
with an answer that names a few."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig import Rig
from tests.system.test_console_security import POSTS, filled, furnished, signed_in
from tests.system.test_hostile_values import DOCUMENT, LEFT_OUT, _resolved
from xairouter.manage.fields import MOST_PROBLEMS

pytestmark = pytest.mark.shared_rig


def _bodies(schema: dict[str, Any]) -> Iterator[bytes]:
    members = b",".join(b'"f%d":1' % number for number in range(4_000))
    yield b"{" + members + b"}"
    yield b"{" + members * 20 + b"}"
    yield b"[" + b"[]," * 30_000 + b"[]]"
    for name in _resolved(schema, schema).get("properties", {}):
        yield b'{"%b":{%b}}' % (name.encode(), members[:30_000].rsplit(b",", 1)[0])
        yield b'{"%b":[%b1]}' % (name.encode(), b"1," * 1_900)


def _takes_a_body() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if "requestBody" in operation and (method, path) not in LEFT_OUT:
                content = operation["requestBody"]["content"]["application/json"]
                yield method, path, content["schema"]


async def test_of_very_many_members_a_few_are_named_at_every_operation(rig: Rig):
    tried = 0
    for method, path, schema in _takes_a_body():
        where = path.replace("{account_id}", rig.owner_id)
        for body in _bodies(schema):
            if path.endswith("/explain") and body.startswith(b'{"body":{'):
                continue  # A call's own body, read as a call's.
            answer = await rig.ask(method.upper(), where, body)
            assert 400 <= answer.status < 500, (method, path, body[:60], answer.status)
            assert len(answer.body) < 10_000, (method, path, body[:60])
            assert len(answer.json()["fields"]) <= MOST_PROBLEMS
            tried += 1
    assert tried > 100


async def test_a_body_of_the_largest_honest_kind_passes(rig: Rig):
    rules = {
        "allow_models": [f"model-with-a-long-name-{number}" for number in range(2000)],
        "allow_ips": ["127.0.0.1", *(f"10.{n // 250}.{n % 250}.1" for n in range(1999))],
        "model_limits": {f"m{number}": {"rpm": 1, "tpd": 5} for number in range(200)},
        "model_map": {f"m{number}": "m" for number in range(500)},
    }
    where = f"/api/v1/accounts/{rig.owner_id}/rules"
    assert (await rig.ask("PUT", where, rules)).status == 200
    assert (await rig.ask("PUT", where, {})).status == 200
    prices = {
        f"m{number}": {"input": 1, "output": 2, "cached_input": 0.5} for number in range(2000)
    }
    assert (await rig.ask("PUT", "/api/v1/prices", prices)).status == 200
    routing = {
        "level_map": {f"m{number}": 1 for number in range(500)},
        "model_failover": {f"m{number}": ["a", "b"] for number in range(500)},
    }
    assert (await rig.ask("PUT", "/api/v1/routing", routing)).status == 200
    text = {"messages": [{"role": "user", "content": "a, [b] {c} " * 80_000}], "model": "m1"}
    told = await rig.ask("POST", "/api/v1/explain", {"body": text})
    assert told.status == 200, told.body[:300]
    assert (await rig.ask("PUT", "/api/v1/routing", {})).status == 200
    assert (await rig.ask("PUT", "/api/v1/prices", {})).status == 200


async def test_a_form_of_very_many_fields_is_answered_shortly_on_every_page(rig: Rig):
    ids = await furnished(rig)
    browser = await signed_in(rig)
    fields = {f"f{number}": "1" for number in range(4_000)}
    for path in POSTS:
        answer = await browser.ask("POST", filled(path, ids), **fields)
        assert answer.status < 500, (path, answer.status)
        assert len(answer.body) < 200_000
