"""Every verb of the API, tried with every role and with ids of others. The verbs come from the OpenAPI
document and the rights from the permissions table, so that a new verb is covered by being declared:
one that no row below places fails the test.
"""

import asyncio
import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.rig import Answer, Rig, start_rig
from xairouter.api.application import management_app
from xairouter.domain.permissions import Permission
from xairouter.manage.permissions import PERMISSIONS

VERBS = {
    "GET /api/v1/me": "me.read",
    "POST /api/v1/me/take-over": "vault.take_over",
    "GET /api/v1/vault": "vault.read",
    "POST /api/v1/vault/rekey": "vault.rekey",
    "POST /api/v1/vault/recovery-code": "vault.recovery_code",
    "POST /api/v1/vault/grants": "vault.grant",
    "DELETE /api/v1/vault/slots/{slot_id}": "vault.drop_slot",
    "GET /api/v1/accounts": "accounts.read",
    "POST /api/v1/accounts": "accounts.create",
    "GET /api/v1/accounts/{account_id}": "accounts.read",
    "PATCH /api/v1/accounts/{account_id}": "accounts.change",
    "DELETE /api/v1/accounts/{account_id}": "accounts.delete",
    "GET /api/v1/accounts/{account_id}/rules": "rules.read",
    "PUT /api/v1/accounts/{account_id}/rules": "rules.change",
    "PATCH /api/v1/accounts/{account_id}/rules": "rules.change",
    "POST /api/v1/accounts/{account_id}/invitations": "keys.invite",
    "GET /api/v1/accounts/{account_id}/keys": "keys.read",
    "POST /api/v1/accounts/{account_id}/keys": "keys.create",
    "POST /api/v1/accounts/{account_id}/keys/{key_id}/rotate": "keys.rotate",
    "PATCH /api/v1/accounts/{account_id}/keys/{key_id}": "keys.change",
    "DELETE /api/v1/accounts/{account_id}/keys/{key_id}": "keys.delete",
    "POST /api/v1/panic": "panic",
    "POST /api/v1/panic/undo": "panic",
    "GET /api/v1/provider-keys": "provider_keys.read",
    "POST /api/v1/provider-keys": "provider_keys.create",
    "GET /api/v1/provider-keys/{key_id}": "provider_keys.read",
    "PATCH /api/v1/provider-keys/{key_id}": "provider_keys.change",
    "DELETE /api/v1/provider-keys/{key_id}": "provider_keys.delete",
    "GET /api/v1/provider-keys/{key_id}/impact": "provider_keys.read",
    "POST /api/v1/provider-keys/{key_id}/replace": "provider_keys.replace",
    "POST /api/v1/provider-keys/{key_id}/test": "provider_keys.test",
    "GET /api/v1/models": "models.read",
    "GET /api/v1/providers": "providers.read",
    "GET /api/v1/settings": "settings.read",
    "PATCH /api/v1/settings": "settings.change",
    "GET /api/v1/routing": "routing.read",
    "PUT /api/v1/routing": "routing.change",
    "GET /api/v1/prices": "prices.read",
    "PUT /api/v1/prices": "prices.change",
    "GET /api/v1/audit": "audit.read",
    "POST /api/v1/audit/check": "audit.read",
    "POST /api/v1/export": "vault.export",
    "GET /api/v1/usage": "usage.read",
    "GET /api/v1/usage/records": "usage.read",
    "GET /api/v1/usage/export": "usage.read",
    "GET /api/v1/operations": "operations.read",
    "GET /api/v1/notices": "notices.read",
    "POST /api/v1/notices/test": "notices.test",
    "POST /api/v1/notices/{notice_id}/dismiss": "notices.dismiss",
    "POST /api/v1/explain": "explain",
}
OPEN = {"POST /api/v1/recover"}
OPERATOR = {
    "GET /api/v1/owners",
    "POST /api/v1/owners",
    "PATCH /api/v1/owners/{owner_id}",
    "DELETE /api/v1/owners/{owner_id}",
}
"""Verbs of the operator's session; no XAI API key may do them."""
BODIES: dict[str, Any] = {
    "POST /api/v1/accounts": {"name": "x"},
    "PATCH /api/v1/accounts/{account_id}": {"name": "x"},
    "PUT /api/v1/accounts/{account_id}/rules": {"max_output_tokens": 5},
    "PATCH /api/v1/accounts/{account_id}/rules": {"max_output_tokens": 5},
    "POST /api/v1/accounts/{account_id}/keys": {"name": "x"},
    "PATCH /api/v1/accounts/{account_id}/keys/{key_id}": {"name": "x"},
    "POST /api/v1/accounts/{account_id}/keys/{key_id}/rotate": {},
    "POST /api/v1/provider-keys": {"name": "x", "provider": "openai", "secret": "sk-x"},
    "PATCH /api/v1/provider-keys/{key_id}": {"name": "x"},
    "POST /api/v1/provider-keys/{key_id}/replace": {"secret": "sk-x"},
    "PATCH /api/v1/settings": {"session_minutes": 30},
    "PUT /api/v1/routing": {},
    "PUT /api/v1/prices": {},
    "POST /api/v1/audit/check": {},
    "POST /api/v1/explain": {"method": "POST", "path": "/v1/chat/completions", "model": "m"},
    "POST /api/v1/owners": {"name": "x"},
    "PATCH /api/v1/owners/{owner_id}": {"status": "suspended"},
}
QUERIES = ("usage", "usage/records", "usage/export?format=csv")
"""Reads that take an account to look below."""


