"""The metrics of the service for Prometheus. Each app has a registry of its own."""

import platform
import time
from collections.abc import Iterable, Iterator
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fingerpost import __version__
from service.errors import ServiceError
from service.telemetry.background_metrics import BackgroundMetrics
from service.telemetry.dispatch_metrics import DispatchMetrics
from service.telemetry.drift_metrics import DriftMetrics
from service.telemetry.examiner_metrics import ExaminerMetrics
from service.telemetry.fault_metrics import FaultMetrics
from service.telemetry.location_metrics import LocationMetrics
from service.telemetry.problem_cause import find_cause
from service.telemetry.stopwatch import Stopwatch
from service.telemetry.track_metrics import TrackMetrics
from service.telemetry.truth_metrics import TruthMetrics

_BUILD = {"version": __version__, "python": platform.python_version()}
_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """`cell_series`: see `LocationMetrics`. `early_causes`: of refusals before a request reaches the app."""

    def __init__(self, cell_series: int = 0, early_causes: Iterable[str] = ()) -> None:
        self.registry = registry = CollectorRegistry()
        # They add a series to every counter and histogram.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=registry)
        self.locations = LocationMetrics(registry, cell_series)
        self.truths = TruthMetrics(registry, self.locations.cells)
        self.background = BackgroundMetrics(registry)
        self.faults = FaultMetrics(registry)
        self.drift = DriftMetrics(registry)
        self.examiner = ExaminerMetrics(registry)
        self._stages = Histogram(
            "fingerpost_stage_duration_seconds",
            "Time spent in a stage. decode and encode: of one request; other stages: of all users in one dispatch.",
            ["stage"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self._requests = Counter(
            "fingerpost_requests_total", "HTTP requests answered.", ["route", "status"], registry=registry
        )
        self._problems = Counter(
            "fingerpost_problems_total",
            "Requests answered by a problem, by its cause, also requests that cannot be read and those of connections "
            "over the limit. Users of a batch: see fingerpost_locations_total.",
            ["cause"],
            registry=registry,
        )
        self._durations = Histogram(
            "fingerpost_request_duration_seconds",
            "Time from the headers of a request to the end of its answer.",
            ["route"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self.dispatches = DispatchMetrics(
            Histogram(
                "fingerpost_dispatch_users",
                "Users located together in one dispatch.",
                registry=registry,
                buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            ),
            Histogram(
                "fingerpost_queue_duration_seconds",
                "Time that a user waits for the model.",
                registry=registry,
                buckets=_BUCKETS,
            ),
            Gauge("fingerpost_queue_users", "Users waiting for the model.", ["lane"], registry=registry),
            self.stages,
        )
        self.tracks = TrackMetrics(registry, self.stages)
        self._ends = Counter(
            "fingerpost_dispatches_total",
            "Dispatches, by end: all (every waiting user was included) or full (some users were left waiting).",
            ["end"],
            registry=registry,
        )
        self._frames_found = Counter(
            "fingerpost_frame_cache_lookups_total",
            "Look-ups in the frame cache, by result: hit or miss.",
            ["result"],
            registry=registry,
        )
        self._frames_ahead = Counter(
            "fingerpost_frames_ahead_total",
            "Frames encoded while the model was idle, for tiles next to those that users entered and for cells that "
            "were loaded, by event: encoded, or used by a user for the first time.",
            ["event"],
            registry=registry,
        )
        self.frame_bytes = Gauge("fingerpost_frame_cache_bytes", "Memory of the frames held.", registry=registry)
        self.frame_pool = Gauge(
            "fingerpost_frame_pool_bytes",
            "Memory allocated for frames on the device of the execution provider.",
            registry=registry,
        )
        self.feature_bytes = Gauge(
            "fingerpost_feature_cache_bytes",
            "Memory of the features of fingerprints that are held for frames.",
            registry=registry,
        )
        self._frame_durations = Histogram(
            "fingerpost_frame_encode_duration_seconds",
            "Time to encode missing frames, several at once.",
            registry=registry,
            buckets=_BUCKETS,
        )
        self.cells_held = Gauge("fingerpost_cells_held", "Cells in memory, ready to serve.", registry=registry)
        self.cell_bytes = Gauge(
            "fingerpost_cell_memory_bytes", "Memory of the cells held, without mapped files.", registry=registry
        )
        self.cells_evicted = Counter(
            "fingerpost_cells_evicted_total", "Cells evicted from memory to make room.", registry=registry
        )
        self._cell_lookups = Counter(
            "fingerpost_cell_lookups_total",
            "Look-ups of cells by requests, by result: hit (in memory) or miss.",
            ["result"],
            registry=registry,
        )
        self._cell_loads = Histogram(
            "fingerpost_cell_load_duration_seconds",
            "Time to load a cell at its first use.",
            registry=registry,
            buckets=(*_BUCKETS, 30, 60, 120),
        )
        self.stale_seconds = Gauge(
            "fingerpost_reference_db_stale_seconds",
            "Time since the reference database last answered which cells have new versions.",
            registry=registry,
        )
        self._updates = Counter(
            "fingerpost_cell_updates_total",
            "Changes of cells by operators, by outcome: published, replayed, removed, or the cause of the problem.",
            ["outcome"],
            registry=registry,
        )
        self._versions_removed = Counter(
            "fingerpost_versions_removed_total", "Old versions of cells removed by this replica.", registry=registry
        )
        self._bytes_removed = Counter(
            "fingerpost_version_bytes_removed_total",
            "Bytes of the reference database freed by removing old versions.",
            registry=registry,
        )
        self.artifact = Info("fingerpost_artifact", "The artifact in service.", registry=registry)
        self.artifact_missing = Gauge(
            "fingerpost_active_artifact_missing",
            "1 while this replica cannot serve with the installation's active artifact of a family.",
            ["family"],
            registry=registry,
        )
        Info("fingerpost_build", "Version of the service and of Python.", registry=registry).info(_BUILD)
        # A look-up of labels costs more than the count.
        self._stage = cache(self._stages.labels)
        self._cell_lookup = cache(self._cell_lookups.labels)
        self._request = cache(self._requests.labels)
        self._duration = cache(self._durations.labels)
        self._end = cache(self._ends.labels)
        # Series exist from the start: a missing series looks like a missing service.
        self._updates.labels("published")
        for cause in (*_list_causes(ServiceError), *early_causes):
            self._problems.labels(cause)
        for end in ("all", "full"):
            self._end(end)
        for found in ("hit", "miss"):
            self._cell_lookup(found)
            self._frames_found.labels(found)
        for event in ("encoded", "used"):
            self._frames_ahead.labels(event)

    def stages(self, stopwatch: Stopwatch) -> None:
        """Records the time spent in each stage reached."""
        for stage, seconds in stopwatch.seconds.items():
            self._stage(stage).observe(seconds)

    def dispatched(self, stopwatch: Stopwatch, waits: list[float], full: bool) -> None:
        """Records a dispatch of users; `full`: users were left waiting."""
        self._end("full" if full else "all").inc()
        self.dispatches.dispatched(stopwatch, waits, full)

    def frames_found(self, hits: int, misses: int, ahead: int) -> None:
        """`ahead`: hits of frames that were encoded ahead, and that no user was in before."""
        self._frames_found.labels("hit").inc(hits)
        self._frames_found.labels("miss").inc(misses)
        self._frames_ahead.labels("used").inc(ahead)

    def frame_encoded_ahead(self) -> None:
        self._frames_ahead.labels("encoded").inc()

    def frames_encoded(self, seconds: float) -> None:
        self._frame_durations.observe(seconds)

    def cells_found(self, hits: int, misses: int) -> None:
        self._cell_lookup("hit").inc(hits)
        self._cell_lookup("miss").inc(misses)

    def cell_loaded(self, seconds: float) -> None:
        self._cell_loads.observe(seconds)

    def updated(self, outcome: str) -> None:
        self._updates.labels(outcome).inc()

    def versions_removed(self, versions: int, size: int) -> None:
        self._versions_removed.inc(versions)
        self._bytes_removed.inc(size)

    def answered(self, route: str, status: int, seconds: float, cause: str | None) -> None:
        """Records a request, the time that it took, and the cause of the problem that answered it."""
        self._request(route, status).inc()
        if cause is not None:
            self._problems.labels(cause).inc()
        self._duration(route).observe(seconds)

    def refused(self, cause: str) -> None:
        """Records a refusal that never reached the app."""
        self._problems.labels(cause).inc()


def _list_causes(kind: type[ServiceError]) -> Iterator[str]:
    if hasattr(kind, "cause"):
        yield kind.cause
    for one in kind.__subclasses__():
        yield from _list_causes(one)


class RequestMetrics:
    """ASGI middleware that counts requests by route pattern, not by path: the number of series stays small."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        start = time.perf_counter()
        try:
            await self.app(scope, receive, note_status)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.answered(route, status, time.perf_counter() - start, find_cause(scope, status))
