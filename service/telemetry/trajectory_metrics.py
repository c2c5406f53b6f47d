"""The metrics of trajectories, in the registry of `Metrics`."""

from prometheus_client import Counter, Gauge, Histogram, Info

from service.telemetry.dispatch_metrics import DispatchMetrics
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class TrajectoryMetrics:
    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self._metrics = metrics
        self._trajectories = Counter(
            "fingerpost_trajectories_total",
            "Trajectories, by outcome: located, or the cause of the problem.",
            ["outcome"],
            registry=registry,
        )
        self._path_features = Counter(
            "fingerpost_trajectory_cues_total",
            "Trajectories located, by source of their path features: measured by the base station, or estimated.",
            ["source"],
            registry=registry,
        )
        self.dispatches = DispatchMetrics(
            Histogram(
                "fingerpost_dispatch_trajectories",
                "Trajectories located together in one dispatch.",
                registry=registry,
                buckets=(1, 2, 4, 8, 16, 32, 64),
            ),
            Histogram(
                "fingerpost_trajectory_queue_duration_seconds",
                "Time that a trajectory waits for the model.",
                registry=registry,
                buckets=_BUCKETS,
            ),
            Gauge("fingerpost_queue_trajectories", "Trajectories waiting for the model.", ["lane"], registry=registry),
            metrics.stages,
        )
        self.artifact = Info(
            "fingerpost_trajectory_artifact", "The artifact for trajectories in service.", registry=registry
        )
        # Series exist from the start: a missing series looks like a missing service.
        self._trajectories.labels("located")

    def located(self, outcome: str, source: str | None, stopwatch: Stopwatch) -> None:
        """Records a trajectory, the time of its stages and, when it was located, the source of its path features."""
        self._trajectories.labels(outcome).inc()
        if source is not None:
            self._path_features.labels(source).inc()
        self._metrics.stages(stopwatch)