def _declared() -> list[str]:
    return [
        f"{method.upper()} {path}"
        for path, methods in management_app().openapi()["paths"].items()
        for method in methods
    ]


def test_every_verb_of_the_api_is_placed_in_the_permissions():
    assert set(_declared()) == set(VERBS) | OPEN | OPERATOR
    assert set(VERBS.values()) <= set(PERMISSIONS)


class Town:
    """Two owners; below the first a manager, two members, and one of them below the manager."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.keys: dict[str, str] = {}
        self.ids: dict[str, dict[str, str]] = {}

    async def build(self) -> None:
        rig = self.rig
        await rig.add_provider_key()
        self.keys["owner"] = rig.key
        for name, parent, fields in (
            ("manager", None, {"can_manage": True}),
            ("beside", None, {}),
            ("below", "manager", {}),
        ):
            wanted: dict[str, Any] = {"name": name, **fields}
            if parent:
                wanted["parent"] = self.ids[parent]["account_id"]
            made = (await rig.ask("POST", "/api/v1/accounts", wanted)).json()
            self.keys[name] = made["api_key"]
            self.ids[name] = {"account_id": made["account"]["id"], "key_id": made["key"]["id"]}
        path = f"/api/v1/accounts/{self.ids['beside']['account_id']}/keys"
        made = (await rig.ask("POST", path, {"name": "steers", "scope": "manage"})).json()
        self.keys["member"] = made["api_key"]
        other = await rig.new_owner("other")
        self.keys["stranger"] = other.api_key
        pk = (await rig.ask("GET", "/api/v1/provider-keys")).json()["items"][0]
        vault = (await rig.ask("GET", "/api/v1/vault")).json()
        self.ids["member"] = self.ids["beside"]
        self.ids["owner"] = {
            "account_id": rig.owner_id,
            "key_id": (await rig.ask("GET", "/api/v1/me")).json()["key"]["id"],
        }
        self.ids["things"] = {
            "key_id": pk["id"],
            "slot_id": vault["slots"][-1]["id"],
            "notice_id": "ntc_01jzzzzzzzzzzzzzzzzzzzzzzz",
            "owner_id": rig.owner_id,
        }

    async def try_verb(self, verb: str, who: str, ids: dict[str, str]) -> Answer:
        method, path = verb.split(" ")
        return await self.rig.ask(method, path.format(**ids), BODIES.get(verb), key=self.keys[who])


@pytest.fixture
async def town(tmp_path: Path):
    rig = await start_rig(tmp_path)
    made = Town(rig)
    await made.build()
    yield made
    await rig.stop()


def _ids(town: Town, verb: str, whose: str) -> dict[str, str]:
    if verb.startswith(("GET /api/v1/accounts", "POST /api/v1/accounts")) or "accounts" in verb:
        return town.ids[whose]
    return town.ids["things"]


NOTHING = {
    name: f"{prefix}_01jzzzzzzzzzzzzzzzzzzzzzzz"
    for name, prefix in (
        ("account_id", "acc"),
        ("key_id", "key"),
        ("slot_id", "slot"),
        ("notice_id", "ntc"),
        ("owner_id", "acc"),
    )
}


def _told(answer: Answer, ids: dict[str, str]) -> tuple[int, str]:
    """What an answer says, without the id that was asked for and the call's own."""
    text = answer.body.decode()
    for value in ids.values():
        text = text.replace(value, "ID")
    return answer.status, re.sub(r"call_[0-9a-z]{26}", "CALL", text)


async def test_an_id_of_another_owner_answers_exactly_as_one_that_does_not_exist(town: Town):
    for verb in (one for one in VERBS if "{" in one):
        for whose in ("owner", "manager", "below"):
            ids = _ids(town, verb, whose)
            foreign = await town.try_verb(verb, "stranger", ids)
            missing = await town.try_verb(verb, "stranger", NOTHING)
            assert foreign.status == 404, (verb, foreign.status, foreign.body)
            assert _told(foreign, ids) == _told(missing, NOTHING), verb
    for path, account in itertools.product(QUERIES, town.ids):
        if "account_id" not in town.ids[account]:
            continue
        joined = "&" if "?" in path else "?"
        wanted = town.ids[account]["account_id"]
        found = await town.rig.ask(
            "GET", f"/api/v1/{path}{joined}account={wanted}", key=town.keys["stranger"]
        )
        assert found.status == 404, (path, found.status, found.body)
    for body in ({"call_id": NOTHING["account_id"]}, {"account": town.ids["below"]["account_id"]}):
        fields = {"method": "POST", "path": "/v1/chat/completions", "model": "m", **body}
        asked = body if "call_id" in body else fields
        found = await town.rig.ask("POST", "/api/v1/explain", asked, key=town.keys["stranger"])
        assert found.status == 404, (body, found.body)


