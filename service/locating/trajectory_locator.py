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
from fingerpost.wire import CELL_ID_PATTERN, Local2dPointUncertaintyEllipse, PointUncertaintyEllipse
from fingerpost.wire_trajectory import FeatureSource, FeatureSources, TrajectoryRequest, TrajectoryResponse
from models.artifact import RADII_CONFIDENCE, Radii
from service import errors
from service.cells.descriptions import DescribedCell
from service.cells.trajectories import Trajectories
from service.errors import ServiceError
from service.inference.engine import TrajectoryEngine
from service.inference.trajectory_estimator import Trajectory, points_within
from service.inference.trajectory_session import PATH_FEATURES
from service.inference.workers import Workers
from service.locating.await_or_disconnect import await_or_disconnect
from service.locating.batch import USER_VALUES
from service.locating.estimates import (
    Estimates,
    Received,
    check_timestamp,
    declared_deadline,
    estimates_of,
    fulfilment,
    whole_minutes,
)
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


class TrajectoryLocator:
    def __init__(
        self, settings: Settings, trajectories: Trajectories | None, workers: Workers, metrics: TrajectoryMetrics
    ) -> None:
        self._settings = settings
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
        (positions,) = await await_or_disconnect([future], request)
        if isinstance(positions, ServiceError):
            raise positions
        with stopwatch.stage("encode"):
            response = writes.response(_answer(read, cell, positions, engine, received.at))
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
    csi = []
    for i, snapshot in enumerate(request.snapshots):
        check_timestamp(snapshot.timestamp, received, f"/snapshots/{i}/timestamp")
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
    aod, aoa, distance, gain = (
        math.nan if feature is None else feature
        for feature in (sent.aod_deg, sent.aoa_deg, sent.distance, sent.gain_db)
    )
    return [math.radians(aod), math.radians(aoa), distance, 10 ** (gain / 10)]


def _place(read: _ReadTrajectory, cell: DescribedCell) -> Trajectory:
    """The trajectory in its cell. Raises what does not fit between the two."""
    for i, csi in enumerate(read.csi):
        check_shape(csi, cell.version.cell, f"/snapshots/{i}/csi/shape")
    return Trajectory(cell.version.cell, np.stack(read.csi), read.path_features)


def _answer(
    read: _ReadTrajectory,
    cell: DescribedCell,
    positions: NDArray[np.float32],
    engine: TrajectoryEngine,
    received: datetime,
) -> TrajectoryResponse:
    """The answer for points and centroid `[vertices + 1, 2]`, with the artifact's calibrated circles."""
    request, source = read.request, read.source
    manifest = engine.artifact.manifest
    radii: Radii = getattr(manifest.radii, source)
    *points, centroid = (
        estimates_of(position, cell.version.cell, cell.frame, radius, RADII_CONFIDENCE)
        for position, radius in zip(positions, [radii.vertex] * manifest.vertices + [radii.centroid], strict=True)
    )
    wide = manifest.radius + radii.vertex  # located points may lie farther apart than the true ones
    return TrajectoryResponse(
        request_id=request.request_id,
        points=[
            _point(snapshot, features, estimates, radii.vertex, request.h_accuracy, received)
            for snapshot, features, estimates in zip(request.snapshots, read.path_features, points, strict=True)
        ],
        centroid=wire.Centroid(
            location_estimate=PointUncertaintyEllipse.model_validate(centroid.globe),
            local_location_estimate=Local2dPointUncertaintyEllipse.model_validate(centroid.local),
            h_accuracy=radii.centroid,
            accuracy_fulfilment_indicator=fulfilment(request.h_accuracy, radii.centroid),
        ),
        provenance=wire.TrajectoryProvenance(
            source=manifest.family,
            artifact=engine.reference,
            cell_version=cell.version.version,
            path_features=source,
            within_radius=points_within(positions[:-1], wide),
        ),
    )


def _point(
    snapshot: wire.Snapshot,
    path_features: NDArray[np.float64],
    estimates: Estimates,
    radius: float,
    wanted: float | None,
    received: datetime,
) -> wire.LocatedPoint:
    measured = snapshot.timestamp or received
    return wire.LocatedPoint(
        location_estimate=PointUncertaintyEllipse.model_validate(estimates.globe),
        local_location_estimate=Local2dPointUncertaintyEllipse.model_validate(estimates.local),
        h_accuracy=radius,
        accuracy_fulfilment_indicator=fulfilment(wanted, radius),
        age_of_location_estimate=whole_minutes(received - measured),
        timestamp_of_location_estimate=measured,
        path_features=FeatureSources(**dict(zip(FeatureSources.model_fields, _sources(path_features), strict=True))),
    )


def _sources(path_features: NDArray[np.float64]) -> list[FeatureSource]:
    return ["estimated" if missing else "measured" for missing in np.isnan(path_features).tolist()]
