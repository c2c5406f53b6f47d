from typing import Any

from service.telemetry.latency import measure_latency
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch


def histograms(metrics: Metrics) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = measure_latency(metrics.registry).model_dump(mode="json")["histograms"]
    return found


def test_stages_come_in_order_and_empty_ones_are_left_out() -> None:
    metrics = Metrics()
    assert histograms(metrics) == []
    stopwatch = Stopwatch()
    stopwatch.seconds = {"encode": 0.3, "decode": 0.004}
    metrics.stages(stopwatch)
    metrics.dispatched(Stopwatch(), [20.0], full=False)
    metrics.answered("/locate", 200, 0.02, None)
    metrics.answered("/cells", 200, 0.02, None)
    assert [one["stage"] for one in histograms(metrics)] == ["decode", "queue", "encode", "/locate"]


def test_counts_are_cumulative_and_the_last_bound_is_infinite() -> None:
    metrics = Metrics()
    metrics.dispatched(Stopwatch(), [0.0003, 0.003, 20.0], full=False)
    (queue,) = histograms(metrics)
    assert queue["upTo"][-1] is None
    counts = dict(zip(queue["upTo"], queue["counts"], strict=True))
    assert (counts[0.0001], counts[0.0005], counts[0.005], counts[10.0], counts[None]) == (0, 1, 2, 2, 3)
