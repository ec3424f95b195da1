"""What the stand-in says in each dialect: small, plausible, and with countable usage.

It echoes the last user text; it calls the first tool it is offered, once; every text costs one
token a word. Shapes follow the providers' own documentation of today.
"""

import base64
import struct
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from xairouter.standin.faults import Reply

Json = dict[str, Any]
MODELS = ("demo-large", "demo-small", "demo-embed")
_JSON = (("content-type", "application/json"),)
_EVENTS = (("content-type", "text/event-stream; charset=utf-8"),)


def words(value: object) -> int:
    """Tokens of anything JSON: its words."""
    return max(1, len(msgspec.json.encode(value).split()) + len(str(value)) // 40)


def whole(document: Json, status: int = 200) -> Reply:
    return Reply(status, _JSON, msgspec.json.encode(document))


def data_events(documents: Iterable[Json], *, done: bool = False) -> tuple[bytes, ...]:
    events = [b"data: " + msgspec.json.encode(document) + b"\n\n" for document in documents]
    return (*events, b"data: [DONE]\n\n") if done else tuple(events)


def named_events(documents: Iterable[Json]) -> tuple[bytes, ...]:
    return tuple(
        b"event: "
        + document["type"].encode()
        + b"\ndata: "
        + msgspec.json.encode(document)
        + b"\n\n"
        for document in documents
    )


def _text_of(content: object) -> str:
    """The text of a message's content in any dialect."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(
            _text_of(part.get("text", "")) for part in content if isinstance(part, dict)
        )
    return ""


def _last_user(messages: object) -> str:
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            text = _text_of(message.get("content") or message.get("parts"))
            if text:
                return text
    return "nothing"


def _answer(text: str) -> str:
    return f"You said: {text}"


def _structured(schema: object) -> str:
    """The smallest document that fits a simple JSON schema."""
    kinds: dict[str, Any] = {
        "string": "text",
        "integer": 1,
        "number": 1.5,
        "boolean": True,
        "array": [],
        "object": {},
        "null": None,
    }

    def build(part: Any) -> Any:
        if not isinstance(part, dict):
            return "text"
        if part.get("enum"):
            return part["enum"][0]
        if part.get("type") == "object" or "properties" in part:
            return {name: build(inner) for name, inner in part.get("properties", {}).items()}
        return kinds.get(str(part.get("type", "string")).lower(), "text")

    return msgspec.json.encode(build(schema)).decode()


def _arguments(schema: object) -> Json:
    """Arguments for a tool call that fit the tool's schema."""
    built = msgspec.json.decode(_structured(schema if isinstance(schema, dict) else {}))
    return built if isinstance(built, dict) else {}


def _arguments_text(schema: object) -> str:
    return msgspec.json.encode(_arguments(schema)).decode()


def _chat_usage(body: Json, text: str) -> Json:
    given, made = words(body.get("messages", body.get("prompt", ""))), words(text)
    return {
        "prompt_tokens": given,
        "completion_tokens": made,
        "total_tokens": given + made,
        "prompt_tokens_details": {"cached_tokens": given // 2},
        "completion_tokens_details": {"reasoning_tokens": made // 2},
    }


def _chat_tool_call(body: Json, call: int) -> Json | None:
    """A call of the first tool that is offered, unless the last message is a tool's answer."""
    messages, tools = body.get("messages") or [], body.get("tools") or []
    if not tools or not messages or messages[-1].get("role") == "tool":
        return None
    function = tools[0].get("function", {})
    return {
        "id": f"call_{call}",
        "type": "function",
        "function": {
            "name": function.get("name", "tool"),
            "arguments": _arguments_text(function.get("parameters")),
        },
    }


def chat(body: Json, call: int) -> Reply:
    """POST …/chat/completions."""
    messages = body.get("messages") or []
    text = _answer(_last_user(messages))
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    if schema is not None:
        text = _structured(schema)
    usage = _chat_usage(body, text)
    base: Json = {"id": f"chatcmpl-{call}", "created": 1_760_000_000, "model": body["model"]}
    tool_call = _chat_tool_call(body, call)
    finish = "tool_calls" if tool_call else "stop"
    if not body.get("stream"):
        message: Json = {
            "role": "assistant",
            "content": None if tool_call else text,
            "refusal": None,
        }
        if tool_call:
            message["tool_calls"] = [tool_call]
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        return whole(
            {
                **base,
                "object": "chat.completion",
                "choices": [choice],
                "usage": usage,
                "service_tier": "default",
            }
        )
    base["object"] = "chat.completion.chunk"
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    if tool_call:
        deltas.append({"tool_calls": [{"index": 0, **tool_call}]})
    else:
        deltas += [{"content": word + " "} for word in text.split(" ")]
    chunks = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks = [{**chunk, "usage": None} for chunk in chunks]
        chunks.append({**base, "choices": [], "usage": usage})
    return Reply(200, _EVENTS, events=data_events(chunks, done=True))


def completions(body: Json, call: int) -> Reply:
    """POST …/completions."""
    text = _answer(str(body.get("prompt", "")))
    base = {
        "id": f"cmpl-{call}",
        "object": "text_completion",
        "created": 1_760_000_000,
        "model": body["model"],
    }
    usage = _chat_usage(body, text)
    if not body.get("stream"):
        choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
        return whole({**base, "choices": [choice], "usage": usage})
    chunks: list[Json] = [
        {**base, "choices": [{"index": 0, "text": word + " ", "finish_reason": None}]}
        for word in text.split(" ")
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**base, "choices": [], "usage": usage})
    return Reply(200, _EVENTS, events=data_events(chunks, done=True))


def embeddings(body: Json, call: int) -> Reply:
    """POST …/embeddings, floats or base64."""
    given = body.get("input", "")
    inputs = given if isinstance(given, list) else [given]
    vector = [0.125, -0.25, 0.5]
    shown: Any = vector
    if body.get("encoding_format") == "base64":
        shown = base64.b64encode(struct.pack("<3f", *vector)).decode()
    data = [{"object": "embedding", "index": at, "embedding": shown} for at in range(len(inputs))]
    used = words(inputs)
    return whole(
        {
            "object": "list",
            "model": body["model"],
            "data": data,
            "usage": {"prompt_tokens": used, "total_tokens": used},
        }
    )


def _response_item(body: Json, call: int, text: str) -> Json:
    """The one item of a response's output: a call of the first function, or the text."""
    given = body.get("input", "")
    tools = [tool for tool in body.get("tools") or [] if tool.get("type") == "function"]
    answered = isinstance(given, list) and any(
        item.get("type") == "function_call_output" for item in given
    )
    if tools and not answered:
        return {
            "type": "function_call",
            "id": f"fc_{call}",
            "call_id": f"call_{call}",
            "name": tools[0]["name"],
            "status": "completed",
            "arguments": _arguments_text(tools[0].get("parameters")),
        }
    return {
        "type": "message",
        "id": f"msg_{call}",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def _response(body: Json, call: int) -> Json:
    given = body.get("input", "")
    text = _answer(given if isinstance(given, str) else _last_user(given))
    schema = ((body.get("text") or {}).get("format") or {}).get("schema")
    if schema is not None:
        text = _structured(schema)
    output = _response_item(body, call, text)
    used, made = words(given), words(text)
    return {
        "id": f"resp_standin{call}",
        "object": "response",
        "created_at": 1_760_000_000,
        "status": "completed",
        "model": body["model"],
        "output": [output],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "previous_response_id": body.get("previous_response_id"),
        "store": body.get("store", True) is not False,
        "service_tier": "default",
        "usage": {
            "input_tokens": used,
            "input_tokens_details": {"cached_tokens": used // 2},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": made // 2},
            "total_tokens": used + made,
        },
    }


def _text_events(item: Json) -> list[Json]:
    text = item["content"][0]["text"]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": []}
    return [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": empty},
        *(
            {"type": "response.output_text.delta", **place, "delta": word + " ", "logprobs": []}
            for word in text.split(" ")
        ),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": item["content"][0]},
    ]


def _function_events(item: Json) -> list[Json]:
    place = {"item_id": item["id"], "output_index": 0}
    return [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "arguments": "", "status": "in_progress"},
        },
        {"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"]},
        {
            "type": "response.function_call_arguments.done",
            **place,
            "name": item["name"],
            "arguments": item["arguments"],
        },
    ]


def responses(body: Json, call: int) -> Reply:
    """POST …/responses. In the background, it has hardly begun."""
    document = _response(body, call)
    if not body.get("stream"):
        if body.get("background"):
            document |= {"status": "queued", "output": [], "usage": None}
        return whole(document)
    return response_events(document)


def response_events(document: Json) -> Reply:
    """A response as a stream, also of one that is stored."""
    item = document["output"][0]
    opened = {**document, "status": "in_progress", "output": [], "usage": None}
    events: list[Json] = [
        {"type": "response.created", "response": opened},
        {"type": "response.in_progress", "response": opened},
    ]
    events += _text_events(item) if item["type"] == "message" else _function_events(item)
    events += [
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": document},
    ]
    numbered = [{**event, "sequence_number": at} for at, event in enumerate(events)]
    return Reply(200, _EVENTS, events=named_events(numbered))


def _message_blocks(body: Json, call: int, text: str) -> list[Json]:
    """A message's content: a thought where thinking is on, then a tool call or the text."""
    asked = body.get("messages") or []
    blocks: list[Json] = []
    if (body.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
        blocks.append({"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"})
    tools = [tool for tool in body.get("tools") or [] if "input_schema" in tool]
    answered = (
        bool(asked)
        and isinstance(asked[-1].get("content"), list)
        and any(part.get("type") == "tool_result" for part in asked[-1]["content"])
    )
    if tools and not answered:
        blocks.append(
            {
                "type": "tool_use",
                "id": f"toolu_{call}",
                "name": tools[0]["name"],
                "input": _arguments(tools[0]["input_schema"]),
            }
        )
    else:
        blocks.append({"type": "text", "text": text})
    return blocks


def messages(body: Json, call: int) -> Reply:
    """POST /v1/messages."""
    asked = body.get("messages") or []
    text = _answer(_last_user(asked))
    blocks = _message_blocks(body, call, text)
    stop = "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn"
    given, made = words(asked), words(text)
    caches = b"cache_control" in msgspec.json.encode(body)
    usage = {
        "input_tokens": given,
        "cache_read_input_tokens": 5 if caches else 0,
        "cache_creation_input_tokens": 7 if caches else 0,
        "output_tokens": made,
        "cache_creation": {
            "ephemeral_5m_input_tokens": 7 if caches else 0,
            "ephemeral_1h_input_tokens": 0,
        },
        "service_tier": "standard",
    }
    base: Json = {
        "id": f"msg_{call}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
    }
    if not body.get("stream"):
        return whole(
            {**base, "content": blocks, "stop_reason": stop, "stop_sequence": None, "usage": usage}
        )
    started = {
        **base,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 1},
    }
    events: list[Json] = [{"type": "message_start", "message": started}, {"type": "ping"}]
    for at, block in enumerate(blocks):
        events += _block_events(at, block)
    events += [
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop, "stop_sequence": None},
            "usage": {"output_tokens": made},
        },
        {"type": "message_stop"},
    ]
    return Reply(200, _EVENTS, events=named_events(events))


