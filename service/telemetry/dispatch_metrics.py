"""Metrics of the queue in front of a model and of its dispatches; the same for users and for trajectories."""

from collections.abc import Callable

from prometheus_client import Gauge, Histogram

from service.telemetry.stopwatch import Stopwatch


class DispatchMetrics:
    """`sizes`: users a dispatch. `waits`: seconds a user waits. `queued`: users waiting, with a label for the lane."""

    def __init__(self, sizes: Histogram, waits: Histogram, queued: Gauge, stages: Callable[[Stopwatch], None]) -> None:
        self._sizes = sizes
        self._waits = waits
        self._queued = queued
        self._record_stages = stages

    def watch_queue(self, lane: str, length: Callable[[], int]) -> None:
        """Calls `length` for the number of users waiting in a lane whenever Prometheus scrapes."""
        self._queued.labels(lane).set_function(length)

    def dispatched(self, stopwatch: Stopwatch, waits: list[float], full: bool) -> None:
        """Records a dispatch: the time of each stage, and the seconds that each of its users waited."""
        self._sizes.observe(len(waits))
        for wait in waits:
            self._waits.observe(wait)
        self._record_stages(stopwatch)
