"""No reply of the data plane can be a page of the console's origin, whatever a provider says.

Every operation is asked, and the provider, which is the tenant's own, answers with everything that a
browser or a proxy acts on.
"""

from pathlib import Path

import pytest

from tests.rig import Answer, Rig, start_rig
from tests.wire import wire_to
from xairouter.dialects.paths import GEMINI_VERBS, OPERATIONS
from xairouter.gateway.browser import SAFE_HEADERS
from xairouter.gateway.reply_headers import OUR_HEADERS, REPLY_HEADERS
from xairouter.providers.table import PROVIDERS
from xairouter.standin.faults import Reply

PAGE = b"<!doctype html><script>alert(document.domain)</script>"
HOSTILE = {
    "service-worker-allowed": "/",
    "x-accel-redirect": "/internal/secrets",
    "x-sendfile": "/etc/passwd",
    "x-lighttpd-send-file": "/etc/passwd",
    "x-reproxy-url": "http://127.0.0.1/",
    "x-accel-buffering": "yes",
    "x-accel-expires": "86400",
    "cross-origin-opener-policy": "unsafe-none",
    "cross-origin-embedder-policy": "unsafe-none",
    "cross-origin-resource-policy": "cross-origin",
    "origin-agent-cluster": "?0",
    "document-policy": "force-load-at-top",
    "permissions-policy": "camera=*",
    "feature-policy": "camera *",
    "content-security-policy": "default-src * 'unsafe-inline'",
    "content-security-policy-report-only": "default-src 'none'; report-uri https://evil.example",
    "x-content-type-options": "sniff",
    "x-frame-options": "ALLOWALL",
    "x-xss-protection": "0",
    "referrer-policy": "unsafe-url",
    "reporting-endpoints": 'default="https://evil.example"',
    "report-to": '{"group":"default"}',
    "nel": '{"report_to":"default"}',
    "cache-control": "public, max-age=31536000, immutable",
    "expires": "Thu, 01 Jan 2099 00:00:00 GMT",
    "pragma": "cache",
    "surrogate-control": "max-age=31536000",
    "cdn-cache-control": "max-age=31536000",
    "age": "0",
    "etag": '"1"',
    "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT",
    "vary": "*",
    "access-control-allow-origin": "*",
    "access-control-allow-credentials": "true",
    "access-control-expose-headers": "*",
    "timing-allow-origin": "*",
    "set-cookie": "__Host-xairouter=stolen; Path=/; Secure",
    "set-cookie2": "a=b",
    "clear-site-data": '"*"',
    "strict-transport-security": "max-age=0",
    "public-key-pins": "max-age=1",
    "expect-ct": "enforce",
    "alt-svc": 'h3="evil.example:443"',
    "location": "https://evil.example",
    "content-location": "/console/",
    "refresh": "0; url=https://evil.example",
    "link": "<https://evil.example/x.js>; rel=preload; as=script",
    "sourcemap": "https://evil.example/x.map",
    "x-sourcemap": "https://evil.example/x.map",
    "speculation-rules": '"https://evil.example/rules.json"',
    "supports-loading-mode": "fenced-frame",
    "no-vary-search": "params",
    "observe-browsing-topics": "?1",
    "attribution-reporting-register-source": "{}",
    "accept-ch": "sec-ch-ua-model",
    "critical-ch": "sec-ch-ua-model",
    "www-authenticate": 'Basic realm="sign in again"',
    "authentication-info": "x",
    "proxy-authenticate": "Basic",
    "content-disposition": 'inline; filename="x.html"',
    "default-style": "x",
    "hx-redirect": "https://evil.example",
    "hx-trigger": "x",
    "openai-organization": "org-1",
    "openai-project": "proj-1",
    "anthropic-organization-id": "org-1",
    "anthropic-workspace-id": "wrk-1",
    "anthropic-ratelimit-tokens-remaining": "5",
    "x-ratelimit-remaining-requests": "5",
    "x-xairouter-origin": "gateway",
    "x-xairouter-error": "invalid_api_key",
    "x-request-id": "req-of-the-provider",
    "x-unheard-of": "1",
}
"""What must not reach a client; names that we say ourselves keep our value."""
WANTED = {
    "retry-after": "3",
    "retry-after-ms": "2500",
    "x-should-retry": "true",
    "request-id": "req_011",
    "server-timing": "gfet4t7; dur=12",
    "openai-processing-ms": "12",
    "openai-version": "2020-10-01",
    "openai-model": "gpt-5",
    "openai-poll-after-ms": "500",
    "anthropic-fast-mode": "on",
    "x-codex-turn-state": "opaque==",
    "x-codex-safety-buffering-enabled": "true",
    "x-models-etag": "abc",
    "x-reasoning-included": "true",
    "x-generation-id": "gen-1",
    "mistral-correlation-id": "c-1",
}
"""What clients read of a reply."""
TYPES = {
    "application/json": "application/json",
    "application/json; charset=utf-8": "application/json; charset=utf-8",
    "text/event-stream": "text/event-stream",
    "audio/mpeg": "audio/mpeg",
    "image/png": "image/png",
    "text/html": None,
    "TEXT/HTML; charset=utf-8": None,
    "application/xhtml+xml": None,
    "image/svg+xml": None,
    "text/xml": None,
    "text/javascript": None,
    "application/javascript": None,
    "text/css": None,
    "multipart/x-mixed-replace; boundary=x": None,
    "application/json, text/html": None,
    "application/json;x=y, text/html": "application/json",
    "text/html;application/json": None,
    "nonsense": None,
    "*/*": None,
}
"""What the provider says its reply is → what it is called; None: a download."""
REQUESTS = [
    (
        operation.method,
        (
            f"/v1beta/models/demo:{verb}"
            if verb
            else ("" if operation.suffix.startswith("/v1") else "/v1")
            + operation.suffix.replace("{id}", "resp_1")
        ),
        None
        if operation.method != "POST"
        else {
            "model": "demo",
            "input": "x",
            "messages": [],
            "contents": [],
            "max_tokens": 5,
            "stream": streams,
        },
    )
    for operation in OPERATIONS
    if operation.dialect != "models"
    for verb in (
        [v for v, name in GEMINI_VERBS.items() if name == operation.name]
        if operation.dialect == "gemini_generate"
        else [""]
    )
    for streams in ((False, True) if operation.metered and not verb else (False,))
]


