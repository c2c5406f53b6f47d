"""Coarse positions from the wire."""

from typing import NamedTuple

from msgspec import UnsetType

from fingerpost.wire import CoarsePosition
from reference_db.cell_version import CellVersion
from service import errors


class Fix(NamedTuple):
    """Metres east and north of the base station, and the 1-sigma error on each axis in metres."""

    east: float
    north: float
    accuracy: float


def decode_coarse_position(coarse: CoarsePosition, version: CellVersion, margin: float) -> Fix:
    """A coarse position in its cell.

    Raises `CoarsePositionIncorrect`, and `CoarsePositionOutsideCell` where it lies farther than `margin` metres plus
    its own error from the rectangle around the cell's fingerprints.
    """
    east, north = _local(coarse, version)
    reach, extent = margin + coarse.h_accuracy, version.extent
    if not (
        extent.west - reach <= east <= extent.east + reach and extent.south - reach <= north <= extent.north + reach
    ):
        raise errors.CoarsePositionOutsideCell("/coarsePosition", "lies outside the cell")
    return Fix(east, north, coarse.h_accuracy)


def _local(coarse: CoarsePosition, version: CellVersion) -> tuple[float, float]:
    match coarse:
        case CoarsePosition(lat=float(lat), lon=float(lon), x=UnsetType(), y=UnsetType()):
            return version.frame.to_local(lat, lon)
        case CoarsePosition(lat=UnsetType(), lon=UnsetType(), x=float(x), y=float(y)):
            return x, y
        case _:
            raise errors.CoarsePositionIncorrect("/coarsePosition", "must be either lat and lon, or x and y")
