"""Every refusal of the data plane through each of the three official SDKs: each raises its own
proper exception, and the code can be read from it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from tests.rig import SECRET, Rig
from tests.system.test_limits import PRICES
from xairouter.errors import ERRORS, ErrorCode

pytestmark = pytest.mark.shared_rig


@dataclass
class Scene:
    """What a client does in a scenario: its key, the model, how much output it declares."""

    key: str
    model: str = "demo-large"
    max_tokens: int = 20
    content: str = "hello"
    clean_up: list[Callable[[], Any]] = field(default_factory=list)


Setup = Callable[[Rig], Awaitable[Scene]]


async def _limited(rig: Rig, **rules: Any) -> Scene:
    return Scene((await rig.add_account(rules=rules))["api_key"])


def _rules(**rules: Any) -> Setup:
    async def make(rig: Rig) -> Scene:
        await rig.add_provider_key()
        await rig.ask("PUT", "/api/v1/prices", PRICES)
        return await _limited(rig, **rules)

    return make


def _model(model: str, **fields: Any) -> Setup:
    async def make(rig: Rig) -> Scene:
        await rig.add_provider_key(**fields)
        return Scene(rig.key, model)

    return make


async def wrong_key(rig: Rig) -> Scene:
    return Scene("sk-Xvs" + "a" * 39 + "23emdh")


async def expired_key(rig: Rig) -> Scene:
    team = await _limited(rig)
    expire = "update api_keys set expires_at_ms = 1 where name = 'first' and owner_id = ?"
    await rig.sql((expire, (rig.owner_id,)))
    rig.house.directory.drop(rig.owner_id)
    return team


async def suspended(rig: Rig) -> Scene:
    await rig.add_provider_key()
    made = (await rig.ask("POST", "/api/v1/accounts", {"name": "team"})).json()
    await rig.ask("PATCH", f"/api/v1/accounts/{made['account']['id']}", {"status": "suspended"})
    return Scene(made["api_key"])


async def used_up(rig: Rig) -> Scene:
    scene = await _rules(limits={"rpd": 1})(rig)
    assert (await rig.chat(key=scene.key)).status == 200
    return scene


async def unpriced(rig: Rig) -> Scene:
    await rig.add_provider_key()
    return await _limited(rig, budget={"day_usd": 1})


async def busy(rig: Rig) -> Scene:
    scene = await _rules(limits={"concurrency": 1})(rig)
    task = asyncio.create_task(rig.chat("fault-timeout", key=scene.key))
    while not rig.standin.requests:
        await asyncio.sleep(0.01)
    scene.clean_up.append(task.cancel)
    return scene


async def sleeping(rig: Rig) -> Scene:
    await rig.add_provider_key()
    health, at = rig.house.health, time.monotonic()
    before, health.now = health.now, lambda: at
    rig.standin.failing = {SECRET: "fault-429"}
    for path, body in (
        ("/v1/chat/completions", {"model": "demo-large", "messages": []}),
        ("/v1/messages", {"model": "demo-large", "max_tokens": 1, "messages": []}),
    ):
        await rig.ask("POST", path, body)
    return Scene(rig.key, clean_up=[lambda: setattr(health, "now", before)])


async def rejected(rig: Rig) -> Scene:
    await rig.add_provider_key()
    rig.standin.rejected.add(SECRET)
    return Scene(rig.key)


async def no_journal(rig: Rig) -> Scene:
    await rig.add_provider_key()

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    rig.house.journal._write = full
    return Scene(rig.key, clean_up=[lambda: delattr(rig.house.journal, "_write")])


async def draining(rig: Rig) -> Scene:
    await rig.add_provider_key()
    rig.house.running.is_draining = True
    return Scene(rig.key)


async def large(rig: Rig) -> Scene:
    await rig.add_provider_key()
    return Scene(rig.key, content="x" * 30_000)


async def crowded(rig: Rig) -> Scene:
    await rig.add_provider_key()
    return Scene(rig.key, content="x" * 15_000)


async def nameless(rig: Rig) -> Scene:
    await rig.add_provider_key()
    return Scene(rig.key, model="")


SCENES: dict[str, Setup] = {
    "model_missing": nameless,
    "invalid_api_key": wrong_key,
    "api_key_expired": expired_key,
    "account_suspended": suspended,
    "ip_not_allowed": _rules(allow_ips=["10.0.0.0/8"]),
    "path_not_allowed": _rules(allow_paths=["/v1/embeddings"]),
    "model_not_allowed": _rules(allow_models=["other"]),
    "level_not_allowed": _rules(allow_levels=[7]),
    "output_not_allowed": _rules(max_output_tokens=5),
    "model_unpriced": unpriced,
    "model_not_found": _model("nowhere", models=["demo-large"]),
    "body_too_large": large,
    "overloaded": crowded,
    "rate_limited": used_up,
    "token_limited": _rules(limits={"tpm": 5}),
    "concurrency_limited": busy,
    "budget_exhausted": _rules(budget={"day_usd": 0.000001}),
    "provider_key_rejected": rejected,
    "upstream_error_withheld": _model("fault-quote"),
    "upstream_unreachable": _model("fault-reset-before"),
    "upstream_timeout": _model("fault-timeout"),
    "no_provider_key": lambda rig: _scene(rig),
    "all_keys_sleeping": sleeping,
    "ledger_unavailable": no_journal,
    "draining": draining,
}
OWN_RIGS = {
    # A short patience only where it is what is tried: elsewhere, a slow machine would meet it first.
    "upstream_timeout": pytest.mark.own_rig(first_byte_seconds=0.4),
    "body_too_large": pytest.mark.own_rig(max_body=20_000, max_buffered=10_000),
    "overloaded": pytest.mark.own_rig(max_body=20_000, max_buffered=10_000),
    "ledger_unavailable": pytest.mark.own_rig,
    "draining": pytest.mark.own_rig,
}
"""Scenes that need a router with settings of their own, or that break it."""
ELSEWHERE = {
    "invalid_request": "tests/system/test_bad_input.py",
    "unknown_path": "tests/system/test_bad_input.py",
    "upgrade_unsupported": "tests/system/test_bad_input.py",
    "object_not_found": "tests/system/test_provider_keys.py",
    "object_not_allowed": "tests/unit/policy/test_names.py",
    "internal_error": "tests/system/test_faults.py",
}
"""Codes that no SDK's ordinary call can meet."""


