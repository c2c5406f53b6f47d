"""Tells from a survey's geometry whether its CSI is laid out as it should be.

Users in line of sight have the bearing of the strongest path where their position says, and echoes come after the
direct path. A survey whose bearings fit only if the CSI is read in another order, or with the other sign of phase, was
written in that order. Without line of sight, or with users in one direction only, there is no verdict.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell import Cell
from reference_db.path_features import USER_HEIGHT, find_strongest_path

Order = Literal[
    "good",
    "unknown",
    "conjugated",
    "columns reversed",
    "subcarriers reversed",
    "transposed",
    "column by column",
    "turned",
    "echoes first",
    "echoes along antennas",
    "square",
]

# The measured surveys behind these numbers (`tests/reference_db/test_plausibility.py`): bearings fit in 0.74 to 1.00 of
# snapshots at 25 or more standard deviations above chance, in a wrong order at 4 at most. With the right sign of phase
# the balance of echoes is 0.5 to 0.9; a radio without a common clock and one antenna gives -0.1 to 0.
_GOOD_SCORE = 5.0
_CLEAR_SCORE, _CLEAR_SHARE = 8.0, 0.4
_CLEAR_BALANCE, _CLEAR_BALANCE_SCORE = 0.3, 8.0
_MAIN_LOBE = 4  # bins of the twofold oversampled delay spectrum, which a Hamming window leaves
_FEWEST_SUBCARRIERS = 8
_YAW_STEP_DEG = 5
_FITTING_SHARE = 0.6
_TURNED, _TURNED_SHARE = math.radians(40), 0.6


class Bearing(NamedTuple):
    """How well the bearings of snapshots' strongest paths fit their positions.

    `agreement` is the share of the `snapshots` whose bearing fits, `chance` the same share for the positions of others.
    """

    agreement: float
    chance: float
    snapshots: int


class OrderVerdict(NamedTuple):
    """`yaw` is the yaw in radians that bearings fit, for an array that is turned, else None.

    The last three are of CSI whose bearings tell nothing. "echoes first": it is conjugated, or its subcarriers are
    reversed. "echoes along antennas": it has as many antennas as subcarriers, and the antennas look like subcarriers.
    "square": it has as many, and nothing tells which is which.
    `bearing` is that of the CSI as it is laid out; None for an array of one column.
    """

    order: Order
    yaw: float | None = None
    bearing: Bearing | None = None


class _Fit(NamedTuple):
    """Bearings against positions: the share of snapshots that agree, and the standard deviations above chance."""

    share: float
    chance: float
    score: float

    @property
    def clear(self) -> bool:
        return self.share >= _CLEAR_SHARE and self.score >= _CLEAR_SCORE


def judge_order(csi: NDArray[np.complex64], positions: NDArray[np.float32], cell: Cell) -> OrderVerdict:
    """Judges a sample of a survey: CSI complex64 `[n, antennas, subcarriers]` and positions float32 `[n, 2]` in metres.

    The rows of both polarisations count alike. Raises `ValueError` for CSI that is not
    finite or all zero.
    """
    n, antennas, subcarriers = csi.shape
    rows, columns = cell.array.rows, cell.array.columns
    expected = _expected_turns(positions, cell, cell.yaw)
    sign = _delay_sign(csi) if subcarriers >= _FEWEST_SUBCARRIERS else 0
    if columns < 2:
        return OrderVerdict(_judge_echoes(csi, sign, 0.0))
    turns = _turns(csi, cell)
    stated = _fit(turns, expected, columns)
    bearing = Bearing(stated.share, stated.chance, n)
    if stated.score >= _GOOD_SCORE:
        return OrderVerdict("subcarriers reversed" if sign < 0 else "good", bearing=bearing)
    readings: list[tuple[Order, NDArray[np.float64]]] = [
        ("conjugated" if sign < 0 else "columns reversed", -turns),
    ]
    if subcarriers > 1:
        transposed = csi.reshape(n, subcarriers, antennas).swapaxes(1, 2)
        readings += [("transposed", turn) for turn in _both_signs(_turns(transposed, cell))]
    if rows > 1:
        by_column = csi.reshape(n, -1, columns, rows, subcarriers).swapaxes(2, 3).reshape(csi.shape)
        readings += [("column by column", turn) for turn in _both_signs(_turns(by_column, cell))]
    fits = [(_fit(turn, expected, columns), order) for order, turn in readings]
    best, order = max(fits, key=lambda fit: fit[0].score)
    if best.clear:
        return OrderVerdict(order, bearing=bearing)
    yaws = cell.yaw + np.radians(np.arange(_YAW_STEP_DEG, 360, _YAW_STEP_DEG))
    turned = [_fit(turns, _expected_turns(positions, cell, yaw), columns) for yaw in yaws]
    best = max(turned, key=lambda fit: fit.share)
    yaw = float(yaws[turned.index(best)])
    # A bearing that is off by less may be that of an image of the base station behind a wall.
    if best.clear and best.share >= _TURNED_SHARE and math.cos(yaw - cell.yaw) < math.cos(_TURNED):
        return OrderVerdict("turned", yaw, bearing)
    return OrderVerdict(_judge_echoes(csi, sign, stated.share), bearing=bearing)


def match_bearings(
    csi: NDArray[np.complex64], positions: NDArray[np.float32], cell: Cell
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which snapshots have their strongest path where their position says, and the delays of these paths: `[n]`.

    Delays are in cycles per subcarrier, of every snapshot. Takes what `judge_order` takes.
    """
    turns, delays = _strongest_paths(csi, cell)
    expected = _expected_turns(positions, cell, cell.yaw)
    return _apart(turns, expected) < _tolerance(cell.array.columns), delays


