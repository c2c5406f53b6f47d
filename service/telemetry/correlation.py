"""Correlation of requests across systems: W3C ``traceparent`` and CAMARA ``X-Correlator`` headers."""

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from types import MappingProxyType

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TRACE_HEADER, CORRELATOR_HEADER = b"traceparent", b"x-correlator"

# Other values are ignored: clients must not write arbitrary text into logs and traces.
_FORMS = {
    TRACE_HEADER: re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"),
    CORRELATOR_HEADER: re.compile(rb"[A-Za-z0-9_:;./<>{}-]{1,256}"),
}

_NOTHING: Mapping[bytes, str] = MappingProxyType({})
_current: ContextVar[Mapping[bytes, str]] = ContextVar("correlation", default=_NOTHING)


class CorrelationMiddleware:
    """ASGI middleware that keeps the correlation headers of a request and repeats them in its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found = find_correlation(scope["headers"])
        _current.set(found)
        if not found:
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(correlation_headers())
            await send(message)

        await self._app(scope, receive, send_with_headers)


def find_correlation(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """The correlation headers among those of a request, as far as their values have the right form."""
    return {name: value.decode("ascii") for name, value in headers if name in _FORMS and _FORMS[name].fullmatch(value)}


def correlation_headers() -> dict[str, str]:
    """Returns the correlation headers of the current request."""
    return {name.decode(): value for name, value in _current.get().items()}


def correlation_fields() -> dict[str, str]:
    """Returns the log fields of the current request: trace id, id of the client's span, correlator."""
    fields, current = {}, _current.get()
    if trace := current.get(TRACE_HEADER):
        _, fields["traceId"], fields["spanId"], _ = trace.split("-")
    if correlator := current.get(CORRELATOR_HEADER):
        fields["correlator"] = correlator
    return fields


def set_traceparent(traceparent: str) -> None:
    """Replaces the ``traceparent`` of the current request by that of the service's own span."""
    _current.set({**_current.get(), TRACE_HEADER: traceparent})
