"""``POST /locate`` and ``/locate/batch``: a request's whole journey, top to bottom."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, ParamSpec, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from models.artifact import Artifact
from service import errors, schema
from service.admission import Lane
from service.body import Format, formats, read_body
from service.calibration import Rung
from service.coarse_position import Fix, decode_coarse_position
from service.csi import decode_csi
from service.dispatcher import Dispatcher, Position
from service.errors import ServiceError
from service.estimator import RETRIEVAL, Estimator, User
from service.live import Live
from service.metrics import Metrics, Stopwatch
from service.patience import answers
from service.problem import cause_of, problem_of
from service.schema import LocateRequest, LocateResponse
from service.served_cells import ServedCell, ServedCells
from service.settings import Settings
from service.workers import Workers

# No cell reaches so far, and beyond it WGS84 loses its meaning: such an answer is as good as NaN.
_FARTHEST = 1e6
_NO_FIX = Fix(np.nan, np.nan, np.nan)
_MOST_MINUTES = 32767
_FEW = 32  # users: well under a millisecond of the event loop's time

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")


class Received(NamedTuple):
    """When a request came, by the wall's clock and by `time.monotonic`."""

    at: datetime
    monotonic: float


class Draft(NamedTuple):
    """A request as read: its CSI float32 `[antennas, subcarriers, 2]`."""

    request: LocateRequest
    csi: NDArray[np.float32]


class Placed(NamedTuple):
    """A draft whose cell is known and whose coarse position, if it has one, is local metres."""

    draft: Draft
    served: ServedCell
    fix: Fix | None
    rung: Rung

    def as_user(self) -> User:
        fix = self.fix or _NO_FIX
        return User(self.served.version, self.draft.csi, np.array(fix[:2], np.float32), fix.accuracy)


class Located(NamedTuple):
    """A user and the local position `[2]` found, NaN where there is none."""

    placed: Placed
    position: NDArray[np.float32]


class Locator:
    def __init__(
        self,
        settings: Settings,
        artifact: Artifact,
        estimator: Estimator,
        dispatcher: Dispatcher,
        cells: ServedCells,
        workers: Workers,
        metrics: Metrics,
        live: Live,
    ) -> None:
        self._settings = settings
        self._artifact = artifact
        self._estimator = estimator
        self._dispatcher = dispatcher
        self._cells = cells
        self._workers = workers
        self._metrics = metrics
        self._live = live

    async def locate(self, request: Request) -> Response:
        """``POST /locate``: one user."""
        self._dispatcher.check_room("single")
        reads, writes, body, received = await self._receive(request)
        stopwatch = Stopwatch()
        drafts = self._read([body], reads, stopwatch)
        located = await self._located(drafts, request, received, "single")
        (result,), encoded = self._write(located, received, stopwatch, writes, _single)
        if isinstance(result, ServiceError):
            raise result
        return Response(encoded, media_type=writes.media_type)

    async def locate_batch(self, request: Request) -> Response:
        """``POST /locate/batch``: many users, each with a result or a problem of its own, in their order."""
        self._dispatcher.check_room("batch")
        reads, writes, body, received = await self._receive(request)
        stopwatch = Stopwatch()
        items = self._items(body, reads, stopwatch)
        drafts = await self._work(len(items), self._read, items, reads, stopwatch)
        located = await self._located(drafts, request, received, "batch")
        _, encoded = await self._work(len(items), self._write, located, received, stopwatch, writes, _batch)
        return Response(encoded, media_type=writes.media_type)

    async def _receive(self, request: Request) -> tuple[Format, Format, bytes, Received]:
        received = Received(datetime.now(UTC), time.monotonic())
        reads, writes = formats(request)
        body = await read_body(request, self._settings.body_limit_bytes, self._settings.body_timeout_s)
        return reads, writes, body, received

    def _items(self, body: bytes, reads: Format, stopwatch: Stopwatch) -> list[msgspec.Raw]:
        with stopwatch.stage("decode"):
            items = reads.read(body, schema.RawBatch).items
        if len(items) > self._settings.batch_limit:
            raise errors.BatchTooLarge("/items", f"{len(items)} items, {self._settings.batch_limit} at most")
        return items

    async def _work(self, users: int, function: Callable[P, A], *args: P.args, **kwargs: P.kwargs) -> A:
        """Calls `function` in a thread of its own, unless for so few users that to hand it over would take longer."""
        if users <= _FEW:
            return function(*args, **kwargs)
        return await self._workers.run(function, *args, **kwargs)

    def _read(
        self, items: Sequence[bytes | msgspec.Raw], reads: Format, stopwatch: Stopwatch
    ) -> list[Draft | ServiceError]:
        with stopwatch.stage("decode"):
            return _each(items, lambda item: _draft(reads.read(item, LocateRequest)))

    async def _located(
        self, drafts: list[Draft | ServiceError], request: Request, received: Received, lane: Lane
    ) -> list[Located | ServiceError]:
        cells = await self._cells.serve(draft.request.cell_id for draft in drafts if isinstance(draft, Draft))
        placed = _each(drafts, lambda draft: self._place(draft, cells))
        asked = [one for one in placed if isinstance(one, Placed)]
        futures = [self._dispatcher.locate(one.as_user(), _deadline(one, received), lane) for one in asked]
        positions = iter(await answers(futures, request))
        return _each(placed, lambda one: Located(one, _found(next(positions))))

    def _write(
        self,
        located: list[Located | ServiceError],
        received: Received,
        stopwatch: Stopwatch,
        writes: Format,
        whole: Callable[[list[LocateResponse | ServiceError]], msgspec.Struct],
    ) -> tuple[list[LocateResponse | ServiceError], bytes]:
        with stopwatch.stage("encode"):
            results = _each(located, lambda one: self._describe(one, received.at))
            encoded = writes.encode(whole(results))
        found = [one for one in results if isinstance(one, LocateResponse)]
        for one in found:
            self._metrics.stated(one.h_accuracy, one.accuracy_fulfilment_indicator)
        self._live.note(found)
        used = [one.provenance.coarse_position_used for one in found]
        self._metrics.located(stopwatch, [_outcome(result) for result in results], used)
        return results, encoded

    def _place(self, draft: Draft, cells: Mapping[str, ServedCell | ServiceError]) -> Placed:
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
        fix = None
        if request.coarse_position is not UNSET:
            fix = decode_coarse_position(request.coarse_position, served.version, self._settings.position_margin_m)
        return Placed(draft, served, fix, served.calibration.rung(None if fix is None else fix.accuracy))

    def _describe(self, found: Located, received: datetime) -> LocateResponse:
        """The answer for a user found at a local position, with its calibrated circle."""
        placed, position = found
        east, north = position.tolist()
        if not (abs(east) < _FARTHEST and abs(north) < _FARTHEST):  # also when NaN
            raise errors.EstimateNotFinite("the network gave no usable coordinates")
        request, version = placed.draft.request, placed.served.version
        lat, lon = version.frame.to_wgs84(east, north)
        radius = placed.rung.radius
        circle = schema.UncertaintyEllipse(semi_major=radius, semi_minor=radius, orientation_major=0)
        confidence = round(100 * placed.served.calibration.confidence)
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
            provenance=self._provenance(placed),
        )

    def _provenance(self, placed: Placed) -> schema.Provenance:
        manifest = self._artifact.manifest
        return schema.Provenance(
            source=manifest.family,
            artifact=schema.ArtifactReference(
                name=manifest.name, version=manifest.version, digest=self._artifact.digest
            ),
            cell_version=placed.served.version.version,
            neighbours=self._estimator.neighbours(len(placed.served.version)),
            passes=manifest.passes,
            retrieval=RETRIEVAL,
            coarse_position_used=placed.fix is not None,
            calibrated_h_accuracy=UNSET if placed.rung.sigma is None else placed.rung.sigma,
        )


