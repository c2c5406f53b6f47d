"""A service that answers as it is told, breaks connections, and keeps the headers that it gets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from fingerpost import Problem


class Scripted(BaseHTTPRequestHandler):
    """Takes one step of the script for each request, and keeps the headers of the requests."""

    script: ClassVar[list[int | bytes | None]] = []
    seen: ClassVar[list[dict[str, str]]] = []
    encoding = "identity"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        step = self.script.pop(0)
        if step is None:
            return  # without an answer
        problem = Problem(title="", status=step, detail="so it is", cause="BUSY") if isinstance(step, int) else None
        content = problem.model_dump_json(by_alias=True).encode() if problem else step
        assert isinstance(content, bytes)
        self.send_response(200 if isinstance(step, bytes) else step)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Encoding", self.encoding)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def scripted(*script: int | bytes | None, encoding: str = "identity") -> Iterator[str]:
    Scripted.encoding = encoding
    Scripted.script[:], Scripted.seen[:] = script, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
    assert Scripted.script == []


@contextmanager
def answering(content: bytes, status: int = 200, **headers: str) -> Iterator[str]:
    """A service, or a page of a proxy, that answers each GET with the same."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
