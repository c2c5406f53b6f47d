"""Puts the service together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from threadpoolctl import threadpool_limits

from models.artifact import load_mateformer
from reference_db.opening import open_store
from reference_db.version_news import News
from service.activation import Activation
from service.artifact_folders import ArtifactFolders
from service.console.routes import console_routes
from service.correlation import Correlate
from service.docs import docs_routes
from service.draining import Draining
from service.engine import start_engine
from service.gate import Gate
from service.health import Health
from service.key_ring import KeyRing
from service.latency import Latencies
from service.live import Live
from service.locate import Locator
from service.locate_trajectory import TrajectoryLocator
from service.metrics import Metrics, RequestMetrics
from service.models import Models
from service.openapi import OpenApi
from service.operators.error_map import ErrorMaps
from service.operators.routes import operator_routes
from service.problem import EXPECTED, on_expected_error, on_unexpected_error
from service.publisher import Publisher
from service.retaining import retain
from service.served_cells import ServedCells
from service.settings import Settings
from service.shortcut import Shortcut
from service.tracing import Trace, Traces
from service.tracker import Tracker
from service.trajectories import load_trajectories
from service.trajectory_metrics import TrajectoryMetrics
from service.workers import Workers


def create_app(settings: Settings, draining: Draining | None = None) -> Starlette:
    """The service as an ASGI app, its networks loaded and proven; `draining` where it will be told of its end.

    Raises `models.artifact.ArtifactError`, `service.network.NetworkUnusable`, `service.keys.KeysUnreadable` or
    `service.tracing.TracingMissing`.
    """
    traces = None if settings.traces_endpoint is None else Traces(settings.traces_endpoint)
    keys = None if settings.keys_file is None else KeyRing(settings.keys_file)
    # One thread owns the network and the indices; pools of BLAS's and FAISS's own would only spin beside it.
    threadpool_limits(limits=1)
    metrics = Metrics(settings.cell_series)
    trajectory_metrics = TrajectoryMetrics(metrics)
    engine = start_engine(load_mateformer(settings.artifact_directory), settings, metrics)
    store = open_store(settings.redis_url or settings.database_directory)
    served = ServedCells(store, engine, settings, metrics)
    trajectories = load_trajectories(settings, store, trajectory_metrics)
    tracker = None if trajectories is None else Tracker(trajectories, settings, trajectory_metrics)
    publisher = Publisher(store, served, settings, metrics, trajectories)
    workers = Workers("batches", settings.request_threads, settings.waiting_limit)
    live = Live(publisher, allowed=settings.console_live)
    locator = Locator(settings, served, workers, metrics, tracker, live)
    trajectory_locator = TrajectoryLocator(settings, trajectories, trajectory_metrics)
    error_maps = ErrorMaps(publisher, served, settings)
    folders = ArtifactFolders(settings)
    activation = Activation(folders, store, served, trajectories, settings, metrics, trajectory_metrics)
    models = Models(folders, served, trajectories, activation, settings)
    health = Health(settings, lambda: served.engine.network, draining or Draining())
    openapi = OpenApi(served, trajectories, store, settings.batch_limit, keyed=keys is not None)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        watching = [served.follow(settings.follow_period_s), retain(publisher, settings.retention_period_s)]
        if isinstance(store, News):
            watching.append(served.listen(store))
        if trajectories is not None:
            watching.append(trajectories.cells.follow(settings.follow_period_s))
        if keys is not None:
            watching.append(keys.follow())
        tasks = [asyncio.create_task(watch) for watch in watching]
        yield
        for task in tasks:
            task.cancel()
        for part in (live, workers, error_maps, publisher, served, tracker, trajectories, store):
            if part is not None:
                part.close()
        if traces is not None:
            await asyncio.to_thread(traces.close)

    busiest = [
        Route("/locate", locator.locate, methods=["POST"]),
        Route("/locate/batch", locator.locate_batch, methods=["POST"]),
    ]
    tracing = [] if traces is None else [Middleware(Trace, traces=traces)]
    gate = [] if keys is None else [Middleware(Gate, keys=keys, metrics_open=settings.metrics_without_key)]
    return Starlette(
        routes=[
            *busiest,
            Route("/locate/trajectory", trajectory_locator.locate, methods=["POST"]),
            *operator_routes(publisher, settings, error_maps, live),
            Route("/models", models.list_models),
            Route("/models/{folder}:activate", models.activate, methods=["POST"]),
            Route("/health/live", health.live),
            Route("/health/ready", health.ready),
            Route("/metrics", metrics.endpoint),
            Route("/latency", Latencies(metrics.registry).endpoint),
            Route("/openapi.json", openapi.endpoint),
            *docs_routes(),
            *console_routes(),
        ],
        middleware=[
            Middleware(Correlate),
            *tracing,
            Middleware(RequestMetrics, metrics=metrics),
            *gate,
            Middleware(Shortcut, routes=busiest),
        ],
        exception_handlers={**dict.fromkeys(EXPECTED, on_expected_error), Exception: on_unexpected_error},
        lifespan=lifespan,
    )
