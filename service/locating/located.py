"""A user at each step of `service.locating.locator`, and what the user is answered."""

from datetime import datetime
from typing import NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from fingerpost.wire import LocateRequest, LocateResponse, Provenance, TrackProvenance
from service.cells.calibration import CalibrationLevel
from service.cells.served_cell import ServedCell
from service.errors import ServiceError
from service.inference.estimator import RETRIEVAL, User
from service.locating.coarse_position import Fix
from service.locating.estimates import Estimates, estimates_of, fulfilment, whole_minutes
from service.locating.tracker import Followed
from service.web.problems import cause_of

_NO_FIX = Fix(np.nan, np.nan, np.nan)


class Draft(NamedTuple):
    """A request as read: its CSI float32 `[antennas, subcarriers, 2]`.

    `fallback`: why a user with a track has to be located without it.
    """

    request: LocateRequest
    csi: NDArray[np.float32]
    fallback: ServiceError | None = None


class Placed(NamedTuple):
    """A draft whose cell is known and whose coarse position, if it has one, is local metres."""

    draft: Draft
    served: ServedCell
    fix: Fix | None
    level: CalibrationLevel

    def as_user(self) -> User:
        fix = self.fix or _NO_FIX
        return User(self.served.version, self.draft.csi, np.array(fix[:2], np.float32), fix.accuracy)


class Located(NamedTuple):
    """A user and the local position `[2]` found, NaN where there is none."""

    placed: Placed
    position: NDArray[np.float32]


class Tracked(NamedTuple):
    """A user located together with the snapshots before this one."""

    draft: Draft
    followed: Followed


def described(received: datetime, found: Located | Tracked) -> LocateResponse:
    """The answer for a user found at a local position, with its calibrated circle."""
    if isinstance(found, Tracked):
        return _answer(found.draft.request, *found.followed, received)
    placed, position = found
    version, radius = placed.served.version, placed.level.radius
    estimates = estimates_of(position, version.cell, version.frame, radius, placed.served.calibration.confidence)
    return _answer(placed.draft.request, estimates, radius, _provenance(placed), received)


def _provenance(placed: Placed) -> Provenance:
    version, engine = placed.served.version, placed.served.engine
    return Provenance(
        artifact=engine.reference,
        cell_version=version.version,
        neighbours=engine.estimator.neighbours(len(version)),
        passes=engine.artifact.manifest.passes,
        retrieval=RETRIEVAL,
        coarse_position_used=placed.fix is not None,
        calibrated_h_accuracy=UNSET if placed.level.sigma is None else placed.level.sigma,
        fallback=UNSET if placed.draft.fallback is None else cause_of(placed.draft.fallback),
    )


def _answer(
    request: LocateRequest,
    estimates: Estimates,
    radius: float,
    provenance: Provenance | TrackProvenance,
    received: datetime,
) -> LocateResponse:
    measured = received if request.timestamp is UNSET else request.timestamp
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
