"""Why a provider failed a call, and how long it wants to be left alone."""

import time

import pytest

from tests.rows import for_each
from xairouter.domain.failures import Cause
from xairouter.domain.said import Said, read_error
from xairouter.policy.failures import LONGEST_WAIT, classify, wait_of
from xairouter.providers.interface import SIGNS
from xairouter.providers.table import PROVIDERS

NOW_MS = 1_780_000_000_000


@for_each(
    ("status", "body", "cause"),
    [
        (400, b'{"error":{"message":"max_tokens is too large"}}', Cause.CLIENT),
        (
            400,
            b"Your credit balance is too low to access the Anthropic API. Please go to Plans & "
            b"Billing to upgrade or purchase credits.",
            Cause.OUT_OF_CREDIT,
        ),
        (402, b"Insufficient Balance", Cause.OUT_OF_CREDIT),
        (403, b"Your organization must be verified", Cause.ABSENT),
        (404, b'{"error":{"code":"model_not_found"}}', Cause.ABSENT),
        (404, b"no such stored response", Cause.CLIENT),
        (413, b"", Cause.CLIENT),
        (422, b"", Cause.CLIENT),
        (429, b"Rate limit reached for requests", Cause.LIMITED),
        (429, b'{"error":{"code":"insufficient_quota"}}', Cause.OUT_OF_CREDIT),
        (429, b"<html><body>error code: 1015</body></html>", Cause.ADDRESS),
        (500, b"", Cause.FAILED),
        (503, b"", Cause.OVERLOADED),
        (529, b'{"error":{"type":"overloaded_error"}}', Cause.OVERLOADED),
    ],
)
def test_the_class_follows_the_cause(status: int, body: bytes, cause: str):
    assert classify(status, {}, body, SIGNS, NOW_MS).cause == cause


@pytest.mark.parametrize(
    ("provider", "status", "body"),
    [
        ("xai", 403, b"Your team has used all available credits"),
        ("siliconflow", 403, b"Sorry, your account balance is insufficient"),
        ("moonshot", 429, b'{"error":{"type":"exceeded_current_quota_error"}}'),
        ("zhipu", 429, b'{"error":{"code":"1113"}}'),
    ],
)
def test_a_provider_s_own_words_for_an_empty_account_are_in_its_row(provider, status, body):
    assert (
        classify(status, {}, body, PROVIDERS[provider].signs, NOW_MS).cause == Cause.OUT_OF_CREDIT
    )


@for_each(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Thu, 28 May 2026 20:27:10 GMT"}, 30),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-tokens": "1m2s",
                "x-ratelimit-remaining-tokens": "0",
            },
            62,
        ),
        ({"x-ratelimit-reset": str(NOW_MS + 4000)}, 4),
        ({"x-ratelimit-reset": str(NOW_MS // 1000 + 4)}, 4),
        (
            {
                "anthropic-ratelimit-input-tokens-reset": "2026-05-28T20:26:52Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-05-28T20:26:41Z",
                "anthropic-ratelimit-requests-remaining": "99",
            },
            12,
        ),
        ({}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e99"}, None),
        ({"retry-after": "9" * 19}, LONGEST_WAIT),
        ({"retry-after": "-5"}, None),
        ({"x-ratelimit-reset-requests": "nan"}, None),
        ({"anthropic-ratelimit-requests-reset": "yesterday"}, None),
    ],
)
def test_the_provider_s_own_wait_is_read(headers, seconds):
    found = wait_of(headers, Said(), NOW_MS)
    assert found == (pytest.approx(seconds, abs=0.01) if seconds is not None else None)


def test_gemini_says_it_in_the_body():
    detail = b'{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}'
    body = b'{"error":{"details":[%s]}}' % detail
    assert wait_of({}, read_error(body), NOW_MS) == 34


def test_an_instant_without_a_zone_is_utc_wherever_the_machine_stands(monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        headers = {"anthropic-ratelimit-requests-reset": "2026-05-28T20:26:52"}
        assert wait_of(headers, Said(), NOW_MS) == pytest.approx(12, abs=0.01)
    finally:
        monkeypatch.undo()
        time.tzset()