async def _scene(rig: Rig) -> Scene:
    return Scene(rig.key)


async def ask_openai(url: str, scene: Scene) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=scene.key, max_retries=0) as client:
        await client.chat.completions.create(
            model=scene.model,
            max_tokens=scene.max_tokens,
            messages=[{"role": "user", "content": scene.content}],
        )


async def ask_anthropic(url: str, scene: Scene) -> Any:
    async with anthropic.AsyncAnthropic(base_url=url, api_key=scene.key, max_retries=0) as client:
        await client.messages.create(
            model=scene.model,
            max_tokens=scene.max_tokens,
            messages=[{"role": "user", "content": scene.content}],
        )


async def ask_genai(url: str, scene: Scene) -> Any:
    client = genai.Client(api_key=scene.key, http_options=types.HttpOptions(base_url=url))
    await client.aio.models.generate_content(
        model=scene.model,
        contents=scene.content,
        config=types.GenerateContentConfig(max_output_tokens=scene.max_tokens),
    )


BY_STATUS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    429: "RateLimitError",
}


def check_openai(error: Exception, code: str, status: int) -> None:
    assert isinstance(error, openai.APIStatusError)
    wanted = BY_STATUS.get(status, "InternalServerError" if status >= 500 else "APIStatusError")
    assert type(error).__name__ == wanted
    assert (error.status_code, error.code) == (status, code)
    assert error.response.headers["x-xairouter-error"] == code


def check_anthropic(error: Exception, code: str, status: int) -> None:
    assert isinstance(error, anthropic.APIStatusError)
    assert error.status_code == status
    if status in BY_STATUS:
        assert type(error).__name__ == BY_STATUS[status]
    elif status >= 500:
        assert isinstance(error, anthropic.InternalServerError | anthropic.APIStatusError)
    assert error.response.headers["x-xairouter-error"] == code
    body = error.body
    assert isinstance(body, dict)
    assert body["type"] == "error"
    assert body["error"]["message"]


def check_genai(error: Exception, code: str, status: int) -> None:
    wanted = errors.ServerError if status >= 500 else errors.ClientError
    assert isinstance(error, wanted)
    assert error.code == status
    assert error.details["error"]["details"][0]["reason"] == code


SDKS = {
    "openai": (ask_openai, check_openai),
    "anthropic": (ask_anthropic, check_anthropic),
    "google-genai": (ask_genai, check_genai),
}


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize(
    "code", [pytest.param(code, marks=OWN_RIGS.get(code, ())) for code in SCENES]
)
async def test_each_sdk_raises_its_own_exception(rig: Rig, code: str, sdk: str):
    if (code, sdk) == ("model_missing", "google-genai"):
        pytest.skip("this SDK itself refuses an empty model")
    ask, check = SDKS[sdk]
    scene = await SCENES[code](rig)
    try:
        with pytest.raises(
            (openai.OpenAIError, anthropic.AnthropicError, errors.APIError)
        ) as caught:
            await ask(rig.url, scene)
        check(caught.value, code, ERRORS[ErrorCode(code)].status)
    finally:
        for clean in scene.clean_up:
            clean()


def test_every_code_of_the_data_plane_is_driven():
    from xairouter.errors import _CALLS

    assert {row.code for row in _CALLS} == set(SCENES) | set(ELSEWHERE)
