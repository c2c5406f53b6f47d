"""The coarse position of a request, in its cell's frame."""

from typing import NamedTuple

from fingerpost.wire import CoarsePosition
from reference_db.cell_version import CellVersion
from service import errors
from service.web.place import to_local


class Fix(NamedTuple):
    """Metres east and north of the base station, and the 1-sigma error on each axis in metres."""

    east: float
    north: float
    accuracy: float


def locate_coarsely(coarse: CoarsePosition, version: CellVersion, margin: float) -> Fix:
    """A coarse position in its cell.

    Raises `CoarsePositionIncorrect`, and `CoarsePositionOutsideCell` where the position lies farther than `margin`
    metres plus its own error from the rectangle around the cell's fingerprints.
    """
    local = to_local(coarse, version.frame)
    if local is None:
        raise errors.CoarsePositionIncorrect("/coarsePosition", "must be either lat and lon, or x and y")
    east, north = local
    tolerance, extent = margin + coarse.h_accuracy, version.extent
    if not (
        extent.west - tolerance <= east <= extent.east + tolerance
        and extent.south - tolerance <= north <= extent.north + tolerance
    ):
        raise errors.CoarsePositionOutsideCell("/coarsePosition", "lies outside the cell")
    return Fix(east, north, coarse.h_accuracy)
