"""Traces as a real collector receives them."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.service.running import running, tiny_request
from tests.service.tiny_service import make_tiny_settings

TRACE_ID, ASKING_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class _Collector(BaseHTTPRequestHandler):
    spans: list[Span]

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in sent.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collected() -> Iterator[tuple[str, list[Span]]]:
    """The URL of a collector, and the spans that it has received."""
    spans: list[Span] = []
    handler = type("Collector", (_Collector,), {"spans": spans})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
        server.shutdown()
        thread.join()


@pytest.mark.anyio
async def test_a_request_and_its_parts_become_spans(tmp_path: Path, collected: tuple[str, list[Span]]) -> None:
    endpoint, spans = collected
    followed = {"traceparent": f"00-{TRACE_ID}-{ASKING_SPAN}-01"}
    async with running(make_tiny_settings(tmp_path, traces_endpoint=endpoint)) as client:
        located = await client.post("/locate", json=tiny_request(1), headers=followed)
        await client.post("/locate/batch", json={"items": [tiny_request(1)] * 40}, headers=followed)
        failed = await client.post("/locate", json=tiny_request(-1) | {"allowFallback": False}, headers=followed)
        alone = await client.get("/nowhere")
    assert {span.trace_id.hex() for span in spans} == {TRACE_ID, alone.headers["traceparent"][3:35]}
    (whole,) = [span for span in spans if span.span_id.hex() == located.headers["traceparent"][36:52]]
    assert (whole.name, whole.parent_span_id.hex()) == ("POST /locate", ASKING_SPAN)
    assert whole.kind == Span.SPAN_KIND_SERVER
    parts = [span for span in spans if span.parent_span_id == whole.span_id]
    assert [part.name for part in parts] == ["receive", "decode", "cells", "model", "encode"]
    assert all(whole.start_time_unix_nano <= part.start_time_unix_nano for part in parts)
    assert all(part.end_time_unix_nano <= whole.end_time_unix_nano for part in parts)
    (error,) = [span for span in spans if span.span_id.hex() == failed.headers["traceparent"][36:52]]
    assert error.status.code == Status.STATUS_CODE_ERROR
    attributes = {one.key: one.value for one in error.attributes}
    assert set(attributes) == {"http.request.method", "http.response.status_code", "http.route"}
    assert attributes["http.response.status_code"].int_value == 500
    assert {span.name for span in spans if span.trace_id.hex() != TRACE_ID} == {"GET"}
    assert not any("20.4" in str(span) or "21.5" in str(span) for span in spans)


@pytest.mark.anyio
async def test_requests_are_answered_while_the_opentelemetry_sdk_is_disabled(
    tmp_path: Path, collected: tuple[str, list[Span]], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, spans = collected
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    followed = {"traceparent": f"00-{TRACE_ID}-{ASKING_SPAN}-01"}
    async with running(make_tiny_settings(tmp_path, traces_endpoint=endpoint)) as client:
        located = await client.post("/locate", json=tiny_request(1), headers=followed)
        alone = await client.get("/health/live")
    assert (located.status_code, located.headers["traceparent"]) == (200, followed["traceparent"])
    assert (alone.status_code, alone.headers.get("traceparent")) == (200, None)
    assert spans == []


def test_without_traces_the_opentelemetry_sdk_is_not_imported() -> None:
    # FastAPI imports opentelemetry's API wherever it is installed.
    parts = ("opentelemetry.sdk", "opentelemetry.exporter")
    script = (
        "import sys, service.app, service.telemetry.tracing; "
        f"print(any(name.startswith({parts}) for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
