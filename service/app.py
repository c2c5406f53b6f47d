"""Puts the service together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.middleware import Middleware
from threadpoolctl import threadpool_limits

from fingerpost import __version__
from models.artifact import LwlmManifest, MateformerManifest, TrajectoryManifest
from reference_db.stores.opening import open_store
from reference_db.stores.store import News
from service.artifacts.activation import Activation
from service.artifacts.catalogue import ArtifactFolders
from service.artifacts.follower import ArtifactFollower
from service.artifacts.installation import open_installation
from service.artifacts.router import Models
from service.artifacts.router import router as models_router
from service.artifacts.starting import read_active_artifacts, start_active
from service.auth.key_store import PERIOD_S, READING_S, UNSAFE_AFTER_S, KeyStore
from service.auth.key_uses import PERIOD_S as PERIOD_OF_USES_S
from service.auth.key_uses import KeyUses
from service.auth.middleware import AuthMiddleware
from service.auth.route_scopes import scope_needed
from service.auth.router import router as keys_router
from service.background import Background, Job
from service.cells.encoding_ahead import PERIOD_S as PERIOD_OF_FRAMES_S
from service.cells.encoding_ahead import EncodingAhead
from service.cells.knn_cells import KnnCells
from service.cells.model_choice import ModelChoice
from service.cells.registry import ServedCells
from service.cells.stations import Stations
from service.cells.trajectories import Trajectories
from service.console.outlines import read_outlines
from service.console.outlines import router as outlines_router
from service.console.router import mount_console_assets
from service.console.router import router as console_router
from service.examining.examiner import ProcessExaminer
from service.inference.engine import start_engine, start_lwlm_engine, start_trajectory_engine
from service.inference.knn_engine import KnnEngine
from service.inference.workers import Workers
from service.locating.examples import Examples
from service.locating.joiner import Joiner
from service.locating.joint_locator import JointLocator
from service.locating.live import Live
from service.locating.locator import Locator
from service.locating.measurer import Measurer
from service.locating.recent_answers import MemoryRecentAnswers, RecentAnswers
from service.locating.router import live_router
from service.locating.router import router as locating_router
from service.locating.rungs import MateformerRung
from service.locating.tracker import Tracker
from service.locating.trajectory_locator import TrajectoryLocator
from service.settings import Settings
from service.start_line import ServedParts
from service.telemetry.access_log import AccessLog
from service.telemetry.correlation import CorrelationMiddleware
from service.telemetry.knn_metrics import KnnMetrics
from service.telemetry.measure_metrics import MeasureMetrics
from service.telemetry.metrics import Metrics, RequestMetrics
from service.telemetry.router import router as telemetry_router
from service.telemetry.tracing import Traces, TracingMiddleware
from service.telemetry.trajectory_metrics import TrajectoryMetrics
from service.truths.router import router as truths_router
from service.truths.scorer import TruthScorer
from service.truths.watch import PERIOD_S as PERIOD_OF_TRUTHS_S
from service.truths.watch import CoverageWatch
from service.updates.cells import router as cells_router
from service.updates.collecting import Collector
from service.updates.error_map import ErrorMaps
from service.updates.fingerprints import router as fingerprints_router
from service.updates.overview import Overview
from service.updates.publisher import Publisher
from service.updates.retention_job import run_retention_job
from service.updates.versions import router as versions_router
from service.web.body_budget import BodyBudget, BodyBudgetMiddleware
from service.web.crowd import Crowd
from service.web.docs import mount_swagger_ui
from service.web.docs import router as docs_router
from service.web.head import HeadMiddleware
from service.web.health import Draining, Health
from service.web.health import router as health_router
from service.web.http_protocol import CAUSES as EARLY_CAUSES
from service.web.openapi import operation_id
from service.web.openapi import router as openapi_router
from service.web.origins import OriginMiddleware
from service.web.problems import EXCEPTION_HANDLERS
from service.web.routes import BareRoutes

_NAMES_S = 60.0  # how often the names of all cells are listed

_DESCRIPTION = """\
Locates a radio user from one snapshot of channel state information (CSI) and an optional coarse position. In cells that
the trajectory model was trained in, it also locates several snapshots of a user together. In cells without fingerprints
the base station alone measures and locates users.

