"""What Prometheus sees. Every app has a registry of its own."""

import platform
import time
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from types import TracebackType
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.inference.admission import LANES, Lane
from service.telemetry.location_metrics import LocationMetrics

Stage = Literal["decode", "retrieve", "frame", "infer", "cues", "joint", "encode"]

_BUILD = {"version": version("fingerpost"), "python": platform.python_version()}
_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Stopwatch:
    """The seconds that one request spends in each stage, however often it enters it."""

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = {}

    def stage(self, stage: Stage) -> "_Lap":
        return _Lap(self.seconds, stage)


class _Lap:
    # A generator under `contextmanager` takes thrice as long, and every location is measured five times.
    __slots__ = ("_seconds", "_stage", "_start")

    def __init__(self, seconds: dict[Stage, float], stage: Stage) -> None:
        self._seconds = seconds
        self._stage = stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + time.perf_counter() - self._start


class Metrics:
    """`cell_series`: see `LocationMetrics`."""

    def __init__(self, cell_series: int = 0) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(namespace="fingerpost", registry=registry)
        self.locations = LocationMetrics(registry, cell_series)
        self._stages = Histogram(
            "fingerpost_stage_duration_seconds",
            "Time of a stage: to decode and encode, of a request; between, of all users who are located together.",
            ["stage"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self._requests = Counter(
            "fingerpost_requests_total", "HTTP requests answered.", ["route", "status"], registry=registry
        )
        self._durations = Histogram(
            "fingerpost_request_duration_seconds",
            "Time from a request's headers to the end of its answer.",
            ["route"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self._waits = Histogram(
            "fingerpost_queue_duration_seconds",
            "Time that a user waits for the network.",
            registry=registry,
            buckets=_BUCKETS,
        )
        self._users = Histogram(
            "fingerpost_dispatch_users",
            "Users who are located together.",
            registry=registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        )
        self._dispatches = Counter(
            "fingerpost_dispatches_total",
            "Dispatches, by what ended them: all who waited were in, or they were full.",
            ["end"],
            registry=registry,
        )
        self._queued = Gauge("fingerpost_queue_users", "Users who wait for the network.", ["lane"], registry=registry)
        self._frames_found = Counter(
            "fingerpost_frame_cache_lookups_total",
            "Frames asked for, by whether they were there.",
            ["result"],
            registry=registry,
        )
        self.frame_bytes = Gauge("fingerpost_frame_cache_bytes", "Frames in memory.", registry=registry)
        self.frame_pool = Gauge(
            "fingerpost_frame_pool_bytes",
            "Memory set aside for frames, where the execution provider runs them.",
            registry=registry,
        )
        self._frame_durations = Histogram(
            "fingerpost_frame_encode_duration_seconds",
            "Time to encode missing frames, some at once.",
            registry=registry,
            buckets=_BUCKETS,
        )
        self.cells_held = Gauge("fingerpost_cells_held", "Cells in memory, ready to serve.", registry=registry)
        self.cell_bytes = Gauge(
            "fingerpost_cell_memory_bytes", "Memory that the cells held take, mapped files apart.", registry=registry
        )
        self.cells_evicted = Counter(
            "fingerpost_cells_evicted_total", "Cells that left memory to make room.", registry=registry
        )
        self._cell_lookups = Counter(
            "fingerpost_cell_lookups_total",
            "Cells asked for by requests, by whether they were in memory.",
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
            "Time since the reference database last said which cells have new versions.",
            registry=registry,
        )
        self._updates = Counter(
            "fingerpost_cell_updates_total",
            "Operators' changes, by outcome: published, replayed, or the cause of the problem.",
            ["outcome"],
            registry=registry,
        )
        self.artifact = Info("fingerpost_artifact", "The artifact that serves.", registry=registry)
        Info("fingerpost_build", "The service itself.", registry=registry).info(_BUILD)
        # To look a child up takes longer than to count.
        self._stage = cache(self._stages.labels)
        self._cell_lookup = cache(self._cell_lookups.labels)
        self._request = cache(self._requests.labels)
        self._duration = cache(self._durations.labels)
        self._dispatch = cache(self._dispatches.labels)
        # What has not happened yet is zero, not unknown.
        self._updates.labels("published")
        for end in ("all", "full"):
            self._dispatch(end)
        for found in ("hit", "miss"):
            self._cell_lookup(found)
            self._frames_found.labels(found)

    def stages(self, stopwatch: Stopwatch) -> None:
        """Counts the time spent in each stage reached."""
        for stage, seconds in stopwatch.seconds.items():
            self._stage(stage).observe(seconds)

    def queues(self, length: Callable[[Lane], int]) -> None:
        """Has the users who wait in each lane counted whenever somebody looks."""
        for lane in LANES:
            self._queued.labels(lane).set_function(partial(length, lane))

    def dispatched(self, stopwatch: Stopwatch, waits: list[float], full: bool) -> None:
        """Counts a dispatch: the seconds of each stage, those that each of its users had waited, if others still do."""
        self._users.observe(len(waits))
        self._dispatch("full" if full else "all").inc()
        for wait in waits:
            self._waits.observe(wait)
        self.stages(stopwatch)

    def frames_found(self, hits: int, misses: int) -> None:
        self._frames_found.labels("hit").inc(hits)
        self._frames_found.labels("miss").inc(misses)

    def frames_encoded(self, seconds: float) -> None:
        self._frame_durations.observe(seconds)

    def cells_found(self, hits: int, misses: int) -> None:
        self._cell_lookup("hit").inc(hits)
        self._cell_lookup("miss").inc(misses)

    def cell_loaded(self, seconds: float) -> None:
        self._cell_loads.observe(seconds)

    def updated(self, outcome: str) -> None:
        self._updates.labels(outcome).inc()

    def answered(self, route: str, status: int, seconds: float) -> None:
        self._request(route, status).inc()
        self._duration(route).observe(seconds)


class RequestMetrics:
    """ASGI middleware that counts every request by route pattern, so that labels stay few."""

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
            self.metrics.answered(route, status, time.perf_counter() - start)
