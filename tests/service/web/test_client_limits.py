"""Two hundred clients at once that take memory or connections and do not go on; the service is a real process."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np

from reference_db import DirectoryStore, Fingerprints, import_fingerprints
from tests.redis_servers import GUARD_S, wait_until
from tests.service.replicas import Replica, running
from tests.service.running import tiny_request, tiny_service
from tests.service.tiny_artifact import ANTENNAS, SUBCARRIERS
from tests.service.tiny_cell import ORIGIN, tiny_cell

CLIENTS = 200
MIB = 2**20
BODY = 8 * MIB
ANSWERED = 'fingerpost_requests_total{route="/cells/{cellId}/fingerprints",status="200"}'
HEAD = b"POST /locate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@contextmanager
def serving(folder: Path, **settings: object) -> Iterator[Replica]:
    tiny = tiny_service(folder)
    with running(tiny.database_directory, folder, folder / "log", **settings) as replica:
        located = replica.client.post("/locate", json=tiny_request(1))
        assert located.status_code == 200, located.text
        yield replica


@contextmanager
def connected(
    replica: Replica, number: int = CLIENTS, receive_bytes: int | None = None
) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.socket()) for _ in range(number)]
        for connection in connections:
            if receive_bytes is not None:  # the kernel itself keeps no more of an answer
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            connection.settimeout(GUARD_S)
            connection.connect(("127.0.0.1", replica.port))
        yield connections


def memory_of(replica: Replica) -> int:
    """Resident bytes of the service."""
    pages = Path(f"/proc/{replica.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def open_files(replica: Replica) -> int:
    return len(os.listdir(f"/proc/{replica.process.pid}/fd"))


def received(connection: socket.socket) -> bytes:
    """All bytes until the service closes the connection."""
    answer = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            answer += part
    return answer


def test_unfinished_bodies_take_bounded_memory_that_comes_back(tmp_path: Path) -> None:
    sent = bytes(BODY - 1)
    with serving(tmp_path, bodies_limit_bytes=64 * MIB) as replica:
        before = memory_of(replica)
        with connected(replica) as connections:
            for connection in connections:
                connection.sendall(HEAD % BODY + sent)
            connections[-1].settimeout(GUARD_S)
            refused = connections[-1].recv(65536)
            assert memory_of(replica) - before < 150 * MIB
            assert replica.client.post("/locate", json=tiny_request(1)).status_code == 200  # a small body passes
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: " in refused.lower()
        assert b'"cause":"TOO_MANY_BODIES"' in refused
        large = bytes(BODY)
        wait_until(  # the memory of clients that are gone is free for others
            lambda: (
                replica.client.post("/locate", content=large, headers={"Content-Type": "application/json"}).status_code
                == 400
            ),
            "the bodies of clients that have gone are still counted",
        )
        wait_until(lambda: memory_of(replica) - before < 60 * MIB, "the memory does not come back")


def test_answers_that_are_not_read_take_bounded_memory_that_comes_back(tmp_path: Path) -> None:
    n = 6000
    with serving(tmp_path, answers_limit_bytes=16 * MIB, write_timeout_s=2) as replica:
        store = DirectoryStore(tmp_path / "database")
        csi = np.ones((n, ANTENNAS, SUBCARRIERS), np.complex64)
        positions = np.random.default_rng(0).uniform(0, 100, (n, 2)).astype(np.float32)
        large = Fingerprints(csi, positions, np.zeros(n), np.full(n, 0.05, np.float32))
        import_fingerprints(store, tiny_cell().model_copy(update={"cell_id": "large"}), large, {}, ORIGIN)
        whole = replica.client.get("/cells/large/fingerprints", params={"limit": n})
        assert len(whole.content) > MIB / 2
        before = memory_of(replica)
        ask = f"GET /cells/large/fingerprints?limit={n} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        with connected(replica, receive_bytes=4096) as connections:
            for connection in connections:
                connection.sendall(ask)
            wait_until(lambda: replica.metric(ANSWERED) >= CLIENTS + 1, "not all requests are answered")
            assert memory_of(replica) - before < 80 * MIB
            wait_until(lambda: open_files(replica) < CLIENTS / 2, "connections that read nothing stay open")
        wait_until(lambda: memory_of(replica) - before < 60 * MIB, "the memory does not come back")


def test_silent_connections_and_half_sent_heads_are_closed(tmp_path: Path) -> None:
    with serving(tmp_path, head_timeout_s=0.5) as replica, connected(replica) as connections:
        halves = [b"", b"\r\n", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nA: "]
        for number, connection in enumerate(connections):
            connection.sendall(halves[number % len(halves)])
        answers = [received(connection) for connection in connections]
        assert answers[0] == b""
        for answer in answers[3::4]:
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b'"cause":"HEAD_TOO_SLOW"' in answer
        assert replica.client.get("/health/live").status_code == 200


def test_a_connection_between_requests_stays_open_longer_than_a_head_may_take(tmp_path: Path) -> None:
    ask = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(tmp_path, head_timeout_s=0.5) as replica, connected(replica, 1) as (connection,):
        for pause in (2, 0):  # seconds: two looks for slow clients
            connection.sendall(ask)
            answer = b""
            while not answer.endswith(b'{"status":"live"}'):
                part = connection.recv(65536)
                assert part
                answer += part
            time.sleep(pause)


def test_connections_over_the_limit_are_refused_by_a_problem_until_others_close(tmp_path: Path) -> None:
    ask = b"GET /cells HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with serving(tmp_path, connection_limit=CLIENTS, head_timeout_s=GUARD_S) as replica:
        replica.client.close()
        with connected(replica) as connections:
            for connection in connections:
                connection.sendall(b"G")
            with connected(replica, 20) as further:
                for connection in further:
                    connection.sendall(ask)
                for connection in further:
                    answer = received(connection)
                    assert answer.startswith(b"HTTP/1.1 503 ")
                    assert b"connection: close" in answer
                    assert b"retry-after: 1" in answer
                    assert b'"cause":"TOO_MANY_CONNECTIONS"' in answer
            connections[0].sendall(ask[1:])  # a connection within the limit goes on
            assert received(connections[0]).startswith(b"HTTP/1.1 200 ")
        wait_until(
            lambda: httpx.get(f"http://127.0.0.1:{replica.port}/health/live").status_code == 200,
            "the service stays closed",
        )


def test_probes_and_prometheus_are_answered_over_the_limit_of_connections(tmp_path: Path) -> None:
    head = b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(tmp_path, connection_limit=21, head_timeout_s=GUARD_S) as replica, connected(replica, 20) as waiting:
        for connection in waiting:
            connection.sendall(b"G")
        for path in (b"/health/live", b"/health/ready", b"/metrics", b"/health/live?from=kubelet"):
            for method in (b"GET ", b"HEAD "):
                with connected(replica, 1) as (further,):
                    # What follows on the same connection is not answered.
                    further.sendall(method + path + head + b"GET /cells" + head)
                    answer = received(further)
                    assert answer.startswith(b"HTTP/1.1 200 "), (path, answer)
                    assert b"connection: close" in answer
                    assert answer.count(b"HTTP/1.1 ") == 1
        for other in (b"GET /cells", b"GET /health/liveliness", b"POST /health/live", b"GET /metrics/all", b"G"):
            with connected(replica, 1) as (further,):
                further.sendall(other + head)
                assert received(further).startswith(b"HTTP/1.1 503 "), other


def test_only_some_probes_at_once_are_answered_over_the_limit_of_connections(tmp_path: Path) -> None:
    begun = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
    with serving(tmp_path, connection_limit=3, head_timeout_s=GUARD_S) as replica, connected(replica, 2) as waiting:
        for connection in waiting:
            connection.sendall(b"G")
        with connected(replica, CLIENTS) as further:
            for connection in further:
                connection.sendall(begun)
            answers = [received(connection) for connection in further]
            refused = [answer for answer in answers if b'"cause":"TOO_MANY_CONNECTIONS"' in answer]
            assert len(refused) >= CLIENTS / 2
            assert answers.count(b"") + len(refused) == CLIENTS  # the others are closed, as their heads take too long
            with connected(replica, 1) as (one,):
                one.sendall(begun + b"\r\n")
                assert received(one).startswith(b"HTTP/1.1 200 ")


def test_refusals_before_the_app_are_counted_and_logged(tmp_path: Path) -> None:
    sent = {
        "INVALID_MSG_FORMAT": b"not HTTP\r\n\r\n",
        "HEAD_TOO_LARGE": b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 65_560,
        "HEAD_TOO_SLOW": b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        "TOO_MANY_CONNECTIONS": b"GET /cells HTTP/1.1\r\n\r\n",
    }
    limits = {"connection_limit": 2, "head_timeout_s": 0.5}
    with serving(tmp_path, access_log=True, **limits) as replica, ExitStack() as stack:
        for cause in sent:  # a series that began at 1 would show no increase
            assert f'fingerpost_problems_total{{cause="{cause}"}} 0.0' in replica.client.get("/metrics").text
        for cause, data in sent.items():
            if cause == "TOO_MANY_CONNECTIONS":
                stack.enter_context(connected(replica, 1))
            with connected(replica, 1) as (connection,):
                connection.sendall(data)
                assert f'"cause":"{cause}"'.encode() in received(connection)
        for cause in sent:
            assert replica.metric(f'fingerpost_problems_total{{cause="{cause}"}}') == 1
            (line,) = [line for line in replica.log.read_text().splitlines() if cause in line]
            assert "refused" in line
            assert "127.0.0.1" in line