Bodies are JSON or msgpack (`application/msgpack`, CSI as raw bytes). Answers come in the format that `Accept` asks for,
by default that of the request. An optional field may be absent or null. Every 4xx and 5xx is `application/problem+json`
with a machine-readable `cause` and, where a field is at fault, `invalidParams`."""

_TAGS = [
    {"name": "locate", "description": "Locate users, and measure their signals."},
    {"name": "cells", "description": "The cells of the reference database: descriptions, policies, errors."},
    {"name": "fingerprints", "description": "The fingerprints of a cell: list, append, delete, export."},
    {"name": "truths", "description": "Where users really were, and what that says about the answers of a cell."},
    {"name": "versions", "description": "The versions of a cell: list, compare, roll back."},
    {"name": "models", "description": "The artifacts that locate users, and those that could."},
    {"name": "keys", "description": "The API keys in force, without the keys."},
    {"name": "health", "description": "Probes for load balancers and orchestrators."},
    {"name": "telemetry", "description": "What the service measures of itself."},
]
_ROUTERS = (
    locating_router,
    cells_router,
    fingerprints_router,
    truths_router,
    versions_router,
    live_router,
    models_router,
    keys_router,
    health_router,
    telemetry_router,
    openapi_router,
    docs_router,
    console_router,
    outlines_router,
)


def create_app(
    settings: Settings,
    draining: Draining | None = None,
    *,
    use_active_artifacts: bool = True,
    is_replica: bool = True,
    examines_apart: bool = False,
) -> FastAPI:
    """The service as an ASGI app, its models loaded and tested. `draining` tells readiness of a stop that is near.

    Without `use_active_artifacts`, the artifacts that the settings name serve. An app that is no replica does no work
    in the background: it follows neither versions nor active artifacts, and no other replica hears of it. An app that
    `examines_apart` indexes, tests and calibrates versions of cells in a process of its own, for the sake of its users.

    Raises `models.artifact.ArtifactError`, `service.inference.session.ModelUnusable`,
    `service.auth.keys.KeysUnreadable`, `service.console.outlines.OutlinesUnreadable` or
    `service.telemetry.tracing.TracingMissing`.
    """
    traces = None if settings.traces_endpoint is None else Traces(settings.traces_endpoint)
    keys = None if settings.keys_file is None else KeyStore(settings.keys_file)
    outlines = None if settings.console_outlines is None else read_outlines(settings.console_outlines)
    # One thread owns the model and the indices. Thread pools of BLAS and FAISS would only compete with it.
    threadpool_limits(limits=1)
    metrics = Metrics(settings.cell_series, EARLY_CAUSES)
    trajectory_metrics = TrajectoryMetrics(metrics)
    measure_metrics = MeasureMetrics(metrics)
    knn_metrics = KnnMetrics(metrics)
    background = Background(metrics.background)
    store = open_store(settings.redis_url or settings.database_directory)
    installation = open_installation(settings.redis_url, settings.database_directory)
    uses = None if keys is None else KeyUses(keys, installation)
    active = read_active_artifacts(installation) if use_active_artifacts else {}
    folders = ArtifactFolders(settings)
    engine = start_active(
        active.get("mateformer"),
        folders,
        settings.artifact_directory,
        MateformerManifest,
        lambda artifact: start_engine(artifact, settings, metrics),
    )
    examiner = ProcessExaminer(settings, metrics.examiner) if examines_apart else None
    served = ServedCells(store, engine, settings, metrics, examiner)
    trajectories = None
    if settings.trajectory_artifact_directory is not None:
        trajectory_engine = start_active(
            active.get("scadf-moe"),
            folders,
            settings.trajectory_artifact_directory,
            TrajectoryManifest,
            lambda artifact: start_trajectory_engine(artifact, settings, trajectory_metrics),
        )
        trajectories = Trajectories(trajectory_engine, served.described, trajectory_metrics)
    stations = None
    if settings.lwlm_artifact_directory is not None:
        lwlm_engine = start_active(
            active.get("lwlm"),
            folders,
            settings.lwlm_artifact_directory,
            LwlmManifest,
            lambda artifact: start_lwlm_engine(artifact, settings, measure_metrics),
        )
        stations = Stations(lwlm_engine, served.described, measure_metrics)
    tracker = None if trajectories is None else Tracker(trajectories, settings, metrics.tracks)
    joint = JointLocator(settings, metrics.tracks)
    publisher = Publisher(store, served, settings, metrics, trajectories, stations)
    knn = KnnCells(store, served, KnnEngine(settings, knn_metrics), settings, knn_metrics)
    choice = ModelChoice(served, knn, stations, settings.confidence)
    workers = Workers("batches", settings.request_threads, settings.waiting_limit)
    live = Live(publisher, allowed=settings.console_live)
    answers = _open_answers(settings)
    by_fingerprints = MateformerRung(choice, settings.position_margin_m, served.drift, joint)
    locator = Locator(
        settings, served, choice, workers, metrics, tracker, by_fingerprints, Joiner(stations), live, answers
    )
    coverage = CoverageWatch(publisher, served, metrics.truths)
    error_maps = ErrorMaps(publisher, served, settings)
    collector = Collector(publisher, error_maps, settings, metrics)
    activation = Activation(
        folders,
        installation,
        store,
        served,
        trajectories,
        stations,
        settings,
        metrics,
        trajectory_metrics,
        measure_metrics,
    )
    follower = ArtifactFollower(installation, activation, metrics, settings.follow_period_s)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        jobs = [
            Job("versions", served.follow, settings.follow_period_s, timeout_s=120),
            Job("descriptions", knn.follow, settings.follow_period_s, timeout_s=120),
            Job("cell names", served.lookups.learn, _NAMES_S, timeout_s=120),
            Job("retention", partial(run_retention_job, publisher), settings.retention_period_s, None, 3600, False),
            Job("truths", coverage.run_job, PERIOD_OF_TRUTHS_S, timeout_s=120),
            Job("history", collector.run_job, settings.retention_period_s, None, 3600, False),
        ]
        if settings.encode_ahead:
            jobs.append(Job("frames ahead", EncodingAhead(lambda: served.engine).run_job, PERIOD_OF_FRAMES_S))
        if isinstance(answers, MemoryRecentAnswers):
            jobs.append(Job("answers", answers.forget_old, min(settings.answer_ttl_s, _NAMES_S)))
        if isinstance(store, News):
            jobs.append(Job("news", partial(served.listen, store), 0))
        if keys is not None:
            jobs.append(Job("keys", keys.follow, PERIOD_S, UNSAFE_AFTER_S, READING_S))
        if uses is not None:
            jobs.append(Job("key uses", uses.exchange, PERIOD_OF_USES_S))
        jobs += follower.list_jobs()
        if is_replica:
            for job in jobs:
                background.start(job)
        yield
        await background.stop()
        if is_replica:
            await follower.withdraw()
        for part in (
            examiner,  # first: others wait for their threads, which wait for it
            activation,
            installation,
            live,
            answers,
            workers,
            error_maps,
            publisher,
            knn,
            served,
            tracker,
            joint,
            trajectories,
            stations,
            store,
        ):
            if part is not None:
                part.close()
        if traces is not None:
            await asyncio.to_thread(traces.close)

    tracing = [] if traces is None else [Middleware(TracingMiddleware, traces=traces)]
    access_log = [Middleware(AccessLog)] if settings.access_log else []
    auth = [] if keys is None else [Middleware(AuthMiddleware, keys=keys, metrics_open=settings.metrics_without_key)]
    bodies = BodyBudget(max(settings.bodies_limit_bytes, settings.body_limit_bytes))
    hosts = frozenset(name.lower() for name in (settings.host, *settings.allowed_hosts)) if keys is None else None
    app = FastAPI(
        title="Fingerpost",
        version=__version__,
        description=_DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_url=None,  # `service.web.openapi` adds what FastAPI cannot know
        docs_url=None,
        redoc_url=None,
        openapi_tags=_TAGS,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # the service measures and traces by itself
        separate_input_output_schemas=False,
        generate_unique_id_function=operation_id,
        lifespan=lifespan,
        exception_handlers=EXCEPTION_HANDLERS,
        middleware=[
            Middleware(CorrelationMiddleware),
            *tracing,
            *access_log,
            Middleware(RequestMetrics, metrics=metrics),
            Middleware(OriginMiddleware, hosts=hosts),
            Middleware(BodyBudgetMiddleware, budget=bodies),
            *auth,
            Middleware(HeadMiddleware),
            Middleware(BareRoutes, routes=locating_router.routes),
        ],
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.locator = locator
    app.state.crowd = Crowd(lambda: served.engine.dispatcher.room, lambda: served.engine.dispatcher.note_overload())
    app.state.truth_scorer = TruthScorer(
        settings, locator, served, publisher, answers, workers, metrics.truths, coverage
    )
    app.state.trajectory_locator = TrajectoryLocator(
        settings, trajectories, served, by_fingerprints, joint, workers, trajectory_metrics
    )
    app.state.measurer = Measurer(settings, stations, workers, measure_metrics)
    app.state.background = background
    app.state.served_parts = ServedParts(store, activation.references)
    app.state.faults = served.faults
    app.state.live = live
    app.state.publisher = publisher
    app.state.error_maps = error_maps
    app.state.overview = Overview(served, trajectories, stations, settings, coverage.contradicts)
    app.state.health = Health(
        settings, lambda: served.engine.session, draining or Draining(), background, store, lambda: served.store_reached
    )
    app.state.collector = collector
    app.state.models = Models(folders, served, trajectories, stations, activation, follower, installation, settings)
    app.state.keys = keys
    app.state.key_uses = uses
    app.state.outlines = outlines
    app.state.scope_needed = None if keys is None else scope_needed
    app.state.examples = Examples(served, trajectories, stations, store).by_operation
    for router in _ROUTERS:
        app.include_router(router)
    mount_swagger_ui(app)
    mount_console_assets(app)
    return app


def _open_answers(settings: Settings) -> RecentAnswers | None:
    """Where answers are remembered; None where they are not."""
    if not settings.answer_ttl_s:
        return None
    if settings.redis_url is None:
        return MemoryRecentAnswers(settings.answer_ttl_s, settings.answer_limit)
    from service.locating.redis_recent_answers import (
        RedisRecentAnswers,
    )  # a sixth of a second that others need not spend

    return RedisRecentAnswers(settings.redis_url, settings.answer_ttl_s, settings.answer_limit, settings.waiting_limit)