def assert_safe(answer: Answer) -> None:
    """The headers without which a browser might run the reply."""
    for name, value in SAFE_HEADERS:
        assert answer.headers[name.decode()] == value.decode(), name
    assert "set-cookie" not in answer.headers


@pytest.fixture
async def hostile(rig: Rig) -> Rig:
    """The owner's provider is the attacker's own."""
    await rig.add_provider_key()
    return rig


def test_every_operation_is_asked():
    assert {(method, path) for method, path, _ in REQUESTS} >= {
        ("POST", "/v1/messages"),
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1beta/models/demo:streamGenerateContent"),
    }
    assert len(REQUESTS) > 18


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_no_header_on_which_a_browser_acts_reaches_it(hostile: Rig, status: int):
    rig = hostile
    said = (*HOSTILE.items(), *WANTED.items(), ("content-type", "text/html"))
    for method, path, body in REQUESTS:
        for events in ((), (PAGE, PAGE)):
            rig.standin.scripted = Reply(status, said, body=PAGE, events=events)
            for ailing in list(rig.house.health.ailing):
                rig.house.health.forget(ailing)
            answer = await rig.ask(method, path, body)
            assert (answer.status, answer.headers["x-xairouter-origin"]) == (status, "provider"), (
                method,
                path,
                answer.body,
            )
            assert_safe(answer)
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"] == "attachment"
            passed = {
                name: value
                for name, value in HOSTILE.items()
                if answer.headers.get(name) == value and name != "content-disposition"
            }
            assert passed == {}, (method, path)
            assert {name: answer.headers.get(name) for name in WANTED} == WANTED
            allowed = {
                *OUR_HEADERS,
                *REPLY_HEADERS,
                *WANTED,
                *(n.decode() for n, _ in SAFE_HEADERS),
            }
            framing = {"content-type", "content-disposition", "date", "connection"}
            assert set(answer.headers) <= allowed | framing | {"transfer-encoding"}


