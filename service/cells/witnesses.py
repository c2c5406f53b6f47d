"""Which fingerprints of a version are one witness, and a sample of them to calibrate on."""

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from reference_db.retrieval import LeftOut
from service.cells.residuals import stretches
from service.inference.belonging import Belonging, measure_belonging

_Rows = NDArray[np.int64]

_JUDGED = 1500  # fingerprints that say how strange honest users are: p-values below 1 % need many

_remembered: WeakKeyDictionary[CellVersion, _Rows] = WeakKeyDictionary()


def witnesses_of(version: CellVersion) -> _Rows:
    """The number of each fingerprint's witness, `[n]`; see `stretches`. Remembered as long as the version lives."""
    found = _remembered.get(version)
    if found is None:
        found = _remembered[version] = stretches(version.positions, version.contents.times)
    return found


def leave_out(version: CellVersion, rows: _Rows, fewest: int) -> LeftOut:
    """What the fingerprints `rows` `[b]` ignore when they are located as users: their own witnesses.

    Where that leaves fewer than `fewest` to compare them with, each ignores itself only.
    """
    witnesses = witnesses_of(version)
    left_out = LeftOut(witnesses, witnesses[rows])
    return left_out if len(version) - left_out.most >= fewest else LeftOut.alone(rows, len(version))


def draw_first_of_each(witnesses: _Rows, most: int, rng: np.random.Generator) -> _Rows:
    """A random fingerprint of each of at most so many witnesses: rows, ascending."""
    shuffled = rng.permutation(len(witnesses))
    _, first = np.unique(witnesses[shuffled], return_index=True)
    rows: _Rows = np.sort(rng.permutation(shuffled[first])[:most])
    return rows


def draw_fingerprints(version: CellVersion, most: int, rng: np.random.Generator) -> _Rows:
    """At most so many random fingerprints, ascending: one of each witness, then more of them."""
    rows = draw_first_of_each(witnesses_of(version), most, rng)
    others = np.setdiff1d(np.arange(len(version)), rows)
    more = rng.permutation(others)[: max(0, min(most, len(version)) - len(rows))]
    chosen: _Rows = np.sort(np.concatenate([rows, more]))
    return chosen


def measure_own_users(version: CellVersion, fewest: int, rng: np.random.Generator) -> Belonging:
    """How strange the cell's own users are, measured on up to 1,500 of its fingerprints. Blocking: seconds.

    `fewest` as in `leave_out`.
    """
    rows = draw_fingerprints(version, _JUDGED, rng)
    return measure_belonging(version, leave_out(version, rows, fewest), rows)