def _judge_echoes(csi: NDArray[np.complex64], sign: int, share: float) -> Order:
    """The verdict where bearings give none. `sign` is that of delays along the subcarriers, `share` that of bearings
    which fit, if only because all users are in one direction.
    """
    _, antennas, subcarriers = csi.shape
    if sign < 0:
        return "echoes first"
    if sign > 0 or share >= _FITTING_SHARE or antennas == 1 or antennas != subcarriers:
        return "unknown"
    exchanged = _delay_sign(np.ascontiguousarray(csi.swapaxes(1, 2))) if antennas >= _FEWEST_SUBCARRIERS else 0
    return "echoes along antennas" if exchanged else "square"


def _turns(csi: NDArray[np.complex64], cell: Cell) -> NDArray[np.float64]:
    """The phase step of each snapshot's strongest path from column to column in cycles: `[n]`."""
    return _strongest_paths(csi, cell)[0]


def _strongest_paths(csi: NDArray[np.complex64], cell: Cell) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The phase steps of each snapshot's strongest path in cycles, per column and per subcarrier: both `[n]`."""
    power = np.sqrt(np.mean(np.abs(csi) ** 2, axis=(1, 2), dtype=np.float64)).astype(np.float32)
    scaled = (csi / power[:, None, None]).reshape(len(csi), cell.array.lines, cell.array.columns, -1)
    return find_strongest_path(np.ascontiguousarray(scaled))


def _both_signs(turns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return turns, -turns


def _expected_turns(positions: NDArray[np.float32], cell: Cell, yaw: float) -> NDArray[np.float64]:
    """The phase step of a direct path from each position in cycles: `[n]`."""
    east, north = positions.T.astype(np.float64)
    distance = np.hypot(east, north)
    level = distance / np.maximum(np.hypot(distance, cell.height - USER_HEIGHT), 1e-9)
    turns: NDArray[np.float64] = cell.array.spacing * level * np.sin(np.arctan2(north, east) - yaw)
    return turns


def _fit(turns: NDArray[np.float64], expected: NDArray[np.float64], columns: int) -> _Fit:
    tolerance = _tolerance(columns)
    share = float((_apart(turns, expected) < tolerance).mean())
    chance = float((_apart(turns[:, None], expected) < tolerance).mean())  # of a snapshot with another's position
    deviation = math.sqrt(max(chance * (1 - chance), 1 / len(turns)) / len(turns))
    return _Fit(share, chance, (share - chance) / deviation)


def _tolerance(columns: int) -> float:
    """Cycles from column to column by which a fitting bearing may be off."""
    return max(0.02, 0.1 / columns)


def _apart(turns: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cycles between two phase steps, 0 to 1/2."""
    distance: NDArray[np.float64] = np.abs((turns - others + 0.5) % 1.0 - 0.5)
    return distance


def _delay_sign(csi: NDArray[np.complex64]) -> int:
    """1 if echoes come after the strongest path, -1 if they come before it, 0 if neither is clear."""
    n, _, subcarriers = csi.shape
    spectrum = np.fft.ifft(csi * np.hamming(subcarriers).astype(np.float32), 2 * subcarriers, axis=2)
    power = (spectrum.real**2 + spectrum.imag**2).sum(axis=1)
    power /= power.sum(axis=1, keepdims=True)
    bins = (power.argmax(axis=1)[:, None] + np.arange(2 * subcarriers)) % (2 * subcarriers)
    power = np.take_along_axis(power, bins, axis=1)
    after = power[:, _MAIN_LOBE:subcarriers].sum(axis=1)
    before = power[:, subcarriers + 1 : 2 * subcarriers - _MAIN_LOBE + 1].sum(axis=1)
    balance = (after - before) / np.maximum(after + before, 1e-12)
    score = balance.mean() / max(balance.std() / math.sqrt(n), 1e-3)
    clear = abs(balance.mean()) >= _CLEAR_BALANCE and abs(score) >= _CLEAR_BALANCE_SCORE
    return int(np.sign(balance.mean())) if clear else 0
