"""A local position as answers state it: on the globe and in the cell's frame, inside a circle."""

from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from fingerpost import wire as schema
from reference_db.cell import Cell
from reference_db.geodesy import LocalFrame
from service.errors import EstimateNotFinite

# No cell reaches so far, and beyond it WGS84 loses its meaning: such an answer is as good as NaN.
_FARTHEST = 1e6
_MOST_MINUTES = 32767


class Received(NamedTuple):
    """When a request came, by the wall's clock and by `time.monotonic`."""

    at: datetime
    monotonic: float


class Estimates(NamedTuple):
    """One position in both shapes of TS 29.572."""

    globe: schema.PointUncertaintyEllipse
    local: schema.Local2dPointUncertaintyEllipse


def estimates_of(
    position: NDArray[np.float32], cell: Cell, frame: LocalFrame, radius: float, confidence: float
) -> Estimates:
    """`position` `[2]` metres, `radius` metres of the circle that a share `confidence` of users is in.

    Raises `EstimateNotFinite`.
    """
    east, north = position.tolist()
    if not (abs(east) < _FARTHEST and abs(north) < _FARTHEST):  # also when NaN
        raise EstimateNotFinite("the network gave no usable coordinates")
    lat, lon = frame.to_wgs84(east, north)
    circle = schema.UncertaintyEllipse(semi_major=radius, semi_minor=radius, orientation_major=0)
    per_cent = round(100 * confidence)
    return Estimates(
        globe=schema.PointUncertaintyEllipse(
            point=schema.Point(lat=lat, lon=lon), uncertainty_ellipse=circle, confidence=per_cent
        ),
        local=schema.Local2dPointUncertaintyEllipse(
            local_origin=schema.LocalOrigin(
                coordinate_id=cell.cell_id,
                point=schema.Point(lat=cell.latitude_deg, lon=cell.longitude_deg),
            ),
            point=schema.LocalPoint(x=east, y=north),
            uncertainty_ellipse=circle,
            confidence=per_cent,
        ),
    )


def fulfilment(wanted: float | UnsetType, radius: float) -> schema.Fulfilment | UnsetType:
    """Whether a circle is as small as somebody wanted, if anybody did."""
    if wanted is UNSET:
        return UNSET
    return "REQUESTED_ACCURACY_FULFILLED" if radius <= wanted else "REQUESTED_ACCURACY_NOT_FULFILLED"


def whole_minutes(age: timedelta) -> int:
    return min(max(int(age.total_seconds() // 60), 0), _MOST_MINUTES)
