"""The coarse position of a request, in its cell's frame."""

from typing import Final, Literal, NamedTuple

from fingerpost.wire import CoarsePosition
from reference_db.cell_version import CellVersion, Extent
from service import errors
from service.web.place import to_local

# An honest fix lies within so many standard errors, in practice.
_EXPLAINED_SIGMAS = 4.0
# Metres. No receiver errs so far: the cell is the wrong one, or latitude and longitude are swapped.
_NO_ERROR_M = 1000.0


class Fix(NamedTuple):
    """Metres east and north of the base station, and the 1-sigma error on each axis in metres."""

    east: float
    north: float
    accuracy: float


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
    explained = margin + _EXPLAINED_SIGMAS * coarse.h_accuracy
    if _is_within(explained, east, north, version.extent):
        return Fix(east, north, coarse.h_accuracy)
    if _is_within(explained + _NO_ERROR_M, east, north, version.extent):
        return OUTSIDE_CELL
    raise errors.CoarsePositionOutsideCell("/coarsePosition", "lies outside the cell")


def _is_within(tolerance: float, east: float, north: float, extent: Extent) -> bool:
    return (
        extent.west - tolerance <= east <= extent.east + tolerance
        and extent.south - tolerance <= north <= extent.north + tolerance
    )
