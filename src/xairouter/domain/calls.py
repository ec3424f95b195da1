"""The data plane's values: operation, peek, route, plan, refusal, usage."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from xairouter.domain.accounts import ProviderKey

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the path table: what a method and path ask for.

    ``needs_model`` – the request must name a model. ``metered`` – the reply's usage is billed to
    this call; token counting and look-ups of stored objects are not. ``suffix`` – the path behind
    a provider's base URL, with ``{model}``, ``{verb}`` and ``{id}`` filled from the request.
    """

    name: str
    dialect: str
    method: str
    suffix: str
    needs_model: bool = True
    metered: bool = True
    makes_object: bool = False


class Match(msgspec.Struct, frozen=True):
    """A request line understood: the operation, its canonical path and the path's variables."""

    operation: Operation
    path: str
    variables: Mapping[str, str] = msgspec.field(default_factory=dict)


class Peek(msgspec.Struct, frozen=True):
    """What the router reads from a request body; spans are offsets of values in the body.

    ``asks_usage`` – the client itself asked for usage in its stream. ``choices`` – how many answers
    it asks for, each of the declared length. ``bound_ids`` – ids of
    provider objects that the body refers to.
    """

    model: str | None
    streams: bool = False
    max_output_tokens: int | None = None
    asks_usage: bool = True
    choices: int = 1
    bound_ids: tuple[str, ...] = ()
    model_span: Span | None = None
    stream_options_span: Span | None = None
    insert_at: int = 0
    config_span: Span | None = None


class Refusal(msgspec.Struct, frozen=True):
    """A “no” of our own: a code of ``errors.ERRORS`` and a sentence for a person."""

    code: str
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
