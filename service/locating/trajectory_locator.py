"""`POST /locate/trajectory`: the whole path of a request, top to bottom."""

import math
import re
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from fingerpost import wire_trajectory as wire
from fingerpost.wire import CELL_ID_PATTERN
from fingerpost.wire_provenance import FeatureSource
from fingerpost.wire_trajectory import FeatureSources, TrajectoryRequest, TrajectoryResponse
from models.artifact import TrajectoryScales
from reference_db.azimuth import to_direction
from reference_db.cell import Cell
from reference_db.geodesy import LocalFrame
from service import errors
from service.cells.descriptions import DescribedCell
from service.cells.trajectories import Trajectories
from service.errors import ServiceError
from service.inference.engine import TrajectoryEngine
from service.inference.trajectory_estimator import Points, Trajectory, points_within
from service.inference.trajectory_session import PATH_FEATURES
from service.inference.workers import Workers
from service.locating.await_or_disconnect import await_or_disconnect
from service.locating.batch import USER_VALUES
from service.locating.estimates import (
    Json,
    Received,
    Uncertainty,
    declared_deadline,
    whole_minutes,
)
from service.locating.quality import check_declared_quality, check_times, choose_shapes, state_location
from service.settings import Settings
from service.telemetry.stopwatch import Stopwatch
from service.telemetry.trajectory_metrics import TrajectoryMetrics
from service.web.csi import check_declared_shape, check_shape, decode_csi
from service.web.media import LARGE_BYTES, Format, formats, read_body, validated


class _ReadTrajectory(NamedTuple):
    """A valid request: CSI float32 `[antennas, subcarriers, 2]` of each snapshot, path features float64
    `[vertices, 4]`, NaN where absent.
    """

    request: TrajectoryRequest
    csi: list[NDArray[np.float32]]
    path_features: NDArray[np.float64]

    @property
    def source(self) -> FeatureSource:
        return "estimated" if np.isnan(self.path_features).any() else "measured"


class _Point(NamedTuple):
    """A located point. `position` `[2]` in metres east and north."""

    position: NDArray[np.float32]
    cell: Cell
    frame: LocalFrame
    uncertainty: Uncertainty


class TrajectoryLocator:
    def __init__(
        self, settings: Settings, trajectories: Trajectories | None, workers: Workers, metrics: TrajectoryMetrics
    ) -> None:
        self._settings = settings
        self._confidence = round(100 * settings.confidence)
        self._workers = workers
        self._trajectories = trajectories
        self._metrics = metrics

    async def locate(self, request: Request) -> Response:
        """Locates the points of one trajectory. Raises a `ServiceError`."""
        stopwatch, source = Stopwatch(), None
        try:
            if self._trajectories is None:
                raise errors.NoTrajectoryArtifact("this service has no artifact for trajectories")
            engine = self._trajectories.engine  # one engine for the whole request, even if another is activated
            response, source = await self._locate(request, self._trajectories, engine, stopwatch)
        except ServiceError as error:
            self._metrics.located(error.cause, None, stopwatch)
            raise
        self._metrics.located("located", source, stopwatch)
        return response

    async def _locate(
        self, request: Request, trajectories: Trajectories, engine: TrajectoryEngine, stopwatch: Stopwatch
    ) -> tuple[Response, FeatureSource]:
        engine.dispatcher.check_room("single")
        received = Received(datetime.now(UTC), time.monotonic())
        reads, writes = formats(request)
        body = await read_body(request, self._settings.body_limit_bytes, self._settings.body_timeout_s)
        vertices = engine.artifact.manifest.vertices
        if len(body) > LARGE_BYTES:
            with stopwatch.stage("decode"):
                parsed = await self._workers.run(_parse, body, reads, vertices)
            check_declared_quality(parsed, received)
            await _check_declared(parsed, trajectories, engine, received)
            with stopwatch.stage("decode"):
                read = await self._workers.run(_read, parsed, vertices, received)
        else:
            with stopwatch.stage("decode"):
                read = _read(_parse(body, reads, vertices), vertices, received)
        limit = read.request.max_resp_time
        deadline = math.inf if limit is None else received.monotonic + limit
        cell = await trajectories.serve(read.request.cell_id, engine, deadline)
        trajectory = _place(read, cell)
        future = engine.dispatcher.locate(trajectory, deadline, "single")
        (located,) = await await_or_disconnect([future], request)
        if isinstance(located, ServiceError):
            raise located
        with stopwatch.stage("encode"):
            response = writes.response(_answer(read, cell, located, engine, self._confidence, received.at))
        return response, read.source


def _parse(body: bytes, reads: Format, vertices: int) -> Any:
    if reads.has_more_values(body, USER_VALUES * (vertices + 1)):
        raise errors.TrajectoryLength("/snapshots", f"more values than {vertices} snapshots may have")
    return reads.parsed(body)


