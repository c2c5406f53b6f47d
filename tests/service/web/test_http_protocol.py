"""What can only be seen on the wire: heads without an end, trailers without an end, what is no HTTP."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

import httpx
import pytest

from tests.service.serving import serving
from tests.service.tiny_service import added_key, make_tiny_settings

DEADLINE_S = 60.0
CHUNKED = (
    b"POST /locate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)
ENDLESS = 2**24  # bytes: as good as without an end


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=DEADLINE_S) as connection:
        yield connection


def received(connection: socket.socket) -> bytes:
    """All bytes until the service closes the connection."""
    answer = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            answer += part
    return answer


def sent_until_refused(connection: socket.socket, head: bytes, piece: bytes) -> tuple[int, bytes]:
    """How many bytes went out before the service would take no more, and what it said."""
    sent = 0
    with suppress(ConnectionError, BrokenPipeError):
        connection.sendall(head)
        while sent < ENDLESS:
            connection.sendall(piece)
            sent += len(piece)
    return sent, received(connection)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"GET /", b"a" * 4096),
        (b"GET / HTTP/1.1\r\nA: ", b"a" * 4096),
        (b"GET / HTTP/1.1\r\n", b"A: a\r\n" * 600),
        (
            CHUNKED + b"1",
            b";a" * 2048,
        ),
        (
            CHUNKED + b"0\r\n",
            b"A: a\r\n" * 600,
        ),
    ],
    ids=["path", "header", "headers", "chunk extension", "trailers"],
)
def test_heads_and_trailers_without_an_end_are_broken_off(url: str, head: bytes, piece: bytes) -> None:
    with connected(url) as connection:
        sent, answer = sent_until_refused(connection, head, piece)
    assert sent < ENDLESS
    if answer:  # it may be lost where the other side still sends
        assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
        assert b"application/problem+json" in answer


def test_a_long_head_is_read_and_one_too_long_is_refused(url: str) -> None:
    assert httpx.get(f"{url}/health/live", headers={"a": "a" * 60_000}, timeout=DEADLINE_S).status_code == 200
    with connected(url) as connection:
        head = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nA: "
        # Not more than the limit + 1: bytes that the service does not read reset the connection.
        connection.sendall(head.ljust(2**16 + 1, b"a"))
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b'"cause":"HEAD_TOO_LARGE"' in answer


def test_many_requests_on_a_connection_are_counted_each_by_itself(url: str) -> None:
    one = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 20_000 + b"\r\n\r\n"
    with connected(url) as connection:
        connection.sendall(one * 20)
        answers = b""
        while answers.count(b"HTTP/1.1 200 OK") < 20:
            part = connection.recv(65536)
            assert part, answers
            answers += part


@pytest.mark.parametrize("words", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"HELO\r\n\r\n", b"GET  HTTP/1.1\r\n\r\n"])
def test_what_is_no_http_is_told_so(url: str, words: bytes) -> None:
    with connected(url) as connection:
        connection.sendall(words)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"cause":"INVALID_MSG_FORMAT"' in answer
    assert httpx.get(f"{url}/health/live", timeout=DEADLINE_S).status_code == 200


TARGETS = [
    *(
        b"*",
        b"",
        b"?a",
        b"//",
        b"/a b",
        b"http://a/health/live",
        b"http://a",
        b"a:80",
        b"/#a",
        b"/;a",
        b"/\xff",
        b"/%ff",
    ),
    *(
        b"/%00",
        b"/docs/%00",
        b"/docs/files/%00",
        b"/console/%00",
        b"/console/assets/%00",
        b"/console/../a",
        b"/cells/%0a",
    ),
    *(b"/cells/%00/export", b"/cells/a/versions/%00", b"/cells/a/errors?version=%00", b"/models/%00:activate"),
    b"/models/a%0A:activate",
    b"/console/assets/" + b"a" * 5000,
    b"/cells/" + b"a" * 5000,
]
METHODS = [
    *(b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"),
    *(b"CONNECT", b"TRACE", b"PROPFIND", b"a"),
]


@pytest.mark.parametrize("keyed", [False, True])
def test_no_target_and_no_method_is_a_failure_of_the_service(
    keyed: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.json"
    key = b"Authorization: Bearer " + added_key(file, ["operate"]).encode() + b"\r\n"
    rest = b"Host: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n%s\r\n{}"
    unfit = []
    with serving(make_tiny_settings(tmp_path, keys_file=file if keyed else None)) as url:
        for method, target, sent in product(METHODS, TARGETS, [key, b""] if keyed else [b""]):
            with connected(url) as connection:
                connection.sendall(b"%s %s HTTP/1.1\r\n" % (method, target) + rest % sent)
                answer = received(connection)
            refused = answer.startswith(b"HTTP/1.1 4") and b"application/problem+json" in answer
            if not refused and not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 3")):
                unfit.append((method, target[:40], bool(sent), answer[:200]))
    assert unfit == []
    assert "Traceback" not in capfd.readouterr().err
