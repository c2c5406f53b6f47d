"""The metrics of the model that measures snapshots, in the registry of `Metrics`."""

from prometheus_client import Counter, Gauge, Histogram, Info

from service.telemetry.dispatch_metrics import DispatchMetrics
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class MeasureMetrics:
    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self._metrics = metrics
        self._measures = Counter(
            "fingerpost_measures_total",
            "Requests of POST /measure, by outcome: measured, or the cause of the problem.",
            ["outcome"],
            registry=registry,
        )
        self.dispatches = DispatchMetrics(
            Histogram(
                "fingerpost_dispatch_measures",
                "Users whose snapshots are measured together in one dispatch.",
                registry=registry,
                buckets=(1, 2, 4, 8, 16, 32, 64),
            ),
            Histogram(
                "fingerpost_measure_queue_duration_seconds",
                "Time that a user waits for the model that measures snapshots.",
                registry=registry,
                buckets=_BUCKETS,
            ),
            Gauge(
                "fingerpost_queue_measures",
                "Users waiting for the model that measures snapshots.",
                ["lane"],
                registry=registry,
            ),
            metrics.stages,
        )
        self.artifact = Info(
            "fingerpost_measure_artifact", "The artifact that measures snapshots in service.", registry=registry
        )
        # Series exist from the start: a missing series looks like a missing service.
        self._measures.labels("measured")

    def measured(self, outcome: str, stopwatch: Stopwatch) -> None:
        """Records a request of `POST /measure` and the time of its stages."""
        self._measures.labels(outcome).inc()
        self._metrics.stages(stopwatch)
