"""``POST /locate/trajectory``: a request's whole journey, top to bottom."""

import math
import time
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from fingerpost import wire_trajectory as trajectory_schema
from fingerpost.wire_trajectory import CueSource, CueSources, TrajectoryRequest, TrajectoryResponse
from models.artifact import RADII_CONFIDENCE, Radii
from service import errors
from service.cells.trajectories import Trajectories
from service.cells.trajectory_cells import DescribedCell
from service.errors import ServiceError
from service.inference.await_or_disconnect import answers
from service.inference.trajectory_engine import TrajectoryEngine
from service.inference.trajectory_estimator import CUES, Trajectory, points_within
from service.locating.csi import decode_csi
from service.locating.estimates import Estimates, Received, estimates_of, fulfilment, whole_minutes
from service.settings import Settings
from service.telemetry.metrics import Stopwatch
from service.telemetry.trajectory_metrics import TrajectoryMetrics
from service.web.media import formats, read_body
from service.web.problems import cause_of


class _Draft(NamedTuple):
    """A request as read: CSI float32 `[vertices, antennas, subcarriers, 2]`, cues `[vertices, 4]`, NaN: not sent."""

    request: TrajectoryRequest
    csi: list[NDArray[np.float32]]
    cues: NDArray[np.float64]

    @property
    def source(self) -> CueSource:
        return "estimated" if np.isnan(self.cues).any() else "measured"


class TrajectoryLocator:
    def __init__(self, settings: Settings, trajectories: Trajectories | None, metrics: TrajectoryMetrics) -> None:
        self._settings = settings
        self._trajectories = trajectories
        self._metrics = metrics

    async def locate(self, request: Request) -> Response:
        stopwatch, source = Stopwatch(), None
        try:
            if self._trajectories is None:
                raise errors.NoTrajectoryArtifact("no artifact for trajectories is configured")
            engine = self._trajectories.engine  # for the whole request, whichever serves when it ends
            response, source = await self._locate(request, self._trajectories, engine, stopwatch)
        except ServiceError as error:
            self._metrics.located(cause_of(error), None, stopwatch)
            raise
        self._metrics.located("located", source, stopwatch)
        return response

    async def _locate(
        self, request: Request, trajectories: Trajectories, engine: TrajectoryEngine, stopwatch: Stopwatch
    ) -> tuple[Response, CueSource]:
        engine.dispatcher.check_room("single")
        received = Received(datetime.now(UTC), time.monotonic())
        reads, writes = formats(request)
        body = await read_body(request, self._settings.body_limit_bytes, self._settings.body_timeout_s)
        with stopwatch.stage("decode"):
            draft = _read(reads.read(body, TrajectoryRequest), engine.artifact.manifest.vertices)
        cell = await trajectories.serve(draft.request.cell_id, engine)
        trajectory = _placed(draft, cell)
        limit = draft.request.max_resp_time
        deadline = math.inf if limit is UNSET else received.monotonic + limit
        future = engine.dispatcher.locate(trajectory, deadline, "single")
        (positions,) = await answers([future], request)
        if isinstance(positions, ServiceError):
            raise positions
        with stopwatch.stage("encode"):
            encoded = writes.encode(_described(draft, cell, positions, engine, received.at))
        return Response(encoded, media_type=writes.media_type), draft.source


def _read(request: TrajectoryRequest, vertices: int) -> _Draft:
    if len(request.snapshots) != vertices:
        raise errors.TrajectoryLength(
            "/snapshots", f"{len(request.snapshots)} snapshots, the artifact wants {vertices}"
        )
    csi = []
    for i, snapshot in enumerate(request.snapshots):
        try:
            csi.append(decode_csi(snapshot.csi))
        except errors.FieldError as error:
            ((param, reason),) = error.invalid_params
            raise type(error)(f"/snapshots/{i}{param}", reason) from error
    return _Draft(request, csi, np.array([_cues(snapshot.cues) for snapshot in request.snapshots]))


def _cues(sent: trajectory_schema.Cues | UnsetType) -> list[float]:
    """As the network knows them: radians, metres, linear power; NaN where they were not sent."""
    if sent is UNSET:
        return [math.nan] * CUES
    aod, aoa, distance, gain = (
        math.nan if cue is UNSET else cue for cue in (sent.aod_deg, sent.aoa_deg, sent.distance, sent.gain_db)
    )
    return [math.radians(aod), math.radians(aoa), distance, 10 ** (gain / 10)]


def _placed(draft: _Draft, cell: DescribedCell) -> Trajectory:
    """The trajectory in its cell; raises whatever is wrong with the two together."""
    described = cell.version.cell
    for i, csi in enumerate(draft.csi):
        if csi.shape[:2] != (described.antennas, described.subcarriers):
            raise errors.CsiShapeMismatch(
                f"/snapshots/{i}/csi/shape",
                f"{list(csi.shape[:2])}, the cell's is {[described.antennas, described.subcarriers]}",
            )
    return Trajectory(described, np.stack(draft.csi), draft.cues)


def _described(
    draft: _Draft, cell: DescribedCell, positions: NDArray[np.float32], engine: TrajectoryEngine, received: datetime
) -> TrajectoryResponse:
    """The answer for points and centroid `[vertices + 1, 2]`, with the artifact's calibrated circles."""
    request, source = draft.request, draft.source
    manifest = engine.artifact.manifest
    radii: Radii = getattr(manifest.radii, source)
    *points, centroid = (
        estimates_of(position, cell.version.cell, cell.frame, radius, RADII_CONFIDENCE)
        for position, radius in zip(positions, [radii.vertex] * manifest.vertices + [radii.centroid], strict=True)
    )
    wide = manifest.radius + radii.vertex  # as located they may lie somewhat farther apart than they are
    return TrajectoryResponse(
        request_id=request.request_id,
        points=[
            _point(snapshot, cues, estimates, radii.vertex, request.h_accuracy, received)
            for snapshot, cues, estimates in zip(request.snapshots, draft.cues, points, strict=True)
        ],
        centroid=trajectory_schema.Centroid(
            location_estimate=centroid.globe,
            local_location_estimate=centroid.local,
            h_accuracy=radii.centroid,
            accuracy_fulfilment_indicator=fulfilment(request.h_accuracy, radii.centroid),
        ),
        provenance=trajectory_schema.TrajectoryProvenance(
            source=manifest.family,
            artifact=engine.reference,
            cell_version=cell.version.version,
            cues=source,
            within_radius=points_within(positions[:-1], wide),
        ),
    )


def _point(
    snapshot: trajectory_schema.Snapshot,
    cues: NDArray[np.float64],
    estimates: Estimates,
    radius: float,
    wanted: float | UnsetType,
    received: datetime,
) -> trajectory_schema.LocatedPoint:
    measured = received if snapshot.timestamp is UNSET else snapshot.timestamp
    return trajectory_schema.LocatedPoint(
        location_estimate=estimates.globe,
        local_location_estimate=estimates.local,
        h_accuracy=radius,
        accuracy_fulfilment_indicator=fulfilment(wanted, radius),
        age_of_location_estimate=whole_minutes(received - measured),
        timestamp_of_location_estimate=measured,
        cues=CueSources(**dict(zip(CueSources.__struct_fields__, _sources(cues), strict=True))),
    )


def _sources(cues: NDArray[np.float64]) -> list[CueSource]:
    return ["estimated" if missing else "measured" for missing in np.isnan(cues).tolist()]
