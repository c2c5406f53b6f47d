"""`POST /locate/trajectory`: the whole path of a request, top to bottom.

Trajectories in cells that the artifact for trajectories has learned are located by it, all others by comparison with
the fingerprints of their cell.
"""

import math
import re
import time
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from fingerpost.wire import CELL_ID_PATTERN, LocateRequest
from fingerpost.wire_provenance import FeatureSource
from service import errors
from service.cells.descriptions import DescribedCell
from service.cells.registry import ServedCells
from service.cells.trajectories import Trajectories
from service.errors import ServiceError
from service.inference.engine import TrajectoryEngine
from service.inference.workers import Workers
from service.locating.await_or_disconnect import await_or_disconnect
from service.locating.estimates import Located, Received, declared_deadline
from service.locating.joint_locator import JointLocator
from service.locating.quality import check_declared_quality
from service.locating.rungs import MateformerRung
from service.locating.trajectory_answers import answer_by_fingerprints, answer_learned, place_trajectory
from service.locating.trajectory_reader import ReadTrajectory, parse_trajectory, read_trajectory
from service.locating.users import LocatedUser, ReadUser
from service.settings import Settings
from service.telemetry.stopwatch import Stopwatch
from service.telemetry.trajectory_metrics import TrajectoryMetrics
from service.web.csi import check_declared_shape
from service.web.media import LARGE_BYTES, Format, formats, read_body

# Why the artifact for trajectories does not locate a trajectory, so that the fingerprints of its cell may.
_LEAVES = (
    errors.NoTrajectoryArtifact,
    errors.TrajectoryLength,
    errors.CellNotServed,
    errors.BandNotServed,
    errors.ModelNotAllowed,
)
ByFingerprints = Literal["by fingerprints"]
_BY_FINGERPRINTS: Final[ByFingerprints] = "by fingerprints"


class _Learned(NamedTuple):
    """The artifact for trajectories is to locate them in this cell. A request holds its engine to the end."""

    cell: DescribedCell
    engine: TrajectoryEngine


