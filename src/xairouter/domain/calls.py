"""The data plane's values: operation, peek, route, plan, refusal, usage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from xairouter.domain.accounts import ProviderKey
from xairouter.errors import ErrorCode

LONGEST_MODEL = 512
"""Characters of a model's name: in a body, a path, a catalogue or a rule."""
Span = tuple[int, int]
Declared = tuple[str, int | None, Span]
"""A field of a request that bounds its output: name, number (None: null) and where it stands."""


class OperationKind(StrEnum):
    """What a request asks for, one for each row of the path table."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    RESPONSES_INPUT_TOKENS = "responses.input_tokens"
    RESPONSES_COMPACT = "responses.compact"
    RESPONSES_GET = "responses.get"
    RESPONSES_DELETE = "responses.delete"
    RESPONSES_CANCEL = "responses.cancel"
    RESPONSES_INPUT_ITEMS = "responses.input_items"
    MESSAGES = "messages"
    MESSAGES_COUNT_TOKENS = "messages.count_tokens"
    GEMINI_GENERATE = "gemini.generate"
    GEMINI_COUNT_TOKENS = "gemini.count_tokens"
    MODELS_LIST = "models.list"
    MODELS_GET = "models.get"


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the path table: what a method and path ask for.

    ``needs_model`` – the request must name a model. ``metered`` – the reply's usage is billed to
    this call; token counting and look-ups of stored objects are not. ``suffix`` – the path behind
    a provider's base URL, with ``{model}``, ``{verb}`` and ``{id}`` filled from the request.
    ``shows_object`` – the reply may state how a stored object stands. ``makes_parts`` – it may name
    what the provider keeps beside it: output items, containers, files, sound.
    """

    name: OperationKind
    dialect: str
    method: str
    suffix: str
    needs_model: bool = True
    metered: bool = True
    makes_object: bool = False
    shows_object: bool = False
    makes_parts: bool = False


class Match(msgspec.Struct, frozen=True):
    """A request line understood: the operation, its canonical path and the path's variables."""

    operation: Operation
    path: str
    variables: Mapping[str, str] = msgspec.field(default_factory=dict)


class Peek(msgspec.Struct, frozen=True):
    """What the router reads from a request body; spans are offsets of values in the body.

    ``asks_usage`` – the client itself asked for usage in its stream. ``choices`` – how many answers
    it asks for, each of the declared length. ``background`` – the reply may be only the beginning
    of the work. ``declared`` – the fields that bound its output, and
    ``max_output_tokens`` the largest number in them. ``bound_ids`` – ids of provider objects that
    the body refers to, ``other_models`` – models that it names besides its own, ``unlisted`` –
    fields that name something of which the router does not know what.
    """

    model: str | None
    streams: bool = False
    max_output_tokens: int | None = None
    asks_usage: bool = True
    choices: int = 1
    background: bool = False
    declared: tuple[Declared, ...] = ()
    bound_ids: tuple[str, ...] = ()
    other_models: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    model_span: Span | None = None
    stream_options_span: Span | None = None
    insert_at: int = 0
    config_span: Span | None = None


class Multipliers(msgspec.Struct, frozen=True):
    """What multiplies a request's cost. ``prompts`` – each is answered; ``word`` – which rates it asks
    for, as ``accounting/words.py`` has it, and ``asked_in`` the field; ``searches`` – searches of the
    provider's that it may bill; ``unknown`` – fields and tools of which nobody here knows what they
    cost; ``kinds`` – what else than text it asks for; ``token_ids`` – tokens given as numbers beyond
    what their size was taken for; ``reads`` – whether tools or settings have the provider read input
    that does not stand in the body; ``compacts`` – whether it may have a summary made beside its
    answer; ``thinking`` – tokens of output that its declared maximum leaves out."""

    prompts: int = 1
    word: str | None = None
    asked_in: str | None = None
    searches: int = 0
    unknown: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    token_ids: int = 0
    reads: bool = False
    compacts: bool = False
    thinking: int = 0


PLAIN = Multipliers()
"""Of a request with nothing of the kind: nearly all."""


class Refusal(msgspec.Struct, frozen=True):
    """A “no” of our own: a code of ``errors.ERRORS`` and a sentence for a person."""

    code: ErrorCode
    message: str
    param: str | None = None
    retry_after: int | None = None


class Route(msgspec.Struct, frozen=True):
    """One way to serve a call: a provider key, the model's name there, the dialect."""

    key: ProviderKey
    model: str | None
    dialect: str


class Plan(msgspec.Struct, frozen=True):
    """The ordered routes to try; never empty."""

    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Outbound:
    """A request for a provider without any credential.

    ``suffix`` is appended to the base URL sealed with the provider key; ``injected_usage`` says
    that usage was asked for on the client's behalf and must be removed from the stream again.
    """

    dialect: str
    method: str
    suffix: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    injected_usage: bool = False


class Usage(msgspec.Struct, frozen=True):
    """Normalised usage of one reply, in tokens. None = not reported, never 0.

    ``input_tokens`` is all input (cached and cache-writing input included), ``output_tokens`` all
    output (reasoning included). ``cost_nano`` is what the provider itself stated, in nano-dollars.
    ``detail`` holds further counts as reported.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    detail: Mapping[str, int | float | str] = msgspec.field(default_factory=dict)
    cost_nano: int | None = None
    model: str | None = None
    object_id: str | None = None
    service_tier: str | None = None

    @property
    def is_reported(self) -> bool:
        return self.input_tokens is not None or self.output_tokens is not None

    @property
    def is_whole(self) -> bool:
        """Whether both sides are stated."""
        return self.input_tokens is not None and self.output_tokens is not None
