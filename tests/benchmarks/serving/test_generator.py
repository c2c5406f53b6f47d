import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.generator import HANGING, LOST, GeneratorFailed, Requests, fire, write_requests
from tests.benchmarks.serving.plain_server import plain_server, response


def requests(folder: Path, *bodies: bytes, users: int = 1) -> Requests:
    return write_requests(folder / "some.requests", "/locate", "text/plain", bodies, users)


def test_requests_leave_at_a_constant_rate_and_every_body_in_turn(generator: Path, tmp_path: Path) -> None:
    marks = {b"a": b"", b"b": b"x", b"c": b"xx"}
    begun = time.monotonic()
    with plain_server(lambda number, body: response(body=marks[body])) as server:
        asked = requests(tmp_path, *marks, users=3)
        answers = fire(generator, server.port, asked, rate=200, count=100, first=1, marker="x")
    assert answers.rows["marked"].tolist() == [1, 2, 0] * 33 + [1]
    assert sorted(server.bodies) == sorted([b"a", b"b", b"c"] * 33 + [b"b"])
    assert np.allclose(answers.rows["due"], np.arange(100) / 200)
    # A busy machine may delay a request, but no request leaves before it is due.
    assert (np.sort(server.times) - begun >= answers.rows["due"]).all()
    assert answers.status_counts() == {200: 100}


def test_requests_leave_without_waiting_for_answers(generator: Path, tmp_path: Path) -> None:
    all_arrived = threading.Barrier(50)
    with plain_server(arrived=lambda: all_arrived.wait(60)) as server:
        answers = fire(generator, server.port, requests(tmp_path, b"a"), rate=200, count=50, timeout_s=60)
    assert answers.complete
    assert answers.located == 50


def test_a_stall_of_the_server_counts_for_every_request_it_delayed(generator: Path, tmp_path: Path) -> None:
    def stall_once(number: int, body: bytes) -> bytes:
        time.sleep(3 if number == 50 else 0)
        return response()

    with plain_server(stall_once) as server:
        answers = fire(generator, server.port, requests(tmp_path, b"a"), rate=200, count=250)
    # 200 requests were due in the first of the three seconds. A client that waits for answers sees a single slow one.
    slow = answers.rows["latency"] > 1
    assert slow.sum() == 200
    assert answers.quantile(0.99) > 2.9
    assert answers.quantile(0.1) < 1
    assert answers.complete


def test_who_is_never_answered_hangs_and_who_is_hung_up_on_is_lost(generator: Path, tmp_path: Path) -> None:
    def answer(number: int, body: bytes) -> bytes | None:
        return {b"answer": response(), b"silence": b"", b"hang up": None}[body]

    with plain_server(answer) as server:
        asked = requests(tmp_path, b"answer", b"silence", b"hang up")
        answers = fire(generator, server.port, asked, rate=300, count=30, timeout_s=3.0)
    assert answers.status_counts() == {200: 10, HANGING: 10, LOST: 10}
    assert answers.rows["status"].tolist() == [200, HANGING, LOST] * 10
    assert (answers.rows["latency"][1::3] >= 3.0).all()
    assert not answers.complete


def test_refusals_are_counted_outside_and_inside_of_answers(generator: Path, tmp_path: Path) -> None:
    def answer(number: int, body: bytes) -> bytes:
        return response(503) if number % 2 else response(200, b"fine problem problem fine")

    with plain_server(answer) as server:
        answers = fire(generator, server.port, requests(tmp_path, b"a", users=4), rate=200, count=20, marker="problem")
    assert answers.status_counts() == {200: 10, 503: 10}
    assert answers.located == 10 * (4 - 2)
    assert not answers.complete


def test_large_bodies_and_answers_in_pieces_arrive_whole(generator: Path, tmp_path: Path) -> None:
    large = np.random.default_rng(0).bytes(3_000_000)
    with plain_server(lambda number, body: response(200, body)) as server:
        answers = fire(generator, server.port, requests(tmp_path, large, b"small"), rate=20, count=6)
    assert sorted(map(len, server.bodies)) == [5] * 3 + [len(large)] * 3
    assert server.bodies.count(large) == 3
    assert answers.complete


def test_a_port_where_nobody_listens_loses_every_request(generator: Path, tmp_path: Path) -> None:
    with plain_server() as server:
        pass
    answers = fire(generator, server.port, requests(tmp_path, b"a"), rate=100, count=5)
    assert answers.status_counts() == {LOST: 5}
    assert answers.quantile(0.5) == float("inf")


def test_a_file_that_holds_no_requests_is_refused(generator: Path, tmp_path: Path) -> None:
    (tmp_path / "nonsense").write_bytes(b"nonsense" * 8)
    with pytest.raises(GeneratorFailed, match="nonsense"):
        fire(generator, 1, Requests(tmp_path / "nonsense", 1, 1), rate=1, count=1)
