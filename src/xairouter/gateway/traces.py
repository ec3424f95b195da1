"""Spans for those who want them: one for each call that was admitted, made from its record at its end.

By OpenTelemetry's semantic conventions for generative AI
(opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans), without any content. The libraries are an
extra (``xairouter[otel]``); without an endpoint nothing is imported.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from xairouter import __version__
from xairouter.domain.records import Outcome, UsageRecord
from xairouter.errors import ConfigError

_OPERATIONS: Mapping[str, str] = {
    "openai_chat": "chat",
    "openai_completions": "text_completion",
    "openai_responses": "chat",
    "openai_embeddings": "embeddings",
    "anthropic_messages": "chat",
    "gemini_generate": "generate_content",
}
_PROVIDERS: Mapping[str, str] = {
    "gemini": "gcp.gemini",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""The conventions' own names, where they are not ours."""


class Traces(Protocol):
    """Told of each call once, when it has ended."""

    def tell(self, record: UsageRecord, traceparent: str) -> None:
        """Never waits and never raises."""

    def close(self) -> None:
        """Send what is left."""


class NoTraces:
    """Nobody wants spans."""

    def tell(self, record: UsageRecord, traceparent: str) -> None:
        """Nobody hears it."""

    def close(self) -> None:
        """Nothing is open."""


class OtelTraces:
    """Sends spans to a collector over OTLP/HTTP, in batches, from a thread of its own."""

    def __init__(self, provider: Any, propagator: Any) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("xairouter", __version__)
        self._propagator = propagator

    def tell(self, record: UsageRecord, traceparent: str) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        parent = self._propagator.extract({"traceparent": traceparent}) if traceparent else None
        operation = _OPERATIONS.get(record.dialect, record.dialect)
        span = self._tracer.start_span(
            f"{operation} {record.model_used or record.model_asked or ''}".strip()[:200],
            context=parent,
            kind=SpanKind.CLIENT,
            attributes=attributes_of(record, operation),
            start_time=record.started_at_ms * 1_000_000,
        )
        if record.outcome != Outcome.COMPLETED:
            span.set_status(Status(StatusCode.ERROR, record.error_code or record.outcome))
        span.end((record.started_at_ms + (record.total_ms or 0)) * 1_000_000)

    def close(self) -> None:
        self._provider.shutdown()


def attributes_of(record: UsageRecord, operation: str) -> dict[str, str | int]:
    """A record as a span's attributes; what is unknown is left out."""
    provider = record.provider or ""
    found: dict[str, str | int | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _PROVIDERS.get(provider, provider) or None,
        "gen_ai.request.model": record.model_asked,
        "gen_ai.response.model": record.model_used,
        "gen_ai.request.max_tokens": record.max_output_tokens,
        "gen_ai.usage.input_tokens": record.input_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": record.cached_input_tokens,
        "gen_ai.usage.cache_creation.input_tokens": record.cache_write_tokens,
        "http.response.status_code": record.status,
        "error.type": None
        if record.outcome == Outcome.COMPLETED
        else record.error_code or record.outcome,
        "xairouter.call_id": record.call_id,
        "xairouter.owner_id": record.owner_id,
        "xairouter.account_id": record.account_id,
        "xairouter.provider_key_id": record.provider_key_id,
        "xairouter.attempts": record.attempts,
        "xairouter.first_byte_ms": record.first_byte_ms,
    }
    return {name: value for name, value in found.items() if value is not None}


def traces_to(endpoint: str) -> Traces:
    """Where spans go; raises ConfigError where the libraries are missing."""
    if not endpoint:
        return NoTraces()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        raise ConfigError(
            ["XAIROUTER_OTEL_ENDPOINT: the packages are missing; install xairouter[otel]."]
        ) from None
    resource = Resource.create({"service.name": "xairouter", "service.version": __version__})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtelTraces(provider, TraceContextTextMapPropagator())
