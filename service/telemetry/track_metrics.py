"""The metrics of tracks: of users with a trackId, and of all that are located together by fingerprints."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fingerpost.wire_provenance import Method
from service.telemetry.dispatch_metrics import DispatchMetrics
from service.telemetry.stopwatch import Stopwatch

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
JOINT, FIRST, DOUBTFUL = "joint", "first", "doubtful"


class TrackMetrics:
    def __init__(self, registry: CollectorRegistry, stages: Callable[[Stopwatch], None]) -> None:
        self._tracks = Counter(
            "fingerpost_tracks_total",
            "Users with a trackId, by method and outcome: joint (located by several snapshots), first (none is held "
            "that belongs to this one), doubtful (the signal is unlike the cell or contradicts the fix), or the cause "
            "why not. A user whom one method left to another counts for each.",
            ["method", "outcome"],
            registry=registry,
        )
        self.dispatches = DispatchMetrics(
            Histogram(
                "fingerpost_dispatch_tracks",
                "Tracks located together in one dispatch, by comparison with fingerprints.",
                registry=registry,
                buckets=(1, 2, 4, 8, 16, 32, 64),
            ),
            Histogram(
                "fingerpost_track_queue_duration_seconds",
                "Time that a track waits for the model after each of its snapshots has been located.",
                registry=registry,
                buckets=_BUCKETS,
            ),
            Gauge("fingerpost_queue_tracks", "Tracks waiting for the model.", ["lane"], registry=registry),
            stages,
        )
        # Series exist from the start: a missing series looks like a missing service.
        for method in ("scadf-moe", "mateformer"):
            self._tracks.labels(method, JOINT)

    def tracked(self, method: Method, outcome: str) -> None:
        self._tracks.labels(method, outcome).inc()
