"""Ends heads of answers that arrive in time byte by byte, but not as a whole.

The read timeout of httpx begins anew with each byte. httpx tells by its `trace` extension when it begins to read a head
and when it has it.
"""

import asyncio
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import httpx

_CONNECTED = ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")
_BEGINS = "receive_response_headers.started"
_ENDS = ("receive_response_headers.complete", "receive_response_headers.failed")

_PERIOD_S = 0.05
_IDLE_PERIODS = 40

# The connections of each client: a later request goes over one that an earlier request has opened.
_STREAMS: "WeakKeyDictionary[httpx.Client, WeakSet[Any]]" = WeakKeyDictionary()


class _Watch:
    """Calls functions when their time has come, from a thread that ends by itself. A timer for each would cost more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None
        self._idle = 0

    def begin(self, after_s: float, call: Callable[[], None]) -> object:
        """Calls the function after so many seconds, unless `stop` gets what this returns before."""
        token = object()
        with self._lock:
            self._due[token] = (time.monotonic() + after_s, call)
            self._idle = 0
            if self._thread is None or not self._thread.is_alive():  # a fork has no thread
                self._thread = threading.Thread(target=self._run, name="fingerpost-head-deadline", daemon=True)
                self._thread.start()
        return token

    def stop(self, token: object) -> None:
        with self._lock:
            self._due.pop(token, None)

    def _run(self) -> None:
        while True:
            time.sleep(_PERIOD_S)
            with self._lock:
                now = time.monotonic()
                passed = [token for token, (due, _) in self._due.items() if due <= now]
                calls = [self._due.pop(token)[1] for token in passed]
                self._idle += 1
                if not self._due and not calls and self._idle > _IDLE_PERIODS:
                    self._thread = None
                    return
            for call in calls:
                call()


_WATCH = _Watch()


@contextmanager
def limit_head(http: httpx.Client, longest_s: float) -> Iterator[dict[str, Callable[..., None]]]:
    """Extensions for one request of `http` whose head may take `longest_s` seconds.

    A head that takes longer raises `ReadTimeout`: another thread then shuts the connections of the client down.
    """
    streams = _STREAMS.setdefault(http, WeakSet())
    passed = threading.Event()
    watched: list[object] = []  # a proxy's head comes before that of the service

    def end() -> None:
        passed.set()
        for stream in list(streams):
            with suppress(OSError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def trace(event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(_CONNECTED):
            streams.add(info["return_value"])
        elif event.endswith(_BEGINS) and longest_s < math.inf:
            watched.append(_WATCH.begin(longest_s, end))
        elif event.endswith(_ENDS):
            while watched:
                _WATCH.stop(watched.pop())

    try:
        yield {"trace": trace}
    except httpx.TransportError as error:
        if passed.is_set():
            raise _late(longest_s, error.request) from error
        raise


@asynccontextmanager
async def limit_head_async(
    name_request: Callable[[], httpx.Request], longest_s: float
) -> AsyncIterator[dict[str, Callable[..., Awaitable[None]]]]:
    """The same for asyncio. The error names the request that `name_request` returns."""
    limit = asyncio.timeout(None)

    async def trace(event: str, _: Mapping[str, Any]) -> None:
        if limit.expired():
            return
        if event.endswith(_BEGINS) and longest_s < math.inf:
            limit.reschedule(asyncio.get_running_loop().time() + longest_s)
        elif event.endswith(_ENDS):
            limit.reschedule(None)

    try:
        async with limit:
            yield {"trace": trace}
    except TimeoutError as error:
        if limit.expired():
            raise _late(longest_s, name_request()) from error
        raise


def _late(longest_s: float, request: httpx.Request) -> httpx.ReadTimeout:
    return httpx.ReadTimeout(f"the answer is not complete after {longest_s:.1f} s", request=request)
