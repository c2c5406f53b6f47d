"""A user at each step of locating, and the answer."""

from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fingerpost.wire import LocateRequest, LocateResponse, Provenance, TrackProvenance
from service.cells.calibration import CalibrationLevel
from service.cells.served_cell import ServedCell
from service.errors import ServiceError
from service.inference.estimator import RETRIEVAL, User
from service.locating.coarse_position import Fix
from service.locating.estimates import Estimates, estimates_of, fulfilment, whole_minutes
from service.locating.tracker import LocatedTrack

_NO_FIX = Fix(np.nan, np.nan, np.nan)


class ReadUser(NamedTuple):
    """A valid request, with its CSI float32 `[antennas, subcarriers, 2]`.

    `fallback`: why the track of this user could not be located, so that the snapshot is located by itself.
    """

    request: LocateRequest
    csi: NDArray[np.float32]
    fallback: ServiceError | None = None


class PlacedUser(NamedTuple):
    """A user whose cell is loaded and whose coarse position, if any, is in the cell's frame."""

    user: ReadUser
    served: ServedCell
    fix: Fix | None
    level: CalibrationLevel

    def for_estimator(self) -> User:
        fix = self.fix or _NO_FIX
        return User(self.served.version, self.user.csi, np.array(fix[:2], np.float32), fix.accuracy)


class LocatedUser(NamedTuple):
    """A user and the local position float32 `[2]`, NaN where the model returned none."""

    placed: PlacedUser
    position: NDArray[np.float32]


class TrackedUser(NamedTuple):
    """A user located together with earlier snapshots of the same track."""

    user: ReadUser
    track: LocatedTrack


def answer_user(received: datetime, located: LocatedUser | TrackedUser) -> LocateResponse:
    """The answer, with its calibrated circle. Raises `EstimateNotFinite`."""
    if isinstance(located, TrackedUser):
        return _answer(located.user.request, *located.track, received)
    placed, position = located
    version, radius = placed.served.version, placed.level.radius
    estimates = estimates_of(position, version.cell, version.frame, radius, placed.served.calibration.confidence)
    return _answer(placed.user.request, estimates, radius, _provenance(placed), received)


def _provenance(placed: PlacedUser) -> Provenance:
    version, engine = placed.served.version, placed.served.engine
    return Provenance(
        artifact=engine.reference,
        cell_version=version.version,
        neighbours=engine.estimator.neighbours(len(version)),
        passes=engine.artifact.manifest.passes,
        retrieval=RETRIEVAL,
        coarse_position_used=placed.fix is not None,
        calibrated_h_accuracy=placed.level.sigma,
        fallback=None if placed.user.fallback is None else placed.user.fallback.cause,
    )


def _answer(
    request: LocateRequest,
    estimates: Estimates,
    radius: float,
    provenance: Provenance | TrackProvenance,
    received: datetime,
) -> LocateResponse:
    measured = request.timestamp or received
    return LocateResponse(
        request_id=request.request_id,
        location_estimate=estimates.globe,
        local_location_estimate=estimates.local,
        h_accuracy=radius,
        accuracy_fulfilment_indicator=fulfilment(request.h_accuracy, radius),
        age_of_location_estimate=whole_minutes(received - measured),
        timestamp_of_location_estimate=measured,
        provenance=provenance,
    )
