"""Every public error in every dialect: the shape that its official SDK reads."""

import json

import pytest

from tests.rows import for_each
from xairouter.dialects.table import DIALECTS
from xairouter.domain.calls import Refusal
from xairouter.errors import ERRORS, ErrorCode

CODES = list(ERRORS.values())


@for_each("row", CODES)
@for_each("name", DIALECTS)
def test_a_refusal_has_the_dialect_s_shape(name: str, row):
    refusal = Refusal(row.code, "A sentence.", "model")
    body = json.loads(DIALECTS[name].refuse(row, refusal, "call_1"))
    if name == "anthropic_messages":
        assert set(body) == {"type", "error", "request_id"}
        assert body["type"] == "error"
        assert set(body["error"]) == {"type", "message"}
        assert body["error"]["type"].endswith(("_error", "_too_large"))
    elif name == "gemini_generate":
        error = body["error"]
        assert error["code"] == row.status
        assert error["status"].replace("_", "").isupper()
        assert error["details"][0]["reason"] == row.code
    else:
        assert body == {
            "error": {
                "message": "A sentence.",
                "type": body["error"]["type"],
                "param": "model",
                "code": row.code,
            }
        }
    assert "A sentence." in json.dumps(body)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_refusal_inside_a_stream_is_one_whole_event(name: str):
    row = ERRORS[ErrorCode.UPSTREAM_UNREACHABLE]
    event = DIALECTS[name].refuse_midstream(row, Refusal(row.code, "Gone."), "call_1")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n\n") == 1
    data = next(line for line in event.split(b"\n") if line.startswith(b"data: "))
    assert b"Gone." in json.dumps(json.loads(data[6:])).encode()
    assert b"[DONE]" not in event


def test_every_error_says_what_it_means_and_what_to_do():
    for row in CODES:
        assert row.meaning.endswith(".")
        assert row.remedy.endswith(".")
        assert 400 <= row.status < 600