async def test_a_content_type_that_a_browser_runs_becomes_a_download(hostile: Rig):
    rig = hostile
    for said, expected in TYPES.items():
        rig.standin.scripted = Reply(200, (("content-type", said),), body=PAGE)
        for method, path, body in REQUESTS:
            answer = await rig.ask(method, path, body)
            assert_safe(answer)
            assert answer.headers["content-type"] == (expected or "application/octet-stream"), said
            assert ("content-disposition" in answer.headers) == (expected is None), said
    rig.standin.scripted = Reply(200, (), body=PAGE)
    answer = await rig.chat()
    assert answer.headers["content-type"] == "application/json"


async def test_names_that_the_connection_header_lists_never_pass(hostile: Rig):
    rig = hostile
    for named in ("openai-version, Retry-After", "keep-alive,RETRY-AFTER , openai-version"):
        headers = (("connection", named), ("retry-after", "3"), ("openai-version", "1"))
        typed = (("content-type", "application/json"), ("request-id", "r"))
        for order in ((*headers, *typed), (*typed, *reversed(headers))):
            rig.standin.scripted = Reply(200, order, body=b"{}")
            answer = await rig.chat()
            assert answer.headers["request-id"] == "r"
            assert "retry-after" not in answer.headers
            assert "openai-version" not in answer.headers