def _draft(request: LocateRequest) -> Draft:
    return Draft(request, decode_csi(request.csi))


def _each(items: Sequence[A | ServiceError], step: Callable[[A], B]) -> list[B | ServiceError]:
    """Takes each item a step further; one that has failed, or fails now, becomes its error."""
    results: list[B | ServiceError] = []
    for item in items:
        if isinstance(item, ServiceError):
            results.append(item)
            continue
        try:
            results.append(step(item))
        except ServiceError as error:
            results.append(error)
    return results


def _fulfilment(
    wanted: float | UnsetType, radius: float
) -> Literal["REQUESTED_ACCURACY_FULFILLED", "REQUESTED_ACCURACY_NOT_FULFILLED"] | UnsetType:
    if wanted is UNSET:
        return UNSET
    return "REQUESTED_ACCURACY_FULFILLED" if radius <= wanted else "REQUESTED_ACCURACY_NOT_FULFILLED"


def _whole_minutes(age: timedelta) -> int:
    return min(max(int(age.total_seconds() // 60), 0), _MOST_MINUTES)


def _deadline(placed: Placed, received: Received) -> float:
    limit = placed.draft.request.max_resp_time
    return math.inf if limit is UNSET else received.monotonic + limit


def _found(answer: Position | ServiceError) -> Position:
    if isinstance(answer, ServiceError):
        raise answer
    return answer


def _single(results: list[LocateResponse | ServiceError]) -> LocateResponse | schema.Problem:
    (result,) = results
    return problem_of(result) if isinstance(result, ServiceError) else result


def _batch(results: list[LocateResponse | ServiceError]) -> schema.BatchResponse:
    return schema.BatchResponse(results=[_batch_result(one) for one in results])


def _batch_result(result: LocateResponse | ServiceError) -> schema.BatchResult:
    if isinstance(result, ServiceError):
        return schema.BatchResult(problem=problem_of(result))
    return schema.BatchResult(location=result)


def _outcome(result: LocateResponse | ServiceError) -> str:
    return cause_of(result) if isinstance(result, ServiceError) else "located"
