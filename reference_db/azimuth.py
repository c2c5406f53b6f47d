"""Compass azimuths, which people type and read, and directions, which the code computes with.

An azimuth is in degrees clockwise from north, a direction in radians counter-clockwise from east.
"""

import math
from collections.abc import Callable, Mapping

_DECIMALS = 9  # so that an azimuth that is read, sent back and read again is the same


def to_azimuth(direction: float) -> float:
    """The azimuth, at least 0 and below 360, of a direction."""
    azimuth = round((90 - math.degrees(direction)) % 360, _DECIMALS)
    return 0.0 if azimuth == 360 else azimuth  # the remainder of a tiny negative number is rounded up


def to_direction(azimuth_deg: float) -> float:
    """The direction, above -pi and at most pi, of an azimuth."""
    degrees = (90 - azimuth_deg) % 360
    return math.radians(degrees - 360 if degrees > 180 else degrees)


def _of_degrees_from_east(value: float) -> float:
    return to_azimuth(math.radians(value))


_FORMER: Mapping[str, tuple[str, str, Callable[[float], float]]] = {
    "yaw": ("radians counter-clockwise from east", "azimuthDeg", to_azimuth),
    "yawDeg": ("degrees counter-clockwise from east", "azimuthDeg", _of_degrees_from_east),
    "aodDeg": ("degrees counter-clockwise from east", "departureAzimuthDeg", _of_degrees_from_east),
    "aoaDeg": ("degrees counter-clockwise from east", "arrivalAzimuthDeg", _of_degrees_from_east),
}


def describe_former_angle(name: str, value: object) -> str | None:
    """What to write instead of a field of earlier versions, which did not count as a compass. None for other fields."""
    if name not in _FORMER:
        return None
    counted, azimuth, convert = _FORMER[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    instead = f'"{azimuth}": {round(convert(float(value)), 3):g}' if is_number else azimuth  # type: ignore[arg-type]
    return f"{name} ({counted}) is no field any more; write {instead} (compass, degrees clockwise from north)"
