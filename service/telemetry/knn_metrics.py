"""The metrics of the queue before weighted kNN, in the registry of `Metrics`."""

from prometheus_client import Gauge, Histogram

from service.telemetry.dispatch_metrics import DispatchMetrics
from service.telemetry.metrics import Metrics

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class KnnMetrics:
    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self.dispatches = DispatchMetrics(
            Histogram(
                "fingerpost_dispatch_knn_users",
                "Users located by weighted kNN together in one dispatch.",
                registry=registry,
                buckets=(1, 2, 4, 8, 16, 32, 64),
            ),
            Histogram(
                "fingerpost_knn_queue_duration_seconds",
                "Time that a user waits for weighted kNN.",
                registry=registry,
                buckets=_BUCKETS,
            ),
            Gauge("fingerpost_queue_knn_users", "Users waiting for weighted kNN.", ["lane"], registry=registry),
            metrics.stages,
        )
        self.cells = Gauge(
            "fingerpost_knn_cells", "Cells in memory in which weighted kNN can locate users.", registry=registry
        )
