"""Coordinates as requests carry them: lat and lon, or x and y."""

from typing import Protocol

from reference_db.geodesy import LocalFrame


class Place(Protocol):
    """Coordinates from the wire: lat and lon, or x and y."""

    @property
    def lat(self) -> float | None: ...
    @property
    def lon(self) -> float | None: ...
    @property
    def x(self) -> float | None: ...
    @property
    def y(self) -> float | None: ...


def to_local(place: Place, frame: LocalFrame) -> tuple[float, float] | None:
    """Metres east and north of the base station. None where `place` is neither lat and lon, nor x and y."""
    match place.lat, place.lon, place.x, place.y:
        case (float(lat), float(lon), None, None):
            return frame.to_local(lat, lon)
        case (None, None, float(x), float(y)):
            return x, y
        case _:
            return None
