"""The last method of the ladder: the answer is the coarse position itself, with its own error."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from starlette.requests import Request

from fingerpost.wire import CoarsePosition, LocateRequest
from fingerpost.wire_provenance import CoarseProvenance, Fallback, Method
from models.artifact import CONFIDENCES, Scales
from reference_db.geodesy import LocalFrame
from service import errors
from service.cells.descriptions import DescribedCell
from service.cells.model_choice import ModelChoice
from service.errors import ServiceError
from service.inference.admission import Lane
from service.locating.asking import deadlines_by_cell
from service.locating.batch import map_results
from service.locating.coarse_position import EXPLAINED_SIGMAS
from service.locating.estimates import Located, Location, Received, Uncertainty
from service.locating.station_estimates import locate_fix
from service.locating.users import ReadUser
from service.web.csi import check_shape

# Metres. No cell reaches farther from its base station, and no receiver errs so far.
_FARTHEST, _MOST_EXPLAINED = 20_000.0, 500_000.0
_LEAST_ACCURACY = 0.01  # metres; an error of 0 would have no ellipse

# A normal error with the same deviation on both axes lies within these Mahalanobis distances.
GAUSSIAN_SCALES = Scales(factors={one: math.sqrt(-2 * math.log(1 - one / 100)) for one in CONFIDENCES})


class CoarseUser(NamedTuple):
    user: ReadUser
    cell: DescribedCell
    position: tuple[float, float]  # metres east and north
    accuracy: float  # 1 sigma on each axis, metres

    @property
    def request(self) -> LocateRequest:
        return self.user.request

    @property
    def location(self) -> Location:
        version, frame = self.cell
        passed = [Fallback(method=method, cause=error.cause) for method, error in self.user.named_failures]
        provenance = CoarseProvenance(cell_version=version.version, fallbacks=passed)
        uncertainty = Uncertainty(max(self.accuracy, _LEAST_ACCURACY) ** 2 * np.eye(2), GAUSSIAN_SCALES)
        position = np.array(self.position)
        return Location(position, version.cell, frame, uncertainty, provenance, provenance.model_dump())


class CoarseRung:
    """Needs the cell's description alone."""

    method: Method = "coarse"

    def __init__(self, choice: ModelChoice) -> None:
        self._choice = choice

    def takes(self, user: ReadUser) -> bool:
        return user.request.coarse_position is not None and user.request.allow_fallback is not False

    async def locate(
        self, users: Sequence[ReadUser], request: Request, received: Received, lane: Lane
    ) -> list[Located | ServiceError]:
        cells = await self._choice.describe(deadlines_by_cell(users, received))
        return [*map_results(users, lambda user: _place(user, cells[user.request.cell_id]))]


def _place(user: ReadUser, cell: DescribedCell | ServiceError) -> CoarseUser:
    """Raises why there is no cell, `CsiShapeMismatch`, `CoarsePositionIncorrect` or `CoarsePositionOutsideCell`."""
    if isinstance(cell, ServiceError):
        raise cell
    check_shape(user.csi, cell.version.cell)
    coarse = user.request.coarse_position
    assert coarse is not None
    return CoarseUser(user, cell, _locate(coarse, cell.frame), coarse.h_accuracy)


def _locate(coarse: CoarsePosition, frame: LocalFrame) -> tuple[float, float]:
    position = locate_fix(coarse, frame)
    away = math.hypot(*position)
    if not away <= min(_FARTHEST + EXPLAINED_SIGMAS * coarse.h_accuracy, _MOST_EXPLAINED):
        raise errors.CoarsePositionOutsideCell(
            "/coarsePosition", f"lies {away / 1e3:.1f} km from the base station; are lat and lon swapped?"
        )
    return position
