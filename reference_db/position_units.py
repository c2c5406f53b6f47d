"""Tells from a survey's delays in which unit its positions are.

In line of sight a path takes longer by as much as a user is farther away. This holds in one unit only. Bearings are the
same in every unit.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.element_order import match_bearings
from reference_db.path_features import SPEED_OF_LIGHT, USER_HEIGHT

PositionUnit = Literal["m", "ft", "cm", "mm"]

# `None`: delays that do not depend on the distance, as after delay compensation.
_METRES: dict[PositionUnit | None, float] = {"m": 1.0, "ft": 0.3048, "cm": 1e-2, "mm": 1e-3, None: 0.0}
_FEWEST = 32  # snapshots in line of sight
# How many times smaller the squared residuals of the right unit are than those of any other. In a street of 70 m it
# is 4 to 8 with sampling-time offsets of 20 ns (1 sigma), 30 or more with synchronised radios, and 1 without a common
# clock.
_JUDGED, _CLEAR = 2.0, 4.0
_SMALLEST_RESIDUAL, _LARGEST_RESIDUAL = 1e-4, 1.0  # squared radians; a smaller one is rounding, a larger one chance


class UnitsVerdict(NamedTuple):
    """`unit` is None where the delays tell none. `clear`: the other units fit far worse."""

    unit: PositionUnit | None
    clear: bool = False


def judge_units(csi: NDArray[np.complex64], positions: NDArray[np.float32], cell: Cell) -> UnitsVerdict:
    """Judges a sample of a survey: CSI complex64 `[n, antennas, subcarriers]`, positions float32 `[n, 2]` in any unit.

    Uses the snapshots whose bearing fits their position. The unit is that in which delays fit distances except for one
    constant, such as a cable; delays are known modulo `subcarriers / bandwidth`.
    """
    fits, delays = match_bearings(csi, positions, cell)
    if fits.sum() < _FEWEST:
        return UnitsVerdict(None)
    ground = np.hypot(*positions[fits].T.astype(np.float64))
    longest = SPEED_OF_LIGHT * cell.subcarriers / cell.bandwidth
    residuals = {
        unit: _residual(delays[fits] - factor * np.hypot(ground, (cell.height - USER_HEIGHT) / (factor or 1)) / longest)
        for unit, factor in _METRES.items()
    }
    best, second = sorted(residuals, key=lambda unit: residuals[unit])[:2]
    ratio = residuals[second] / residuals[best]
    if best is None or ratio < _JUDGED or residuals[best] > _LARGEST_RESIDUAL:
        return UnitsVerdict(None)
    return UnitsVerdict(best, ratio >= _CLEAR)


def _residual(cycles: NDArray[np.float64]) -> float:
    """The variance of angles around their mean direction, squared radians, as of a wrapped normal distribution."""
    coherence = abs(np.exp(2j * np.pi * cycles).mean())
    return max(-2 * float(np.log(max(coherence, 1e-9))), _SMALLEST_RESIDUAL)
