"""Provider keys over the management API, and how models find them."""

from typing import Any

import pytest

from tests.rig import SECRET, Rig, start_rig

pytestmark = pytest.mark.shared_rig


async def test_adding_probes_lists_models_and_shows_no_secret(rig: Rig):
    answer = await rig.ask(
        "POST",
        "/api/v1/provider-keys",
        {"name": "standin", "endpoints": rig.endpoints(), "secret": SECRET},
    )
    assert answer.status == 201
    shown = answer.json()
    assert shown["checkup"]["state"] == "ok"
    assert shown["discovered_models"] == ["demo-large", "demo-small", "demo-embed"]
    assert shown["last4"] == SECRET[-4:]
    assert len(shown["fingerprint"]) == 20
    assert SECRET.encode() not in answer.body
    assert [r.method for r in rig.standin.requests] == ["GET"]


async def test_a_rejected_key_is_refused_and_not_stored(rig: Rig):
    rig.standin.rejected.add(SECRET)
    answer = await rig.ask(
        "POST",
        "/api/v1/provider-keys",
        {"name": "standin", "endpoints": rig.endpoints(), "secret": SECRET},
    )
    assert (answer.status, answer.json()["code"]) == (422, "provider_key_rejected")
    assert SECRET.encode() not in answer.body
    assert (await rig.ask("GET", "/api/v1/provider-keys")).json()["items"] == []


async def test_an_unreachable_provider_is_stored_as_unreached(rig: Rig):
    answer = await rig.ask(
        "POST",
        "/api/v1/provider-keys",
        {"name": "x", "endpoints": {"openai_chat": "http://127.0.0.1:9/v1"}, "secret": SECRET},
    )
    assert answer.status == 201
    assert answer.json()["checkup"]["state"] == "unreached"


@pytest.mark.both
async def test_replace_disable_enable_and_delete(rig: Rig):
    key = await rig.add_provider_key()
    path = f"/api/v1/provider-keys/{key['id']}"
    replaced = await rig.ask("POST", path + "/replace", {"secret": "sk-new-0123456789abcdefgh"})
    assert replaced.status == 200
    assert replaced.json()["fingerprint"] != key["fingerprint"]
    assert (await rig.chat()).status == 200
    assert rig.standin.requests[-1].secret == "sk-new-0123456789abcdefgh"
    await rig.ask("PATCH", path, {"status": "disabled"})
    disabled = await rig.chat()
    assert (disabled.status, disabled.code) == (503, "no_provider_key")
    await rig.ask("PATCH", path, {"status": "active", "level": 3, "weight": 7, "models": ["m"]})
    shown = (await rig.ask("GET", path)).json()
    assert (shown["level"], shown["weight"], shown["models"]) == (3, 7, ["m"])
    gone = await rig.ask("DELETE", path)
    assert gone.json()["deleted"] is True
    assert "Backups" in gone.json()["receipt"]
    assert (await rig.ask("GET", path)).status == 404
    assert (await rig.chat("m")).code == "no_provider_key"


async def test_test_reports_a_key_that_is_no_longer_accepted(rig: Rig):
    key = await rig.add_provider_key()
    rig.standin.rejected.add(SECRET)
    answer = await rig.ask("POST", f"/api/v1/provider-keys/{key['id']}/test")
    assert answer.json()["checkup"]["state"] == "rejected"
    assert answer.json()["health"]["state"] == "rejected"


