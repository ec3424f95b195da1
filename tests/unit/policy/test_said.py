"""What an error says of a key is read where the provider speaks, never where it quotes its client."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.rows import for_each
from xairouter.domain.failures import Cause
from xairouter.domain.said import Mark, read_error
from xairouter.policy.failures import classify
from xairouter.providers.interface import SIGNS
from xairouter.providers.table import CUSTOM, PROVIDERS

NOW_MS = 1_780_000_000_000
ROWS = {**PROVIDERS, "custom": CUSTOM}


def _marks() -> set[Mark]:
    return {
        mark
        for row in ROWS.values()
        for mark in (*row.rejections, *(sign.mark for sign in row.signs))
    }


# Rows with the same marks are one case.
DISTINCT = list({(row.rejections, row.signs): name for name, row in ROWS.items()}.values())
TEXTS = sorted(
    {mark.word or mark.message.replace("…", " x ") for mark in _marks()}
    | {mark.message.split("…")[0] for mark in _marks()}
    | {"credits", "balance", "API key", "credit balance is too low", "<html", "1113"}
    | {json.dumps({"retryDelay": "3000s"}), json.dumps({"error": {"code": "insufficient_quota"}})}
)


def _google(text: str) -> object:
    said = f'Invalid JSON payload received. Unknown name "{text}": Cannot find field.'
    bad = {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": text, "description": said, "reason": text}],
        "reason": text,
    }
    about = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SOMETHING",
        "metadata": {"reason": text, "value": text},
    }
    error = {"code": 400, "message": said, "status": "INVALID_ARGUMENT", "details": [bad, about]}
    return {"error": error}


def _openai(text: str, message: str) -> object:
    error = {"message": message.format(text), "type": "invalid_request_error"}
    return {"error": {**error, "param": text, "code": "unknown_parameter"}}


QUOTES: dict[str, Callable[[str], object]] = {
    "openai, a name": lambda text: _openai(text, "Unknown parameter: '{}'."),
    "openai, a value": lambda text: _openai(text, "Invalid value: '{}'. Supported: 'low'."),
    "openai, the end": lambda text: _openai(text, "Unrecognized request argument supplied: {}"),
    "anthropic, a header": lambda text: {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": f"Unexpected value(s) `{text}` for the `anthropic-beta` header.",
        },
    },
    "google, a name": _google,
    "google, in a list": lambda text: [_google(text)],
    "fastapi": lambda text: {
        "detail": [
            {"type": "extra_forbidden", "loc": ["body", text], "msg": "Extra inputs", "input": text}
        ]
    },
    "vllm": lambda text: {
        "object": "error",
        "message": f"[{{'type': 'extra_forbidden', 'loc': ('body', '{text}')}}]",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    },
    "xai": lambda text: {"code": "invalid-argument", "error": f"unknown field `{text}`"},
    "groq": lambda text: {
        "error": {
            "message": "Failed to call a function.",
            "type": "invalid_request_error",
            "code": "tool_use_failed",
            "failed_generation": text,
        }
    },
    "openrouter": lambda text: {
        "error": {
            "message": "Provider returned error",
            "code": 400,
            "metadata": {"raw": text, "reasons": [text], "flagged_input": text, "code": text},
        }
    },
    "a text": lambda text: f"Bad request: {text}",
    "a page": lambda text: f"Cannot POST {text}",
}
FIRST: dict[str, Callable[[str], object]] = {
    "anthropic, a name": lambda text: {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": f"{text}: Extra inputs are not permitted",
        },
    },
    "a text that begins with it": lambda text: f"{text} is not a known field",
    "a detail": lambda text: {"detail": f"{text} is not a known field"},
}
"""Places at which the message begins with the client's text."""


def _said(row: str, status: int, reply: object) -> tuple[bool, Cause, float | None]:
    """(whether the key is rejected, why it failed, how long to wait)."""
    body = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
    provider = ROWS[row]
    failure = classify(status, {}, body, provider.signs, NOW_MS)
    said = read_error(body)
    rejects = any(mark.fits(status, said) for mark in provider.rejections)
    return rejects, failure.cause, failure.wait


@for_each("place", [*QUOTES, *FIRST])
@for_each("row", DISTINCT)
def test_a_client_s_text_that_is_quoted_says_nothing_of_the_key(row: str, place: str):
    quote = QUOTES.get(place) or FIRST[place]
    for status in (400, 404) if place in FIRST else (400, 403, 404, 429):
        plain = _said(row, status, quote("colour"))
        for text in TEXTS:
            assert _said(row, status, quote(text)) == plain, (status, text)


@for_each("row", ROWS)
def test_every_mark_of_a_row_is_found_where_the_provider_speaks(row: str):
    for mark in (*ROWS[row].rejections, *(sign.mark for sign in ROWS[row].signs)):
        assert 400 <= mark.status < 600
        if mark.word:
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": mark.word}
            coded: list[Any] = [
                {"error": {"code": mark.word, "message": "x"}},
                {"error": {"type": mark.word, "message": "x"}},
                {"code": mark.word, "message": "x"},
                {"error": {"status": mark.word, "details": [info]}},
                [{"error": {"details": [info]}}],
            ]
            for reply in coded:
                assert mark.fits(mark.status, read_error(json.dumps(reply).encode()))
                assert not mark.fits(mark.status + 1, read_error(json.dumps(reply).encode()))
        elif mark.message:
            text = mark.message.replace("…", " 1234 ")
            told: list[Any] = [
                {"error": {"message": text}},
                {"error": text},
                {"message": text},
                text,
            ]
            for reply in told:
                body = reply if isinstance(reply, str) else json.dumps(reply)
                assert mark.fits(mark.status, read_error(body.encode()))