@contextlib.contextmanager
def _statements(rig: Rig) -> Iterator[list[str]]:
    """What the database is asked by tasks that begin from here on: not by what runs all the time."""
    seen: list[str] = []
    others = asyncio.all_tasks()

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if asyncio.current_task() not in others:
            seen.append(statement)

    engine = rig.house.database._engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


async def test_an_id_of_another_owner_takes_the_same_work_as_one_that_does_not_exist(town: Town):
    """Time tells as much as words: the database is asked the same questions, as many, in the same
    order, and nothing is opened or sealed for one and not for the other (that stands behind them)."""
    for verb in (one for one in VERBS if "{" in one):
        for whose in ("owner", "manager", "below"):
            foreign = await _asked(town, verb, _ids(town, verb, whose))
            assert foreign == await _asked(town, verb, NOTHING), verb
            assert foreign, verb


async def _asked(town: Town, verb: str, ids: dict[str, str]) -> list[str]:
    """The statements of a verb, tried by somebody who is known and of whom nothing is to be read anew:
    what an earlier try announced has been heard of."""
    directory = town.rig.house.directory
    (row,) = await town.rig.sql("select max(seq) from changes")
    async with asyncio.timeout(120):
        while directory._read_to < row[0]:
            await asyncio.sleep(0.02)
    assert (await town.rig.ask("GET", "/api/v1/me", key=town.keys["stranger"])).status == 200
    with _statements(town.rig) as seen:
        await town.try_verb(verb, "stranger", ids)
    return seen


async def test_a_manager_reaches_nothing_beside_above_or_of_itself(town: Town):
    """Changing verbs; what a manager reads of itself it reads at /me."""
    for verb in (one for one in VERBS if "{account_id}" in one):
        if verb.startswith("GET") or "rotate" in verb:
            continue
        for whose in ("owner", "beside", "manager"):
            answer = await town.try_verb(verb, "manager", town.ids[whose])
            assert answer.status in (403, 404), (verb, whose, answer.status, answer.body)
            if whose == "beside":
                missing = await town.try_verb(verb, "manager", NOTHING)
                assert _told(answer, town.ids[whose]) == _told(missing, NOTHING), verb


@pytest.mark.parametrize("who", ["manager", "member", "below"])
async def test_each_role_may_do_what_the_table_says_and_nothing_else(town: Town, who: str):
    role = "manager" if who == "manager" else "member"
    scope = "call" if who == "below" else "manage"
    for verb, name in VERBS.items():
        row = PERMISSIONS[Permission(name)]
        may = role in row.reach and (scope == "manage" or row.call_scope)
        ids = _ids(town, verb, who) if "{" in verb else {}
        if not may:
            answer = await town.try_verb(verb, who, ids)
            assert answer.status in (403, 404), (verb, answer.status, answer.body)
            if "{" not in verb:
                assert answer.json()["code"] == "forbidden", verb
        elif verb.startswith("GET") and "{" not in verb:
            answer = await town.try_verb(verb, who, ids)
            assert answer.status == 200, (verb, answer.status, answer.body)


async def test_no_key_at_all_and_no_key_of_an_owner_opens_the_operator_s_verbs(town: Town):
    for verb in {*VERBS, *OPERATOR}:
        method, path = verb.split(" ")
        answer = await town.rig.ask(method, path.format(**NOTHING), BODIES.get(verb), key=None)
        assert answer.status == 401, (verb, answer.status, answer.body)
    for verb, who in itertools.product(OPERATOR, town.keys):
        answer = await town.try_verb(verb, who, town.ids["things"])
        assert answer.status in (401, 403, 404), (verb, who, answer.status, answer.body)
    (row,) = await town.rig.sql("select count(*) from owners")
    assert row[0] == 2


async def test_a_key_that_is_nearly_right_is_answered_as_one_that_does_not_exist(town: Town):
    """A key that is known but whose secret is wrong cannot be told from one that is not: the look-up
    goes by a hash of the whole secret, so that there is no such thing as a key half right."""
    right = town.keys["below"]
    answers = set()
    for at in range(6, 45):
        wrong = right[:at] + ("a" if right[at] != "a" else "b") + right[at + 1 :]
        answer = await town.rig.ask("GET", "/api/v1/me", key=wrong)
        answers.add(_told(answer, {}))
    answers.add(_told(await town.rig.ask("GET", "/api/v1/me", key="sk-Xvs" + "a" * 45), {}))
    assert len(answers) == 1
    assert answers.pop()[0] == 401
