"""A local position as answers state it: on the globe and in the cell's frame, inside a circle."""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fingerpost import wire
from reference_db.cell import Cell
from reference_db.geodesy import LocalFrame
from service.errors import EstimateNotFinite

# Metres. No cell extends so far, and the conversion to WGS84 is meaningless beyond: the service treats it as NaN.
_FARTHEST = 1e6
_MOST_MINUTES = 32767


class Received(NamedTuple):
    """When a request arrived, by the wall clock and by `time.monotonic`."""

    at: datetime
    monotonic: float


class Estimates(NamedTuple):
    """One position in the two shapes of TS 29.572."""

    globe: wire.PointUncertaintyEllipse
    local: wire.Local2dPointUncertaintyEllipse


def estimates_of(
    position: NDArray[np.float32], cell: Cell, frame: LocalFrame, radius: float, confidence: float
) -> Estimates:
    """The estimate at `position` float32 `[2]`, metres, in a circle of `radius` metres that contains a share
    `confidence` of users.

    Raises `EstimateNotFinite`.
    """
    east, north = position.tolist()
    if not (abs(east) < _FARTHEST and abs(north) < _FARTHEST):  # also when NaN
        raise EstimateNotFinite("the model returned no usable coordinates")
    lat, lon = frame.to_wgs84(east, north)
    circle = _circle(radius)
    per_cent = round(100 * confidence)
    return Estimates(
        globe=wire.PointUncertaintyEllipse(
            point=wire.Point(lat=lat, lon=lon), uncertainty_ellipse=circle, confidence=per_cent
        ),
        local=wire.Local2dPointUncertaintyEllipse(
            local_origin=_origin(cell.cell_id, cell.latitude_deg, cell.longitude_deg),
            point=wire.LocalPoint(x=east, y=north),
            uncertainty_ellipse=circle,
            confidence=per_cent,
        ),
    )


# Each cell has one origin and few radii: to make the models anew takes a third of the time of an answer.
@lru_cache(4096)
def _origin(cell_id: str, lat: float, lon: float) -> wire.LocalOrigin:
    return wire.LocalOrigin(coordinate_id=cell_id, point=wire.Point(lat=lat, lon=lon))


@lru_cache(4096)
def _circle(radius: float) -> wire.UncertaintyEllipse:
    return wire.UncertaintyEllipse(semi_major=radius, semi_minor=radius, orientation_major=0)


def fulfilment(wanted: float | None, radius: float) -> wire.Fulfilment | None:
    """Whether the circle is as small as the client wanted. None: the client named no accuracy."""
    if wanted is None:
        return None
    return "REQUESTED_ACCURACY_FULFILLED" if radius <= wanted else "REQUESTED_ACCURACY_NOT_FULFILLED"


def whole_minutes(age: timedelta) -> int:
    return min(max(int(age.total_seconds() // 60), 0), _MOST_MINUTES)
