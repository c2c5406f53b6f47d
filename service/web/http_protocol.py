"""HTTP as uvicorn speaks it, but clients have bounded time and memory, and problems are said as ours are."""

import re
import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import Congested
from service.telemetry.correlation import find_correlation
from service.web.crowd import Crowd
from service.web.problems import PROBLEM_JSON, encode_problem

_LONGEST_HEAD = 64 * 2**10  # bytes of a request line and headers, of trailers, or about a chunk
_KERNEL_UNSENT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS
_KERNEL_BYTES = 256 * 2**10
_SURPLUS_S = 1.0  # how long a connection over the limit may take for its head
# A busy replica must not look dead to an orchestrator or to Prometheus: these are answered over the limit too.
_PROBE = re.compile(rb"(?:GET|HEAD) /(?:health/live|health/ready|metrics)[ ?]")
LOOPBACK = "127.0.0.1"
_LOCATE = b"/locate"
_SMALL_BODY = 2**16  # bytes
_CLOSE = (b"connection", b"close")
_CROWDED = Congested("too many users are waiting; try again later")
_CONGESTED = (_CROWDED.status, _CROWDED.cause, encode_problem(_CROWDED.status, _CROWDED.cause, _CROWDED.detail))
_MOST_PROBES = 64  # at once over the limit

# Refusals by this module; the errors of the app have their causes in `service.errors`.
CAUSES = ("TOO_MANY_CONNECTIONS", "HEAD_TOO_LARGE", "HEAD_TOO_SLOW", "INVALID_MSG_FORMAT")


class ClientLimits(NamedTuple):
    """What clients may take: open connections, seconds for a head, between requests and without reading, and bytes of
    answers that they have not read, all connections together.
    """

    connections: int
    head_s: float
    idle_s: float
    write_s: float
    unread_bytes: int


class Refusal(NamedTuple):
    """A refusal that the app never hears of. `client`: the address of the connection, if it has one.

    `route`: None where it is not known. `seconds`: since the request began.
    """

    status: HTTPStatus
    cause: str
    client: str | None
    route: str | None
    seconds: float


