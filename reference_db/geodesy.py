"""Converts between WGS84 and the local metres of a cell."""

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pyproj import Geod

_Array = NDArray[np.float64]

_STEP_M = 1.0  # geodesics are right to some nanometres


@cache
def _wgs84() -> "Geod":
    from pyproj import Geod  # comes with the server only: files in local metres are read without it

    return Geod(ellps="WGS84")


class FramePlace(NamedTuple):
    """Where the origin of one frame lies in another, metres east and north, and how its axes are turned there.

    `turn` is in radians counter-clockwise: a direction at angle `a` from east in the one frame is at `a + turn` in the
    other.
    """

    east: float
    north: float
    turn: float


class LocalFrame:
    """East-north metres around an origin on the WGS84 ellipsoid (azimuthal equidistant projection).

    Distance and direction from the origin are those of the geodesic. Needs no grid files and no internet access.
    Threads may share a frame.
    """

    def __init__(self, latitude_deg: float, longitude_deg: float) -> None:
        self._latitude_deg = latitude_deg
        self._longitude_deg = longitude_deg

    @overload
    def to_local(self, latitude_deg: float, longitude_deg: float) -> tuple[float, float]: ...
    @overload
    def to_local(self, latitude_deg: _Array, longitude_deg: _Array) -> tuple[_Array, _Array]: ...
    def to_local(
        self, latitude_deg: float | _Array, longitude_deg: float | _Array
    ) -> tuple[float | _Array, float | _Array]:
        """East and north in metres: floats for floats, float64 `[n]` for `[n]`.

        Raises `ValueError` unless the latitude is within 90 degrees and the longitude within 180 degrees.
        """
        if isinstance(latitude_deg, np.ndarray) and isinstance(longitude_deg, np.ndarray):
            places = zip(latitude_deg.tolist(), longitude_deg.tolist(), strict=True)
            return _columns([self._local(*place) for place in places])
        return self._local(float(latitude_deg), float(longitude_deg))

    @overload
    def to_wgs84(self, east: float, north: float) -> tuple[float, float]: ...
    @overload
    def to_wgs84(self, east: _Array, north: _Array) -> tuple[_Array, _Array]: ...
    def to_wgs84(self, east: float | _Array, north: float | _Array) -> tuple[float | _Array, float | _Array]:
        """Latitude and longitude in degrees: the inverse of `to_local`.

        Raises `ValueError` for metres that are not finite.
        """
        if isinstance(east, np.ndarray) and isinstance(north, np.ndarray):
            places = zip(east.tolist(), north.tolist(), strict=True)
            return _columns([self._wgs84(*place) for place in places])
        return self._wgs84(float(east), float(north))

    def place(self, other: "LocalFrame") -> FramePlace:
        """Where another frame lies in this one.

        Its north is not this frame's north: meridians converge, by 0.5 mrad for frames 3.3 km east and west of each
        other at 44 degrees of latitude. Up to 20 km apart, turned and moved points within 1 km of the other origin are
        right to 3 mm.
        """
        east, north = self._local(other._latitude_deg, other._longitude_deg)
        eastward = self._local(*other._wgs84(_STEP_M, 0.0))
        return FramePlace(east, north, math.atan2(eastward[1] - north, eastward[0] - east))

    # One geodesic at a time: pyproj is no faster on arrays, and its `Transformer` takes ten times as long.

    def _local(self, latitude_deg: float, longitude_deg: float) -> tuple[float, float]:
        if not (abs(latitude_deg) <= 90 and abs(longitude_deg) <= 180):
            raise ValueError("latitude must be within 90 and longitude within 180 degrees")
        azimuth_deg, _, distance = _wgs84().inv(self._longitude_deg, self._latitude_deg, longitude_deg, latitude_deg)
        azimuth = math.radians(azimuth_deg)
        return distance * math.sin(azimuth), distance * math.cos(azimuth)

    def _wgs84(self, east: float, north: float) -> tuple[float, float]:
        if not (math.isfinite(east) and math.isfinite(north)):
            raise ValueError("east and north must be finite")
        azimuth_deg, distance = math.degrees(math.atan2(east, north)), math.hypot(east, north)
        longitude_deg, latitude_deg, _ = _wgs84().fwd(self._longitude_deg, self._latitude_deg, azimuth_deg, distance)
        return latitude_deg, longitude_deg


def _columns(rows: list[tuple[float, float]]) -> tuple[_Array, _Array]:
    columns = np.ascontiguousarray(np.array(rows, np.float64).reshape(-1, 2).T)
    return columns[0], columns[1]
