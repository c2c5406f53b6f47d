"""A real HTTP server on a thread and a port of its own, which does what a test tells it to do with each request."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Answer = Callable[[int, bytes], bytes | None]  # (how many requests came before, body) -> what to send; None: hang up


@dataclass
class PlainServer:
    port: int
    bodies: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


def response(status: int = 200, body: bytes = b"ok") -> bytes:
    return f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextlib.contextmanager
def plain_server(
    answer: Answer = lambda number, body: response(), arrived: Callable[[], object] = lambda: None
) -> Iterator[PlainServer]:
    """A thread for each connection, but one request at a time: while `answer` sleeps, all clients wait.

    Each connection's thread calls `arrived` as soon as a request has arrived, before it waits for its turn.
    """
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    server, lock, stopping = PlainServer(listening.getsockname()[1]), threading.Lock(), threading.Event()
    connections: list[socket.socket] = []

    def converse(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while (body := _read_request(connection)) is not None:
                arrived()
                with lock:
                    server.times.append(time.monotonic())
                    server.bodies.append(body)
                    sent = answer(len(server.bodies) - 1, body)
                if sent is None:
                    return
                connection.sendall(sent)

    def accept() -> None:
        while not stopping.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=converse, args=(connection,)))
                threads[-1].start()

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield server
    finally:
        stopping.set()
        for open_one in [listening, *connections]:
            with contextlib.suppress(OSError):
                open_one.shutdown(socket.SHUT_RDWR)
            open_one.close()
        for thread in threads:
            thread.join(timeout=10)
            assert not thread.is_alive()


def _read_request(connection: socket.socket) -> bytes | None:
    received = b""
    while b"\r\n\r\n" not in received:
        if not (more := connection.recv(65536)):
            return None
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert found
    while len(body) < int(found[1]):
        if not (more := connection.recv(65536)):
            return None
        body += more
    return body
