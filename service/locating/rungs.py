"""The methods of the ladder that read one snapshot or a track."""

import asyncio
from collections.abc import Mapping, Sequence

from starlette.requests import Request

from fingerpost.wire_provenance import Method
from service import errors
from service.auth.middleware import key_id_of
from service.cells.drift import DriftWatch
from service.cells.knn_cells import KnnCell
from service.cells.model_choice import ModelChoice
from service.cells.registry import ServedCells
from service.cells.served_cell import ServedCell
from service.cells.stations import Station
from service.errors import ServiceError
from service.inference.admission import Lane
from service.inference.knn_estimator import KnnEstimate
from service.inference.lwlm_estimator import MeasuredUser
from service.inference.user import Estimate
from service.locating.asking import ask_each, deadline_of, deadlines_by_cell
from service.locating.batch import map_results
from service.locating.coarse_position import Fix, locate_coarsely
from service.locating.estimates import Located, Received, check_position
from service.locating.joint_locator import JointLocator
from service.locating.knn_users import LocatedKnnUser, PlacedKnnUser
from service.locating.ladder import OF_THE_CSI
from service.locating.station_estimates import locate_fix
from service.locating.tracker import Tracker, TrackUser
from service.locating.tracks import TrackName
from service.locating.users import HeardUser, LocatedUser, PlacedUser, ReadUser, StationUser, TrackedUser
from service.telemetry.tracing import span
from service.web.csi import check_shape

_NO_TRACKS = errors.NoTrajectoryArtifact("this service has no artifact for trajectories")


class TrackRung:
    """Users with a track, by their last snapshots together, in cells that the artifact for trajectories has learned."""

    method: Method = "scadf-moe"

    def __init__(self, tracker: Tracker | None, served: ServedCells) -> None:
        self._tracker = tracker
        self._served = served

    def takes(self, user: ReadUser) -> bool:
        """In other cells Mateformer locates tracks. If its artifact cannot, this method says why it cannot either."""
        if user.request.track_id is None:
            return False
        learned = self._tracker is not None and self._tracker.has_learned(user.request.cell_id)
        return learned or self._served.engine.tracks is None

    async def locate(
        self, users: Sequence[ReadUser], request: Request, received: Received, lane: Lane
    ) -> list[Located | ServiceError]:
        if self._tracker is None:
            return [_NO_TRACKS] * len(users)
        owner = key_id_of(request)
        found = await self._tracker.locate([_track_of(user, owner, received) for user in users], request, lane)
        return [
            one if isinstance(one, ServiceError) else TrackedUser(user, one)
            for user, one in zip(users, found, strict=True)
        ]


def _track_of(user: ReadUser, owner: str, received: Received) -> TrackUser:
    request = user.request
    assert request.track_id is not None
    return TrackUser(
        TrackName(request.cell_id, owner, request.track_id),
        user.csi,
        received.at.timestamp(),
        request.timestamp,
        request.request_id,
        deadline_of(user, received),
    )


class MateformerRung:
    """By comparison with the fingerprints of the cell; users with a track together with their last snapshots."""

    method: Method = "mateformer"

    def __init__(self, choice: ModelChoice, margin: float, drift: DriftWatch, joint: JointLocator) -> None:
        """`margin`: how far in metres a coarse position may lie outside the fingerprints. `drift` counts how well
        users still fit their cells.
        """
        self._joint = joint
        self._choice = choice
        self._margin = margin
        self._drift = drift

    def takes(self, user: ReadUser) -> bool:
        return True

    async def locate(
        self, users: Sequence[ReadUser], request: Request, received: Received, lane: Lane
    ) -> list[Located | ServiceError]:
        alone = await self.locate_alone(users, request, received, lane)
        return await self._joint.extend(alone, request, received, lane)

    async def find_cells(self, deadlines: Mapping[str, float]) -> Mapping[str, ServedCell | ServiceError]:
        """What serves each cell until its deadline, a moment of `time.monotonic`, or why nothing does."""
        with span("cells"):
            return await self._choice.for_mateformer(deadlines)

    async def locate_alone(
        self, users: Sequence[ReadUser], request: Request, received: Received, lane: Lane
    ) -> list[Located | ServiceError]:
        """Where each user is by one snapshot; a `LocatedUser`, or why that cannot be told. Raises `ClientGone`."""
        cells = await self.find_cells(deadlines_by_cell(users, received))

        def ask(placed: PlacedUser) -> "asyncio.Future[Estimate]":
            dispatcher = placed.served.engine.dispatcher
            return dispatcher.locate(placed.for_estimator(), deadline_of(placed.user, received), lane)

        placed = map_results(users, lambda user: self._place(user, cells[user.request.cell_id]))
        return await ask_each(placed, ask, _take_estimate, request, self._note_drift)

    def _note_drift(self, placed: PlacedUser, answer: Estimate | ServiceError) -> None:
        self._drift.note(placed.served, answer, placed.fix if isinstance(placed.fix, Fix) else None)

    def _place(self, user: ReadUser, served: ServedCell | ServiceError) -> PlacedUser:
        """Puts a user into the cell. Raises what does not fit between the two."""
        if isinstance(served, ServiceError):
            raise served
        check_shape(user.csi, served.version.cell)
        coarse = user.request.coarse_position
        fix = None if coarse is None else locate_coarsely(coarse, served.version, self._margin)
        return PlacedUser(user, served, fix)


