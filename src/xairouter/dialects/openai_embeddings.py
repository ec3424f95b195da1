"""``openai_embeddings``: POST /v1/embeddings, in floats or base64, which pass as they are.

Source: platform.openai.com/docs/api-reference/embeddings.
"""

from xairouter.dialects import openai
from xairouter.dialects.interface import Dialect
from xairouter.dialects.look import Look
from xairouter.dialects.named import find_named
from xairouter.dialects.peek import read_object
from xairouter.domain.calls import Match, Peek, Refusal


def peek(match: Match, body: bytes, look: Look | None = None) -> Peek | Refusal:
    """The model; embeddings neither stream nor declare output."""
    read = read_object(body, ("model",), top=look and look.top)
    if isinstance(read, Refusal):
        return read
    model = openai.model_field(read[0])
    if isinstance(model, Refusal):
        return model
    named = look.named if look else find_named("openai_embeddings", body)
    if isinstance(named, Refusal):
        return named
    return Peek(
        model=model[0],
        model_span=model[1],
        bound_ids=tuple(named.objects),
        other_models=tuple(named.models),
        unlisted=tuple(named.unlisted),
    )


OPENAI_EMBEDDINGS = Dialect(
    name="openai_embeddings",
    peek=peek,
    prepare=openai.prepare,
    absorb=openai.absorb,
    total=openai.total,
    marks=(b'"usage"', b'"error"'),
    end_marks=(),
    reply_fields=openai.REPLY_FIELDS,
    reply_holders=openai.REPLY_HOLDERS,
    refuse=openai.refuse,
    refuse_midstream=openai.refuse_midstream,
    text=openai.TEXT,
)
