"""What a request is followed by through several systems: W3C's ``traceparent``, and CAMARA's ``X-Correlator``."""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TRACE_HEADER, CORRELATOR_HEADER = b"traceparent", b"x-correlator"

# What is not of these forms is not carried on: neither logs nor traces are for whatever anybody sends.
_FORMS = {
    TRACE_HEADER: re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"),
    CORRELATOR_HEADER: re.compile(rb"[A-Za-z0-9_:;./<>{}-]{1,256}"),
}

_NOTHING: Mapping[bytes, str] = MappingProxyType({})
_current: ContextVar[Mapping[bytes, str]] = ContextVar("correlation", default=_NOTHING)


class Correlate:
    """ASGI middleware: remembers what a request is to be followed by, and says it in the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found = {
            name: value.decode("ascii")
            for name, value in scope["headers"]
            if name in _FORMS and _FORMS[name].fullmatch(value)
        }
        _current.set(found)
        if not found:
            await self._app(scope, receive, send)
            return

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(correlation_headers())
            await send(message)

        await self._app(scope, receive, say)


def correlation_headers() -> dict[str, str]:
    """Of the request that is answered now."""
    return {name.decode(): value for name, value in _current.get().items()}


def correlation_fields() -> dict[str, str]:
    """The same as fields of a line in a log: of the trace its id, and the id of the span that asks."""
    fields, current = {}, _current.get()
    if trace := current.get(TRACE_HEADER):
        _, fields["traceId"], fields["spanId"], _ = trace.split("-")
    if correlator := current.get(CORRELATOR_HEADER):
        fields["correlator"] = correlator
    return fields


def carry_on(traceparent: str) -> None:
    """From now on the request is followed by this span of the service's own."""
    _current.set({**_current.get(), TRACE_HEADER: traceparent})
