"""The coarse position of a request, in its cell's frame."""

import math
from typing import Final, Literal, NamedTuple

from fingerpost.wire import CoarsePosition
from fingerpost.wire_provenance import CoarsePositionIgnored
from reference_db.cell_version import CellVersion, Extent
from service import errors
from service.web.place import to_local

# An honest fix lies within so many standard errors, in practice.
SIGMAS_99 = 3.035  # 1-sigmas on each axis within which 99 % of a coarse position's errors lie
EXPLAINED_SIGMAS = 4.0
# Metres. No receiver errs so far: the cell is the wrong one, or latitude and longitude are swapped.
_NO_ERROR_M = 1000.0
_FARTHEST_KM = 20_000  # on Earth


class Fix(NamedTuple):
    """Metres east and north of the base station, and the 1-sigma error on each axis in metres."""

    east: float
    north: float
    accuracy: float


NO_FIX = Fix(math.nan, math.nan, math.nan)

OutsideCell = Literal["outside"]
OUTSIDE_CELL: Final[OutsideCell] = "outside"


def locate_coarsely(coarse: CoarsePosition, version: CellVersion, margin: float) -> Fix | OutsideCell:
    """A coarse position in its cell, or that it lies outside: farther from the rectangle around the cell's fingerprints
    than `margin` metres plus four times its own error.

    Raises `CoarsePositionIncorrect`, and `CoarsePositionOutsideCell` where it lies another kilometre farther out.
    """
    local = to_local(coarse, version.frame)
    if local is None:
        raise errors.CoarsePositionIncorrect("/coarsePosition", "must be either lat and lon, or x and y")
    east, north = local
    explained = margin + EXPLAINED_SIGMAS * coarse.h_accuracy
    if _is_within(explained, east, north, version.extent):
        return Fix(east, north, coarse.h_accuracy)
    if _is_within(explained + _NO_ERROR_M, east, north, version.extent):
        return OUTSIDE_CELL
    raise errors.CoarsePositionOutsideCell("/coarsePosition", _describe_distance(coarse, east, north, version))


def accuracy_used(fix: Fix | OutsideCell | None, used: bool) -> float | None:
    """The 1-sigma error, metres, of the coarse position that an estimate used; None if it used none."""
    return fix.accuracy if used and isinstance(fix, Fix) else None


def why_ignored(fix: Fix | OutsideCell | None, used: bool) -> CoarsePositionIgnored | None:
    """Why an estimate did not use the user's coarse position; None if it did, or if there is none."""
    if fix is None or used:
        return None
    return "COARSE_POSITION_OUTSIDE_CELL" if fix is OUTSIDE_CELL else "COARSE_POSITION_CONTRADICTED"


def _describe_distance(coarse: CoarsePosition, east: float, north: float, version: CellVersion) -> str:
    """How far outside it lies: the client's own place, and the extent of a cell is no secret."""
    distance = _distance_to(version.extent, east, north)
    far = f"lies {_format_km(distance / 1e3)} km from the area of the cell's fingerprints"
    lat, lon = coarse.lat, coarse.lon
    if lat is None or lon is None or abs(lon) > 90:
        return far
    swapped = version.frame.to_local(lon, lat)
    return f"{far}; are lat and lon swapped?" if _is_within(_NO_ERROR_M, *swapped, version.extent) else far


def _distance_to(extent: Extent, east: float, north: float) -> float:
    return math.hypot(
        max(extent.west - east, 0.0, east - extent.east), max(extent.south - north, 0.0, north - extent.north)
    )


def _format_km(distance: float) -> str:
    if distance < 100:
        return f"{distance:.1f}"
    return f"{distance:.0f}" if distance < _FARTHEST_KM else f"more than {_FARTHEST_KM}"


def _is_within(tolerance: float, east: float, north: float, extent: Extent) -> bool:
    return (
        extent.west - tolerance <= east <= extent.east + tolerance
        and extent.south - tolerance <= north <= extent.north + tolerance
    )
