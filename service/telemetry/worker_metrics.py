"""What the parent of workers measures of them; their own metrics come from the workers."""

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics


class WorkerMetrics:
    """The label `worker` is the number of a worker, counted from 1."""

    def __init__(self, workers: int) -> None:
        self.registry = registry = CollectorRegistry()
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.up = Gauge(
            "fingerpost_worker_up",
            "With several workers: 1 if the worker answered this scrape.",
            ["worker"],
            registry=registry,
        )
        self.starts = Counter(
            "fingerpost_worker_starts_total",
            "With several workers: starts of the worker's process since the service was started.",
            ["worker"],
            registry=registry,
        )
        for number in range(1, workers + 1):
            self.up.labels(str(number))
            self.starts.labels(str(number))
