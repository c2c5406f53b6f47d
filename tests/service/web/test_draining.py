"""What becomes of users and operators when the service is told to stop."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from reference_db import open_store
from tests.redis_servers import GUARD_S, wait_until
from tests.service import changing_cell
from tests.service.readers import reading
from tests.service.replicas import NEVER_S, Replica, running


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "database"


@contextmanager
def service(database: Path, artifact: Path, **settings: float) -> Iterator[Replica]:
    with running(database, artifact, database.with_suffix(".log"), **settings) as replica:
        yield replica


def ready(replica: Replica) -> httpx.Response:
    """On a connection of its own, as a balancer's check is."""
    return httpx.get(replica.client.base_url.join("/health/ready"), timeout=GUARD_S)


def stopped(replica: Replica) -> int:
    return replica.process.wait(GUARD_S)


def test_everybody_is_served_while_balancers_are_told(database: Path, tiny_artifact: Path) -> None:
    asked = [("/locate", body) for body in changing_cell.request_bodies()]
    with service(database, tiny_artifact, drain_s=NEVER_S) as replica:
        assert changing_cell.replacement(1).send(replica.client).status_code == 201
        with reading(replica.port, asked, threads=3) as readers:
            readers.wait_for(50)
            assert ready(replica).status_code == 200
            replica.process.send_signal(signal.SIGTERM)
            wait_until(lambda: ready(replica).status_code == 503, "it says that it is ready")
            assert replica.process.poll() is None
            told = ready(replica)
            assert (told.headers["Content-Type"], told.headers["Retry-After"]) == ("application/problem+json", "1")
            assert (told.json()["status"], told.json()["cause"]) == (503, "DRAINING")
            assert replica.client.get("/health/live").status_code == 200
            assert changing_cell.addition(2, 1).send(replica.client).status_code == 200
            readers.wait_for(50)
        assert {answer.status for answer in readers.answers} == {200}
        replica.process.send_signal(signal.SIGTERM)  # a second one ends the delay
        assert stopped(replica) == 0


def test_answers_close_their_connections_while_it_drains(database: Path, tiny_artifact: Path) -> None:
    with service(database, tiny_artifact, drain_s=NEVER_S) as replica:
        host, port = "127.0.0.1", replica.port
        with socket.create_connection((host, port), timeout=GUARD_S) as connection:
            ask = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
            connection.sendall(ask)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert b"connection: close" not in answer
            replica.process.send_signal(signal.SIGTERM)
            wait_until(lambda: ready(replica).headers.get("connection") == "close", "answers keep connections")
            connection.sendall(ask)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))  # to its end
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in answer


def test_the_delay_ends_by_itself(database: Path, tiny_artifact: Path) -> None:
    with service(database, tiny_artifact, drain_s=0.3) as replica:
        replica.process.send_signal(signal.SIGTERM)
        assert stopped(replica) == 0


@pytest.mark.parametrize("draining", [False, True])
def test_an_interrupt_waits_for_no_balancer(database: Path, tiny_artifact: Path, draining: bool) -> None:
    with service(database, tiny_artifact, drain_s=NEVER_S) as replica:
        if draining:
            replica.process.send_signal(signal.SIGTERM)
            wait_until(lambda: ready(replica).status_code == 503, "it says that it is ready")
        replica.process.send_signal(signal.SIGINT)
        assert stopped(replica) == 0


def test_an_upload_on_its_way_is_taken_to_its_end(database: Path, tiny_artifact: Path) -> None:
    with service(database, tiny_artifact, drain_s=0, shutdown_s=NEVER_S) as replica:
        with half_sent(replica) as (connection, rest):
            replica.process.send_signal(signal.SIGTERM)
            wait_until(lambda: is_closed(replica), "it goes on listening")
            connection.sendall(rest)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
        assert b"\r\nconnection: close\r\n" in answer
        assert stopped(replica) == 0
    assert versions(database) == [1]


def test_an_upload_that_takes_too_long_leaves_nothing(database: Path, tiny_artifact: Path) -> None:
    with service(database, tiny_artifact, drain_s=0, shutdown_s=1) as replica, half_sent(replica):
        replica.process.send_signal(signal.SIGTERM)
        assert stopped(replica) == 0
    assert versions(database) == []


@contextmanager
def half_sent(replica: Replica) -> Iterator[tuple[socket.socket, bytes]]:
    """A cell of which half is sent and taken, and the other half."""
    change = changing_cell.replacement(1)
    content = msgspec.msgpack.encode(change.body)
    half = len(content) // 2
    head = (
        f"{change.method} {change.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/msgpack\r\n"
        f"Content-Length: {len(content)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", replica.port), timeout=GUARD_S) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(content[:half])
        yield connection, content[half:]


def is_closed(replica: Replica) -> bool:
    try:
        socket.create_connection(("127.0.0.1", replica.port), timeout=GUARD_S).close()
    except ConnectionRefusedError:
        return True
    return False


def versions(database: Path) -> list[int]:
    store = open_store(database)
    try:
        return list(store.numbers(changing_cell.CELL.cell_id))
    finally:
        store.close()
