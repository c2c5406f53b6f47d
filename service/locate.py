"""``POST /locate`` and ``/locate/batch``: a request's whole journey, top to bottom."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from models.artifact import Artifact
from reference_db.cell_version import CellVersion
from service import errors, schema
from service.body import Format, read_body, request_format, response_format
from service.calibration import Rung
from service.csi import decode_csi
from service.errors import ServiceError
from service.estimator import Estimator
from service.metrics import Metrics, Stopwatch
from service.problem import problem_of
from service.schema import CoarsePosition, LocateRequest, LocateResponse
from service.served_cells import ServedCell, ServedCells
from service.settings import Settings
from service.workers import Workers

# No cell reaches so far, and beyond it WGS84 loses its meaning: such an answer is as good as NaN.
_FARTHEST = 1e6
_NOWHERE = np.full(2, np.nan, np.float32)
_MOST_MINUTES = 32767

A = TypeVar("A")
B = TypeVar("B")


class Draft(NamedTuple):
    """A request as read: its CSI float32 `[antennas, subcarriers, 2]`."""

    request: LocateRequest
    csi: NDArray[np.float32]


class User(NamedTuple):
    """A draft whose cell is known and whose coarse position is local metres."""

    draft: Draft
    served: ServedCell
    coarse: tuple[float, float]
    rung: Rung


class Located(NamedTuple):
    """A user and the local position `[2]` found, NaN where there is none."""

    user: User
    position: NDArray[np.float32]


class Locator:
    def __init__(
        self,
        settings: Settings,
        artifact: Artifact,
        estimator: Estimator,
        cells: ServedCells,
        workers: Workers,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._artifact = artifact
        self._estimator = estimator
        self._cells = cells
        self._workers = workers
        self._metrics = metrics

    async def locate(self, request: Request) -> Response:
        """``POST /locate``: one user."""
        reads, writes, body, received = await self._receive(request)
        stopwatch = Stopwatch()
        drafts = await self._workers.run(self._read_one, body, reads, stopwatch)
        answer = await self._answer(drafts, received, writes, stopwatch, single=True)
        return Response(answer, media_type=writes.media_type)

    async def locate_batch(self, request: Request) -> Response:
        """``POST /locate/batch``: many users, each with a result or a problem of its own, in their order."""
        reads, writes, body, received = await self._receive(request)
        stopwatch = Stopwatch()
        drafts = await self._workers.run(self._read_batch, body, reads, stopwatch)
        answer = await self._answer(drafts, received, writes, stopwatch, single=False)
        return Response(answer, media_type=writes.media_type)

    async def _receive(self, request: Request) -> tuple[Format, Format, bytes, datetime]:
        reads = request_format(request)
        writes = response_format(request, otherwise=reads)
        body = await read_body(request, self._settings.body_limit_bytes, self._settings.body_timeout_s)
        return reads, writes, body, datetime.now(UTC)

    def _read_one(self, body: bytes, reads: Format, stopwatch: Stopwatch) -> list[Draft | ServiceError]:
        with stopwatch.stage("decode"):
            return [self._read_item(body, reads)]

    def _read_batch(self, body: bytes, reads: Format, stopwatch: Stopwatch) -> list[Draft | ServiceError]:
        with stopwatch.stage("decode"):
            items = reads.read(body, schema.RawBatch).items
            if len(items) > self._settings.batch_limit:
                raise errors.BatchTooLarge("/items", f"{len(items)} items, {self._settings.batch_limit} at most")
            return [self._read_item(item, reads) for item in items]

    def _read_item(self, item: bytes | msgspec.Raw, reads: Format) -> Draft | ServiceError:
        try:
            request = reads.read(item, LocateRequest)
            return Draft(request, decode_csi(request.csi))
        except ServiceError as error:
            return error

    async def _answer(
        self,
        drafts: list[Draft | ServiceError],
        received: datetime,
        writes: Format,
        stopwatch: Stopwatch,
        *,
        single: bool,
    ) -> bytes:
        cells = await self._cells.serve(draft.request.cell_id for draft in drafts if isinstance(draft, Draft))
        return await self._workers.run(self._work, drafts, cells, received, writes, stopwatch, single)

    def _work(
        self,
        drafts: list[Draft | ServiceError],
        cells: Mapping[str, ServedCell | ServiceError],
        received: datetime,
        writes: Format,
        stopwatch: Stopwatch,
        single: bool,
    ) -> bytes:
        with stopwatch.stage("retrieve"):
            users = _each(drafts, lambda draft: self._place(draft, cells))
        located = self._estimate(users, stopwatch)
        with stopwatch.stage("encode"):
            results = _each(located, lambda user: self._describe(user, received))
            answer = results[0] if single else schema.BatchResponse(results=[_batch_result(one) for one in results])
            encoded = b"" if isinstance(answer, ServiceError) else writes.encode(answer)
        self._metrics.located(stopwatch, [_outcome(result) for result in results])
        if isinstance(answer, ServiceError):
            raise answer
        return encoded

    def _place(self, draft: Draft, cells: Mapping[str, ServedCell | ServiceError]) -> User:
        """Puts a draft into its cell; raises whatever is wrong with the two together."""
        request = draft.request
        served = cells[request.cell_id]
        if isinstance(served, ServiceError):
            raise served
        cell = served.version.cell
        if draft.csi.shape[:2] != (cell.antennas, cell.subcarriers):
            raise errors.CsiShapeMismatch(
                "/csi/shape", f"{request.csi.shape}, the cell's is {[cell.antennas, cell.subcarriers]}"
            )
        if request.coarse_position is UNSET:
            raise errors.CoarsePositionMissing(
                "/coarsePosition", "a coarse position is needed to find the neighbourhood"
            )
        accuracy = request.coarse_position.h_accuracy
        coarse = _local(request.coarse_position, served.version)
        margin = self._settings.position_margin_m + accuracy
        extent = served.version.extent
        if not (
            extent.west - margin <= coarse[0] <= extent.east + margin
            and extent.south - margin <= coarse[1] <= extent.north + margin
        ):
            raise errors.CoarsePositionOutsideCell("/coarsePosition", "lies outside the cell")
        rung = served.calibration.rung(accuracy)
        if rung is None:
            worst = served.calibration.rungs[-1].sigma
            raise errors.CoarsePositionTooInaccurate(
                "/coarsePosition/hAccuracy",
                f"the cell is calibrated for coarse positions of {worst:g} m or better",
            )
        return User(draft, served, coarse, rung)

    def _estimate(self, users: list[User | ServiceError], stopwatch: Stopwatch) -> list[Located | ServiceError]:
        """Finds all users, cell by cell so that the overhead is paid once a cell."""
        located: list[Located | ServiceError] = [
            user if isinstance(user, ServiceError) else Located(user, _NOWHERE) for user in users
        ]
        by_cell: dict[str, dict[int, User]] = defaultdict(dict)
        for i, user in enumerate(users):
            if isinstance(user, User):
                by_cell[user.draft.request.cell_id][i] = user
        for group in by_cell.values():
            version = next(iter(group.values())).served.version
            csi = np.stack([user.draft.csi for user in group.values()])
            coarse = np.array([user.coarse for user in group.values()], np.float32)
            try:
                positions = self._estimator.positions(version, csi, coarse, stopwatch)
            except ServiceError as error:
                located = [error if i in group else one for i, one in enumerate(located)]
                continue
            for (i, user), position in zip(group.items(), positions, strict=True):
                located[i] = Located(user, position)
        return located

    def _describe(self, found: Located, received: datetime) -> LocateResponse:
        """The answer for a user found at a local position, with its calibrated circle."""
        user, position = found
        if not (np.abs(position) < _FARTHEST).all():  # also when NaN
            raise errors.EstimateNotFinite("the network gave no usable coordinates")
        request, version = user.draft.request, user.served.version
        east, north = map(float, position)
        lat, lon = version.frame.to_wgs84(east, north)
        radius = user.rung.radius
        circle = schema.UncertaintyEllipse(semi_major=radius, semi_minor=radius, orientation_major=0)
        confidence = round(100 * user.served.calibration.confidence)
        cell = version.cell
        measured = received if request.timestamp is UNSET else request.timestamp
        return LocateResponse(
            request_id=request.request_id,
            location_estimate=schema.PointUncertaintyEllipse(
                point=schema.Point(lat=lat, lon=lon), uncertainty_ellipse=circle, confidence=confidence
            ),
            local_location_estimate=schema.Local2dPointUncertaintyEllipse(
                local_origin=schema.LocalOrigin(
                    coordinate_id=cell.cell_id,
                    point=schema.Point(lat=cell.latitude_deg, lon=cell.longitude_deg),
                ),
                point=schema.LocalPoint(x=east, y=north),
                uncertainty_ellipse=circle,
                confidence=confidence,
            ),
            h_accuracy=radius,
            accuracy_fulfilment_indicator=_fulfilment(request.h_accuracy, radius),
            age_of_location_estimate=_whole_minutes(received - measured),
            timestamp_of_location_estimate=measured,
            provenance=self._provenance(user),
        )

    def _provenance(self, user: User) -> schema.Provenance:
        manifest = self._artifact.manifest
        return schema.Provenance(
            source=manifest.family,
            artifact=schema.ArtifactReference(
                name=manifest.name, version=manifest.version, digest=self._artifact.digest
            ),
            cell_version=user.served.version.version,
            neighbours=self._estimator.neighbours(len(user.served.version)),
            passes=manifest.passes,
            calibrated_h_accuracy=user.rung.sigma,
        )


def _each(items: list[A | ServiceError], step: Callable[[A], B]) -> list[B | ServiceError]:
    """Takes each item a step further; one that has failed, or fails now, becomes its error."""

    def take(item: A | ServiceError) -> B | ServiceError:
        if isinstance(item, ServiceError):
            return item
        try:
            return step(item)
        except ServiceError as error:
            return error

    return [take(item) for item in items]


def _local(coarse: CoarsePosition, version: CellVersion) -> tuple[float, float]:
    """Metres east and north of the base station."""
    match coarse:
        case CoarsePosition(lat=float(lat), lon=float(lon), x=UnsetType(), y=UnsetType()):
            return version.frame.to_local(lat, lon)
        case CoarsePosition(lat=UnsetType(), lon=UnsetType(), x=float(x), y=float(y)):
            return x, y
        case _:
            raise errors.CoarsePositionIncorrect("/coarsePosition", "must be either lat and lon, or x and y")


def _fulfilment(
    wanted: float | UnsetType, radius: float
) -> Literal["REQUESTED_ACCURACY_FULFILLED", "REQUESTED_ACCURACY_NOT_FULFILLED"] | UnsetType:
    if wanted is UNSET:
        return UNSET
    return "REQUESTED_ACCURACY_FULFILLED" if radius <= wanted else "REQUESTED_ACCURACY_NOT_FULFILLED"


def _whole_minutes(age: timedelta) -> int:
    return min(max(int(age.total_seconds() // 60), 0), _MOST_MINUTES)


def _batch_result(result: LocateResponse | ServiceError) -> schema.BatchResult:
    if isinstance(result, ServiceError):
        return schema.BatchResult(problem=problem_of(result))
    return schema.BatchResult(location=result)


def _outcome(result: LocateResponse | ServiceError) -> str:
    return problem_of(result).cause if isinstance(result, ServiceError) else "located"
