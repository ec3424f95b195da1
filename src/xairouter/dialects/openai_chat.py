"""``openai_chat``: POST /v1/chat/completions. Source: platform.openai.com/docs/api-reference/chat."""

from xairouter.dialects import openai
from xairouter.dialects.interface import Dialect
from xairouter.dialects.peek import count_field, read_object
from xairouter.domain.calls import Match, Peek, Refusal

_GOVERNED = (
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "best_of",
)


def peek(match: Match, body: bytes) -> Peek | Refusal:
    """Model, streaming, the declared maximum of output, uploaded files referred to."""
    read = read_object(body, _GOVERNED)
    if isinstance(read, Refusal):
        return read
    fields, insert_at = read
    model = openai.model_field(fields)
    if isinstance(model, Refusal):
        return model
    stream = openai.stream_fields(fields)
    if isinstance(stream, Refusal):
        return stream
    declared = []
    for name in ("max_tokens", "max_completion_tokens"):
        value = count_field(fields.get(name, (None,))[0], name)
        if isinstance(value, Refusal):
            return value
        if value is not None:
            declared.append(value)
    choices = 1
    for name in ("n", "best_of"):
        value = count_field(fields.get(name, (None,))[0], name)
        if isinstance(value, Refusal):
            return value
        choices = max(choices, value or 1)
    return Peek(
        model=model[0],
        model_span=model[1],
        streams=stream[0],
        asks_usage=stream[1],
        stream_options_span=stream[2],
        max_output_tokens=max(declared, default=None),
        choices=choices,
        bound_ids=openai.file_ids(body),
        insert_at=insert_at,
    )


OPENAI_CHAT = Dialect(
    name="openai_chat",
    peek=peek,
    prepare=openai.prepare,
    absorb=openai.absorb,
    total=openai.total,
    marks=(b'"usage"', b'"error"'),
    end_marks=(b"data: [DONE]",),
    refuse=openai.refuse,
    refuse_midstream=openai.refuse_midstream,
)

# The older completions speak the same fields at another path.
OPENAI_COMPLETIONS = Dialect(
    name="openai_completions",
    peek=peek,
    prepare=openai.prepare,
    absorb=openai.absorb,
    total=openai.total,
    marks=(b'"usage"', b'"error"'),
    end_marks=(b"data: [DONE]",),
    refuse=openai.refuse,
    refuse_midstream=openai.refuse_midstream,
)