async def test_of_two_content_types_only_an_allowed_one_is_sent(hostile: Rig):
    rig = hostile
    twice = (("content-type", "application/json"), ("content-type", "text/html"))
    for said, expected in (
        (twice, "application/json"),
        (tuple(reversed(twice)), "application/octet-stream"),
    ):
        rig.standin.scripted = Reply(200, said, body=PAGE)
        body = b'{"model": "m", "messages": []}'
        raw = await rig.raw(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
            + rig.key.encode()
            + b"\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        head = raw.partition(b"\r\n\r\n")[0].decode().lower()
        assert head.count("\r\ncontent-type:") == 1
        assert f"\r\ncontent-type: {expected}\r\n" in head


async def test_our_own_replies_and_refusals_are_no_pages_either(hostile: Rig):
    rig = hostile
    for key in ("", None, "sk-Xvsnobody"):
        for path in (
            "/v1/models",
            "/v1/models/demo",
            "/v1beta/models",
            "/v1/nothing",
            "/v1/responses/x/../../console/",
            "/healthz",
            "/readyz",
            "/metrics",
            "/api/v1/me",
            "/api/v1/nothing",
            "/api/v1/openapi.json",
        ):
            for method in ("GET", "HEAD", "POST", "OPTIONS"):
                assert_safe(await rig.ask(method, path, key=key))
    for method, path, body in REQUESTS:
        assert_safe(await rig.ask(method, path, body, key=None))
    rig.standin.scripted = Reply(302, (("location", "https://evil.example"),), body=PAGE)
    answer = await rig.chat()
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert_safe(answer)
    upgrade = await rig.raw(
        b"GET /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    _assert_safe_head(upgrade, 426)


def _assert_safe_head(raw: bytes, status: int) -> None:
    head = raw.partition(b"\r\n\r\n")[0].decode().lower()
    assert head.startswith(f"http/1.1 {status} "), raw
    for name, value in SAFE_HEADERS:
        assert f"\r\n{name.decode()}: {value.decode()}\r\n" in head, name
    assert "\r\ncontent-type: application/json\r\n" in head


async def test_what_is_answered_below_the_application_is_no_page(tmp_path: Path):
    rig = await start_rig(tmp_path, connections_per_address=3, header_seconds=0.2)
    try:
        _assert_safe_head(await rig.raw(b"<html>\r\n\r\n"), 400)
        long = b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000 + b"\r\n\r\n"
        _assert_safe_head(await rig.raw(long), 400)
        late = wire_to(rig)
        late.send(b"GET / HTTP/1.1\r\nhost: x\r\n")
        await late.ended()
        _assert_safe_head(bytes(late.received), 400)
        # At once, for those that say nothing are ended.
        held = [wire_to(rig) for _ in range(3)]
        refused = wire_to(rig)
        await refused.ended()
        _assert_safe_head(bytes(refused.received), 503)
        for wire in held:
            wire.leave()
    finally:
        await rig.stop()


DESTINATIONS = (
    "document",
    "iframe",
    "frame",
    "embed",
    "object",
    "script",
    "style",
    "image",
    "audio",
    "video",
    "track",
    "font",
    "worker",
    "sharedworker",
    "serviceworker",
    "audioworklet",
    "manifest",
    "report",
    "xslt",
    "json",
    "",
    "unheard-of",
    "Empty",
)


async def test_a_browser_s_request_for_anything_but_fetch_is_refused(hostile: Rig):
    rig = hostile
    rig.standin.scripted = Reply(200, (("content-type", "application/json"),), body=b"{}")
    paths = [*REQUESTS, ("GET", "/v1/models", None), ("HEAD", "/v1/models/demo", None)]
    for method, path, body in paths:
        for destination in DESTINATIONS:
            answer = await rig.ask(method, path, body, sec_fetch_dest=destination)
            assert answer.status == 403, (method, path, destination)
            assert answer.code == "forbidden"
            assert_safe(answer)
    assert rig.standin.requests == []
    for method, path, body in REQUESTS:
        assert (await rig.ask(method, path, body, sec_fetch_dest="empty")).status == 200
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await rig.ask("GET", path, sec_fetch_dest="document")).status == 200
    assert await rig.records(expect=len(REQUESTS)), "a refused navigation leaves no record"


async def test_a_key_in_the_query_is_a_credential_on_gemini_paths_alone(hostile: Rig):
    rig = hostile
    rig.standin.scripted = Reply(200, (("content-type", "application/json"),), body=b"{}")
    more = [("GET", path, None) for path in ("/v1/models", "/models", "/v1/models/demo")]
    more += [("GET", "/v1beta/models", None), ("GET", "/api/v1/me", None)]
    for method, path, body in [*REQUESTS, *more]:
        for spelling in (f"key={rig.key}", f"%6bey={rig.key}", f"alt=json&key={rig.key}"):
            answer = await rig.ask(method, f"{path}?{spelling}", body, key=None)
            expected = 200 if path.startswith("/v1beta/") else 401
            assert answer.status == expected, (method, path, answer.body)
    assert not [r for r in rig.standin.requests if rig.key in r.query]
    # Beside another credential it is none, and goes no further.
    answer = await rig.ask("GET", f"/v1/responses/resp_1?key={rig.key}&include=x")
    assert answer.status == 200
    assert rig.standin.requests[-1].query == "include=x"


async def test_a_form_of_another_site_gets_nothing_that_runs(hostile: Rig):
    """As a browser sends it, and as one that says nothing of what it is for."""
    rig = hostile
    text = b'{"contents": [{"parts": [{"text": "hi"}]}], "x": "="}\r\n'
    rig.standin.scripted = Reply(200, (("content-type", "text/html"),), body=PAGE)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        for verb in GEMINI_VERBS:
            path = f"/v1beta/models/m:{verb}?key={rig.key}"
            sent = {"content_type": kind, "origin": "https://evil.example"}
            answer = await rig.ask("POST", path, text, key=None, sec_fetch_dest="document", **sent)
            assert (answer.status, answer.code) == (403, "forbidden")
            old = await rig.ask("POST", path, text, key=None, **sent)
            assert old.status == 200
            assert_safe(old)
            assert old.headers["content-type"] == "application/octet-stream"
            assert old.headers["content-disposition"] == "attachment"
            assert "access-control-allow-origin" not in old.headers


def test_no_row_of_a_provider_lets_pass_what_a_browser_acts_on():
    for row in PROVIDERS.values():
        for name in row.reply_headers:
            beginning = name.rstrip("*")
            assert len(beginning) >= 8
            assert name == name.lower()
            ours = [mine for mine in (*HOSTILE, *OUR_HEADERS) if mine.startswith(beginning)]
            assert ours == [], row.name
