"""What Prometheus sees of trajectories and tracks, beside `Metrics`."""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from service.inference.admission import LANES, Lane
from service.telemetry.metrics import Metrics, Stopwatch

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class TrajectoryMetrics:
    def __init__(self, metrics: Metrics) -> None:
        registry: CollectorRegistry = metrics.registry
        self._metrics = metrics
        self._trajectories = Counter(
            "fingerpost_trajectories_total",
            "Trajectories, by outcome: located, or the cause of the problem.",
            ["outcome"],
            registry=registry,
        )
        self._cues = Counter(
            "fingerpost_trajectory_cues_total",
            "Trajectories located, by where their cues came from.",
            ["source"],
            registry=registry,
        )
        self._tracks = Counter(
            "fingerpost_tracks_total",
            "Users with a track, by outcome: located jointly, or the cause that they were not.",
            ["outcome"],
            registry=registry,
        )
        self._dispatched = Histogram(
            "fingerpost_dispatch_trajectories",
            "Trajectories that are located together.",
            registry=registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self._waits = Histogram(
            "fingerpost_trajectory_queue_duration_seconds",
            "Time that a trajectory waits for the network.",
            registry=registry,
            buckets=_BUCKETS,
        )
        self._queued = Gauge(
            "fingerpost_queue_trajectories", "Trajectories that wait for the network.", ["lane"], registry=registry
        )
        self.artifact = Info("fingerpost_trajectory_artifact", "The artifact for trajectories.", registry=registry)
        self._trajectories.labels("located")  # what has not happened yet is zero, not unknown
        self._tracks.labels("joint")

    def located(self, outcome: str, source: str | None, stopwatch: Stopwatch) -> None:
        """Counts a trajectory, by `source` of its cues where it was located, and the time spent in each stage."""
        self._trajectories.labels(outcome).inc()
        if source is not None:
            self._cues.labels(source).inc()
        self._metrics.stages(stopwatch)

    def tracked(self, outcome: str) -> None:
        self._tracks.labels(outcome).inc()

    def queues(self, length: Callable[[Lane], int]) -> None:
        """As `Metrics.queues`."""
        for lane in LANES:
            self._queued.labels(lane).set_function(partial(length, lane))

    def dispatched(self, stopwatch: Stopwatch, waits: list[float], full: bool) -> None:
        """As `Metrics.dispatched`."""
        self._dispatched.observe(len(waits))
        for wait in waits:
            self._waits.observe(wait)
        self._metrics.stages(stopwatch)