def _block_events(at: int, block: Json) -> list[Json]:
    kind = block["type"]
    if kind == "text":
        start: Json = {"type": "text", "text": ""}
        deltas: list[Json] = [
            {"type": "text_delta", "text": word + " "} for word in block["text"].split(" ")
        ]
    elif kind == "thinking":
        start = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [
            {"type": "thinking_delta", "thinking": block["thinking"]},
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    else:
        start = {**block, "input": {}}
        deltas = [
            {
                "type": "input_json_delta",
                "partial_json": msgspec.json.encode(block["input"]).decode(),
            }
        ]
    return [
        {"type": "content_block_start", "index": at, "content_block": start},
        *({"type": "content_block_delta", "index": at, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": at},
    ]


def count_tokens(body: Json, call: int) -> Reply:
    """POST /v1/messages/count_tokens and …/responses/input_tokens."""
    used = words(body.get("messages", body.get("input", "")))
    return whole({"object": "response.input_tokens", "input_tokens": used})


def compact(body: Json, call: int) -> Reply:
    """POST …/responses/compact."""
    document = _response(body, call)
    return whole(
        {
            "id": document["id"],
            "object": "response.compaction",
            "created_at": 1,
            "output": document["output"],
            "usage": document["usage"],
        }
    )


def gemini(body: Json, call: int, *, stream: bool, sse: bool) -> Reply:
    """POST …:generateContent and :streamGenerateContent."""
    asked = body.get("contents") or []
    text = _answer(_last_user([{**part, "role": part.get("role", "user")} for part in asked]))
    functions = [
        f for tool in body.get("tools") or [] for f in tool.get("functionDeclarations", [])
    ]
    answered = bool(asked) and any("functionResponse" in p for p in asked[-1].get("parts", []))
    parts: list[Json] = [{"text": text}]
    if functions and not answered:
        schema = functions[0].get("parametersJsonSchema") or functions[0].get("parameters")
        parts = [
            {
                "functionCall": {
                    "name": functions[0]["name"],
                    "args": _arguments(schema),
                }
            }
        ]
    given, made = words(asked), words(text)
    usage = {
        "promptTokenCount": given,
        "candidatesTokenCount": made,
        "thoughtsTokenCount": 3,
        "totalTokenCount": given + made + 3,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": given}],
    }
    base: Json = {"modelVersion": body["model"], "responseId": f"gem{call}"}

    def candidate(shown: list[Json], finish: str | None) -> Json:
        found: Json = {"content": {"role": "model", "parts": shown}, "index": 0}
        if finish:
            found["finishReason"] = finish
        return {"candidates": [found], **base}

    if not stream:
        return whole({**candidate(parts, "STOP"), "usageMetadata": usage})
    if "text" in parts[0]:
        chunks = [candidate([{"text": word + " "}], None) for word in text.split(" ")]
    else:
        chunks = [candidate(parts, None)]
    chunks = [{**chunk, "usageMetadata": {**usage, "candidatesTokenCount": 1}} for chunk in chunks]
    chunks.append({**candidate([{"text": ""}], "STOP"), "usageMetadata": usage})
    if sse:
        events = tuple(event.replace(b"\n\n", b"\r\n\r\n") for event in data_events(chunks))
        return Reply(200, _EVENTS, events=events)
    encoded = [msgspec.json.encode(chunk) for chunk in chunks]
    pieces = [b"[" + encoded[0], *(b",\r\n" + chunk for chunk in encoded[1:]), b"]"]
    return Reply(200, _JSON, events=tuple(pieces))


def gemini_count(body: Json, call: int) -> Reply:
    """POST …:countTokens."""
    return whole({"totalTokens": words(body.get("contents", ""))})


def gemini_embed(body: Json, call: int) -> Reply:
    """POST …:embedContent and :batchEmbedContents."""
    if "requests" in body:
        return whole({"embeddings": [{"values": [0.1, 0.2]} for _ in body["requests"]]})
    return whole(
        {
            "embedding": {"values": [0.1, 0.2]},
            "usageMetadata": {"promptTokenCount": words(body.get("content", ""))},
        }
    )


def models_openai() -> Reply:
    return whole(
        {
            "object": "list",
            "data": [
                {"id": name, "object": "model", "created": 1, "owned_by": "standin"}
                for name in MODELS
            ],
        }
    )


def models_anthropic() -> Reply:
    return whole(
        {
            "data": [
                {
                    "type": "model",
                    "id": name,
                    "display_name": name,
                    "created_at": "2026-01-01T00:00:00Z",
                }
                for name in MODELS
            ],
            "has_more": False,
            "first_id": MODELS[0],
            "last_id": MODELS[-1],
        }
    )


def models_gemini() -> Reply:
    return whole({"models": [{"name": f"models/{name}"} for name in MODELS]})


POSTS: dict[str, Callable[[Json, int], Reply]] = {
    "/chat/completions": chat,
    "/completions": completions,
    "/embeddings": embeddings,
    "/responses": responses,
    "/responses/input_tokens": count_tokens,
    "/responses/compact": compact,
    "/messages": messages,
    "/messages/count_tokens": count_tokens,
}
