"""Custody on a running installation: canaries, the stolen database, forgeries, isolation."""

import asyncio
import base64
import gc
import json
import logging
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.rig import Rig, start_rig
from tests.servers import files_of
from tests.waiting import until

pytestmark = pytest.mark.both

CANARY = "sk-canary-Q7w8E9r0T1y2U3i4O5p6A7s8"


def disguises(secret: str) -> set[bytes]:
    """A secret, its encodings, and the 12-character fragments of its random part."""
    raw = secret.encode()
    random_part = secret.split("-")[-1]
    return {
        raw,
        raw.hex().encode(),
        base64.b64encode(raw).rstrip(b"="),
        quote(secret, safe="").encode(),
        json.dumps(secret)[1:-1].encode(),
        *(random_part[at : at + 12].encode() for at in range(len(random_part) - 11)),
    }


async def _exercise(rig: Rig) -> list[bytes]:
    """Drive the canary key through every route and every way to end; all that was answered."""
    answers = []

    async def ask(*args, **kwargs):
        try:
            answer = await rig.ask(*args, **kwargs)
        except Exception as error:
            answers.append(repr(error).encode() + repr(error.__context__).encode())
            return None
        answers.append(answer.body + repr(answer.headers).encode())
        # A key that is put to sleep would go nowhere for the rest of this exercise.
        for ailing in list(rig.house.health.ailing):
            rig.house.health.forget(ailing)
        return answer

    key = await rig.add_provider_key(secret=CANARY, verify=True)
    path = f"/api/v1/provider-keys/{key['id']}"
    user = [{"role": "user", "content": "x"}]
    for model in (
        "demo",
        "fault-401",
        "fault-quote",
        "fault-quote-header",
        "fault-quote-gzip",
        "fault-500",
        "fault-reset-before",
        "fault-reset-after",
        "fault-garbage",
        "fault-redirect",
        "fault-not-http",
        "fault-brotli-error",
    ):
        for stream in (False, True):
            body = {"model": model, "messages": user, "stream": stream, "max_tokens": 9}
            await ask("POST", "/v1/chat/completions", body)
            await ask("POST", "/v1/messages", body)
        await ask("POST", f"/v1beta/models/{model}:generateContent", {"contents": []})
        await ask("POST", "/v1/responses", {"model": model, "input": "x"})
        await ask("POST", "/v1/embeddings", {"model": model, "input": "x"})
    timeout = asyncio.create_task(
        ask("POST", "/v1/chat/completions", {"model": "fault-timeout", "messages": user})
    )
    await asyncio.sleep(0.1)
    timeout.cancel()
    rig.standin.rejected.add(CANARY)
    await ask("POST", path + "/test")
    await ask(
        "POST",
        "/api/v1/provider-keys",
        {"name": "again", "endpoints": rig.endpoints(), "secret": CANARY},
    )
    await ask(
        "POST",
        "/api/v1/provider-keys",
        json.dumps({"name": "x", "secret": CANARY + " ", "endpoints": {}}).encode(),
    )
    await ask("POST", path + "/replace", {"secret": CANARY, "extra": 1})
    rig.standin.rejected.clear()
    await ask("POST", path + "/replace", {"secret": CANARY})
    await ask("PATCH", path, {"endpoints": rig.endpoints(), "secret": CANARY})
    await ask("POST", "/api/v1/vault/rekey")
    for shown in (
        "/api/v1/provider-keys",
        path,
        "/api/v1/vault",
        "/api/v1/operations",
        "/api/v1/usage/records",
        "/api/v1/usage",
        "/api/v1/me",
        "/v1/models",
        "/metrics",
        "/readyz",
        "/api/v1/openapi.json",
    ):
        await ask("GET", shown)
    await rig.house.drain.drain()
    return answers


