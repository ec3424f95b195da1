"""Spans of calls, as a collector gets them."""

import asyncio
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.rig import SECRET, start_rig

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes OTLP over HTTP, as much of it as an exporter needs."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.raw = b""

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        body = await reader.readexactly(length)
        if "content-encoding: gzip" in head:
            import gzip

            body = gzip.decompress(body)
        self.raw += body
        sent = ExportTraceServiceRequest.FromString(body)
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


def _attributes(span: Any) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes
    }


async def test_each_admitted_call_is_a_span_without_content(tmp_path: Path):
    collector = Collector()
    port = await collector.start()
    rig = await start_rig(tmp_path, otel_endpoint=f"http://127.0.0.1:{port}")
    try:
        await rig.add_provider_key()
        body = {
            "model": "demo-large",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "the content of this call"}],
        }
        parent = f"00-{TRACE}-{SPAN}-01"
        await rig.ask("POST", "/v1/chat/completions", body, traceparent=parent)
        await rig.ask("POST", "/v1/messages", body, traceparent="nonsense")
        await rig.chat("fault-500")
        (failed, claude, chat) = await rig.records(expect=3)
        assert all("traceparent" not in one.headers for one in rig.standin.requests)
    finally:
        await rig.stop()
        collector.stop()
    spans = {_attributes(span)["xairouter.call_id"]: span for span in collector.spans}
    assert set(spans) == {one["call_id"] for one in (failed, claude, chat)}
    first = spans[chat["call_id"]]
    said = _attributes(first)
    assert first.name == "chat demo-large"
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, SPAN)
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.request.model"] == "demo-large"
    assert said["gen_ai.request.max_tokens"] == 9
    assert said["gen_ai.usage.input_tokens"] == chat["input_tokens"]
    assert said["gen_ai.usage.output_tokens"] == chat["output_tokens"]
    assert said["http.response.status_code"] == 200
    assert (first.end_time_unix_nano - first.start_time_unix_nano) // 10**6 == chat["total_ms"]
    assert spans[claude["call_id"]].parent_span_id == b""
    bad = spans[failed["call_id"]]
    assert bad.status.code == 2
    assert _attributes(bad)["error.type"] == "upstream_error"
    for secret in (b"the content of this call", SECRET.encode(), rig.key.encode()):
        assert secret not in collector.raw


async def test_a_collector_that_is_away_holds_up_nothing(tmp_path: Path):
    rig = await start_rig(tmp_path, otel_endpoint="http://127.0.0.1:9")
    try:
        await rig.add_provider_key()
        for _ in range(3):
            assert (await rig.chat()).status == 200
    finally:
        await rig.stop()
