"""``openai_chat``: POST /v1/chat/completions. Source: platform.openai.com/docs/api-reference/chat."""

import re
from itertools import islice

from xairouter.dialects import openai, output
from xairouter.dialects.interface import MOST_PARTS, Dialect, Tally
from xairouter.dialects.look import Look
from xairouter.dialects.named import find_named
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
    *output.OWN_NAMES,
)


def peek(match: Match, body: bytes, look: Look | None = None) -> Peek | Refusal:
    """Model, streaming, the declared maximum of output, uploaded files referred to."""
    read = read_object(body, _GOVERNED, top=look and look.top)
    if isinstance(read, Refusal):
        return read
    fields, insert_at = read
    model = openai.model_field(fields)
    if isinstance(model, Refusal):
        return model
    stream = openai.stream_fields(fields)
    if isinstance(stream, Refusal):
        return stream
    declared = output.read_declared(fields, "max_tokens", "max_completion_tokens")
    if isinstance(declared, Refusal):
        return declared
    if not output.OWN_NAMES.isdisjoint(fields):
        declared = output.read_own(fields, declared)
        if isinstance(declared, Refusal):
            return declared
    choices = 1
    for name in ("n", "best_of"):
        if name not in fields:
            continue
        value = count_field(fields[name][0], name)
        if isinstance(value, Refusal):
            return value
        choices = max(choices, value or 1)
    named = look.named if look else find_named(match.operation.dialect, body)
    if isinstance(named, Refusal):
        return named
    return Peek(
        model=model[0],
        model_span=model[1],
        streams=stream[0],
        asks_usage=stream[1],
        stream_options_span=stream[2],
        declared=declared[0],
        max_output_tokens=declared[1],
        choices=choices,
        bound_ids=tuple(named.objects),
        other_models=tuple(named.models),
        unlisted=tuple(named.unlisted),
        insert_at=insert_at,
    )


_AUDIO = re.compile(rb'"audio"\s*+:\s*+\{\s*+"id"\s*+:\s*+"([^"\\]{1,256})"')
"""Only a key can match: inside a string every quote is escaped."""


def absorb(tally: Tally, document: bytes) -> None:
    """What all OpenAI replies say, and the ids of sound, by which the next request names it."""
    openai.absorb(tally, document)
    if b'"audio"' in document:
        note_audio(tally, document)


def note_audio(tally: Tally, document: bytes) -> None:
    """The ids of the sound that an answer, or the beginning of one, has in it."""
    found = islice(_AUDIO.finditer(document), MOST_PARTS)
    tally.note_more_parts([one[1].decode("utf-8", "replace") for one in found])


OPENAI_CHAT = Dialect(
    name="openai_chat",
    peek=peek,
    prepare=openai.prepare,
    absorb=absorb,
    total=openai.total,
    marks=(b'"usage"', b'"error"', b'"audio"'),
    end_marks=(b"data: [DONE]",),
    reply_fields=openai.REPLY_FIELDS,
    reply_holders=openai.REPLY_HOLDERS,
    reply_lists=openai.CHOICES,
    refuse=openai.refuse,
    refuse_midstream=openai.refuse_midstream,
    text=openai.TEXT,
    end_is_final=True,
    beginning=note_audio,
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
    reply_fields=openai.REPLY_FIELDS,
    reply_holders=openai.REPLY_HOLDERS,
    reply_lists=openai.CHOICES,
    refuse=openai.refuse,
    refuse_midstream=openai.refuse_midstream,
    text=openai.TEXT,
    end_is_final=True,
)