@pytest.mark.parametrize(
    ("status", "message"),
    [(0, ""), (200, ""), (600, ""), (429, "… credits"), (400, "Credits…"), (422, "Credits…")],
)
def test_a_mark_that_any_reply_might_have_cannot_be_written(status: int, message: str):
    with pytest.raises(ValueError, match=r"mark|message"):
        Mark(status, message=message)


CREDITS = (
    "Your team 16f2151a has either used all available credits or reached its monthly spending "
    "limit. To continue making API requests, please purchase more credits or raise your limit."
)
NEW_TEAM = (
    "Your newly created team doesn't have any credits or licenses yet. You can purchase those on "
    "https://console.x.ai/team/481c."
)
BALANCE = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to "
    "upgrade or purchase credits."
)
INFO = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}
BAD_KEY = {
    "error": {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [INFO],
    }
}
LEAKED = {
    "error": {
        "code": 403,
        "message": "Your API key was reported as leaked. Please use another API key.",
        "status": "PERMISSION_DENIED",
    }
}


@for_each(
    ("row", "status", "reply", "expected"),
    [
        ("gemini", 400, BAD_KEY, "rejected"),
        ("gemini", 400, [BAD_KEY], "rejected"),
        ("gemini", 403, LEAKED, "rejected"),
        ("openai", 401, {"error": {"code": "invalid_api_key"}}, "rejected"),
        ("mistral", 401, {"detail": "Invalid API Key"}, "rejected"),
        ("xai", 429, {"code": "exhausted", "error": CREDITS}, Cause.OUT_OF_CREDIT),
        ("xai", 403, {"code": "permission-denied", "error": NEW_TEAM}, Cause.OUT_OF_CREDIT),
        (
            "xai",
            429,
            {"code": "x", "error": "Too many requests for team 16f2151a and model grok-4."},
            Cause.LIMITED,
        ),
        (
            "anthropic",
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": BALANCE}},
            Cause.OUT_OF_CREDIT,
        ),
        (
            "siliconflow",
            403,
            {"code": 30001, "message": "Sorry, your account balance is insufficient"},
            Cause.OUT_OF_CREDIT,
        ),
        ("zhipu", 429, {"error": {"code": "1305", "message": "overloaded"}}, Cause.LIMITED),
        ("zhipu", 429, {"error": {"code": 1113, "message": "余额不足"}}, Cause.OUT_OF_CREDIT),
        ("openai", 400, {"error": {"code": "billing_hard_limit_reached"}}, Cause.OUT_OF_CREDIT),
        ("openai", 429, {"error": {"code": "billing_not_active"}}, Cause.OUT_OF_CREDIT),
        ("openai", 403, "\n<!DOCTYPE html>\n<html lang=en>", Cause.ADDRESS),
        ("openai", 429, "error code: 1015", Cause.ADDRESS),
        (
            "openrouter",
            402,
            {
                "error": {
                    "message": "This request requires more credits, or fewer max_tokens. You "
                    "requested up to 16384 tokens, but can only afford 3919. To increase, visit "
                    "the settings and add more credits",
                    "code": 402,
                }
            },
            Cause.TOO_LARGE,
        ),
        (
            "openrouter",
            402,
            {"error": {"message": "Prompt tokens limit exceeded: 230799 > 91442. To increase, …"}},
            Cause.TOO_LARGE,
        ),
        ("openrouter", 402, {"error": {"message": "Insufficient credits"}}, Cause.OUT_OF_CREDIT),
        (
            "openai",
            429,
            {
                "error": {
                    "message": "Request too large for gpt-4o in organization org-x on tokens per "
                    "min (TPM): Limit 30000, Requested 40000.",
                    "type": "tokens",
                    "code": "rate_limit_exceeded",
                }
            },
            Cause.TOO_LARGE,
        ),
        (
            "anthropic",
            429,
            {
                "type": "error",
                "error": {
                    "type": "rate_limit_error",
                    "message": "Extra usage is required for long context requests.",
                },
            },
            Cause.TOO_LARGE,
        ),
    ],
)
def test_what_providers_really_say(row: str, status: int, reply: object, expected: str):
    rejects, cause, _ = _said(row, status, reply)
    assert ("rejected" if rejects else cause) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"[1]",
        b"{",
        b"[" * 60_000,
        b'{"error":null}',
        b"\xff\xfe",
        b"9" * 60_000,
        b'{"error":{"details":{"a":1},"code":{},"message":[]},"type":null}',
        b'{"error":{"details":[1,{"@type":5,"reason":"x"},{"@type":"/google.rpc.RetryInfo"}]}}',
    ],
)
def test_a_reply_that_says_nothing_has_no_words(body: bytes):
    assert read_error(body).words == frozenset()
    assert classify(400, {}, body, SIGNS, NOW_MS).cause == Cause.CLIENT
