"""OpenTelemetry traces: a span for each request and for each of its parts. Needs the extra `otel`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry.correlation import TRACE_HEADER, correlation_headers, set_traceparent

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

_SERVER_ERROR = 500
_NOTHING: AbstractContextManager[None] = nullcontext()


class TracingMissing(Exception):
    """Traces are configured, but OpenTelemetry is not installed."""


class _Traced(NamedTuple):
    """The tracer of the current request, and the context of its span."""

    tracer: "Tracer"
    parent: "Context"


_current: ContextVar[_Traced | None] = ContextVar("traced", default=None)


def span(name: str) -> AbstractContextManager[None]:
    """Records a part of the current request as a span, as a context manager; does nothing without a trace."""
    traced = _current.get()
    return _NOTHING if traced is None else _span(traced, name)


@contextmanager
def _span(traced: _Traced, name: str) -> Iterator[None]:
    part = traced.tracer.start_span(name, context=traced.parent)
    try:
        yield
    finally:
        part.end()


class Traces:
    """Sends spans to a collector by OTLP over HTTP, in a background thread. Raises `TracingMissing`.

    Set OpenTelemetry's variable OTEL_TRACES_SAMPLER to trace only a share of the requests. With OTEL_SDK_DISABLED
    nothing is sent.
    """

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise TracingMissing("traces need OpenTelemetry: pip install 'fingerpost[otel]'") from error
        self._provider = TracerProvider(resource=Resource.create({"service.name": "fingerpost"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self.tracer = self._provider.get_tracer("fingerpost")

    def close(self) -> None:
        """Sends the remaining spans, if the collector accepts them, and stops the thread."""
        self._provider.shutdown()


class TracingMiddleware:
    """ASGI middleware that records a span for each request in the client's trace. Answers and logs name the span."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._tracer = traces.tracer
        self._otel = trace
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent_context = self._propagator.extract(correlation_headers())
        whole = self._tracer.start_span(scope["method"], context=parent_context, kind=self._otel.SpanKind.SERVER)
        parent = self._otel.set_span_in_context(whole)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=parent)
        name = TRACE_HEADER.decode()
        traceparent = carrier.get(name)  # None where OTEL_SDK_DISABLED is set
        if traceparent is not None:
            set_traceparent(traceparent)
        token = _current.set(_Traced(self._tracer, parent))
        status = _SERVER_ERROR

        async def send_with_traceparent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if traceparent is not None:
                    MutableHeaders(scope=message)[name] = traceparent
            await send(message)

        try:
            await self._app(scope, receive, send_with_traceparent)
        finally:
            _current.reset(token)
            route = getattr(scope.get("route"), "path", None)
            if route is not None:
                whole.update_name(f"{scope['method']} {route}")
                whole.set_attribute("http.route", route)
            whole.set_attribute("http.request.method", scope["method"])
            whole.set_attribute("http.response.status_code", status)
            if status >= _SERVER_ERROR:
                whole.set_status(self._otel.StatusCode.ERROR)
            whole.end()
