import time
from pathlib import Path

import pytest

from benchmarks.serving import inprocess
from benchmarks.serving.campaign import QUICK, overload_of, saturate
from benchmarks.serving.cells import street, write_references
from benchmarks.serving.full_graph import FullGraph
from benchmarks.serving.generator import fire, write_requests
from benchmarks.serving.served_models import shipped
from tests.benchmarks.serving.plain_server import plain_server, response

MODEL = shipped()


class Limited:
    """Locates at most 1,000 users a second."""

    def __init__(self, most: float) -> None:
        self.most, self.rates = most, list[float]()

    def fire(self, rate: float, seconds: float, fewest: int) -> None:
        self.rates.append(rate)
        self.most = max(self.most, min(rate, 1000.0))


@pytest.mark.parametrize(
    ("first", "rates"),
    [
        (400.0, [600.0, 900.0, 1350.0, 2025.0]),
        (2000.0, [3000.0]),
        (15.0, [15.0 * 1.5**step for step in range(1, 13)]),  # the search for a sustained rate met noise
    ],
)
def test_the_highest_rate_is_searched_until_it_does_not_grow(first: float, rates: list[float]) -> None:
    target = Limited(most=min(first, 1000.0))
    saturate(target, first, QUICK)  # type: ignore[arg-type]
    assert target.rates == pytest.approx(rates)
    assert target.most == 1000.0


def test_overload_counts_refusals_apart_from_failures(generator: Path, tmp_path: Path) -> None:
    statuses = [200, 200, 429, 503, 500]
    with plain_server(lambda number, body: response(statuses[number % 5])) as server:
        answers = fire(generator, server.port, write_requests(tmp_path / "r", "/", "text/plain", [b"a"], 1), 100, 50)
    overload = overload_of(answers, 100)
    assert (overload.accepted, overload.refused, overload.failed) == (20, 20, 10)
    assert overload.locations_per_s == pytest.approx(20 / answers.seconds)


def test_p99_of_the_accepted_leaves_out_refused_requests(generator: Path, tmp_path: Path) -> None:
    def refuse_late(number: int, body: bytes) -> bytes:
        time.sleep(0.05 if number % 10 == 9 else 0)
        return response(503 if number % 10 == 9 else 200)

    with plain_server(refuse_late) as server:
        requests = write_requests(tmp_path / "r", "/", "text/plain", [b"a"], 1)
        answers = fire(generator, server.port, requests, 10, 20)
    accepted, refused = (answers.rows["latency"][answers.rows["status"] == status] for status in (200, 503))
    assert (len(accepted), len(refused)) == (18, 2)
    assert refused.min() >= 0.05
    assert overload_of(answers, 10).p99 == accepted.max()


def test_torch_and_onnx_runtime_answer_the_same_in_process(tmp_path: Path) -> None:
    write_references(*street(0), tmp_path / "references.npz")
    graph = FullGraph(MODEL.full_graph, tmp_path / "references.npz", threads=1)
    rows = inprocess.rows_of_references(tmp_path / "references.npz")[:5]
    torch = inprocess.torch_locate(MODEL.folder, graph)
    assert graph.locate(rows) == pytest.approx(torch(rows), abs=1e-3)
    # A user with a fingerprint's own channel is located at the fingerprint.
    assert graph.locate(rows) == pytest.approx(rows[:, -3:-1], abs=0.5)


def test_the_best_batch_has_the_highest_rate_within_the_latency_limit() -> None:
    batches = [
        inprocess.Batch(size, p99, p99, p99, rate, 0.01, 1) for size, p99, rate in ((1, 0.01, 90), (8, 0.05, 150))
    ]
    assert inprocess.best(batches, 0.02) == batches[0]
    assert inprocess.best(batches, 1.0) == batches[1]
    assert inprocess.best(batches, 0.001) is None
