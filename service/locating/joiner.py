"""Users whom several base stations measured: located by each of them, and joined in the frame of the first."""

import asyncio
import math
from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from fingerpost.wire import StationsRequest
from fingerpost.wire_provenance import LwlmProvenance, StationShare
from reference_db.cell import Cell
from reference_db.geodesy import FramePlace
from service import errors
from service.cells.descriptions import DescribedCell
from service.cells.stations import Stations
from service.errors import InvalidParam, ServiceError
from service.inference.admission import Lane
from service.inference.engine import LwlmEngine
from service.inference.lwlm_estimator import MeasuredUser, Snapshot
from service.locating.agreement import Position, covering_radius, judge
from service.locating.await_or_disconnect import await_or_disconnect
from service.locating.estimates import RADII_PER_CENT, Location, Received, Uncertainty
from service.web.csi import check_shape

# Metres between base stations that measure one user: no cell reaches farther, so a cell or its place is wrong.
_FARTHEST = 20_000.0
_ITSELF = FramePlace(0.0, 0.0, 0.0)


class ReadStations(NamedTuple):
    """A valid request, with the CSI float32 `[antennas, subcarriers, 2]` of each measurement."""

    request: StationsRequest
    csi: tuple[NDArray[np.float32], ...]


class JoinedUser(NamedTuple):
    """A user whom several base stations have located together; the cells are in the order of the measurements."""

    user: ReadStations
    cells: list[DescribedCell]
    engine: LwlmEngine
    measured: MeasuredUser

    @property
    def request(self) -> StationsRequest:
        return self.user.request

    @property
    def location(self) -> Location:
        return locate_by_stations(self)


class _Asked(NamedTuple):
    user: ReadStations
    cells: list[DescribedCell]
    engine: LwlmEngine
    answer: "asyncio.Future[MeasuredUser]"


class Joiner:
    """`stations` is None where the service has no artifact that measures snapshots. For the event loop's thread."""

    def __init__(self, stations: Stations | None) -> None:
        self._stations = stations

    async def locate(
        self, users: Sequence[ReadStations], request: Request, received: Received, lane: Lane
    ) -> list[JoinedUser | ServiceError]:
        """Where each user is, or why that cannot be told. Raises `ClientGone`."""
        asked = await asyncio.gather(*(self._ask(user, received, lane) for user in users))
        futures = [one.answer for one in asked if isinstance(one, _Asked)]
        answers = await await_or_disconnect(futures, request)
        found = iter(answers)
        return [_joined(one, next(found)) if isinstance(one, _Asked) else one for one in asked]

    async def describe(self, cell_ids: Sequence[str], deadline: float) -> list[Cell] | ServiceError:
        """The cells of a user's measurements, or why the user cannot be located in one of them, which it names."""
        try:
            _, cells = await self._serve(cell_ids, deadline)
        except ServiceError as error:
            return error
        return [cell.version.cell for cell in cells]

    async def _ask(self, user: ReadStations, received: Received, lane: Lane) -> _Asked | ServiceError:
        limit = user.request.max_resp_time
        deadline = math.inf if limit is None else received.monotonic + limit
        try:
            engine, cells = await self._serve([one.cell_id for one in user.request.measurements], deadline)
            snapshots = _place(user, cells)
            engine.dispatcher.check_room(lane)
            return _Asked(user, cells, engine, engine.dispatcher.locate(snapshots, deadline, lane))
        except ServiceError as error:
            return error

    async def _serve(self, cell_ids: Sequence[str], deadline: float) -> tuple[LwlmEngine, list[DescribedCell]]:
        if self._stations is None:
            raise errors.NoMeasuringArtifact("this service has no artifact that measures snapshots")
        engine = self._stations.engine  # one for the whole request, even if another is activated
        most = engine.artifact.manifest.stations
        if len(cell_ids) > most:
            raise errors.TooManyStations("/measurements", f"{len(cell_ids)} measurements, the artifact joins {most}")
        cells = []
        for i, cell_id in enumerate(cell_ids):
            try:
                cells.append(await self._stations.serve(cell_id, engine, deadline))
            except ServiceError as error:
                raise name_measurement(error, i, cell_id) from error
        return engine, cells


def name_measurement(error: ServiceError, number: int, cell_id: str) -> ServiceError:
    """The same error as one about a measurement of several, which it names."""
    if isinstance(error, errors.FieldError):
        return error.under(f"/measurements/{number}")
    named = copy(error)
    named.detail = f"cell {cell_id}: {error.detail}"
    named.invalid_params = (InvalidParam(f"/measurements/{number}", error.detail),)
    return named


def _place(user: ReadStations, cells: Sequence[DescribedCell]) -> tuple[Snapshot, ...]:
    """The snapshots, with the places of their cells in the first one's frame.

    Raises `CsiShapeMismatch` or `StationsTooFar`.
    """
    first = cells[0]
    snapshots = []
    for i, (csi, cell) in enumerate(zip(user.csi, cells, strict=True)):
        check_shape(csi, cell.version.cell, f"/measurements/{i}/csi/shape")
        place = first.frame.place(cell.frame) if i else _ITSELF
        if (away := math.hypot(place.east, place.north)) > _FARTHEST:
            raise errors.StationsTooFar(
                f"/measurements/{i}/cellId",
                f"lies {away / 1e3:.1f} km from cell {first.version.cell.cell_id}; base stations that measure one user "
                f"lie within {_FARTHEST / 1e3:.0f} km",
            )
        snapshots.append(Snapshot(cell.version.cell, csi, place))
    return tuple(snapshots)


def _joined(asked: _Asked, answer: MeasuredUser | ServiceError) -> JoinedUser | ServiceError:
    return answer if isinstance(answer, ServiceError) else JoinedUser(asked.user, asked.cells, asked.engine, answer)


def locate_by_stations(joined: JoinedUser) -> Location:
    """The position in the first cell's frame, with its calibrated covariance. Where the base stations disagree, with a
    circle that holds all of their ellipses.
    """
    stations, fused, first = joined.measured.stations, joined.measured.fused, joined.cells[0]
    assert fused is not None  # there is more than one snapshot
    scales = joined.engine.artifact.manifest.scales
    usual = scales.position.at(RADII_PER_CENT).factor
    alone = [Position.calibrated(one.position, one.covariance, usual) for one in stations]
    together = Position.calibrated(fused.position, fused.covariance, scales.fused.at(RADII_PER_CENT).factor)
    verdict = judge(alone, together)
    uncertainty = Uncertainty(fused.covariance, scales.fused)
    if not verdict.agree:
        ellipse, _ = uncertainty.around(RADII_PER_CENT)
        uncertainty = Uncertainty.circle(max(ellipse.semi_major, covering_radius(alone, together)), RADII_PER_CENT)
    provenance = LwlmProvenance(
        artifact=joined.engine.reference,
        cell_version=first.version.version,
        stations=[
            StationShare(
                cell_id=cell.version.cell.cell_id,
                cell_version=cell.version.version,
                weight=min(max(weight, 0.0), 1.0),
                distance=math.dist(one.position, fused.position),
                los_probability=one.line_of_sight,
                outvoted=outvoted,
            )
            for cell, weight, one, outvoted in zip(joined.cells, fused.weights, stations, verdict.outvoted, strict=True)
        ],
        disagreement=None if verdict.agree else "STATIONS_DISAGREE",
    )
    described = provenance.model_dump()
    return Location(fused.position, first.version.cell, first.frame, uncertainty, provenance, described)