def _take_estimate(placed: PlacedUser, estimate: Estimate) -> LocatedUser:
    check_position(estimate.position)
    return LocatedUser(placed, estimate)


class KnnRung:
    """By the fingerprints of the cell with the most similar signal, without a model."""

    method: Method = "weighted-knn"

    def __init__(self, choice: ModelChoice, margin: float) -> None:
        """`margin`: how far in metres a coarse position may lie outside the fingerprints."""
        self._choice = choice
        self._margin = margin

    def takes(self, user: ReadUser) -> bool:
        return has_plausible_csi(user)

    async def locate(
        self, users: Sequence[ReadUser], request: Request, received: Received, lane: Lane
    ) -> list[Located | ServiceError]:
        with span("cells"):
            cells = await self._choice.for_knn(deadlines_by_cell(users, received))

        def ask(placed: PlacedKnnUser) -> "asyncio.Future[KnnEstimate]":
            dispatcher = placed.cell.engine.dispatcher
            return dispatcher.locate(placed.for_estimator(), deadline_of(placed.user, received), lane)

        placed = map_results(users, lambda user: self._place(user, cells[user.request.cell_id], lane))
        return await ask_each(placed, ask, LocatedKnnUser, request)

    def _place(self, user: ReadUser, cell: KnnCell | ServiceError, lane: Lane) -> PlacedKnnUser:
        """Puts a user into the cell. Raises what does not fit between the two, or `Congested`."""
        if isinstance(cell, ServiceError):
            raise cell
        check_shape(user.csi, cell.version.cell)
        coarse = user.request.coarse_position
        fix = None if coarse is None else locate_coarsely(coarse, cell.version, self._margin)
        cell.engine.dispatcher.check_room(lane)
        return PlacedKnnUser(user, cell, fix)


class StationRung:
    """By what the base station of the cell measures, without fingerprints."""

    method: Method = "lwlm"

    def __init__(self, choice: ModelChoice) -> None:
        self._choice = choice

    def takes(self, user: ReadUser) -> bool:
        return has_plausible_csi(user)

    async def locate(
        self, users: Sequence[ReadUser], request: Request, received: Received, lane: Lane
    ) -> list[Located | ServiceError]:
        with span("cells"):
            stations = await self._choice.for_station(deadlines_by_cell(users, received))

        def ask(heard: HeardUser) -> "asyncio.Future[MeasuredUser]":
            dispatcher = heard.station.engine.dispatcher
            return dispatcher.locate(heard.for_estimator(), deadline_of(heard.user, received), lane)

        heard = map_results(users, lambda user: _hear(user, stations[user.request.cell_id], lane))
        return await ask_each(heard, ask, _take_measured, request)


def _hear(user: ReadUser, station: Station | ServiceError, lane: Lane) -> HeardUser:
    """Raises why there is no station, `CsiShapeMismatch`, `CoarsePositionIncorrect` or `Congested`."""
    if isinstance(station, ServiceError):
        raise station
    cell, fix = station.cell, user.request.coarse_position
    check_shape(user.csi, cell.version.cell)
    if fix is not None:
        locate_fix(fix, cell.frame)
    station.engine.dispatcher.check_room(lane)
    return HeardUser(user, station)


def _take_measured(heard: HeardUser, measured: MeasuredUser) -> StationUser:
    check_position(measured.stations[0].position)
    return StationUser(heard, measured)


def has_plausible_csi(user: ReadUser) -> bool:
    """Whether no method has found fault with the CSI itself."""
    return not any(isinstance(one.error, OF_THE_CSI) for one in user.failures)
