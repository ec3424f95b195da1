"""Cross-origin calls of browser apps, a host of its own for the console, and where ``/`` leads."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rig import Answer, Rig, start_rig
from xairouter.errors import ConfigError
from xairouter.settings import Settings, load

APP, EVIL = "https://app.example", "https://evil.example"
ASKS = {"access_control_request_method": "POST", "access_control_request_headers": "authorization"}
CALLS = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/messages"),
    ("POST", "/v1beta/models/demo:generateContent"),
    ("GET", "/v1/models"),
    ("GET", "/v1/responses/resp_1"),
    ("DELETE", "/v1/responses/resp_1"),
    ("GET", "/v1/nothing"),
)
MANAGEMENT = (
    "/api/v1/me",
    "/api/v1/openapi.json",
    "/console/",
    "/console/sign-in",
    "/console/nothing",
)


def cross_origin(answer: Answer) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


@pytest.fixture
async def open_rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = await start_rig(tmp_path, cors_origins=f"{APP}, http://localhost:5173")
    try:
        await rig.add_provider_key()
        yield rig
    finally:
        await rig.stop()


async def test_cross_origin_calls_are_off_by_default(rig: Rig):
    for method, path in (*CALLS, *(("GET", path) for path in MANAGEMENT)):
        for answer in (
            await rig.ask("OPTIONS", path, key=None, origin=APP, **ASKS),
            await rig.ask(method, path, origin=APP),
        ):
            assert cross_origin(answer) == set(), path
            assert "origin" not in answer.headers.get("vary", "")


async def test_a_preflight_of_an_allowed_origin_is_answered_before_any_credential(open_rig: Rig):
    for origin in (APP, "http://localhost:5173"):
        for _, path in CALLS:
            answer = await open_rig.ask("OPTIONS", path, key=None, origin=origin, **ASKS)
            headers = answer.headers
            assert (answer.status, answer.body) == (204, b"")
            assert headers["access-control-allow-origin"] == origin
            assert {"POST", "GET", "DELETE"} <= set(
                headers["access-control-allow-methods"].split(", ")
            )
            allowed = headers["access-control-allow-headers"].split(", ")
            assert {"authorization", "x-api-key", "x-goog-api-key", "*"} <= set(allowed)
            assert headers["vary"] == "origin"
            assert "access-control-allow-credentials" not in headers
    assert open_rig.standin.requests == []
    assert await open_rig.records() == []


async def test_an_allowed_origin_reads_replies_and_refusals_with_their_headers(open_rig: Rig):
    for method, path in CALLS:
        for key in ("", None):
            body = {"model": "demo", "messages": [], "contents": []} if method == "POST" else None
            answer = await open_rig.ask(method, path, body, key=key, origin=APP)
            assert answer.headers["access-control-allow-origin"] == APP, (path, answer.status)
            exposed = answer.headers["access-control-expose-headers"].split(", ")
            assert {"retry-after", "x-request-id", "x-xairouter-error", "x-should-retry"} <= set(
                exposed
            )
            assert {"x-ratelimit-remaining-requests", "x-xairouter-call-id"} <= set(exposed)
            assert answer.headers["vary"] == "origin"
            assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [EVIL, "null", "https://app.example.evil.example", "https://app.example:444", "HTTPS://APP.EXAMPLE",
     "http://app.example", "https://app.example, https://app.example", "*", ""],
)  # fmt: skip
async def test_another_origin_reads_nothing(open_rig: Rig, origin: str):
    asked = await open_rig.ask("OPTIONS", "/v1/models", key=None, origin=origin, **ASKS)
    assert (asked.status, asked.code) == (403, "forbidden")
    for answer in (asked, await open_rig.ask("GET", "/v1/models", origin=origin)):
        assert cross_origin(answer) == set()
        assert answer.headers["vary"] == "origin"


async def test_no_origin_reads_console_management_or_health(open_rig: Rig):
    for path in (*MANAGEMENT, "/", "/healthz", "/readyz", "/metrics"):
        for method, sent in (("GET", {}), ("OPTIONS", ASKS)):
            answer = await open_rig.ask(method, path, origin=APP, **sent)
            assert cross_origin(answer) == set(), path


async def test_root_leads_a_browser_to_the_console_and_answers_probes(rig: Rig):
    answer = await rig.ask("GET", "/", key=None, sec_fetch_dest="document")
    assert (answer.status, answer.headers["location"]) == (307, "/console/")
    assert (await rig.ask("HEAD", "/", key=None)).status == 200


SPELLINGS = (
    "console.example",
    "console.example:8080",
    "console.example:",
    "CONSOLE.Example",
    "console.example.",
    "Console.Example.:443",
)
OTHERS = (
    "llm.example",
    "127.0.0.1:8080",
    "localhost",
    "xconsole.example",
    "console.example.evil.example",
    "console.example..",
    "console.example:80:80",
    "console.example:99999",
    "console.example:8a",
    "evil.example:console.example",
    "[::1]:8080",
    "console.example,console.example",
)
NO_HOSTS = ("console.example/", "console.example@evil.example", "console.example, console.example")


async def test_the_console_s_own_host_has_console_and_management_and_no_calls(tmp_path: Path):
    rig = await start_rig(
        tmp_path,
        console_host="console.example",
        public_url="https://llm.example",
        cors_origins=APP,
    )
    pages = (("GET", "/console/sign-in", 200), ("GET", "/api/v1/me", 200))
    try:
        for host in SPELLINGS:
            for method, path, status in pages:
                assert (await rig.ask(method, path, host=host)).status == status, (host, path)
            for method, path in CALLS:
                answer = await rig.ask(method, path, {"model": "m"}, host=host)
                assert (answer.status, answer.code) == (404, "unknown_path"), (host, path)
                assert cross_origin(await rig.ask(method, path, host=host, origin=APP)) == set()
            assert (await rig.ask("GET", "/", host=host)).status == 307
        for host in OTHERS:
            for method, path, _ in pages:
                answer = await rig.ask(method, path, host=host)
                assert (answer.status, answer.code) == (404, "unknown_path"), (host, path)
                assert "set-cookie" not in answer.headers
            posted = await rig.ask("POST", "/console/sign-in", b"key=x", host=host)
            assert (posted.status, posted.code) == (404, "unknown_path")
            assert (await rig.ask("GET", "/v1/models", host=host)).status == 200, host
            assert (await rig.ask("GET", "/", host=host)).status == 200
        for host in NO_HOSTS:
            for method, path, _ in pages:
                answer = await rig.ask(method, path, host=host)
                assert (answer.status, answer.code) == (400, "invalid_request"), (host, path)
        for host in ("console.example", "llm.example"):
            for path in ("/healthz", "/readyz"):
                assert (await rig.ask("GET", path, key=None, host=host)).status == 200
    finally:
        await rig.stop()


async def test_links_name_the_console_s_host_and_set_ups_the_one_of_calls(tmp_path: Path):
    rig = await start_rig(
        tmp_path, console_host="console.example", public_url="https://llm.example:8443"
    )
    try:
        body = {"name": "team", "invite": True}
        made = await rig.ask("POST", "/api/v1/accounts", body, host="console.example")
        assert made.json()["link"].startswith("https://console.example:8443/console/invitation/")
        form = f"key={rig.key}".encode()
        signed = await rig.ask("POST", "/console/sign-in", form, key=None, host="console.example")
        cookie = signed.headers["set-cookie"]
        assert cookie.startswith("__Host-xairouter=")
        me = await rig.ask(
            "GET", "/console/me", key=None, host="console.example", cookie=cookie.partition(";")[0]
        )
        assert b"https://llm.example:8443/v1" in me.body
        policy = me.headers["content-security-policy"]
        assert "connect-src 'self' https://llm.example:8443;" in policy
        playground = {"origin": "https://console.example:8443", "host": "llm.example:8443"}
        read = await rig.ask("GET", "/v1/models", **playground)
        assert read.headers["access-control-allow-origin"] == playground["origin"]
    finally:
        await rig.stop()


def test_settings_take_origins_and_names_and_nothing_else():
    made = load(cors_origins="HTTPS://App.Example:443/, http://localhost:5173,tauri://localhost")
    assert made.cors_origins == (
        "https://app.example",
        "http://localhost:5173",
        "tauri://localhost",
    )
    assert load(console_host="Console.Example.").console_host == "console.example"
    for wrong in (
        "*",
        "null",
        "app.example",
        "https://a/b",
        "https://u@a",
        "https://a b",
        "https://",
    ):
        with pytest.raises(ConfigError, match="XAIROUTER_CORS_ORIGINS"):
            load(cors_origins=wrong)
    for wrong in ("https://a", "a/b", "a:8080", "a b", "-a", "a..b", "*"):
        with pytest.raises(ConfigError, match="XAIROUTER_CONSOLE_HOST"):
            load(console_host=wrong)
    with pytest.raises(ConfigError, match="must differ"):
        load(console_host="llm.example", public_url="https://LLM.example/")


@pytest.mark.parametrize(
    ("public", "host", "expected"),
    [
        ("", "", "http://127.0.0.1:8080"),
        ("", "c.example", "http://c.example:8080"),
        ("https://llm.example/", "", "https://llm.example"),
        ("https://llm.example", "c.example", "https://c.example"),
        ("https://llm.example:8443", "c.example", "https://c.example:8443"),
    ],
)
def test_the_console_s_address(public: str, host: str, expected: str):
    settings = Settings(public_url=public, console_host=host)
    assert settings.console_url("http://127.0.0.1:8080") == expected
