"""Puts the service together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from threadpoolctl import threadpool_limits

from models.artifact import load_mateformer
from reference_db.stores.opening import open_store
from reference_db.stores.version_news import News
from service.artifacts.activation import Activation
from service.artifacts.catalogue import ArtifactFolders
from service.artifacts.router import Models
from service.auth.key_store import KeyStore
from service.auth.middleware import AuthMiddleware
from service.cells.registry import ServedCells
from service.cells.trajectories import load_trajectories
from service.console.router import console_routes
from service.inference.engine import start_engine
from service.inference.workers import Workers
from service.locating.live import Live
from service.locating.locator import Locator
from service.locating.tracker import Tracker
from service.locating.trajectory_locator import TrajectoryLocator
from service.settings import Settings
from service.telemetry.correlation import Correlate
from service.telemetry.latency import Latencies
from service.telemetry.metrics import Metrics, RequestMetrics
from service.telemetry.tracing import Trace, Traces
from service.telemetry.trajectory_metrics import TrajectoryMetrics
from service.updates.error_map import ErrorMaps
from service.updates.publisher import Publisher
from service.updates.retention_job import run_retention_job
from service.updates.router import operator_routes
from service.web.docs import docs_routes
from service.web.draining import Draining
from service.web.fast_path import Shortcut
from service.web.health import Health
from service.web.openapi import OpenApi
from service.web.problems import EXPECTED, on_expected_error, on_unexpected_error


def create_app(settings: Settings, draining: Draining | None = None) -> Starlette:
    """The service as an ASGI app, its networks loaded and proven; `draining` where it will be told of its end.

    Raises `models.artifact.ArtifactError`, `service.inference.session.ModelUnusable`,
    `service.auth.keys.KeysUnreadable` or `service.telemetry.tracing.TracingMissing`.
    """
    traces = None if settings.traces_endpoint is None else Traces(settings.traces_endpoint)
    keys = None if settings.keys_file is None else KeyStore(settings.keys_file)
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
        watching = [served.follow(settings.follow_period_s), run_retention_job(publisher, settings.retention_period_s)]
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
    gate = [] if keys is None else [Middleware(AuthMiddleware, keys=keys, metrics_open=settings.metrics_without_key)]
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
