"""Wrong input of every kind: a clear answer in the client's dialect, nothing forwarded, no hang."""

import asyncio
import gzip
import json
import zlib

import pytest

from tests.rig import Rig
from tests.waiting import until
from tests.wire import wire_to

pytestmark = pytest.mark.shared_rig

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def _head(rig: Rig, *lines: str, path: str = "/v1/chat/completions") -> bytes:
    head = [f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {rig.key}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


@pytest.fixture
async def ready(rig: Rig) -> Rig:
    await rig.add_provider_key()
    return rig


BODIES = {
    "nothing": b"",
    "not json": b"hello",
    "an array": b"[1]",
    "a string": b'"x"',
    "two objects": b'{"model":"m"}{"model":"n"}',
    "cut off": b'{"model":"m","messages":[',
    "NaN": b'{"model":"m","temperature":NaN}',
    "Infinity": b'{"model":"m","temperature":Infinity}',
    "bad utf-8": b'{"model":"m","x":"\xff\xfe"}',
    "bad utf-8 in the model": b'{"model":"\xff"}',
    "utf-16": '{"model":"m"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"model":"m"}',
    "501 deep": b'{"model":"m","x":' + b"[" * 500 + b"]" * 500 + b"}",
    "1,000 deep": b'{"model":"m","x":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "100,000 deep, open": b'{"model":"m","x":' + b"[" * 100_000,
    "control character": b'{"model":"m","x":"\x01"}',
    "lone surrogate as model": b'{"model":"\\ud800"}',
    "model twice": b'{"model":"a","model":"b"}',
    "model twice, the same": b'{"model":"a","model":"a"}',
    "model twice, escaped": b'{"model":"a","mod\\u0065l":"b"}',
    "model in another case": b'{"model":"a","Model":"b"}',
    "model with a long s is no m, Kelvin sign in tokens": '{"model":"a","max_to\u212aens":1}'.encode(),
    "stream twice": b'{"model":"a","stream":true,"stream":false}',
    "model is a number": b'{"model":5}',
    "model is an object": b'{"model":{"id":"m"}}',
    "stream is a word": b'{"model":"m","stream":"yes"}',
    "max_tokens is a word": b'{"model":"m","max_tokens":"9"}',
    "max_tokens is negative": b'{"model":"m","max_tokens":-1}',
    "stream_options is a list": b'{"model":"m","stream_options":[]}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_refuses_a_body_that_is_not_one_clear_object(ready: Rig, body: bytes):
    answer = await ready.ask("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.code) == (400, "invalid_request"), answer.body
    error = answer.json()["error"]
    assert error["code"] == "invalid_request"
    assert error["message"].endswith(".")
    assert answer.headers["x-should-retry"] == "false"
    assert ready.standin.requests == []
    record = await ready.record()
    assert (record["outcome"], record["attempts"], record["status"]) == ("refused", 0, 400)


@pytest.mark.parametrize("body", [b"{}", b'{"model":null}', b'{"model":""}'])
async def test_a_missing_model_has_a_code_of_its_own(ready: Rig, body: bytes):
    answer = await ready.ask("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.code) == (400, "model_missing")


async def test_a_repeated_field_that_is_not_governed_but_ambiguous_is_refused(ready: Rig):
    answer = await ready.ask("POST", "/v1/chat/completions", b'{"model":"m","x":1,"x":2}')
    assert answer.code == "invalid_request"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": "Bearer sk-other"},
        {"authorization": "Basic eDp5"},
        {"x_api_key": "sk-Xvs' OR 1=1 --"},
        {"x_api_key": "sk-Xvs" + "a" * 45},
        {"x_goog_api_key": "x" * 60_000},
    ],
)
async def test_no_valid_key_is_401_and_leaves_no_record(ready: Rig, headers: dict[str, str]):
    answer = await ready.ask("POST", "/v1/chat/completions", CHAT, key=None, **headers)
    assert (answer.status, answer.code) == (401, "invalid_api_key")
    assert await ready.records() == []


async def test_two_different_keys_are_401_and_the_same_twice_is_one(ready: Rig):
    other = (await ready.new_owner("other")).api_key
    refused = await ready.ask("POST", "/v1/chat/completions", CHAT, x_api_key=other)
    assert (refused.status, refused.code) == (401, "invalid_api_key")
    assert "Two different" in refused.json()["error"]["message"]
    accepted = await ready.ask("POST", "/v1/chat/completions", CHAT, x_api_key=ready.key)
    assert accepted.status == 200


async def test_a_stored_look_up_id_is_no_key(ready: Rig):
    from xairouter.custody.formats import look_up_id

    handle = look_up_id(ready.key)
    for shown in (handle.hex(), handle.hex()[:51]):
        answer = await ready.ask("POST", "/v1/chat/completions", CHAT, key=shown)
        assert answer.status == 401


@pytest.mark.parametrize("value", ["Bearer {}", "bearer {}", "{}", "BEARER  {}"])
async def test_a_raw_authorization_value_is_a_key_too(ready: Rig, value: str):
    answer = await ready.ask(
        "POST", "/v1/chat/completions", CHAT, key=None, authorization=value.format(ready.key)
    )
    assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/nothing",
        "/v1//chat/completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/chat%2fcompletions",
        "/v1/chat%2Fcompletions",
        "/v1/chat/completions/",
        "/v2/chat",
        "/v1/moderations",
        "/v1/files",
        "/v1/chat/completions%00",
        "/v1/chat/completions%",
        "/v1/",
        "/v1/responses/a/b/c",
        "/v1beta/models/m:unknownVerb",
        "/v1/responses/a%2Fb",
        "/v1beta/models/../m:generateContent",
    ],
)
async def test_unknown_and_crooked_paths_are_404(ready: Rig, path: str):
    host = b"POST " + path.encode() + b" HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
    reply = await ready.raw(
        host + ready.key.encode() + b"\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    )
    assert reply.startswith(b"HTTP/1.1 404"), reply[:200]
    assert b"x-xairouter-error: unknown_path" in reply
    assert ready.standin.requests == []
    assert await ready.records() == []


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_a_wrong_method_is_an_unknown_path(ready: Rig, method: str):
    assert (await ready.ask(method, "/v1/chat/completions")).code == "unknown_path"


async def test_the_head_probe_of_coding_agents_is_answered(rig: Rig):
    answer = await rig.ask("HEAD", "/", key=None)
    assert (answer.status, answer.body) == (200, b"")


async def test_a_websocket_upgrade_is_answered_426_at_once(rig: Rig):
    reply = await rig.raw(
        b"GET /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
        + rig.key.encode()
        + b"\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        wait=2,
    )
    assert reply.startswith(b"HTTP/1.1 426"), reply
    assert await rig.records() == []


async def test_refusals_speak_the_dialect_of_the_path_whatever_header_carries_the_key(ready: Rig):
    anthropic = await ready.ask("POST", "/v1/messages", b"{", key=None, authorization=ready.key)
    assert anthropic.json()["type"] == "error"
    assert anthropic.json()["error"]["type"] == "invalid_request_error"
    assert anthropic.json()["request_id"] == anthropic.headers["x-xairouter-call-id"]
    gemini = await ready.ask("POST", "/v1beta/models/m:generateContent", b"{")
    error = gemini.json()["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["details"][0]["reason"] == "invalid_request"
    openai = await ready.ask("POST", "/v1/chat/completions", b"{", key=None, x_api_key=ready.key)
    assert set(openai.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_body_over_the_limit_is_413_declared_or_not(tmp_path):
    from tests.rig import start_rig

    rig = await start_rig(tmp_path, max_body=2000, max_buffered=4000)
    try:
        await rig.add_provider_key()
        big = json.dumps({**CHAT, "x": "y" * 3000}).encode()
        declared = await rig.ask("POST", "/v1/chat/completions", big)
        assert (declared.status, declared.code) == (413, "body_too_large")
        chunked = await rig.raw(
            _head(rig, "transfer-encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(big), big)
        )
        assert chunked.startswith(b"HTTP/1.1 413")
        bomb = gzip.compress(b'{"model":"m","x":"' + b"y" * 1_000_000 + b'"}')
        assert len(bomb) < 2000
        unfolded = await rig.ask("POST", "/v1/chat/completions", bomb, content_encoding="gzip")
        assert (unfolded.status, unfolded.code) == (413, "body_too_large")
        assert rig.standin.requests == []
        rig.house.metrics.refresh()
        assert rig.house.metrics.buffered._value.get() == 0
    finally:
        await rig.stop()


async def test_bodies_over_the_sum_are_503_and_the_sum_falls_again(tmp_path):
    from tests.rig import start_rig

    rig = await start_rig(tmp_path, max_body=10_000, max_buffered=3000)
    try:
        await rig.add_provider_key()
        big = json.dumps({**CHAT, "x": "y" * 5000}).encode()
        refused = await rig.ask("POST", "/v1/chat/completions", big)
        assert (refused.status, refused.code) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert (await rig.chat()).status == 200
    finally:
        await rig.stop()


async def test_gzip_bodies_are_read_and_forwarded_plain(ready: Rig):
    packed = gzip.compress(json.dumps(CHAT).encode())
    answer = await ready.ask("POST", "/v1/chat/completions", packed, content_encoding="gzip")
    assert answer.status == 200
    received = ready.standin.requests[-1]
    assert received.json() == CHAT
    assert "content-encoding" not in received.headers


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b'{"model":"m"}', mtime=0)[:-4], "gzip"),
        (b"\x1f\x8bgarbage", "gzip"),
        (gzip.compress(b'{"model":"m"}', mtime=0) + b"more", "gzip"),
        # A second member would be read by some servers and not by others.
        (gzip.compress(b'{"model":"m"', mtime=0) + gzip.compress(b"}", mtime=0), "gzip"),
        (zlib.compress(b'{"model":"m"}'), "deflate"),
        (gzip.compress(b'{"model":"m"}', mtime=0), "gzip, gzip"),
        (b"{}", "br"),
        (b"{}", "zstd"),
    ],
    ids=["cut off", "garbage", "surplus", "two members", "deflate", "twice", "brotli", "zstd"],
)
async def test_broken_and_unknown_encodings_are_refused(ready: Rig, body: bytes, encoding: str):
    answer = await ready.ask("POST", "/v1/chat/completions", body, content_encoding=encoding)
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert ready.standin.requests == []


FRAMINGS = {
    "both framings": (["content-length: 5", "transfer-encoding: chunked"], b"0\r\n\r\n"),
    "two lengths": (["content-length: 5", "content-length: 6"], b"hello!"),
    "bad length": (["content-length: 5x"], b"hello"),
    "negative length": (["content-length: -5"], b"hello"),
    "bad chunk size": (["transfer-encoding: chunked"], b"zz\r\nhello\r\n0\r\n\r\n"),
    "huge chunk size": (["transfer-encoding: chunked"], b"fffffffffffffffff\r\nhello"),
    "unknown transfer encoding": (["transfer-encoding: xchunked"], b"hello"),
    "space before colon": (["content-length : 5"], b"hello"),
    "header without name": ([": x"], b""),
    "control character in a header": (["x-a: b\x00c"], b""),
}


@pytest.mark.parametrize("name", FRAMINGS)
async def test_wrong_framing_is_400_and_nothing_is_forwarded(ready: Rig, name: str):
    lines, body = FRAMINGS[name]
    reply = await ready.raw(_head(ready, *lines) + body)
    assert reply.startswith(b"HTTP/1.1 400"), reply
    assert reply.count(b"HTTP/1.1") == 1
    assert b"x-xairouter-error: invalid_request" in reply
    assert b"x-xairouter-call-id: call_" in reply
    assert ready.standin.requests == []


async def test_absurd_headers_are_400(ready: Rig):
    reply = await ready.raw(_head(ready, "x-big: " + "y" * 70_000))
    assert reply.startswith(b"HTTP/1.1 400")
    assert b"larger than 64 KB" in reply
    many = await ready.raw(_head(ready, *(f"x-{n}: y" for n in range(9000))))
    assert many.startswith(b"HTTP/1.1 400")
    assert b"larger than 64 KB" in many


async def test_slow_headers_and_bodies_end(tmp_path):
    from tests.rig import start_rig

    rig = await start_rig(tmp_path, header_seconds=0.3, body_idle_seconds=0.3)

    async def said(sent: bytes) -> bytes:
        """In memory, so that no time passes before what was sent is there."""
        wire = wire_to(rig)
        wire.send(sent)
        await wire.ended()
        return bytes(wire.received)

    try:
        headers = await said(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        assert headers.startswith(b"HTTP/1.1 400")
        assert b"did not arrive in time" in headers
        # The second head of a connection has no more time than the first.
        first = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        second = await said(first + b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        assert second.startswith(b"HTTP/1.1 200")
        assert b"did not arrive in time" in second
        assert await said(b"") == b""
        body = await said(_head(rig, "content-length: 100") + b'{"model"')
        assert body.startswith(b"HTTP/1.1 400")
        assert b"did not arrive in time" in body
        assert b"connection: close" in body
    finally:
        await rig.stop()


async def test_a_request_that_is_cut_off_is_not_forwarded(ready: Rig):
    _, writer = await asyncio.open_connection("127.0.0.1", ready.port)
    writer.write(_head(ready, "content-length: 100") + b'{"model":"m"')
    await until(lambda: ready._server.server_state.tasks)
    writer.close()
    record = (await ready.records(expect=1))[0]
    assert (record["outcome"], record["attempts"]) == ("client_gone", 0)
    assert ready.standin.requests == []


async def test_expect_100_continue_is_answered_before_the_body(ready: Rig):
    reader, writer = await asyncio.open_connection("127.0.0.1", ready.port)
    body = json.dumps(CHAT).encode()
    writer.write(_head(ready, "expect: 100-continue", f"content-length: {len(body)}"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_refused_key_is_not_asked_for_its_body(rig: Rig):
    reply = await rig.raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
        b"content-length: 1000\r\n\r\n",
        wait=2,
    )
    assert reply.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in reply


async def test_keep_alive_and_pipelining_answer_in_order(ready: Rig):
    one = json.dumps({**CHAT, "messages": [{"role": "user", "content": "first"}]}).encode()
    two = json.dumps({**CHAT, "messages": [{"role": "user", "content": "second"}]}).encode()
    reply = await ready.raw(
        _head(ready, f"content-length: {len(one)}")
        + one
        + _head(ready, f"content-length: {len(two)}", "connection: close")
        + two
    )
    assert reply.count(b"HTTP/1.1 200") == 2
    assert reply.index(b"You said: first") < reply.index(b"You said: second")
    await ready.records(expect=2)


async def test_garbage_behind_a_request_does_not_spoil_its_answer(ready: Rig):
    body = json.dumps(CHAT).encode()
    reply = await ready.raw(
        _head(ready, f"content-length: {len(body)}") + body + b"\x00\x01garbage"
    )
    assert reply.count(b"HTTP/1.1") == 1
    assert reply.startswith(b"HTTP/1.1 200")
    assert reply.endswith(b"}")


async def test_connections_per_address_are_bounded(tmp_path):
    from tests.rig import start_rig

    rig = await start_rig(tmp_path, connections_per_address=2)
    try:
        held = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(2)]
        connections = rig._server.server_state.connections
        await until(lambda: len(connections) == 2)
        reply = await rig.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 503")
        for _, writer in held:
            writer.close()
        await until(lambda: not connections)
        assert (await rig.ask("GET", "/healthz", key=None)).status == 200
    finally:
        await rig.stop()


async def test_a_label_is_recorded_and_stays_here(ready: Rig):
    answer = await ready.ask(
        "POST", "/v1/chat/completions", CHAT, x_xairouter_label="nightly batch"
    )
    assert answer.status == 200
    assert (await ready.record())["label"] == "nightly batch"
    assert "x-xairouter-label" not in ready.standin.requests[-1].headers
    long = await ready.ask("POST", "/v1/chat/completions", CHAT, x_xairouter_label="x" * 65)
    assert long.code == "invalid_request"


async def test_only_listed_request_headers_are_forwarded(ready: Rig):
    await ready.ask(
        "POST",
        "/v1/chat/completions",
        CHAT,
        openai_organization="org-x",
        openai_project="p",
        x_forwarded_for="1.2.3.4",
        x_goog_user_project="p",
        cookie="a=b",
        forwarded="for=1.2.3.4",
        idempotency_key="once",
        openai_beta="assistants=v2",
        accept="application/json",
    )
    headers = ready.standin.requests[-1].headers
    assert headers["idempotency-key"] == f"{ready.owner_id}-once", "shared with no other account"
    assert headers["openai-beta"] == "assistants=v2"
    allowed = {
        "host",
        "content-type",
        "content-length",
        "accept",
        "accept-encoding",
        "idempotency-key",
        "openai-beta",
        "user-agent",
        "authorization",
    }
    assert set(headers) <= allowed, set(headers) - allowed


async def test_a_fault_of_our_own_is_a_clear_answer_and_a_record(ready: Rig, monkeypatch):
    from xairouter.gateway import asgi, sending

    def broken(*_, **__):
        raise RuntimeError("a bug, with sk-secret in its text")

    with monkeypatch.context() as patch:
        patch.setattr(sending, "forwarded", broken)
        answer = await ready.ask("POST", "/v1/chat/completions", CHAT)
    assert (answer.status, answer.code) == (500, "internal_error")
    assert b"RuntimeError" not in answer.body
    assert b"sk-secret" not in answer.body
    assert (await ready.record())["error_code"] == "internal_error"
    with monkeypatch.context() as patch:
        patch.setattr(asgi, "find", broken)
        answer = await ready.ask("POST", "/v1/messages", CHAT)
    assert (answer.status, answer.code) == (500, "internal_error")
    assert answer.json()["type"] == "error"


FUZZ = [
    "' OR 1=1 --",
    "\x00",
    "\u00e9",
    "%00",
    "{{7*7}}",
    "../../etc/passwd",
    "sk-Xvs" + "\u0661" * 45,
    "a" * 50_000,
    "sk-Xvs" + "a" * 44 + "\n",
    "Bearer " * 50,
]


@pytest.mark.parametrize("carrier", ["authorization", "x-api-key", "x-goog-api-key"])
@pytest.mark.parametrize("value", FUZZ, ids=range(len(FUZZ)))
async def test_hostile_credentials_are_401_or_400_and_nothing_else(ready: Rig, carrier, value):
    line = f"{carrier}: {value}".encode("utf-8", "surrogateescape")
    reply = await ready.raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        + line
        + b"\r\ncontent-length: 2\r\n\r\n{}",
        wait=3,
    )
    assert reply.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400")), reply[:80]
    assert ready.standin.requests == []


@pytest.mark.parametrize("name", ["stream_options", "model", "max_tokens"])
async def test_a_governed_field_of_absurd_size_is_refused(ready: Rig, name: str):
    body = {**CHAT, name: {"x": ["y"] * 40_000}}
    answer = await ready.ask("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.code) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (
            {"requests": [{"model": "models/m", "content": {"parts": [{"text": "x" * 200_000}]}}]},
            200,
        ),
        ({"requests": [{"model": "models/other"}]}, 400),
        ({"requests": "x"}, 400),
        ({"model": "models/other", "content": {}}, 400),
        ({"model": "models/m", "content": {}}, 200),
        ({"generationConfig": {"maxOutputTokens": 5}, "generation_config": {}}, 400),
        ({"generationConfig": {"maxOutputTokens": 5, "max_output_tokens": 6}}, 400),
    ],
)
async def test_a_gemini_body_agrees_with_its_path(ready: Rig, body: dict, status: int):
    answer = await ready.ask("POST", "/v1beta/models/m:batchEmbedContents", body)
    assert answer.status == status, answer.body