class HttpProtocol(HttpToolsProtocol):
    """A connection of uvicorn's with limits. `close_slow_clients` must be called about once a second.

    Connections over the limit may only send one request of a probe or of Prometheus.

    uvicorn limits neither heads nor trailers, and the parser puts each header together before it tells of it. So bytes
    are counted that have come since anything was complete: a head, a piece of the body, a request.

    While there is a crowd, requests to locate one user are refused once they are complete. The connection stays open.
    """

    _unfinished = 0
    _in_head = False
    _surplus = False  # opened while there were too many connections
    _probe = False  # a surplus connection that is answered
    _since = 0.0  # loop.time: connected, began the head, or answered
    _unread = 0  # bytes of the answer at the last look
    _reading_since = 0.0  # loop.time: the client read a part of its answer, or there was nothing to read
    _locates = False  # the request that arrives is one to locate one user
    _unwanted = False  # it is to be refused

    def __init__(
        self,
        *args: Any,
        limits: ClientLimits,
        crowd: Crowd,
        note_refusal: Callable[[Refusal], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._crowd = crowd
        self._limits = limits
        self._note_refusal = note_refusal

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        listening = transport.get_extra_info("socket")
        if listening.family == socket.AF_UNIX:
            self.client = (LOOPBACK, 0)  # a Unix socket has no addresses; its other end is on this machine
        elif _KERNEL_UNSENT is not None:
            # The system itself would keep megabytes of an answer that the client does not read.
            listening.setsockopt(socket.IPPROTO_TCP, _KERNEL_UNSENT, _KERNEL_BYTES)
        self._surplus = len(self.connections) > self._limits.connections
        self._since = self._reading_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._surplus and not self._probe:
            if self.transport.is_closing():
                return
            if not (_PROBE.match(data) and self._has_room_for_probe()):
                self._refuse(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "TOO_MANY_CONNECTIONS",
                    "too many open connections",
                    "retry-after: 1\r\n",
                )
                return
            self._probe = True
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished > _LONGEST_HEAD and not self.transport.is_closing():
            if self._is_waiting():
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HEAD_TOO_LARGE", "the head is too long")
            else:
                self.transport.close()  # an answer to what came before may be on its way

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._since = True, self.loop.time()

    def on_headers_complete(self) -> None:
        self._unfinished, self._in_head = 0, False
        self._locates = self.url.partition(b"?")[0] == _LOCATE and self.parser.get_method() == b"POST"
        if self._locates and self._is_waiting() and self._is_small() and self._crowd.refuses(self.loop.time()):
            self._unwanted = True
            return
        super().on_headers_complete()
        if self._surplus:
            self.cycle.keep_alive = False  # further requests on this connection are never begun

    def on_body(self, body: bytes) -> None:
        self._unfinished = 0
        if not self._unwanted:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._unfinished = 0
        if self._unwanted:
            self._refuse_unwanted()
            return
        super().on_message_complete()
        if self._locates:
            self._crowd.join(self.loop)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def resume_writing(self) -> None:
        self._reading_since = self.loop.time()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, "INVALID_MSG_FORMAT", "not HTTP/1.1")

    def close_if_slow(self, now: float) -> int:
        """Closes the connection when its client takes too long; returns how many bytes the client has not read."""
        unread = self.transport.get_write_buffer_size()
        if unread != self._unread or not unread:
            self._unread, self._reading_since = unread, now
        if now - self._reading_since > self._limits.write_s:
            self.transport.abort()
            return 0
        if self._is_waiting() and not self.transport.is_closing() and not unread:
            self._close_if_silent(now - self._since)
        return unread

    def _close_if_silent(self, waited: float) -> None:
        if self._surplus:
            if waited > _SURPLUS_S:
                self.transport.close()
        elif self._in_head:
            if waited > self._limits.head_s:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "HEAD_TOO_SLOW", "the head took too long")
        elif waited > (self._limits.head_s if self.cycle is None else self._limits.idle_s):
            self.transport.close()

    def _is_waiting(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def _has_room_for_probe(self) -> bool:
        return sum(isinstance(one, HttpProtocol) and one._probe for one in self.connections) < _MOST_PROBES

    def _is_small(self) -> bool:
        """Whether the body that follows is so small that reading it costs less than a new connection."""
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        small = length.isdigit() and int(length) <= _SMALL_BODY
        return small and not self.expect_100_continue and self.parser.should_keep_alive()

    def _refuse_unwanted(self) -> None:
        """Answers as the app does where it raises `Congested`."""
        self._unwanted = False
        correlation = find_correlation(self.headers)
        headers = [*self.server_state.default_headers, *((name, value.encode()) for name, value in correlation.items())]
        lines = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in headers)
        self._answer(_CONGESTED, f"retry-after: {Congested.retry_after_s}\r\n{lines}", _LOCATE.decode())
        if _CLOSE in headers:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, cause: str, detail: str, headers: str = "") -> None:
        self._answer((status, cause, encode_problem(status, cause, detail)), f"{headers}connection: close\r\n", None)
        self.transport.close()

    def _answer(self, problem: tuple[HTTPStatus, str, bytes], headers: str, route: str | None) -> None:
        status, cause, content = problem
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {PROBLEM_JSON}\r\n"
            f"content-length: {len(content)}\r\n{headers}\r\n"
        )
        seconds, self._since = self.loop.time() - self._since, self.loop.time()
        self._note_refusal(Refusal(status, cause, self.client[0] if self.client else None, route, seconds))
        self.transport.write(head.encode() + content)


def close_slow_clients(connections: Iterable[HttpProtocol], limits: ClientLimits, now: float) -> None:
    """Closes connections that wait too long for their client, and the longest unread answers beyond the memory."""
    unread = {connection: connection.close_if_slow(now) for connection in connections}
    total = sum(unread.values())
    for connection in sorted(unread, key=unread.__getitem__, reverse=True):
        if total <= limits.unread_bytes:
            break
        connection.transport.abort()
        total -= unread[connection]
