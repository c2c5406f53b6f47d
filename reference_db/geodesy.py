"""Between WGS84 and a cell's own metres."""

from typing import overload

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

_Array = NDArray[np.float64]


class LocalFrame:
    """East-north metres around a place on the WGS84 ellipsoid (azimuthal equidistant projection).

    Distance and direction from the origin are those of the geodesic. Needs no grids and no network, and may
    be shared by threads.
    """

    def __init__(self, latitude_deg: float, longitude_deg: float) -> None:
        self._transformer = Transformer.from_pipeline(
            "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad "
            f"+step +proj=aeqd +lat_0={latitude_deg!r} +lon_0={longitude_deg!r} +ellps=WGS84"
        )

    @overload
    def to_local(self, latitude_deg: float, longitude_deg: float) -> tuple[float, float]: ...
    @overload
    def to_local(self, latitude_deg: _Array, longitude_deg: _Array) -> tuple[_Array, _Array]: ...
    def to_local(
        self, latitude_deg: float | _Array, longitude_deg: float | _Array
    ) -> tuple[float | _Array, float | _Array]:
        """East and north in metres, floats for floats and float64 `[n]` for `[n]`.

        Raises `ValueError` for anything that is not a latitude within 90 and a longitude within 180 degrees.
        """
        if not (np.all(np.abs(latitude_deg) <= 90) and np.all(np.abs(longitude_deg) <= 180)):
            raise ValueError("latitude must lie within 90 and longitude within 180 degrees")
        east, north = self._transformer.transform(longitude_deg, latitude_deg)
        return east, north

    @overload
    def to_wgs84(self, east: float, north: float) -> tuple[float, float]: ...
    @overload
    def to_wgs84(self, east: _Array, north: _Array) -> tuple[_Array, _Array]: ...
    def to_wgs84(self, east: float | _Array, north: float | _Array) -> tuple[float | _Array, float | _Array]:
        """Latitude and longitude in degrees, the inverse of `to_local`.

        Raises `ValueError` for metres that are not finite.
        """
        if not (np.all(np.isfinite(east)) and np.all(np.isfinite(north))):
            raise ValueError("east and north must be finite")
        longitude_deg, latitude_deg = self._transformer.transform(east, north, direction="INVERSE")
        return latitude_deg, longitude_deg