class TrajectoryLocator:
    def __init__(
        self,
        settings: Settings,
        trajectories: Trajectories | None,
        served: ServedCells,
        by_fingerprints: MateformerRung,
        joint: JointLocator,
        workers: Workers,
        metrics: TrajectoryMetrics,
    ) -> None:
        """`trajectories` is None where the service has no artifact for them."""
        self._settings = settings
        self._confidence = round(100 * settings.confidence)
        self._trajectories = trajectories
        self._served = served
        self._by_fingerprints = by_fingerprints
        self._joint = joint
        self._workers = workers
        self._metrics = metrics

    async def locate(self, request: Request) -> Response:
        """Locates the points of one trajectory. Raises a `ServiceError`."""
        stopwatch = Stopwatch()
        try:
            response, source = await self._locate(request, stopwatch)
        except ServiceError as error:
            self._metrics.located(error.cause, None, stopwatch)
            raise
        self._metrics.located("located", source, stopwatch)
        return response

    async def _locate(self, request: Request, stopwatch: Stopwatch) -> tuple[Response, FeatureSource | None]:
        """The response, and where the path features came from if the artifact for trajectories has used them."""
        most = self._find_most_snapshots()
        received = Received(datetime.now(UTC), time.monotonic())
        reads, writes = formats(request)
        body = await read_body(request, self._settings.body_limit_bytes, self._settings.body_timeout_s)
        read = await self._read(body, reads, most, received, stopwatch)
        limit = read.request.max_resp_time
        deadline = math.inf if limit is None else received.monotonic + limit
        way = await self._choose_way(read.request.cell_id, len(read.csi), deadline)
        if way == _BY_FINGERPRINTS:
            users = await self._locate_alone(read, request, received)
            locations = await self._joint.join(users, request, received, "single")
            with stopwatch.stage("encode"):
                return writes.response(
                    answer_by_fingerprints(read, users, locations, self._confidence, received.at)
                ), None
        way.engine.dispatcher.check_room("single")
        future = way.engine.dispatcher.locate(place_trajectory(read, way.cell), deadline, "single")
        (located,) = await await_or_disconnect([future], request)
        if isinstance(located, ServiceError):
            raise located
        with stopwatch.stage("encode"):
            answer = answer_learned(read, way.cell, located, way.engine, self._confidence, received.at)
            return writes.response(answer), read.source

    def _find_most_snapshots(self) -> int:
        """Of a trajectory that any artifact can locate. Raises `NoTrajectoryArtifact` or `Congested`."""
        learned = None if self._trajectories is None else self._trajectories.engine
        served = self._served.engine
        contract = served.artifact.manifest.tracks
        if contract is not None:
            served.dispatcher.check_room("single")
        elif learned is not None:
            learned.dispatcher.check_room("single")
        else:
            raise errors.NoTrajectoryArtifact("this service has no artifact for trajectories")
        vertices = 0 if learned is None else learned.artifact.manifest.vertices
        return max(vertices, 0 if contract is None else contract.snapshots)

    async def _read(
        self, body: bytes, reads: Format, most: int, received: Received, stopwatch: Stopwatch
    ) -> ReadTrajectory:
        if len(body) <= LARGE_BYTES:
            with stopwatch.stage("decode"):
                return read_trajectory(parse_trajectory(body, reads, most), received)
        with stopwatch.stage("decode"):
            parsed = await self._workers.run(parse_trajectory, body, reads, most)
        check_declared_quality(parsed, received)
        await self._check_declared(parsed, received)
        with stopwatch.stage("decode"):
            return await self._workers.run(read_trajectory, parsed, received)

    async def _check_declared(self, parsed: Any, received: Received) -> None:
        """Raises why the cell cannot be served, or `CsiShapeMismatch`, before any CSI is decoded."""
        cell_id, snapshots = (
            (parsed.get("cellId"), parsed.get("snapshots")) if isinstance(parsed, dict) else (None, None)
        )
        if not (isinstance(cell_id, str) and re.fullmatch(CELL_ID_PATTERN, cell_id) and isinstance(snapshots, list)):
            return  # validation will name the field
        deadline = declared_deadline(parsed, received)
        way = await self._choose_way(cell_id, len(snapshots), deadline)
        cell = await self._served.describe(cell_id, deadline) if way == _BY_FINGERPRINTS else way.cell
        for i, snapshot in enumerate(snapshots):
            check_declared_shape(snapshot, cell.version.cell, f"/snapshots/{i}/csi/shape")

    async def _choose_way(self, cell_id: str, snapshots: int, deadline: float) -> _Learned | ByFingerprints:
        """What locates so many snapshots in a cell. Raises why nothing does."""
        why: ServiceError
        try:
            return await self._find_learned(cell_id, snapshots, deadline)
        except _LEAVES as error:
            why = error
        engine = self._served.engine
        contract = engine.artifact.manifest.tracks
        if contract is None:
            raise why
        (served,) = (await self._by_fingerprints.find_cells({cell_id: deadline})).values()
        if isinstance(served, ServiceError):
            raise _choose_reason(why, served)
        if snapshots > contract.snapshots:
            raise errors.TrajectoryLength(
                "/snapshots", f"{snapshots} snapshots, the artifact takes {contract.snapshots} at most"
            )
        return _BY_FINGERPRINTS

    async def _find_learned(self, cell_id: str, snapshots: int, deadline: float) -> _Learned:
        if self._trajectories is None:
            raise errors.NoTrajectoryArtifact("this service has no artifact for trajectories")
        engine = self._trajectories.engine
        cell = await self._trajectories.serve(cell_id, engine, deadline)
        if snapshots != engine.artifact.manifest.vertices:
            raise errors.TrajectoryLength(
                "/snapshots", f"{snapshots} snapshots, the artifact takes {engine.artifact.manifest.vertices}"
            )
        return _Learned(cell, engine)

    async def _locate_alone(self, read: ReadTrajectory, request: Request, received: Received) -> list[LocatedUser]:
        """Each snapshot located by itself. Raises why one of them is not, and names it."""
        users = [ReadUser(one, csi) for one, csi in zip(_list_requests(read), read.csi, strict=True)]
        found = await self._by_fingerprints.locate_alone(users, request, received, "single")
        return [_require_located(i, one) for i, one in enumerate(found)]


def _choose_reason(of_learned: ServiceError, of_fingerprints: ServiceError) -> ServiceError:
    """What to tell a client whose trajectory neither artifact locates: what the cell is meant for."""
    if isinstance(of_fingerprints, errors.ModelNotAllowed) and not isinstance(of_learned, errors.NoTrajectoryArtifact):
        return of_learned
    if isinstance(of_fingerprints, errors.CellTooSmall) and isinstance(of_learned, errors.TrajectoryLength):
        return of_learned
    return of_fingerprints


def _list_requests(read: ReadTrajectory) -> list[LocateRequest]:
    """Each snapshot as a request of its own. All of it has been validated."""
    request = read.request
    return [
        LocateRequest.model_construct(
            cell_id=request.cell_id,
            csi=snapshot.csi,
            coarse_position=snapshot.coarse_position,
            timestamp=snapshot.timestamp,
            max_resp_time=request.max_resp_time,
        )
        for snapshot in request.snapshots
    ]


def _require_located(number: int, found: Located | ServiceError) -> LocatedUser:
    """Raises the error of a snapshot, and names the snapshot in it."""
    if not isinstance(found, ServiceError):
        assert isinstance(found, LocatedUser)
        return found
    about_cell = any(one.param == "/cellId" for one in found.invalid_params)
    raise found.under(f"/snapshots/{number}") if isinstance(found, errors.FieldError) and not about_cell else found
