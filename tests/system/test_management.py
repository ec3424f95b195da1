"""The management API as a whole: every route needs a key, no field changes what it should not."""

import csv
import io
import json

import pytest

from tests.rig import Rig, start_rig
from xairouter.api.application import management_app

pytestmark = pytest.mark.shared_rig

OPEN = {("POST", "/api/v1/recover")}
ROUTES = [
    (method.upper(), path)
    for path, methods in management_app().openapi()["paths"].items()
    for method in methods
]


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda part: str(part))
async def test_every_route_refuses_who_has_no_key(rig: Rig, method: str, path: str):
    if (method, path) in OPEN:
        return
    concrete = path.replace("{", "").replace("}", "")
    body: dict[str, object] | None = {} if method in ("POST", "PATCH", "PUT") else None
    for key in (None, "sk-Xvs" + "a" * 39 + "23emdh"):
        answer = await rig.ask(method, concrete, body, key=key)
        assert answer.status in (401, 422), answer.body
        if answer.status == 422:
            # A body can be refused before its sender is known, but nothing is done.
            assert answer.json()["code"] in ("unknown_field", "invalid_field")
        else:
            assert answer.json()["code"] == "invalid_api_key"


INTRUDERS = {
    "id": "acc_evil",
    "owner_id": "acc_evil",
    "role": "operator",
    "scope": "manage",
    "status": "deleted",
    "seen_by_operator": False,
    "suspended_by_operator": True,
    "created_at_ms": 1,
    "epoch": 9,
    "sealed": "x",
    "fingerprint": "x",
    "health": "ok",
    "replaced_by": "x",
    "account_id": "x",
    "revision": 7,
    "level": 9,
}


@pytest.mark.both
async def test_no_write_route_takes_a_field_that_is_not_its_own(rig: Rig):
    key = await rig.add_provider_key()
    sub = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()
    account, api_key = sub["account"]["id"], sub["key"]["id"]
    targets = {
        ("POST", "/api/v1/accounts"): {"name": "x"},
        ("PATCH", f"/api/v1/accounts/{account}"): {},
        ("POST", f"/api/v1/accounts/{account}/keys"): {"name": "x"},
        ("PATCH", f"/api/v1/accounts/{account}/keys/{api_key}"): {},
        ("POST", f"/api/v1/accounts/{account}/keys/{api_key}/rotate"): {},
        ("PATCH", f"/api/v1/provider-keys/{key['id']}"): {},
        ("POST", f"/api/v1/provider-keys/{key['id']}/replace"): {"secret": "sk-x"},
        ("PATCH", "/api/v1/settings"): {},
        ("POST", "/api/v1/recover"): {"recovery_code": "x"},
    }
    own = {"scope", "status", "level"}
    before = [
        (await rig.ask("GET", path)).body
        for path in ("/api/v1/accounts", "/api/v1/provider-keys", "/api/v1/settings")
    ]
    for (method, path), body in targets.items():
        for name, value in INTRUDERS.items():
            answer = await rig.ask(method, path, {**body, name: value})
            if name in own and answer.status in (200, 201):
                continue
            assert answer.status == 422, (method, path, name, answer.body)
            assert answer.json()["code"] in ("unknown_field", "invalid_field")
    await rig.ask("PATCH", f"/api/v1/provider-keys/{key['id']}", {"level": 1})
    after = [
        (await rig.ask("GET", path)).body
        for path in ("/api/v1/accounts", "/api/v1/provider-keys", "/api/v1/settings")
    ]
    kept = {row["id"]: row for row in json.loads(after[0])["items"]}
    for row in json.loads(before[0])["items"]:
        assert kept[row["id"]] == row
    assert after[1:] == before[1:]


async def test_a_manager_cannot_raise_itself(rig: Rig):
    made = (await rig.ask("POST", "/api/v1/accounts", {"name": "m", "can_manage": True})).json()
    own, key = made["account"]["id"], made["key"]["id"]
    for method, path, body in (
        ("PATCH", f"/api/v1/accounts/{own}", {"parent": own}),
        ("PATCH", f"/api/v1/accounts/{own}/keys/{key}", {"expires_at": None}),
        ("POST", f"/api/v1/accounts/{own}/keys", {"name": "x", "scope": "manage"}),
        ("POST", f"/api/v1/accounts/{rig.owner_id}/keys", {"name": "x", "scope": "manage"}),
        ("POST", "/api/v1/accounts", {"name": "x", "parent": rig.owner_id}),
    ):
        answer = await rig.ask(method, path, body, key=made["api_key"])
        assert (answer.status, answer.json()["code"]) == (404, "not_found"), (method, path)
    for path in ("/api/v1/provider-keys", "/api/v1/vault", "/api/v1/settings", "/api/v1/prices"):
        assert (await rig.ask("GET", path, key=made["api_key"])).status == 403


async def test_no_answer_holds_a_look_up_id(rig: Rig):
    from xairouter.custody.formats import look_up_id

    await rig.add_provider_key()
    handles = {look_up_id(rig.key), look_up_id(rig.recovery_code)}
    for method, path in ROUTES:
        if method == "GET":
            concrete = path.replace("{account_id}", rig.owner_id)
            body = (await rig.ask("GET", concrete)).body
            for handle in handles:
                assert handle.hex().encode() not in body
                assert handle not in body


@pytest.mark.both
async def test_export_holds_every_record_in_both_forms(rig: Rig):
    await rig.add_provider_key()
    for number in range(4):
        await rig.ask(
            "POST",
            "/v1/chat/completions",
            {"model": f"m{number}", "messages": []},
            x_xairouter_label="=1+1",
        )
    await rig.records(expect=4)
    table = await rig.ask("GET", "/api/v1/usage/export?format=csv")
    rows = list(csv.DictReader(io.StringIO(table.body.decode())))
    assert sorted(row["model_asked"] for row in rows) == ["m0", "m1", "m2", "m3"]
    assert {row["label"] for row in rows} == {"'=1+1"}
    lines = (await rig.ask("GET", "/api/v1/usage/export?format=jsonl&model=m2")).body.splitlines()
    assert [json.loads(line)["model_asked"] for line in lines] == ["m2"]
    assert set(json.loads(lines[0])) == set(rows[0])


async def test_a_body_that_stalls_is_not_waited_for(tmp_path):
    rig = await start_rig(tmp_path, body_idle_seconds=0.3)
    try:
        for path in ("/api/v1/accounts", "/api/v1/provider-keys", "/api/v1/recover"):
            reply = await rig.raw(
                f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {rig.key}\r\n"
                "content-length: 50\r\n\r\n{".encode(),
                wait=3,
            )
            assert reply.startswith(b"HTTP/1.1 4"), reply[:60]
    finally:
        await rig.stop()
