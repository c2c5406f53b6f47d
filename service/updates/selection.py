"""The fingerprints of a cell that an operator selects, and their ids."""

import numpy as np
from numpy.typing import NDArray

from fingerpost.wire_fingerprints import Selection
from reference_db.contents import Contents
from reference_db.geodesy import LocalFrame
from service.errors import FieldIncorrect
from service.updates.cell_wire import read_area


def select_fingerprints(selection: Selection, contents: Contents) -> NDArray[np.bool_]:
    """The fingerprints that meet all criteria: bool `[n]` in the order of `contents.ids`.

    Raises `FieldIncorrect`, also for a selection without a criterion.
    """
    criteria: list[NDArray[np.bool_]] = []
    if selection.ids is not None:
        criteria.append(np.isin(contents.ids, np.array([int(name, 16) for name in selection.ids], np.uint64)))
    if selection.area is not None:
        criteria.append(read_area(selection.area, "/area").holds(contents.positions))
    if selection.circle is not None:
        cell = contents.manifest.cell
        centre = LocalFrame(cell.latitude_deg, cell.longitude_deg).to_local(selection.circle.lat, selection.circle.lon)
        criteria.append(np.hypot(*(contents.positions - np.array(centre)).T) <= selection.circle.radius)
    if selection.measured_before is not None or selection.unknown_time:
        limit = 0.0 if selection.measured_before is None else selection.measured_before.timestamp()
        unknown = contents.times == 0
        criteria.append(np.where(unknown, selection.unknown_time, contents.times < limit))
    if not criteria:
        raise FieldIncorrect("", "none of ids, area, circle, measuredBefore and unknownTime is given")
    selected: NDArray[np.bool_] = np.logical_and.reduce(criteria)
    return selected


def format_ids(ids: NDArray[np.uint64]) -> list[str]:
    """Ids `[n]` as requests and answers carry them."""
    return [f"{number:016x}" for number in ids.tolist()]


def parse_id(name: str) -> np.uint64:
    """Raises `ValueError` or `OverflowError`."""
    return np.uint64(int(name, 16))