async def test_new_endpoints_demand_the_secret_again(rig: Rig):
    key = await rig.add_provider_key()
    path = f"/api/v1/provider-keys/{key['id']}"
    where = {"openai_chat": rig.standin_url + "/v1"}
    refused = await rig.ask("PATCH", path, {"endpoints": where})
    assert (refused.status, refused.json()["code"]) == (422, "secret_required")
    moved = await rig.ask("PATCH", path, {"endpoints": where, "secret": SECRET})
    assert moved.json()["endpoints"] == where
    assert (await rig.chat()).status == 200


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"base_url": "x"}, "unknown_field"),
    "unknown provider": ({"provider": "nobody", "endpoints": None}, "invalid_field"),
    "unknown dialect": ({"endpoints": {"smtp": "https://x.example"}}, "invalid_field"),
    "no endpoints": ({"endpoints": None}, "invalid_field"),
    "no secret": ({"secret": None}, "secret_required"),
    "secret with a newline": ({"secret": "sk-x\r\nhost: evil"}, "invalid_field"),
    "secret with a space": ({"secret": "sk x"}, "invalid_field"),
    "secret is a number": ({"secret": 5}, "invalid_field"),
    "level zero": ({"level": 0}, "invalid_field"),
    "weight is a word": ({"weight": "heavy"}, "invalid_field"),
    "empty model name": ({"models": [""]}, "invalid_field"),
    "too many patterns": ({"models": [f"m{n}-*" for n in range(51)]}, "invalid_field"),
    "too many models": ({"models": [f"m{n}" for n in range(2001)]}, "invalid_field"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_bodies_are_refused_without_their_input(rig: Rig, name: str):
    fields, code = BAD[name]
    body: dict[str, Any] = {"name": "x", "endpoints": rig.endpoints(), "secret": SECRET, **fields}
    body = {key: value for key, value in body.items() if value is not None}
    answer = await rig.ask("POST", "/api/v1/provider-keys?verify=false", body)
    assert (answer.status, answer.json()["code"]) == (422, code), answer.body
    for leaked in (SECRET, "sk-x", "sk x", "evil"):
        assert leaked.encode() not in answer.body


@pytest.mark.parametrize("body", [b"", b"[]", b'{"secret":"sk-' + b"a" * 40, b'"sk-secret"'])
async def test_a_body_that_is_not_json_is_never_quoted(rig: Rig, body: bytes):
    answer = await rig.ask("POST", "/api/v1/provider-keys", body)
    assert answer.status == 422
    assert b"sk-" not in answer.body


ADDRESSES = [
    "http://169.254.169.254/v1",
    "https://169.254.169.254/v1",
    "http://[fe80::1]/v1",
    "https://[::ffff:169.254.169.254]/v1",
    "https://[64:ff9b::a9fe:a9fe]/v1",
    "https://0.0.0.0/v1",
    "https://224.0.0.1/v1",
    "https://[ff02::1]/v1",
    "ftp://x.example/v1",
    "https://user:pass@x.example/v1",
    "https://x.example/v1?x=y",
    "https://x.example/#f",
    "https:///v1",
    "//x.example",
    "https://x.example/../v1",
    "https://2852039166/v1",
    "https://0xa9fea9fe/v1",
    "https://100.100.100.200/v1",
    "https://[fd00:ec2::254]/v1",
]
PRIVATE = [
    "https://127.0.0.1/v1",
    "https://10.1.2.3/v1",
    "https://192.168.1.1/v1",
    "https://172.16.0.1/v1",
    "https://100.64.0.1/v1",
    "https://[::1]/v1",
    "https://[fd12::1]/v1",
    "https://localhost/v1",
    "https://[::ffff:10.0.0.1]/v1",
    "https://2130706433/v1",
    "http://x.example/v1",
]


@pytest.mark.parametrize("url", ADDRESSES)
async def test_special_addresses_are_refused_even_where_private_ones_are_allowed(rig: Rig, url):
    answer = await rig.ask(
        "POST",
        "/api/v1/provider-keys?verify=false",
        {"name": "x", "endpoints": {"openai_chat": url}, "secret": SECRET},
    )
    assert (answer.status, answer.json()["code"]) == (422, "address_not_allowed")


async def test_our_own_listener_is_refused(rig: Rig):
    answer = await rig.ask(
        "POST",
        "/api/v1/provider-keys?verify=false",
        {
            "name": "x",
            "endpoints": {"openai_chat": f"http://127.0.0.1:{rig.port}/v1"},
            "secret": SECRET,
        },
    )
    assert answer.json()["code"] == "address_not_allowed"


async def test_private_addresses_are_refused_by_default(tmp_path):
    rig = await start_rig(tmp_path, allow_private_providers=False)
    try:
        for url in PRIVATE + ADDRESSES:
            answer = await rig.ask(
                "POST",
                "/api/v1/provider-keys?verify=false",
                {"name": "x", "endpoints": {"openai_chat": url}, "secret": SECRET},
            )
            assert (answer.status, answer.json()["code"]) == (422, "address_not_allowed"), url
    finally:
        await rig.stop()


async def test_a_name_that_resolves_to_a_refused_address_is_refused_when_connecting(
    tmp_path, monkeypatch
):
    import socket

    from xairouter.upstream import names

    def rebound(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    rig = await start_rig(tmp_path, allow_private_providers=False)
    try:
        await rig.add_provider_key(endpoints={"openai_chat": "https://innocent.example/v1"})
        monkeypatch.setattr(names.socket, "getaddrinfo", rebound)  # type: ignore[attr-defined]
        answer = await rig.chat()
        assert (answer.status, answer.code) == (502, "upstream_unreachable")
        assert "not allowed" in answer.json()["error"]["message"]
        assert rig.standin.connections == 0
    finally:
        await rig.stop()


async def test_models_find_the_key_that_serves_them(rig: Rig):
    await rig.add_provider_key(
        name="one", secret="sk-one-0123456789abcdefgh", models=["a-1", "b-*"]
    )
    await rig.add_provider_key(name="two", secret="sk-two-0123456789abcdefgh", models=["c/d"])
    for model, secret in (("a-1", "one"), ("b-anything", "one"), ("c/d", "two")):
        assert (await rig.chat(model)).status == 200, model
        assert rig.standin.requests[-1].secret == f"sk-{secret}-0123456789abcdefgh"
        assert rig.standin.requests[-1].json()["model"] == model
    refused = await rig.chat("e")
    assert (refused.status, refused.code) == (404, "model_not_found")


async def test_provider_slash_model_is_understood_and_stripped(rig: Rig):
    await rig.add_provider_key(name="mine", models=["demo"])
    body = b'{ "messages" : [{"role":"user","content":"\\"model\\": \\"x\\""}], "model" : "mine/demo" }'
    answer = await rig.ask("POST", "/v1/chat/completions", body)
    assert answer.status == 200
    received = rig.standin.requests[-1]
    assert received.body == body.replace(b'"mine/demo"', b'"demo"')
    record = await rig.record()
    assert (record["model_asked"], record["model_used"]) == ("mine/demo", "demo")


async def test_a_body_without_splices_passes_byte_for_byte(rig: Rig):
    await rig.add_provider_key()
    body = (
        '{\n "model":"m" ,"messages":[{"role":"user","content":"\\u00e9 \u00e9 \\ud83d\\ude00"}],'
        '"temperature":1e0,"big":12345678901234567890,"x":{"model":"inner"}}'
    ).encode()
    await rig.ask("POST", "/v1/chat/completions", body)
    assert rig.standin.requests[-1].body == body


async def test_a_model_served_only_in_another_dialect_says_so(rig: Rig):
    await rig.add_provider_key(endpoints=rig.endpoints("anthropic_messages"), models=["claude-x"])
    answer = await rig.chat("claude-x")
    assert (answer.status, answer.code) == (404, "model_not_found")
    assert "anthropic_messages" in answer.json()["error"]["message"]


async def test_nothing_falls_back_to_another_owner_s_key(rig: Rig):
    await rig.add_provider_key()
    other = await rig.new_owner("other")
    answer = await rig.chat(key=other.api_key)
    assert (answer.status, answer.code) == (503, "no_provider_key")
    assert rig.standin.requests == []


async def test_the_models_endpoint_has_three_shapes(rig: Rig):
    await rig.add_provider_key(models=["a", "b-*"])
    openai = (await rig.ask("GET", "/v1/models")).json()
    assert [m["id"] for m in openai["data"]] == ["a"]
    anthropic = (await rig.ask("GET", "/v1/models?limit=1000", anthropic_version="x")).json()
    assert (anthropic["data"][0]["type"], anthropic["has_more"]) == ("model", False)
    for path, headers in (("/v1/models", {"x_goog_api_client": "x"}), ("/v1beta/models", {})):
        gemini = (await rig.ask("GET", path, **headers)).json()
        assert gemini["models"][0]["name"] == "models/a"
    missing = await rig.ask("GET", "/v1/models/none/such")
    assert (missing.status, missing.code) == (404, "model_not_found")


async def test_objects_belong_to_the_subtree_that_made_them(rig: Rig):
    await rig.add_provider_key(name="one", secret="sk-one-0123456789abcdefgh")
    await rig.add_provider_key(name="two", secret="sk-two-0123456789abcdefgh")
    made = {}
    for name in ("red", "blue"):
        sub = (await rig.ask("POST", "/api/v1/accounts", {"name": name})).json()
        reply = await rig.ask(
            "POST", "/v1/responses", {"model": "m", "input": "x"}, key=sub["api_key"]
        )
        made[name] = (sub["api_key"], reply.json()["id"], rig.standin.requests[-1].secret)
    red, blue = made["red"], made["blue"]
    for _ in range(6):
        body = {"model": "m", "input": "y", "previous_response_id": red[1]}
        follow = await rig.ask("POST", "/v1/responses", body, key=red[0])
        assert follow.status == 200
        assert rig.standin.requests[-1].secret == red[2]
    count = len(rig.standin.requests)
    asked: tuple[tuple[str, str, Any], ...] = (
        ("GET", f"/v1/responses/{red[1]}", None),
        ("DELETE", f"/v1/responses/{red[1]}", None),
        ("POST", f"/v1/responses/{red[1]}/cancel", b"{}"),
        ("POST", "/v1/responses", {"model": "m", "input": "y", "previous_response_id": red[1]}),
        ("GET", "/v1/responses/resp_unknown", None),
        (
            "POST",
            "/v1/responses",
            {"model": "m", "input": [{"type": "input_file", "file_id": "file-x"}]},
        ),
        (
            "POST",
            "/v1/responses",
            b'{"model":"m","input":[{"type":"input_file","f\\u0069le_id":"file-x"}]}',
        ),
    )
    for method, path, body in asked:
        answer = await rig.ask(method, path, body, key=blue[0])
        assert (answer.status, answer.code) == (404, "object_not_found"), (method, path)
    assert len(rig.standin.requests) == count
    # The owner's own account reaches what lies below it, and what nobody registered.
    assert (await rig.ask("GET", f"/v1/responses/{blue[1]}")).status == 200
    unknown = await rig.ask("GET", "/v1/responses/resp_unknown")
    assert (unknown.status, unknown.headers["x-xairouter-origin"]) == (404, "provider")


@pytest.mark.both
async def test_bindings_survive_a_restart(rig: Rig):
    await rig.add_provider_key(name="one", secret="sk-one-0123456789abcdefgh")
    await rig.add_provider_key(name="two", secret="sk-two-0123456789abcdefgh")
    reply = await rig.ask("POST", "/v1/responses", {"model": "m", "input": "x", "stream": True})
    response_id = reply.body.split(b'"id":"resp_')[1].split(b'"')[0].decode()
    maker = rig.standin.requests[-1].secret
    await rig.records(expect=1)
    rig.house.directory._bindings.clear()
    for _ in range(4):
        await rig.ask("GET", f"/v1/responses/resp_{response_id}")
        assert rig.standin.requests[-1].secret == maker


async def test_own_prices_make_a_cost_and_name_their_source(rig: Rig):
    await rig.add_provider_key()
    prices = {"demo-*": {"input": 2.5, "cached_input": 0.5, "output": 10}}
    assert (await rig.ask("PUT", "/api/v1/prices", prices)).status == 200
    await rig.chat("demo-large")
    record = await rig.record()
    plain = record["input_tokens"] - record["cached_input_tokens"]
    expected = plain * 2.5 + record["cached_input_tokens"] * 0.5 + record["output_tokens"] * 10
    assert record["cost_usd"] == pytest.approx(expected / 1e6, abs=1e-9)
    assert record["price_version"] == "owner"
    assert record["price_used"] == {"input": 2.5, "cached_input": 0.5, "output": 10}


async def test_listed_providers_get_the_list_s_price(rig: Rig):
    await rig.add_provider_key(provider="openai", endpoints=rig.endpoints("openai_chat"))
    await rig.chat("gpt-4o")
    record = await rig.record()
    assert record["price_version"].startswith("genai-prices ")
    assert record["cost_usd"] > 0
    totals = (await rig.ask("GET", "/api/v1/usage?group_by=model")).json()["items"]
    assert totals[0]["model"] == "gpt-4o"
    assert totals[0]["cost_usd"] == record["cost_usd"]
    assert totals[0]["calls"] == 1


@pytest.mark.own_rig
async def test_a_deleted_key_s_sealed_bytes_are_gone_from_the_live_files(rig: Rig):
    import sqlite3

    key = await rig.add_provider_key()
    folder = rig.house.settings.data_dir
    db = sqlite3.connect(folder / "xairouter.db")
    sealed = db.execute("select sealed from provider_keys").fetchone()[0]
    db.close()
    assert any(sealed in path.read_bytes() for path in folder.glob("xairouter.db*"))
    assert (await rig.ask("DELETE", f"/api/v1/provider-keys/{key['id']}")).status == 200
    assert not any(sealed in path.read_bytes() for path in folder.glob("xairouter.db*"))


async def test_compaction_and_cancelling_go_where_they_belong(rig: Rig):
    await rig.add_provider_key()
    compacted = await rig.ask("POST", "/v1/responses/compact", {"model": "m", "input": "x"})
    assert compacted.json()["object"] == "response.compaction"
    made = (await rig.ask("POST", "/v1/responses", {"model": "m", "input": "x"})).json()
    cancelled = await rig.ask("POST", f"/v1/responses/{made['id']}/cancel")
    assert cancelled.json()["status"] == "cancelled"
    records = {record["path"]: record for record in await rig.records(expect=3)}
    assert records["/v1/responses/compact"]["output_tokens"] is not None
    assert records[f"/v1/responses/{made['id']}/cancel"]["output_tokens"] is None


@pytest.mark.both
async def test_objects_follow_their_account_when_it_moves_and_fall_to_the_owner_when_it_goes(
    rig: Rig,
):
    await rig.add_provider_key()
    parent, maker = [
        (await rig.ask("POST", "/api/v1/accounts", {"name": name})).json()
        for name in ("parent", "maker")
    ]
    made = await rig.ask(
        "POST", "/v1/responses", {"model": "m", "input": "x"}, key=maker["api_key"]
    )
    path = f"/v1/responses/{made.json()['id']}"
    assert (await rig.ask("GET", path, key=parent["api_key"])).code == "object_not_found"
    account = f"/api/v1/accounts/{maker['account']['id']}"
    await rig.ask("PATCH", account, {"parent": parent["account"]["id"]})
    assert (await rig.ask("GET", path, key=parent["api_key"])).status == 200
    assert (await rig.ask("GET", path, key=maker["api_key"])).status == 200
    assert (await rig.ask("DELETE", account)).status == 204
    assert (await rig.ask("GET", path)).status == 200
