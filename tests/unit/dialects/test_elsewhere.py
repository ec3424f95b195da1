"""Whether a body gives an address at which more input stands, however it is written."""

import json
from typing import Any

import pytest

from tests.rows import for_each
from xairouter.dialects.elsewhere import (
    has_address_in_steps,
    holds_media,
    holds_media_in_steps,
    reads_elsewhere,
)
from xairouter.domain.calls import PLAIN, Peek
from xairouter.domain.steps import at_once

URL = "https://x.example/a"
PADDING = "x" * 40_000
ADDRESSES: tuple[str, ...] = (
    f'{{"file_url":"{URL}"}}',
    f'{{"file_url"  \n : "{URL}"}}',
    '{"file_url":"https:\\/\\/x.example"}',
    f'{{"file\\u005furl":"{URL}"}}',
    f'{{"\\u0066ile_url":"{URL}"}}',
    f'{{"image_url":{{"detail":"high","url":"{URL}"}}}}',
    f'{{"image_url":{{"url":"{URL}"}}}}',
    f'{{"video_url":["{URL}"]}}',
    f'{{"fileUri":"{URL}"}}',
    f'{{"file_uri":"{URL}"}}',
    f'{{"source":{{"type" : "url","url":"{URL}"}}}}',
    f'{{"input_audio":{{"data":"{URL}"}}}}',
    f'{{"video":["{URL}"]}}',
    '{"document":"gs://bucket/one"}',
)
NONE: tuple[Any, ...] = (
    {"image_url": "data:image/png;base64,aaaa"},
    {"image_url": {"url": "data:image/png;base64,aaaa"}},
    {"image_url": None},
    {"text": f'"file_url": "{URL}"'},
    {"text": URL},
    {"parameters": {"$schema": URL}},
    {"text": "Urgent, in an urn: a \u00e9clair"},
    {"data": "aaaa"},
)


@for_each("body", ADDRESSES)
@for_each("before", [0, *range(32_700, 32_790, 3)])
def test_an_address_is_seen_wherever_it_stands(body: str, before: int):
    whole = f'{{"p":"{"x" * before}","q":{body}}}'.encode()
    assert at_once(has_address_in_steps(whole))
    assert reads_elsewhere(Peek("m"), PLAIN, whole)


@pytest.mark.parametrize("body", NONE)
def test_what_stands_in_the_body_is_no_address(body: Any):
    for spaces in ((",", ":"), (", ", ": ")):
        whole = json.dumps({"q": body, "p": PADDING}, separators=spaces).encode()
        assert not at_once(has_address_in_steps(whole))
        assert not reads_elsewhere(Peek("m"), PLAIN, whole)


MEDIA: tuple[str, ...] = (
    '{"image_url":"data:image/png;base64,aaaa"}',
    '{"image_url":{"detail":"high","url" : "data:image/png;base64,aaaa"}}',
    '{"file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,aaaa"}}',
    '{"file_data"  :  "aaaa"}',
    '{"document_url":"data:application\\/pdf;base64,aaaa"}',
    '{"source":{"type" : "base64","media_type":"application/pdf","data":"aaaa"}}',
    '{"inlineData":{"mimeType":"application/pdf","data":"aaaa"}}',
    '{"inline_data" : {"data":"aaaa"}}',
    '{"input_audio":{"data":"aaaa","format":"mp3"}}',
    '{"video":["data:video/mp4;base64,aaaa"]}',
)


@for_each("body", MEDIA)
@for_each("before", [0, *range(32_700, 32_790, 3)])
def test_media_are_seen_wherever_they_stand(body: str, before: int):
    whole = f'{{"p":"{"x" * before}","q":{body}}}'.encode()
    assert holds_media(whole)
    assert at_once(holds_media_in_steps(whole))


@for_each("text", [PADDING, '"data:image/png;base64,aaaa"', '{"inlineData": {}}', "base64"])
def test_text_holds_no_media(text: str):
    whole = json.dumps(
        {"q": text, "type": "text", "data": "x", "schema": {"type": "image"}}
    ).encode()
    assert not holds_media(whole)
    assert not at_once(holds_media_in_steps(whole))
