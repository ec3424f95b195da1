"""What a request's input is taken for: letters are text wherever a provider reads them as text."""

import json
from typing import Any

import pytest

from tests.rows import for_each
from xairouter.accounting.reservation import TOKENS_PER_FILE, TOKENS_PER_IMAGE
from xairouter.dialects.media import MOST_OBJECTS, input_tokens_of

RUN = "a" * 2_000_000
IMAGE = f"data:image/png;base64,{RUN}"


def _user(content: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


AS_TEXT: dict[str, Any] = {
    "a string": _user(RUN),
    "a text part": _user([{"type": "text", "text": RUN}]),
    "text that looks like a data URL": _user(IMAGE),
    "a text part that looks like one": _user([{"type": "text", "text": IMAGE}]),
    "a prompt": {"model": "m", "prompt": RUN},
    "a prompt in a list": {"model": "m", "prompt": [IMAGE]},
    "responses input": {"model": "m", "input": IMAGE},
    "a system prompt": {"model": "m", "system": IMAGE, "messages": []},
    "instructions": {"model": "m", "instructions": IMAGE, "input": "x"},
    "gemini text": {"contents": [{"parts": [{"text": IMAGE}]}]},
    "a tool's description": _user("x") | {"tools": [{"name": "t", "description": IMAGE}]},
    "a tool's schema": _user("x")
    | {
        "tools": [
            {"name": "t", "input_schema": {"source": {"media_type": "image/png", "data": RUN}}}
        ]
    },
    "what a tool was called with": _user(
        [{"type": "tool_use", "input": {"source": {"media_type": "image/png", "data": RUN}}}]
    ),
    "what a function was called with": {
        "contents": [
            {
                "parts": [
                    {
                        "functionCall": {
                            "args": {"inlineData": {"mimeType": "image/png", "data": RUN}}
                        }
                    }
                ]
            }
        ]
    },
    "a document": _user(
        [
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "text/plain", "data": RUN},
            }
        ]
    ),
    "a file": _user(
        [{"type": "file", "file": {"file_data": f"data:application/pdf;base64,{RUN}"}}]
    ),
}
AS_IMAGE: dict[str, Any] = {
    "chat": _user([{"type": "image_url", "image_url": {"url": IMAGE}}]),
    "messages": _user(
        [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": RUN}}]
    ),
    "a tool's result": _user(
        [
            {
                "type": "tool_result",
                "content": [{"type": "image", "source": {"media_type": "image/jpeg", "data": RUN}}],
            }
        ]
    ),
    "responses": {
        "model": "m",
        "input": [{"content": [{"type": "input_image", "image_url": IMAGE}]}],
    },
    "a screenshot": {
        "model": "m",
        "input": [{"type": "computer_call_output", "output": {"image_url": IMAGE}}],
    },
    "gemini": {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": RUN}}]}]},
}


@for_each("case", AS_TEXT)
def test_letters_count_as_text_wherever_no_provider_decodes_them(case: str):
    assert input_tokens_of(json.dumps(AS_TEXT[case]).encode()) >= len(RUN) // 4


@pytest.mark.parametrize("case", AS_IMAGE)
def test_an_image_in_a_message_counts_as_one(case: str):
    found = input_tokens_of(json.dumps(AS_IMAGE[case]).encode())
    assert TOKENS_PER_IMAGE <= found < TOKENS_PER_IMAGE + 100


def test_sound_counts_by_its_length():
    part = {"type": "input_audio", "input_audio": {"format": "mp3", "data": RUN}}
    assert len(RUN) // 30 < input_tokens_of(json.dumps(_user([part])).encode()) < len(RUN) // 10


def test_linked_images_count_too():
    part = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    assert input_tokens_of(json.dumps(_user([part] * 3)).encode()) >= 3 * TOKENS_PER_IMAGE


@for_each(
    "part",
    [
        {"type": "input_file", "file_url": "https://x.example/a.pdf"},
        {"type": "document_url", "document_url": "https://x.example/a.pdf"},
        {"type": "video_url", "video_url": {"url": "https://x.example/a.mp4"}},
        {"type": "audio_url", "audio_url": {"url": "https://x.example/a.mp3"}},
        {"fileData": {"fileUri": "https://x.example/watch"}},
        {"file_data": {"file_uri": "https://x.example/watch"}},
        {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}},
    ],
)
@for_each("text", ["", "x " * 30_000])
def test_files_and_films_at_an_address_count_too(part: dict[str, Any], text: str):
    body = json.dumps(_user([part, {"type": "text", "text": text}, part])).encode()
    found = input_tokens_of(body) - len(body) // 4
    assert 2 * TOKENS_PER_FILE <= found <= 2 * (TOKENS_PER_FILE + TOKENS_PER_IMAGE) + 1


PDF = "data:application/pdf;base64,JVBERi0x"


@for_each(
    "part",
    [
        {"type": "file", "file": {"file_data": PDF}},
        {"type": "input_file", "file_data": PDF},
        {"type": "document_url", "document_url": PDF},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"},
        },
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0x"}},
        {"inline_data": {"mime_type": "application/pdf", "data": "JVBERi0x"}},
    ],
)
@for_each("text", ["", "x " * 30_000])
def test_documents_in_a_body_count_as_files_for_their_pages_are_compressed(
    part: dict[str, Any], text: str
):
    for written in (json.dumps, lambda body: json.dumps(body).replace("n/pdf", "n\\/pdf")):
        body = written(_user([part, {"type": "text", "text": text}, part])).encode()
        found = input_tokens_of(body) - len(body) // 4
        assert 2 * TOKENS_PER_FILE <= found <= 2 * (TOKENS_PER_FILE + TOKENS_PER_IMAGE) + 1


def test_a_type_of_content_in_a_schema_is_no_document():
    schema = {"contentMediaType": "application/pdf", "mimeType": "application/json"}
    body = json.dumps({"messages": [], "tools": [{"function": {"parameters": schema}}]}).encode()
    assert input_tokens_of(body) < len(body)


def test_an_image_by_its_address_is_no_file():
    part = {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}
    body = json.dumps(_user([part] * 3)).encode()
    assert input_tokens_of(body) <= 3 * TOKENS_PER_IMAGE + len(body)


def test_a_body_of_many_objects_is_all_text():
    body = json.dumps(AS_IMAGE["chat"])[:-1] + ',"x":[' + "{}," * MOST_OBJECTS + "{}]}"
    assert input_tokens_of(body.encode()) >= len(body) // 4


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 5000, b'{"messages":' + b"[" * 5000, b"\xff" * 5000]
)
def test_what_cannot_be_read_is_text(body: bytes):
    assert input_tokens_of(body) == -(-len(body) // 4)