async def _check_declared(
    parsed: Any, trajectories: Trajectories, engine: TrajectoryEngine, received: Received
) -> None:
    """Raises why the cell cannot be served, or `CsiShapeMismatch`, before any CSI is decoded."""
    cell_id, snapshots = (parsed.get("cellId"), parsed.get("snapshots")) if isinstance(parsed, dict) else (None, None)
    if isinstance(cell_id, str) and re.fullmatch(CELL_ID_PATTERN, cell_id) and isinstance(snapshots, list):
        cell = (await trajectories.serve(cell_id, engine, declared_deadline(parsed, received))).version.cell
        for i, snapshot in enumerate(snapshots):
            check_declared_shape(snapshot, cell, f"/snapshots/{i}/csi/shape")


def _read(parsed: Any, vertices: int, received: Received) -> _ReadTrajectory:
    request = validated(parsed, TrajectoryRequest)
    if len(request.snapshots) != vertices:
        raise errors.TrajectoryLength(
            "/snapshots", f"{len(request.snapshots)} snapshots, the artifact takes {vertices}"
        )
    choose_shapes(request.supported_gad_shapes)
    times = [(f"/snapshots/{i}/timestamp", one.timestamp) for i, one in enumerate(request.snapshots)]
    check_times(times, request.max_age, received)
    csi = []
    for i, snapshot in enumerate(request.snapshots):
        try:
            csi.append(decode_csi(snapshot.csi))
        except errors.FieldError as error:
            ((param, reason),) = error.invalid_params
            raise type(error)(f"/snapshots/{i}{param}", reason) from error
    features = np.array([_path_features(snapshot.path_features) for snapshot in request.snapshots])
    return _ReadTrajectory(request, csi, features)


def _path_features(sent: wire.PathFeatures | None) -> list[float]:
    """As the model takes them: radians, metres, linear power; NaN where absent."""
    if sent is None:
        return [math.nan] * len(PATH_FEATURES)
    departure, arrival, distance, gain = (
        math.nan if feature is None else feature
        for feature in (sent.departure_azimuth_deg, sent.arrival_azimuth_deg, sent.distance, sent.gain_db)
    )
    return [to_direction(departure), to_direction(arrival), distance, 10 ** (gain / 10)]


def _place(read: _ReadTrajectory, cell: DescribedCell) -> Trajectory:
    """The trajectory in its cell. Raises what does not fit between the two."""
    for i, csi in enumerate(read.csi):
        check_shape(csi, cell.version.cell, f"/snapshots/{i}/csi/shape")
    return Trajectory(cell.version.cell, np.stack(read.csi), read.path_features)


def _answer(
    read: _ReadTrajectory,
    cell: DescribedCell,
    located: Points,
    engine: TrajectoryEngine,
    confidence: int,
    received: datetime,
) -> TrajectoryResponse:
    """The answer for points and centroid, with their calibrated covariances.

    `confidence`: that of the service in per cent. Raises `EstimateNotFinite`.
    """
    request, source = read.request, read.source
    manifest = engine.artifact.manifest
    scales: TrajectoryScales = getattr(manifest.scales, source)
    known = [scales.vertex] * manifest.vertices + [scales.centroid]
    *points, centroid = (
        state_location(
            _Point(position, cell.version.cell, cell.frame, Uncertainty(covariance, one)), request, confidence
        ).fields
        for position, covariance, one in zip(*located, known, strict=True)
    )
    return TrajectoryResponse(
        request_id=request.request_id,
        points=[
            _point(snapshot, features, stated, received)
            for snapshot, features, stated in zip(request.snapshots, read.path_features, points, strict=True)
        ],
        centroid=wire.Centroid.model_validate(centroid),
        provenance=wire.TrajectoryProvenance(
            source=manifest.family,
            artifact=engine.reference,
            cell_version=cell.version.version,
            path_features=source,
            within_radius=points_within(located.positions[:-1], manifest.radius + manifest.tolerance),
        ),
    )


def _point(
    snapshot: wire.Snapshot, path_features: NDArray[np.float64], stated: Json, received: datetime
) -> wire.LocatedPoint:
    measured = snapshot.timestamp or received
    return wire.LocatedPoint.model_validate(
        stated
        | {
            "ageOfLocationEstimate": whole_minutes(received - measured),
            "timestampOfLocationEstimate": measured,
            "pathFeatures": FeatureSources(
                **dict(zip(FeatureSources.model_fields, _sources(path_features), strict=True))
            ),
        }
    )


def _sources(path_features: NDArray[np.float64]) -> list[FeatureSource]:
    return ["estimated" if missing else "measured" for missing in np.isnan(path_features).tolist()]
