"""A local position as answers state it: on the globe and in the cell's frame, inside a circle or an ellipse."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from fingerpost import wire
from reference_db.cell import Cell
from reference_db.geodesy import LocalFrame
from service.errors import EstimateNotFinite, TimestampImplausible

# Metres. No cell extends so far, and the conversion to WGS84 is meaningless beyond: the service treats it as NaN.
_FARTHEST = 1e6
_MOST_MINUTES = 32767
_LONGEST_S = 1e9  # of a maxRespTime; adding a huge integer to a float raises
# Clocks of sender and server may differ by so much.
_CLOCK_TOLERANCE = timedelta(minutes=1)
# Clocks that have never been set start in 1970, 1980 or 2000.
_EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)

Json = dict[str, Any]


class Received(NamedTuple):
    """When a request arrived, by the wall clock and by `time.monotonic`."""

    at: datetime
    monotonic: float


def declared_deadline(body: Any, received: Received) -> float:
    """The deadline of a parsed body that is not validated yet, a moment of `time.monotonic`; infinite without one."""
    limit = body.get("maxRespTime") if isinstance(body, dict) else None
    return received.monotonic + min(limit, _LONGEST_S) if isinstance(limit, int | float) and limit > 0 else math.inf


class Estimates(NamedTuple):
    """One position in the two shapes of TS 29.572, as `PointUncertaintyEllipse` and `Local2dPointUncertaintyEllipse`
    name their fields on the wire. Dicts: to make the models takes longer than to convert the position.
    """

    globe: Json
    local: Json


class Ellipse(NamedTuple):
    """Half axes in metres, and the direction of the major one in whole degrees clockwise from north, 0 to 179."""

    semi_major: float
    semi_minor: float
    orientation_deg: int

    @classmethod
    def circle(cls, radius: float) -> Self:
        return cls(radius, radius, 0)


def ellipse_of(covariance: NDArray[np.float64], scale: float) -> Ellipse:
    """Where the Mahalanobis distance is at most `scale`. `covariance` `[2, 2]` in square metres, east and north."""
    variances, axes = np.linalg.eigh(covariance)
    east, north = axes[:, 1].tolist()
    minor, major = (scale * np.sqrt(variances)).tolist()
    return Ellipse(major, minor, round(math.degrees(math.atan2(east, north))) % 180)


def estimates_of(
    position: NDArray[np.floating], cell: Cell, frame: LocalFrame, around: float | Ellipse, confidence: float
) -> Estimates:
    """The estimate at `position` `[2]`, metres, that contains a share `confidence` of users: in an ellipse, or in a
    circle of so many metres.

    Raises `EstimateNotFinite`.
    """
    east, north = position.tolist()
    if not (abs(east) < _FARTHEST and abs(north) < _FARTHEST):  # also when NaN
        raise EstimateNotFinite("the model returned no usable coordinates")
    lat, lon = frame.to_wgs84(east, north)
    major, minor, orientation = around if isinstance(around, Ellipse) else (around, around, 0)
    ellipse = {"semiMajor": major, "semiMinor": minor, "orientationMajor": orientation}
    per_cent = round(100 * confidence)
    return Estimates(
        globe={
            "shape": "POINT_UNCERTAINTY_ELLIPSE",
            "point": {"lat": lat, "lon": lon},
            "uncertaintyEllipse": ellipse,
            "confidence": per_cent,
        },
        local={
            "shape": "LOCAL_2D_POINT_UNCERTAINTY_ELLIPSE",
            "localOrigin": {
                "coordinateId": cell.cell_id,
                "point": {"lat": cell.latitude_deg, "lon": cell.longitude_deg},
            },
            "point": {"x": east, "y": north},
            "uncertaintyEllipse": ellipse,
            "confidence": per_cent,
        },
    )


def check_timestamp(timestamp: datetime | None, received: Received, param: str = "/timestamp") -> None:
    """Raises `TimestampImplausible` about `param` for a time in the future or before 2010."""
    if timestamp is None:
        return
    if timestamp > received.at + _CLOCK_TOLERANCE:
        seconds = (timestamp - received.at).total_seconds()
        raise TimestampImplausible(param, f"lies {seconds:.0f} s in the future; the service allows 60 s")
    if timestamp < _EARLIEST:
        raise TimestampImplausible(param, "lies before 2010; leave it out if the time is unknown")


def fulfilment(wanted: float | None, radius: float) -> wire.Fulfilment | None:
    """Whether the circle is as small as the client wanted. None: the client named no accuracy."""
    if wanted is None:
        return None
    return "REQUESTED_ACCURACY_FULFILLED" if radius <= wanted else "REQUESTED_ACCURACY_NOT_FULFILLED"


def whole_minutes(age: timedelta) -> int:
    return min(max(int(age.total_seconds() // 60), 0), _MOST_MINUTES)