async def test_a_provider_key_is_found_nowhere(tmp_path: Path, storage: str, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    rig = await start_rig(tmp_path, database_url=storage)
    # The stand-in lives in this process and keeps what it received: that is its job, not a leak.
    try:
        answers = await _exercise(rig)
        assert len(rig.standin.requests) > 40
        assert all(r.secret == CANARY for r in rig.standin.requests if r.path != "/")
        captured = capfd.readouterr()
        places = {
            "log": caplog.text.encode(),
            "stderr": captured.err.encode(),
            "stdout": captured.out.encode(),
            **await rig.files(),
        }
        places |= {f"answer {n}": answer for n, answer in enumerate(answers)}
        rig.standin.requests.clear()
        gc.collect()
        for thing in gc.get_objects():
            module = str(getattr(type(thing), "__module__", ""))
            if module.startswith(("xairouter.custody", "xairouter.upstream")):
                try:
                    places[f"repr {id(thing)}"] = repr(thing).encode()
                except TypeError:
                    continue
        assert any(b"openai_chat" in data for data in places.values()), "the rows are looked at"
        needles = disguises(CANARY)
        hits = [
            (place, needle)
            for place, data in places.items()
            for needle in needles
            if needle in data
        ]
        assert hits == []
    finally:
        await rig.stop()
    left = files_of(tmp_path)
    assert not [n for n, data in left.items() if any(needle in data for needle in needles)]


async def test_our_own_secrets_are_found_nowhere_on_disk_or_in_logs(
    tmp_path: Path, storage: str, capfd, caplog
):
    caplog.set_level(logging.DEBUG)
    rig = await start_rig(
        tmp_path, automation_secret="automation-" + "z9" * 16, database_url=storage
    )
    try:
        await rig.add_provider_key()
        team = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()
        await rig.chat(key=team["api_key"])
        await rig.ask(
            "POST", f"/v1beta/models/m:generateContent?key={rig.key}", {"contents": []}, key=None
        )
        await rig.ask("GET", f"/v1/nothing?key={rig.key}", key=None)
        grant = await rig.ask("POST", "/api/v1/vault/grants")
        assert grant.status == 201
        code = (await rig.ask("POST", "/api/v1/vault/recovery-code")).json()["recovery_code"]
        from xairouter.custody.vault import keys_of
        from xairouter.directory.identity import Identifier, Identity

        identifier = Identifier(rig.house.directory, rig.house.room)
        identity = await identifier.resolve({b"x-api-key": rig.key.encode()}, b"")
        assert isinstance(identity, Identity)
        vault_key, root = keys_of(identity.vault)
        await rig.house.drain.drain()
        captured = capfd.readouterr()
        places = {
            "log": caplog.text.encode(),
            "err": captured.err.encode(),
            "out": captured.out.encode(),
            **await rig.files(),
        }
        secrets = [rig.key, team["api_key"], rig.recovery_code, code, "automation-" + "z9" * 16]
        needles = {
            n for s in secrets for n in (s.encode(), s.encode().hex().encode(), s[6:].encode())
        }
        needles |= {vault_key, root, vault_key.hex().encode(), root.hex().encode()}
        hits = [place for place, data in places.items() for n in needles if n in data]
        assert hits == []
    finally:
        await rig.stop()


THIEF = """
import sqlite3, sys, json
from xairouter.custody import slots, vault, formats
from xairouter.custody.vault import OpenVault
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.slots import Slot
from xairouter.errors import CustodyError

db = sqlite3.connect(sys.argv[1]); db.row_factory = sqlite3.Row
given = sys.argv[2:]
found_slots = [Slot(**dict(row)) for row in db.execute("select * from slots")]
rows = []
for row in db.execute("select * from provider_keys"):
    row = dict(row)
    for name in ("endpoints", "auth", "models", "discovered"):
        row[name] = json.loads(row[name]) if row[name] else None
    rows.append(ProviderKey(**row))
# Everything in the database and in the arguments is tried as a secret for every slot.
material = set(given)
for table in ("slots", "owners", "accounts", "api_keys", "provider_keys", "chain_heads"):
    for row in db.execute("select * from " + table):
        for value in row:
            if isinstance(value, str): material.add(value)
            if isinstance(value, bytes): material.add(value.hex()); material.add(value)
opened, keys = set(), {}
vaults = []
for slot in found_slots:
    for secret in material:
        raw = secret if isinstance(secret, bytes) else secret.encode()
        try: vaults.append(slots.open_slot(slot, raw))
        except CustodyError: pass
for guess in [m for m in material if isinstance(m, bytes) and len(m) == 32]:
    for row in rows: vaults.append(OpenVault(row.owner_id, 1, guess, guess))
for v in vaults:
    for row in rows:
        try: keys[row.id] = vault.unseal(v, row).decode(); opened.add(v.owner_id)
        except CustodyError: pass
print(json.dumps({"owners": sorted(opened), "keys": sorted(keys.values())}))
"""


def _steal(copy: Path, *given: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", THIEF, str(copy), *given], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


async def test_a_stolen_database_opens_nothing_and_one_secret_exactly_its_owner(
    tmp_path: Path, storage: str
):
    automation = "operator-" + "q7" * 16
    rig = await start_rig(tmp_path / "data", automation_secret=automation, database_url=storage)
    other = await rig.new_owner("other")
    await rig.add_provider_key(secret="sk-acme-0123456789abcdefgh")
    await rig.add_provider_key(secret="sk-othr-0123456789abcdefgh", key=other.api_key)
    sub = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()["api_key"]
    await rig.chat()
    copy = tmp_path / "stolen.db"
    await rig.copy_database(copy)
    try:
        nothing = await asyncio.to_thread(_steal, copy, automation)
        assert nothing == {"owners": [], "keys": []}
        # Positive controls: the thief's script does open what it has a secret for.
        for secret in (rig.key, sub, rig.recovery_code):
            found = await asyncio.to_thread(_steal, copy, secret)
            assert found == {"owners": [rig.owner_id], "keys": ["sk-acme-0123456789abcdefgh"]}
        found = await asyncio.to_thread(_steal, copy, other.api_key)
        assert found["keys"] == ["sk-othr-0123456789abcdefgh"]
        assert (await rig.ask("POST", "/api/v1/vault/grants")).status == 201
        granted = tmp_path / "granted.db"
        await rig.copy_database(granted)
        found = await asyncio.to_thread(_steal, granted, automation)
        assert found == {"owners": [rig.owner_id], "keys": ["sk-acme-0123456789abcdefgh"]}
        assert await asyncio.to_thread(_steal, granted) == {"owners": [], "keys": []}
    finally:
        await rig.stop()


async def _write(rig: Rig, *statements: tuple[str, tuple]) -> None:
    """Write as an attacker with the database in hand."""
    await rig.sql(
        *statements,
        "update owners set revision = revision + 1",
        "insert into changes (owner_id, kind, target_id) select id, 'forged', '' from owners",
    )


async def _seen(rig: Rig) -> None:
    """Wait until the router has read the attacker's changes."""
    ((newest,),) = await rig.sql("select max(seq) from changes")
    directory = rig.house.directory
    await until(lambda: directory._known_to >= newest and not directory._unreviewed)


async def test_who_writes_the_database_authenticates_nobody(rig: Rig):
    from xairouter.custody import formats, slots, vault

    evil_key = formats.new_api_key()
    evil_vault = vault.new_vault(rig.owner_id)
    place = slots.Place("slot_evil", "api_key", rig.owner_id, "key_evil")
    planted = slots.issue(evil_vault, place, evil_key.encode(), formats.look_up_id(evil_key))
    columns = list(planted.__dataclass_fields__)
    await _write(
        rig,
        (
            "insert into api_keys (id, owner_id, account_id, name, scope, status, created_at_ms)"
            " values ('key_evil', ?, ?, 'evil', 'manage', 'active', 1)",
            (rig.owner_id, rig.owner_id),
        ),
        (
            f"insert into slots ({','.join(columns)}) values ({','.join('?' * len(columns))})",
            tuple(getattr(planted, name) for name in columns),
        ),
    )
    await _seen(rig)
    await rig.add_provider_key(secret="sk-mine-0123456789abcdefgh")
    count = len(rig.standin.requests)
    for answer in (await rig.chat(key=evil_key), await rig.ask("GET", "/api/v1/me", key=evil_key)):
        assert answer.status == 401
    assert len(rig.standin.requests) == count
    shown = (await rig.ask("GET", "/api/v1/vault")).json()["slots"]
    assert [s["genuine"] for s in shown if s["id"] == "slot_evil"] == [False]
    done = (await rig.ask("POST", "/api/v1/vault/rekey")).json()
    assert done["left_out"] == ["slot_evil"]
    assert (await rig.chat(key=evil_key)).status == 401
    assert (await rig.chat()).status == 200


async def test_rows_moved_between_owners_authenticate_and_open_nothing(rig: Rig):
    other = await rig.new_owner("other")
    mine = await rig.add_provider_key(secret="sk-mine-0123456789abcdefgh")
    theirs = await rig.add_provider_key(secret="sk-thrs-0123456789abcdefgh", key=other.api_key)
    await _write(
        rig, ("update provider_keys set owner_id = ? where id = ?", (other.account.id, mine["id"]))
    )
    await _seen(rig)
    for _ in range(6):
        await rig.chat(key=other.api_key)
    assert "sk-mine-0123456789abcdefgh" not in {r.secret for r in rig.standin.requests}
    await _write(
        rig,
        (
            "update provider_keys set endpoints = ? where id = ?",
            (json.dumps({"openai_chat": rig.standin_url + "/evil/v1"}), theirs["id"]),
        ),
        ("delete from provider_keys where id = ?", (mine["id"],)),
    )
    await _seen(rig)
    count = len(rig.standin.requests)
    answer = await rig.chat(key=other.api_key)
    assert (answer.status, answer.code) == (502, "provider_key_rejected")
    assert len(rig.standin.requests) == count
    assert (await rig.records(key=other.api_key))[0]["attempts"] == 0
    slot_columns = "account_id = ?, owner_id = ?"
    await _write(
        rig,
        (
            f"update slots set {slot_columns} where owner_id = ? and purpose = 'api_key'",
            (rig.owner_id, rig.owner_id, other.account.id),
        ),
        (
            "update api_keys set account_id = ?, owner_id = ? where owner_id = ?",
            (rig.owner_id, rig.owner_id, other.account.id),
        ),
    )
    await _seen(rig)
    assert (await rig.ask("GET", "/api/v1/me", key=other.api_key)).status == 401


async def test_a_key_moved_to_another_account_by_hand_is_nobody(rig: Rig):
    sub = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()
    await _write(
        rig,
        ("update api_keys set account_id = ? where id = ?", (rig.owner_id, sub["key"]["id"])),
        ("update slots set account_id = ? where key_id = ?", (rig.owner_id, sub["key"]["id"])),
    )
    await _seen(rig)
    assert (await rig.ask("GET", "/api/v1/me", key=sub["api_key"])).status == 401


async def test_a_database_rolled_back_behind_a_rekey_is_refused(tmp_path: Path):
    import shutil

    rig = await start_rig(tmp_path / "data")
    await rig.add_provider_key()
    key = rig.key
    await rig.house.drain.drain()
    copy = tmp_path / "old.db"
    source, target = sqlite3.connect(tmp_path / "data" / "xairouter.db"), sqlite3.connect(copy)
    source.backup(target)
    target.close()
    source.close()
    assert (await rig.ask("POST", "/api/v1/vault/rekey")).status == 200
    assert (await rig.chat()).status == 200
    await rig.stop()
    for name in ("xairouter.db-wal", "xairouter.db-shm"):
        (tmp_path / "data" / name).unlink(missing_ok=True)
    shutil.copy(copy, tmp_path / "data" / "xairouter.db")
    from xairouter.app import House
    from xairouter.directory.identity import Identifier
    from xairouter.domain.calls import Refusal
    from xairouter.settings import Settings

    house = House(Settings(data_dir=tmp_path / "data", port=0))
    await house.start()
    try:
        identifier = Identifier(house.directory, house.room)
        found = await identifier.resolve({b"x-api-key": key.encode()}, b"")
        assert isinstance(found, Refusal)
        assert found.code == "invalid_api_key"
    finally:
        await house.stop()


@pytest.mark.parametrize("seed", range(3))
async def test_no_owner_is_ever_served_by_another_owner_s_key(rig: Rig, seed: int):
    """Random trees, keys, failures and concurrency; every credential that arrives is checked."""
    dice = random.Random(seed)
    owners: dict[str, set[str]] = {}
    callers: list[tuple[str, str]] = []
    for number in range(4):
        made = await rig.new_owner(f"owner-{number}")
        secrets = {f"sk-{number}x{n}-" + "".join(dice.choices("abcdefgh", k=16)) for n in range(3)}
        owners[made.account.id] = secrets
        callers.append((made.api_key, made.account.id))
        for secret in sorted(secrets):
            await rig.add_provider_key(
                name=secret[:6],
                secret=secret,
                key=made.api_key,
                level=dice.choice([1, 1, 2]),
                models=dice.choice([["*"], ["m-1", "m-2"], ["m-*"]]),
            )
            fault = dice.choice([None, None, "fault-401", "fault-429", "fault-reset-before"])
            if fault:
                rig.standin.failing[secret] = fault
        for _ in range(2):
            sub = await rig.ask("POST", "/api/v1/accounts", {"name": "s"}, key=made.api_key)
            callers.append((sub.json()["api_key"], made.account.id))
    asked = [
        (dice.choice(callers), dice.choice(["m-1", "m-2", "other"]), dice.random() < 0.5)
        for _ in range(120)
    ]
    rig.standin.requests.clear()

    async def call(caller: tuple[str, str], model: str, stream: bool) -> None:
        body = {
            "model": model,
            "stream": stream,
            "user": caller[1],
            "messages": [{"role": "user", "content": caller[1]}],
        }
        await rig.ask("POST", "/v1/chat/completions", body, key=caller[0])

    await asyncio.gather(*(call(*one) for one in asked))
    # Rejected keys are asked about once more in between, without a call.
    calls = [received for received in rig.standin.requests if received.method == "POST"]
    for received in calls:
        assert received.secret in owners[received.json()["user"]]
    total = 0
    for owner in owners:
        owner_key = next(key for key, belongs_to in callers if belongs_to == owner)
        total += sum(record["attempts"] for record in await rig.records(key=owner_key))
    assert total == len(calls)
